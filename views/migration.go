package views

import (
	"time"

	"holdfast/backup"
)

// Migration is what the pages of the migration show of one connection.
type Migration struct {
	Connection     backup.Connection
	Administrators []string // who may sign in, by what Holdfast knows
	Chosen, Other  string   // what was chosen in the form
	Fields         backup.FieldErrors
	Manual         bool // the custom role is made by a script
	MayChange      bool
	Accounts       []backup.Mailbox
	More           int // accounts that are not listed
	Role           backup.CustomRole
	Now            time.Time
}

// oldGrants are the permissions of the main application that go with the
// backup administrator.
func oldGrants() []backup.Permission { return backup.MainPermissions() }

func connectionPath(c backup.Connection, rest string) string {
	return "/settings/credentials/" + string(c.ID) + rest
}

// otherAdministrator is the value of the form's last choice.
const otherAdministrator = "other"

// OtherAdministrator is what the form sends if the administrator is not in its list.
const OtherAdministrator = otherAdministrator
