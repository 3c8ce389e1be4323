package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// createApplications makes the sub-applications of an authorization in the
// customer's tenant, one after the other, and then moves the wizard on.
type createApplications struct {
	river.WorkerDefaults[backup.CreateApplicationsJob]
	*Runner
}

// Work implements river.Worker.
func (w *createApplications) Work(ctx context.Context, job *river.Job[backup.CreateApplicationsJob]) error {
	auth, err := w.Store.Authorization(ctx, job.Args.OrgID, job.Args.AuthorizationID)
	if errors.Is(err, backup.ErrNotFound) || (err == nil && auth.Step != backup.StepCreateApplications) {
		return nil // given up, or done by an earlier try
	}
	if err != nil {
		return fmt.Errorf("read authorization %s: %w", job.Args.AuthorizationID, err)
	}
	err = waitFor(ctx, func(other backup.UndoJob) bool { return other.OrgID == auth.OrgID && other.AuthorizationID != auth.ID })
	if err != nil {
		return err // what was given up before is being removed
	}
	apps, err := w.Store.SubApplications(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if now, err := w.Store.Authorization(ctx, auth.OrgID, auth.ID); err != nil || now.Step == backup.StepAbandoned {
			return err // given up meanwhile: nothing more is made
		}
		if app.State == backup.ApplicationReady || !slices.Contains(auth.Workloads, app.Workload) {
			continue
		}
		if err := w.ensure(ctx, auth, app); err != nil {
			return w.failed(ctx, auth, backup.StepCreateApplications, err, job.Attempt >= job.MaxAttempts)
		}
	}
	if auth.Purpose == backup.PurposeRestore {
		return w.grantRestore(ctx, auth)
	}
	last := backup.StepCreateApplications
	if auth.Purpose == backup.PurposeRepair && w.roleHolds(ctx, auth, apps) {
		last = backup.StepVerify // the custom role survived: nobody has to authorize it again
	}
	return w.advancePast(ctx, auth.OrgID, auth.ID, backup.StepCreateApplications, last)
}

// roleHolds asks Exchange Online, as the application that was just repaired,
// whether the custom role works still. It does unless the application is a new
// one.
func (w *createApplications) roleHolds(ctx context.Context, auth backup.Authorization, before []backup.SubApplication) bool {
	if !slices.Contains(auth.Workloads, backup.WorkloadExchange) {
		return false
	}
	conn, err := w.Store.Connection(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return false
	}
	app, err := w.application(ctx, conn, backup.WorkloadExchange)
	if err != nil {
		return false
	}
	for _, b := range before {
		if b.ID == app.ID && b.PrincipalID != app.PrincipalID {
			return false
		}
	}
	role, err := w.Store.CustomRole(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return false
	}
	if err := w.Microsoft.CheckRole(ctx, conn.TenantDomain, app); err != nil {
		w.Log.Info("custom role has to be made again", "connection", conn.ID, "error", err)
		return false
	}
	now := time.Now()
	role.State, role.Problem, role.CheckedAt, role.NextTryAt = backup.RoleConnected, backup.Problem{}, now, now.Add(backup.RoleCheckEvery)
	role.Tries = 0
	forgetToken(&role)
	if role.ConnectedAt.IsZero() {
		role.ConnectedAt = now
	}
	if err := w.Store.SaveCustomRole(ctx, &role); err != nil {
		w.Log.Error("custom role not saved", "connection", conn.ID, "error", err)
		return false
	}
	return true
}

// ensure brings one application to ready, saving after each step in the tenant.
func (w *createApplications) ensure(ctx context.Context, auth backup.Authorization, app backup.SubApplication) error {
	save := func(a backup.SubApplication) error {
		app = a
		return w.Store.SaveSubApplication(context.WithoutCancel(ctx), a)
	}
	err := w.Microsoft.EnsureApplication(ctx, auth.TenantID, auth.SetupToken, &app, save)
	if err == nil {
		return nil
	}
	app.Problem = *backup.AsProblem(err)
	if saveErr := save(app); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	return fmt.Errorf("create %s: %w", app.DisplayName, err)
}

// undo removes from the tenant what an abandoned authorization made there.
type undo struct {
	river.WorkerDefaults[backup.UndoJob]
	*Runner
}

