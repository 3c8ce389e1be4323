package simulator

import (
	"slices"
	"time"
)

// builtinRoles are management roles that every organization has. Their lists
// of cmdlets are cut down to what the simulator knows and a few more.
// assumed: role-entries
var builtinRoles = builtinRoleList()

func builtinRoleList() []*managementRole {
	list := []*managementRole{
		{Name: "Organization Configuration", Cmdlets: []string{"Enable-OrganizationCustomization", "Get-OrganizationConfig", "Set-OrganizationConfig", "Get-AcceptedDomain", "Get-ManagementRoleAssignment"}},
		{Name: "Role Management", Cmdlets: []string{
			"Get-RoleGroup", "New-RoleGroup", "Set-RoleGroup", "Remove-RoleGroup", "Get-RoleGroupMember", "Add-RoleGroupMember", "Remove-RoleGroupMember", "Update-RoleGroupMember",
			"Get-ManagementRole", "New-ManagementRole", "Remove-ManagementRole", "Get-ManagementRoleEntry", "Add-ManagementRoleEntry", "Set-ManagementRoleEntry", "Remove-ManagementRoleEntry",
			"Get-ManagementRoleAssignment", "New-ManagementRoleAssignment", "Set-ManagementRoleAssignment", "Remove-ManagementRoleAssignment",
			"Get-ManagementScope", "New-ManagementScope", "Set-ManagementScope", "Remove-ManagementScope",
			"Get-ServicePrincipal", "New-ServicePrincipal", "Set-ServicePrincipal", "Remove-ServicePrincipal", "Test-ServicePrincipalAuthorization"}},
		{Name: "View-Only Recipients", Cmdlets: []string{"Get-Mailbox", "Get-MailboxStatistics", "Get-Recipient", "Get-User", "Get-MailboxFolderStatistics", "Get-MailboxPermission"}},
		{Name: "View-Only Configuration", Cmdlets: []string{"Get-OrganizationConfig", "Get-AcceptedDomain", "Get-RoleGroup", "Get-RoleGroupMember", "Get-ManagementRole", "Get-ManagementRoleEntry", "Get-ManagementRoleAssignment", "Get-ManagementScope", "Get-ServicePrincipal", "Get-TransportConfig"}},
		{Name: "Mail Recipients", Cmdlets: []string{"Get-Mailbox", "Set-Mailbox", "Get-MailboxStatistics", "Get-Recipient", "Get-User", "Set-User", "Get-MailboxPermission", "Add-MailboxPermission"}},
		{Name: "Mail Recipient Creation", Cmdlets: []string{"Get-Mailbox", "New-Mailbox", "Remove-Mailbox", "Get-Recipient", "Get-User"}},
		{Name: "Public Folders", Cmdlets: []string{"Get-PublicFolder", "Get-PublicFolderStatistics", "Get-PublicFolderClientPermission", "Add-PublicFolderClientPermission", "New-PublicFolder"}},
		{Name: "Journaling", Cmdlets: []string{"Get-JournalRule", "New-JournalRule", "Set-JournalRule", "Remove-JournalRule"}},
		{Name: "Transport Rules", Cmdlets: []string{"Get-TransportRule", "New-TransportRule", "Set-TransportRule", "Remove-TransportRule"}},
		{Name: "Mailbox Import Export", Cmdlets: []string{"New-MailboxImportRequest", "New-MailboxExportRequest", "Get-Mailbox"}},
		{Name: "Address Lists", Cmdlets: []string{"Get-AddressList", "New-AddressList"}},
		{Name: "MyBaseOptions", EndUser: true, Cmdlets: []string{"Get-Mailbox", "Get-MailboxStatistics"}},
	}
	for _, permission := range []string{
		"Mail.Read", "Mail.ReadBasic", "Mail.ReadWrite", "Mail.Send", "MailboxSettings.Read", "MailboxSettings.ReadWrite", "Calendars.Read", "Calendars.ReadWrite",
		"Contacts.Read", "Contacts.ReadWrite", "MailboxFolder.Read", "MailboxFolder.ReadWrite", "MailboxItem.Read", "MailboxItem.ReadWrite", "MailboxItem.Export", "MailboxItem.ImportExport",
		"Mail Full Access", "Exchange Full Access", "EWS.AccessAsApp", "SMTP.SendAsApp",
	} {
		list = append(list, &managementRole{Name: "Application " + permission, App: true})
	}
	for _, r := range list {
		r.Guid, r.Created = stableGUID("management role", r.Name), worldStart
	}
	return list
}

