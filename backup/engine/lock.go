package engine

import (
	"context"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// ExtendLocks prolongs the object locks of what an organization needs in the
// repository: see repo.Repository.ExtendLocks.
func (e *Engine) ExtendLocks(ctx context.Context, org backup.OrgID) (repo.Locks, error) {
	l, err := e.Repo.ExtendLocks(ctx, string(org))
	if err != nil {
		return l, e.problem(ctx, fromRepository(fmt.Errorf("extend object locks: %w", err)))
	}
	return l, nil
}
