package simulator

import (
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// createUser makes an account: https://learn.microsoft.com/graph/api/user-post-users.
func (s *Simulator) createUser(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	var body struct {
		AccountEnabled                                                               *bool
		DisplayName, MailNickname, UserPrincipalName, JobTitle, Department, UserType string
		PasswordProfile                                                              *struct{ Password string }
	}
	if !s.decode(w, r, &body) {
		return
	}
	if c.User != nil && !c.User.hasRole(globalAdministrator) {
		s.deny(w)
		return
	}
	switch {
	case body.AccountEnabled == nil, body.DisplayName == "", body.MailNickname == "", body.UserPrincipalName == "":
		s.badRequest(w, "One or more required properties are missing: accountEnabled, displayName, mailNickname, userPrincipalName, passwordProfile.")
		return
	case body.PasswordProfile == nil || body.PasswordProfile.Password == "":
		s.badRequest(w, "A password must be specified to create a new user.")
		return
	}
	name, domain, ok := strings.Cut(body.UserPrincipalName, "@")
	switch {
	case !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII || unicode.IsSpace(r) }):
		s.badRequest(w, "Property userPrincipalName is invalid.")
		return
	case !slices.ContainsFunc(t.Domains, func(d string) bool { return strings.EqualFold(d, domain) }):
		s.badRequest(w, "The domain portion of the userPrincipalName property is invalid. You must use one of the verified domain names in your organization.")
		return
	case !strongPassword(body.PasswordProfile.Password) || s.fault(r, c, "user_password_refused") != nil:
		// assumed: password-refused
		s.badRequest(w, "The specified password does not comply with password complexity requirements. Please provide a different password.")
		return
	case t.userOf(body.UserPrincipalName) != nil:
		s.badRequest(w, "Another object with the same value for property userPrincipalName already exists.")
		return
	}
	u := &user{
		ID: newGUID(), UPN: body.UserPrincipalName, Name: body.DisplayName, Password: body.PasswordProfile.Password, Enabled: *body.AccountEnabled,
		JobTitle: body.JobTitle, Department: body.Department, Kind: "user", Roles: []string{}, Created: s.now(), VisibleAt: s.now().Add(t.delay()),
	}
	t.Users = append(t.Users, u)
	t.touch(u)
	s.changed()
	w.reset = s.fault(r, c, "answer_lost") != nil
	s.one(w, r, http.StatusCreated, users, userObject(t, u))
}

// strongPassword is Microsoft's rule for cloud accounts
// (https://learn.microsoft.com/entra/identity/authentication/concept-password-ban-bad-combined-policy):
// 8 to 256 characters of three of four kinds.
func strongPassword(p string) bool {
	kinds := 0
	for _, is := range []func(rune) bool{unicode.IsLower, unicode.IsUpper, unicode.IsDigit, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }} {
		if strings.ContainsFunc(p, is) {
			kinds++
		}
	}
	return len(p) >= 8 && len(p) <= 256 && kinds >= 3
}