// builtinGroup is a role group that every organization has.
type builtinGroup struct {
	name      string
	roles     []string // nil is all but those that Microsoft assigns to nobody
	delegates bool
}

// unassigned are roles that Microsoft assigns to no group (auth.md 5.5).
var unassigned = []string{"Mailbox Import Export", "Address Lists"}

func (b builtinGroup) has(r *managementRole) bool {
	if r.App || r.EndUser {
		return false
	}
	if b.roles == nil {
		return !slices.Contains(unassigned, r.Name)
	}
	return slices.Contains(b.roles, r.Name)
}

const organizationManagement = "Organization Management"

var builtinGroups = []builtinGroup{
	{name: organizationManagement, delegates: true},
	{name: "Recipient Management", roles: []string{"Mail Recipients", "Mail Recipient Creation"}},
	{name: "View-Only Organization Management", roles: []string{"View-Only Configuration", "View-Only Recipients"}},
	{name: "Records Management", roles: []string{"Journaling", "Transport Rules"}},
	{name: "Compliance Management", roles: []string{"Journaling", "Transport Rules", "View-Only Recipients"}},
	{name: "Public Folder Management", roles: []string{"Public Folders"}},
}

// groupsOf are the role groups that count for the caller: by directory role,
// which the token carries, or by membership. Memberships younger than the token
// do not count, and those younger than the delay neither (auth.md 4.3: "token
// older than role").
func (x *exchange) groupsOf(c *caller, now time.Time) (groups []*roleGroup, implicit bool) {
	implicit = slices.Contains(c.Wids, globalAdministrator)
	for _, g := range x.Groups {
		in := g.Name == organizationManagement && (implicit || slices.Contains(c.Wids, exchangeAdministrator))
		for _, m := range g.Members {
			if m.ObjectID == c.identity() && x.inEffect(c, m.Created, now) {
				in = true
				implicit = implicit && g.Name != organizationManagement
			}
		}
		if in {
			groups = append(groups, g)
		}
	}
	return groups, implicit
}

// identity is the object id of who acts: the person, or the application.
func (c *caller) identity() string {
	if c.User != nil {
		return c.User.ID
	}
	return c.PrincipalID
}

// inEffect says whether something assigned at a time counts for the caller's
// token. Tokens carry whole seconds.
func (x *exchange) inEffect(c *caller, made, now time.Time) bool {
	return !made.Add(time.Duration(x.Settings.RoleDelay)).After(now) && !made.Truncate(time.Second).After(c.IssuedAt)
}

// assignmentsOf are the caller's role assignments in effect.
func (x *exchange) assignmentsOf(c *caller, now time.Time) []*roleAssignment {
	groups, implicit := x.groupsOf(c, now)
	var list []*roleAssignment
	for _, a := range x.Assignments {
		mine := a.User != "" && a.User == c.identity() || a.App != "" && a.App == c.identity()
		for _, g := range groups {
			mine = mine || a.Group == g.Guid
		}
		if a.Delegating && implicit && x.Settings.NoDelegation {
			mine = false
		}
		if mine && x.inEffect(c, a.Created, now) {
			list = append(list, a)
		}
	}
	return list
}

// cmdletsOf lists the cmdlets that the caller may run.
func (x *exchange) cmdletsOf(c *caller, now time.Time) []string {
	var list []string
	for _, a := range x.assignmentsOf(c, now) {
		if r := x.role(a.Role, now); r != nil && !a.Delegating {
			list = append(list, r.Cmdlets...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// mayAssign says whether the caller has a delegating assignment of a role or
// of one that it descends from (auth.md 5.6).
func (x *exchange) mayAssign(c *caller, role *managementRole, now time.Time) bool {
	for r := role; r != nil; r = x.parentOf(r, now) {
		for _, a := range x.assignmentsOf(c, now) {
			if a.Delegating && a.Role == r.Name {
				return true
			}
		}
	}
	return false
}

func (x *exchange) parentOf(r *managementRole, now time.Time) *managementRole {
	if r.Parent == "" {
		return nil
	}
	return x.role(r.Parent, now)
}
