package jobs

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// PortalFolder is where copies of the portal's database lie in the repository's
// storage; the name of each is its time.
const (
	PortalFolder = "portal/"
	portalTime   = "20060102T150405Z"
)

// portalEvery is how often the database is copied, portalKeep how long a copy
// is kept.
const (
	portalEvery = 24 * time.Hour
	portalKeep  = 14 * 24 * time.Hour
)

// portalCopy copies the portal's database into the repository.
type portalCopy struct {
	river.WorkerDefaults[backup.PortalCopyJob]
	*Runner
}

// Timeout implements river.Worker.
func (*portalCopy) Timeout(*river.Job[backup.PortalCopyJob]) time.Duration { return collectTimeout }

// Work implements river.Worker.
func (w *portalCopy) Work(ctx context.Context, _ *river.Job[backup.PortalCopyJob]) error {
	now := time.Now()
	size, err := w.copy(ctx, w.Engine.Repo.Files(), now)
	var problem backup.Problem
	if err != nil {
		problem = *backup.AsProblem(err)
		problem.At = now
		problem.Text = "The last copy of the portal's database could not be written to the repository. The log has the details; Holdfast tries again by itself."
	}
	if noteErr := w.Store.NotePortalCopy(context.WithoutCancel(ctx), now, size, problem); noteErr != nil {
		return fmt.Errorf("note the copy: %w", noteErr)
	}
	if err != nil {
		return fmt.Errorf("copy the portal's database: %w", err)
	}
	return prunePortal(ctx, w.Engine.Repo.Files(), now)
}

// copy writes one copy. The database is read into a file that is encrypted
// already, since reading it keeps others from writing on SQLite, and the
// storage may be slow.
func (w *portalCopy) copy(ctx context.Context, files repo.Files, now time.Time) (int64, error) {
	spool, err := os.CreateTemp("", "holdfast-portal-*")
	if err != nil {
		return 0, fmt.Errorf("make a temporary file: %w", err)
	}
	defer os.Remove(spool.Name()) //nolint:errcheck // encrypted, and the system's to clean
	defer spool.Close()
	if _, err := w.Store.WritePortalCopy(ctx, spool); err != nil {
		return 0, err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	out := files.Create(ctx, PortalFolder+now.UTC().Format(portalTime))
	defer out.Abort()
	if _, err := io.Copy(out, spool); err != nil {
		return 0, err
	}
	if err := out.Close(); err != nil {
		return 0, err
	}
	w.Log.Info("portal's database copied into the repository", "bytes", out.Size())
	return out.Size(), nil
}

// prunePortal deletes copies whose time is over; the newest always stays.
func prunePortal(ctx context.Context, files repo.Files, now time.Time) error {
	names, err := files.Names(ctx, PortalFolder)
	if err != nil {
		return fmt.Errorf("list the copies: %w", err)
	}
	for i, name := range names {
		at, err := time.Parse(PortalFolder+portalTime, name)
		if err != nil || i == len(names)-1 || now.Sub(at) < portalKeep {
			continue
		}
		if _, err := files.Delete(ctx, name+"/"); err != nil {
			return fmt.Errorf("delete an old copy: %w", err)
		}
	}
	return nil
}

// portalDaily puts the job into the queue, once in a day however often the
// process starts.
func portalDaily() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(portalEvery), func() (river.JobArgs, *river.InsertOpts) {
		return backup.PortalCopyJob{}, &river.InsertOpts{Queue: queueSetup, MaxAttempts: 6, UniqueOpts: river.UniqueOpts{ByPeriod: portalEvery}}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}
