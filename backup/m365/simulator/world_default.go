package simulator

import (
	"time"

	"holdfast/backup"
)

// MainClientID is the client id of Holdfast's main application in the default
// world.
const MainClientID = "5b3d2f6e-0c1a-4d7e-9a43-7c1f60e5b2a8"

// DefaultWorld is the world of the demo: the provider Northwind MSP, where
// Holdfast's main application is registered, and five customers. Contoso
// Dental has accounts of every kind; Fabrikam Legal is small and orderly;
// Tailspin Sites has no Exchange Online; in Litware Exchange has never been
// customised, so that the custom role takes its time; Adatum
// Builders was authorized by a backup administrator.
func DefaultWorld() World {
	delay := TenantSettings{ReplicationDelay: Duration(3 * time.Second)}
	return World{Tenants: []WorldTenant{
		{
			ID: "0f6b1c52-7d0e-4a55-9c3a-1f2e8f6d7a01", Name: "Northwind MSP", Domain: "northwindmsp.onmicrosoft.com", SKUs: []string{"SPE_E3"}, TenantSettings: delay,
			People: []WorldPerson{
				{Name: "Nora North", UPN: "nora@northwindmsp.onmicrosoft.com", Password: "Nora-2026", Roles: []string{"Global Administrator"}, Licences: []string{"SPE_E3"}},
			},
			Apps: []WorldApplication{{
				ID: MainClientID, Name: "Holdfast", Secret: "holdfast-demo-secret", Certificate: true, Main: true, MultiTenant: true, Public: true, Delegated: mainPermissions(),
			}},
		},
		{
			ID: "3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02", Name: "Contoso Dental", Domain: "contosodental.onmicrosoft.com", Country: "DE",
			SKUs: []string{"SPE_E3", "EXCHANGESTANDARD", "POWER_BI_STANDARD"}, TenantSettings: delay, People: contoso(),
		},
		{
			ID: "a4e7f0b3-91c6-4d28-b5e2-0d3c8a6f5b03", Name: "Fabrikam Legal", Domain: "fabrikamlegal.onmicrosoft.com",
			SKUs: []string{"O365_BUSINESS_ESSENTIALS"}, TenantSettings: delay, People: fabrikam(),
		},
		{
			ID: "d95c2e17-6f3b-4b80-a1d4-58e7c0f92a04", Name: "Tailspin Sites", Domain: "tailspinsites.onmicrosoft.com", SKUs: []string{"SHAREPOINTENTERPRISE"}, TenantSettings: delay,
			People: []WorldPerson{
				{Name: "Tara Tail", UPN: "admin@tailspinsites.onmicrosoft.com", Password: "Tailspin-2026", Roles: []string{"Global Administrator"}, Licences: []string{"SHAREPOINTENTERPRISE"}},
				{Name: "Tim Spin", UPN: "tim@tailspinsites.onmicrosoft.com", Password: "Tailspin-2026", Licences: []string{"SHAREPOINTENTERPRISE"}},
			},
		},
		{
			ID: "7be1d4c6-50a9-4e37-92f8-c3a6b5d80f05", Name: "Litware", Domain: "litware.onmicrosoft.com", SKUs: []string{"SPE_E3"}, TenantSettings: delay, Exchange: dehydrated(),
			People: []WorldPerson{
				{Name: "Lena Lit", UPN: "admin@litware.onmicrosoft.com", Password: "Litware-2026", Roles: []string{"Global Administrator"}, Licences: []string{"SPE_E3"}, Mailbox: mailOf(20)},
				{Name: "Leo Ware", UPN: "leo@litware.onmicrosoft.com", Password: "Litware-2026", Licences: []string{"SPE_E3"}, Mailbox: mailOf(30)},
			},
		},
		{
			ID: LegacyTenantID, Name: "Adatum Builders", Domain: legacyDomain, SKUs: []string{"O365_BUSINESS_ESSENTIALS"}, TenantSettings: delay, People: adatum(),
			Grants: []WorldGrant{{App: MainClientID, Delegated: permissionNames(backup.LegacyPermissions(), backup.Delegated), Application: permissionNames(backup.LegacyPermissions(), backup.Application)}},
		},
	}}
}

// The tenant of the default world that a backup administrator authorized, and
// the connection at Holdfast that the account's marker names.
const (
	LegacyTenantID                            = "b18f3e60-7c25-4a9d-8e41-d2c7a05f6b06"
	LegacyAdministratorID                     = "6f0e9a51-3c47-4d2b-b8a6-91e5c3d70f16"
	LegacyConnectionID    backup.ConnectionID = "ADATUMBUILDERSCONNECTION01"
	legacyDomain                              = "adatumbuilders.onmicrosoft.com"
)

