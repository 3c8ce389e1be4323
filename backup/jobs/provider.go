package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// provider is what jobs ask of where the mail of a connection lives.
type provider interface {
	// open opens a mailbox of the connection. It need not connect yet. The
	// caller closes it.
	open(ctx context.Context, conn backup.Connection, m backup.Mailbox) (openMailbox, error)
	// accounts lists the accounts of the connection, all of them.
	accounts(ctx context.Context, conn backup.Connection) ([]backup.Mailbox, error)
}

// receiver is a provider that messages can be restored to.
type receiver interface {
	// target opens a mailbox of the connection to restore to.
	// The caller closes it.
	target(ctx context.Context, conn backup.Connection, m backup.Mailbox) (openTarget, error)
}

// openTarget is a mailbox at its provider while messages are restored to it.
type openTarget interface {
	engine.Target
	io.Closer
}

// openMailbox is a mailbox at its provider while a job works with it.
type openMailbox interface {
	engine.Source
	io.Closer
}

// provider returns the provider of a connection.
func (r *Runner) provider(conn backup.Connection) (provider, error) {
	switch conn.Provider {
	case backup.ProviderMicrosoft365:
		return microsoft365{r}, nil
	case backup.ProviderIMAP:
		return imapServers{r}, nil
	}
	return nil, fmt.Errorf("connection %s: nothing backs up provider %q", conn.ID, conn.Provider)
}

// microsoft365 reads mailboxes through Graph, as the application that the
// connection's method says.
type microsoft365 struct{ *Runner }

func (p microsoft365) open(ctx context.Context, conn backup.Connection, m backup.Mailbox) (openMailbox, error) {
	app, err := p.source(ctx, conn, backup.WorkloadMail)
	if err != nil {
		return nil, err
	}
	return unclosed{app.Mailbox(m.ProviderID)}, nil
}

// target needs the restore permission, whatever the connection's method.
func (p microsoft365) target(ctx context.Context, conn backup.Connection, m backup.Mailbox) (openTarget, error) {
	app, err := p.application(ctx, conn, backup.WorkloadRestore)
	if errors.Is(err, backup.ErrNotFound) {
		return nil, permissionEnded(time.Now())
	}
	if err != nil {
		return nil, err
	}
	return unclosedTarget{p.Microsoft.App(conn.TenantID, app).Target(m.ProviderID)}, nil
}

func (p microsoft365) accounts(ctx context.Context, conn backup.Connection) ([]backup.Mailbox, error) {
	app, err := p.source(ctx, conn, backup.WorkloadMail)
	if err != nil {
		return nil, err
	}
	accounts, _, err := app.Accounts(ctx)
	return accounts, err
}

// unclosed is a source that holds nothing open.
type unclosed struct{ engine.Source }

// Close implements io.Closer.
func (unclosed) Close() error { return nil }

// unclosedTarget is a target that holds nothing open.
type unclosedTarget struct{ engine.Target }

// Close implements io.Closer.
func (unclosedTarget) Close() error { return nil }
