package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/repo"
	"holdfast/store"
)

// Replica is a place in which a copy of the repository is kept.
type Replica struct {
	Place string // in words
	Every time.Duration
	// Open opens the repository's storage and that of the copy.
	Open func(context.Context) (from, to repo.Storage, err error)
	// Once says that it was named for one repair: who goes on with that has no copy, or
	// another.
	Once bool
}

// replicate copies what the place lacks. What happened stands in its row; River
// never repeats it, since it comes again by itself.
type replicate struct {
	river.WorkerDefaults[backup.ReplicateJob]
	*Runner
}

// Timeout implements river.Worker: the first copy takes as long as there is
// data. A process that died is found by its missing beat instead.
func (*replicate) Timeout(*river.Job[backup.ReplicateJob]) time.Duration { return -1 }

// Work implements river.Worker.
func (w *replicate) Work(ctx context.Context, _ *river.Job[backup.ReplicateJob]) error {
	if w.Replica == nil {
		return nil // this process was not told; another one may have been
	}
	r, err := w.Replicate(ctx)
	if errors.Is(err, backup.ErrConflict) {
		return nil // another process copies there
	}
	if err != nil {
		return river.JobCancel(fmt.Errorf("copy the repository to %s: %w", w.Replica.Place, err))
	}
	w.Log.Info("repository copied", "to", r.Place, "objects", r.Objects, "copied", r.Copied, "copied_bytes", r.Bytes, "damaged", r.Damaged)
	return nil
}

// Replicate copies what the place lacks and keeps how it went. It returns
// backup.ErrConflict if another process is at it.
func (r *Runner) Replicate(ctx context.Context) (backup.Replica, error) {
	state := backup.Replica{Place: r.Replica.Place}
	if err := r.Store.StartReplica(ctx, state.Place, upkeepLife); err != nil {
		return state, err
	}
	beat := newReplicaBeat(r, state)
	done, err := r.copyRepository(ctx, beat)
	state = replicaOf(state.Place, done)
	beat.stop()
	if err != nil {
		state.Problem = backup.Problem{Kind: backup.ProblemRepository, Temporary: true, At: time.Now(), Err: err,
			Text: "The copy of the backup storage could not be brought up to date. What it has is not touched. The cause is in the log; Holdfast goes on by itself."}
	}
	if saveErr := r.Store.FinishReplica(context.WithoutCancel(ctx), state); saveErr != nil {
		return state, errors.Join(err, saveErr)
	}
	if len(done.Damaged) > 0 {
		r.Log.Error("packs were damaged before they were copied", "packs", done.Damaged)
	}
	return state, err
}

func (r *Runner) copyRepository(ctx context.Context, beat *replicaBeat) (repo.Replication, error) {
	from, to, err := r.Replica.Open(ctx)
	if err != nil {
		return repo.Replication{}, err
	}
	sums, err := repo.ReadSums(ctx, from, r.Store)
	if err != nil {
		return repo.Replication{}, err
	}
	done, err := repo.Replicate(ctx, from, to, sums, beat.progress)
	if err != nil {
		return done, err
	}
	pruned, err := PruneCopy(ctx, r.Store, from, to)
	if err != nil {
		return done, err
	}
	if pruned.Deleted+pruned.Retained > 0 {
		r.Log.Info("deleted from the copy what the repository does not need any more", "place", r.Replica.Place, "objects", pruned.Deleted, "freed_bytes", pruned.Freed, "retained", pruned.Retained)
	}
	for _, why := range pruned.Left {
		r.Log.Warn("nothing deleted from the copy", "place", r.Replica.Place, "organization", why)
	}
	return done, r.followFiles(ctx, from, to)
}

// PruneCopy deletes from a copy that was brought up to the repository what is to
// be in neither: see repo.PruneCopy, and all of organizations that were deleted.
func PruneCopy(ctx context.Context, st *store.Store, from, to repo.Storage) (repo.Pruned, error) {
	done, err := repo.PruneCopy(ctx, from, to, st)
	if err != nil {
		return done, err
	}
	deleted, err := st.DeletedOrganizations(ctx)
	if err != nil {
		return done, err
	}
	for _, org := range deleted {
		if locked, err := hasObjects(ctx, from, org); err != nil {
			return done, err
		} else if locked {
			continue // it would be copied again
		}
		removed, err := repo.DeleteTenant(ctx, to, string(org), nil)
		done.Deleted, done.Retained = done.Deleted+int(removed.Deleted), done.Retained+int(removed.Retained)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func hasObjects(ctx context.Context, storage repo.Storage, org backup.OrgID) (bool, error) {
	for _, err := range storage.List(ctx, "t/"+string(org)+"/") {
		return err == nil, err
	}
	return false, nil
}

func replicaOf(place string, r repo.Replication) backup.Replica {
	return backup.Replica{Place: place, Objects: int64(r.Objects), There: int64(r.There), Copied: int64(r.Copied), Bytes: r.Written, Damaged: int64(len(r.Damaged))}
}

// replicaBeat writes progress at a steady pace, also while one large object is
// under way.
type replicaBeat struct {
	states chan backup.Replica
	end    chan struct{}
	done   chan struct{}
	place  string
}

func newReplicaBeat(r *Runner, state backup.Replica) *replicaBeat {
	b := &replicaBeat{states: make(chan backup.Replica, 1), end: make(chan struct{}), done: make(chan struct{}), place: state.Place}
	go func() {
		defer close(b.done)
		ticker := time.NewTicker(upkeepBeat)
		defer ticker.Stop()
		for {
			select {
			case <-b.end:
				return
			case state = <-b.states:
			case <-ticker.C:
				if err := r.Store.BeatReplica(context.Background(), state); err != nil {
					r.Log.Warn("progress not written", "replica", b.place, "error", err)
				}
			}
		}
	}()
	return b
}

func (b *replicaBeat) progress(r repo.Replication) { b.states <- replicaOf(b.place, r) }

// stop ends the writing.
func (b *replicaBeat) stop() {
	close(b.end)
	<-b.done
}

// replicateOften puts the job into the queue, once in its time however often
// the process starts.
func (r *Runner) replicateOften() *river.PeriodicJob {
	every := r.Replica.Every
	return river.NewPeriodicJob(river.PeriodicInterval(every), func() (river.JobArgs, *river.InsertOpts) {
		return backup.ReplicateJob{}, &river.InsertOpts{Queue: queueReplica, MaxAttempts: 1, UniqueOpts: river.UniqueOpts{ByPeriod: every}}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}
