package simulator

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// enableOrganizationCustomization starts the customisation: the flag flips
// later, and creates are refused for longer still (auth.md 5.2).
func enableOrganizationCustomization(call *cmdletCall) ([]object, *cmdletError) {
	x := call.x
	if !x.Dehydrated {
		return nil, failed("System.InvalidOperationException", "This operation is not required. Organization is already enabled for customization.")
	}
	x.Dehydrated = false
	lasts := time.Duration(x.Settings.HydrateFor)
	x.FlagAt, x.ReadyAt = call.now.Add(lasts*3/4), call.now.Add(lasts)
	call.s.changed()
	return nil, nil
}

func getOrganizationConfig(call *cmdletCall) ([]object, *cmdletError) {
	o := directoryObject(call.t, stableGUID("organization", call.t.ID), call.t.Domain, "CN=Organization", call.t.Created)
	o["DisplayName"], o["IsDehydrated"] = call.t.Name, call.x.Dehydrated || call.now.Before(call.x.FlagAt)
	o["ExternalDirectoryOrganizationId"] = call.t.ID
	return []object{o}, nil
}

func getAcceptedDomain(call *cmdletCall) ([]object, *cmdletError) {
	var list []object
	for i, d := range call.t.Domains {
		if id := call.p.text("Identity"); id != "" && !named(id, d) {
			continue
		}
		o := directoryObject(call.t, stableGUID("domain", d), d, "CN=Accepted Domains", call.t.Created)
		o["DomainName"], o["DomainType"], o["Default"], o["InitialDomain"] = d, "Authoritative", i == len(call.t.Domains)-1, strings.EqualFold(d, call.t.Domain)
		list = append(list, o)
	}
	if id := call.p.text("Identity"); id != "" && len(list) == 0 {
		return nil, missingObject(id)
	}
	return call.limited(list)
}

func (call *cmdletCall) roleObject(r *managementRole) object {
	o := directoryObject(call.t, r.Guid, r.Name, "CN=Roles,CN=RBAC", r.Created)
	entries := []string{}
	for _, c := range r.Cmdlets {
		entries = append(entries, roleEntry(c, call.s.cmdlets[strings.ToLower(c)]))
	}
	root := r
	for p := call.x.parentOf(root, call.now); p != nil; p = call.x.parentOf(root, call.now) {
		root = p
	}
	maps.Copy(o, object{
		"RoleEntries": entries, "RoleEntries@odata.type": "#Collection(String)", "RoleType": strings.NewReplacer(" ", "", "-", "", ".", "").Replace(root.Name), "IsRootRole": r.Parent == "", "IsEndUserRole": r.EndUser,
		"Parent": r.Parent, "Description": r.Description, "RoleState": "Usable", "IsDeprecated": false, "IsServicePrincipalRole": r.App, "AllowEmptyRole": false, "MailboxPlanIndex": "",
		"ImplicitRecipientReadScope": "Organization", "ImplicitRecipientWriteScope": "Organization", "ImplicitConfigReadScope": "OrganizationConfig", "ImplicitConfigWriteScope": "OrganizationConfig",
	})
	return o
}

func getManagementRole(call *cmdletCall) ([]object, *cmdletError) {
	if call.p.given("Script") || call.p.given("ScriptParameters") || call.p.given("CmdletParameters") {
		return nil, notSimulated("Script and CmdletParameters")
	}
	id, cmdlet, kind := call.p.text("Identity"), call.p.text("Cmdlet"), call.p.text("RoleType")
	var of *managementRole
	if id != "" {
		if of = call.x.role(id, call.now); of == nil && !call.x.Settings.FindAll {
			return nil, missingObject(id)
		}
	}
	var list []object
	for _, r := range call.x.allRoles(call.now) {
		o := call.roleObject(r)
		switch {
		case cmdlet != "" && !slices.ContainsFunc(r.Cmdlets, func(c string) bool { return strings.EqualFold(c, cmdlet) }),
			kind != "" && !strings.EqualFold(kind, o["RoleType"].(string)),
			of != nil && call.p.flag("GetChildren") && r.Parent != of.Name,
			of != nil && call.p.flag("Recurse") && !call.descends(r, of),
			of != nil && !call.p.flag("GetChildren") && !call.p.flag("Recurse") && r != of:
			continue
		}
		list = append(list, o)
	}
	return list, nil
}

// descends says whether a role is of or was cut down from it.
func (call *cmdletCall) descends(r, of *managementRole) bool {
	for ; r != nil; r = call.x.parentOf(r, call.now) {
		if r == of {
			return true
		}
	}
	return false
}

