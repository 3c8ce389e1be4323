package simulator

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// exchangeTime is a time as Exchange writes it.
func exchangeTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

// directoryObject are the properties that every object of Exchange's directory
// has, with the annotations of the admin interface.
func directoryObject(t *tenant, guid, name, container string, created time.Time) object {
	return object{
		"Name": name, "Identity": name, "Id": name, "Guid": guid, "Guid@data.type": "System.Guid", "ExchangeObjectId": guid, "ExchangeObjectId@data.type": "System.Guid",
		"DistinguishedName": "CN=" + name + "," + container + ",CN=Configuration," + "CN=" + t.Domain + ",OU=Microsoft Exchange Hosted Organizations,DC=SIM01A001,DC=PROD,DC=OUTLOOK,DC=COM",
		"OrganizationId":    "SIM01A001.PROD.OUTLOOK.COM/Microsoft Exchange Hosted Organizations/" + t.Domain, "IsValid": true, "ObjectState": "Unchanged",
		"WhenCreated": exchangeTime(created), "WhenCreated@data.type": "System.DateTime", "WhenCreatedUTC": exchangeTime(created), "WhenChanged": exchangeTime(created), "WhenChangedUTC": exchangeTime(created),
		"OriginatingServer": "SIM01A001DC001.SIM01A001.PROD.OUTLOOK.COM",
	}
}

func (call *cmdletCall) groupObject(g *roleGroup) object {
	o := directoryObject(call.t, g.Guid, g.Name, "CN=Role Groups", g.Created)
	members := []string{}
	for _, m := range g.Members {
		members = append(members, call.memberName(m))
	}
	assignments := []string{}
	for _, a := range call.x.Assignments {
		if a.Group == g.Guid && !a.VisibleAt.After(call.now) {
			assignments = append(assignments, a.Name)
		}
	}
	kind := "Standard"
	if g.BuiltIn {
		kind = "BuiltIn"
	}
	roles := append([]string{}, call.x.rolesOf(g, false, call.now)...)
	maps.Copy(o, object{
		"DisplayName": g.DisplayName, "Description": g.Description, "RoleGroupType": kind, "Roles": roles, "Roles@odata.type": "#Collection(String)", "Members": members, "Members@odata.type": "#Collection(String)",
		"RoleAssignments": assignments, "RoleAssignments@odata.type": "#Collection(String)", "ManagedBy": append([]string{}, g.ManagedBy...), "ManagedBy@odata.type": "#Collection(String)",
		"SamAccountName": g.Name, "ExternalDirectoryObjectId": g.Guid, "LinkedGroup": "", "Capabilities": []string{}, "ObjectCategory": "Group", "ObjectClass": []string{"top", "group"}, "ExchangeVersion": "0.10 (14.0.100.0)",
	})
	return o
}

// memberName is how a member is listed: the name of the person, or the object
// id of a service principal.
func (call *cmdletCall) memberName(m *roleMember) string {
	if u := call.t.userByID(m.ObjectID); u != nil {
		return u.Name
	}
	return m.ObjectID
}

// found is the answer of a Get- cmdlet that found nothing: an error, or
// everything (auth.md 5.1, Microsoft's caution).
func (call *cmdletCall) found(identity string, one, all []object) ([]object, *cmdletError) {
	if len(one) > 0 {
		return one, nil
	}
	if call.x.Settings.FindAll {
		return call.limited(all)
	}
	return nil, missingObject(identity)
}

// limited cuts a list to ResultSize, 1000 if it is not given.
func (call *cmdletCall) limited(list []object) ([]object, *cmdletError) {
	limit, problem := resultSize(call.p)
	if problem != nil {
		return nil, problem
	}
	if limit >= 0 && len(list) > limit {
		list = list[:limit]
		call.warnings = append(call.warnings, "There are more results available than are currently displayed. To view them, increase the value for the ResultSize parameter.")
	}
	return list, nil
}

