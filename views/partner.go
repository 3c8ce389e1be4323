package views

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"time"

	"holdfast/backup"
)

// Organizations is one page of the partner's organizations.
type Organizations struct {
	List      []backup.OrganizationHealth
	Search    string
	Sort      string // name, health, mailboxes or last
	Desc      bool
	Page      Pager
	Any       bool // there is at least one, found or not
	MayCreate bool
	Only      string         // one of OrganizationNeeds, or "" for all
	Of        map[string]int // how many are found of each of OrganizationNeeds, and with "" in all
	// Deletions are those of which something is to be done still.
	Deletions []backup.Deletion
	// Unrecoverable says that nothing away from the server would open the backups,
	// to who can change that.
	Unrecoverable bool
}

// Groups of organizations that need somebody.
const (
	OrganizationFailing     = "failing"
	OrganizationInactive    = "inactive"
	OrganizationUnconnected = "empty"
	OrganizationSuspended   = "suspended"
)

// OrganizationNeeds are the groups in the order in which they are offered.
var OrganizationNeeds = []string{OrganizationFailing, OrganizationInactive, OrganizationUnconnected, OrganizationSuspended}

// organizationNeedNames are the groups in words.
var organizationNeedNames = map[string]string{"": "All", OrganizationFailing: "Backups fail", OrganizationInactive: "Inactive mailboxes",
	OrganizationUnconnected: "No mailboxes", OrganizationSuspended: "Suspended"}

// only is the address of the list with one group.
func (v Organizations) only(group string) string {
	v.Only = group
	return Pager{Path: "/partner/organizations", Query: v.Values()}.link(1)
}

// offered are the groups that have somebody, or are chosen.
func (v Organizations) offered() []string {
	list := []string{""}
	for _, group := range OrganizationNeeds {
		if v.Of[group] > 0 || v.Only == group {
			list = append(list, group)
		}
	}
	return list
}

// Values is the query of the list without its page.
func (v Organizations) Values() url.Values {
	q := url.Values{}
	if v.Search != "" {
		q.Set("q", v.Search)
	}
	if v.Sort != "" && (v.Sort != "name" || v.Desc) {
		q.Set("sort", v.Sort)
	}
	if v.Desc {
		q.Set("desc", "1")
	}
	if v.Only != "" {
		q.Set("only", v.Only)
	}
	return q
}

// order is what aria-sort says of a column.
func (v Organizations) order(column string) string {
	switch {
	case column != v.Sort:
		return "none"
	case v.Desc:
		return "descending"
	}
	return "ascending"
}

// sorted is the address of the list in the order of a column; a second time
// turns it around. All but names are of interest from the top.
func (v Organizations) sorted(column string) string {
	if v.Sort == column {
		v.Desc = !v.Desc
	} else {
		v.Sort, v.Desc = column, column != "name"
	}
	return Pager{Path: "/partner/organizations", Query: v.Values()}.link(1)
}

// NewOrganization is the form of a new organization and its first admin.
type NewOrganization struct {
	Name, AdminName, Email string
	Fields                 backup.FieldErrors
}

// Organization is an organization's details.
type Organization struct {
	Organization backup.Organization
	Counts       backup.StatusCounts
	LastRunAt    time.Time
	NextRunAt    time.Time
	Plan         backup.Schedule
	Proven       Proven
	Connections  []Connection
	Days         []backup.DayFigure
	MayAct       bool   // without asking first
	MayManage    bool   // people, and suspend
	Reason       string // as typed
	Fields       backup.FieldErrors
	Now          time.Time
}

// Features is what an organization can have switched on.
type Features struct {
	Organization backup.Organization
	MayChange    bool
}

// NewPerson is the form of a new person.
type NewPerson struct {
	Name, Email string
	Role        backup.Role
	Fields      backup.FieldErrors
}

func organizationPath(id backup.OrgID) string {
	return "/partner/organizations/" + url.PathEscape(string(id))
}

// Activity is one page of an activity log.
type Activity struct {
	Entries      []backup.Entry
	About        string
	Organization backup.OrgID // set if the partner looks at an organization's
	Page         Pager
	Path         string // of the page
	// The filter as it was filled in; days like 2026-11-23.
	Person, Kind, From, To string
	Fields                 backup.FieldErrors
}

// Query is the filter as the query of a link.
func (v Activity) Query() url.Values {
	return url.Values{"person": {v.Person}, "kind": {v.Kind}, "from": {v.From}, "to": {v.To}}
}

// filtered says whether the filter leaves something out.
func (v Activity) filtered() bool {
	return v.Person != "" || v.Kind != "" || v.From != "" || v.To != ""
}

// export is the address of the log as a file.
func (v Activity) export(format string) string {
	q := url.Values{"format": {format}}
	for name, value := range v.Query() {
		if value[0] != "" {
			q[name] = value
		}
	}
	return v.Path + "/export?" + q.Encode()
}

// activityKinds are the kinds that a filter offers, in order of their words.
var activityKinds = slices.SortedFunc(maps.Keys(activityNames), func(a, b string) int { return cmp.Compare(activityNames[a], activityNames[b]) })

