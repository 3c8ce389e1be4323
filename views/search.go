package views

import (
	"net/url"
	"strconv"
	"strings"

	"holdfast/backup"
)

// Search is what a search through the mailboxes of an organization found so far.
type Search struct {
	// What to look for, as it was filled in; days like 2026-11-23.
	Words, From, To   string
	Attachments, Gone bool
	Fields            backup.FieldErrors

	Mailbox     backup.MailboxID // the only mailbox to look into, "" for all
	Mailboxes   []SearchedMailbox
	Done, Total int  // mailboxes searched, and there are
	Full        bool // the page is
	Found       bool // something, here or in the mailboxes before
}

// SearchedMailbox is what was found in a mailbox, the newest first.
type SearchedMailbox struct {
	backup.Mailbox
	Items []backup.FoundItem
	More  bool // there are older ones
}

// Asked says whether there is anything to look for.
func (v Search) Asked() bool {
	return v.Words != "" || v.From != "" || v.To != "" || v.Attachments || v.Gone
}

// Filter says in words what besides the words was asked for.
func (v Search) Filter() string {
	var parts []string
	add := func(given bool, text string) {
		if given {
			parts = append(parts, text)
		}
	}
	add(v.From != "", "from "+v.From)
	add(v.To != "", "to "+v.To)
	add(v.Attachments, "with attachments")
	add(v.Gone, "gone from the mailbox")
	return strings.Join(parts, ", ")
}

// link is the address of the search with other parameters set.
func (v Search) link(path string, set ...string) string {
	q := url.Values{}
	add := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	add("q", v.Words)
	add("from", v.From)
	add("to", v.To)
	for name, is := range map[string]bool{"attachments": v.Attachments, "gone": v.Gone, "found": v.Found && v.Mailbox == ""} {
		if is {
			q.Set(name, "yes")
		}
	}
	for i := 0; i+1 < len(set); i += 2 {
		q.Set(set[i], set[i+1])
	}
	return path + "?" + q.Encode()
}

// rest is the address of what the mailboxes after those that are done have.
func (v Search) rest(path string) string { return v.link(path, "done", strconv.Itoa(v.Done)) }

// ended says that all mailboxes were searched.
func (v Search) ended() bool { return v.Done >= v.Total }

func (m SearchedMailbox) itemLink(f backup.FoundItem) string {
	return Browse{Mailbox: m.Mailbox, Snapshot: backup.Snapshot{Seq: f.Seq}}.itemLink(f.Item)
}
