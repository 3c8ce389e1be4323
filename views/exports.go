package views

import (
	"net/url"
	"strings"
	"time"

	"holdfast/backup"
)

// Exports lists the exports of an organization.
type Exports struct {
	List []backup.Export // the newest first
	Now  time.Time
}

// live says whether something on the page changes by itself.
func (v Exports) live() bool {
	for _, e := range v.List {
		if e.Open() {
			return true
		}
	}
	return false
}

// NewExport is the form of a new export.
type NewExport struct {
	Name       string // what is exported, in words
	Mailbox    string // "" for all
	Folder     string // "" for all
	At         string // number of the snapshot, with a mailbox
	When       string // as of when, as it was typed, without a mailbox
	Time       time.Time
	Items      int64 // messages, 0 if that is not counted yet
	Format     string
	Encryption string // "", passphrase or recipient
	Recipient  string
	Fields     backup.FieldErrors
}

func exportTone(s backup.ExportState) string {
	switch s {
	case backup.ExportDone:
		return "protected"
	case backup.ExportFailed:
		return "failing"
	case backup.ExportCancelled:
		return "deactivated"
	}
	return "pending"
}

func exportState(s backup.ExportState) string {
	switch s {
	case backup.ExportWaiting:
		return "Waiting"
	case backup.ExportRunning:
		return "Running"
	case backup.ExportDone:
		return "Ready"
	case backup.ExportFailed:
		return "Failed"
	}
	return "Cancelled"
}

// exportKind is what kind of file an export is.
func exportKind(e backup.Export) string {
	var parts []string
	switch {
	case e.MailboxID == "" && e.Format == "mbox":
		parts = append(parts, "one .mbox per mailbox, in .zip")
	case e.Format == "mbox":
		parts = append(parts, ".mbox")
	default:
		parts = append(parts, ".zip of .eml")
	}
	switch e.Encryption {
	case "passphrase":
		parts = append(parts, "encrypted with a passphrase")
	case "recipient":
		parts = append(parts, "encrypted for a public key")
	}
	if e.At.IsZero() {
		parts = append(parts, "of the newest backups")
	} else {
		parts = append(parts, "as it was on "+moment(e.At))
	}
	return strings.Join(parts, ", ")
}

// exportProgress says how far an export is.
func exportProgress(e backup.Export) string {
	text := thousands(e.ItemsDone) + " messages"
	if e.ItemsTotal > 0 {
		text = thousands(e.ItemsDone) + " of " + thousands(max(e.ItemsTotal, e.ItemsDone)) + " messages"
	}
	return text + ", " + bytesText(e.ReadBytes)
}

// exportLink is where a page of Browse leads to export what it shows.
func (v Browse) exportLink() string {
	return "/exports/new?" + query("mailbox", string(v.Mailbox.ID), "folder", v.Folder.ID, "at", v.at())
}

// query encodes pairs of names and values, leaving out what is empty.
func query(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q.Encode()
}
