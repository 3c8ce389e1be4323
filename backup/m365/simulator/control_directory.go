package simulator

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// userPatch is the body of PATCH /_simulator/tenants/{tenant}/users/{user}.
type userPatch struct {
	Name           *string   `json:"name"`
	UPN            *string   `json:"upn"`
	Enabled        *bool     `json:"enabled"`
	Licences       *[]string `json:"licences"`   // part numbers; [] removes all
	PlanStatus     *string   `json:"planStatus"` // Enabled, Warning, Suspended
	Deleted        *bool     `json:"deleted"`    // false restores
	Purged         bool      `json:"purged"`
	Roles          *[]string `json:"roles"` // names like Global Administrator
	RevokeSessions bool      `json:"revokeSessions"`
	Password       *string   `json:"password"`
	NoPowerShell   *bool     `json:"noPowerShell"`
}

// controlUser changes a user; deleted ones are found too.
func (s *Simulator) controlUser(w *answer, r *http.Request, t *tenant) {
	u := t.anyUser(r.PathValue("user"))
	var body userPatch
	if u == nil {
		controlError(w, http.StatusNotFound, "no user %q", r.PathValue("user"))
		return
	}
	if !readControl(w, r, &body) {
		return
	}
	if body.Licences != nil {
		for _, l := range *body.Licences {
			if !slices.Contains(t.SKUs, l) {
				controlError(w, http.StatusBadRequest, "the tenant has no licence %q", l)
				return
			}
		}
		u.Licences = *body.Licences
	}
	if body.Roles != nil {
		u.Roles = []string{}
		for _, name := range *body.Roles {
			id, ok := roleTemplates[name]
			if !ok {
				controlError(w, http.StatusBadRequest, "no role %q", name)
				return
			}
			u.Roles = append(u.Roles, id)
		}
	}
	set(&u.Name, body.Name)
	set(&u.UPN, body.UPN)
	set(&u.Enabled, body.Enabled)
	set(&u.PlanStatus, body.PlanStatus)
	set(&u.Password, body.Password)
	set(&u.NoPowerShell, body.NoPowerShell)
	if body.RevokeSessions {
		u.ValidFrom = s.now()
	}
	if body.Deleted != nil {
		u.DeletedAt = time.Time{}
		if *body.Deleted {
			u.DeletedAt = s.now()
		}
	}
	if body.Purged {
		u.Purged = true
		if u.DeletedAt.IsZero() {
			u.DeletedAt = s.now()
		}
	}
	t.touch(u)
	s.changed()
	w.json(http.StatusOK, userObject(t, u))
}

func set[T any](to *T, value *T) {
	if value != nil {
		*to = *value
	}
}

// anyUser finds a user, deleted or not, by id or user principal name; living
// ones first.
func (t *tenant) anyUser(name string) *user {
	if u := t.userOf(name); u != nil {
		return u
	}
	for _, u := range t.Users {
		if strings.EqualFold(u.ID, name) || strings.EqualFold(u.UPN, name) {
			return u
		}
	}
	return nil
}

func (s *Simulator) controlUsers(w *answer, _ *http.Request, t *tenant) {
	list := []object{}
	for _, u := range t.Users {
		o := userObject(t, u)
		o["roles"], o["kind"], o["licences"] = roleNames(u.Roles), u.Kind, u.Licences
		list = append(list, o)
	}
	w.json(http.StatusOK, list)
}

// controlApplications shows the registrations and what their principals were
// granted, without replication.
func (s *Simulator) controlApplications(w *answer, _ *http.Request, t *tenant) {
	list := []object{}
	for _, a := range t.Apps {
		o := s.applicationObject(t, a)
		o["roles"] = []string{}
		if p := t.principalOf(a.AppID); p != nil {
			var names []string
			for _, x := range t.Assignments {
				if x.PrincipalID == p.ID {
					if rp := t.principalByID(x.ResourceID); rp != nil {
						if role := s.resourceOf(rp.AppID).roleByID(x.RoleID); role != nil {
							names = append(names, role.Name)
						}
					}
				}
			}
			o["servicePrincipalId"], o["servicePrincipalEnabled"], o["roles"] = p.ID, p.Enabled, names
		}
		list = append(list, o)
	}
	w.json(http.StatusOK, list)
}

// appIn finds a registration of the tenant that is not deleted by client id,
// object id or name.
func (t *tenant) appIn(name string) *application {
	for _, a := range t.Apps {
		if a.DeletedAt.IsZero() && (strings.EqualFold(a.AppID, name) || strings.EqualFold(a.ID, name) || strings.EqualFold(a.Name, name)) {
			return a
		}
	}
	return nil
}

