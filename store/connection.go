package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/backup"
)

const connectionColumns = `id, org_id, provider, method, tenant_id, tenant_name, tenant_domain, workloads, problem, created_at, ready_at, listed_at, admin_id, admin_upn, admin_password_sealed IS NOT NULL, reverted_at`

// scanConnection leaves the password of the backup administrator sealed: only
// AdministratorPassword opens it.
func scanConnection(row scanner) (backup.Connection, error) {
	var c backup.Connection
	var workloads, problem string
	var created, ready, listed, reverted int64
	err := row.Scan(&c.ID, &c.OrgID, &c.Provider, &c.Method, &c.TenantID, &c.TenantName, &c.TenantDomain, &workloads, &problem, &created, &ready, &listed,
		&c.Administrator.ID, &c.Administrator.UPN, &c.Administrator.Unshown, &reverted)
	c.RevertedAt = moment(reverted)
	c.Workloads, c.Problem = workloadsOf(workloads), problemOf(problem)
	c.CreatedAt, c.ReadyAt, c.ListedAt = moment(created), moment(ready), moment(listed)
	return c, err
}

// Connections returns an organization's connections, the oldest first.
func (s *Store) Connections(ctx context.Context, org backup.OrgID) ([]backup.Connection, error) {
	return collect(ctx, s.read, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE org_id = $1 ORDER BY created_at, id`, org)
}

// Connection returns a connection of an organization.
func (s *Store) Connection(ctx context.Context, org backup.OrgID, id backup.ConnectionID) (backup.Connection, error) {
	return one(ctx, s.read, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE org_id = $1 AND id = $2`, org, id)
}

// ConnectionsListedBefore returns the completed connections of all
// organizations whose accounts were listed before a time. Those of an IMAP server
// are what an admin entered: there is nothing to list.
func (s *Store) ConnectionsListedBefore(ctx context.Context, t time.Time) ([]backup.Connection, error) {
	return collect(ctx, s.read, scanConnection, `SELECT `+connectionColumns+` FROM connections
		WHERE ready_at > 0 AND listed_at < $1 AND provider <> 'imap' ORDER BY listed_at LIMIT 100`, millis(t))
}

// SaveConnection makes or replaces a connection. A tenant that another
// organization uses is backup.ErrConflict.
func (s *Store) SaveConnection(ctx context.Context, c backup.Connection, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error { return s.saveConnection(ctx, tx, c, by) })
}

func (s *Store) saveConnection(ctx context.Context, tx *sql.Tx, c backup.Connection, by backup.Actor) error {
	err := execOne(ctx, tx, `
		INSERT INTO connections (id, org_id, provider, method, tenant_id, tenant_name, tenant_domain, workloads, problem, created_at, ready_at, listed_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (id) DO UPDATE SET method = excluded.method, tenant_name = excluded.tenant_name, tenant_domain = excluded.tenant_domain,
			workloads = excluded.workloads, problem = excluded.problem, ready_at = excluded.ready_at, listed_at = excluded.listed_at
		WHERE connections.org_id = excluded.org_id`,
		c.ID, c.OrgID, c.Provider, c.Method, c.TenantID, c.TenantName, c.TenantDomain, workloadsText(c.Workloads), problemText(c.Problem),
		millis(c.CreatedAt), millis(c.ReadyAt), millis(c.ListedAt))
	if err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	detail := "tenant " + c.TenantID
	if c.Provider == backup.ProviderIMAP {
		detail = "IMAP server"
	}
	return s.record(ctx, tx, by, c.OrgID, "connection.save", c.TenantDomain, detail)
}

// SetConnectionProblem says what keeps a whole connection from working, or
// that nothing does.
func (s *Store) SetConnectionProblem(ctx context.Context, org backup.OrgID, id backup.ConnectionID, p backup.Problem) error {
	return execOne(ctx, s.db, `UPDATE connections SET problem = $1 WHERE org_id = $2 AND id = $3`, problemText(p), org, id)
}

// SetConnectionListed says that the accounts were listed, which also shows
// that the connection works.
func (s *Store) SetConnectionListed(ctx context.Context, org backup.OrgID, id backup.ConnectionID, at time.Time) error {
	return execOne(ctx, s.db, `UPDATE connections SET listed_at = $1, problem = '' WHERE org_id = $2 AND id = $3`, millis(at), org, id)
}

// DeleteConnection removes a connection that was never completed, with its
// sub-applications, role and accounts. One in use is backup.ErrNotFound.
func (s *Store) DeleteConnection(ctx context.Context, org backup.OrgID, id backup.ConnectionID) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		for _, table := range []string{"permission_checks", "sub_applications", "custom_roles", "imap_accounts", "imap_servers", "mailboxes"} {
			query := `DELETE FROM ` + table + ` WHERE org_id = $1 AND connection_id = $2 ` + //nolint:gosec // a fixed list of tables
				`AND EXISTS (SELECT 1 FROM connections c WHERE c.id = $2 AND c.ready_at = 0)`
			if _, err := tx.ExecContext(ctx, query, org, id); err != nil {
				return fmt.Errorf("delete connection's %s: %w", table, err)
			}
		}
		return execOne(ctx, tx, `DELETE FROM connections WHERE org_id = $1 AND id = $2 AND ready_at = 0`, org, id)
	})
}
