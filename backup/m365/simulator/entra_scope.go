package simulator

import (
	"slices"
	"strings"
)

// wanted is what a scope parameter asks for.
type wanted struct {
	resource *resource
	scopes   []string // of the resource
	all      bool     // …/.default
	openid   []string // openid, profile, email, offline_access
	long     bool     // scopes were written with the resource in front
	more     []wanted // scopes of further resources; only /authorize takes them
}

var openidScopes = []string{"openid", "profile", "email", "offline_access"}

// parseScope reads a scope parameter. Names without a resource are Graph's.
func (s *Simulator) parseScope(scope string) (wanted, *aadProblem) {
	var parts []wanted
	var w wanted
	for _, name := range strings.Fields(scope) {
		if slices.Contains(openidScopes, strings.ToLower(name)) {
			w.openid = append(w.openid, strings.ToLower(name))
			continue
		}
		res, short, long := s.splitScope(name)
		if res == nil {
			return w, aad(500011, "", "{resource}", strings.TrimSuffix(strings.TrimSuffix(name, short), "/"))
		}
		i := slices.IndexFunc(parts, func(p wanted) bool { return p.resource == res })
		if i < 0 {
			parts = append(parts, wanted{resource: res})
			i = len(parts) - 1
		}
		p := &parts[i]
		p.long = p.long || long
		known := res.scope(short)
		switch {
		case short == ".default":
			p.all = true
		case known == nil:
			// assumed: unknown-scope
			return w, aad(650053, "", "{scope}", short, "{resource}", res.AppID)
		default:
			p.scopes = append(p.scopes, known.Name)
		}
		if p.all && len(p.scopes) > 0 {
			return w, aad(70011, ".default scope can't be combined with resource-specific scopes. The scope {scope} is not valid.", "{scope}", scope)
		}
	}
	if len(parts) > 0 {
		first := parts[0]
		first.openid, first.more = w.openid, parts[1:]
		return first, nil
	}
	w.resource = s.resourceOf(graphAppID)
	return w, nil
}

// splitScope cuts https://graph.microsoft.com/Mail.Read into the resource and
// the short name.
func (s *Simulator) splitScope(name string) (res *resource, short string, long bool) {
	i := strings.LastIndex(name, "/")
	if i < 0 {
		return s.resourceOf(graphAppID), name, false
	}
	uri := name[:i]
	if res := s.resourceOf(uri); res != nil {
		return res, name[i+1:], true
	}
	return s.resourceOf(strings.TrimSuffix(uri, "/")), name[i+1:], true
}

// parts returns the wanted scopes per resource.
func (w wanted) parts() []wanted {
	first := w
	first.more = nil
	return append([]wanted{first}, w.more...)
}

// missing lists, per resource, what the person has not consented to.
// OpenID's own scopes count as Graph's, as Entra stores them.
func (s *Simulator) missing(t *tenant, u *user, a *application, want wanted) []wanted {
	var list []wanted
	client := t.principalOf(a.AppID)
	add := func(res *resource, names []string) {
		granted := s.granted(t, client, res, u)
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(granted, n) })
		if len(names) == 0 {
			return
		}
		for i := range list {
			if list[i].resource == res {
				list[i].scopes = append(list[i].scopes, names...)
				return
			}
		}
		list = append(list, wanted{resource: res, scopes: names})
	}
	for _, p := range want.parts() {
		names := p.scopes
		if p.all && len(s.granted(t, client, p.resource, u)) == 0 {
			names = a.requiredScopes(p.resource)
		}
		add(p.resource, names)
	}
	add(s.resourceOf(graphAppID), want.openid)
	return list
}

// granted lists the delegated scopes that the person, or the tenant for all,
// has granted the client on a resource.
func (s *Simulator) granted(t *tenant, client *principal, res *resource, u *user) []string {
	rp := t.principalOf(res.AppID)
	if client == nil || rp == nil {
		return nil
	}
	var names []string
	for _, g := range t.Grants {
		if g.ClientID == client.ID && g.ResourceID == rp.ID && (g.UserID == "" || u != nil && g.UserID == u.ID) {
			for _, n := range g.Scopes {
				if !slices.Contains(names, n) {
					names = append(names, n)
				}
			}
		}
	}
	return names
}

// requiredScopes are the delegated permissions that the registration lists for
// a resource.
func (a *application) requiredScopes(res *resource) []string {
	var names []string
	for _, req := range a.Required {
		if !strings.EqualFold(req.ResourceAppID, res.AppID) {
			continue
		}
		for _, x := range req.Access {
			if sc := res.scopeByID(x.ID); sc != nil && x.Type == "Scope" {
				names = append(names, sc.Name)
			}
		}
	}
	return names
}

// userConsentable are the scopes a person without a role may consent to. Since
// 2025 that is little more than the own profile (auth.md, section 8).
// assumed: user-consent
var userConsentable = []string{"openid", "profile", "email", "offline_access", "User.Read"}

// mayConsent says whether the person may grant the delegated scopes: roles of
// auth.md 1.5.
func mayConsent(u *user, list []wanted) bool {
	if u.hasRole(globalAdministrator, privilegedRoleAdministrator, applicationAdministrator, cloudApplicationAdministrator) {
		return true
	}
	for _, w := range list {
		for _, n := range w.scopes {
			if !slices.Contains(userConsentable, n) {
				return false
			}
		}
	}
	return true
}

// consent records that the person, or with u nil the whole tenant, granted the
// scopes, and makes the client's service principal if it is new.
func (s *Simulator) consent(t *tenant, u *user, home *tenant, a *application, list []wanted) {
	client := s.install(t, home, a)
	userID := ""
	if u != nil {
		userID = u.ID
	}
	for _, w := range list {
		rp := t.principalOf(w.resource.AppID)
		if rp == nil {
			continue
		}
		g := t.grantOf(client.ID, rp.ID, userID)
		if g == nil {
			g = &grant{ID: newGUID(), ClientID: client.ID, ResourceID: rp.ID, UserID: userID, VisibleAt: s.now()}
			t.Grants = append(t.Grants, g)
		}
		for _, n := range w.scopes {
			if !slices.Contains(g.Scopes, n) {
				g.Scopes = append(g.Scopes, n)
			}
		}
	}
	s.changed()
}

func (t *tenant) grantOf(client, resource, user string) *grant {
	for _, g := range t.Grants {
		if g.ClientID == client && g.ResourceID == resource && g.UserID == user {
			return g
		}
	}
	return nil
}

// install returns the application's service principal in a tenant, made if
// needed.
func (s *Simulator) install(t, home *tenant, a *application) *principal {
	if p := t.principalOf(a.AppID); p != nil {
		return p
	}
	p := &principal{ID: newGUID(), AppID: a.AppID, Name: a.Name, Owner: home.ID, Enabled: true, Tags: []string{"WindowsAzureActiveDirectoryIntegratedApp"}, Created: s.now(), VisibleAt: s.now()}
	t.Principals = append(t.Principals, p)
	s.changed()
	return p
}
