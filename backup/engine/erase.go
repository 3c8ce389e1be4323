package engine

import (
	"context"
	"errors"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// errErased says that the data of a mailbox is erased for good.
var errErased = fmt.Errorf("the data of this mailbox was erased: %w", backup.ErrNotFound)

// Erase makes everything that was ever backed up of a mailbox unreadable: its
// snapshots expire, then its keys are destroyed, and the catalog forgets it. It
// may be called again after a crash, and does nothing new then. What others
// share with the mailbox stays; collections free the rest. While a run of this
// process is at the mailbox it is ErrBusy.
func (e *Engine) Erase(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) error {
	release, err := e.acquire(mailbox)
	if err != nil {
		return err
	}
	defer release()
	// The tombstone comes first: from then on nobody needs what the keys open.
	if err := e.Repo.Erase(ctx, string(org), string(mailbox)); err != nil {
		return e.problem(ctx, fromRepository(fmt.Errorf("erase mailbox %s: %w", mailbox, err)))
	}
	return e.shred(ctx, org, mailbox)
}

// shred destroys the keys of a mailbox that has its tombstone, and forgets it.
func (e *Engine) shred(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) error {
	if err := e.Catalog.EraseMailbox(ctx, org, mailbox); err != nil {
		return fmt.Errorf("erase mailbox %s: %w", mailbox, err)
	}
	e.Repo.Forget(string(org), string(mailbox))
	return nil
}

// shredErased does so for all that are erased, as the repository knows them: a
// database that is older than an erasure brings their keys back.
func (e *Engine) shredErased(ctx context.Context, org backup.OrgID, gone []repo.Expired) error {
	var errs []error
	for _, g := range gone {
		if g.Erased {
			errs = append(errs, e.shred(ctx, org, backup.MailboxID(g.Source)))
		}
	}
	return errors.Join(errs...)
}
