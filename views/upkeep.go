package views

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
)

// Proven is what an organization's restore tests say.
type Proven struct {
	Item, Mailbox backup.Upkeep // of a message, and of a whole mailbox
	ItemOf        string        // address of the mailbox that the message was in
	MailboxOf     string
	Damaged       int64 // messages and objects that are known to be damaged
	Since         time.Time
	StatusPath    string // where they are listed, "" for nowhere
}

// at is when a restore was last proven.
func (p Proven) at() time.Time {
	if p.Mailbox.OKAt.After(p.Item.OKAt) {
		return p.Mailbox.OKAt
	}
	return p.Item.OKAt
}

// text says what was restored last.
func (p Proven) text() string {
	switch {
	case p.at().IsZero():
		return "Within a day of the first backup, Holdfast restores a message by itself and compares it with what was backed up."
	case p.Mailbox.OKAt.After(p.Item.OKAt):
		return plural(p.Mailbox.Counted, "message", "messages") + of(p.MailboxOf) + ", every byte compared"
	}
	return plural(p.Item.Counted, "message", "messages") + of(p.ItemOf) + ", every byte compared"
}

func of(mailbox string) string {
	if mailbox == "" {
		return ""
	}
	return " of " + mailbox
}

// checked says what a check looked at and found.
func checked(u backup.Upkeep) string {
	text := plural(u.Counted, "pack", "packs")
	if u.Damaged > 0 {
		text += ", " + thousands(u.Damaged) + " damaged"
	}
	return text
}

// trouble says why the last test proved nothing, "" if it did.
func (p Proven) trouble() string {
	for _, u := range []backup.Upkeep{p.Item, p.Mailbox} {
		if u.State == backup.UpkeepFailed {
			return "The last restore test could not be done."
		}
	}
	return ""
}

// upkeepNames say what a kind of upkeep does.
var upkeepNames = map[backup.UpkeepKind]string{
	backup.UpkeepProveItem: "Restore test of a message", backup.UpkeepProveMailbox: "Restore test of a mailbox",
	backup.UpkeepStructure: "Check of the structure", backup.UpkeepData: "Check of the data", backup.UpkeepAll: "Check of everything",
	backup.UpkeepRepair: "Repair", backup.UpkeepRekey: "Move to new keys", backup.UpkeepRebuild: "Rebuild of the catalog",
	backup.UpkeepCollect: "Collection",
}

// upkeepOnDemand are the kinds whose failures only those read who may ask for them.
var upkeepOnDemand = []backup.UpkeepKind{backup.UpkeepRepair, backup.UpkeepRekey, backup.UpkeepRebuild, backup.UpkeepCollect}

// failedUpkeep are checks that could not be done, for people to read why. What is
// done on demand is for whoever asked for it.
func failedUpkeep(list map[backup.UpkeepKind]backup.Upkeep) []backup.Upkeep {
	var failed []backup.Upkeep
	for _, kind := range backup.UpkeepKinds {
		if u := list[kind]; u.State == backup.UpkeepFailed && !u.Problem.IsZero() && !slices.Contains(upkeepOnDemand, kind) {
			failed = append(failed, u)
		}
	}
	return failed
}

// damageName names what is damaged.
func damageName(d backup.Damage) string {
	switch {
	case d.Record > 0 && d.Subject != "":
		return "“" + d.Subject + "”"
	case d.Record > 0:
		return "A message without a subject"
	}
	return d.Object
}

// damageWhere says where a damaged message is, and what is known of it.
func damageWhere(d backup.Damage) string {
	var parts []string
	for _, part := range []string{d.MailboxName, d.Folder} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if !d.ReceivedAt.IsZero() {
		parts = append(parts, "received "+d.ReceivedAt.UTC().Format("2 January 2006, 15:04 UTC"))
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " · ") + " · "
}

// DamageHow says how something is damaged, without the name that stands before it.
func DamageHow(d backup.Damage) string { return strings.TrimPrefix(d.How, d.Object+": ") }

// DamageOutlook says what can be done about a damaged message.
func DamageOutlook(fate backup.DamageFate) string {
	switch fate {
	case backup.DamageWanted:
		return "The next backup of the mailbox reads it again from the provider, if it is still there."
	case backup.DamageDiffers:
		return "The provider has another text of it now, which is backed up; this one is lost, unless a copy of the backup storage has it."
	case backup.DamageGone:
		return "The provider does not have it any more; it is lost, unless a copy of the backup storage has it."
	}
	return "Whoever runs this Holdfast is told, and can repair it."
}

