package engine

import (
	"context"
	"fmt"
	"slices"

	"holdfast/backup"
)

// Settle says what became of a message of a mailbox whose record is lost or whose
// content is damaged: backup.DamageMended, if it is whole now, because a run read
// the same message again, or nobody needs it any more. A lost record gives way to
// the new one of the same message then, in all snapshots.
func (e *Engine) Settle(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, record int64) (backup.DamageFate, error) {
	list, err := e.Catalog.RecordItems(ctx, org, mailbox, record-1, 1)
	if err != nil {
		return "", err
	}
	if len(list) == 0 || list[0].Record.Number != record {
		return backup.DamageMended, nil // only snapshots had it that expired
	}
	old := list[0]
	if old.Record.HasContent {
		_, damaged, err := e.Prove(ctx, org, mailbox, old.Record.ID())
		if err != nil || damaged == "" {
			return backup.DamageMended, err
		}
	}
	now, err := e.Catalog.ItemsByNumber(ctx, org, mailbox, []int64{old.Number})
	if err != nil || len(now) == 0 {
		return backup.DamageGone, err
	}
	switch cur := now[0]; {
	case !old.Record.HasContent && cur.Record.Number != record && cur.Record.HasContent && cur.Record.Bytes == old.Record.Bytes && sameHeader(cur.ItemState, old.ItemState):
		return e.supersede(ctx, org, mailbox, record, cur.Record)
	case cur.FolderID == "":
		return backup.DamageGone, nil
	case cur.Record.Number != record:
		return backup.DamageDiffers, nil
	}
	return backup.DamageWanted, nil
}

// supersede puts another record of the same message in the place of one, in the
// trees of all snapshots first, then in the catalog. While an object lock keeps one
// of them as it is, it waits for a later run.
func (e *Engine) supersede(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, old int64, by Record) (backup.DamageFate, error) {
	release, err := e.await(ctx, mailbox)
	if err != nil {
		return "", err
	}
	defer release()
	seqs, err := e.Catalog.SnapshotsOfRecord(ctx, org, mailbox, old)
	if err != nil {
		return "", err
	}
	for _, seq := range seqs {
		if locked, err := e.Repo.CommitLocked(ctx, string(org), string(mailbox), seq); err != nil {
			return "", e.problem(ctx, fromRepository(err))
		} else if locked {
			return backup.DamageWanted, nil
		}
	}
	t := newTreeMender(e, org, mailbox)
	t.instead[old] = by
	slices.Sort(seqs)
	for _, seq := range seqs {
		if err := t.rewrite(ctx, seq); err != nil {
			return "", e.problem(ctx, fmt.Errorf("snapshot %d: %w", seq, err))
		}
	}
	if err := t.restate(ctx); err != nil {
		return "", err
	}
	return backup.DamageMended, e.Catalog.SupersedeRecord(ctx, org, mailbox, old, by.Number)
}
