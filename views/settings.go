package views

import (
	"time"

	"holdfast/backup"
)

// Settings is the form of the general settings.
type Settings struct {
	Name      string
	Fields    backup.FieldErrors
	MayChange bool
}

// Connection is a connection with what belongs to it.
type Connection struct {
	backup.Connection
	Applications []backup.SubApplication
	Role         backup.CustomRole // zero if there is none
	Permissions  []backup.Permission
}

// Credentials is how an organization is connected.
type Credentials struct {
	Connections []Connection
	MayChange   bool
	Now         time.Time
}

func methodName(m backup.Method) string {
	switch m {
	case backup.MethodServicePrincipal:
		return "Service Principal Authentication (least privilege)"
	case backup.MethodBackupAdministrator:
		return "Backup administrator (legacy)"
	}
	return string(m)
}

func methodShort(m backup.Method) string {
	if m == backup.MethodServicePrincipal {
		return "connected by service principal"
	}
	return "connected by backup administrator"
}

func providerName(p backup.Provider) string {
	switch p {
	case backup.ProviderMicrosoft365:
		return "Microsoft 365"
	case backup.ProviderGoogle:
		return "Google"
	case backup.ProviderIMAP:
		return "IMAP"
	}
	return string(p)
}

// roleWaits says whether the custom role is there but not connected.
func (c Connection) roleWaits() bool {
	return c.Role.ID != "" && c.Role.State != backup.RoleConnected
}

func roleTone(s backup.RoleState) string {
	switch s {
	case backup.RoleConnected:
		return "protected"
	case backup.RolePending:
		return "pending"
	}
	return "failing"
}

// roleLine is the state of the custom role with the next try.
func roleLine(r backup.CustomRole, now time.Time) string {
	switch r.State {
	case backup.RoleConnected:
		return "Connected"
	case backup.RolePending:
		if !r.NextTryAt.IsZero() {
			return "Pending, next try " + in(r.NextTryAt, now)
		}
		return "Pending"
	}
	return "Disconnected"
}

// applicationState is how a sub-application stands once it is set up.
func applicationState(a backup.SubApplication) string {
	if !a.Problem.IsZero() {
		return "Not working"
	}
	if a.State == backup.ApplicationReady {
		return "Working"
	}
	return applicationProgress(a)
}
