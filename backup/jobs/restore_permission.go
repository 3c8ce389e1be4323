package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

// grantRestore keeps the restore permission that an authorization gave, and lets
// the restores go on that wait for it.
func (w *createApplications) grantRestore(ctx context.Context, auth backup.Authorization) error {
	now := time.Now()
	for {
		err := w.Store.GrantRestore(ctx, &auth, backup.RestoreGrant{OrgID: auth.OrgID, ConnectionID: auth.ConnectionID, AdminUPN: auth.AdminUPN,
			GrantedAt: now, EndsAt: now.Add(backup.RestoreGrantLife), Token: auth.SetupToken, TokenExpiresAt: auth.SetupTokenExpiresAt, RefreshToken: auth.RoleRefreshToken})
		if !errors.Is(err, backup.ErrStale) {
			return err
		}
		if auth, err = w.Store.Authorization(ctx, auth.OrgID, auth.ID); err != nil {
			return fmt.Errorf("read authorization %s: %w", auth.ID, err)
		}
		if auth.Step != backup.StepCreateApplications {
			return nil // given up
		}
	}
}

// undoRestore removes the restore application of an authorization that was given
// up, unless restores work with it.
func (w *undo) undoRestore(ctx context.Context, auth backup.Authorization) error {
	conn, err := w.Store.Connection(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return fmt.Errorf("read connection %s: %w", auth.ConnectionID, err)
	}
	if _, err := w.Store.RestoreGrant(ctx, auth.OrgID, auth.ConnectionID); !errors.Is(err, backup.ErrNotFound) {
		return err
	}
	app, err := w.application(ctx, conn, backup.WorkloadRestore)
	if errors.Is(err, backup.ErrNotFound) || app.State == backup.ApplicationRemoved {
		return nil
	}
	if err != nil {
		return err
	}
	return w.remove(ctx, auth.SetupToken, app)
}

// returnRestore gives the restore permission of a connection back: it deletes the
// application in the tenant, and forgets its key and the administrator's tokens.
type returnRestore struct {
	river.WorkerDefaults[backup.ReturnRestoreJob]
	*Runner
}

// Work implements river.Worker.
func (w *returnRestore) Work(ctx context.Context, job *river.Job[backup.ReturnRestoreJob]) error {
	grant, err := w.Store.RestoreGrant(ctx, job.Args.OrgID, job.Args.ConnectionID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the restore permission: %w", err)
	}
	open, err := w.Store.OpenRestores(ctx, grant.OrgID, grant.ConnectionID)
	if err != nil {
		return fmt.Errorf("read restores: %w", err)
	}
	over := !time.Now().Before(grant.EndsAt)
	for _, r := range open {
		if r.State == backup.RestoreWaiting {
			continue
		}
		if !over {
			return nil // it is needed
		}
		r.State, r.Problem = backup.RestoreFailed, *permissionEnded(time.Now())
		if err := w.Store.FinishRestore(ctx, r.Restore); err != nil && !errors.Is(err, backup.ErrNotFound) {
			return err
		}
	}
	conn, err := w.Store.Connection(ctx, grant.OrgID, grant.ConnectionID)
	if err != nil {
		return fmt.Errorf("read connection %s: %w", grant.ConnectionID, err)
	}
	if err := w.giveBack(ctx, conn, grant); err != nil {
		return w.kept(ctx, grant, err)
	}
	return w.Store.ReturnRestoreGrant(context.WithoutCancel(ctx), grant)
}

// giveBack deletes the application in the tenant.
func (w *returnRestore) giveBack(ctx context.Context, conn backup.Connection, grant backup.RestoreGrant) error {
	app, err := w.application(ctx, conn, backup.WorkloadRestore)
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if time.Until(grant.TokenExpiresAt) < time.Minute && len(grant.RefreshToken) > 0 {
		fresh, err := w.Microsoft.RefreshRestore(ctx, conn.TenantID, grant.RefreshToken)
		if err != nil {
			return err
		}
		grant.Token, grant.TokenExpiresAt, grant.RefreshToken = fresh.AccessToken, fresh.ExpiresAt, fresh.RefreshToken
		if err := w.Store.SaveRestoreGrant(ctx, grant); err != nil {
			return err
		}
	}
	return w.Microsoft.RemoveApplication(ctx, grant.Token, app)
}

// kept notes why the application could not be deleted. Its key is forgotten all
// the same, so that nobody can use it; the schedule tries again while the
// administrator's sign-in lasts.
func (w *returnRestore) kept(ctx context.Context, grant backup.RestoreGrant, err error) error {
	save := context.WithoutCancel(ctx)
	now, readErr := w.Store.RestoreGrant(save, grant.OrgID, grant.ConnectionID)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	now.Problem = *backup.AsProblem(err)
	app, appErr := w.application(save, backup.Connection{ID: grant.ConnectionID, OrgID: grant.OrgID}, backup.WorkloadRestore)
	if appErr == nil && len(app.PrivateKey) > 0 {
		app.PrivateKey = nil
		appErr = w.Store.SaveSubApplication(save, app)
	}
	return errors.Join(river.JobCancel(err), appErr, w.Store.SaveRestoreGrant(save, now))
}

// restores puts jobs of restores into the queue that are due or were lost, closes
// those that nobody gave permission for, and gives permissions back that nothing
// needs or whose time is over.
func (w *schedule) restores(ctx context.Context, now time.Time) error {
	due, err := w.Store.DueRestores(ctx, now)
	if err != nil {
		return fmt.Errorf("find due restores: %w", err)
	}
	for _, r := range due {
		if err := w.Store.Enqueue(ctx, backup.RestoreJob{OrgID: r.OrgID, RestoreID: r.ID}); err != nil {
			return fmt.Errorf("queue restore %s: %w", r.ID, err)
		}
	}
	old, err := w.Store.RestoresWaitingSince(ctx, now.Add(-backup.RestoreGrantLife))
	if err != nil {
		return fmt.Errorf("find restores that wait: %w", err)
	}
	for _, r := range old {
		r.State = backup.RestoreFailed
		r.Problem = backup.Problem{Kind: backup.ProblemPermission, At: now, Text: "Nobody gave the restore permission within 24 hours. Select Try again when an administrator is at hand."}
		if err := w.Store.FinishRestore(ctx, r); err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("close restore %s: %w", r.ID, err)
		}
	}
	return w.restorePermissions(ctx, now)
}

func (w *schedule) restorePermissions(ctx context.Context, now time.Time) error {
	grants, err := w.Store.RestoreGrants(ctx)
	if err != nil {
		return fmt.Errorf("read restore permissions: %w", err)
	}
	for _, g := range grants {
		if g.TokenExpiresAt.IsZero() {
			continue // an administrator has to remove what is left
		}
		if !g.Problem.IsZero() && now.Sub(g.Problem.At) < 10*time.Minute {
			continue
		}
		if err := w.Store.Enqueue(ctx, backup.ReturnRestoreJob{OrgID: g.OrgID, ConnectionID: g.ConnectionID}); err != nil {
			return fmt.Errorf("queue the restore permission of connection %s: %w", g.ConnectionID, err)
		}
	}
	return w.Store.EraseRestoreTokens(ctx, now.Add(-backup.RestoreGrantLife))
}
