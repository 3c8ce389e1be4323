package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

var principals = collection{context: "servicePrincipals", kind: "microsoft.graph.servicePrincipal", page: 100, largest: 999}

func (s *Simulator) principalRoutes() {
	const byID, byAppID = "/servicePrincipals/{servicePrincipal-id}", "/servicePrincipals(appId='{appId}')"
	s.graph("GET", "/servicePrincipals", s.listPrincipals)
	s.graph("POST", "/servicePrincipals", s.createPrincipal)
	for _, path := range []string{byID, byAppID} {
		s.graph("GET", path, s.showPrincipal)
		s.graph("PATCH", path, s.updatePrincipal)
		s.graph("DELETE", path, s.deletePrincipal)
	}
	s.graph("GET", byID+"/appRoleAssignedTo", s.listAssignedTo)
	s.graph("POST", byID+"/appRoleAssignedTo", s.assign)
	s.graph("DELETE", byID+"/appRoleAssignedTo/{appRoleAssignment-id}", s.unassign)
	s.graph("GET", byID+"/appRoleAssignments", s.listAssignments)
	s.graph("POST", byID+"/appRoleAssignments", s.assign)
	s.graph("DELETE", byID+"/appRoleAssignments/{appRoleAssignment-id}", s.unassign)
	s.graph("GET", byID+"/oauth2PermissionGrants", s.listPrincipalGrants)
}

// principalObject is a service principal as Graph gives it.
func (s *Simulator) principalObject(t *tenant, p *principal) object {
	names, roles, scopes, audience := []string{p.AppID}, []object{}, []object{}, "AzureADMultipleOrgs"
	if res := s.resourceOf(p.AppID); res != nil {
		for _, u := range res.URIs {
			names = append(names, strings.TrimSuffix(u, "/"))
		}
		slices.Sort(names)
		names = slices.Compact(names)
		for _, r := range res.Roles {
			roles = append(roles, object{"allowedMemberTypes": []string{"Application"}, "description": r.Description, "displayName": r.DisplayName, "id": r.ID, "isEnabled": true, "origin": "Application", "value": r.Name})
		}
		for _, sc := range res.Scopes {
			kind := "Admin"
			if slices.Contains(userConsentable, sc.Name) {
				kind = "User"
			}
			scopes = append(scopes, object{"adminConsentDescription": sc.Description, "adminConsentDisplayName": sc.DisplayName, "id": sc.ID, "isEnabled": true, "type": kind, "userConsentDescription": nil, "userConsentDisplayName": nil, "value": sc.Name})
		}
	} else if a := s.appByID(p.AppID); a != nil {
		audience = a.Audience
	}
	o := object{
		"id": p.ID, "appId": p.AppID, "displayName": p.Name, "appDisplayName": p.Name, "appOwnerOrganizationId": p.Owner, "accountEnabled": p.Enabled,
		"servicePrincipalType": "Application", "servicePrincipalNames": names, "appRoles": roles, "oauth2PermissionScopes": scopes, "tags": append([]string{}, p.Tags...),
		"signInAudience": audience, "deletedDateTime": stamp(p.DeletedAt), "appRoleAssignmentRequired": false,
		"addIns": []any{}, "alternativeNames": []string{}, "keyCredentials": []any{}, "passwordCredentials": []any{}, "replyUrls": []string{}, "notificationEmailAddresses": []string{},
		"resourceSpecificApplicationPermissions": []any{}, "appDescription": nil, "description": nil, "homepage": nil, "loginUrl": nil, "logoutUrl": nil, "notes": nil,
		"preferredSingleSignOnMode": nil, "preferredTokenSigningKeyThumbprint": nil, "samlSingleSignOnSettings": nil, "tokenEncryptionKeyId": nil, "disabledByMicrosoftStatus": nil,
		"applicationTemplateId": nil, "verifiedPublisher": object{"displayName": nil, "verifiedPublisherId": nil, "addedDateTime": nil},
		"info": object{"logoUrl": nil, "marketingUrl": nil, "privacyStatementUrl": nil, "supportUrl": nil, "termsOfServiceUrl": nil},
	}
	for name, value := range p.Extra {
		o[name] = value
	}
	return o
}

// principalAt finds the service principal of the path, as far as the replica
// knows it; otherwise it answers 404.
func (s *Simulator) principalAt(w *answer, r *http.Request, c *caller) *principal {
	t := c.Tenant
	t.Reads++
	id, appID := r.PathValue("servicePrincipal-id"), r.PathValue("appId")
	for _, p := range t.Principals {
		if p.DeletedAt.IsZero() && s.seen(t, p.VisibleAt) && (strings.EqualFold(p.ID, id) || strings.EqualFold(p.AppID, appID)) {
			return p
		}
	}
	s.notFound(w, firstOf(id, appID))
	return nil
}

// principalByID finds a service principal whatever the replica knows.
func (t *tenant) principalByID(id string) *principal {
	for _, p := range t.Principals {
		if strings.EqualFold(p.ID, id) && p.DeletedAt.IsZero() {
			return p
		}
	}
	return nil
}

