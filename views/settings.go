package views

import (
	"time"

	"holdfast/backup"
)

// Settings is the form of the general settings.
type Settings struct {
	Requests   []backup.ActingRequest // to act for the organization, the newest first
	Now        time.Time
	Name       string
	Protection backup.Protection
	Fields     backup.FieldErrors
	MayChange  bool
}

// protectionName is a rule of automatic protection in the words of its page.
func protectionName(p backup.Protection) string {
	switch p {
	case backup.ProtectUsers:
		return "Users with a mailbox"
	case backup.ProtectAll:
		return "Users, shared mailboxes, rooms and equipment"
	}
	return "None: our admins choose"
}

// Connection is a connection with what belongs to it.
type Connection struct {
	backup.Connection
	Applications []backup.SubApplication
	Role         backup.CustomRole // zero if there is none
	Permissions  []backup.Permission
	Check        backup.PermissionCheck // zero before the first one
	IMAP         backup.IMAPServer      // of an IMAP server, where its settings are shown
}

// Credentials is how an organization is connected.
type Credentials struct {
	Connections []Connection
	Left        []LeftBehind // what a person has to delete by hand
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
	return "IMAP server"
}

func methodShort(m backup.Method) string {
	switch m {
	case backup.MethodServicePrincipal:
		return "connected by service principal"
	case backup.MethodBackupAdministrator:
		return "connected by backup administrator"
	}
	return "IMAP server"
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

// roleAsks says whether a person has to see to the custom role: it was
// disconnected, or is pending and no administrator's token serves the tries.
func roleAsks(r backup.CustomRole) bool {
	return r.State == backup.RoleDisconnected || r.State == backup.RolePending && len(r.Token) == 0 && len(r.RefreshToken) == 0
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

// Broken returns the applications that have to be repaired, each with what is
// wrong as its Problem.
func Broken(apps []backup.SubApplication, now time.Time) []backup.SubApplication {
	var list []backup.SubApplication
	for _, a := range apps {
		if p := a.Trouble(now); !p.IsZero() {
			a.Problem = p
			list = append(list, a)
		}
	}
	return list
}

// hasExchange says whether the connection has the application that holds the
// custom role.
func (c Connection) hasExchange() bool {
	for _, a := range c.Applications {
		if a.Workload == backup.WorkloadExchange && a.State != backup.ApplicationRemoved {
			return true
		}
	}
	return false
}

// repairNote says what a repair takes.
func (c Connection) repairNote(now time.Time) string {
	text := "An administrator of the tenant signs in at Microsoft once. "
	if len(Broken(c.Applications, now)) < len(c.Applications) {
		text += "The other applications are not touched, and backups go on."
	} else {
		text += "Backups go on as soon as it is done."
	}
	for _, a := range Broken(c.Applications, now) {
		if a.Workload == backup.WorkloadExchange && a.Problem.Kind == backup.ProblemApplicationGone {
			text += " The custom role is then given to the new Exchange application, which takes a second authorization."
		}
	}
	return text
}

// needsConsent says whether the main application's consent seems to be gone.
func (c Connection) needsConsent() bool {
	if p := c.Check.MainApplication().Problem; p != nil && p.Kind == backup.ProblemConsentMissing {
		return true
	}
	for _, kind := range []backup.ProblemKind{c.Problem.Kind, c.Role.Problem.Kind} {
		if kind == backup.ProblemConsentMissing || kind == backup.ProblemSignInExpired {
			return true
		}
	}
	return false
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

// actingState is what became of a request to act.
func actingState(r backup.ActingRequest, now time.Time) string {
	switch {
	case r.Answer == "":
		return "Waits for an admin of your organization."
	case r.Answer == backup.ActingDeclined:
		return "Declined by " + r.AnsweredBy + "."
	case r.Until.After(now):
		return "Granted by " + r.AnsweredBy + ", until " + r.Until.UTC().Format("2 Jan 15:04 MST") + "."
	}
	return "Granted by " + r.AnsweredBy + "; over since " + r.Until.UTC().Format("2 Jan 15:04 MST") + "."
}
