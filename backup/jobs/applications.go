package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
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
	apps, err := w.Store.SubApplications(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if app.State == backup.ApplicationReady {
			continue
		}
		if err := w.ensure(ctx, auth, app); err != nil {
			return w.failed(ctx, auth, backup.StepCreateApplications, err, job.Attempt >= job.MaxAttempts)
		}
	}
	return w.advance(ctx, auth.OrgID, auth.ID, backup.StepCreateApplications)
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
	apps, err := w.Store.SubApplications(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if app.State == backup.ApplicationRemoved {
			continue
		}
		// A planned application may exist all the same: its creation may have
		// got no answer. RemoveApplication looks for it.
		if err := w.Microsoft.RemoveApplication(ctx, auth.SetupToken, app); err != nil {
			if backup.AsProblem(err).Temporary && job.Attempt < job.MaxAttempts {
				return fmt.Errorf("remove %s: %w", app.DisplayName, err)
			}
			return errors.Join(river.JobCancel(err), w.change(ctx, auth.OrgID, auth.ID, func(a *backup.Authorization) bool {
				a.Problem = *backup.AsProblem(err)
				a.SetupToken, a.SetupTokenExpiresAt = nil, time.Time{}
				return true
			}))
		}
		app.State, app.PrivateKey, app.Problem = backup.ApplicationRemoved, nil, backup.Problem{}
		if err := w.Store.SaveSubApplication(ctx, app); err != nil {
			return fmt.Errorf("save %s: %w", app.DisplayName, err)
		}
	}
	if auth.ConnectionID != "" {
		if err := w.Store.DeleteConnection(ctx, auth.OrgID, auth.ConnectionID); err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("delete connection %s: %w", auth.ConnectionID, err)
		}
	}
	return w.change(ctx, auth.OrgID, auth.ID, func(a *backup.Authorization) bool {
		a.Problem = backup.Problem{}
		a.SetupToken, a.SetupTokenExpiresAt = nil, time.Time{}
		return true
	})
}
