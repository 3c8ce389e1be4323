package engine

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Kinds of metadata in the repository.
const (
	kindRecord     byte = 1
	kindPage       byte = 2
	kindNode       byte = 3
	kindRoot       byte = 4
	kindProperties byte = 5
)

// Limits of what is read back (engine.md, 3.9).
const (
	pageMax   = 512     // entries written to a page
	pageLimit = 1024    // entries accepted in a page
	listLimit = 1 << 20 // elements accepted in any other list
)

// itemRecord is what does not change about an item: the header fields, the
// provider's properties and the content. Integer keys are the format; a new
// field gets a new key.
type itemRecord struct {
	Number      int64         `cbor:"1,keyasint"`
	Item        int64         `cbor:"2,keyasint"`
	ProviderID  string        `cbor:"3,keyasint"`
	Version     string        `cbor:"4,keyasint,omitempty"`
	Subject     string        `cbor:"5,keyasint,omitempty"`
	From        string        `cbor:"6,keyasint,omitempty"`
	To          string        `cbor:"7,keyasint,omitempty"`
	Received    int64         `cbor:"8,keyasint,omitempty"` // Unix milliseconds
	Sent        int64         `cbor:"9,keyasint,omitempty"`
	Size        int64         `cbor:"10,keyasint,omitempty"` // as the provider says
	Attachments bool          `cbor:"11,keyasint,omitempty"`
	MessageID   string        `cbor:"12,keyasint,omitempty"`
	Properties  []byte        `cbor:"13,keyasint,omitempty"`
	Content     *repo.Content `cbor:"14,keyasint,omitempty"` // nil if it could not be read yet
}

func recordOf(number, item int64, s ItemState, content *repo.Content) itemRecord {
	return itemRecord{
		Number: number, Item: item, ProviderID: s.ID, Version: s.Version, Subject: s.Subject, From: s.From, To: s.To,
		Received: millis(s.Received), Sent: millis(s.Sent), Size: s.Size, Attachments: s.HasAttachments, MessageID: s.InternetMessageID,
		Properties: s.Properties, Content: content,
	}
}

// fill sets the fields of s that the record has.
func (r itemRecord) fill(s *ItemState) {
	s.ID, s.Subject, s.From, s.To = r.ProviderID, r.Subject, r.From, r.To
	s.Received, s.Sent, s.Size = moment(r.Received), moment(r.Sent), r.Size
	s.HasAttachments, s.InternetMessageID = r.Attachments, r.MessageID
}

// Bits of entry.Flags.
const (
	flagRead = 1 << iota
	flagDraft
	flagFlagged
)

// entry is an item in a folder: what may change without the content.
type entry struct {
	Item       int64         `cbor:"1,keyasint"`
	Record     repo.MetaID   `cbor:"2,keyasint"`
	Flags      uint64        `cbor:"3,keyasint,omitempty"`
	Importance string        `cbor:"4,keyasint,omitempty"`
	Categories []string      `cbor:"5,keyasint,omitempty"`
	Version    string        `cbor:"6,keyasint,omitempty"`
	Problem    *entryProblem `cbor:"7,keyasint,omitempty"`
	Properties *repo.MetaID  `cbor:"8,keyasint,omitempty"` // newer than the record's
}

// entryProblem says why a content could not be read.
type entryProblem struct {
	Kind   string `cbor:"1,keyasint"`
	Text   string `cbor:"2,keyasint,omitempty"`
	Code   string `cbor:"3,keyasint,omitempty"`
	Status int    `cbor:"4,keyasint,omitempty"`
	At     int64  `cbor:"5,keyasint,omitempty"` // when it was first seen
}

func entryOf(i Item) entry {
	e := entry{Item: i.Number, Record: i.Record.Meta, Importance: i.Importance, Categories: i.Categories, Version: i.Version}
	for bit, set := range map[uint64]bool{flagRead: i.Read, flagDraft: i.Draft, flagFlagged: i.Flagged} {
		if set {
			e.Flags |= bit
		}
	}
	if !i.Problem.IsZero() {
		e.Problem = &entryProblem{Kind: string(i.Problem.Kind), Text: i.Problem.Text, Code: i.Problem.Code, Status: i.Problem.Status, At: millis(i.Problem.At)}
	}
	if i.Properties != (repo.MetaID{}) {
		e.Properties = &i.Properties
	}
	return e
}

