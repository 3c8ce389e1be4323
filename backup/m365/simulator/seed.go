package simulator

import (
	"bufio"
	"bytes"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-message/charset"
)

//go:embed testdata/mail
var sampleMail embed.FS

// SampleMail is the public test mail that the default world is seeded from:
// messages in folders, with a manifest.
func SampleMail() fs.FS {
	files, err := fs.Sub(sampleMail, "testdata/mail")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	return files
}

// mailFiles lists the messages of Options.Mail in order, as its manifest does.
func mailFiles(mail fs.FS) ([]string, error) {
	if mail == nil {
		return nil, nil
	}
	f, err := mail.Open("manifest.tsv")
	if err != nil {
		return nil, fmt.Errorf("manifest of the mail: %w", err)
	}
	defer f.Close()
	var files []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) > 2 && fields[1] == "eml" {
			files = append(files, fields[0])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("manifest of the mail: %w", err)
	}
	return files, nil
}

// standardFolders are those that every mailbox has, below msgfolderroot.
var standardFolders = []struct{ name, wellKnown string }{
	{"Inbox", "inbox"}, {"Drafts", "drafts"}, {"Sent Items", "sentitems"}, {"Deleted Items", "deleteditems"},
	{"Junk Email", "junkemail"}, {"Archive", "archive"}, {"Outbox", "outbox"}, {"Conversation History", "conversationhistory"},
}

// newMailbox makes an empty mailbox with the standard folders.
func newMailbox(user string) *mailbox {
	m := &mailbox{Folders: []*mailFolder{}, Messages: []*message{}}
	root := m.addFolder(user, "", "Top of Information Store", "msgfolderroot")
	for _, f := range standardFolders {
		m.addFolder(user, root.ID, f.name, f.wellKnown)
	}
	search := m.addFolder(user, "", "Finder", "searchfolders")
	m.addFolder(user, search.ID, "Unread mail", "").Search = true
	sync := m.addFolder(user, root.ID, "Sync Issues", "syncissues")
	sync.Hidden = true
	for _, f := range []struct{ name, wellKnown string }{{"Conflicts", "conflicts"}, {"Local Failures", "localfailures"}, {"Server Failures", "serverfailures"}} {
		m.addFolder(user, sync.ID, f.name, f.wellKnown).Hidden = true
	}
	m.index()
	return m
}

// oddFolders are nested, with names that programs get wrong.
func oddFolders(m *mailbox, user string) []*mailFolder {
	inbox, root := m.folder("inbox"), m.folder("msgfolderroot")
	patients := m.addFolder(user, root.ID, "🦷 Patients", "")
	projects := m.addFolder(user, root.ID, "Projects/2026", "")
	hidden := m.addFolder(user, root.ID, "Hidden by a program", "")
	hidden.Hidden = true
	deep := projects
	list := []*mailFolder{patients, projects}
	for i := range 5 {
		deep = m.addFolder(user, deep.ID, fmt.Sprintf("Level %d", i+1), "")
		list = append(list, deep)
	}
	return append(list,
		m.addFolder(user, inbox.ID, "invoices", ""),
		m.addFolder(user, inbox.ID, "Invoices", ""),
		m.addFolder(user, inbox.ID, "Trailing blank ", ""),
		m.addFolder(user, patients.ID, "Größe & Ärzte", ""),
		m.addFolder(user, root.ID, "תיקייה", ""),
		m.addFolder(user, root.ID, "../up and <b>bold</b>", ""),
		m.addFolder(user, root.ID, strings.Repeat("A name of two hundred characters. ", 6)[:200], ""),
		hidden,
	)
}

// seedMailbox makes the mailbox of a new user from the world file.
func (s *Simulator) seedMailbox(_ *tenant, u *user, w *WorldMailbox) error {
	if w == nil {
		return nil
	}
	u.Mailbox = newMailbox(u.ID)
	if w.Messages == 0 {
		return nil
	}
	files, err := mailFiles(s.options.Mail)
	if err != nil || len(files) == 0 {
		return err
	}
	folders := []*mailFolder{u.Mailbox.folder("inbox"), u.Mailbox.folder("inbox"), u.Mailbox.folder("sentitems"), u.Mailbox.folder("archive"), u.Mailbox.folder("deleteditems"), u.Mailbox.folder("junkemail")}
	folders = append(folders, oddFolders(u.Mailbox, u.ID)...)
	for i := range w.Messages {
		name := files[(s.state.Dealt+i)%len(files)]
		size, err := fs.Stat(s.options.Mail, name)
		if err != nil {
			return fmt.Errorf("message %s: %w", name, err)
		}
		src := source{File: name, Size: size.Size()}
		msg := &message{Body: src, Folder: folders[i%len(folders)].ID, Read: i%3 != 0, Received: s.now().Add(-time.Duration(1+11*i+2*i*i) * time.Hour).Truncate(time.Second)}
		msg.Flag, msg.Weight = "notFlagged", "normal"
		switch {
		case i%17 == 4:
			msg.Flag = "flagged"
		case i%23 == 6:
			msg.Weight, msg.Category = "high", []string{"Red category"}
		case i%29 == 8:
			msg.Folder, msg.Draft = u.Mailbox.folder("drafts").ID, true
		}
		if err := s.put(u, msg); err != nil {
			return fmt.Errorf("message %s: %w", name, err)
		}
	}
	s.state.Dealt += w.Messages
	return s.seedPriceList(u)
}

