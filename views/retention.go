package views

import (
	"time"

	"holdfast/backup"
)

// RetentionForm is what was typed about a retention.
type RetentionForm struct {
	Mode, Days, Daily, Weekly, Monthly, Yearly string
}

// Retention is how long snapshots are kept.
type Retention struct {
	Saved     backup.Retention
	Hold      backup.LegalHold // zero for none
	Form      RetentionForm
	Reason    string // of a hold that was not set
	Fields    backup.FieldErrors
	MayChange bool
	Now       time.Time
}

// RetentionPreview is what a rule would delete.
type RetentionPreview struct {
	Form     RetentionForm
	Rule     backup.Retention
	Saved    backup.Retention
	Hold     backup.LegalHold
	Expiries []backup.Expiry // the most bytes first
	Fields   backup.FieldErrors
}

// expiriesShown is how many mailboxes a preview lists.
const expiriesShown = 20

func (v RetentionPreview) shown() []backup.Expiry {
	return v.Expiries[:min(len(v.Expiries), expiriesShown)]
}

// sum says in one line what would be deleted.
func (v RetentionPreview) sum() string {
	snapshots, messages, bytes := 0, int64(0), int64(0)
	for _, e := range v.Expiries {
		snapshots += len(e.Snapshots)
		messages += e.Messages
		bytes += e.Bytes
	}
	return plural(snapshots, "snapshot", "snapshots") + " of " + plural(len(v.Expiries), "mailbox", "mailboxes") + ", and with them " +
		plural(messages, "message", "messages") + " (" + bytesText(bytes) + ") that no other snapshot has"
}

// sentence is a rule with a capital letter and a full stop.
func sentence(r backup.Retention) string {
	text := r.String()
	return string(text[0]-'a'+'A') + text[1:] + "."
}
