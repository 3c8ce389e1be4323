package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Replica is a place in which a copy of the repository is kept.
type Replica struct {
	Place string // in words
	Every time.Duration
	// Open opens the repository's storage and that of the copy.
	Open func(context.Context) (from, to repo.Storage, err error)
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
	return done, r.followFiles(ctx, from, to)
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