func (s *Simulator) listPrincipals(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	t.Reads++
	var all []object
	for _, p := range t.Principals {
		if p.DeletedAt.IsZero() && s.seen(t, p.VisibleAt) {
			all = append(all, s.principalObject(t, p))
		}
	}
	s.list(w, r, principals, all)
}

func (s *Simulator) showPrincipal(w *answer, r *http.Request, c *caller) {
	if p := s.principalAt(w, r, c); p != nil {
		s.one(w, r, http.StatusOK, principals, s.principalObject(c.Tenant, p))
	}
}

// createPrincipal is POST /servicePrincipals, with the answers of auth.md 2.3.
func (s *Simulator) createPrincipal(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	var body map[string]json.RawMessage
	if !s.decode(w, r, &body) {
		return
	}
	var appID string
	if err := json.Unmarshal(body["appId"], &appID); err != nil || appID == "" {
		s.badRequest(w, "A value is required for property 'appId' of resource 'ServicePrincipal'.")
		return
	}
	invalid := func() {
		s.badRequest(w, fmt.Sprintf("The appId '%s' of the service principal does not reference a valid application object.", appID))
	}
	home, a := s.registration(appID)
	res := s.resourceOf(appID)
	switch {
	case s.fault(r, c, "sp_app_not_replicated") != nil:
		invalid()
		return
	case s.fault(r, c, "sp_backing_application") != nil || a != nil && home != t && logged(r).Permission == "Application.ReadWrite.OwnedBy":
		s.graphError(w, http.StatusForbidden, "Authorization_RequestDenied", "When using this permission, the backing application of the service principal being created must in the local tenant")
		return
	case s.fault(r, c, "sp_exists") != nil || t.principalOf(appID) != nil:
		s.graphError(w, http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue",
			fmt.Sprintf("The service principal cannot be created, updated, or restored because the service principal name %s is already in use.", appID))
		return
	case res != nil && (res.AppID != exchangeAppID || t.hasExchange()):
		p := s.firstParty(t, res)
		p.Created, p.VisibleAt = s.now(), s.now().Add(t.delay())
		s.addPrincipal(w, r, c, p)
		return
	case a == nil || !s.seen(t, a.VisibleAt) || home != t && !a.multiTenant():
		invalid()
		return
	case !mayManage(c, a.Owners):
		s.deny(w)
		return
	}
	p := &principal{ID: newGUID(), AppID: a.AppID, Name: a.Name, Owner: home.ID, Enabled: true, Created: s.now(), VisibleAt: s.now().Add(t.delay())}
	delete(body, "appId")
	if s.setPrincipal(w, p, body) {
		s.addPrincipal(w, r, c, p)
	}
}

func (s *Simulator) addPrincipal(w *answer, r *http.Request, c *caller, p *principal) {
	c.Tenant.Principals = append(c.Tenant.Principals, p)
	s.changed()
	w.reset = s.fault(r, c, "answer_lost") != nil
	s.one(w, r, http.StatusCreated, principals, s.principalObject(c.Tenant, p))
}

// setPrincipal writes the properties of a body into p.
func (s *Simulator) setPrincipal(w *answer, p *principal, body map[string]json.RawMessage) bool {
	for name, raw := range body {
		if strings.HasPrefix(name, "@") {
			continue // an annotation; Microsoft's own SDK sends @odata.type
		}
		var to any
		if strings.HasPrefix(name, "@odata.") {
			continue
		}
		switch name {
		case "accountEnabled":
			to = &p.Enabled
		case "tags":
			to = &p.Tags
		case "notes", "description", "homepage", "loginUrl", "appRoleAssignmentRequired", "notificationEmailAddresses", "preferredSingleSignOnMode", "alternativeNames":
			if p.Extra == nil {
				p.Extra = map[string]json.RawMessage{}
			}
			p.Extra[name] = raw
			continue
		default:
			s.badRequest(w, fmt.Sprintf("One or more properties contains invalid values or can't be set: '%s'.", name))
			return false
		}
		if err := json.Unmarshal(raw, to); err != nil {
			s.badRequest(w, fmt.Sprintf("Invalid value specified for property '%s' of resource 'ServicePrincipal'.", name))
			return false
		}
	}
	return true
}

func (s *Simulator) updatePrincipal(w *answer, r *http.Request, c *caller) {
	p := s.principalAt(w, r, c)
	var body map[string]json.RawMessage
	if p == nil || !s.decode(w, r, &body) {
		return
	}
	if !mayManage(c, nil) {
		s.deny(w)
		return
	}
	changed := *p
	if !s.setPrincipal(w, &changed, body) {
		return
	}
	*p = changed
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Simulator) deletePrincipal(w *answer, r *http.Request, c *caller) {
	p := s.principalAt(w, r, c)
	if p == nil {
		return
	}
	if !mayManage(c, nil) {
		s.deny(w)
		return
	}
	s.removePrincipal(c.Tenant, p)
	w.WriteHeader(http.StatusNoContent)
}

// removePrincipal deletes a service principal with its grants and its Exchange
// pointer (auth.md 2.5).
func (s *Simulator) removePrincipal(t *tenant, p *principal) {
	p.DeletedAt = s.now()
	s.principalDeleted(t, p)
	s.changed()
}
