package backup

// Workload is a kind of data with the permissions that backing it up needs.
type Workload string

// The workloads. Each has its own sub-application.
const (
	WorkloadMail     Workload = "mail"
	WorkloadExchange Workload = "exchange" // the custom role's cmdlets; no mailbox content
	WorkloadRestore  Workload = "restore"  // writes into mailboxes; its application exists only while restores run
)

// PermissionType says whether a permission acts for a signed-in person or by itself.
type PermissionType string

// The types, as Microsoft names them.
const (
	Delegated   PermissionType = "Delegated"
	Application PermissionType = "Application"
	Cmdlet      PermissionType = "Cmdlet" // of the custom role in Exchange Online
)

// Resource identifiers of Microsoft's APIs (app ids of the first-party service
// principals; microsoft/auth.md, constants).
const (
	ResourceGraph      = "00000003-0000-0000-c000-000000000000"
	ResourceExchange   = "00000002-0000-0ff1-ce00-000000000000"
	ResourceSharePoint = "00000003-0000-0ff1-ce00-000000000000" // asked for nothing; looked at for drift
)

// Permission is one line of what Holdfast asks for.
type Permission struct {
	Name       string // Microsoft's name, like Mail.Read
	Type       PermissionType
	ResourceID string   // ResourceGraph or ResourceExchange
	ID         string   // Microsoft's identifier of the scope or role
	Workload   Workload // the sub-application that holds it; "" for the main application
	Purpose    string   // a sentence for the client admin
	Breaks     string   // what does not work without it
	Standing   bool     // held all the time, or only while the administrator is there
}

// Permissions returns what a connection by service principal asks for so that
// the workloads can be backed up. The main application's permissions, which
// are used only while the administrator is there, come first. Nothing is in it
// that no given workload uses. Identifiers: Microsoft's permissions reference,
// collected in microsoft/permissions.json.
func Permissions(workloads []Workload) []Permission {
	list := append([]Permission(nil), setupPermissions...)
	for _, w := range workloads {
		list = append(list, workloadPermissions[w]...)
	}
	return list
}

// restorePermissions are what an authorization for restores asks for.
func restorePermissions() []Permission {
	var list []Permission
	for _, p := range setupPermissions {
		switch p.Name {
		case "Exchange.Manage":
			continue
		case "offline_access":
			p.Purpose = "Remove the restore application from your tenant when the restores are through, also if that is hours from now. Erased then, and after 24 hours at the latest."
			p.Breaks = "The restore application stays in the tenant, without a certificate that works, until an administrator removes it."
		}
		list = append(list, p)
	}
	return append(list, workloadPermissions[WorkloadRestore]...)
}

// WorkloadPermissions returns the application permissions of one sub-application.
func WorkloadPermissions(w Workload) []Permission { return workloadPermissions[w] }