// activityNames are the verbs of the log as sentences.
var activityNames = map[string]string{ //nolint:gosec // names of actions, one of which is about a password
	"sign_in": "Signed in", "sign_out": "Signed out",
	"organization.create": "Created the organization", "organization.rename": "Renamed the organization",
	"organization.manual_role": "Changed who makes the custom role", "person.create": "Added a person", "person.link": "Made a set-up link",
	"acting.ask": "Asked for leave to act", "acting.grant": "Granted acting for a day", "acting.decline": "Declined acting", "organization.acting": "Changed who may act for the organization",
	"acting.start": "Started acting for the organization", "acting.stop": "Stopped acting for the organization",
	"connection.revert": "Sent the connection back to the backup administrator", "administrator.show": "Saw the backup administrator's password",
	"key.rotate": "Began new keys of the repository", "key.rekey": "Began to move to new keys of the repository", "key.destroy": "Destroyed old keys of the repository", "upkeep.ask": "Asked for work on the repository",
	"connection.save": "Connected a provider", "imap.server": "Changed an IMAP server", "imap.accounts": "Added IMAP accounts", "imap.account": "Changed an IMAP account", "backup.add": "Added a backup", "backup.protect": "Protected new accounts by itself", "protection.save": "Changed the automatic protection", "protection.leave_out": "Left new accounts out of the backups",
	"restore.start": "Started a restore", "restore.cancel": "Cancelled a restore", "restore.retry": "Tried a restore again", "restore.end": "A restore ended",
	"restore.permission_given": "Gave the restore permission", "restore.permission_returned": "The restore permission was given back",
	"authorization.start": "Started an authorization", "authorization.abandon": "Gave up an authorization",
	"mailbox.deactivate": "Deactivated a mailbox", "mailbox.reactivate": "Reactivated a mailbox", "mailbox.back_up_now": "Started a backup",
	"mail.search": "Searched all mailboxes", "item.preview": "Looked at a message", "item.download": "Downloaded a message", "folder.download": "Downloaded a folder",
	"recovery.recipient": "Changed the offline recovery key",
	"export.start":       "Started an export", "export.done": "Finished an export", "export.failed": "An export failed", "export.cancel": "Cancelled an export",
	"export.delete": "Deleted an export", "export.download": "Downloaded an export",
	"permissions.check": "Checked the permissions", "permissions.proof": "Downloaded the proof of permissions", "certificate.change": "Changed a certificate by itself",
	"authorization.done": "Completed an authorization",
	"branding.save":      "Changed the branding",
	"retention.save":     "Changed the retention", "retention.expire": "Let snapshots expire", "hold.set": "Set a legal hold", "hold.lift": "Lifted the legal hold",
	"retention.mailbox": "Changed the retention of a mailbox", "hold.mailbox.set": "Set a legal hold on a mailbox", "hold.mailbox.lift": "Lifted the legal hold of a mailbox",
	"schedule.save": "Changed the schedule", "schedule.pause": "Paused automatic backups", "schedule.resume": "Resumed automatic backups",
	"erasure.ask": "Asked for the erasure of a mailbox", "erasure.stop": "Stopped the erasure of a mailbox: a legal hold", "erasure.done": "Erased a mailbox for good",
	"person.role": "Changed a role", "person.remove": "Removed a person", "person.factors_reset": "Removed second factors of somebody",
	"organization.delete_begin": "Began to delete an organization", "organization.delete": "An organization was deleted", "organization.delete_settle": "Removed by hand what a deletion left",
	"organization.suspend": "Suspended the organization", "organization.resume": "Resumed the organization",
	"role.made": "Made in Exchange Online", "authorization.cleaned": "Removed by hand what an authorization left",
	"role.check": "Checked the custom role", "sign_in.refused": "Sign-in refused", "refused": "Was refused", "token.refused": "API token was refused", "password.change": "Changed the password", "password.link": "Chose a password with a set-up link",
	"factor.totp_on": "Set up an authenticator app", "factor.totp_off": "Removed the authenticator app", "factor.recovery_codes": "Made recovery codes",
	"factor.passkey_on": "Added a passkey", "factor.passkey_off": "Removed a passkey", "organization.require_factor": "Changed the need of a second factor",
	"provider.add": "Added a sign-in provider", "provider.remove": "Removed a sign-in provider", "identity.add": "Connected a sign-in provider", "identity.remove": "Disconnected a sign-in provider",
	"session.confirm": "Confirmed who they are", "session.end": "Signed out another browser", "session.end_all": "Signed out all other browsers",
	"mail.save": "Changed the outgoing mail", "notifications.save": "Changed the notifications",
	"authorization.flow": "Chose who makes the custom role", "script.download": "Downloaded the PowerShell script", "activity.export": "Exported the activity",
	"token.create": "Made an API token", "token.revoke": "Revoked an API token",
}

// ActivityName is the kind of an entry as a sentence.
func ActivityName(kind string) string {
	if name, ok := activityNames[kind]; ok {
		return name
	}
	return kind
}
