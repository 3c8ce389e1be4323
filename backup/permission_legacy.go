package backup

// PermissionsOf returns what a connection by the given method asks for so that
// the workloads can be backed up.
func PermissionsOf(method Method, workloads []Workload) []Permission {
	if method == MethodBackupAdministrator {
		return LegacyPermissions()
	}
	return Permissions(workloads)
}

// LegacyPermissions returns what the backup administrator method asks for: what
// is used while the administrator is there, then what the main application
// itself holds in the tenant from then on.
func LegacyPermissions() []Permission {
	return append(append([]Permission(nil), legacySetup...), MainPermissions()...)
}

// MainPermissions are the application permissions of the main application in
// the tenant of a connection by the backup administrator: those of the mail
// application, held by an application that the tenant does not own.
func MainPermissions() []Permission {
	list := append([]Permission(nil), workloadPermissions[WorkloadMail]...)
	for i := range list {
		list[i].Workload = ""
	}
	return list
}

// Permissions returns what an authorization asks for.
func (a Authorization) Permissions() []Permission {
	switch {
	case a.Purpose == PurposeRestore:
		return restorePermissions()
	case a.Purpose == PurposeCleanUp:
		return append([]Permission(nil), legacySetup...)
	case a.ConsentPurpose() == SignInAdministrator:
		return LegacyPermissions()
	}
	return Permissions(a.Workloads)
}

// LegacyWorkloads are what the backup administrator method backs up: without
// the custom role in Exchange Online.
func LegacyWorkloads() []Workload { return []Workload{WorkloadMail} }

var legacySetup = []Permission{
	setupPermissions[0], setupPermissions[1],
	{Name: "Application.Read.All", Type: Delegated, ResourceID: ResourceGraph, ID: "c79f8feb-a9db-4090-85f9-90d820caa0eb",
		Purpose: "Find Holdfast's application and Microsoft Graph among the applications of your tenant. Used only while you are signed in.",
		Breaks:  "Holdfast's application gets no permissions, so nothing can be backed up."},
	{Name: "AppRoleAssignment.ReadWrite.All", Type: Delegated, ResourceID: ResourceGraph, ID: "84bccea3-f856-4a8a-967b-dbe0a3d53a64",
		Purpose: "Give Holdfast's own application the application permissions listed below, and take them away after a migration. Used only while you are signed in.",
		Breaks:  "Holdfast's application gets no permissions, so nothing can be backed up."},
	{Name: "Organization.Read.All", Type: Delegated, ResourceID: ResourceGraph, ID: "4908d5b9-3fb2-4b1e-9336-1888b7937185",
		Purpose: "Read the name, the domains and the plans of your tenant, to make sure that it is the right one.",
		Breaks:  "A tenant cannot be connected: it is not known which one it is."},
	{Name: "User.ReadWrite.All", Type: Delegated, ResourceID: ResourceGraph, ID: "204e0828-b5ca-4ad8-b9f3-f32a958e7cc4",
		Purpose: "Create the account backupadmin, and delete it after a migration. Used only while you are signed in.",
		Breaks:  "The backup administrator cannot be created."},
	{Name: "RoleManagement.ReadWrite.Directory", Type: Delegated, ResourceID: ResourceGraph, ID: "d01b97e9-cbc0-49fe-810a-750afd5527a3",
		Purpose: "Make that account a Global Administrator, and take the role away before it is deleted. Used only while you are signed in.",
		Breaks:  "The account stays without a role, and cannot authorize Holdfast again."},
}
