package m365

import (
	"context"
	"errors"
	"slices"
	"time"

	"holdfast/backup"
)

// sharePointResource is asked for a token only to see what was granted for it:
// Holdfast needs nothing there.
const sharePointResource = backup.ResourceSharePoint

// resources are the APIs whose grants are looked at, by their app id.
var resources = []struct{ id, name string }{
	{backup.ResourceGraph, graphResource}, {backup.ResourceExchange, exchangeResource}, {backup.ResourceSharePoint, sharePointResource},
}

// Granted reads what app may do in its tenant: the roles of tokens that Entra
// issues to it now, one per API, and the cmdlets that Exchange Online lets it
// run. An application may always ask for its own tokens, so this needs no
// permission. The problem in the answer is why something could not be read, or
// which permission is missing; an error is only the context's.
func (c *Client) Granted(ctx context.Context, tenantID, tenantDomain string, app backup.SubApplication) (backup.ApplicationCheck, error) {
	check := backup.ApplicationCheck{Workload: app.Workload, DisplayName: app.DisplayName, AppID: app.AppID, ObjectID: app.ObjectID,
		PrincipalID: app.PrincipalID, NotAfter: app.NotAfter.UTC(), Granted: []backup.GrantedRole{}}
	check.SHA256, check.SHA1 = app.Thumbprints()
	source, err := c.tokens(tenantID, app)
	if err == nil {
		err = source.roles(ctx, &check)
	}
	if ctx.Err() != nil {
		return check, ctx.Err()
	}
	if err == nil {
		check.Read = true
		err = missingPermission(check.Missing())
	}
	if err == nil && app.Workload == backup.WorkloadExchange {
		check.Cmdlets, err = c.appCmdlets(ctx, tenantDomain, app)
		if ctx.Err() != nil {
			return check, ctx.Err()
		}
		// A role that is not there, or not yet, is the custom role's own concern.
		if check.CmdletsRead = err == nil; backup.KindOf(err) == backup.ProblemRolePending || backup.KindOf(err) == backup.ProblemRoleChanged {
			check.Cmdlets, check.CmdletsRead, err = nil, true, nil
		}
	}
	if err != nil {
		check.Problem = backup.ReportProblem(*backup.AsProblem(err))
	}
	return check, nil
}

// GrantedMain is Granted for the main application, in the tenant of conn: what it
// may do there by itself. Unless a backup administrator authorized it, that
// should be nothing.
func (c *Client) GrantedMain(ctx context.Context, conn backup.Connection) (backup.ApplicationCheck, error) {
	check := backup.ApplicationCheck{Main: true, Legacy: conn.ByMainApplication(), DisplayName: "Holdfast's main application", AppID: c.id, Granted: []backup.GrantedRole{}}
	err := c.mainTokens(conn.TenantID).roles(ctx, &check)
	if ctx.Err() != nil {
		return check, ctx.Err()
	}
	if err == nil {
		check.Read = true
		err = missingPermission(check.Missing())
	}
	if err != nil {
		p := *backup.AsProblem(err)
		if p.Kind == backup.ProblemConsentMissing && !check.Legacy {
			p.Text = "The tenant does not know Holdfast's main application any more. Backups do not need it. Select Re-authenticate under Account Settings, Credentials, before anything has to be repaired or changed."
		}
		check.Problem = backup.ReportProblem(p)
	}
	return check, nil
}

// roles notes the roles of a fresh token for each API. One that the tenant does
// not have grants nothing.
func (s *tokenSource) roles(ctx context.Context, check *backup.ApplicationCheck) error {
	for _, api := range resources {
		t, err := s.fetch(ctx, api.name, 0)
		if p, ok := errors.AsType[*backup.Problem](err); ok && p.Kind == backup.ProblemNoExchange {
			continue
		}
		if err != nil {
			return err
		}
		roles, readable := rolesOf(t.AccessToken)
		if !readable {
			return &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(),
				Text: "Microsoft issued a token that does not say what it permits, so the permissions are not known. The Entra admin center shows them under Enterprise applications, Permissions."}
		}
		slices.Sort(roles)
		for _, name := range roles {
			check.Granted = append(check.Granted, backup.GrantedRole{ResourceID: api.id, Name: name})
		}
	}
	return nil
}

// missingPermission is the Problem of permissions that were withdrawn.
func missingPermission(names []string) error {
	if len(names) == 0 {
		return nil
	}
	return permissionsWithdrawn(names)
}

// appCmdlets lists what app, the Exchange sub-application, may run.
func (c *Client) appCmdlets(ctx context.Context, tenantDomain string, app backup.SubApplication) ([]string, error) {
	source, err := c.tokens(tenantDomain, app)
	if err != nil {
		return nil, err
	}
	session := &exchangeSession{client: c, tenant: tenantDomain, anchor: "UPN:" + systemMailbox + "@" + tenantDomain,
		token: func(ctx context.Context) (backup.Secret, error) {
			source.forget() // a token keeps the roles that it was issued with
			return source.token(ctx, exchangeResource)
		}}
	names, err := session.cmdlets(ctx)
	if err != nil {
		return nil, roleCheckProblem(err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
