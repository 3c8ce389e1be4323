package simulator

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

var applications = collection{context: "applications", kind: "microsoft.graph.application", page: 100, largest: 999}

func (s *Simulator) applicationRoutes() {
	const byID, byAppID = "/applications/{application-id}", "/applications(appId='{appId}')"
	s.graph("GET", "/applications", s.listApplications)
	s.graph("POST", "/applications", s.createApplication)
	for _, path := range []string{byID, byAppID} {
		s.graph("GET", path, s.showApplication)
		s.graph("PATCH", path, s.updateApplication)
		s.graph("DELETE", path, s.deleteApplication)
	}
	s.graph("POST", byID+"/addPassword", s.addPassword)
	s.graph("POST", byID+"/removePassword", s.removePassword)
	s.graph("POST", byID+"/addKey", s.addKey)
	s.graph("POST", byID+"/removeKey", s.removeKey)
	s.graph("GET", byID+"/owners", s.listOwners)
	s.graph("DELETE", byID+"/owners/{owner-id}/$ref", s.removeOwner, needs("Application.ReadWrite.All Application.ReadWrite.OwnedBy", "Application.ReadWrite.All"))
}

// extraDefaults are properties that are kept as they come; the value is what a
// new application has.
var extraDefaults = map[string]string{
	"addIns": "[]", "api": `{"acceptMappedClaims":null,"knownClientApplications":[],"requestedAccessTokenVersion":null,"oauth2PermissionScopes":[],"preAuthorizedApplications":[]}`,
	"appRoles": "[]", "description": "null", "groupMembershipClaims": "null", "identifierUris": "[]",
	"info":                      `{"logoUrl":null,"marketingUrl":null,"privacyStatementUrl":null,"supportUrl":null,"termsOfServiceUrl":null}`,
	"isDeviceOnlyAuthSupported": "null", "oauth2RequirePostResponse": "false", "optionalClaims": "null",
	"parentalControlSettings": `{"countriesBlockedForMinors":[],"legalAgeGroupRule":"Allow"}`, "requestSignatureVerification": "null", "samlMetadataUrl": "null",
	"serviceManagementReference": "null", "servicePrincipalLockConfiguration": "null", "spa": `{"redirectUris":[]}`, "tokenEncryptionKeyId": "null", "uniqueName": "null",
	"defaultRedirectUri": "null", "authenticationBehaviors": "null",
}

// applicationObject is an application as Graph gives it.
func (s *Simulator) applicationObject(t *tenant, a *application) object {
	o := object{
		"id": a.ID, "appId": a.AppID, "displayName": a.Name, "signInAudience": a.Audience, "createdDateTime": stamp(a.Created), "deletedDateTime": stamp(a.DeletedAt),
		"isFallbackPublicClient": a.Public, "publisherDomain": t.Domain, "notes": orNil(a.Notes), "tags": append([]string{}, a.Tags...),
		"applicationTemplateId": nil, "certification": nil, "disabledByMicrosoftStatus": nil, "createdByAppId": nil,
		"verifiedPublisher": object{"displayName": nil, "verifiedPublisherId": nil, "addedDateTime": nil},
		"web":               object{"homePageUrl": nil, "logoutUrl": nil, "redirectUris": append([]string{}, a.RedirectURIs...), "implicitGrantSettings": object{"enableAccessTokenIssuance": false, "enableIdTokenIssuance": false}},
		"publicClient":      object{"redirectUris": append([]string{}, a.PublicURIs...)},
	}
	o["requiredResourceAccess"] = append([]requiredAccess{}, a.Required...) // must be present even if empty (clients.md)
	keys, passwords := []object{}, []object{}
	for _, k := range a.Keys {
		if s.seen(t, k.VisibleAt) {
			keys = append(keys, keyObject(k))
		}
	}
	for _, p := range a.Passwords {
		if s.seen(t, p.VisibleAt) {
			passwords = append(passwords, passwordObject(p, false))
		}
	}
	o["keyCredentials"], o["passwordCredentials"] = keys, passwords
	for name, value := range extraDefaults {
		o[name] = json.RawMessage(value)
	}
	for name, value := range a.Extra {
		o[name] = value
	}
	return o
}

