package jobs

import (
	"context"
	"errors"
	"fmt"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// source returns the application that reads a connection's tenant: the main
// application in tenants that a backup administrator authorized, else the
// sub-application of the workload. Nothing else decides this.
func (r *Runner) source(ctx context.Context, conn backup.Connection, workload backup.Workload) (*m365.App, error) {
	if conn.ByMainApplication() {
		return r.apps.main(r.Microsoft, conn.TenantID), nil
	}
	app, err := r.application(ctx, conn, workload)
	if err != nil {
		return nil, err
	}
	return r.apps.get(r.Microsoft, conn.TenantID, app), nil
}

// refused says of a refusal of the main application what helps: the backup
// administrator, who gave it its permissions.
func refused(conn backup.Connection, p backup.Problem) backup.Problem {
	if !conn.ByMainApplication() {
		return p
	}
	switch p.Kind {
	case backup.ProblemPermission, backup.ProblemApplicationGone, backup.ProblemConsentMissing:
		p.Text = "Microsoft refuses Holdfast's main application: what the backup administrator allowed it in this tenant was withdrawn. Select Authorize again under Account Settings, Credentials."
	}
	return p
}

// createAdministrator makes the backup administrator of an authorization by the
// legacy method, and gives the main application its permissions in the tenant.
type createAdministrator struct {
	river.WorkerDefaults[backup.CreateAdministratorJob]
	*Runner
}

// Work implements river.Worker.
func (w *createAdministrator) Work(ctx context.Context, job *river.Job[backup.CreateAdministratorJob]) error {
	auth, conn, ok, err := w.atStep(ctx, job.Args.OrgID, job.Args.AuthorizationID, backup.StepCreateAdministrator)
	if !ok || err != nil {
		return err
	}
	admin := conn.Administrator
	if admin.Password, err = w.Store.AdministratorPassword(ctx, conn.OrgID, conn.ID); err != nil {
		return err
	}
	save := func(a backup.Administrator) error {
		return w.Store.SetAdministrator(context.WithoutCancel(ctx), conn.OrgID, conn.ID, a)
	}
	err = w.Microsoft.EnsureAdministrator(ctx, auth.SetupToken, conn, &admin, save)
	if auth.Purpose == backup.PurposeConnect && ctx.Err() == nil {
		now, readErr := w.Store.Authorization(ctx, auth.OrgID, auth.ID)
		if readErr == nil && now.Step == backup.StepAbandoned {
			// Given up while it was being made: the undo may have come too early.
			conn.Administrator = admin
			return w.Microsoft.RemoveAdministrator(ctx, auth.SetupToken, conn)
		}
	}
	if err != nil {
		return w.failed(ctx, auth, backup.StepCreateAdministrator, err, job.Attempt >= job.MaxAttempts)
	}
	return w.advance(ctx, auth.OrgID, auth.ID, backup.StepCreateAdministrator)
}

// removeAdministrator deletes the backup administrator in the tenant, with what
// the main application was granted beside it.
type removeAdministrator struct {
	river.WorkerDefaults[backup.RemoveAdministratorJob]
	*Runner
}

// Work implements river.Worker.
func (w *removeAdministrator) Work(ctx context.Context, job *river.Job[backup.RemoveAdministratorJob]) error {
	auth, conn, ok, err := w.atStep(ctx, job.Args.OrgID, job.Args.AuthorizationID, backup.StepRemoveAdministrator)
	if !ok || err != nil {
		return err
	}
	if conn.ByMainApplication() {
		return river.JobCancel(fmt.Errorf("connection %s is in use by the backup administrator method", conn.ID))
	}
	if err := w.dropAdministrator(ctx, auth.SetupToken, conn); err != nil {
		return w.failed(ctx, auth, backup.StepRemoveAdministrator, err, job.Attempt >= job.MaxAttempts)
	}
	return w.advance(ctx, auth.OrgID, auth.ID, backup.StepRemoveAdministrator)
}

// dropAdministrator removes the backup administrator and forgets it.
func (r *Runner) dropAdministrator(ctx context.Context, token backup.Secret, conn backup.Connection) error {
	if err := r.Microsoft.RemoveAdministrator(ctx, token, conn); err != nil {
		return fmt.Errorf("remove %s: %w", conn.Administrator.UPN, err)
	}
	return r.Store.SetAdministrator(context.WithoutCancel(ctx), conn.OrgID, conn.ID, backup.Administrator{})
}

// atStep reads an authorization and its connection for the job of a step. It is
// not ok if the authorization stands elsewhere: given up, or moved on by an
// earlier try.
func (r *Runner) atStep(ctx context.Context, org backup.OrgID, id backup.AuthorizationID, step backup.Step) (auth backup.Authorization, conn backup.Connection, ok bool, err error) {
	auth, err = r.Store.Authorization(ctx, org, id)
	if errors.Is(err, backup.ErrNotFound) || (err == nil && auth.Step != step) {
		return auth, conn, false, nil
	}
	if err != nil {
		return auth, conn, false, fmt.Errorf("read authorization %s: %w", id, err)
	}
	conn, err = r.Store.Connection(ctx, org, auth.ConnectionID)
	if errors.Is(err, backup.ErrNotFound) {
		return auth, conn, false, nil // given up a moment ago
	}
	if err != nil {
		return auth, conn, false, fmt.Errorf("read connection %s: %w", auth.ConnectionID, err)
	}
	return auth, conn, true, nil
}
