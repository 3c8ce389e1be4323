package views

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
)

// Mailboxes is one page of the mailboxes that can be browsed.
type Mailboxes struct {
	Mailboxes []backup.Mailbox
	Search    string
	Page      Pager
	Now       time.Time
}

// Pager says which rows of how many a page shows.
type Pager struct {
	Page, Size, Total int        // Page counts from 1
	Path              string     // of the page
	Query             url.Values // what every link keeps
}

// pages returns how many pages there are, at least one.
func (p Pager) pages() int { return max((p.Total+p.Size-1)/p.Size, 1) }

// link is the address of a page.
func (p Pager) link(page int) string {
	q := url.Values{}
	for k, v := range p.Query {
		if len(v) > 0 && v[0] != "" {
			q[k] = v
		}
	}
	if page > 1 {
		q.Set("page", strconv.Itoa(page))
	}
	if len(q) == 0 {
		return p.Path
	}
	return p.Path + "?" + q.Encode()
}

// range says which rows are shown.
func (p Pager) shown() string {
	if p.Total == 0 {
		return "None"
	}
	first := (p.Page-1)*p.Size + 1
	return strconv.Itoa(first) + "–" + strconv.Itoa(min(p.Page*p.Size, p.Total)) + " of " + thousands(int64(p.Total))
}

// FolderNode is a folder with those below it.
type FolderNode struct {
	backup.Folder
	Children []*FolderNode
}

// Browse is a mailbox as it was at the time of a snapshot.
type Browse struct {
	Mailbox   backup.Mailbox
	Snapshots []backup.Snapshot // newest first; the latest hundred and the chosen one
	Snapshot  backup.Snapshot   // the chosen one, zero if there is none
	Folders   []*FolderNode     // the top ones
	Folder    backup.Folder     // the chosen one, zero for all
	Items     []backup.Item
	Search    string
	Page      Pager
	MaySee    bool // messages, not only folders and figures
	Now       time.Time
	Problem   string // why the time that was asked for can't be shown
}

// All is the value of the folder parameter that means every folder.
const All = "*"

func (v Browse) path() string { return "/browse/" + url.PathEscape(string(v.Mailbox.ID)) }

func (v Browse) at() string { return strconv.FormatInt(v.Snapshot.Seq, 10) }

func (v Browse) folderLink(id string) string {
	return v.path() + "?" + url.Values{"at": {v.at()}, "folder": {id}}.Encode()
}

func (v Browse) itemLink(item backup.Item) string {
	return v.path() + "/items/" + url.PathEscape(string(item.ID)) + "?at=" + v.at()
}

func (v Browse) downloadLink(format string) string {
	path := v.path()
	if v.Folder.ID != "" {
		path += "/folders/" + url.PathEscape(v.Folder.ID)
	}
	return path + "/download?" + url.Values{"at": {v.at()}, "format": {format}}.Encode()
}

func (v Browse) folderName() string {
	switch {
	case v.Folder.ID == "":
		return "All folders"
	case v.Folder.Name == "":
		return "Folder without a name"
	}
	return v.Folder.Name
}

// snapshotName is a snapshot in the list of times.
func snapshotName(s backup.Snapshot) string {
	name := s.At.UTC().Format("Mon 2 Jan 2006, 15:04:05 MST") + " · " + thousands(s.Items) + " messages"
	if s.Partial {
		name += " (unfinished run)"
	}
	return name
}

// moment is a time in full.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2 Jan 2006, 15:04 MST")
}

// ItemView is one message.
type ItemView struct {
	Browse      Browse
	Item        backup.Item
	Headers     []MessageHeader
	Attachments []MessageFile
	More        int      // attachments beyond those listed
	Notes       []string // what a reader should know about the preview
	Problem     string   // why the content is not there, "" if it is
}

// MessageHeader is one header line of a message.
type MessageHeader struct{ Name, Value string }

// MessageFile is one attachment of a message.
type MessageFile struct {
	Name, Type string
	SizeBytes  int64
}

func (v ItemView) link(what string) string {
	return v.Browse.path() + "/items/" + url.PathEscape(string(v.Item.ID)) + "/" + what + "?at=" + v.Browse.at()
}

func (v ItemView) subject() string { return orNothing(v.Item.Subject, "No subject") }

func orNothing(s, instead string) string {
	if strings.TrimSpace(s) == "" {
		return instead
	}
	return s
}

// otherThan says whether a mailbox has a name, and not its address for one.
func otherThan(name, address string) bool {
	return strings.TrimSpace(name) != "" && !strings.EqualFold(strings.TrimSpace(name), address)
}

// received is the time that a list shows for a message.
func received(i backup.Item) time.Time {
	if i.ReceivedAt.IsZero() {
		return i.SentAt
	}
	return i.ReceivedAt
}

// senderName is the name of a sender, or the address without one.
func senderName(from string) string {
	name, _, found := strings.Cut(from, "<")
	if name = strings.Trim(strings.TrimSpace(name), `"`); found && name != "" {
		return name
	}
	return orNothing(strings.Trim(from, "<> "), "Unknown sender")
}