// seedPriceList puts a message with the same attachment into every mailbox
// that has mail.
func (s *Simulator) seedPriceList(u *user) error {
	src := made(recipe{Number: 1, From: "Office <office@supplier.example>", To: u.Name + " <" + u.UPN + ">", Subject: "Price list 2026 for " + u.Name,
		Date: s.now().Add(-time.Hour).Format(time.RFC1123Z), Text: 600, File: "price-list-2026.pdf", FileSize: 300 << 10, FileNumber: 2026})
	return s.put(u, &message{Body: src, Folder: u.Mailbox.folder("inbox").ID, Received: s.now().Add(-time.Hour).Truncate(time.Second), Flag: "notFlagged", Weight: "normal"})
}

// put adds a message whose Body, Folder and states are set, reading the rest
// from its header.
func (s *Simulator) put(u *user, msg *message) error {
	m := u.Mailbox
	msg.Number = m.number()
	msg.ID = opaque("I", u.ID, msg.Number, 0)
	if err := s.readHeader(msg); err != nil {
		return err
	}
	if msg.Created.IsZero() {
		msg.Created = msg.Received
	}
	m.touch(msg, msg.Created)
	msg.BornSeq = msg.Seq
	msg.RestID = opaque("M", u.ID, msg.Number, msg.Seq)
	m.Messages = append(m.Messages, msg)
	m.byID[msg.ID], m.byID[msg.RestID] = msg, msg
	return nil
}

// readHeader fills what Exchange reads from a message. It understands what it
// can of a malformed one.
func (s *Simulator) readHeader(msg *message) error {
	r, err := msg.Body.open(s.options.Mail)
	if err != nil {
		return err
	}
	defer r.Close()
	head, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		return err
	}
	msg.Attached = bytes.Contains(bytes.ToLower(head), []byte("content-disposition: attachment"))
	fields := headerFields(head)
	words := mime.WordDecoder{CharsetReader: charset.Reader}
	decode := func(name string) string {
		text, err := words.DecodeHeader(fields[name])
		if err != nil {
			text = fields[name]
		}
		return strings.ToValidUTF8(strings.TrimSpace(text), "�")
	}
	msg.Subject, msg.MessageID = decode("subject"), decode("message-id")
	parser := mail.AddressParser{WordDecoder: &words}
	if list, err := parser.ParseList(fields["from"]); err == nil && len(list) > 0 {
		msg.From = address{strings.ToValidUTF8(list[0].Name, "\uFFFD"), strings.ToValidUTF8(list[0].Address, "\uFFFD")}
	} else {
		msg.From = address{Name: decode("from")}
	}
	for name, to := range map[string]*[]address{"to": &msg.To, "cc": &msg.Cc, "bcc": &msg.Bcc, "reply-to": &msg.ReplyTo} {
		*to = nil
		if list, err := parser.ParseList(fields[name]); err == nil {
			for _, a := range list {
				*to = append(*to, address{strings.ToValidUTF8(a.Name, "\uFFFD"), strings.ToValidUTF8(a.Address, "\uFFFD")})
			}
		}
	}
	msg.Sent = msg.Received
	if at, err := mail.ParseDate(fields["date"]); err == nil && at.Year() > 1970 && at.Year() < 2100 {
		msg.Sent = at.UTC()
	}
	return nil
}

// headerFields reads the first field of each name, unfolded.
func headerFields(head []byte) map[string]string {
	fields := map[string]string{}
	last := ""
	for line := range strings.SplitSeq(strings.ReplaceAll(string(head), "\r\n", "\n"), "\n") {
		if line == "" {
			break
		}
		if (line[0] == ' ' || line[0] == '\t') && last != "" {
			fields[last] += " " + strings.TrimSpace(line)
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		last = ""
		if key := strings.ToLower(strings.TrimSpace(name)); ok && fields[key] == "" {
			fields[key], last = strings.TrimSpace(value), key
		}
	}
	return fields
}
