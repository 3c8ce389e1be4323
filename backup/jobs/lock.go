package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

// lockEvery is how often object locks are looked at. The shortest lock is a day
// long and prolonged when half of it is over.
const lockEvery = 6 * time.Hour

// extendLocks prolongs the object locks of what is needed.
type extendLocks struct {
	river.WorkerDefaults[backup.ExtendLocksJob]
	*Runner
}

// Timeout implements river.Worker: each object is asked once.
func (w *extendLocks) Timeout(*river.Job[backup.ExtendLocksJob]) time.Duration { return lockEvery }

// Work implements river.Worker. What one organization's locks can't be extended
// for does not concern the others.
func (w *extendLocks) Work(ctx context.Context, _ *river.Job[backup.ExtendLocksJob]) error {
	orgs, err := w.Store.AllOrganizations(ctx)
	if err != nil {
		return fmt.Errorf("list organizations: %w", err)
	}
	for _, org := range orgs {
		l, err := w.Engine.ExtendLocks(ctx, org.ID)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			w.Log.Error("object locks not extended", "organization", org.ID, "error", err)
			continue
		}
		if l.Extended > 0 {
			w.Log.Info("object locks extended", "organization", org.ID, "needed", l.Needed, "extended", l.Extended)
		}
	}
	return nil
}

// extendLocksOften puts the job into the queue, once in its time however often
// the process starts.
func extendLocksOften() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(lockEvery), func() (river.JobArgs, *river.InsertOpts) {
		return backup.ExtendLocksJob{}, &river.InsertOpts{Queue: queueSetup, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: lockEvery}}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}
