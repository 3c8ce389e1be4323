package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"holdfast/backup"
	"holdfast/backup/export"
	"holdfast/backup/repo"
)

// deleteOrganization goes on with the deletion of an organization, step by step.
// How far it is stands in its row, so that it goes on after a crash; each step
// can be done again.
type deleteOrganization struct {
	river.WorkerDefaults[backup.DeleteOrganizationJob]
	*Runner
}

// Timeout implements river.Worker: it takes as long as there are objects.
func (*deleteOrganization) Timeout(*river.Job[backup.DeleteOrganizationJob]) time.Duration { return -1 }

// stopPause is how long a deletion waits for work that is under way.
const stopPause = 2 * time.Second

// errWait says that a step has to wait for what others do.
var errWait = errors.New("others are still at work")

// Work implements river.Worker.
func (w *deleteOrganization) Work(ctx context.Context, job *river.Job[backup.DeleteOrganizationJob]) error {
	d, err := w.Store.DeletionByID(ctx, job.Args.OrgID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the deletion of organization %s: %w", job.Args.OrgID, err)
	}
	forgotten := false
	for d.Open() && !d.NextTryAt.After(time.Now()) {
		at := d.Step
		err := w.step(ctx, &d)
		forgotten = forgotten || at == backup.DeletionRows && err == nil
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, backup.ErrConflict):
			w.Log.Info("another worker goes on with the deletion", "organization", d.OrgID, "reason", err)
			return nil
		case errors.Is(err, errWait):
			d.NextTryAt = time.Now().Add(stopPause)
			return w.noted(ctx, d)
		case err != nil:
			return w.failed(ctx, d, err)
		}
		if d, err = w.Store.DeletionByID(ctx, d.OrgID); err != nil {
			return fmt.Errorf("read the deletion of organization %s: %w", d.OrgID, err)
		}
	}
	if d.Open() && !forgotten {
		return nil
	}
	if err := w.Store.Scrub(ctx); err != nil {
		return fmt.Errorf("clear the database's files of organization %s: %w", d.OrgID, err) // the queue tries again
	}
	if d.Open() {
		return nil // what is locked is deleted when its lock ends
	}
	w.Log.Info("organization deleted", "organization", d.OrgID, "objects", d.Objects)
	return nil
}

// failed notes why a step failed, and when it is tried again.
func (w *deleteOrganization) failed(ctx context.Context, d backup.Deletion, err error) error {
	d.Problem = *backup.AsProblem(err)
	if d.Problem.Kind == backup.ProblemUnknown {
		d.Problem = backup.Problem{Kind: backup.ProblemRepository, Temporary: true, At: time.Now(),
			Text: "The deletion could not go on. What is deleted stays deleted; Holdfast goes on by itself. The cause is in the log."}
	}
	d.NextTryAt = backup.DeletionRetry(time.Now(), d.Tries)
	d.Tries++
	return errors.Join(river.JobCancel(fmt.Errorf("delete organization %s, %s: %w", d.OrgID, d.Step, err)), w.noted(context.WithoutCancel(ctx), d))
}

// noted saves what there is to say of a deletion, unless another worker has taken
// it over.
func (w *deleteOrganization) noted(ctx context.Context, d backup.Deletion) error {
	if err := w.Store.SaveDeletion(ctx, d); !errors.Is(err, backup.ErrConflict) {
		return err
	}
	return nil
}

// step does the step that a deletion is at and saves the next one.
func (w *deleteOrganization) step(ctx context.Context, d *backup.Deletion) error {
	switch d.Step {
	case backup.DeletionStop:
		return w.next(ctx, d, backup.DeletionTenant, w.stop(ctx, d))
	case backup.DeletionTenant:
		return w.next(ctx, d, backup.DeletionKeys, w.leaveTenants(ctx, d))
	case backup.DeletionKeys:
		return w.next(ctx, d, backup.DeletionObjects, w.Store.DestroyKeys(ctx, d.OrgID))
	case backup.DeletionObjects:
		return w.next(ctx, d, backup.DeletionCopy, w.objects(ctx, d))
	case backup.DeletionCopy:
		return w.next(ctx, d, backup.DeletionRows, w.copies(ctx, d))
	case backup.DeletionRows:
		if err := w.Store.ForgetCatalog(ctx, d.OrgID); err != nil {
			return err
		}
		return w.Store.ForgetOrganization(ctx, *d)
	case backup.DeletionRetained:
		return w.retained(ctx, d)
	case backup.DeletionDone:
		return nil
	}
	return fmt.Errorf("the deletion is at the unknown step %q", d.Step)
}

func (w *deleteOrganization) next(ctx context.Context, d *backup.Deletion, step backup.DeletionStep, err error) error {
	if err != nil {
		return err
	}
	return w.Store.MoveDeletion(ctx, *d, step)
}

