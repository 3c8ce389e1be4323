package store

import (
	"context"
	"fmt"

	"holdfast/backup"
)

// UpcomingMailboxes returns the mailboxes of an organization whose next run is
// planned, the soonest first.
func (s *Store) UpcomingMailboxes(ctx context.Context, org backup.OrgID, limit int) ([]backup.Mailbox, error) {
	list, err := collect(ctx, s.read, scanMailbox, `SELECT `+mailboxColumns+` FROM mailboxes
		WHERE org_id = $1 AND selected = TRUE AND next_run_at > 0 ORDER BY next_run_at, id LIMIT $2`, org, limit)
	if err != nil {
		return nil, fmt.Errorf("list upcoming runs: %w", err)
	}
	return list, nil
}
