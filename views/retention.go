package views

import (
	"strings"
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
	Others    RetentionOthers
	Form      RetentionForm
	Reason    string // of a hold that was not set
	Fields    backup.FieldErrors
	MayChange bool
	Now       time.Time
}

// RetentionOthers counts the mailboxes that the organization's rule does not concern.
type RetentionOthers struct{ Own, Held int }

// text says it in a sentence, "" for none.
func (o RetentionOthers) text() string {
	var parts []string
	if o.Own > 0 {
		parts = append(parts, plural(o.Own, "mailbox has a rule of its own", "mailboxes have rules of their own"))
	}
	if o.Held > 0 {
		parts = append(parts, plural(o.Held, "mailbox is on legal hold", "mailboxes are on legal hold"))
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + ": this rule does not concern them."
}

// RetentionPreview is what a rule would delete.
type RetentionPreview struct {
	Form     RetentionForm
	Rule     backup.Retention
	Saved    backup.Retention
	Hold     backup.LegalHold
	Others   RetentionOthers
	Expiries []backup.Expiry // the most bytes first
	Fields   backup.FieldErrors
}

// nothingLeft counts the mailboxes of which only one snapshot would be left.
func nothingLeft(list []backup.Expiry) (n int) {
	for _, e := range list {
		if e.Kept <= 1 {
			n++
		}
	}
	return n
}

// expiriesShown is how many mailboxes a preview lists.
const expiriesShown = 20

func shownExpiries(list []backup.Expiry) []backup.Expiry {
	return list[:min(len(list), expiriesShown)]
}

// expirySum says in one line what would be deleted.
func expirySum(list []backup.Expiry) string {
	snapshots, messages, bytes := 0, int64(0), int64(0)
	for _, e := range list {
		snapshots += len(e.Snapshots)
		messages += e.Messages
		bytes += e.Bytes
	}
	return plural(snapshots, "snapshot", "snapshots") + " of " + plural(len(list), "mailbox", "mailboxes") + ", and with them " +
		plural(messages, "message", "messages") + " (" + bytesText(bytes) + ") that no other snapshot has"
}

// sentence is a rule with a capital letter and a full stop.
func sentence(r backup.Retention) string {
	text := r.String()
	return string(text[0]-'a'+'A') + text[1:] + "."
}

// MailboxKeeping is a mailbox with what holds for its snapshots.
type MailboxKeeping struct {
	backup.Mailbox
	Own  bool // the rule is the mailbox's own
	Rule backup.Retention
	Hold backup.LegalHold // the mailbox's own; zero for none
}

// MailboxSettings is the page of a mailbox.
type MailboxSettings struct {
	Mailbox   MailboxKeeping
	General   backup.Retention // the organization's rule
	OrgHold   backup.LegalHold
	Plan      backup.Schedule
	Snapshots int
	Oldest    time.Time // zero without snapshots
	Form      RetentionForm
	Reason    string // of a hold that was not set
	Fields    backup.FieldErrors
	MayChange bool
	Now       time.Time
}

// MailboxRules lists mailboxes with their rules.
type MailboxRules struct {
	List      []MailboxKeeping
	General   backup.Retention
	OrgHold   backup.LegalHold
	Search    string
	Total     int
	Page      Pager
	Chosen    map[backup.MailboxID]bool
	Form      RetentionForm
	Fields    backup.FieldErrors
	MayChange bool
	Now       time.Time
}

// MailboxRulePreview is what a rule for chosen mailboxes would delete.
type MailboxRulePreview struct {
	Chosen   []MailboxKeeping
	Form     RetentionForm
	Rule     backup.Retention // with Mode "" the organization's, which is General
	General  backup.Retention
	OrgHold  backup.LegalHold
	Expiries []backup.Expiry
	Back     string // the page that it was asked on
	Fields   backup.FieldErrors
}

// effective is the rule that would hold.
func (v MailboxRulePreview) effective() backup.Retention {
	if v.Rule.Mode == "" {
		return v.General
	}
	return v.Rule
}

// title says what is chosen.
func (v MailboxRulePreview) title() string {
	rule := v.Rule.String()
	if v.Rule.Mode == "" {
		rule = "as the organization (" + v.General.String() + ")"
	}
	if len(v.Chosen) == 1 {
		return v.Chosen[0].Address + ": " + rule
	}
	return plural(len(v.Chosen), "mailbox", "mailboxes") + ": " + rule
}

// held counts the chosen mailboxes that are on hold.
func (v MailboxRulePreview) held() (n int) {
	for _, m := range v.Chosen {
		if !m.Hold.IsZero() {
			n++
		}
	}
	return n
}

// before says what has held until now.
func (v MailboxRulePreview) before() string {
	if len(v.Chosen) == 1 {
		return "Until now: " + v.Chosen[0].Rule.String() + "."
	}
	rules := map[backup.Retention]int{}
	for _, m := range v.Chosen {
		rules[m.Rule]++
	}
	if len(rules) == 1 {
		return "Until now: " + v.Chosen[0].Rule.String() + "."
	}
	return "Until now they have " + plural(len(rules), "rule", "different rules") + "."
}

// RetentionInherit is the choice of no own rule in a RetentionForm.
const RetentionInherit = "inherit"
