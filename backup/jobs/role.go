package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// verifyRole makes the Exchange custom role, or checks whether it works, and
// lets the wizard go on: to the accounts, whether Exchange accepted the role
// at once or wants time, or back to step 2 when the person has to act.
type verifyRole struct {
	river.WorkerDefaults[backup.VerifyRoleJob]
	*Runner
}

// Work implements river.Worker.
func (w *verifyRole) Work(ctx context.Context, job *river.Job[backup.VerifyRoleJob]) error {
	role, err := w.Store.CustomRoleByID(ctx, job.Args.OrgID, job.Args.CustomRoleID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read custom role %s: %w", job.Args.CustomRoleID, err)
	}
	conn, err := w.Store.Connection(ctx, role.OrgID, role.ConnectionID)
	if err != nil {
		return fmt.Errorf("read connection %s: %w", role.ConnectionID, err)
	}
	app, err := w.application(ctx, conn, backup.WorkloadExchange)
	if err != nil {
		return err
	}
	tryErr := w.try(ctx, conn, app, &role)
	if ctx.Err() != nil {
		return ctx.Err() // the process stops; the next one tries again
	}
	w.settle(&role, tryErr)
	save := context.WithoutCancel(ctx)
	if err := w.Store.SaveCustomRole(save, &role); err != nil {
		return fmt.Errorf("save custom role: %w", err)
	}
	if err := w.wizard(save, role, tryErr); err != nil {
		return err
	}
	if tryErr != nil && !role.Problem.Temporary {
		return river.JobCancel(tryErr)
	}
	if tryErr != nil {
		w.Log.Info("custom role is pending", "connection", conn.ID, "next", role.NextTryAt, "error", tryErr)
	}
	return nil
}

// try runs the list of cmdlets with the administrator's token, then checks the
// result as the application itself. Without a token it only checks.
func (w *verifyRole) try(ctx context.Context, conn backup.Connection, app backup.SubApplication, role *backup.CustomRole) error {
	role.CheckedAt = time.Now()
	if len(role.Token) > 0 || len(role.RefreshToken) > 0 {
		if time.Until(role.TokenExpiresAt) < 5*time.Minute && len(role.RefreshToken) > 0 {
			grant, err := w.Microsoft.RefreshRole(ctx, conn.TenantID, role.RefreshToken)
			if err != nil {
				return fmt.Errorf("renew the administrator's token: %w", err)
			}
			role.Token, role.TokenExpiresAt = grant.AccessToken, grant.ExpiresAt
			if len(grant.RefreshToken) > 0 {
				role.RefreshToken = grant.RefreshToken
			}
			if err := w.Store.SaveCustomRole(ctx, role); err != nil {
				return fmt.Errorf("save the renewed token: %w", err)
			}
		}
		made, err := w.Microsoft.EnsureRole(ctx, conn.TenantID, role.AdminUPN, role.Token, app)
		if len(made) > 0 {
			if err := w.recordMade(context.WithoutCancel(ctx), *role, made); err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("make the custom role: %w", err)
		}
	}
	if err := w.Microsoft.CheckRole(ctx, conn.TenantDomain, app); err != nil {
		return fmt.Errorf("check the custom role: %w", err)
	}
	return nil
}

// recordMade puts into the activity log what was made in Exchange Online, with
// whose token.
func (w *verifyRole) recordMade(ctx context.Context, role backup.CustomRole, made []string) error {
	org, err := w.Store.OrganizationByID(ctx, role.OrgID)
	if err != nil {
		return fmt.Errorf("read organization %s: %w", role.OrgID, err)
	}
	err = w.Store.Record(ctx, backup.Entry{PartnerID: org.PartnerID, OrgID: role.OrgID, Person: role.AdminUPN, Kind: "role.made",
		Subject: "Custom role", Detail: strings.Join(made, "; ")})
	if err != nil {
		return fmt.Errorf("record what was made in Exchange Online: %w", err)
	}
	return nil
}