func newManagementRole(call *cmdletCall) ([]object, *cmdletError) {
	name := call.p.text("Name")
	if problem := call.mayCreate(name); problem != nil {
		return nil, problem
	}
	if slices.ContainsFunc(append(slices.Clone(builtinRoles), call.x.Roles...), func(r *managementRole) bool { return named(name, r.Name) }) {
		return nil, existing("CN=" + name + ",CN=Roles,CN=RBAC")
	}
	parent := call.x.role(call.p.text("Parent"), call.now)
	switch {
	case parent == nil:
		return nil, missingObject(call.p.text("Parent"))
	case parent.App:
		// [exo-rbac]: roles of RBAC for Applications can't be copied. assumed: app-role-child
		return nil, failed("System.InvalidOperationException", "The role \"%s\" can't be used as a parent.", parent.Name)
	}
	cmdlets := slices.Clone(parent.Cmdlets)
	if call.p.given("EnabledCmdlets") {
		cmdlets = nil
		for _, c := range call.p.list("EnabledCmdlets") {
			i := slices.IndexFunc(parent.Cmdlets, func(p string) bool { return strings.EqualFold(p, c) })
			if i < 0 {
				// assumed: enabled-cmdlets
				return nil, failed("System.ArgumentException", "The cmdlet \"%s\" isn't among the entries of the parent role \"%s\".", c, parent.Name)
			}
			cmdlets = append(cmdlets, parent.Cmdlets[i])
		}
	}
	r := &managementRole{Guid: newGUID(), Name: name, Parent: parent.Name, Description: call.p.text("Description"), Cmdlets: cmdlets, Created: call.now, VisibleAt: call.visibleAt()}
	call.x.Roles = append(call.x.Roles, r)
	call.s.changed()
	return []object{call.roleObject(r)}, nil
}

// ownRole finds a role that may be changed.
func (call *cmdletCall) ownRole(name string) (*managementRole, *cmdletError) {
	r := call.x.role(name, call.now)
	switch {
	case r == nil:
		return nil, missingObject(name)
	case r.Parent == "":
		return nil, failed("System.InvalidOperationException", "The role \"%s\" is built-in and can't be changed.", r.Name)
	}
	return r, nil
}

func removeManagementRole(call *cmdletCall) ([]object, *cmdletError) {
	r, problem := call.ownRole(call.p.text("Identity"))
	if problem != nil {
		return nil, problem
	}
	if slices.ContainsFunc(call.x.Assignments, func(a *roleAssignment) bool { return a.Role == r.Name }) {
		// assumed: role-in-use
		return nil, failed("System.InvalidOperationException", "The role \"%s\" can't be removed because it has role assignments.", r.Name)
	}
	if slices.ContainsFunc(call.x.Roles, func(c *managementRole) bool { return c.Parent == r.Name }) && !call.p.flag("Recurse") {
		return nil, failed("System.InvalidOperationException", "The role \"%s\" can't be removed because it has children. Use Recurse.", r.Name)
	}
	call.x.Roles = slices.DeleteFunc(call.x.Roles, func(c *managementRole) bool { return c == r || c.Parent == r.Name })
	call.s.changed()
	return nil, nil
}

// roleAndCmdlet cuts the identity of an entry, Role\Cmdlet.
func (call *cmdletCall) roleAndCmdlet() (role, cmdlet string) {
	role, cmdlet, ok := strings.Cut(call.p.text("Identity"), `\`)
	if !ok {
		cmdlet = "*"
	}
	return role, cmdlet
}

func getManagementRoleEntry(call *cmdletCall) ([]object, *cmdletError) {
	name, pattern := call.roleAndCmdlet()
	var list []object
	for _, r := range call.x.allRoles(call.now) {
		if !matches(name, r.Name) {
			continue
		}
		for _, c := range r.Cmdlets {
			if !matches(pattern, c) {
				continue
			}
			names := []string{}
			if syntax := call.s.cmdlets[strings.ToLower(c)]; syntax != nil {
				names = strings.Split(strings.TrimPrefix(roleEntry("", syntax), roleEntry("", nil)+" -"), " -")
			}
			list = append(list, object{"Name": c, "Role": r.Name, "Id": r.Name, "Identity": r.Name + `\` + c, "Type": "Cmdlet", "PSSnapinName": "Microsoft.Exchange.Management.PowerShell.E2010", "Parameters": names, "Parameters@odata.type": "#Collection(String)", "IsValid": true})
		}
	}
	if len(list) == 0 && !strings.Contains(name+pattern, "*") {
		return nil, missingObject(call.p.text("Identity"))
	}
	return call.limited(list)
}

// matches compares with a name in which a star stands for anything.
func matches(pattern, name string) bool {
	if before, ok := strings.CutSuffix(pattern, "*"); ok {
		return len(name) >= len(before) && strings.EqualFold(name[:len(before)], before)
	}
	return strings.EqualFold(pattern, name)
}

func removeManagementRoleEntry(call *cmdletCall) ([]object, *cmdletError) {
	name, cmdlet := call.roleAndCmdlet()
	r, problem := call.ownRole(name)
	if problem != nil {
		return nil, problem
	}
	before := len(r.Cmdlets)
	r.Cmdlets = slices.DeleteFunc(r.Cmdlets, func(c string) bool { return strings.EqualFold(c, cmdlet) })
	if len(r.Cmdlets) == before {
		return nil, missingObject(call.p.text("Identity"))
	}
	call.s.changed()
	return nil, nil
}

// resultSize reads ResultSize: 1000 without it, -1 for Unlimited.
func resultSize(p parameters) (int, *cmdletError) {
	text := p.text("ResultSize")
	if text == "" {
		return 1000, nil
	}
	if strings.EqualFold(text, "Unlimited") {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, bindingError("CannotConvertArgument", "Cannot process argument transformation on parameter 'ResultSize'. Cannot convert value \"%s\" to type \"Microsoft.Exchange.Data.Unlimited\".", text)
	}
	return n, nil
}
