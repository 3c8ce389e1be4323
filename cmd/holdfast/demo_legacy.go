package main

import (
	"context"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
	"holdfast/store"
)

// legacyOrganization is the sample organization that works by a backup
// administrator, so that its migration can be walked.
const legacyOrganization = "Adatum Builders"

// seedLegacy connects the sample organization as the wizard did before there
// were least privilege permissions. The simulated tenant has its side of it: the
// account, its role and the main application's permissions; the accounts are
// listed with them.
func (p *parts) seedLegacy(ctx context.Context, org backup.Organization, by backup.Actor) error {
	accounts, _, err := p.microsoft.MainApp(simulator.LegacyTenantID).Accounts(ctx)
	if err != nil {
		return fmt.Errorf("list the accounts of %s: %w", legacyOrganization, err)
	}
	const domain = "adatumbuilders.onmicrosoft.com"
	conn := backup.Connection{ID: simulator.LegacyConnectionID, OrgID: org.ID, Provider: backup.ProviderMicrosoft365, Method: backup.MethodBackupAdministrator,
		TenantID: simulator.LegacyTenantID, TenantName: legacyOrganization, TenantDomain: domain, Workloads: backup.LegacyWorkloads(), CreatedAt: time.Now()}
	auth, err := p.store.StartAuthorization(ctx, backup.Authorization{OrgID: org.ID, Provider: conn.Provider, Method: conn.Method, Flow: backup.FlowAutomated,
		Workloads: conn.Workloads, Step: backup.StepChooseAccounts, MovedBy: by.Person.Name}, by)
	if err != nil {
		return err
	}
	auth.ConnectionID, auth.TenantID, auth.TenantName, auth.TenantDomain = conn.ID, conn.TenantID, conn.TenantName, domain
	for _, a := range accounts {
		if a.Address == "admin@"+domain {
			auth.AdminID, auth.AdminUPN = a.ProviderID, a.Address
		}
	}
	if err := p.store.ConsentGranted(ctx, &auth, conn, nil, by); err != nil {
		return err
	}
	if err := p.store.SetAdministrator(ctx, org.ID, conn.ID, backup.Administrator{ID: simulator.LegacyAdministratorID, UPN: "backupadmin@" + domain}); err != nil {
		return err
	}
	if err := p.store.UpsertMailboxes(ctx, org.ID, conn.ID, accounts); err != nil {
		return err
	}
	if err := p.store.SetConnectionListed(ctx, org.ID, conn.ID, time.Now()); err != nil {
		return err
	}
	page, err := p.store.Mailboxes(ctx, org.ID, store.MailboxQuery{AllAccounts: true, Connection: conn.ID, PageSize: 100})
	if err != nil {
		return err
	}
	var ids []backup.MailboxID
	for _, m := range page.Mailboxes {
		if m.Licence == backup.LicenceValid {
			ids = append(ids, m.ID)
		}
	}
	return p.store.SelectMailboxes(ctx, &auth, ids, by)
}
