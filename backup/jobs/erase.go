package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/export"
)

// erase erases the data of a mailbox. How it stands is in its row; each step can
// be done again, so a try that was killed is followed by another.
type erase struct {
	river.WorkerDefaults[backup.EraseJob]
	*Runner
}

// Timeout implements river.Worker.
func (*erase) Timeout(*river.Job[backup.EraseJob]) time.Duration { return collectTimeout }

// eraseBusyPause is how long an erasure waits for a run or a restore to end.
const eraseBusyPause = 5 * time.Second

// Work implements river.Worker.
func (w *erase) Work(ctx context.Context, job *river.Job[backup.EraseJob]) error {
	err := w.Erase(ctx, job.Args.OrgID, job.Args.ErasureID)
	if errors.Is(err, backup.ErrConflict) {
		return river.JobSnooze(eraseBusyPause)
	}
	return err
}

// Erase erases the data of a mailbox, from where an earlier try ended. While a
// run or a restore is at the mailbox, it returns backup.ErrConflict.
func (r *Runner) Erase(ctx context.Context, org backup.OrgID, id backup.ErasureID) error {
	e, err := r.Store.Erasure(ctx, org, id)
	if errors.Is(err, backup.ErrNotFound) {
		return nil // the whole organization was deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("read erasure %s: %w", id, err)
	}
	if !e.Open() {
		return nil
	}
	err = r.erase(ctx, e)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if now, readErr := r.Store.Erasure(ctx, org, id); readErr == nil && !now.Open() {
		r.Log.Info("another worker has ended the erasure", "organization", org, "erasure", id, "reason", err)
		return nil
	}
	e.Problem = *backup.AsProblem(err)
	e.Problem.At = time.Now()
	e.Problem.Text = "It could not be ended yet. The log has the cause; Holdfast goes on by itself."
	if errors.Is(err, backup.ErrConflict) {
		e.Problem.Text = "It waits for a backup or a restore of the mailbox to end."
	}
	return errors.Join(fmt.Errorf("erasure %s: %w", id, err), r.Store.NoteErasure(context.WithoutCancel(ctx), e))
}

func (r *Runner) erase(ctx context.Context, e backup.Erasure) error {
	if e.State == backup.ErasureWaiting {
		if err := r.Store.CancelErasedRestores(ctx, e); err != nil {
			return fmt.Errorf("end restores: %w", err)
		}
		held, err := r.Engine.Repo.Holding(ctx, string(e.OrgID), string(e.MailboxID))
		if err != nil {
			return fmt.Errorf("sum up what is stored: %w", err)
		}
		if e, err = r.Store.BeginErasure(ctx, e, int64(held.Packs), held.Bytes); err != nil || !e.Open() {
			return err
		}
	}
	if err := r.Engine.Erase(ctx, e.OrgID, e.MailboxID); errors.Is(err, engine.ErrBusy) {
		return backup.ErrConflict
	} else if err != nil {
		return err
	}
	if err := r.deleteExports(ctx, time.Now()); err != nil {
		return err
	}
	if err := r.Store.Scrub(ctx); err != nil {
		return err
	}
	copies, err := r.eraseCopies(ctx)
	if err != nil {
		return err
	}
	return r.certify(ctx, e, copies)
}

// eraseCopies writes a copy of the portal's database without the keys, and
// deletes those that have them: here, and where a copy of the repository is kept.
func (r *Runner) eraseCopies(ctx context.Context) (backup.ErasureCopies, error) {
	c := backup.ErasureCopies{FilesAnew: r.Store.WritesFilesAnew()}
	if err := r.copyPortal(ctx, time.Now()); err != nil {
		return c, fmt.Errorf("copy the portal's database: %w", err)
	}
	recovery, err := r.Store.Recovery(ctx)
	if err != nil {
		return c, fmt.Errorf("read the recovery keys: %w", err)
	}
	c.KitAt, c.Offline = recovery.KitAt, recovery.Recipient != ""
	places, err := r.Store.ReplicaPlaces(ctx)
	if err != nil {
		return c, err
	}
	for _, place := range places {
		if r.Replica == nil || place != r.Replica.Place {
			c.Unreached = append(c.Unreached, place)
		}
	}
	if r.Replica == nil {
		return c, nil
	}
	from, to, err := r.Replica.Open(ctx)
	if err == nil {
		err = r.followFiles(ctx, from, to)
	}
	if err != nil {
		// It is unreachable now. The next replication does the same.
		r.Log.Warn("older copies of the portal's database not deleted from the copy of the repository", "place", r.Replica.Place, "error", err)
		c.Unreached = append(c.Unreached, r.Replica.Place)
		return c, nil
	}
	c.Replica = r.Replica.Place
	return c, nil
}

func (r *Runner) certify(ctx context.Context, e backup.Erasure, copies backup.ErasureCopies) error {
	org, err := r.Store.OrganizationByID(ctx, e.OrgID)
	if err != nil {
		return fmt.Errorf("read organization %s: %w", e.OrgID, err)
	}
	keys, err := r.Store.DestroyedKeys(ctx, e.OrgID, e.MailboxID)
	if err != nil {
		return fmt.Errorf("read destroyed keys: %w", err)
	}
	e.EndedAt = time.Now()
	if err := r.Store.FinishErasure(ctx, e, backup.NewErasureCertificate(org, e, keys, copies)); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	r.Log.Info("mailbox erased", "organization", e.OrgID, "mailbox", e.MailboxID, "erasure", e.ID)
	return nil
}

// deleteExports deletes the exports whose time is over, with their files.
func (r *Runner) deleteExports(ctx context.Context, now time.Time) error {
	for {
		expired, err := r.Store.ExpiredExports(ctx, now)
		if err != nil || len(expired) == 0 {
			return err
		}
		for _, e := range expired {
			if _, err := r.Engine.Repo.Files().Delete(ctx, export.Folder(e)); err != nil {
				return fmt.Errorf("delete the file of export %s: %w", e.ID, err)
			}
			if err := r.Store.ForgetExport(ctx, e.OrgID, e.ID); err != nil && !errors.Is(err, backup.ErrNotFound) {
				return fmt.Errorf("forget export %s: %w", e.ID, err)
			}
		}
	}
}

// erasures puts erasures back into the queue that have not ended.
func (w *schedule) erasures(ctx context.Context) error {
	open, err := w.Store.OpenErasures(ctx)
	if err != nil {
		return fmt.Errorf("find open erasures: %w", err)
	}
	for _, e := range open {
		if err := w.Store.Enqueue(ctx, backup.EraseJob{OrgID: e.OrgID, ErasureID: e.ID}); err != nil {
			return fmt.Errorf("queue erasure %s: %w", e.ID, err)
		}
	}
	return nil
}