// applicationAt finds the application of the path, as far as the replica
// knows it; otherwise it answers 404.
func (s *Simulator) applicationAt(w *answer, r *http.Request, c *caller) *application {
	t := c.Tenant
	t.Reads++
	id, appID := r.PathValue("application-id"), r.PathValue("appId")
	late := s.fault(r, c, "app_not_replicated") != nil
	for _, a := range t.Apps {
		if a.DeletedAt.IsZero() && !late && s.seen(t, a.VisibleAt) && (strings.EqualFold(a.ID, id) || strings.EqualFold(a.AppID, appID)) {
			return a
		}
	}
	s.notFound(w, firstOf(id, appID))
	return nil
}

func (s *Simulator) listApplications(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	t.Reads++
	var all []object
	for _, a := range t.Apps {
		if a.DeletedAt.IsZero() && s.seen(t, a.VisibleAt) {
			all = append(all, s.applicationObject(t, a))
		}
	}
	s.list(w, r, applications, all)
}

func (s *Simulator) showApplication(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	if a == nil {
		return
	}
	o := s.applicationObject(c.Tenant, a)
	if s.fault(r, c, "credential_not_listed") != nil {
		o["passwordCredentials"], o["keyCredentials"] = []object{}, []object{}
	}
	s.one(w, r, http.StatusOK, applications, o)
}

// createApplication is POST /applications (auth.md 2.1, 2).
func (s *Simulator) createApplication(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	if t.Settings.AdminsRegister && !mayManage(c, nil) {
		s.deny(w)
		return
	}
	var body map[string]json.RawMessage
	if !s.decode(w, r, &body) {
		return
	}
	if _, ok := body["passwordCredentials"]; ok && string(body["passwordCredentials"]) != "[]" {
		// gd-app-post: passwordCredentials can't be set here.
		s.badRequest(w, "New password credentials must be generated with service actions.")
		return
	}
	a := &application{ID: newGUID(), AppID: newGUID(), Audience: "AzureADandPersonalMicrosoftAccount", Created: s.now(), VisibleAt: s.now().Add(t.delay())}
	if c.User != nil {
		a.Owners = []string{c.User.ID}
	}
	if !s.setApplication(w, r, c, a, body) {
		return
	}
	if a.Name == "" {
		s.badRequest(w, "A value is required for property 'displayName' of resource 'Application'.")
		return
	}
	if s.fault(r, c, "audience_not_allowed") != nil || t.Settings.Policy == "noMultiTenant" && a.Audience != "AzureADMyOrg" {
		s.graphError(w, http.StatusBadRequest, "SignInAudienceNotAllowedAsPerAppPolicy", "The sign-in audience of the application is not allowed as per the app management policy of the organization.")
		return
	}
	if s.fault(r, c, "host_not_verified") != nil {
		s.graphError(w, http.StatusBadRequest, "HostNameNotOnVerifiedDomain", "Values of identifierUris property must use a verified domain of the organization or its subdomain.")
		return
	}
	t.Apps = append(t.Apps, a)
	s.changed()
	w.header.Set("Location", baseURL(r, HostGraph)+"/v1.0/"+t.ID+"/directoryObjects/"+a.ID+"/Microsoft.DirectoryServices.Application")
	w.reset = s.fault(r, c, "answer_lost") != nil
	o := s.applicationObject(t, a)
	// The answer comes from the replica that wrote.
	keys := []object{}
	for _, k := range a.Keys {
		keys = append(keys, keyObject(k))
	}
	o["keyCredentials"] = keys
	s.one(w, r, http.StatusCreated, applications, o)
}