func getRoleGroup(call *cmdletCall) ([]object, *cmdletError) {
	if call.p.given("Filter") || call.p.given("SortBy") {
		return nil, notSimulated("Filter and SortBy")
	}
	var all []object
	for _, g := range call.x.Groups {
		if !g.VisibleAt.After(call.now) {
			all = append(all, call.groupObject(g))
		}
	}
	id := call.p.text("Identity")
	if id == "" {
		return call.limited(all)
	}
	var one []object
	if g := call.x.group(id, call.now); g != nil {
		one = []object{call.groupObject(g)}
	}
	return call.found(id, one, all)
}

func newRoleGroup(call *cmdletCall) ([]object, *cmdletError) {
	name := call.p.text("Name")
	if problem := call.mayCreate(name); problem != nil {
		return nil, problem
	}
	if len([]rune(call.p.text("DisplayName"))) > 256 {
		return nil, tooLong("DisplayName", 256)
	}
	if slices.ContainsFunc(call.x.Groups, func(g *roleGroup) bool { return named(name, g.Name) }) {
		return nil, existing("CN=" + name + ",OU=" + call.t.Domain)
	}
	var roles []*managementRole
	for _, r := range call.p.list("Roles") {
		role, problem := call.assignable(r)
		if problem != nil {
			return nil, problem
		}
		roles = append(roles, role)
	}
	g := &roleGroup{Guid: newGUID(), Name: name, DisplayName: firstOf(call.p.text("DisplayName"), name), Description: call.p.text("Description"), ManagedBy: call.p.list("ManagedBy"), Created: call.now, VisibleAt: call.visibleAt()}
	if len(g.ManagedBy) == 0 {
		g.ManagedBy = []string{organizationManagement}
		if call.c.User != nil {
			g.ManagedBy = append(g.ManagedBy, call.c.User.Name)
		}
	}
	for _, m := range call.p.list("Members") {
		id, problem := call.member(m)
		if problem != nil {
			return nil, problem
		}
		g.Members = append(g.Members, &roleMember{ObjectID: id, Created: call.now})
	}
	call.x.Groups = append(call.x.Groups, g)
	for _, r := range roles {
		call.x.Assignments = append(call.x.Assignments, &roleAssignment{Guid: newGUID(), Name: shortName(r.Name + "-" + g.Name), Role: r.Name, Group: g.Guid, Created: call.now, VisibleAt: call.now})
	}
	call.s.changed()
	return []object{call.groupObject(g)}, nil
}

func removeRoleGroup(call *cmdletCall) ([]object, *cmdletError) {
	g, problem := call.ownGroup()
	if problem != nil {
		return nil, problem
	}
	call.x.Groups = slices.DeleteFunc(call.x.Groups, func(o *roleGroup) bool { return o == g })
	call.x.Assignments = slices.DeleteFunc(call.x.Assignments, func(a *roleAssignment) bool { return a.Group == g.Guid })
	call.s.changed()
	return nil, nil
}

func (call *cmdletCall) ownGroup() (*roleGroup, *cmdletError) {
	id := call.p.text("Identity")
	g := call.x.group(id, call.now)
	switch {
	case g == nil:
		return nil, missingObject(id)
	case g.BuiltIn:
		return nil, failed("System.InvalidOperationException", "The role group \"%s\" is built-in and can't be removed.", g.Name)
	}
	return g, nil
}

// member finds the object id of a person or of a service principal that
// Exchange has a pointer for.
func (call *cmdletCall) member(name string) (string, *cmdletError) {
	if p := call.x.pointer(name, call.now); p != nil {
		return p.ObjectID, nil
	}
	for _, u := range call.t.Users {
		if u.DeletedAt.IsZero() && named(name, u.ID, u.UPN, u.Mail, u.Name) {
			return u.ID, nil
		}
	}
	return "", missingObject(name)
}

