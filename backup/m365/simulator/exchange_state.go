package simulator

import (
	"slices"
	"strings"
	"time"
)

// exchange is the Exchange Online organization of a tenant: its role-based
// access control and how far its customisation is.
type exchange struct {
	Settings    ExchangeSettings
	Dehydrated  bool      // Enable-OrganizationCustomization was never run
	FlagAt      time.Time // when IsDehydrated becomes false after it
	ReadyAt     time.Time // when creates are accepted
	Roles       []*managementRole
	Groups      []*roleGroup
	Assignments []*roleAssignment
	Pointers    []*pointer
	Scopes      []*managementScope
}

// ExchangeSettings are switches of a tenant's Exchange Online. They can be
// changed later on the control path.
type ExchangeSettings struct {
	// HydrateFor is how long creates are refused after
	// Enable-OrganizationCustomization. IsDehydrated is false after three
	// quarters of it (auth.md 5.2: one timed case was 45 and 60 minutes).
	HydrateFor Duration `json:"hydrateFor,omitempty"`
	// ObjectDelay is how long a new object is unknown to other servers.
	ObjectDelay Duration `json:"objectDelay,omitempty"`
	// RoleDelay is how long a new role assignment or membership takes until
	// cmdlets are allowed by it. Tokens from before never have it.
	RoleDelay Duration `json:"roleDelay,omitempty"`
	// AccessDelay is the same for mailbox data (RBAC for Applications); 0 is
	// 30 minutes.
	AccessDelay Duration `json:"accessDelay,omitempty"`
	// FindAll lets Get- cmdlets answer with all objects when they do not know
	// the Identity, as Microsoft's pages warn, instead of an error.
	FindAll bool `json:"findAll,omitempty"`
	// NoDelegation keeps Global Administrators, who are in Organization
	// Management only by their directory role, from assigning roles (auth.md 5.6).
	NoDelegation bool `json:"noDelegation,omitempty"`
	// Details is the shape of error.details[].message: pipe (code|type|text),
	// object (JSON in a string), or "" for both, by kind of error.
	Details string `json:"details,omitempty"`
}

// WorldExchange says how a tenant's Exchange Online starts.
type WorldExchange struct {
	Dehydrated bool `json:"dehydrated,omitempty"` // Enable-OrganizationCustomization was never run
	ExchangeSettings
}

// dehydrated is an organization that was never customised.
func dehydrated() *WorldExchange {
	return &WorldExchange{Dehydrated: true, ExchangeSettings: ExchangeSettings{HydrateFor: Duration(2 * time.Minute)}}
}

// managementRole is a management role: a list of cmdlets. Built-in ones are not
// part of the state.
type managementRole struct {
	Guid        string
	Name        string
	Parent      string // name of the role it was cut down from, "" for built-in ones
	Description string
	Cmdlets     []string
	App         bool // a role of RBAC for Applications: permissions instead of cmdlets
	EndUser     bool
	Created     time.Time
	VisibleAt   time.Time
}

// roleGroup is a role group.
type roleGroup struct {
	Guid        string
	Name        string
	DisplayName string
	Description string
	ManagedBy   []string
	BuiltIn     bool
	Members     []*roleMember
	Created     time.Time
	VisibleAt   time.Time
}

// roleMember is a member of a role group: a person or a service principal, by
// its object id in Entra.
type roleMember struct {
	ObjectID string
	Created  time.Time
}

// roleAssignment gives a role to a role group, a person or an application.
type roleAssignment struct {
	Guid       string
	Name       string
	Role       string // name
	Group      string // Guid of the role group
	User       string // object id
	App        string // object id of the service principal
	Scope      string // name of the management scope, for an application
	Delegating bool
	Created    time.Time
	VisibleAt  time.Time
}

// pointer is Exchange's own object for a service principal of Entra.
type pointer struct {
	Guid      string
	AppID     string
	ObjectID  string // of the service principal in Entra
	Name      string // DisplayName, may be ""
	Created   time.Time
	VisibleAt time.Time
}

// managementScope limits a role assignment to some mailboxes.
type managementScope struct {
	Guid      string
	Name      string
	Filter    string // RecipientRestrictionFilter
	Created   time.Time
	VisibleAt time.Time
}

