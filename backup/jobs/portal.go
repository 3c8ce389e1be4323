package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	return w.copyPortal(ctx, time.Now())
}

// copyPortal copies the portal's database into the repository, notes how that
// went, and deletes copies whose time is over.
func (r *Runner) copyPortal(ctx context.Context, now time.Time) error {
	size, err := r.writePortal(ctx, r.Engine.Repo.Files(), now)
	var problem backup.Problem
	if err != nil {
		problem = *backup.AsProblem(err)
		problem.At = now
		problem.Text = "The last copy of the portal's database could not be written to the repository. The log has the details; Holdfast tries again by itself."
	}
	if noteErr := r.Store.NotePortalCopy(context.WithoutCancel(ctx), now, size, problem); noteErr != nil {
		return fmt.Errorf("note the copy: %w", noteErr)
	}
	if err != nil {
		return fmt.Errorf("copy the portal's database: %w", err)
	}
	return r.prunePortal(ctx, r.Engine.Repo.Files(), now)
}

// writePortal writes one copy. The database is read into a file that is
// encrypted already, since reading it keeps others from writing on SQLite, and
// the storage may be slow.
func (r *Runner) writePortal(ctx context.Context, files repo.Files, now time.Time) (int64, error) {
	if r.Spool != "" {
		if err := os.MkdirAll(r.Spool, 0o700); err != nil {
			return 0, fmt.Errorf("make the folder of files under way: %w", err)
		}
	}
	spool, err := os.CreateTemp(r.Spool, portalSpool)
	if err != nil {
		return 0, fmt.Errorf("make a temporary file: %w", err)
	}
	defer os.Remove(spool.Name()) //nolint:errcheck // encrypted, and removed at the next start
	defer spool.Close()
	if _, err := r.Store.WritePortalCopy(ctx, spool); err != nil {
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
	r.Log.Info("portal's database copied into the repository", "bytes", out.Size())
	return out.Size(), nil
}

// portalSpool is the pattern of the names of copies under way.
const portalSpool = "holdfast-portal-*"

// cleanSpool removes the copies that a process left which was killed.
func (r *Runner) cleanSpool() error {
	if r.Spool == "" {
		return nil
	}
	left, err := filepath.Glob(filepath.Join(r.Spool, portalSpool))
	if err != nil {
		return fmt.Errorf("look for files under way: %w", err)
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove a file that was left under way: %w", err)
		}
	}
	return nil
}

// prunePortal deletes copies whose time is over, what was left of some that were
// not ended, and those that still have keys which were destroyed since; the
// newest always stays.
func (r *Runner) prunePortal(ctx context.Context, files repo.Files, now time.Time) error {
	erased, err := r.Store.LastErased(ctx)
	if err != nil {
		return fmt.Errorf("look when keys were destroyed: %w", err)
	}
	whole, err := files.Names(ctx, PortalFolder)
	if err != nil {
		return fmt.Errorf("list the copies: %w", err)
	}
	all, err := files.Begun(ctx, PortalFolder)
	if err != nil {
		return fmt.Errorf("list the copies: %w", err)
	}
	for _, name := range all {
		at, err := time.Parse(PortalFolder+portalTime, name)
		if err != nil || len(whole) == 0 || name >= whole[len(whole)-1] {
			continue
		}
		if now.Sub(at) < portalKeep && at.After(erased) && slices.Contains(whole, name) {
			continue
		}
		if _, err := files.Delete(ctx, name+"/"); err != nil {
			return fmt.Errorf("delete an old copy: %w", err)
		}
	}
	return nil
}

// followFiles brings the newest copy of the portal's database to a copy of the
// repository, and deletes there what is no longer in the repository: older ones,
// and exports.
func (r *Runner) followFiles(ctx context.Context, from, to repo.Storage) error {
	here, there := repo.Files{Storage: from}, repo.Files{Storage: to}
	names, err := here.Names(ctx, PortalFolder)
	if err != nil {
		return fmt.Errorf("list the copies: %w", err)
	}
	if len(names) > 0 { // else the storage has lost them, and these are the last
		if err := here.CopyTo(ctx, names[len(names)-1]+"/", to); err != nil {
			return fmt.Errorf("bring the newest copy there: %w", err)
		}
		if err := r.prunePortal(ctx, there, time.Now()); err != nil {
			return err
		}
	}
	return there.DeleteMissing(ctx, "exports/", from)
}

// portalDaily puts the job into the queue, once in a day however often the
// process starts.
func portalDaily() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(portalEvery), func() (river.JobArgs, *river.InsertOpts) {
		return backup.PortalCopyJob{}, &river.InsertOpts{Queue: queueSetup, MaxAttempts: 6, UniqueOpts: river.UniqueOpts{ByPeriod: portalEvery}}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}
