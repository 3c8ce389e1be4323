package simulator

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// assignable finds a role that the caller may assign.
func (call *cmdletCall) assignable(name string) (*managementRole, *cmdletError) {
	r := call.x.role(name, call.now)
	if r == nil {
		return nil, missingObject(name)
	}
	if !call.x.mayAssign(call.c, r, call.now) {
		return nil, failed("Microsoft.Exchange.Configuration.Tasks.TaskInvalidOperationException",
			"You don't have access to create, change, or remove the \"%s\" management role assignment. You must be assigned a delegating role assignment to the management role or its parent in the hierarchy without a scope restriction.", r.Name)
	}
	return r, nil
}

func (call *cmdletCall) assignmentObject(a *roleAssignment) object {
	o := directoryObject(call.t, a.Guid, a.Name, "CN=Role Assignments,CN=RBAC", a.Created)
	assignee, name, kind := a.Group, "", "RoleGroup"
	for _, g := range call.x.Groups {
		if g.Guid == a.Group {
			assignee, name = g.Name, g.Name
		}
	}
	switch {
	case a.App != "":
		assignee, name, kind = a.App, a.App, "ServicePrincipal"
	case a.User != "":
		assignee, name, kind = a.User, a.User, "User"
	}
	delegation, write := "Regular", "Organization"
	if a.Delegating {
		delegation = "DelegatingOrgWide"
	}
	if a.Scope != "" {
		write = "CustomRecipientScope"
	}
	maps.Copy(o, object{
		"Role": a.Role, "RoleAssignee": assignee, "RoleAssigneeName": name, "RoleAssigneeType": kind, "RoleAssignmentDelegationType": delegation, "AssignmentMethod": "Direct", "EffectiveUserName": "All Group Members", "AssignmentChain": "",
		"App": a.App, "User": firstOf(a.User, assignee), "CustomResourceScope": a.Scope, "CustomRecipientWriteScope": "", "CustomConfigWriteScope": "", "RecipientReadScope": "Organization", "ConfigReadScope": "OrganizationConfig",
		"RecipientWriteScope": write, "ConfigWriteScope": "OrganizationConfig", "Enabled": true,
	})
	return o
}

func getManagementRoleAssignment(call *cmdletCall) ([]object, *cmdletError) {
	id, role, assignee := call.p.text("Identity"), call.p.text("Role"), call.p.text("RoleAssignee")
	var list []object
	for _, a := range call.x.Assignments {
		o := call.assignmentObject(a)
		switch {
		case a.VisibleAt.After(call.now),
			id != "" && !named(id, a.Name, a.Guid),
			role != "" && !named(role, a.Role),
			assignee != "" && !named(assignee, o["RoleAssignee"].(string), a.Group, a.App, a.User, call.pointerNames(a.App)),
			call.p.given("Delegating") && call.p.flag("Delegating") != a.Delegating:
			continue
		}
		list = append(list, o)
	}
	if id != "" && len(list) == 0 {
		return nil, missingObject(id)
	}
	return list, nil
}

// pointerNames is the display name of an application's pointer.
func (call *cmdletCall) pointerNames(objectID string) string {
	if p := call.x.pointer(objectID, call.now); p != nil && objectID != "" {
		return p.Name
	}
	return ""
}

func newManagementRoleAssignment(call *cmdletCall) ([]object, *cmdletError) {
	name := call.p.text("Name")
	if problem := call.mayCreate(name); problem != nil {
		return nil, problem
	}
	r, problem := call.assignable(call.p.text("Role"))
	if problem != nil {
		return nil, problem
	}
	a := &roleAssignment{Guid: newGUID(), Role: r.Name, Delegating: call.p.flag("Delegating"), Created: call.now, VisibleAt: call.now}
	assignee, problem := call.assignee(a)
	if problem != nil {
		return nil, problem
	}
	if r.App != (a.App != "") && (r.App || len(r.Cmdlets) == 0) {
		// assumed: app-role-to-group
		return nil, failed("System.InvalidOperationException", "The role \"%s\" can only be assigned to a service principal.", r.Name)
	}
	for _, other := range []string{"CustomRecipientWriteScope", "ExclusiveRecipientWriteScope", "RecipientAdministrativeUnitScope", "RecipientGroupScope", "RecipientOrganizationalUnitScope", "RecipientRelativeWriteScope", "Policy"} {
		if call.p.given(other) {
			return nil, notSimulated(other)
		}
	}
	if scope := call.p.text("CustomResourceScope"); scope != "" {
		sc := call.x.scope(scope, call.now)
		if sc == nil {
			return nil, missingObject(scope)
		}
		a.Scope = sc.Name
	}
	a.Name = firstOf(name, call.freeName(shortName(r.Name+"-"+assignee)))
	if slices.ContainsFunc(call.x.Assignments, func(o *roleAssignment) bool { return named(a.Name, o.Name) }) {
		return nil, existing("CN=" + a.Name + ",CN=Role Assignments,CN=RBAC")
	}
	call.x.Assignments = append(call.x.Assignments, a)
	call.s.changed()
	return []object{call.assignmentObject(a)}, nil
}