// stop takes waiting jobs of the organization away and waits for those that run.
// No other begins: see refuseDeleted.
func (w *deleteOrganization) stop(ctx context.Context, d *backup.Deletion) error {
	exports, err := w.Store.Exports(ctx, d.OrgID)
	if err != nil {
		return err
	}
	by := backup.Actor{Partner: backup.Partner{ID: d.PartnerID}}
	for _, e := range exports {
		if err := w.Store.CancelExport(ctx, d.OrgID, e.ID, by); err != nil && !errors.Is(err, backup.ErrNotFound) && !errors.Is(err, backup.ErrConflict) {
			return fmt.Errorf("cancel export %s: %w", e.ID, err)
		}
	}
	restores, err := w.Store.Restores(ctx, d.OrgID, 1000)
	if err != nil {
		return err
	}
	for _, r := range restores {
		if !r.EndedAt.IsZero() {
			continue
		}
		if err := w.Store.CancelRestore(ctx, d.OrgID, r.ID, by); err != nil && !errors.Is(err, backup.ErrNotFound) && !errors.Is(err, backup.ErrConflict) {
			return fmt.Errorf("cancel restore %s: %w", r.ID, err)
		}
	}
	running, err := w.Store.DropJobs(ctx, d.OrgID)
	if err != nil {
		return err
	}
	if running > 0 {
		return errWait
	}
	return nil
}

// objects deletes the organization's exports and all that it has in the
// repository.
func (w *deleteOrganization) objects(ctx context.Context, d *backup.Deletion) error {
	exports, err := w.Store.Exports(ctx, d.OrgID)
	if err != nil {
		return err
	}
	for _, e := range exports {
		if _, err := w.Engine.Repo.Files().Delete(ctx, export.Folder(e)); err != nil {
			return fmt.Errorf("delete the file of export %s: %w", e.ID, err)
		}
	}
	return w.remove(ctx, d, func(progress func(repo.Removal)) (repo.Removal, error) {
		return w.Engine.Repo.DeleteTenant(ctx, string(d.OrgID), progress)
	})
}

// copies deletes it from the copy of the repository, if there is one. A copying
// under way might bring back what it has listed. Copies that this worker does not
// reach are left to a person; without their keys nobody can read them.
func (w *deleteOrganization) copies(ctx context.Context, d *backup.Deletion) error {
	places, err := w.Store.ReplicaPlaces(ctx)
	if err != nil {
		return err
	}
	for _, place := range places {
		known := slices.ContainsFunc(d.Left, func(r backup.Remnant) bool { return r.Place == place })
		if !known && (w.Replica == nil || place != w.Replica.Place) {
			d.Left = append(d.Left, backup.Remnant{Place: place, What: "the organization’s part of this copy of the repository, which nobody can read any more",
				How: "Delete t/" + string(d.OrgID) + " there. The worker that deleted the organization was started without -replicate-to for this place."})
		}
	}
	if w.Replica == nil {
		return nil
	}
	copying, err := w.Store.CopyIsRunning(ctx)
	if err != nil {
		return err
	}
	if copying {
		return errWait
	}
	_, to, err := w.Replica.Open(ctx)
	if err != nil {
		return err
	}
	return w.remove(ctx, d, func(progress func(repo.Removal)) (repo.Removal, error) {
		return repo.DeleteTenant(ctx, to, string(d.OrgID), progress)
	})
}

// remove deletes objects, telling the row how far it is, and counts them.
func (w *deleteOrganization) remove(ctx context.Context, d *backup.Deletion, do func(progress func(repo.Removal)) (repo.Removal, error)) error {
	before, told := d.Done, time.Now()
	done, err := do(func(r repo.Removal) {
		if d.Done = before + r.Deleted; time.Since(told) < beatEvery {
			return
		}
		told = time.Now()
		if err := w.Store.SaveDeletion(ctx, *d); err != nil {
			w.Log.Warn("progress not written", "deletion", d.OrgID, "error", err)
		}
	})
	if d.Done = before + done.Deleted; err != nil {
		return err
	}
	d.Done, d.Objects = 0, d.Objects+d.Done
	d.Retained += done.Retained
	if done.RetainedUntil.After(d.RetainedUntil) {
		d.RetainedUntil = done.RetainedUntil
	}
	return nil
}

// retained deletes what was locked, once the locks have ended.
func (w *deleteOrganization) retained(ctx context.Context, d *backup.Deletion) error {
	d.Retained, d.RetainedUntil = 0, time.Time{}
	if err := w.objects(ctx, d); err != nil {
		return err
	}
	if err := w.copies(ctx, d); err != nil {
		return err
	}
	if d.Retained == 0 {
		return w.Store.MoveDeletion(ctx, *d, backup.DeletionDone)
	}
	d.NextTryAt = d.Unlocks(time.Now())
	return w.Store.SaveDeletion(ctx, *d)
}

// deletions puts the deletions into the queue that go on now.
func (w *schedule) deletions(ctx context.Context, now time.Time) error {
	due, err := w.Store.DueDeletions(ctx, now)
	if err != nil {
		return fmt.Errorf("find deletions: %w", err)
	}
	for _, d := range due {
		if err := w.Store.Enqueue(ctx, backup.DeleteOrganizationJob{OrgID: d.OrgID}); err != nil {
			return fmt.Errorf("queue the deletion of organization %s: %w", d.OrgID, err)
		}
	}
	return nil
}

// refuseDeleted lets no job begin that works for an organization that is being
// deleted, whoever put it into the queue.
func (r *Runner) refuseDeleted(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) error {
	var args struct {
		OrgID backup.OrgID `json:"org_id"`
	}
	if err := json.Unmarshal(job.EncodedArgs, &args); err != nil || args.OrgID == "" || job.Kind == (backup.DeleteOrganizationJob{}).Kind() {
		return work(ctx)
	}
	gone, err := r.Store.IsDeleting(ctx, args.OrgID)
	if err != nil {
		return fmt.Errorf("look whether organization %s is being deleted: %w", args.OrgID, err)
	}
	if gone {
		return nil
	}
	return work(ctx)
}
