package views

import (
	"net/url"
	"time"

	"holdfast/backup"
	"holdfast/views/ui"
)

// People is who belongs to an organization or to the partner.
type People struct {
	Path         string        // of the page
	Organization backup.OrgID  // set if the partner looks at an organization's
	Members      []Member      // in order of their names
	Roles        []backup.Role // that can be given
	MayManage    bool
	Link         string // a one-time link to show now, "" if none
	LinkFor      string // whose it is
	New          NewPerson
	Now          time.Time
}

// Member is a person of an organization or of the partner.
type Member struct {
	backup.Person
	Role       backup.Role
	SignedInAt time.Time
	Invited    bool // and has not accepted yet
}

// OnePerson is what can be changed about one of them.
type OnePerson struct {
	Path         string // of the page of all
	Organization backup.OrgID
	Member       Member
	Roles        []backup.Role
	Self         bool
	Reason       string // as typed
	Fields       backup.FieldErrors
	Now          time.Time
}

func (v OnePerson) path(action string) string {
	return v.Path + "/" + url.PathEscape(string(v.Member.ID)) + action
}

// Suspend asks why an organization is suspended.
type Suspend struct {
	Organization backup.Organization
	Reason       string
	Fields       backup.FieldErrors
}

// Forgot is the form on which somebody asks for a new password.
type Forgot struct {
	Email     string
	Asked     bool // the answer, the same for everybody
	Available bool // e-mail can be sent
	Fields    backup.FieldErrors
}

func roleNote(r backup.Role) string {
	switch r {
	case backup.RoleOwner:
		return "Everything, also people, settings, tokens and sign-in providers"
	case backup.RoleSupport:
		return "Sees every organization and acts for it, on record; no settings"
	case backup.RoleAdmin:
		return "Adds backups, browses and restores mail, changes settings"
	case backup.RoleViewer:
		return "Looks at everything but messages, and changes nothing"
	}
	return ""
}

func accountState(p Member) string {
	if p.Invited {
		return "Invited"
	}
	return "Active"
}

func factorState(p backup.Person) string {
	if p.Factors == 0 {
		return "None"
	}
	return plural(p.Factors, "second factor", "second factors")
}

// chart is the protected data and the failures of each day.
func (v Organization) chart() []ui.Day {
	list := make([]ui.Day, len(v.Days))
	for i, d := range v.Days {
		list[i] = ui.Day{Name: d.Day.UTC().Format("Mon 2 Jan"), Value: d.ReadBytes, Texts: []string{thousands(d.NewItems), bytesText(d.ReadBytes), thousands(d.FailedRuns)}}
	}
	return list
}

// failures is the chart of the failed runs of each day.
func (v Organization) failures() []ui.Day {
	list := make([]ui.Day, len(v.Days))
	for i, d := range v.Days {
		list[i] = ui.Day{Name: d.Day.UTC().Format("Mon 2 Jan"), Value: d.FailedRuns, Texts: []string{thousands(d.FailedRuns)}}
	}
	return list
}

// sums are the charts in words.
func (v Organization) sums() (data, failed string) {
	var items, size, runs int64
	for _, d := range v.Days {
		items, size, runs = items+d.NewItems, size+d.ReadBytes, runs+d.FailedRuns
	}
	return plural(items, "new message", "new messages") + ", " + bytesText(size), plural(runs, "failed run", "failed runs")
}
