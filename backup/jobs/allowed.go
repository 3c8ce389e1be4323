package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"holdfast/backup"
	"holdfast/store"
)

// allowedEvery is how often a run looks whether it may go on, and how fast.
const allowedEvery = 5 * time.Second

// held is the reason for which a backup may not run, nil if err is none: what
// could not be found out stops nothing.
func held(err error) error {
	for _, reason := range []error{store.ErrSuspended, store.ErrPaused, store.ErrWindowClosed} {
		if errors.Is(err, reason) {
			return reason
		}
	}
	return nil
}

// heldTexts say why a run stopped.
var heldTexts = map[error]string{
	store.ErrSuspended:    "The organization was suspended. The run goes on from here when it is resumed.",
	store.ErrPaused:       "Automatic backups were paused. The run goes on from here when they are resumed.",
	store.ErrWindowClosed: "The backup window closed. The run goes on from here in the next one.",
}

// whileAllowed returns a context that ends when the backup of m may not go on,
// so that the run commits what it has. end ends the watch and returns why the
// context ended, nil if it did not or because ctx did.
func (r *Runner) whileAllowed(ctx context.Context, m backup.Mailbox) (allowed context.Context, end func() *backup.Problem) {
	allowed, cancel := context.WithCancelCause(ctx)
	r.setBandwidth(ctx, m.OrgID)
	var watch sync.WaitGroup
	watch.Go(func() {
		ticker := time.NewTicker(allowedEvery)
		defer ticker.Stop()
		for {
			select {
			case <-allowed.Done():
				return
			case <-ticker.C:
			}
			if reason := held(r.Store.MayRun(ctx, m.OrgID, m.ID, time.Now())); reason != nil {
				cancel(reason)
				return
			}
			r.setBandwidth(ctx, m.OrgID)
		}
	})
	return allowed, func() *backup.Problem {
		cancel(nil)
		watch.Wait()
		text, ok := heldTexts[held(context.Cause(allowed))]
		if !ok {
			return nil
		}
		return &backup.Problem{Kind: backup.ProblemHeld, Temporary: true, At: time.Now(), Text: text}
	}
}