// fill sets the fields of i that the entry has.
func (e entry) fill(i *Item) {
	i.Number, i.Record.Meta = e.Item, e.Record
	i.Read, i.Draft, i.Flagged = e.Flags&flagRead != 0, e.Flags&flagDraft != 0, e.Flags&flagFlagged != 0
	i.Importance, i.Categories, i.Version = e.Importance, e.Categories, e.Version
	if p := e.Problem; p != nil {
		i.Problem = backup.Problem{Kind: backup.ProblemKind(p.Kind), Text: p.Text, Code: p.Code, Status: p.Status, At: moment(p.At)}
	}
	if e.Properties != nil {
		i.Properties = *e.Properties
	}
}

// page is a range of a folder's entries, in order of their items. An entry
// stays as it was written until it changes, so that fields of a later version
// of Holdfast survive.
type page struct {
	Entries []cbor.RawMessage `cbor:"1,keyasint"`
}

// pageRef is a page in its folder's node.
type pageRef struct {
	First int64       `cbor:"1,keyasint"` // item of its first entry
	Count int         `cbor:"2,keyasint"`
	ID    repo.MetaID `cbor:"3,keyasint"`
}

// node is a folder with its pages.
type node struct {
	FolderID  string    `cbor:"1,keyasint"`
	ParentID  string    `cbor:"2,keyasint,omitempty"`
	Name      string    `cbor:"3,keyasint,omitempty"`
	WellKnown string    `cbor:"4,keyasint,omitempty"`
	Hidden    bool      `cbor:"5,keyasint,omitempty"`
	Cursor    string    `cbor:"6,keyasint,omitempty"`
	Pages     []pageRef `cbor:"7,keyasint,omitempty"`
}

func (n node) state(id repo.MetaID) FolderState {
	f := FolderState{Folder: Folder{ID: n.FolderID, ParentID: n.ParentID, Name: n.Name, WellKnown: n.WellKnown, Hidden: n.Hidden}, Node: id, Cursor: n.Cursor}
	for _, p := range n.Pages {
		f.Items += int64(p.Count)
	}
	return f
}

// root is a mailbox as it was at one time.
type root struct {
	Folders      []repo.MetaID `cbor:"1,keyasint,omitempty"` // nodes
	FolderCursor string        `cbor:"2,keyasint,omitempty"`
	NextNumber   int64         `cbor:"3,keyasint"`
	Items        int64         `cbor:"4,keyasint,omitempty"`
	Bytes        int64         `cbor:"5,keyasint,omitempty"`
	Damaged      int64         `cbor:"6,keyasint,omitempty"`
}

var encoding = must(cbor.CoreDetEncOptions().EncMode())

var decoding = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	MaxArrayElements: listLimit,
	MaxMapPairs:      1024,
	MaxNestedLevels:  16,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
}.DecMode())

// must is for the two modes above, which a test calls before anybody else.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func decodePage(data []byte) (page, error) {
	var p page
	if err := decoding.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("page: %w", err)
	}
	if len(p.Entries) > pageLimit {
		return p, fmt.Errorf("page: %d entries are more than %d", len(p.Entries), pageLimit)
	}
	return p, nil
}

// entries decodes the entries of a page and checks their order.
func (p page) entries() ([]pageEntry, error) {
	list := make([]pageEntry, len(p.Entries))
	for i, raw := range p.Entries {
		list[i].raw = raw
		if err := decoding.Unmarshal(raw, &list[i].entry); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	for i := 1; i < len(list); i++ {
		if list[i].Item <= list[i-1].Item {
			return nil, fmt.Errorf("entry %d is out of order", i)
		}
	}
	return list, nil
}

// pageEntry is an entry with the bytes that it was read from.
type pageEntry struct {
	entry
	raw cbor.RawMessage
}

// itemID makes the identifier of a record: its number and the beginning of its
// id in the repository, so that a stale identifier never names another record.
func itemID(number int64, meta repo.MetaID) backup.ItemID {
	b := binary.BigEndian.AppendUint64(nil, uint64(number)) //nolint:gosec // numbers count from 1
	return backup.ItemID(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(append(b, meta[:8]...)))
}

// RecordNumber returns the number in an identifier of a record, and false if it
// is none.
func RecordNumber(id backup.ItemID) (int64, bool) {
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(string(id))
	if err != nil || len(b) != 16 {
		return 0, false
	}
	n := int64(binary.BigEndian.Uint64(b)) //nolint:gosec // checked below
	return n, n > 0
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