// seedExchange makes the organization of a new tenant from the world file; w
// may be nil. A tenant without a plan of Exchange has none.
func (s *Simulator) seedExchange(t *tenant, w *WorldExchange) error {
	if !t.hasExchange() {
		return nil
	}
	x := &exchange{}
	if w != nil {
		x.Dehydrated, x.Settings = w.Dehydrated, w.ExchangeSettings
	}
	for _, b := range builtinGroups {
		g := &roleGroup{Guid: stableGUID("role group", t.ID, b.name), Name: b.name, DisplayName: b.name, BuiltIn: true, Created: t.Created, VisibleAt: t.Created}
		x.Groups = append(x.Groups, g)
		for _, role := range builtinRoles {
			if b.has(role) {
				x.Assignments = append(x.Assignments, &roleAssignment{Guid: stableGUID("assignment", g.Guid, role.Name), Name: role.Name + "-" + b.name, Role: role.Name, Group: g.Guid, Created: t.Created, VisibleAt: t.Created})
			}
			if b.delegates && !role.EndUser {
				x.Assignments = append(x.Assignments, &roleAssignment{Guid: stableGUID("delegating", g.Guid, role.Name), Name: role.Name + "-" + b.name + "-Delegating", Role: role.Name, Group: g.Guid, Delegating: true, Created: t.Created, VisibleAt: t.Created})
			}
		}
	}
	t.Exchange = x
	return nil
}

// named says whether an identity is one of an object's names, ignoring case.
func named(identity string, names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return n != "" && strings.EqualFold(n, identity) })
}

// role finds a management role that every server knows, built-in or not.
func (x *exchange) role(name string, now time.Time) *managementRole {
	for _, r := range x.allRoles(now) {
		if named(name, r.Name, r.Guid) {
			return r
		}
	}
	return nil
}

// allRoles are the built-in roles and the organization's own.
func (x *exchange) allRoles(now time.Time) []*managementRole {
	list := slices.Clone(builtinRoles)
	for _, r := range x.Roles {
		if !r.VisibleAt.After(now) {
			list = append(list, r)
		}
	}
	return list
}

// group finds a role group that every server knows.
func (x *exchange) group(name string, now time.Time) *roleGroup {
	for _, g := range x.Groups {
		if named(name, g.Name, g.Guid) && !g.VisibleAt.After(now) {
			return g
		}
	}
	return nil
}

// pointer finds a service principal that every server knows by the names that
// Get-ServicePrincipal documents.
func (x *exchange) pointer(name string, now time.Time) *pointer {
	for _, p := range x.Pointers {
		if named(name, p.Guid, p.AppID, p.ObjectID, p.Name) && !p.VisibleAt.After(now) {
			return p
		}
	}
	return nil
}

func (x *exchange) scope(name string, now time.Time) *managementScope {
	for _, sc := range x.Scopes {
		if named(name, sc.Name, sc.Guid) && !sc.VisibleAt.After(now) {
			return sc
		}
	}
	return nil
}

// rolesOf are the roles assigned to a group, delegating ones apart.
func (x *exchange) rolesOf(g *roleGroup, delegating bool, now time.Time) []string {
	var names []string
	for _, a := range x.Assignments {
		if a.Group == g.Guid && a.Delegating == delegating && !a.VisibleAt.After(now) {
			names = append(names, a.Role)
		}
	}
	return names
}

// principalDeleted removes the Exchange pointer of a deleted service principal
// and what was assigned to it. assumed: pointer-goes
func (s *Simulator) principalDeleted(t *tenant, p *principal) {
	if t.Exchange != nil {
		t.Exchange.forget(p.ID)
	}
}

// forget removes a pointer, its memberships and its assignments.
func (x *exchange) forget(objectID string) {
	x.Pointers = slices.DeleteFunc(x.Pointers, func(p *pointer) bool { return p.ObjectID == objectID })
	x.Assignments = slices.DeleteFunc(x.Assignments, func(a *roleAssignment) bool { return a.App == objectID })
	for _, g := range x.Groups {
		g.Members = slices.DeleteFunc(g.Members, func(m *roleMember) bool { return m.ObjectID == objectID })
	}
}
