package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// restoresAtATime is how many restores one process works on. Calls to one mailbox
// are bounded elsewhere, whoever makes them.
const restoresAtATime = 4

// restore works on one restore. How it stands is in its row; River never repeats
// it, since the schedule does.
type restore struct {
	river.WorkerDefaults[backup.RestoreJob]
	*Runner
}

// Timeout implements river.Worker: a restore takes as long as it takes.
func (*restore) Timeout(*river.Job[backup.RestoreJob]) time.Duration { return -1 }

// errRestoreCancelled says that a person asked to end a restore.
var errRestoreCancelled = errors.New("cancelled by a person")

// Work implements river.Worker.
func (w *restore) Work(ctx context.Context, job *river.Job[backup.RestoreJob]) error {
	r, err := w.Store.BeginRestore(ctx, job.Args.OrgID, job.Args.RestoreID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil // it ended, or waits for permission
	}
	if err != nil {
		return fmt.Errorf("begin restore %s: %w", job.Args.RestoreID, err)
	}
	full, err := w.Store.Restore(ctx, r.OrgID, r.ID)
	if err != nil {
		return fmt.Errorf("read restore %s: %w", r.ID, err)
	}
	if r.CancelAsked {
		return w.end(ctx, r, full.ConnectionID, errRestoreCancelled)
	}
	result, err := w.run(ctx, r, full.ConnectionID)
	r.ItemsTotal, r.ItemsDone, r.Restored, r.Skipped, r.Failed, r.Altered, r.Bytes =
		result.ItemsTotal, result.ItemsDone, result.Restored, result.Skipped, result.Failed, result.Altered, result.Bytes
	if ctx.Err() != nil && !errors.Is(err, errRestoreCancelled) {
		return nil // the process stops; the next one carries on
	}
	return w.end(ctx, r, full.ConnectionID, err)
}

// run does the work, telling the store how far it is, and ends when somebody
// asked for that.
func (w *restore) run(ctx context.Context, r backup.Restore, id backup.ConnectionID) (backup.Restore, error) {
	conn, err := w.Store.Connection(ctx, r.OrgID, id)
	if err != nil {
		return r, fmt.Errorf("read connection %s: %w", id, err)
	}
	mailbox, err := w.Store.Mailbox(ctx, r.OrgID, r.TargetID)
	if err != nil {
		return r, fmt.Errorf("read mailbox %s: %w", r.TargetID, err)
	}
	provider, err := w.provider(conn)
	if err != nil {
		return r, err
	}
	to, ok := provider.(receiver)
	if !ok {
		return r, fmt.Errorf("connection %s: nothing restores to provider %q", conn.ID, conn.Provider)
	}
	target, err := to.target(ctx, conn, mailbox)
	if err != nil {
		return r, err
	}
	defer target.Close() //nolint:errcheck // what was put there was answered
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	beat := newRestoreBeat(w.Runner, r, cancel)
	result, err := w.Engine.Restore(ctx, engine.RestoreJob{Restore: r, Target: target, Progress: beat.progress,
		Note: func(ctx context.Context, n backup.RestoreNote) error {
			return w.Store.AddRestoreNote(ctx, r.OrgID, r.ID, n)
		}})
	beat.stop()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return result, err
}

// permissionEnded is why a restore can't write any more.
func permissionEnded(now time.Time) *backup.Problem {
	return &backup.Problem{Kind: backup.ProblemPermission, At: now,
		Text: "The restore permission has ended: it lasts 24 hours at most. Select Try again and let an administrator give it once more; what was restored already is not restored twice."}
}

// end closes a restore, or puts it off if its target may answer later. Then the
// permission is given back, if nothing else needs it.
func (w *restore) end(ctx context.Context, r backup.Restore, conn backup.ConnectionID, err error) error {
	save := context.WithoutCancel(ctx)
	problem := backup.AsProblem(err)
	switch {
	case err == nil:
		r.State = backup.RestoreDone
	case errors.Is(err, errRestoreCancelled):
		r.State = backup.RestoreCancelled
	case errors.Is(err, backup.ErrNotFound):
		r.State, r.Problem = backup.RestoreFailed, backup.Problem{Kind: backup.ProblemItems, At: time.Now(), Text: "What was to be restored is no longer in the backup. Choose it again under Browse & Restore."}
	case problem.Temporary:
		if at, again := backup.NextRestoreTry(time.Now(), r.Tries, problem.RetryAfter); again {
			r.Problem, r.NextTryAt, r.Tries = *problem, at, r.Tries+1
			w.Log.Warn("restore put off", "restore", r.ID, "until", at, "error", err)
			return w.Store.PauseRestore(save, r)
		}
		r.State, r.Problem = backup.RestoreFailed, *problem
	default:
		r.State, r.Problem = backup.RestoreFailed, *problem
	}
	if r.State == backup.RestoreFailed {
		w.Log.Warn("restore failed", "restore", r.ID, "error", err)
	}
	finished := w.Store.FinishRestore(save, r, backup.ReturnRestoreJob{OrgID: r.OrgID, ConnectionID: conn})
	if errors.Is(finished, backup.ErrNotFound) {
		return nil // closed meanwhile
	}
	return finished
}

// restoreBeat writes the newest counters of a restore at a steady pace.
type restoreBeat struct {
	mu   sync.Mutex
	last backup.Restore
	end  chan struct{}
	done chan struct{}
}

func newRestoreBeat(r *Runner, job backup.Restore, cancel context.CancelCauseFunc) *restoreBeat {
	b := &restoreBeat{last: job, end: make(chan struct{}), done: make(chan struct{})}
	go b.loop(r, cancel)
	return b
}

func (b *restoreBeat) progress(r backup.Restore) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = r
}

func (b *restoreBeat) loop(r *Runner, cancel context.CancelCauseFunc) {
	defer close(b.done)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-b.end:
			return
		case <-ticker.C:
		}
		b.mu.Lock()
		now := b.last
		b.mu.Unlock()
		asked, err := r.Store.BeatRestore(context.Background(), now)
		switch {
		case errors.Is(err, backup.ErrNotFound):
			cancel(permissionEnded(time.Now())) // closed, since its permission ended
			return
		case err != nil:
			r.Log.Warn("progress not written", "restore", now.ID, "error", err)
		case asked:
			cancel(errRestoreCancelled)
			return
		}
	}
}

func (b *restoreBeat) stop() {
	close(b.end)
	<-b.done
}
