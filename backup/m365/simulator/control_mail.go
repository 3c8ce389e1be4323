package simulator

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors of the mail controls.
var (
	errNoMailbox = errors.New("no such mailbox")
	errNoFolder  = errors.New("no such folder")
	errNoMessage = errors.New("no such message")
)

// change runs f on a user's mailbox and saves. tenant is an id or domain, user
// an id or user principal name.
func (s *Simulator) change(tenant, upn string, f func(u *user) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.changeLocked(tenant, upn, f); err != nil {
		return err
	}
	return s.save()
}

func (s *Simulator) changeLocked(tenant, name string, f func(u *user) error) error {
	t := s.tenantOf(tenant)
	if t == nil {
		return fmt.Errorf("no tenant %q", tenant)
	}
	u := t.anyUser(name)
	if u == nil || u.Mailbox == nil {
		return fmt.Errorf("%s: %w", name, errNoMailbox)
	}
	if err := f(u); err != nil {
		return err
	}
	u.Mailbox.forgetRemovals()
	s.changed()
	return nil
}

// inFolder finds a folder by id, well-known or display name.
func (m *mailbox) inFolder(name string) (*mailFolder, error) {
	if f := m.folder(name); f != nil {
		return f, nil
	}
	for _, f := range m.Folders {
		if f.Name == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%q: %w", name, errNoFolder)
}

// Deliver puts a message into a folder, found by id, well-known or display
// name, and returns its immutable id.
func (s *Simulator) Deliver(tenant, upn, folder string, raw []byte) (id string, err error) {
	err = s.change(tenant, upn, func(u *user) error {
		id, err = s.deliver(u, folder, source{Raw: raw, Size: int64(len(raw))})
		return err
	})
	return id, err
}

func (s *Simulator) deliver(u *user, folder string, src source) (string, error) {
	f, err := u.Mailbox.inFolder(folder)
	if err != nil {
		return "", err
	}
	msg := &message{Body: src, Folder: f.ID, Received: s.now().Truncate(time.Second), Flag: "notFlagged", Weight: "normal", Draft: f.WellKnown == "drafts"}
	if err := s.put(u, msg); err != nil {
		return "", err
	}
	return msg.ID, nil
}

// Move puts a message into another folder.
func (s *Simulator) Move(tenant, upn, id, folder string) error {
	return s.change(tenant, upn, func(u *user) error { return s.move(u, id, folder) })
}

func (s *Simulator) move(u *user, id, folder string) error {
	msg := u.Mailbox.message(id)
	if msg == nil {
		return errNoMessage
	}
	f, err := u.Mailbox.inFolder(folder)
	if err == nil {
		u.Mailbox.move(u.ID, msg, f.ID, s.now())
	}
	return err
}

// Remove deletes a message for good.
func (s *Simulator) Remove(tenant, upn, id string) error {
	return s.change(tenant, upn, func(u *user) error { return u.Mailbox.removeByID(id) })
}

func (m *mailbox) removeByID(id string) error {
	msg := m.message(id)
	if msg == nil {
		return errNoMessage
	}
	m.remove(msg)
	return nil
}

// Marks are the states of a message that can be changed; nil leaves one as it is.
type Marks struct {
	Read       *bool    `json:"read,omitempty"`
	Flagged    *bool    `json:"flagged,omitempty"`
	Categories []string `json:"categories,omitempty"`
	Importance *string  `json:"importance,omitempty"`
	// Damage is the error code, like ErrorCorruptData, that reading the message
	// answers with; "" repairs it.
	Damage *string `json:"damage,omitempty"`
}

// Mark changes the states of a message.
func (s *Simulator) Mark(tenant, upn, id string, marks Marks) error {
	return s.change(tenant, upn, func(u *user) error { return s.mark(u, id, marks) })
}

func (s *Simulator) mark(u *user, id string, marks Marks) error {
	m := u.Mailbox
	msg := m.message(id)
	if msg == nil {
		return errNoMessage
	}
	set(&msg.Damage, marks.Damage)
	set(&msg.Read, marks.Read)
	set(&msg.Weight, marks.Importance)
	if marks.Flagged != nil {
		msg.Flag = "notFlagged"
		if *marks.Flagged {
			msg.Flag = "flagged"
		}
	}
	if marks.Categories != nil {
		msg.Category = marks.Categories
	}
	readOnly := marks.Read != nil && marks.Flagged == nil && marks.Categories == nil && marks.Importance == nil
	switch {
	case readOnly && s.tenantOfUser(u).Settings.QuietReads:
		seq, modified := msg.Seq, msg.Modified
		m.touch(msg, s.now())
		msg.ReadSeq, msg.Seq, msg.Modified = msg.Seq, seq, modified
	case marks.Damage == nil || readOnly || marks.Flagged != nil || marks.Categories != nil || marks.Importance != nil:
		m.touch(msg, s.now())
	}
	return nil
}

// tenantOfUser is the tenant that a user is of.
func (s *Simulator) tenantOfUser(u *user) *tenant {
	for _, t := range s.state.Tenants {
		if t.userByID(u.ID) == u {
			return t
		}
	}
	return &tenant{}
}

// Replace gives a message other bytes, as saving a draft does.
func (s *Simulator) Replace(tenant, upn, id string, raw []byte) error {
	return s.change(tenant, upn, func(u *user) error {
		msg := u.Mailbox.message(id)
		if msg == nil {
			return errNoMessage
		}
		msg.Body = source{Raw: raw, Size: int64(len(raw))}
		if err := s.readHeader(msg); err != nil {
			return err
		}
		u.Mailbox.touch(msg, s.now())
		return nil
	})
}

// Empty deletes every message of a mailbox.
func (s *Simulator) Empty(tenant, upn string) error {
	return s.change(tenant, upn, func(u *user) error { u.Mailbox.empty(); return nil })
}

// ExpireDelta makes every delta token of a mailbox unknown.
func (s *Simulator) ExpireDelta(tenant, upn string) error {
	return s.change(tenant, upn, func(u *user) error { u.Mailbox.Epoch++; return nil })
}

// CreateFolder makes a folder below another (by id, well-known or display
// name) and returns its id.
func (s *Simulator) CreateFolder(tenant, upn, parent, name string) (id string, err error) {
	err = s.change(tenant, upn, func(u *user) error {
		p, err := u.Mailbox.inFolder(parent)
		if err != nil {
			return err
		}
		id = u.Mailbox.addFolder(u.ID, p.ID, name, "").ID
		return nil
	})
	return id, err
}

// RenameFolder gives a folder another name.
func (s *Simulator) RenameFolder(tenant, upn, folder, name string) error {
	return s.change(tenant, upn, func(u *user) error {
		f, err := u.Mailbox.inFolder(folder)
		if err != nil {
			return err
		}
		u.Mailbox.rename(f, name)
		return nil
	})
}

func (m *mailbox) rename(f *mailFolder, name string) { f.Name, f.Seq = name, m.change() }

// DeleteFolder deletes a folder with all that is in it.
func (s *Simulator) DeleteFolder(tenant, upn, folder string) error {
	return s.change(tenant, upn, func(u *user) error {
		f, err := u.Mailbox.inFolder(folder)
		if err != nil {
			return err
		}
		return u.Mailbox.discard(f)
	})
}

// discard deletes a folder, but none that every mailbox has.
func (m *mailbox) discard(f *mailFolder) error {
	if f.WellKnown != "" {
		return fmt.Errorf("%s is a folder that every mailbox has", f.Name)
	}
	m.removeFolder(f)
	return nil
}

// Generated says what messages to make up.
type Generated struct {
	Folder      string `json:"folder,omitempty"` // inbox if empty
	Count       int    `json:"count"`
	Text        int64  `json:"text,omitempty"`        // bytes of text of each; 4,000 if 0
	Attachment  int64  `json:"attachment,omitempty"`  // bytes of an attachment, before base64
	AttachEvery int    `json:"attachEvery,omitempty"` // every so many messages have it; 1 if 0
	Shared      bool   `json:"shared,omitempty"`      // all have the same attachment
	Letters     bool   `json:"letters,omitempty"`     // like the mail of an office: Text and Attachment are medians, and 15 of 100 have one
}

// Generate fills a folder with made-up messages. A mailbox that nobody had is made.
func (s *Simulator) Generate(tenant, upn string, g Generated) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.generate(tenant, upn, g); err != nil {
		return err
	}
	return s.save()
}

