package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

// collectEvery is how often the repository is collected.
const collectEvery = 24 * time.Hour

// collect lets snapshots expire, and deletes from the repository what none
// needs.
type collect struct {
	river.WorkerDefaults[backup.CollectJob]
	*Runner
}

// collectTimeout is enough to list a large repository.
const collectTimeout = 2 * time.Hour

// Timeout implements river.Worker.
func (w *collect) Timeout(*river.Job[backup.CollectJob]) time.Duration { return collectTimeout }

// Work implements river.Worker. What one organization can't be collected for
// does not concern the others.
func (w *collect) Work(ctx context.Context, _ *river.Job[backup.CollectJob]) error {
	orgs, err := w.Store.AllOrganizations(ctx)
	if err != nil {
		return fmt.Errorf("list organizations: %w", err)
	}
	for _, org := range orgs {
		if _, err := w.Expire(ctx, org); err != nil {
			w.Log.Error("retention not applied", "organization", org.ID, "error", err)
		}
		c, err := w.Engine.Collect(ctx, org.ID)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, backup.ErrConflict) {
			continue // another process is at it
		}
		if err != nil {
			w.Log.Error("repository not collected", "organization", org.ID, "error", err)
			continue
		}
		if c.Condemned+c.Deleted+c.Commits+c.Retained > 0 {
			w.Log.Info("repository collected", "organization", org.ID, "packs", c.Packs, "condemned", c.Condemned, "moved", c.Moved, "deleted", c.Deleted, "freed_bytes", c.Freed, "snapshots", c.Commits, "retained", c.Retained)
		}
	}
	return nil
}

// collectDaily puts the job into the queue, once in a day however often the
// process starts.
func collectDaily() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(collectEvery), func() (river.JobArgs, *river.InsertOpts) {
		return backup.CollectJob{}, &river.InsertOpts{Queue: queueSetup, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: collectEvery}}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}
