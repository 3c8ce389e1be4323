package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

// removeApplications deletes the applications of an authorization's workloads
// in the tenant, so that nothing is held there that nothing uses.
type removeApplications struct {
	river.WorkerDefaults[backup.RemoveApplicationsJob]
	*Runner
}

// Work implements river.Worker.
func (w *removeApplications) Work(ctx context.Context, job *river.Job[backup.RemoveApplicationsJob]) error {
	auth, err := w.Store.Authorization(ctx, job.Args.OrgID, job.Args.AuthorizationID)
	if errors.Is(err, backup.ErrNotFound) || (err == nil && auth.Step != backup.StepRemoveApplications) {
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
		if app.State == backup.ApplicationRemoved || !slices.Contains(auth.Workloads, app.Workload) {
			continue
		}
		if err := w.remove(ctx, auth.SetupToken, app); err != nil {
			return w.failed(ctx, auth, backup.StepRemoveApplications, err, job.Attempt >= job.MaxAttempts)
		}
	}
	return w.advance(ctx, auth.OrgID, auth.ID, backup.StepRemoveApplications)
}

// remove deletes one application in the tenant and notes that it is gone.
func (r *Runner) remove(ctx context.Context, token backup.Secret, app backup.SubApplication) error {
	if err := r.Microsoft.RemoveApplication(ctx, token, app); err != nil {
		return fmt.Errorf("remove %s: %w", app.DisplayName, err)
	}
	app.State, app.PrivateKey, app.Problem = backup.ApplicationRemoved, nil, backup.Problem{}
	app.Next, app.RollAt, app.RollError = backup.Credential{}, time.Time{}, backup.Problem{}
	if err := r.Store.SaveSubApplication(context.WithoutCancel(ctx), app); err != nil {
		return fmt.Errorf("save %s: %w", app.DisplayName, err)
	}
	return nil
}
