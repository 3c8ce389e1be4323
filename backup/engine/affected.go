package engine

import (
	"context"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Touches says whether reading an item needs one of the packs: for its record,
// or for a piece of its content. A record that can't be read touches them.
func (e *Engine) Touches(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, r Record, packs map[repo.PackID]bool) (bool, error) {
	in, err := e.inPacks(ctx, org, []repo.PieceID{repo.PieceID(r.Meta)}, packs)
	if err != nil || in {
		return in, err
	}
	rec, err := readRecord(ctx, e.blobs(org, mailbox), r.Meta)
	if isDamage(err) {
		return true, nil
	}
	if err != nil {
		return false, e.problem(ctx, err)
	}
	if rec.Content == nil {
		return false, nil
	}
	ids := append([]repo.PieceID(nil), rec.Content.Skeleton...)
	for _, part := range rec.Content.Parts {
		for _, shared := range part.Shared {
			ids = append(ids, shared.ID)
		}
	}
	return e.inPacks(ctx, org, ids, packs)
}

func (e *Engine) inPacks(ctx context.Context, org backup.OrgID, ids []repo.PieceID, packs map[repo.PackID]bool) (bool, error) {
	found, err := e.Repo.Locate(ctx, string(org), ids)
	if err != nil {
		return false, fmt.Errorf("look pieces up: %w", err)
	}
	for _, id := range ids {
		if at, ok := found[id]; !ok || packs[at.Pack] {
			return true, nil
		}
	}
	return false, nil
}