// mainPermissions are the delegated permissions of the main application.
func mainPermissions() []string { return permissionNames(backup.Permissions(nil), backup.Delegated) }

// permissionNames are the names of the permissions of a type.
func permissionNames(list []backup.Permission, of backup.PermissionType) []string {
	var names []string
	for _, p := range list {
		if p.Type == of {
			names = append(names, p.Name)
		}
	}
	return names
}

func adatum() []WorldPerson {
	const at, pass = "@" + legacyDomain, "Adatum-2026"
	plan := []string{"O365_BUSINESS_ESSENTIALS"}
	marker := backup.Connection{ID: LegacyConnectionID}.AdministratorMarker()
	return []WorldPerson{
		{Name: "Alma Adatum", UPN: "admin" + at, Password: pass, Roles: []string{"Global Administrator"}, Licences: plan, Mailbox: mailOf(20)},
		{Name: "Bo Builder", UPN: "bo" + at, Password: pass, Licences: plan, Mailbox: mailOf(40)},
		{ID: LegacyAdministratorID, Name: "Backup administrator (Holdfast)", UPN: "backupadmin" + at, Password: "Adatum-backup-2026", Department: marker, Roles: []string{"Global Administrator"}},
	}
}

func contoso() []WorldPerson {
	const at, pass = "@contosodental.onmicrosoft.com", "Contoso-2026"
	e3 := []string{"SPE_E3"}
	return []WorldPerson{
		{Name: "Ada Admin", UPN: "admin" + at, Password: pass, Roles: []string{"Global Administrator"}, Licences: e3, Mailbox: mailOf(40)},
		{Name: "Megan O'Neil", UPN: "megan.o'neil" + at, Password: pass, Licences: e3, Mailbox: mailOf(120)},
		{Name: "Jürgen Groß", UPN: "juergen.gross" + at, Password: pass, Licences: e3, Mailbox: mailOf(80)},
		{Name: "נועה כהן", UPN: "noa.cohen" + at, Password: pass, Licences: []string{"EXCHANGESTANDARD"}, Mailbox: mailOf(60)},
		{Name: "Alex Exchange", UPN: "exchange.admin" + at, Password: pass, Roles: []string{"Exchange Administrator"}, Licences: e3, Mailbox: mailOf(10)},
		{Name: "Cora Cloud", UPN: "app.admin" + at, Password: pass, Roles: []string{"Cloud Application Administrator"}, Licences: e3, Mailbox: mailOf(5)},
		{Name: "Priya Sharma-Whittington", UPN: "priya" + at, Password: pass, Licences: e3, Mailbox: mailOf(45)},
		{Name: "New Starter", UPN: "new.starter" + at, Password: pass, Licences: e3, Mailbox: mailOf(0)},
		{Name: "Uma Unlicensed", UPN: "uma" + at, Password: pass},
		{Name: "Paul Powerbi", UPN: "paul" + at, Password: pass, Licences: []string{"POWER_BI_STANDARD"}},
		{Name: "Dora Disabled", UPN: "dora" + at, Password: pass, Disabled: true, Licences: e3, Mailbox: mailOf(25)},
		{Name: "Front Desk", UPN: "frontdesk" + at, Kind: "shared", Disabled: true, Mailbox: mailOf(70)},
		{Name: "Invoices", UPN: "invoices" + at, Kind: "shared", Disabled: true, Mailbox: mailOf(35)},
		{Name: "Treatment Room 1", UPN: "room1" + at, Kind: "room", Disabled: true, Mailbox: mailOf(3)},
		{Name: "X-Ray Unit", UPN: "xray" + at, Kind: "equipment", Disabled: true, Mailbox: mailOf(0)},
		{Name: "Gus Guest", UPN: "gus_supplier.example#EXT#" + at, Mail: "gus@supplier.example", Guest: true},
	}
}

func fabrikam() []WorldPerson {
	const at, pass = "@fabrikamlegal.onmicrosoft.com", "Fabrikam-2026"
	plan := []string{"O365_BUSINESS_ESSENTIALS"}
	return []WorldPerson{
		{Name: "Fiona Fabri", UPN: "admin" + at, Password: pass, Roles: []string{"Global Administrator"}, Licences: plan, Mailbox: mailOf(30)},
		{Name: "Frank Kam", UPN: "frank" + at, Password: pass, Licences: plan, Mailbox: mailOf(90)},
		{Name: "Files and Records", UPN: "records" + at, Kind: "shared", Disabled: true, Mailbox: mailOf(15)},
	}
}
