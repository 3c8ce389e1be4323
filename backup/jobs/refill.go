package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"holdfast/store"
)

// backupEnds are the events after which the queue of backups is filled. One
// whose run did not even begin is not among them: the schedule comes to it.
var backupEnds = []river.EventKind{river.EventKindJobCompleted, river.EventKindJobCancelled}

// refill puts what is due into the queue of backups whenever one ended, until
// ctx ends: the queue is shallow, so that organizations take turns in it. What
// fails here is made up for by the schedule.
func (r *Runner) refill(ctx context.Context, ended <-chan *river.Event) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-ended:
			if !ok {
				return
			}
			if e.Job == nil || e.Job.Queue != store.QueueBackup {
				continue
			}
			if _, err := r.Store.FillBackups(ctx, time.Now()); err != nil && ctx.Err() == nil {
				r.Log.Error("due mailboxes were not queued", "error", err)
			}
		}
	}
}