// deleteUser moves an account to the deleted ones. One with an administrator's
// role goes only with Directory.AccessAsUser.All, so that a client has to take
// the role away first: https://learn.microsoft.com/graph/api/user-delete.
func (s *Simulator) deleteUser(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	u := t.userOf(r.PathValue("user-id"))
	if u == nil || !s.seen(t, u.VisibleAt) {
		s.notFound(w, r.PathValue("user-id"))
		return
	}
	if c.User != nil && !c.User.hasRole(globalAdministrator) || len(u.Roles) > 0 && !c.hasScope("Directory.AccessAsUser.All") {
		s.deny(w)
		return
	}
	u.DeletedAt = s.now()
	t.touch(u)
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

var roleAssignments = collection{context: "roleManagement/directory/roleAssignments", kind: "microsoft.graph.unifiedRoleAssignment", page: 100, largest: 999}

func (s *Simulator) roleRoutes() {
	const path = "/roleManagement/directory/roleAssignments"
	s.graph("GET", path, s.listRoleAssignments)
	s.graph("POST", path, s.createRoleAssignment)
	s.graph("GET", path+"/{unifiedRoleAssignment-id}", s.showRoleAssignment)
	s.graph("DELETE", path+"/{unifiedRoleAssignment-id}", s.deleteRoleAssignment)
}

// roleAssignmentID is what Microsoft calls opaque: the same for the same role
// of the same person.
func roleAssignmentID(u *user, role string) string {
	return b64.EncodeToString([]byte(stableGUID("role assignment", u.ID, role)))[:43]
}

func roleAssignmentObject(u *user, role string) object {
	return object{"id": roleAssignmentID(u, role), "principalId": u.ID, "roleDefinitionId": role, "directoryScopeId": "/", "appScopeId": nil, "condition": nil}
}

func (s *Simulator) roleAssignmentObjects(t *tenant) []object {
	var all []object
	for _, u := range t.Users {
		if !u.DeletedAt.IsZero() || !s.seen(t, u.VisibleAt) {
			continue
		}
		for _, role := range u.Roles {
			all = append(all, roleAssignmentObject(u, role))
		}
	}
	return all
}

func (s *Simulator) listRoleAssignments(w *answer, r *http.Request, c *caller) {
	c.Tenant.Reads++
	s.list(w, r, roleAssignments, s.roleAssignmentObjects(c.Tenant))
}

func (s *Simulator) showRoleAssignment(w *answer, r *http.Request, c *caller) {
	for _, o := range s.roleAssignmentObjects(c.Tenant) {
		if o["id"] == r.PathValue("unifiedRoleAssignment-id") {
			s.one(w, r, http.StatusOK, roleAssignments, o)
			return
		}
	}
	s.notFound(w, r.PathValue("unifiedRoleAssignment-id"))
}

// createRoleAssignment gives a person a directory role for the whole tenant:
// https://learn.microsoft.com/graph/api/rbacapplication-post-roleassignments.
func (s *Simulator) createRoleAssignment(w *answer, r *http.Request, c *caller) {
	t := c.Tenant
	var body struct{ PrincipalID, RoleDefinitionID, DirectoryScopeID string }
	if !s.decode(w, r, &body) {
		return
	}
	if c.User != nil && !c.User.hasRole(globalAdministrator, privilegedRoleAdministrator) {
		s.deny(w)
		return
	}
	if body.DirectoryScopeID != "/" {
		s.badRequest(w, "The simulated directory has no administrative units: directoryScopeId must be '/'.")
		return
	}
	u := t.userOf(body.PrincipalID)
	if u == nil || !s.seen(t, u.VisibleAt) || !strings.EqualFold(u.ID, body.PrincipalID) || s.fault(r, c, "role_principal_missing") != nil {
		s.notFound(w, body.PrincipalID)
		return
	}
	role := strings.ToLower(body.RoleDefinitionID)
	if len(roleNames([]string{role})) == 0 {
		s.notFound(w, body.RoleDefinitionID)
		return
	}
	if slices.Contains(u.Roles, role) {
		s.badRequest(w, "A conflicting object with one or more of the specified property values is present in the directory.")
		return
	}
	u.Roles = append(u.Roles, role)
	t.touch(u)
	s.changed()
	w.reset = s.fault(r, c, "answer_lost") != nil
	s.one(w, r, http.StatusCreated, roleAssignments, roleAssignmentObject(u, role))
}

func (s *Simulator) deleteRoleAssignment(w *answer, r *http.Request, c *caller) {
	t, id := c.Tenant, r.PathValue("unifiedRoleAssignment-id")
	if c.User != nil && !c.User.hasRole(globalAdministrator, privilegedRoleAdministrator) {
		s.deny(w)
		return
	}
	for _, u := range t.Users {
		i := slices.IndexFunc(u.Roles, func(role string) bool { return roleAssignmentID(u, role) == id })
		if i < 0 || !u.DeletedAt.IsZero() {
			continue
		}
		u.Roles = slices.Delete(u.Roles, i, i+1)
		t.touch(u)
		s.changed()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.notFound(w, id)
}
