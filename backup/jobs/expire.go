package jobs

import (
	"context"
	"fmt"
	"time"

	"holdfast/backup"
)

// Expire lets the snapshots of an organization expire that its retention does
// not keep. What could not be done is done the next day.
func (r *Runner) Expire(ctx context.Context, org backup.Organization) error {
	rule, hold, err := r.Store.Retention(ctx, org.ID)
	if err != nil || !hold.IsZero() || rule.Mode == backup.RetainAll {
		return err
	}
	list, err := r.Store.Expiries(ctx, org.ID, rule, time.Now())
	if err != nil {
		return err
	}
	mailboxes, snapshots, messages := 0, int64(0), int64(0)
	for _, e := range list {
		// A hold, or another rule, counts from the moment that it is set.
		now, hold, err := r.Store.Retention(ctx, org.ID)
		if err != nil {
			return err
		}
		if !hold.IsZero() || now != rule {
			break
		}
		if err := r.Engine.Expire(ctx, org.ID, e.Mailbox, e.Snapshots); err != nil {
			r.Log.Error("snapshots did not expire", "organization", org.ID, "mailbox", e.Mailbox, "error", err)
			continue
		}
		mailboxes++
		snapshots += int64(len(e.Snapshots))
		messages += e.Messages
	}
	if snapshots == 0 {
		return nil
	}
	if err := r.Store.RecordExpired(ctx, org, rule, mailboxes, snapshots, messages); err != nil {
		return fmt.Errorf("record what expired: %w", err)
	}
	return nil
}