// assignee fills who gets a role, and returns the name for the assignment.
func (call *cmdletCall) assignee(a *roleAssignment) (string, *cmdletError) {
	group, app, person := call.p.text("SecurityGroup"), call.p.text("App"), call.p.text("User")
	switch {
	case group != "":
		g := call.x.group(group, call.now)
		if g == nil {
			return "", missingObject(group)
		}
		a.Group = g.Guid
		return g.Name, nil
	case app != "":
		p := call.x.pointer(app, call.now)
		if p == nil {
			return "", missingObject(app)
		}
		a.App = p.ObjectID
		return p.ObjectID, nil
	case person != "":
		u := call.t.userOf(person)
		if u == nil {
			return "", missingObject(person)
		}
		a.User = u.ID
		return u.Name, nil
	}
	return "", notSimulated("Policy and Computer")
}

// freeName is a generated name of an assignment that no other has: Exchange
// adds a number.
func (call *cmdletCall) freeName(name string) string {
	taken := func(n string) bool {
		return slices.ContainsFunc(call.x.Assignments, func(a *roleAssignment) bool { return named(n, a.Name) })
	}
	for i := 1; taken(name); i++ {
		base := []rune(strings.TrimRight(name, "-0123456789"))
		name = string(base[:min(len(base), 60)]) + "-" + string(rune('0'+i%10))
	}
	return name
}

func removeManagementRoleAssignment(call *cmdletCall) ([]object, *cmdletError) {
	id := call.p.text("Identity")
	i := slices.IndexFunc(call.x.Assignments, func(a *roleAssignment) bool { return named(id, a.Name, a.Guid) })
	if i < 0 {
		return nil, missingObject(id)
	}
	if _, problem := call.assignable(call.x.Assignments[i].Role); problem != nil {
		return nil, problem
	}
	call.x.Assignments = slices.Delete(call.x.Assignments, i, i+1)
	call.s.changed()
	return nil, nil
}

func (call *cmdletCall) scopeObject(sc *managementScope) object {
	o := directoryObject(call.t, sc.Guid, sc.Name, "CN=Scopes,CN=RBAC", sc.Created)
	o["RecipientFilter"], o["ScopeRestrictionType"], o["Exclusive"] = sc.Filter, "RecipientScope", false
	return o
}

func getManagementScope(call *cmdletCall) ([]object, *cmdletError) {
	var list []object
	id := call.p.text("Identity")
	for _, sc := range call.x.Scopes {
		if !sc.VisibleAt.After(call.now) && (id == "" || named(id, sc.Name, sc.Guid)) {
			list = append(list, call.scopeObject(sc))
		}
	}
	if id != "" && len(list) == 0 {
		return nil, missingObject(id)
	}
	return list, nil
}

func newManagementScope(call *cmdletCall) ([]object, *cmdletError) {
	name, filter := call.p.text("Name"), call.p.text("RecipientRestrictionFilter")
	if problem := call.mayCreate(name); problem != nil {
		return nil, problem
	}
	if _, err := parseRecipientFilter(filter); err != nil {
		return nil, failed("Microsoft.Exchange.Data.ParsingException", "Invalid filter syntax: %v", err)
	}
	if slices.ContainsFunc(call.x.Scopes, func(sc *managementScope) bool { return named(name, sc.Name) }) {
		return nil, existing("CN=" + name + ",CN=Scopes,CN=RBAC")
	}
	sc := &managementScope{Guid: newGUID(), Name: name, Filter: filter, Created: call.now, VisibleAt: call.visibleAt()}
	call.x.Scopes = append(call.x.Scopes, sc)
	call.s.changed()
	return []object{call.scopeObject(sc)}, nil
}

func removeManagementScope(call *cmdletCall) ([]object, *cmdletError) {
	id := call.p.text("Identity")
	sc := call.x.scope(id, call.now)
	if sc == nil {
		return nil, missingObject(id)
	}
	if slices.ContainsFunc(call.x.Assignments, func(a *roleAssignment) bool { return a.Scope == sc.Name }) {
		return nil, failed("System.InvalidOperationException", "The scope \"%s\" can't be removed because role assignments use it.", sc.Name)
	}
	call.x.Scopes = slices.DeleteFunc(call.x.Scopes, func(o *managementScope) bool { return o == sc })
	call.s.changed()
	return nil, nil
}

// accessDelay is how long a grant of RBAC for Applications takes to count
// ([exo-rbac]: 30 minutes to 2 hours).
func (x *exchange) accessDelay() time.Duration {
	if x.Settings.AccessDelay == 0 {
		return 30 * time.Minute
	}
	return time.Duration(x.Settings.AccessDelay)
}
