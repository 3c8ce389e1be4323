package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// listAccounts reads the accounts of a tenant with kind and licence, so that
// they can be chosen, and so that mailboxes follow what happens to them.
type listAccounts struct {
	river.WorkerDefaults[backup.ListAccountsJob]
	*Runner
}

// Work implements river.Worker.
func (w *listAccounts) Work(ctx context.Context, job *river.Job[backup.ListAccountsJob]) error {
	conn, err := w.Store.Connection(ctx, job.Args.OrgID, job.Args.ConnectionID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read connection %s: %w", job.Args.ConnectionID, err)
	}
	provider, err := w.provider(conn)
	if err != nil {
		return err
	}
	accounts, err := provider.accounts(ctx, conn)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	save := context.WithoutCancel(ctx)
	if err != nil {
		problem := backup.AsProblem(err)
		if problem.Temporary && job.Attempt < job.MaxAttempts {
			return fmt.Errorf("list accounts: %w", err)
		}
		return errors.Join(river.JobCancel(err), w.Store.SetConnectionProblem(save, conn.OrgID, conn.ID, refused(conn, *problem)), w.lookCloser(save, conn, problem.Kind))
	}
	if err := w.Store.UpsertMailboxes(save, conn.OrgID, conn.ID, accounts); err != nil {
		return fmt.Errorf("save accounts: %w", err)
	}
	return w.Store.SetConnectionListed(save, conn.OrgID, conn.ID, time.Now())
}

// lookCloser has the connection's applications checked, each, when a problem
// can only be one of theirs and the connection is in use.
func (r *Runner) lookCloser(ctx context.Context, conn backup.Connection, kind backup.ProblemKind) error {
	if conn.ReadyAt.IsZero() || !breaks(kind) {
		return nil
	}
	return r.Store.Enqueue(ctx, backup.CheckPermissionsJob{OrgID: conn.OrgID, ConnectionID: conn.ID})
}

// appCache keeps one client per sub-application, so that its token and its
// throttles are shared by all jobs of the process.
type appCache struct {
	mu   sync.Mutex
	apps map[appKey]*m365.App
}

type appKey struct {
	tenant string
	id     backup.SubApplicationID
	appID  string
	end    int64 // a renewed certificate is another client
}

// main is the client of the main application in a tenant.
func (c *appCache) main(client *m365.Client, tenant string) *m365.App {
	return c.kept(appKey{tenant: tenant}, func() *m365.App { return client.MainApp(tenant) })
}

func (c *appCache) get(client *m365.Client, tenant string, app backup.SubApplication) *m365.App {
	key := appKey{tenant: tenant, id: app.ID, appID: app.AppID, end: app.NotAfter.UnixMilli()}
	return c.kept(key, func() *m365.App { return client.App(tenant, app) })
}

func (c *appCache) kept(key appKey, make func() *m365.App) *m365.App {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apps == nil {
		c.apps = map[appKey]*m365.App{}
	}
	if c.apps[key] == nil {
		c.apps[key] = make()
	}
	return c.apps[key]
}
