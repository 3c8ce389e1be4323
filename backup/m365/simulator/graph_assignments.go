package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

func (s *Simulator) assignmentObject(t *tenant, a *assignment) object {
	o := object{"id": a.ID, "appRoleId": a.RoleID, "createdDateTime": stamp(a.Created), "deletedDateTime": nil, "principalId": a.PrincipalID, "principalType": "ServicePrincipal",
		"resourceId": a.ResourceID, "principalDisplayName": nil, "resourceDisplayName": nil}
	if p := t.principalByID(a.PrincipalID); p != nil {
		o["principalDisplayName"] = p.Name
	}
	if p := t.principalByID(a.ResourceID); p != nil {
		o["resourceDisplayName"] = p.Name
	}
	return o
}

// listAssignedTo is who has roles of this resource, listAssignments which
// roles this principal has.
func (s *Simulator) listAssignedTo(w *answer, r *http.Request, c *caller) {
	s.answerAssignments(w, r, c, "appRoleAssignedTo", func(a *assignment, p *principal) bool { return a.ResourceID == p.ID })
}

func (s *Simulator) listAssignments(w *answer, r *http.Request, c *caller) {
	s.answerAssignments(w, r, c, "appRoleAssignments", func(a *assignment, p *principal) bool { return a.PrincipalID == p.ID })
}

func (s *Simulator) answerAssignments(w *answer, r *http.Request, c *caller, name string, of func(*assignment, *principal) bool) {
	p := s.principalAt(w, r, c)
	if p == nil {
		return
	}
	t := c.Tenant
	var all []object
	for _, a := range t.Assignments {
		if of(a, p) && s.seen(t, a.VisibleAt) && t.principalByID(a.PrincipalID) != nil {
			all = append(all, s.assignmentObject(t, a))
		}
	}
	s.list(w, r, collection{context: "servicePrincipals('" + p.ID + "')/" + name, kind: "microsoft.graph.appRoleAssignment", page: 100, largest: 999}, all)
}

// assign grants an application permission (auth.md 2.1, 5, with the answers of 2.3).
func (s *Simulator) assign(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	at := s.principalAt(w, r, c)
	if at == nil {
		return
	}
	var body struct{ PrincipalID, ResourceID, AppRoleID string }
	if !s.decode(w, r, &body) {
		return
	}
	same := body.ResourceID
	if strings.Contains(logged(r).Template, "/appRoleAssignments") {
		same = body.PrincipalID
	}
	if !strings.EqualFold(same, at.ID) {
		s.badRequest(w, "The principalId or resourceId of the app role assignment does not match the object of the request.")
		return
	}
	p, res := t.principalByID(body.PrincipalID), t.principalByID(body.ResourceID)
	switch {
	case s.fault(r, c, "assignment_principal_missing") != nil || p == nil || res == nil:
		s.notFound(w, body.PrincipalID)
		return
	case s.fault(r, c, "assignment_not_replicated") != nil || !s.seen(t, p.VisibleAt) || !s.seen(t, res.VisibleAt):
		s.badRequest(w, "Not a valid reference update.")
		return
	}
	api := s.resourceOf(res.AppID)
	if api == nil || api.roleByID(body.AppRoleID) == nil || s.fault(r, c, "assignment_permission_missing") != nil {
		s.badRequest(w, fmt.Sprintf("Permission being assigned was not found on application '%s'.", res.ID))
		return
	}
	if !mayAssign(c, api) {
		s.deny(w)
		return
	}
	if t.assigned(p.ID, res.ID, body.AppRoleID) != nil || s.fault(r, c, "assignment_exists") != nil {
		s.badRequest(w, "Permission being assigned already exists on the object")
		return
	}
	a := &assignment{ID: newAssignmentID(), RoleID: strings.ToLower(body.AppRoleID), PrincipalID: p.ID, ResourceID: res.ID, Created: s.now(), VisibleAt: s.now().Add(t.delay())}
	t.Assignments = append(t.Assignments, a)
	s.changed()
	w.reset = s.fault(r, c, "answer_lost") != nil
	o := s.assignmentObject(t, a)
	o["@odata.context"] = graphMeta + "appRoleAssignments/$entity"
	w.graphJSON(http.StatusCreated, o)
}

// mayAssign: Graph's roles need AppRoleAssignment.ReadWrite.All, and of a
// person a Global or Privileged Role Administrator; those of other APIs also
// Application.ReadWrite.All and (Cloud) Application Administrators (auth.md 2.2).
func mayAssign(c *caller, api *resource) bool {
	if api.AppID == graphAppID && !c.has("AppRoleAssignment.ReadWrite.All") && !c.hasScope("AppRoleAssignment.ReadWrite.All") {
		return false
	}
	if c.User == nil || c.User.hasRole(globalAdministrator, privilegedRoleAdministrator) {
		return true
	}
	return api.AppID != graphAppID && c.User.hasRole(applicationAdministrator, cloudApplicationAdministrator)
}