var setupPermissions = []Permission{
	{Name: "openid", Type: Delegated, ResourceID: ResourceGraph, ID: "37f7f235-527c-4136-accd-4a02d197296e",
		Purpose: "Learn who signed in, and to which tenant.",
		Breaks:  "Nobody can connect, repair or remove anything: it stays unknown who signed in."},
	{Name: "profile", Type: Delegated, ResourceID: ResourceGraph, ID: "14dad69e-099b-42c9-810b-d002981feec1",
		Purpose: "Show your name and account, so that you can see which one you used.",
		Breaks:  "The page cannot say which account was used; signing in fails."},
	{Name: "Application.ReadWrite.All", Type: Delegated, ResourceID: ResourceGraph, ID: "bdfbf15f-ee85-4955-8675-146e8e5296b5",
		Purpose: "Create, and later remove, the applications listed below. Used only while you are signed in.",
		Breaks:  "Applications cannot be created, repaired or removed."},
	{Name: "AppRoleAssignment.ReadWrite.All", Type: Delegated, ResourceID: ResourceGraph, ID: "84bccea3-f856-4a8a-967b-dbe0a3d53a64",
		Purpose: "Give those applications the permissions listed below, and no others. Used only while you are signed in.",
		Breaks:  "New applications get no permissions, so nothing can be backed up with them."},
	{Name: "Organization.Read.All", Type: Delegated, ResourceID: ResourceGraph, ID: "4908d5b9-3fb2-4b1e-9336-1888b7937185",
		Purpose: "Read the name, the domains and the plans of your tenant, to make sure that it is the right one and has Exchange Online.",
		Breaks:  "A tenant cannot be connected: it is not known which one it is."},
	{Name: "Exchange.Manage", Type: Delegated, ResourceID: ResourceExchange, ID: "ab4f2b77-0b06-4fc1-a9de-02113fc2ab7c",
		Purpose: "Create the custom role in Exchange Online with ten cmdlets. Asked for in step 2.",
		Breaks:  "The custom role cannot be made in the automated flow; the script still can."},
	{Name: "offline_access", Type: Delegated, ResourceID: ResourceGraph, ID: "7427e0e9-2fba-42fe-b0c0-848c9e6a8182",
		Purpose: "Try again while Exchange Online prepares the custom role, for up to three days. Erased as soon as the role is connected. Asked for in step 2.",
		Breaks:  "A custom role that Exchange Online delays needs a new sign-in for each try."},
}

var workloadPermissions = map[Workload][]Permission{
	WorkloadMail: {
		{Name: "User.Read.All", Type: Application, ResourceID: ResourceGraph, ID: "df021288-bdef-4463-88db-98f22de89214", Workload: WorkloadMail, Standing: true,
			Purpose: "List the accounts of your tenant and whether they have a licence.",
			Breaks:  "New and deleted accounts are not noticed; changed licences are not either."},
		{Name: "Mail.Read", Type: Application, ResourceID: ResourceGraph, ID: "810c84a8-4a9e-49e6-bf7d-12d183f40d01", Workload: WorkloadMail, Standing: true,
			Purpose: "Read the messages of the mailboxes that are backed up. It cannot send, change or delete.",
			Breaks:  "No mailbox can be backed up."},
		{Name: "MailboxSettings.Read", Type: Application, ResourceID: ResourceGraph, ID: "40f97065-369a-49f4-947c-6a255697ae91", Workload: WorkloadMail, Standing: true,
			Purpose: "Tell user mailboxes from shared mailboxes, rooms and equipment.",
			Breaks:  "Shared mailboxes, rooms and equipment look like user mailboxes."},
	},
	WorkloadRestore: {
		{Name: "Mail.ReadWrite", Type: Application, ResourceID: ResourceGraph, ID: "e2a3a72e-5f79-4c64-b1b1-878b674786c9", Workload: WorkloadRestore,
			Purpose: "Put messages back into mailboxes. It cannot send. It is held only while a restore runs, for 24 hours at most.",
			Breaks:  "Nothing can be restored to Microsoft 365. Backups and downloads do not need it."},
	},
	WorkloadExchange: {
		{Name: "Exchange.ManageAsApp", Type: Application, ResourceID: ResourceExchange, ID: "dc50a0fb-09a3-484d-be87-e023b12c6440", Workload: WorkloadExchange, Standing: true,
			Purpose: "Sign in to Exchange Online as an application. What it may do there is limited to the custom role: read the list of mailboxes and their sizes.",
			Breaks:  "The custom role does not work: public folders and journaling are paused."},
	},
}

// RequiredCmdlets are what the person of step 2 must be allowed to run
// (product.md, prerequisites).
var RequiredCmdlets = []string{
	"Enable-OrganizationCustomization", "Get-RoleGroup", "New-RoleGroup", "Get-ManagementRole", "New-ManagementRole",
	"New-ManagementRoleAssignment", "Get-ServicePrincipal", "New-ServicePrincipal", "Get-RoleGroupMember", "Add-RoleGroupMember",
}
