package engine

import (
	"context"
	"errors"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// LostHead is the newest known snapshot of a mailbox, which the repository has
// not: nothing in the repository tells of the last one of a mailbox.
type LostHead struct {
	Org     backup.OrgID
	Mailbox backup.MailboxID
	Seq     int64
	Last    int64 // the newest that is there, 0 for none
	More    int64 // how many between the two are missing as well
}

// String names the snapshot, and says how it is damaged.
func (l LostHead) String() string {
	name := repo.CommitName(string(l.Org), string(l.Mailbox), l.Seq)
	switch l.More {
	case 0:
		return name + ": it is missing, and the database knows it"
	case 1:
		return name + ": it and the snapshot before it are missing, and the database knows them"
	default:
		return fmt.Sprintf("%s: it and the %d snapshots before it are missing, and the database knows them", name, l.More)
	}
}

// missingHeads returns the newest snapshots that the database knows, that did not
// expire, and that are not in the repository.
func (e *Engine) missingHeads(ctx context.Context, org backup.OrgID) ([]LostHead, error) {
	heads, err := e.Catalog.KnownHeads(ctx, org)
	if err != nil {
		return nil, err
	}
	var lost []LostHead
	for _, h := range heads {
		_, err := e.Repo.Commit(ctx, string(org), string(h.Mailbox), h.Seq)
		if err == nil || errors.Is(err, repo.ErrDamaged) { // which is found with the others
			continue
		}
		if !errors.Is(err, repo.ErrNotExist) {
			return lost, e.problem(ctx, fromRepository(err))
		}
		gone, err := e.Repo.Expired(ctx, string(org), string(h.Mailbox))
		if err == nil && gone.Has(h.Seq) { // the database is older than what expired since
			continue
		}
		kept, err := e.Repo.Kept(ctx, string(org), string(h.Mailbox), 0)
		if err != nil {
			return lost, e.problem(ctx, fromRepository(err))
		}
		l := LostHead{Org: org, Mailbox: h.Mailbox, Seq: h.Seq}
		for _, seq := range kept {
			l.Last = max(l.Last, seq)
		}
		for seq := l.Last + 1; seq < l.Seq; seq++ {
			if !gone.Has(seq) {
				l.More++
			}
		}
		if l.Last < l.Seq { // else it lies between others, and is found with them
			lost = append(lost, l)
		}
	}
	return lost, nil
}

// AcceptLoss lets the database forget the newest snapshots of an organization that
// neither the repository nor the catalog has any more, so that they are not
// missed for ever: Catalog.NoteLost has them told. It returns what it forgot.
func (e *Engine) AcceptLoss(ctx context.Context, org backup.OrgID) ([]LostHead, error) {
	lost, err := e.missingHeads(ctx, org)
	if err != nil {
		return nil, err
	}
	for _, l := range lost {
		how := fmt.Sprintf("it was the newest snapshot of its mailbox and is lost: neither the storage nor the catalog has anything of it. What is left ends with snapshot %d", l.Last)
		if err := e.Catalog.NoteLost(ctx, org, l.Mailbox, l.Seq, how); err != nil {
			return nil, err
		}
		if err := e.Catalog.SetHead(ctx, org, l.Mailbox, l.Last); err != nil {
			return nil, err
		}
	}
	return lost, nil
}
