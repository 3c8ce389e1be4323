package simulator

import "net/http"

// exchangeControl registers the control paths of a tenant's Exchange Online.
func (s *Simulator) exchangeControl() {
	s.control("GET", "/tenants/{tenant}/exchange", s.inTenant(s.controlExchange))
	s.control("PATCH", "/tenants/{tenant}/exchange", s.inTenant(s.controlExchangeSettings))
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
