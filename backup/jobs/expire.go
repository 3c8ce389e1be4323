package jobs

import (
	"context"
	"fmt"
	"time"

	"holdfast/backup"
)

// Expiring says what Expire would let expire of an organization now.
func (r *Runner) Expiring(ctx context.Context, org backup.OrgID) ([]backup.Expiry, error) {
	keep, err := r.Store.Keepings(ctx, org)
	if err != nil || !keep.Hold.IsZero() {
		return nil, err
	}
	return r.Store.Expiries(ctx, org, keep.Expires, time.Now())
}

// Expire lets the snapshots of an organization expire that neither its retention
// nor a mailbox's own keeps, and returns them. What could not be done is done the
// next day.
func (r *Runner) Expire(ctx context.Context, org backup.Organization) ([]backup.Expiry, error) {
	list, err := r.Expiring(ctx, org.ID)
	if err != nil {
		return nil, err
	}
	var expired []backup.Expiry
	var rule backup.Retention
	for _, e := range list {
		// A hold, or another rule, counts from the moment that it is set.
		now, err := r.Store.Keepings(ctx, org.ID)
		if err != nil {
			return expired, err
		}
		rule = now.Rule
		if own, does := now.Expires(e.Mailbox); !does || own != e.Rule {
			continue
		}
		if err := r.Engine.Expire(ctx, org.ID, e.Mailbox, e.Snapshots); err != nil {
			r.Log.Error("snapshots did not expire", "organization", org.ID, "mailbox", e.Mailbox, "error", err)
			continue
		}
		expired = append(expired, e)
	}
	if len(expired) == 0 {
		return nil, nil
	}
	if err := r.Store.RecordExpired(ctx, org, rule, expired); err != nil {
		return expired, fmt.Errorf("record what expired: %w", err)
	}
	return expired, nil
}