// updateApplication is PATCH /applications/{id}.
func (s *Simulator) updateApplication(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	if a == nil {
		return
	}
	if !mayManage(c, a.Owners) {
		s.deny(w)
		return
	}
	if s.fault(r, c, "app_conflict") != nil {
		s.graphError(w, http.StatusConflict, "Directory_ConcurrencyViolation", "The resource was modified by another request. Try again.")
		return
	}
	var body map[string]json.RawMessage
	if !s.decode(w, r, &body) {
		return
	}
	changed := *a
	changed.Extra = maps.Clone(a.Extra)
	if !s.setApplication(w, r, c, &changed, body) {
		return
	}
	*a = changed
	for _, t := range s.state.Tenants {
		if p := t.principalOf(a.AppID); p != nil {
			p.Name = a.Name
		}
	}
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

// setApplication writes the properties of a body into a. Unknown ones are
// refused, as Graph does.
func (s *Simulator) setApplication(w *answer, r *http.Request, c *caller, a *application, body map[string]json.RawMessage) bool {
	var web, public struct{ RedirectUris []string }
	plain := map[string]any{
		"displayName": &a.Name, "signInAudience": &a.Audience, "isFallbackPublicClient": &a.Public, "notes": &a.Notes, "tags": &a.Tags,
		"requiredResourceAccess": &a.Required, "web": &web, "publicClient": &public,
	}
	for _, name := range slices.Sorted(maps.Keys(body)) {
		if strings.HasPrefix(name, "@odata.") {
			continue
		}
		if to, ok := plain[name]; ok {
			if err := json.Unmarshal(body[name], to); err != nil {
				s.badRequest(w, fmt.Sprintf("Invalid value specified for property '%s' of resource 'Application'.", name))
				return false
			}
			continue
		}
		switch {
		case name == "keyCredentials":
			if !s.setKeys(w, r, c, a, body[name]) {
				return false
			}
		case name == "passwordCredentials" && string(body[name]) == "[]":
			a.Passwords = nil
		case extraDefaults[name] != "":
			if a.Extra == nil {
				a.Extra = map[string]json.RawMessage{}
			}
			a.Extra[name] = body[name]
		default:
			s.badRequest(w, fmt.Sprintf("One or more properties contains invalid values or can't be set: '%s'.", name))
			return false
		}
	}
	if _, ok := body["web"]; ok {
		a.RedirectURIs = web.RedirectUris
	}
	if _, ok := body["publicClient"]; ok {
		a.PublicURIs = public.RedirectUris
	}
	return s.checkApplication(w, a)
}

func (s *Simulator) checkApplication(w *answer, a *application) bool {
	if !slices.Contains([]string{"AzureADMyOrg", "AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount"}, a.Audience) {
		s.badRequest(w, "Invalid value specified for property 'signInAudience' of resource 'Application'.")
		return false
	}
	for _, req := range a.Required {
		if s.resourceOf(req.ResourceAppID) == nil && s.appByID(req.ResourceAppID) == nil {
			// assumed: required-resource
			s.badRequest(w, fmt.Sprintf("ResourceAppId '%s' of requiredResourceAccess does not reference a valid application.", req.ResourceAppID))
			return false
		}
	}
	return true
}

// deleteApplication is DELETE /applications/{id}. The service principal goes
// with it (auth.md 2.5).
func (s *Simulator) deleteApplication(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	if a == nil {
		return
	}
	if !mayManage(c, a.Owners) {
		s.deny(w)
		return
	}
	s.removeApplication(c.Tenant, a)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Simulator) removeApplication(t *tenant, a *application) {
	a.DeletedAt = s.now()
	if p := t.principalOf(a.AppID); p != nil {
		s.removePrincipal(t, p)
	}
	s.changed()
}

func (s *Simulator) listOwners(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	if a == nil {
		return
	}
	var all []object
	for _, id := range a.Owners {
		if u := c.Tenant.userOf(id); u != nil {
			o := userObject(c.Tenant, u)
			chosen := object{"@odata.type": "#microsoft.graph.user"}
			for _, name := range users.defaults {
				chosen[name] = o[name]
			}
			all = append(all, chosen)
		}
	}
	s.list(w, r, collection{context: "directoryObjects", kind: "microsoft.graph.directoryObject", page: 100, largest: 999}, all)
}

func (s *Simulator) removeOwner(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	if a == nil {
		return
	}
	i := slices.Index(a.Owners, r.PathValue("owner-id"))
	switch {
	case !mayManage(c, a.Owners):
		s.deny(w)
		return
	case i < 0:
		s.notFound(w, r.PathValue("owner-id"))
		return
	}
	a.Owners = slices.Delete(a.Owners, i, i+1)
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}