func getRoleGroupMember(call *cmdletCall) ([]object, *cmdletError) {
	id := call.p.text("Identity")
	g := call.x.group(id, call.now)
	if g == nil && !call.x.Settings.FindAll {
		return nil, missingObject(id)
	}
	groups := []*roleGroup{g}
	if g == nil {
		groups = call.x.Groups
	}
	var list []object
	for _, g := range groups {
		for _, m := range g.Members {
			list = append(list, call.memberObject(m))
		}
	}
	return call.limited(list)
}

func (call *cmdletCall) memberObject(m *roleMember) object {
	if u := call.t.userByID(m.ObjectID); u != nil {
		o := directoryObject(call.t, stableGUID("exchange", u.ID), u.Name, "OU=Users", u.Created)
		o["DisplayName"], o["RecipientType"], o["RecipientTypeDetails"], o["ExternalDirectoryObjectId"], o["PrimarySmtpAddress"] = u.Name, "UserMailbox", "UserMailbox", u.ID, u.Mail
		return o
	}
	o := directoryObject(call.t, stableGUID("exchange", m.ObjectID), m.ObjectID, "CN=ServicePrincipals", m.Created)
	o["DisplayName"], o["RecipientType"], o["RecipientTypeDetails"], o["ExternalDirectoryObjectId"] = m.ObjectID, "User", "ServicePrincipal", m.ObjectID
	return o
}

func addRoleGroupMember(call *cmdletCall) ([]object, *cmdletError) {
	g, id, problem := call.groupAndMember()
	if problem != nil {
		return nil, problem
	}
	if slices.ContainsFunc(g.Members, func(m *roleMember) bool { return m.ObjectID == id }) {
		// assumed: member-exists-text
		return nil, failed("Microsoft.Exchange.Management.RbacTasks.MemberAlreadyExistsException", "The recipient \"%s\" is already a member of the group \"%s\".", call.p.text("Member"), g.Name)
	}
	g.Members = append(g.Members, &roleMember{ObjectID: id, Created: call.now})
	call.s.changed()
	return nil, nil
}

func removeRoleGroupMember(call *cmdletCall) ([]object, *cmdletError) {
	g, id, problem := call.groupAndMember()
	if problem != nil {
		return nil, problem
	}
	before := len(g.Members)
	g.Members = slices.DeleteFunc(g.Members, func(m *roleMember) bool { return m.ObjectID == id })
	if len(g.Members) == before {
		return nil, failed("Microsoft.Exchange.Management.RbacTasks.MemberNotFoundException", "The recipient \"%s\" isn't a member of the group \"%s\".", call.p.text("Member"), g.Name)
	}
	call.s.changed()
	return nil, nil
}

// groupAndMember reads Identity and Member. Who is not in ManagedBy has to say
// BypassSecurityGroupManagerCheck, which is for Organization Management and
// Role Management; both are in ManagedBy or bypass here.
func (call *cmdletCall) groupAndMember() (*roleGroup, string, *cmdletError) {
	name := call.p.text("Identity")
	g := call.x.group(name, call.now)
	if g == nil {
		return nil, "", missingObject(name)
	}
	id, problem := call.member(call.p.text("Member"))
	return g, id, problem
}

// mayCreate refuses names that are too long and organizations that are not
// customised.
func (call *cmdletCall) mayCreate(name string) *cmdletError {
	if call.x.Dehydrated || call.now.Before(call.x.ReadyAt) {
		return refuseDehydrated()
	}
	if len([]rune(name)) > 64 {
		return tooLong("Name", 64)
	}
	return nil
}

// visibleAt is when all servers know what is made now.
func (call *cmdletCall) visibleAt() time.Time {
	return call.now.Add(time.Duration(call.x.Settings.ObjectDelay))
}

// shortName cuts a generated name to what Exchange allows.
func shortName(name string) string {
	if r := []rune(name); len(r) > 64 {
		return strings.TrimSpace(string(r[:64]))
	}
	return name
}

// notSimulated is for parameters that Exchange has and the simulator does not.
func notSimulated(what string) *cmdletError {
	return failed("System.NotImplementedException", "The simulated Exchange does not have %s.", what)
}