func (s *Simulator) generate(tenant, name string, g Generated) error {
	if t := s.tenantOf(tenant); t != nil {
		if u := t.anyUser(name); u != nil && u.Mailbox == nil {
			u.Mailbox = newMailbox(u.ID)
		}
	}
	return s.changeLocked(tenant, name, func(u *user) error {
		text := g.Text
		if text == 0 {
			text = 4000
		}
		for i := range g.Count {
			r := recipe{Number: u.Mailbox.Next + 1, From: "Sender <sender@supplier.example>", To: u.UPN, Subject: fmt.Sprintf("Generated message %d", i+1), Date: s.now().Format(time.RFC1123Z), Text: text}
			if g.Letters {
				r = letterOf(r, g)
			} else if g.Attachment > 0 && (g.AttachEvery <= 1 || i%g.AttachEvery == 0) {
				r.File, r.FileSize, r.FileNumber = "attachment.bin", g.Attachment, r.Number
				if g.Shared {
					r.FileNumber = 1
				}
			}
			if _, err := s.deliver(u, firstOf(g.Folder, "inbox"), made(r)); err != nil {
				return err
			}
		}
		return nil
	})
}

// StoredMessage is a message as the control paths describe it.
type StoredMessage struct {
	ID      string `json:"id"` // the immutable one
	Folder  string `json:"folder"`
	Name    string `json:"folderName"`
	Subject string `json:"subject"`
	Size    int64  `json:"size"`
	Read    bool   `json:"read"`
	File    string `json:"file,omitempty"` // of the test mail
}

// Messages lists a mailbox.
func (s *Simulator) Messages(tenant, upn string) ([]StoredMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []StoredMessage
	err := s.changeLocked(tenant, upn, func(u *user) error { list = stored(u.Mailbox); return nil })
	return list, err
}

func stored(m *mailbox) []StoredMessage {
	list := make([]StoredMessage, len(m.Messages))
	for i, msg := range m.Messages {
		list[i] = StoredMessage{ID: msg.ID, Folder: msg.Folder, Name: m.folder(msg.Folder).Name, Subject: msg.Subject, Size: msg.Body.Size, Read: msg.Read, File: msg.Body.File}
	}
	return list
}

// RawMessage returns the bytes of a message.
func (s *Simulator) RawMessage(tenant, upn, id string) ([]byte, error) {
	var src source
	s.mu.Lock()
	err := s.changeLocked(tenant, upn, func(u *user) error {
		msg := u.Mailbox.message(id)
		if msg == nil {
			return errNoMessage
		}
		src = msg.Body
		return nil
	})
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	r, err := src.open(s.options.Mail)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