// DamageStates name the fates for a table.
var DamageStates = map[backup.DamageFate]string{"": "damaged", backup.DamageTold: "damaged", backup.DamageWanted: "read again in the next backup", backup.DamageDiffers: "lost; the provider has another text now", backup.DamageGone: "lost; the provider has it no more"}

// OrganizationChecks is how much of an organization is backed up and how the
// checks of it stand.
type OrganizationChecks struct {
	ID                       backup.OrgID
	Name                     string
	Mailboxes                int
	Items, SizeBytes, Stored int64
	Upkeep                   map[backup.UpkeepKind]backup.Upkeep
	Share                    backup.CheckedShare
	Damages                  []backup.Damage // the newest
	Damaged                  int64           // all of them
	Now                      time.Time
}

// Groups of organizations on the storage page, by what is known of their data.
const (
	ChecksDamaged = "damaged"
	ChecksFailed  = "failed"
	ChecksBusy    = "busy"
	ChecksNone    = "unchecked"
)

// checkGroups are the groups in the order in which they are offered.
var checkGroups = []string{"", ChecksDamaged, ChecksFailed, ChecksBusy, ChecksNone}

var checkGroupNames = map[string]string{"": "All", ChecksDamaged: "Damaged", ChecksFailed: "Could not be checked", ChecksBusy: "Under way", ChecksNone: "Not checked yet"}

// in says whether the organization is in a group.
func (o OrganizationChecks) in(group string) bool {
	switch group {
	case ChecksDamaged:
		return o.Damaged > 0
	case ChecksFailed:
		return len(failedUpkeep(o.Upkeep)) > 0
	case ChecksBusy:
		_, busy := o.busy()
		return busy
	case ChecksNone:
		return o.Upkeep[backup.UpkeepStructure].OKAt.IsZero()
	}
	return true
}

// urgency orders organizations: what needs somebody comes first.
func (o OrganizationChecks) urgency() int {
	switch {
	case o.in(ChecksDamaged):
		return 0
	case o.in(ChecksFailed):
		return 1
	}
	return 2
}

// path is the organization's own page.
func (o OrganizationChecks) path(rest string) string {
	return "/partner/settings/storage/" + url.PathEscape(string(o.ID)) + rest
}

// Checks is how the checks of the organizations of a partner stand.
type Checks struct {
	Any           bool                 // there is an organization
	Organizations []OrganizationChecks // of the page
	Search, Only  string
	Of            map[string]int // how many each group has
	Page          Pager
	Now           time.Time
}

// Choose leaves a page of the organizations of the chosen group.
func (v *Checks) Choose(page, size int) {
	for _, group := range checkGroups {
		for _, o := range v.Organizations {
			if o.in(group) {
				v.Of[group]++
			}
		}
	}
	if !slices.Contains(checkGroups, v.Only) {
		v.Only = ""
	}
	v.Organizations = slices.DeleteFunc(v.Organizations, func(o OrganizationChecks) bool { return !o.in(v.Only) })
	slices.SortStableFunc(v.Organizations, func(a, b OrganizationChecks) int { return cmp.Compare(a.urgency(), b.urgency()) })
	v.Page = Pager{Page: page, Size: size, Total: len(v.Organizations), Path: "/partner/settings/storage", Query: v.values()}
	first := min((page-1)*size, len(v.Organizations))
	v.Organizations = v.Organizations[first:min(first+size, len(v.Organizations))]
}

// values is the query of the list without its page.
func (v Checks) values() url.Values {
	q := url.Values{}
	if v.Search != "" {
		q.Set("q", v.Search)
	}
	if v.Only != "" {
		q.Set("only", v.Only)
	}
	return q
}

// only is the address of a group.
func (v Checks) only(group string) string {
	v.Only = group
	return Pager{Path: v.Page.Path, Query: v.values()}.link(1)
}

// offered are the groups that have somebody, or are chosen.
func (v Checks) offered() []string {
	return slices.DeleteFunc(slices.Clone(checkGroups), func(group string) bool { return group != "" && v.Of[group] == 0 && v.Only != group })
}

// asks is where the page asks how far the checks are.
func (v Checks) asks() string {
	p := v.Page
	p.Path += "/checks"
	return p.link(p.Page)
}

