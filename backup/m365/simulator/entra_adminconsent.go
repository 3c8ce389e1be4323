package simulator

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// adminConsent is /adminconsent, v1 and v2 (auth.md 1.5).
func (s *Simulator) adminConsent(w *answer, r *http.Request, _ *caller) {
	v, back := s.startAuthorize(w, r)
	if v == nil {
		return
	}
	if strings.EqualFold(r.PathValue("tenant"), tenantCommon) && s.isV2(r) {
		// "T = tenant or organizations, not common". assumed: adminconsent-common
		s.errorPage(w, aad(9001023, "The endpoint is not supported for /common. Please use the /organizations or tenant-specific endpoint."))
		return
	}
	back.mode = "query"
	if r.PostForm.Get("consent") == "cancel" {
		s.cancelAdminConsent(r, back)
		return
	}
	list, roles, problem := s.adminWants(r, v)
	if problem != nil {
		back.refuse(s, problem)
		return
	}
	t, u, ok := s.signIn(v)
	if !ok {
		return
	}
	if problem := s.usable(t, v); problem != nil {
		s.errorPage(w, problem)
		return
	}
	if !mayConsentForAll(u, roles) {
		s.adminNeededPage(v, t, u)
		return
	}
	if (r.PostForm.Get("consent") != "accept" || r.PostForm.Get("account") != u.ID) && (!s.options.Auto || v.hint == "") {
		s.consentPage(v, t, u, list, roles, true)
		return
	}
	s.consentForAll(t, v.home, v.app, list, roles)
	values := url.Values{"admin_consent": {"True"}, "tenant": {t.ID}}
	if s.isV2(r) {
		values.Set("scope", r.Form.Get("scope"))
	}
	back.send(s, values)
}

func (s *Simulator) isV2(r *http.Request) bool {
	in := r.Context().Value(incomingKey{}).(*incoming)
	return len(in.segments) > 1 && strings.EqualFold(in.segments[1], "v2.0")
}

// cancelAdminConsent differs between the versions.
func (s *Simulator) cancelAdminConsent(r *http.Request, b *redirect) {
	if !s.isV2(r) {
		s.cancelConsent(b)
		return
	}
	text, _, _, _ := s.description(b.w, aad(65004, ""))
	b.send(s, url.Values{"admin_consent": {"True"}, "error": {"consent_required"}, "error_description": {text}})
}

// adminWants says what is to be granted: v1 all that the registration lists,
// v2 the scopes named, with application permissions for /.default.
func (s *Simulator) adminWants(r *http.Request, v *visit) (list []wanted, roles []scopeOf, _ *aadProblem) {
	if !s.isV2(r) {
		for _, res := range s.resources {
			if names := v.app.requiredScopes(res); len(names) > 0 {
				list = append(list, wanted{resource: res, scopes: names})
			}
			roles = append(roles, v.app.requiredRoles(res)...)
		}
		return list, roles, nil
	}
	want, problem := s.parseScope(firstOf(r.Form.Get("scope"), "https://graph.microsoft.com/.default"))
	if problem != nil {
		return nil, nil, problem
	}
	for _, p := range want.parts() {
		names := slices.Concat(p.scopes, p.openid)
		if p.all {
			names = append(names, v.app.requiredScopes(p.resource)...)
			roles = append(roles, v.app.requiredRoles(p.resource)...)
		}
		list = append(list, wanted{resource: p.resource, scopes: names})
	}
	return list, roles, nil
}

// requiredRoles are the application permissions that the registration lists
// for a resource.
func (a *application) requiredRoles(res *resource) []scopeOf {
	var roles []scopeOf
	for _, req := range a.Required {
		if !strings.EqualFold(req.ResourceAppID, res.AppID) {
			continue
		}
		for _, x := range req.Access {
			if role := res.roleByID(x.ID); role != nil && x.Type == "Role" {
				roles = append(roles, *role)
			}
		}
	}
	return roles
}

// mayConsentForAll: Global and Privileged Role Administrators anything,
// (Cloud) Application Administrators all but Graph's application permissions
// (auth.md 1.5).
func mayConsentForAll(u *user, roles []scopeOf) bool {
	if u.hasRole(globalAdministrator, privilegedRoleAdministrator) {
		return true
	}
	graph := slices.ContainsFunc(roles, func(r scopeOf) bool { return r.Resource == graphAppID })
	return u.hasRole(applicationAdministrator, cloudApplicationAdministrator) && !graph
}

// consentForAll grants for the whole tenant. Earlier tenant-wide delegated
// grants that are not in the new request go away (auth.md 1.5).
func (s *Simulator) consentForAll(t, home *tenant, a *application, list []wanted, roles []scopeOf) {
	client := s.install(t, home, a)
	for _, w := range list {
		if rp := t.principalOf(w.resource.AppID); rp != nil {
			if g := t.grantOf(client.ID, rp.ID, ""); g != nil {
				g.Scopes = nil
			}
		}
	}
	s.consent(t, nil, home, a, list)
	for _, role := range roles {
		rp := t.principalOf(role.Resource)
		if rp == nil || t.assigned(client.ID, rp.ID, role.ID) != nil {
			continue
		}
		t.Assignments = append(t.Assignments, &assignment{ID: newAssignmentID(), RoleID: role.ID, PrincipalID: client.ID, ResourceID: rp.ID, Created: s.now(), VisibleAt: s.now()})
	}
	s.changed()
}

func (t *tenant) assigned(principal, resource, role string) *assignment {
	for _, a := range t.Assignments {
		if a.PrincipalID == principal && a.ResourceID == resource && strings.EqualFold(a.RoleID, role) {
			return a
		}
	}
	return nil
}

// newAssignmentID is opaque: base64, not a GUID.
func newAssignmentID() string {
	return b64.EncodeToString([]byte(newGUID()))[:43]
}
