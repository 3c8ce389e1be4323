package simulator

import "time"

// Application ids of first-party resources (auth.md, constants).
const (
	graphAppID      = "00000003-0000-0000-c000-000000000000"
	exchangeAppID   = "00000002-0000-0ff1-ce00-000000000000"
	sharePointAppID = "00000003-0000-0ff1-ce00-000000000000"
)

// Role templates of the directory (auth.md, constants).
const (
	globalAdministrator           = "62e90394-69f5-4237-9190-012177145e10"
	privilegedRoleAdministrator   = "e8611ab8-c189-46e8-94e1-60213ab1f814"
	applicationAdministrator      = "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3"
	cloudApplicationAdministrator = "158c047a-c907-4556-b7ef-446551a6b5f7"
	exchangeAdministrator         = "29232cdf-9323-42fd-ade2-1d097af3e4de"
	complianceAdministrator       = "17315797-102d-40b4-93e0-432062caca18"
)

// authCode is an authorization code: once, ten minutes (auth.md 1.2).
type authCode struct {
	Tenant      string
	AppID       string
	UserID      string
	RedirectURI string
	Scopes      []string
	Nonce       string
	Challenge   string
	Method      string
	IssuedAt    time.Time
	Used        bool
}

// refreshToken is bound to user and client (auth.md 1.8).
type refreshToken struct {
	Tenant   string
	AppID    string
	UserID   string
	Scopes   []string // as consented at issue
	Public   bool     // issued to a public client without a credential
	Device   bool     // came from a device code
	IssuedAt time.Time
	UsedAt   time.Time
}

// deviceCode is a device authorization under way (auth.md 1.4).
type deviceCode struct {
	UserCode   string
	Tenant     string // segment of the start: organizations or an id
	AppID      string
	Scopes     []string
	IssuedAt   time.Time
	PolledAt   time.Time
	UserID     string // who approved
	UserTenant string
	Declined   bool
	Blocked    bool // conditional access: 53003
	Used       bool
}

// signInSession is a browser's accounts at the simulated pages.
type signInSession struct {
	Accounts []account // the last used one first
	At       time.Time
}

type account struct{ Tenant, User string }
