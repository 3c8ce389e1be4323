package jobs

import (
	"context"
	"fmt"
	"time"

	"holdfast/backup"
)

// Expire lets the snapshots of an organization expire that neither its retention
// nor a mailbox's own keeps. What could not be done is done the next day.
func (r *Runner) Expire(ctx context.Context, org backup.Organization) error {
	keep, err := r.Store.Keepings(ctx, org.ID)
	if err != nil || !keep.Hold.IsZero() {
		return err
	}
	list, err := r.Store.Expiries(ctx, org.ID, keep.Expires, time.Now())
	if err != nil {
		return err
	}
	var expired []backup.Expiry
	for _, e := range list {
		// A hold, or another rule, counts from the moment that it is set.
		now, err := r.Store.Keepings(ctx, org.ID)
		if err != nil {
			return err
		}
		if rule, does := now.Expires(e.Mailbox); !does || rule != e.Rule {
			continue
		}
		if err := r.Engine.Expire(ctx, org.ID, e.Mailbox, e.Snapshots); err != nil {
			r.Log.Error("snapshots did not expire", "organization", org.ID, "mailbox", e.Mailbox, "error", err)
			continue
		}
		expired = append(expired, e)
	}
	if len(expired) == 0 {
		return nil
	}
	if err := r.Store.RecordExpired(ctx, org, keep.Rule, expired); err != nil {
		return fmt.Errorf("record what expired: %w", err)
	}
	return nil
}
