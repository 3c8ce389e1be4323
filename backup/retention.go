package backup

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// RetentionMode says how long snapshots are kept.
type RetentionMode string

// The modes.
const (
	RetainAll     RetentionMode = "all"     // for ever
	RetainDays    RetentionMode = "days"    // for some days
	RetainPeriods RetentionMode = "periods" // one for each of some days, weeks, months and years
)

// Retention is how long snapshots are kept. Days, weeks, months and years are
// those of the calendar in UTC, and weeks begin on Monday.
type Retention struct {
	Mode    RetentionMode
	Days    int // with RetainDays: 1 to 36500
	Daily   int // with RetainPeriods: days for which the state at their end is kept; 0 to 3650
	Weekly  int // weeks; 0 to 520
	Monthly int // months; 0 to 240
	Yearly  int // years; 0 to 100
}

// Validate returns FieldErrors naming every field that breaks a rule, or nil.
func (r Retention) Validate() error {
	fields := FieldErrors{}
	between := func(name string, n, least, most int) {
		if n < least || n > most {
			fields[name] = fmt.Sprintf("Enter a whole number from %d to %d.", least, most)
		}
	}
	switch r.Mode {
	case RetainAll:
	case RetainDays:
		between("days", r.Days, 1, 36500)
	case RetainPeriods:
		between("daily", r.Daily, 0, 3650)
		between("weekly", r.Weekly, 0, 520)
		between("monthly", r.Monthly, 0, 240)
		between("yearly", r.Yearly, 0, 100)
		if len(fields) == 0 && r.Daily+r.Weekly+r.Monthly+r.Yearly == 0 {
			fields["daily"] = "Keep at least one day, week, month or year."
		}
	default:
		fields["mode"] = "Choose how long snapshots are kept."
	}
	return fields.OrNil()
}

// String says it in words.
func (r Retention) String() string {
	switch r.Mode {
	case RetainDays:
		return "keep " + counted(r.Days, "day")
	case RetainPeriods:
		var parts []string
		for _, p := range []struct {
			n    int
			unit string
		}{{r.Daily, "day"}, {r.Weekly, "week"}, {r.Monthly, "month"}, {r.Yearly, "year"}} {
			if p.n > 0 {
				parts = append(parts, counted(p.n, p.unit))
			}
		}
		return "keep the end of each of the last " + strings.Join(parts, ", ")
	}
	return "keep everything"
}

func counted(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// Expired returns the numbers of the snapshots of a mailbox that are not to be
// kept at now, in order. A snapshot holds until the next one: it is kept if it
// shows the mailbox at a time that is to be kept, however old it is. The newest
// one, and the newest that is whole, never expire.
func (r Retention) Expired(list []Snapshot, now time.Time) []int64 {
	if r.Mode != RetainDays && r.Mode != RetainPeriods {
		return nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Snapshot) int { return int(min(max(a.Seq-b.Seq, -1), 1)) })
	keep := map[int64]bool{}
	if n := len(list); n > 0 {
		keep[list[n-1].Seq] = true
	}
	for _, s := range slices.Backward(list) {
		if !s.Partial {
			keep[s.Seq] = true
			break
		}
	}
	r.keep(list, now.UTC(), keep)
	var gone []int64
	for _, s := range list {
		if !keep[s.Seq] {
			gone = append(gone, s.Seq)
		}
	}
	return gone
}

// keep notes the snapshots that the mode keeps.
func (r Retention) keep(list []Snapshot, now time.Time, keep map[int64]bool) {
	held := func(at time.Time) { // the newest whole one that is older than at
		for _, s := range slices.Backward(list) {
			if !s.Partial && s.At.Before(at) {
				keep[s.Seq] = true
				return
			}
		}
	}
	if r.Mode == RetainDays {
		since := now.AddDate(0, 0, -r.Days)
		for _, s := range list {
			if !s.At.Before(since) {
				keep[s.Seq] = true
			}
		}
		held(since)
		return
	}
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	monday := today.AddDate(0, 0, -(int(today.Weekday())+6)%7)
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	year := time.Date(now.Year(), 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range r.Daily {
		held(today.AddDate(0, 0, 1-i))
	}
	for i := range r.Weekly {
		held(monday.AddDate(0, 0, 7-7*i))
	}
	for i := range r.Monthly {
		held(month.AddDate(0, 1-i, 0))
	}
	for i := range r.Yearly {
		held(year.AddDate(1-i, 0, 0))
	}
}

// LegalHold keeps everything of an organization, or of a mailbox, while it is set.
type LegalHold struct {
	Reason string // why; 3 to 500 characters
	By     string // name and address of who set it
	At     time.Time
}

// IsZero says that there is no hold.
func (h LegalHold) IsZero() bool { return h.At.IsZero() }

// Validate returns FieldErrors if the reason is missing or too long.
func (h LegalHold) Validate() error {
	if n := len([]rune(h.Reason)); n < 3 || n > 500 {
		return FieldErrors{"reason": "Say why, in 3 to 500 characters."}
	}
	return nil
}

// Keeping is what a mailbox has of its own.
type Keeping struct {
	Rule Retention // with Mode "" the organization's holds
	Hold LegalHold // zero for none
}

// Own says whether the mailbox has a rule of its own.
func (k Keeping) Own() bool { return k.Rule.Mode != "" }

// Keepings is what holds for the snapshots of an organization's mailboxes.
type Keepings struct {
	Rule Retention // the organization's
	Hold LegalHold // the organization's; zero for none
	Own  map[MailboxID]Keeping
}

// RuleOf returns the rule that holds for a mailbox.
func (k Keepings) RuleOf(m MailboxID) Retention {
	if own := k.Own[m]; own.Own() {
		return own.Rule
	}
	return k.Rule
}

// Held says that nothing of a mailbox expires or is erased.
func (k Keepings) Held(m MailboxID) bool { return !k.Hold.IsZero() || !k.Own[m].Hold.IsZero() }

// Expires returns the rule by which snapshots of a mailbox expire, and whether
// any do.
func (k Keepings) Expires(m MailboxID) (Retention, bool) {
	rule := k.RuleOf(m)
	return rule, !k.Held(m) && rule.Mode != RetainAll
}

// Expiry is what a retention lets expire of one mailbox.
type Expiry struct {
	Mailbox   MailboxID
	Address   string
	Name      string
	Rule      Retention // by which
	Kept      int       // snapshots that are left
	Snapshots []int64
	Messages  int64 // that are in none of the snapshots that are kept
	Bytes     int64 // of them, and of their versions that are in none
}
