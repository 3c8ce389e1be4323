// Package views draws the pages. Components take values ready to show: no
// store, no rule, no inline script or style.
package views

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views/ui"
)

// Frame is what every page has around its own content.
type Frame struct {
	Title   string
	Path    string       // of the request, for the menu
	Actor   backup.Actor // zero if nobody is signed in
	Flash   string       // what the last action did, shown once
	Warning string       // why it was not done, shown once
	Now     time.Time

	Legacy   bool // a connection of the organization works by the backup administrator
	Reverted bool // and waits for its authorization
}

// ShowsMigration says whether the page has the banner that leads to the
// migration: every page of an organization but those of the migration itself.
func (f Frame) ShowsMigration() bool {
	return f.SignedIn() && !f.inPartner() && !strings.HasPrefix(f.Path, "/setup") && !strings.HasPrefix(f.Path, "/migration") && !strings.HasPrefix(f.Path, "/account")
}

// asksToAct says whether the reader is to answer a request to act.
func (f Frame) asksToAct() bool {
	return !f.inPartner() && f.Actor.Acting.ID == "" && f.Actor.OrgRole() == backup.RoleAdmin && f.Actor.Org.ActingAsked > 0 && f.Path != "/settings"
}

// SignedIn says whether there is a person to show the frame to.
func (f Frame) SignedIn() bool { return f.Actor.Person.ID != "" }

// inPartner says that the page belongs to the Partner Portal, also while its
// reader acts for an organization.
func (f Frame) inPartner() bool {
	return f.Actor.Org.ID == "" || strings.HasPrefix(f.Path, "/partner/")
}

// minutesLeft is how long the acting still lasts, rounded up.
func (f Frame) minutesLeft() int {
	left := f.Actor.Acting.EndsAt.Sub(f.Now)
	return max(int((left+time.Minute-1)/time.Minute), 0)
}

// menuItem is a link of the menu.
type menuItem struct {
	Path, Name, Icon string
	also             []string // other paths below which it is current
}

func (f Frame) menu() []menuItem {
	if f.inPartner() {
		items := []menuItem{
			{Path: "/partner/organizations", Name: "Organizations", Icon: "building"},
			{Path: "/partner/support", Name: "Support", Icon: "alert"},
			{Path: "/partner/activity", Name: "Activity", Icon: "history"},
			{Path: "/partner/staff", Name: "Staff", Icon: "users"},
		}
		if f.Actor.Role == backup.RoleOwner {
			items = append(items, menuItem{Path: "/partner/sign-in", Name: "Sign-in providers", Icon: "log-in"}, menuItem{Path: "/partner/tokens", Name: "API tokens", Icon: "key"},
				menuItem{Path: "/partner/settings", Name: "Settings", Icon: "settings"})
		}
		return items
	}
	return []menuItem{
		{Path: "/dashboard", Name: "Dashboard", Icon: "dashboard", also: []string{"/add-backup", "/setup", "/mailboxes", "/migration"}},
		{Path: "/browse", Name: "Browse & Restore", Icon: "folder", also: []string{"/search", "/restores", "/exports"}},
		{Path: "/status", Name: "System Status", Icon: "activity"},
		{Path: "/activity", Name: "Activity", Icon: "history"},
		{Path: "/settings", Name: "Account Settings", Icon: "settings", also: []string{"/erasures"}},
	}
}

// current says whether the reader is at or below a menu item.
func (f Frame) current(m menuItem) bool {
	for _, p := range append(m.also, m.Path) {
		if f.Path == p || strings.HasPrefix(f.Path, p+"/") {
			return true
		}
	}
	return false
}

// roleName is a role in words.
func roleName(r backup.Role) string {
	switch r {
	case backup.RoleOwner:
		return "Partner owner"
	case backup.RoleSupport:
		return "Partner support"
	case backup.RoleAdmin:
		return "Admin"
	case backup.RoleViewer:
		return "Viewer"
	}
	return ""
}

func thousands(n int64) string { return ui.Thousands(n) }

func bytesText(n int64) string { return ui.Bytes(n) }

func plural[T int | int64](n T, one, many string) string { return ui.Plural(n, one, many) }

// ago says how long before now t was.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "Never"
	}
	d := now.Sub(t)
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min ago"
	case d < 24*time.Hour:
		return plural(int(d.Hours()), "hour", "hours") + " ago"
	case d < 14*24*time.Hour:
		return plural(int(d.Hours()/24), "day", "days") + " ago"
	}
	return t.UTC().Format("2 Jan 2006")
}

// in says how long after now t is.
func in(t, now time.Time) string {
	d := t.Sub(now)
	switch {
	case t.IsZero():
		return "not planned"
	case d < time.Minute:
		return "within a minute"
	case d < time.Hour:
		return "in " + strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return "in " + plural(int(d.Hours()), "hour", "hours")
	}
	return "on " + t.UTC().Format("2 Jan 2006")
}

// shortAddress is a web address as a person would say it.
func shortAddress(s string) string {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimSuffix(s, "/")
}

// iso is a time as browsers read it.
func iso(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func escapeQuery(s string) string { return url.QueryEscape(s) }
