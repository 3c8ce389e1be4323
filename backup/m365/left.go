package m365

import (
	"strings"

	"holdfast/backup"
)

// What stays in a tenant when nobody's sign-in lasts any more, and how an
// administrator removes it. Pages name it before an organization is deleted, and
// after.

// ApplicationLeft is a sub-application that stays in the tenant of a domain.
func ApplicationLeft(domain string, app backup.SubApplication) backup.Remnant {
	what := "the application " + app.DisplayName
	if app.AppID != "" {
		what += " (client id " + app.AppID + ")"
	}
	return backup.Remnant{Place: domain, What: what,
		How: "Entra admin center, App registrations, All applications: select it, then Delete. Its key is destroyed here, so nobody can use it."}
}

// AdministratorLeft is the backup administrator of a connection.
func AdministratorLeft(conn backup.Connection) backup.Remnant {
	return backup.Remnant{Place: conn.TenantDomain, What: "the account " + conn.Administrator.UPN + ", a Global Administrator",
		How: "Entra admin center, Users: select it, then Delete."}
}

// RoleRemnant is the custom role in Exchange Online, which the ten cmdlets can't
// remove.
func RoleRemnant(domain string) backup.Remnant {
	return backup.Remnant{Place: domain, What: "the role group " + RoleGroup + " and its role in Exchange Online",
		How: "Exchange Online PowerShell: " + strings.Join(roleRemoval, "; ")}
}

// MainLeft is Holdfast's main application, to which an administrator consented.
func (c *Client) MainLeft(domain string) backup.Remnant {
	return backup.Remnant{Place: domain, What: "the consent to Holdfast’s main application (client id " + c.id + ")",
		How: "Entra admin center, Enterprise applications: select it, then Properties, Delete. Without an administrator who signs in it can do nothing."}
}

// roleRemoval are the lines that remove the custom role.
var roleRemoval = []string{"Remove-RoleGroup -Identity '" + RoleGroup + "'", "Remove-ManagementRole -Identity '" + roleRecipients + "'"}