// principalIn finds a service principal by client id, object id or name.
func (t *tenant) principalIn(name string) *principal {
	for _, p := range t.Principals {
		if p.DeletedAt.IsZero() && (strings.EqualFold(p.AppID, name) || strings.EqualFold(p.ID, name) || strings.EqualFold(p.Name, name)) {
			return p
		}
	}
	return nil
}

func (s *Simulator) controlDeleteApplication(w *answer, r *http.Request, t *tenant) {
	a := t.appIn(r.PathValue("app"))
	if a == nil {
		controlError(w, http.StatusNotFound, "no application %q", r.PathValue("app"))
		return
	}
	s.removeApplication(t, a)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Simulator) controlDeleteCredentials(w *answer, r *http.Request, t *tenant) {
	a := t.appIn(r.PathValue("app"))
	if a == nil {
		controlError(w, http.StatusNotFound, "no application %q", r.PathValue("app"))
		return
	}
	a.Keys, a.Passwords = nil, nil
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Simulator) controlPrincipal(w *answer, r *http.Request, t *tenant) {
	p := t.principalIn(r.PathValue("app"))
	var body struct {
		Enabled *bool `json:"enabled"`
	}
	if p == nil {
		controlError(w, http.StatusNotFound, "no service principal %q", r.PathValue("app"))
		return
	}
	if readControl(w, r, &body) {
		set(&p.Enabled, body.Enabled)
		s.changed()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Simulator) controlDeletePrincipal(w *answer, r *http.Request, t *tenant) {
	p := t.principalIn(r.PathValue("app"))
	if p == nil {
		controlError(w, http.StatusNotFound, "no service principal %q", r.PathValue("app"))
		return
	}
	s.removePrincipal(t, p)
	w.WriteHeader(http.StatusNoContent)
}

// controlWithdraw takes an application permission back, by its name.
func (s *Simulator) controlWithdraw(w *answer, r *http.Request, t *tenant) {
	p := t.principalIn(r.PathValue("app"))
	if p == nil {
		controlError(w, http.StatusNotFound, "no service principal %q", r.PathValue("app"))
		return
	}
	before := len(t.Assignments)
	t.Assignments = slices.DeleteFunc(t.Assignments, func(a *assignment) bool {
		rp := t.principalByID(a.ResourceID)
		if a.PrincipalID != p.ID || rp == nil {
			return false
		}
		res := s.resourceOf(rp.AppID)
		role := res.roleByID(a.RoleID)
		return role != nil && strings.EqualFold(role.Name, r.PathValue("role"))
	})
	if len(t.Assignments) == before {
		controlError(w, http.StatusNotFound, "%s does not have %q", p.Name, r.PathValue("role"))
		return
	}
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

// controlGrant grants an application permission, by its name, as somebody in
// the tenant may do by hand.
func (s *Simulator) controlGrant(w *answer, r *http.Request, t *tenant) {
	p, role := t.principalIn(r.PathValue("app")), r.PathValue("role")
	if p == nil {
		controlError(w, http.StatusNotFound, "no service principal %q", r.PathValue("app"))
		return
	}
	for _, res := range s.resources {
		rp := t.principalOf(res.AppID)
		for _, known := range res.Roles {
			if rp != nil && strings.EqualFold(known.Name, role) && t.assigned(p.ID, rp.ID, known.ID) == nil {
				t.Assignments = append(t.Assignments, &assignment{ID: newAssignmentID(), RoleID: known.ID, PrincipalID: p.ID, ResourceID: rp.ID, Created: s.now(), VisibleAt: s.now()})
				s.changed()
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
	}
	controlError(w, http.StatusNotFound, "no application permission %q that %s does not have", role, p.Name)
}

// controlRevokeConsent removes the delegated grants of an application, and the
// people's refresh tokens lose their use with them (65001).
func (s *Simulator) controlRevokeConsent(w *answer, r *http.Request, t *tenant) {
	var body struct {
		App string `json:"app"` // client id or name
	}
	if !readControl(w, r, &body) {
		return
	}
	p := t.principalIn(body.App)
	if p == nil {
		controlError(w, http.StatusNotFound, "no service principal %q", body.App)
		return
	}
	t.Grants = slices.DeleteFunc(t.Grants, func(g *grant) bool { return g.ClientID == p.ID })
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}