// Work implements river.Worker.
func (w *undo) Work(ctx context.Context, job *river.Job[backup.UndoJob]) error {
	auth, err := w.Store.Authorization(ctx, job.Args.OrgID, job.Args.AuthorizationID)
	if errors.Is(err, backup.ErrNotFound) || (err == nil && auth.Step != backup.StepAbandoned) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read authorization %s: %w", job.Args.AuthorizationID, err)
	}
	err = waitFor(ctx, func(own backup.CreateApplicationsJob) bool { return own.AuthorizationID == auth.ID })
	if err != nil {
		return err // what it still makes has to be removed too
	}
	left, err := w.undo(ctx, auth)
	if err != nil {
		if backup.AsProblem(err).Temporary && job.Attempt < job.MaxAttempts {
			return err
		}
		return errors.Join(river.JobCancel(err), w.change(ctx, auth.OrgID, auth.ID, func(a *backup.Authorization) bool {
			a.Problem = *backup.AsProblem(err)
			a.SetupToken, a.SetupTokenExpiresAt = nil, time.Time{}
			return true
		}))
	}
	return w.change(ctx, auth.OrgID, auth.ID, func(a *backup.Authorization) bool {
		a.Problem = left
		a.SetupToken, a.SetupTokenExpiresAt = nil, time.Time{}
		return true
	})
}

// undo removes what auth made, in the tenant and here: all of a connection that
// was to be, of a migration the sub-applications. The other purposes find what
// they work on, and leave it. left says what a person may remove by hand.
func (w *undo) undo(ctx context.Context, auth backup.Authorization) (left backup.Problem, err error) {
	if auth.Purpose == backup.PurposeRestore {
		return left, w.undoRestore(ctx, auth)
	}
	if auth.ConnectionID == "" || (auth.Purpose != backup.PurposeConnect && auth.Purpose != backup.PurposeMigrate) {
		return left, nil
	}
	conn, err := w.Store.Connection(ctx, auth.OrgID, auth.ConnectionID)
	if errors.Is(err, backup.ErrNotFound) {
		return left, nil // it was given up before there was one
	}
	if err != nil {
		return left, fmt.Errorf("read connection %s: %w", auth.ConnectionID, err)
	}
	if auth.Purpose == backup.PurposeMigrate && !conn.ByMainApplication() {
		return left, nil // the sub-applications are what backs up
	}
	if next, err := w.Store.ActiveAuthorization(ctx, auth.OrgID); err == nil && next.ConnectionID == auth.ConnectionID && next.Purpose == backup.PurposeMigrate && next.Step != backup.StepConsent {
		return left, nil // the next migration goes on with them, and has an Undo of its own
	} else if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return left, fmt.Errorf("read the active authorization: %w", err)
	}
	if err := w.removeAll(ctx, auth); err != nil {
		return left, err
	}
	if _, err := w.Store.CustomRole(ctx, auth.OrgID, auth.ConnectionID); err == nil {
		left = m365.RoleLeft(time.Now())
	} else if !errors.Is(err, backup.ErrNotFound) {
		return left, fmt.Errorf("read custom role: %w", err)
	}
	if auth.Purpose == backup.PurposeMigrate {
		return left, w.Store.ForgetMigration(ctx, auth.OrgID, auth.ConnectionID)
	}
	if !conn.Administrator.IsZero() {
		if err := w.dropAdministrator(ctx, auth.SetupToken, conn); err != nil {
			return left, err
		}
	}
	if err := w.Store.DeleteConnection(ctx, auth.OrgID, auth.ConnectionID); err != nil && !errors.Is(err, backup.ErrNotFound) {
		return left, fmt.Errorf("delete connection %s: %w", auth.ConnectionID, err)
	}
	return left, nil
}

// removeAll removes the sub-applications of the connection from the tenant. A
// planned one may exist all the same: its creation may have got no answer.
func (w *undo) removeAll(ctx context.Context, auth backup.Authorization) error {
	apps, err := w.Store.SubApplications(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if app.State == backup.ApplicationRemoved {
			continue
		}
		if err := w.remove(ctx, auth.SetupToken, app); err != nil {
			return err
		}
	}
	return nil
}
