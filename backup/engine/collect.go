package engine

import (
	"context"
	"errors"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Collect deletes from the repository what runs of an organization left that
// were killed: see repo.Repository.Collect. It refuses to while a snapshot that
// the catalog knows is missing in the repository, since then a part of the
// repository is not there.
func (e *Engine) Collect(ctx context.Context, org backup.OrgID) (repo.Collection, error) {
	heads, err := e.Catalog.Heads(ctx)
	if err != nil {
		return repo.Collection{}, fmt.Errorf("read where the catalog stands: %w", err)
	}
	for _, h := range heads {
		if h.Org != org || h.Seq == 0 {
			continue
		}
		if _, err := e.Repo.Commit(ctx, string(org), string(h.Mailbox), h.Seq); err != nil {
			return repo.Collection{}, e.problem(ctx, fromRepository(fmt.Errorf("nothing was collected: snapshot %d of mailbox %s: %w", h.Seq, h.Mailbox, err)))
		}
	}
	c, err := e.Repo.Collect(ctx, string(org))
	if errors.Is(err, repo.ErrCollecting) {
		return c, fmt.Errorf("%w: %w", backup.ErrConflict, err)
	}
	if err != nil {
		return c, e.problem(ctx, fromRepository(err))
	}
	return c, nil
}