// unassign withdraws an application permission.
func (s *Simulator) unassign(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	at := s.principalAt(w, r, c)
	if at == nil {
		return
	}
	id := r.PathValue("appRoleAssignment-id")
	i := slices.IndexFunc(t.Assignments, func(a *assignment) bool {
		return a.ID == id && s.seen(t, a.VisibleAt) && (a.PrincipalID == at.ID || a.ResourceID == at.ID)
	})
	if i < 0 {
		s.notFound(w, id)
		return
	}
	api := (*resource)(nil)
	if p := t.principalByID(t.Assignments[i].ResourceID); p != nil {
		api = s.resourceOf(p.AppID)
	}
	if api == nil || !mayAssign(c, api) {
		s.deny(w)
		return
	}
	t.Assignments = slices.Delete(t.Assignments, i, i+1)
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

var grants = collection{context: "oauth2PermissionGrants", kind: "microsoft.graph.oAuth2PermissionGrant", page: 100, largest: 999}

func (s *Simulator) grantRoutes() {
	s.graph("GET", "/oauth2PermissionGrants", s.listGrants)
	s.graph("POST", "/oauth2PermissionGrants", s.createGrant)
	s.graph("GET", "/oauth2PermissionGrants/{oAuth2PermissionGrant-id}", s.grantAt(func(w *answer, r *http.Request, c *caller, g *grant) {
		s.one(w, r, http.StatusOK, grants, grantObject(g))
	}))
	s.graph("PATCH", "/oauth2PermissionGrants/{oAuth2PermissionGrant-id}", s.grantAt(s.updateGrant))
	s.graph("DELETE", "/oauth2PermissionGrants/{oAuth2PermissionGrant-id}", s.grantAt(func(w *answer, r *http.Request, c *caller, g *grant) {
		c.Tenant.Grants = slices.DeleteFunc(c.Tenant.Grants, func(x *grant) bool { return x == g })
		s.changed()
		w.WriteHeader(http.StatusNoContent)
	}))
}

func grantObject(g *grant) object {
	o := object{"id": g.ID, "clientId": g.ClientID, "resourceId": g.ResourceID, "consentType": "AllPrincipals", "principalId": nil, "scope": strings.Join(g.Scopes, " ")}
	if g.UserID != "" {
		o["consentType"], o["principalId"] = "Principal", g.UserID
	}
	return o
}

func (s *Simulator) grantObjects(t *tenant, of func(*grant) bool) []object {
	var all []object
	for _, g := range t.Grants {
		if s.seen(t, g.VisibleAt) && of(g) {
			all = append(all, grantObject(g))
		}
	}
	return all
}

func (s *Simulator) listGrants(w *answer, r *http.Request, c *caller) {
	c.Tenant.Reads++
	s.list(w, r, grants, s.grantObjects(c.Tenant, func(*grant) bool { return true }))
}

func (s *Simulator) listPrincipalGrants(w *answer, r *http.Request, c *caller) {
	if p := s.principalAt(w, r, c); p != nil {
		s.list(w, r, grants, s.grantObjects(c.Tenant, func(g *grant) bool { return g.ClientID == p.ID }))
	}
}

func (s *Simulator) createGrant(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	var body struct{ ClientID, ResourceID, ConsentType, PrincipalID, Scope string }
	if !s.decode(w, r, &body) {
		return
	}
	client, res := t.principalByID(body.ClientID), t.principalByID(body.ResourceID)
	switch {
	case s.fault(r, c, "grant_not_replicated") != nil || client == nil || res == nil || !s.seen(t, client.VisibleAt) || body.ConsentType == "Principal" && t.userOf(body.PrincipalID) == nil:
		s.badRequest(w, fmt.Sprintf("Resource '%s' does not exist or one of its queried reference-property objects are not present.", body.ClientID))
		return
	case body.ConsentType != "AllPrincipals" && body.ConsentType != "Principal":
		s.badRequest(w, "Invalid value specified for property 'consentType' of resource 'OAuth2PermissionGrant'.")
		return
	case c.User != nil && !c.User.hasRole(globalAdministrator, privilegedRoleAdministrator, applicationAdministrator, cloudApplicationAdministrator):
		s.deny(w)
		return
	case t.grantOf(client.ID, res.ID, body.PrincipalID) != nil:
		s.graphError(w, http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue", "Permission entry already exists.")
		return
	}
	g := &grant{ID: newAssignmentID(), ClientID: client.ID, ResourceID: res.ID, UserID: body.PrincipalID, Scopes: strings.Fields(body.Scope), VisibleAt: s.now().Add(t.delay())}
	t.Grants = append(t.Grants, g)
	s.changed()
	s.one(w, r, http.StatusCreated, grants, grantObject(g))
}

// grantAt finds the grant of the path.
func (s *Simulator) grantAt(then func(*answer, *http.Request, *caller, *grant)) handler {
	return func(w *answer, r *http.Request, c *caller) {
		id := r.PathValue("oAuth2PermissionGrant-id")
		c.Tenant.Reads++
		for _, g := range c.Tenant.Grants {
			if g.ID == id && s.seen(c.Tenant, g.VisibleAt) {
				then(w, r, c, g)
				return
			}
		}
		s.notFound(w, id)
	}
}

func (s *Simulator) updateGrant(w *answer, r *http.Request, c *caller, g *grant) {
	var body struct{ Scope *string }
	if !s.decode(w, r, &body) {
		return
	}
	if body.Scope != nil {
		g.Scopes = strings.Fields(*body.Scope)
		s.changed()
	}
	w.WriteHeader(http.StatusNoContent)
}
