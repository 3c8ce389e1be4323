package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// state is everything that survives a restart. Its types have exported fields
// because encoding/json writes them to Options.Dir.
type state struct {
	Offset   time.Duration // of the clock, see Advance
	Tenants  []*tenant
	Codes    map[string]*authCode      // authorization codes
	Refresh  map[string]*refreshToken  // refresh tokens
	Devices  map[string]*deviceCode    // by device code
	Sessions map[string]*signInSession // by cookie
	Keys     []*signingKey             // the last one signs
	Seen     map[string]time.Time      // jti of client assertions and when they end
	Dealt    int                       // messages of Options.Mail that mailboxes have got
}

// tenant is one Microsoft 365 tenant.
type tenant struct {
	ID          string
	Name        string
	Domain      string   // the initial one, ….onmicrosoft.com
	Domains     []string // all verified ones, the default first
	Country     string
	Created     time.Time
	Users       []*user // deleted ones too, until purged
	Apps        []*application
	Principals  []*principal
	Assignments []*assignment
	Grants      []*grant
	SKUs        []string // part numbers of what was bought, see skus
	Exchange    *exchange
	Settings    TenantSettings
	Seq         int64 // counts changes to users, for delta
	Reads       int64 // counts directory reads, to flap between replicas
}

// user is a person, guest or resource of a tenant.
type user struct {
	ID           string
	UPN          string
	Name         string
	GivenName    string
	Surname      string
	Mail         string // primary address, "" without one
	Password     string
	JobTitle     string
	Department   string
	Enabled      bool
	Guest        bool
	Kind         string   // user, shared, room or equipment
	Roles        []string // template ids of directory roles
	Licences     []string // part numbers, see skus
	PlanStatus   string   // capabilityStatus of the plans: Enabled, Warning, Suspended; "" is Enabled
	Created      time.Time
	DeletedAt    time.Time // zero if not deleted
	Purged       bool      // no longer among the deleted ones
	Changed      int64     // tenant.Seq of the last change
	ValidFrom    time.Time // tokens from before are revoked
	NoPowerShell bool      // EXOModuleEnabled is $false
	Mailbox      *mailbox  // nil if there never was one
	VisibleAt    time.Time // when other replicas have it; zero for those of the world
}

// application is an app registration.
type application struct {
	ID           string
	AppID        string
	Name         string
	Audience     string   // signInAudience
	RedirectURIs []string // web
	PublicURIs   []string // publicClient
	Public       bool     // isFallbackPublicClient
	Required     []requiredAccess
	Keys         []*keyCredential
	Passwords    []*passwordCredential
	Tags         []string
	Notes        string
	Owners       []string                   // object ids of users
	Extra        map[string]json.RawMessage // properties that are kept and given back as they came
	Created      time.Time
	DeletedAt    time.Time
	VisibleAt    time.Time // when other replicas have it
	PEM          string    // private key and certificate of a client of the world
}

// requiredAccess is an entry of requiredResourceAccess.
type requiredAccess struct {
	ResourceAppID string           `json:"resourceAppId"`
	Access        []resourceAccess `json:"resourceAccess"`
}

type resourceAccess struct {
	ID   string `json:"id"`
	Type string `json:"type"` // Scope or Role
}

// keyCredential is a certificate of an application.
type keyCredential struct {
	KeyID     string
	Name      string
	DER       []byte
	Start     time.Time
	End       time.Time
	VisibleAt time.Time
}

// passwordCredential is a client secret.
type passwordCredential struct {
	KeyID     string
	Name      string
	Secret    string
	Start     time.Time
	End       time.Time
	VisibleAt time.Time
}

// principal is a service principal: an application in a tenant.
type principal struct {
	ID        string
	AppID     string
	Name      string
	Owner     string // tenant of the registration
	Enabled   bool
	Tags      []string
	Extra     map[string]json.RawMessage
	Created   time.Time
	DeletedAt time.Time
	VisibleAt time.Time
}

// assignment grants an application permission: an app role assignment.
type assignment struct {
	ID          string
	RoleID      string
	PrincipalID string
	ResourceID  string
	Created     time.Time
	VisibleAt   time.Time
}

// grant is consent to delegated permissions: an oauth2PermissionGrant.
type grant struct {
	ID         string
	ClientID   string // principal
	ResourceID string // principal
	UserID     string // "" for the whole tenant
	Scopes     []string
	VisibleAt  time.Time
}

// tenantOf finds a tenant by id or verified domain, ignoring case.
func (s *Simulator) tenantOf(name string) *tenant {
	for _, t := range s.state.Tenants {
		if strings.EqualFold(t.ID, name) || slices.ContainsFunc(t.Domains, func(d string) bool { return strings.EqualFold(d, name) }) {
			return t
		}
	}
	return nil
}

// userOf finds a user who is not deleted by id or user principal name.
func (t *tenant) userOf(name string) *user {
	for _, u := range t.Users {
		if u.DeletedAt.IsZero() && (strings.EqualFold(u.ID, name) || strings.EqualFold(u.UPN, name)) {
			return u
		}
	}
	return nil
}

// hasRole says whether the person has one of the directory roles.
func (u *user) hasRole(templates ...string) bool {
	return slices.ContainsFunc(templates, func(r string) bool { return slices.Contains(u.Roles, r) })
}

// touch notes a change of a user for delta.
func (t *tenant) touch(u *user) {
	t.Seq++
	u.Changed = t.Seq
}

// person finds anybody of any tenant by user principal name.
func (s *Simulator) person(upn string) (*tenant, *user) {
	for _, t := range s.state.Tenants {
		if u := t.userOf(upn); u != nil && strings.EqualFold(u.UPN, upn) {
			return t, u
		}
	}
	return nil, nil
}

// stateFile is the name of the saved state in Options.Dir.
const stateFile = "state.json"

// load reads the saved state, or makes a new one from the world.
func (s *Simulator) load() error {
	if s.options.Dir != "" {
		data, err := os.ReadFile(s.file(stateFile))
		if err == nil {
			s.state = &state{}
			if err := json.Unmarshal(data, s.state); err != nil {
				return fmt.Errorf("state of the simulated Microsoft in %s is damaged; delete the file to start anew: %w", s.file(stateFile), err)
			}
			s.state.fill()
			return s.resume()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("state of the simulated Microsoft: %w", err)
		}
	}
	s.state = &state{}
	s.state.fill()
	s.dirty = true
	return s.build()
}

// fill makes the maps that JSON left nil.
func (st *state) fill() {
	if st.Codes == nil {
		st.Codes = map[string]*authCode{}
	}
	if st.Refresh == nil {
		st.Refresh = map[string]*refreshToken{}
	}
	if st.Devices == nil {
		st.Devices = map[string]*deviceCode{}
	}
	if st.Sessions == nil {
		st.Sessions = map[string]*signInSession{}
	}
	if st.Seen == nil {
		st.Seen = map[string]time.Time{}
	}
}

// save writes the state if it changed and there is a folder for it.
func (s *Simulator) save() error {
	if !s.dirty || s.options.Dir == "" {
		return nil
	}
	data, err := json.Marshal(s.state)
	if err != nil {
		return fmt.Errorf("state of the simulated Microsoft: %w", err)
	}
	if err := writeFile(s.options.Dir, stateFile, data); err != nil {
		return err
	}
	s.dirty = false
	return nil
}
