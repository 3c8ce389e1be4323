package backup

import "time"

// Flow says who makes the custom role.
type Flow string

// The flows.
const (
	FlowAutomated Flow = "automated" // Holdfast runs the cmdlets with the administrator's token
	FlowManual    Flow = "manual"    // the administrator runs a script
)

// Authorization is the wizard that makes or changes a connection: a state
// machine over this row, whose steps are in StepsOf. Its steps are in handlers (what a person does) and jobs (what
// runs in the background); both change it only through the store, which
// compares Version, so that two browsers can't both move it.
type Authorization struct {
	ID           AuthorizationID
	OrgID        OrgID
	ConnectionID ConnectionID // made when the tenant is known, "" before
	StartedBy    PersonID
	Provider     Provider
	Purpose      Purpose
	Method       Method     // the method that the connection has when this is done
	Flow         Flow       // fixed at the start; the toggle applies from the next one on
	Workloads    []Workload // what is made, repaired or removed
	Step         Step
	FailedFrom   Step    // with StepFailed: the step to go back to
	Problem      Problem // what went wrong last; may be set at any step
	Version      int64   // counts changes
	MovedBy      string  // name of the person who took the last step, "" before the first

	// The sign-in under way at Microsoft, bound to the browser that left for it.
	SignIn SignInAttempt

	// Who consented, from the validated ID token.
	TenantID     string
	TenantName   string
	TenantDomain string
	AdminID      string // oid
	AdminUPN     string

	// SetupToken is the administrator's Graph token for making applications;
	// sealed, and erased as soon as that step is done or given up.
	SetupToken          Secret
	SetupTokenExpiresAt time.Time

	Device DeviceAttempt

	// RoleToken and RoleRefreshToken are the administrator's Exchange tokens,
	// sealed; handed to the custom role and erased here when verify begins.
	RoleToken          Secret
	RoleTokenExpiresAt time.Time
	RoleRefreshToken   Secret
	RoleAdminUPN       string
	// Attested says, in the manual flow, that a person has seen the script end
	// well: a role that Exchange does not show yet is then waited for.
	Attested bool

	CreatedAt time.Time
	UpdatedAt time.Time
}

// SignInAttempt is one redirect to Microsoft and what must come back with it.
type SignInAttempt struct {
	Purpose  SignInPurpose
	Session  SessionID // only this session may come back
	State    string    // random; echoed by Microsoft
	Nonce    Secret    // in the ID token
	Verifier Secret    // PKCE
	At       time.Time
}

// SignInPurpose says what the sign-in is for.
type SignInPurpose string

// The purposes.
const (
	SignInConsent       SignInPurpose = "consent"       // Graph: make the applications
	SignInAdministrator SignInPurpose = "administrator" // Graph: make or remove the backup administrator
	SignInRestore       SignInPurpose = "restore"       // Graph: make the restore application, and remove it when the restores are through
	SignInRole          SignInPurpose = "role"          // Exchange: run the cmdlets in this browser
)

// DeviceAttempt is a device code shown to the browser that asked for it.
type DeviceAttempt struct {
	Session         SessionID // only this session sees the code
	UserCode        string
	DeviceCode      Secret
	VerificationURI string
	Interval        time.Duration // least pause between two questions to Microsoft
	ExpiresAt       time.Time
	PolledAt        time.Time
	AuthorizedAt    time.Time // when Microsoft issued the token, zero before
}

// RoleState is the status of an Exchange custom role.
type RoleState string

// The states, named as on the page.
const (
	RolePending      RoleState = "pending"
	RoleConnected    RoleState = "connected"
	RoleDisconnected RoleState = "disconnected"
)

// CustomRole is the Exchange role group of a connection and how it stands.
type CustomRole struct {
	ID           CustomRoleID
	OrgID        OrgID
	ConnectionID ConnectionID
	State        RoleState
	Problem      Problem // why it is pending or disconnected
	// Token and RefreshToken serve the retries while the role is pending;
	// sealed, and erased the moment it is connected or given up.
	Token          Secret
	TokenExpiresAt time.Time
	RefreshToken   Secret
	AdminUPN       string
	Tries          int
	PendingSince   time.Time
	NextTryAt      time.Time // zero if no try is planned
	CheckedAt      time.Time
	ConnectedAt    time.Time
}

// RoleGiveUp is how long a custom role may stay pending (Microsoft: up to 3 days)
// before the administrator's token is given up and people are told. After it,
// Holdfast goes on looking, as its own application.
const RoleGiveUp = 72 * time.Hour

// RoleCheckEvery is the pause between two looks at a role for which nothing else
// is planned: one that is connected, disconnected or pending for long.
const RoleCheckEvery = 24 * time.Hour

// NextRoleTry returns when to try a pending role again, tries having been made
// since pendingSince: 1, 2, 5, 10, 20 minutes, then half-hourly for 6 hours,
// then two-hourly, and daily after RoleGiveUp.
func NextRoleTry(pendingSince, now time.Time, tries int) time.Time {
	first := []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute}
	pause := 2 * time.Hour
	switch {
	case tries < len(first):
		pause = first[max(tries, 0)]
	case now.Sub(pendingSince) < 6*time.Hour:
		pause = 30 * time.Minute
	}
	if now.Add(pause).Sub(pendingSince) > RoleGiveUp {
		pause = RoleCheckEvery
	}
	return now.Add(pause)
}
