package engine

import (
	"context"
	"errors"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Rekey moves what an organization has in the repository to the newest of its keys,
// as far as that is due, and collects: see repo.Repository.Rekey. It is called
// again until nothing stands under older keys: what was moved is deleted only when
// repo.Grace is over. Like a collection it refuses to while a part of the
// repository is not there. Told hears how many packs are done.
func (e *Engine) Rekey(ctx context.Context, org backup.OrgID, told func(done, total int) error) (repo.Rekeyed, error) {
	if err := e.checkHeads(ctx, org); err != nil {
		return repo.Rekeyed{}, err
	}
	done, err := e.Repo.Rekey(ctx, string(org), owner{e, org, nil}, told)
	if err != nil {
		return done, e.problem(ctx, fromRepository(fmt.Errorf("move to new keys: %w", err)))
	}
	if _, err := e.Collect(ctx, org); err != nil && !errors.Is(err, backup.ErrConflict) {
		return done, err
	}
	done.Standing, err = e.Repo.Standing(ctx, string(org))
	if err != nil {
		return done, e.problem(ctx, fromRepository(fmt.Errorf("look for older keys: %w", err)))
	}
	return done, nil
}