// busy is the work under way that a page shows, the longest first.
func (o OrganizationChecks) busy() (backup.Upkeep, bool) {
	for _, kind := range slices.Backward(backup.UpkeepKinds) {
		if u := o.Upkeep[kind]; u.Busy() {
			return u, true
		}
	}
	return backup.Upkeep{}, false
}

// live says whether something is under way, so that the page keeps asking.
func (v Checks) live() bool {
	return slices.ContainsFunc(v.Organizations, func(o OrganizationChecks) bool { _, busy := o.busy(); return busy })
}

// shareText says what part of the data was looked at.
func shareText(part, all int64) string {
	switch {
	case all == 0:
		return "nothing yet"
	case part >= all:
		return "all of " + bytesText(all)
	}
	return strconv.FormatInt(part*100/all, 10) + " % of " + bytesText(all)
}

// repaired says how the last repair ended, "" if there was none.
func repaired(u backup.Upkeep) string {
	switch {
	case u.EndedAt.IsZero() || u.State == backup.UpkeepFailed || u.Counted+u.Damaged == 0:
		return ""
	case u.Damaged > 0:
		return plural(u.Counted, "object", "objects") + " put back or written anew; " + plural(u.Damaged, "message or object was", "messages or objects were") + " damaged after it"
	}
	return plural(u.Counted, "object", "objects") + " put back or written anew"
}

// collected says how the last collection ended, "" if there was none.
func collected(u backup.Upkeep) string {
	if u.EndedAt.IsZero() || u.State != backup.UpkeepOK {
		return ""
	}
	text := "nothing to free"
	if u.Bytes > 0 {
		text = bytesText(u.Bytes) + " freed"
	}
	if u.Retained > 0 {
		text += ", " + plural(u.Retained, "object is", "objects are") + " kept by a lock until it ends"
	}
	return text
}

// rekeys says that the organization moves to new keys, also between two times that
// somebody works at it.
func (o OrganizationChecks) rekeys() bool { return o.Upkeep[backup.UpkeepRekey].Open() }

// rekeyed says how far a move to new keys has come, "" if nothing is to be said.
func rekeyed(u backup.Upkeep) string {
	switch {
	case u.EndedAt.IsZero() || u.Busy() || u.State == backup.UpkeepFailed:
		return ""
	case u.NextAt.IsZero():
		return "everything is under new keys, and the old ones are destroyed"
	case u.Damaged > 0:
		return plural(u.Damaged, "object is", "objects are") + " damaged and can't be moved: repair the storage first"
	case u.Done < u.Total:
		return thousands(u.Done) + " of " + plural(u.Total, "object is", "objects are") + " under the new keys alone; what is under the old ones is deleted two days after it was written anew" + locked(u)
	case u.Retained > 0:
		return "nothing needs the old keys any more" + locked(u)
	}
	return "nothing needs the old keys any more; they are destroyed when the backups that began before have ended"
}

// locked says what stays under old keys because of locks, and until when.
func locked(u backup.Upkeep) string {
	if u.Retained == 0 {
		return ""
	}
	text := "; " + plural(u.Retained, "object under them is", "objects under them are") + " locked"
	if u.RetainedUntil.IsZero() {
		return text + ", and the storage does not say until when"
	}
	return text + " until " + u.RetainedUntil.UTC().Format("2 Jan 2006") + " at the latest, and deleted within a day after that"
}

// upkeepProgress says how far work is.
func upkeepProgress(u backup.Upkeep) string {
	switch {
	case u.State == backup.UpkeepWaiting:
		return upkeepNames[u.Kind] + " starts as soon as a worker is free"
	case (u.Kind == backup.UpkeepRebuild || u.Kind == backup.UpkeepCollect) && u.Total > 0:
		return upkeepNames[u.Kind] + ": " + thousands(u.Done) + " of " + plural(u.Total, "mailbox", "mailboxes")
	case u.Kind == backup.UpkeepRekey && u.Total > 0:
		return upkeepNames[u.Kind] + ": " + thousands(u.Done) + " of " + plural(u.Total, "pack", "packs") + " written anew"
	case u.Total > 0 && u.Done >= u.Total:
		return upkeepNames[u.Kind] + ": " + thousands(u.Done) + " done, comparing messages"
	case u.Total > 0:
		return upkeepNames[u.Kind] + ": " + thousands(u.Done) + " of " + thousands(u.Total)
	}
	return upkeepNames[u.Kind] + " has started"
}
