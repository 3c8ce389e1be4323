package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/repo"
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
		kinds, err := w.Store.Upkeeps(ctx, org.ID)
		if err != nil {
			return err
		}
		if u := kinds[backup.UpkeepCollect]; u.State == backup.UpkeepRunning && time.Since(u.BeatAt) < upkeepLife {
			continue // another process is at it
		}
		_, err = w.Upkeep(ctx, org.ID, backup.UpkeepCollect, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, backup.ErrConflict) && !errors.Is(err, backup.ErrNotFound) {
			w.Log.Error("repository not collected", "organization", org.ID, "error", err)
		}
	}
	return nil
}

// errCollected is what people read where two collections met.
const errCollected = "Another collection is under way, or snapshots expired meanwhile. What this one left is done by the next."

// collect lets snapshots of the task's organization expire, and deletes from its
// repository what none needs. What can't expire keeps nothing else from being
// deleted.
func (t *task) collect(ctx context.Context) error {
	org, err := t.Store.OrganizationByID(ctx, t.u.OrgID)
	if err != nil {
		return err
	}
	t.again = collectEvery
	_, unexpired := t.Expire(ctx, org)
	sources, err := t.Engine.Repo.Sources(ctx, string(org.ID))
	if err != nil {
		return errors.Join(unexpired, fmt.Errorf("list mailboxes in the repository: %w", err))
	}
	var walked atomic.Int64
	var c repo.Collection
	err = t.alive(ctx, func() (done, total int64) { return walked.Load(), int64(len(sources)) }, func(ctx context.Context) (err error) {
		c, err = t.Engine.CollectReporting(ctx, org.ID, func() { walked.Add(1) })
		return err
	})
	if errors.Is(err, backup.ErrConflict) {
		err = &backup.Problem{Kind: backup.ProblemUnavailable, Text: errCollected, At: time.Now(), Temporary: true, Err: err}
	}
	t.u.Counted, t.u.Bytes, t.u.Retained = int64(c.Packs), c.Freed, int64(c.Retained)
	if c.Condemned+c.Deleted+c.Commits+c.Retained > 0 {
		t.Log.Info("repository collected", "organization", org.ID, "packs", c.Packs, "condemned", c.Condemned, "moved", c.Moved, "deleted", c.Deleted, "freed_bytes", c.Freed, "snapshots", c.Commits, "retained", c.Retained)
	}
	return errors.Join(unexpired, err)
}

// alive does work that reports nothing by itself, and reports meanwhile how far it
// is, so that nobody takes it for dead.
func (t *task) alive(ctx context.Context, far func() (done, total int64), work func(context.Context) error) error {
	over := make(chan struct{})
	g, working := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(over)
		return work(working)
	})
	g.Go(func() error {
		beat := time.NewTicker(upkeepBeat)
		defer beat.Stop()
		for {
			select {
			case <-over:
				return nil
			case <-beat.C:
				done, total := far()
				if err := t.progress(working, done, total); err != nil {
					return err
				}
			}
		}
	})
	return g.Wait()
}

// collectDaily puts the job into the queue, once in a day however often the
// process starts.
func collectDaily() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(collectEvery), func() (river.JobArgs, *river.InsertOpts) {
		return backup.CollectJob{}, &river.InsertOpts{Queue: queueSetup, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: collectEvery}}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}