// settle sets the role's state from the outcome of a try.
func (w *verifyRole) settle(role *backup.CustomRole, err error) {
	now := time.Now()
	role.Tries++
	if err == nil {
		role.State, role.Problem, role.ConnectedAt = backup.RoleConnected, backup.Problem{}, now
		role.NextTryAt = now.Add(backup.RoleCheckEvery)
		role.Tries = 0
		forgetToken(role)
		return
	}
	problem := *backup.AsProblem(err)
	lost := problem.Kind == backup.ProblemRolePending || problem.Kind == backup.ProblemRoleChanged
	if role.State != backup.RolePending {
		if problem.Temporary && !lost {
			role.NextTryAt = now.Add(time.Hour) // Exchange could not be asked; that says nothing about the role
			return
		}
		if problem.Kind == backup.ProblemRolePending {
			problem = m365.RoleGone(now) // it worked before
		}
		role.State, role.Problem, role.NextTryAt = backup.RoleDisconnected, problem, now.Add(backup.RoleCheckEvery)
		forgetToken(role)
		return
	}
	role.Problem = problem
	role.NextTryAt = backup.NextRoleTry(role.PendingSince, now, role.Tries-1)
	if wait := now.Add(problem.RetryAfter); wait.After(role.NextTryAt) {
		role.NextTryAt = wait
	}
	if needsPerson(problem.Kind) {
		role.NextTryAt = now.Add(backup.RoleCheckEvery)
		forgetToken(role)
	}
	if role.NextTryAt.Sub(role.PendingSince) > backup.RoleGiveUp {
		forgetToken(role)
	}
}

// forgetToken erases what of an administrator served the tries.
func forgetToken(role *backup.CustomRole) {
	role.Token, role.TokenExpiresAt, role.RefreshToken = nil, time.Time{}, nil
}

// needsPerson says that trying again with the same token can't help.
func needsPerson(kind backup.ProblemKind) bool {
	switch kind {
	case backup.ProblemMissingCmdlets, backup.ProblemPowerShellOff, backup.ProblemNotAdministrator,
		backup.ProblemSignInExpired, backup.ProblemConsentMissing, backup.ProblemNoExchange, backup.ProblemWrongTenant:
		return true
	}
	return false
}

// wizard moves the authorization that waits for this role.
func (w *verifyRole) wizard(ctx context.Context, role backup.CustomRole, err error) error {
	auth, findErr := w.Store.ActiveAuthorization(ctx, role.OrgID)
	if errors.Is(findErr, backup.ErrNotFound) || (findErr == nil && (auth.ConnectionID != role.ConnectionID || auth.Step != backup.StepVerify)) {
		return nil
	}
	if findErr != nil {
		return fmt.Errorf("read the authorization that waits: %w", findErr)
	}
	if err == nil || !needsPerson(role.Problem.Kind) && (auth.Flow != backup.FlowManual || auth.Attested || role.Problem.Kind != backup.ProblemRolePending) {
		return w.advance(ctx, auth.OrgID, auth.ID, backup.StepVerify)
	}
	return w.change(ctx, auth.OrgID, auth.ID, func(a *backup.Authorization) bool {
		if a.Step != backup.StepVerify {
			return false
		}
		a.Step, a.Problem, a.Device = a.RoleStep(), role.Problem, backup.DeviceAttempt{}
		if a.Flow == backup.FlowManual && role.Problem.Kind == backup.ProblemRolePending {
			a.Problem.Text = textNotShown
		}
		return true
	})
}

// textNotShown is what a person reads who selects Verify & Continue before
// Exchange Online shows the role that the script makes.
const textNotShown = "Exchange Online does not show the custom role yet. If the script has not run to its end, run it and try again. " +
	"If it ended with Done, Exchange Online takes from minutes to some hours: say so below and go on; Holdfast keeps looking by itself."

// application returns the connection's sub-application of a workload.
func (r *Runner) application(ctx context.Context, conn backup.Connection, workload backup.Workload) (backup.SubApplication, error) {
	apps, err := r.Store.SubApplications(ctx, conn.OrgID, conn.ID)
	if err != nil {
		return backup.SubApplication{}, fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if app.Workload == workload {
			return app, nil
		}
	}
	return backup.SubApplication{}, fmt.Errorf("the %s application of connection %s: %w", workload, conn.ID, backup.ErrNotFound)
}
