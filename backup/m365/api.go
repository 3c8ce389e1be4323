package m365

import (
	"context"
	"errors"

	"holdfast/backup"
)

// Accounts lists the tenant's accounts, and the ids of deleted ones.
func (a *App) Accounts(ctx context.Context) (accounts []backup.Mailbox, deleted []string, err error) {
	return nil, nil, errors.ErrUnsupported
}

// Probe says whether a mailbox can be read.
func (a *App) Probe(ctx context.Context, userID string) error { return errors.ErrUnsupported }

// Mailbox is a mailbox as a source of items; it implements engine.Source.
type Mailbox struct{}

// Mailbox returns the mailbox of a user.
func (a *App) Mailbox(userID string) *Mailbox { return &Mailbox{} }
