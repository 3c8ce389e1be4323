package simulator

import (
	"net/http"
	"slices"
)

// exchangeControl registers the control paths of a tenant's Exchange Online.
func (s *Simulator) exchangeControl() {
	s.control("GET", "/tenants/{tenant}/exchange", s.inTenant(s.controlExchange))
	s.control("PATCH", "/tenants/{tenant}/exchange", s.inTenant(s.controlExchangeSettings))
	s.control("DELETE", "/tenants/{tenant}/exchange/groups/{name}", s.inTenant(s.controlDeleteGroup))
	s.control("DELETE", "/tenants/{tenant}/exchange/groups/{name}/members", s.inTenant(s.controlDeleteMembers))
	s.control("DELETE", "/tenants/{tenant}/exchange/roles/{name}", s.inTenant(s.controlDeleteRole))
	s.control("PATCH", "/tenants/{tenant}/exchange/roles/{name}", s.inTenant(s.controlChangeRole))
	s.control("DELETE", "/tenants/{tenant}/exchange/servicePrincipals/{app}", s.inTenant(s.controlDeletePointer))
}

// controlExchange shows the organization without delays.
func (s *Simulator) controlExchange(w *answer, _ *http.Request, t *tenant) {
	x := t.Exchange
	if x == nil {
		controlError(w, http.StatusNotFound, "%s has no Exchange Online", t.Name)
		return
	}
	state := "ready"
	switch {
	case x.Dehydrated:
		state = "dehydrated"
	case s.now().Before(x.ReadyAt):
		state = "customising"
	}
	groups := []object{}
	for _, g := range x.Groups {
		members := []string{}
		for _, m := range g.Members {
			members = append(members, m.ObjectID)
		}
		if !g.BuiltIn || len(members) > 0 {
			groups = append(groups, object{"name": g.Name, "roles": x.rolesOf(g, false, s.now()), "members": members})
		}
	}
	roles := []object{}
	for _, r := range x.Roles {
		roles = append(roles, object{"name": r.Name, "parent": r.Parent, "cmdlets": r.Cmdlets})
	}
	pointers := []object{}
	for _, p := range x.Pointers {
		pointers = append(pointers, object{"appId": p.AppID, "objectId": p.ObjectID, "displayName": p.Name})
	}
	w.json(http.StatusOK, object{"state": state, "readyAt": stamp(x.ReadyAt), "settings": x.Settings, "roleGroups": groups, "roles": roles, "servicePrincipals": pointers})
}

// controlExchangeSettings changes switches; what the body leaves out stays.
// dehydrated true takes the customisation back, with what was made by it.
func (s *Simulator) controlExchangeSettings(w *answer, r *http.Request, t *tenant) {
	if t.Exchange == nil {
		controlError(w, http.StatusNotFound, "%s has no Exchange Online", t.Name)
		return
	}
	world := WorldExchange{ExchangeSettings: t.Exchange.Settings}
	if !readControl(w, r, &world) {
		return
	}
	if world.Dehydrated {
		if err := s.seedExchange(t, &world); err != nil {
			controlError(w, http.StatusInternalServerError, "%v", err)
			return
		}
	}
	t.Exchange.Settings = world.ExchangeSettings
	s.changed()
	w.json(http.StatusOK, world.ExchangeSettings)
}

// controlDeleteGroup deletes a role group with its assignments, as an
// administrator of the tenant may do in the Exchange admin center.
func (s *Simulator) controlDeleteGroup(w *answer, r *http.Request, t *tenant) {
	g := s.controlGroup(w, r, t)
	if g == nil {
		return
	}
	x := t.Exchange
	x.Groups = slices.DeleteFunc(x.Groups, func(other *roleGroup) bool { return other == g })
	x.Assignments = slices.DeleteFunc(x.Assignments, func(a *roleAssignment) bool { return a.Group == g.Guid })
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

// controlDeleteMembers takes everybody out of a role group.
func (s *Simulator) controlDeleteMembers(w *answer, r *http.Request, t *tenant) {
	if g := s.controlGroup(w, r, t); g != nil {
		g.Members = nil
		s.changed()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Simulator) controlGroup(w *answer, r *http.Request, t *tenant) *roleGroup {
	if t.Exchange != nil {
		if g := t.Exchange.group(r.PathValue("name"), s.now()); g != nil {
			return g
		}
	}
	controlError(w, http.StatusNotFound, "no role group %q", r.PathValue("name"))
	return nil
}

// controlRole finds one of the organization's own roles.
func (s *Simulator) controlRole(w *answer, r *http.Request, t *tenant) *managementRole {
	if t.Exchange != nil {
		for _, role := range t.Exchange.Roles {
			if named(r.PathValue("name"), role.Name, role.Guid) {
				return role
			}
		}
	}
	controlError(w, http.StatusNotFound, "no role %q of the organization's own", r.PathValue("name"))
	return nil
}

// controlDeleteRole deletes a role with its assignments.
func (s *Simulator) controlDeleteRole(w *answer, r *http.Request, t *tenant) {
	role := s.controlRole(w, r, t)
	if role == nil {
		return
	}
	x := t.Exchange
	x.Roles = slices.DeleteFunc(x.Roles, func(other *managementRole) bool { return other == role })
	x.Assignments = slices.DeleteFunc(x.Assignments, func(a *roleAssignment) bool { return named(a.Role, role.Name) })
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

// controlChangeRole changes the cmdlets of a role.
func (s *Simulator) controlChangeRole(w *answer, r *http.Request, t *tenant) {
	role := s.controlRole(w, r, t)
	body := struct {
		Cmdlets []string `json:"cmdlets"`
	}{}
	if role == nil || !readControl(w, r, &body) {
		return
	}
	role.Cmdlets = body.Cmdlets
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

// controlDeletePointer removes Exchange's own object for a service principal.
func (s *Simulator) controlDeletePointer(w *answer, r *http.Request, t *tenant) {
	if t.Exchange != nil {
		if p := t.Exchange.pointer(r.PathValue("app"), s.now()); p != nil {
			t.Exchange.forget(p.ObjectID)
			s.changed()
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	controlError(w, http.StatusNotFound, "Exchange Online does not know the service principal %q", r.PathValue("app"))
}
