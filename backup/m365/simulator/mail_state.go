package simulator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// mailbox is the mail of one user. Seq counts its changes; folders, messages
// and removals carry the count of their last one, which is what delta tokens
// are made of.
type mailbox struct {
	Seq      int64
	Next     int64 // number of the next folder or message
	Epoch    int64 // delta tokens of another one are expired
	Folders  []*mailFolder
	Messages []*message
	Removals []removal

	byID map[string]*message // by both ids
}

// mailFolder is a folder. Its id stays when it is renamed or moved.
type mailFolder struct {
	Number    int64
	ID        string
	Parent    string // "" for the root above msgfolderroot
	Name      string
	WellKnown string
	Hidden    bool
	Search    bool // a view of others, of type mailSearchFolder
	Seq       int64
}

// message is a mail item. ID is the immutable one; RestID changes when it moves.
type message struct {
	Number    int64
	ID        string
	RestID    string
	Folder    string
	Body      source
	ChangeKey string
	Created   time.Time
	Modified  time.Time
	Received  time.Time
	Sent      time.Time
	Subject   string
	From      address
	To        []address
	Cc        []address
	Bcc       []address
	ReplyTo   []address
	MessageID string
	Attached  bool
	Read      bool
	Draft     bool
	Flag      string // notFlagged, flagged or complete
	Category  []string
	Weight    string   // importance
	Damage    string   // error code that $value answers with
	Made      *created `json:",omitempty"` // set if it was made through Graph, or changed there
	Seq       int64
	BornSeq   int64 // when it came into its folder
	ReadSeq   int64 // of a change of the read state alone, see TenantSettings.QuietReads
}

type address struct{ Name, Address string }

// removal remembers that a message, or (without Message) a folder, left a folder.
type removal struct {
	Seq     int64
	Folder  string
	Message string // immutable id
	RestID  string
}

// WorldMailbox says what a person's mailbox is seeded with.
type WorldMailbox struct {
	Messages int `json:"messages"` // taken from Options.Mail
}

// mailOf is a mailbox of the default world with n messages.
func mailOf(n int) *WorldMailbox { return &WorldMailbox{Messages: n} }

// number returns the next number and counts the change.
func (m *mailbox) number() int64 { m.Next++; return m.Next }

func (m *mailbox) change() int64 { m.Seq++; return m.Seq }

// folder finds a folder by id or well-known name in any case.
func (m *mailbox) folder(name string) *mailFolder {
	for _, f := range m.Folders {
		if f.ID == name || f.WellKnown != "" && strings.EqualFold(f.WellKnown, name) {
			return f
		}
	}
	return nil
}

// message finds a message by one of its ids.
func (m *mailbox) message(id string) *message { return m.byID[id] }

func (m *mailbox) index() {
	m.byID = make(map[string]*message, 2*len(m.Messages))
	for _, msg := range m.Messages {
		m.byID[msg.ID], m.byID[msg.RestID] = msg, msg
	}
}

// opaque makes an id as Outlook's look: URL-safe base64 of some length. It is
// the same at each start for the same mailbox and number.
func opaque(kind, mailbox string, number, turn int64) string {
	g := strings.ReplaceAll(stableGUID(kind, mailbox, fmt.Sprint(number), fmt.Sprint(turn)), "-", "")
	return "AAMkAD" + g + kind + fmt.Sprintf("%06d", number) + "AA="
}

// addFolder makes a folder; wellKnown may be "".
func (m *mailbox) addFolder(user, parent, name, wellKnown string) *mailFolder {
	f := &mailFolder{Number: m.number(), Parent: parent, Name: name, WellKnown: wellKnown, Seq: m.change()}
	f.ID = opaque("F", user, f.Number, 0)
	m.Folders = append(m.Folders, f)
	return f
}

// children are the direct ones of a folder, in the order they were made.
func (m *mailbox) children(parent string) []*mailFolder {
	var list []*mailFolder
	for _, f := range m.Folders {
		if f.Parent == parent {
			list = append(list, f)
		}
	}
	return list
}

// counts are the messages and unread ones directly in a folder.
func (m *mailbox) counts(folder string) (total, unread int) {
	for _, msg := range m.Messages {
		if msg.Folder == folder {
			total++
			if !msg.Read {
				unread++
			}
		}
	}
	return total, unread
}

// touch gives a message a new change key.
func (m *mailbox) touch(msg *message, now time.Time) {
	msg.Seq = m.change()
	msg.Modified = now
	msg.ChangeKey = fmt.Sprintf("CQAAABYAAAD%sAAB%06d", msg.ID[6:14], msg.Seq)
}

// move puts a message into another folder: it leaves the one and appears in
// the other, under the same immutable id and a new rest id.
func (m *mailbox) move(user string, msg *message, to string, now time.Time) {
	m.Removals = append(m.Removals, removal{Seq: m.change(), Folder: msg.Folder, Message: msg.ID, RestID: msg.RestID})
	delete(m.byID, msg.RestID)
	msg.Folder = to
	m.touch(msg, now)
	msg.BornSeq = msg.Seq
	msg.RestID = opaque("M", user, msg.Number, msg.Seq)
	m.byID[msg.RestID] = msg
}

// empty deletes every message for good.
func (m *mailbox) empty() {
	for _, msg := range m.Messages {
		m.Removals = append(m.Removals, removal{Seq: m.change(), Folder: msg.Folder, Message: msg.ID, RestID: msg.RestID})
	}
	m.Messages = []*message{}
	m.index()
}

// remove deletes a message for good.
func (m *mailbox) remove(msg *message) {
	m.Removals = append(m.Removals, removal{Seq: m.change(), Folder: msg.Folder, Message: msg.ID, RestID: msg.RestID})
	delete(m.byID, msg.ID)
	delete(m.byID, msg.RestID)
	m.Messages = slices.DeleteFunc(m.Messages, func(o *message) bool { return o == msg })
}

// removeFolder deletes a folder with all that is in it.
func (m *mailbox) removeFolder(f *mailFolder) {
	for _, child := range m.children(f.ID) {
		m.removeFolder(child)
	}
	for _, msg := range slices.Clone(m.Messages) {
		if msg.Folder == f.ID {
			m.remove(msg)
		}
	}
	m.Removals = append(m.Removals, removal{Seq: m.change(), Folder: f.ID})
	m.Folders = slices.DeleteFunc(m.Folders, func(o *mailFolder) bool { return o == f })
}

// resumeMailbox completes a mailbox that was read from the saved state.
func (s *Simulator) resumeMailbox(_ *tenant, u *user) error {
	if u.Mailbox == nil {
		return nil
	}
	for _, msg := range u.Mailbox.Messages {
		if msg.Body.File != "" && s.options.Mail == nil {
			return errors.New("its messages are files of a test mail that is not given")
		}
	}
	u.Mailbox.index()
	return nil
}
