package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/backup"
)

// AdministratorPassword returns the password of a connection's backup
// administrator that was not shown yet; nil if there is none.
func (s *Store) AdministratorPassword(ctx context.Context, org backup.OrgID, id backup.ConnectionID) (backup.Secret, error) {
	return s.administratorPassword(ctx, s.read, org, id)
}

func (s *Store) administratorPassword(ctx context.Context, q querier, org backup.OrgID, id backup.ConnectionID) (backup.Secret, error) {
	sealed, err := one(ctx, q, scanValue[[]byte], `SELECT admin_password_sealed FROM connections WHERE org_id = $1 AND id = $2`, org, id)
	if err != nil {
		return nil, fmt.Errorf("read the backup administrator: %w", err)
	}
	return s.unseal(sealed, place("connections", org, "admin_password", string(id)))
}

// SetAdministrator notes how far the backup administrator of a connection is
// made; a zero one, that there is none any more.
func (s *Store) SetAdministrator(ctx context.Context, org backup.OrgID, id backup.ConnectionID, a backup.Administrator) error {
	sealed, err := s.seal(a.Password, place("connections", org, "admin_password", string(id)))
	if err != nil {
		return err
	}
	if err := execOne(ctx, s.db, `UPDATE connections SET admin_id = $1, admin_upn = $2, admin_password_sealed = $3 WHERE org_id = $4 AND id = $5`,
		a.ID, a.UPN, sealed, org, id); err != nil {
		return fmt.Errorf("save the backup administrator: %w", err)
	}
	return nil
}

// TakeAdministratorPassword returns the password of the backup administrator to
// the person who is to keep it, and erases it here. backup.ErrNotFound says
// that it was taken before.
func (s *Store) TakeAdministratorPassword(ctx context.Context, org backup.OrgID, id backup.ConnectionID, by backup.Actor) (backup.Secret, error) {
	var password backup.Secret
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var err error
		if password, err = s.administratorPassword(ctx, tx, org, id); err != nil {
			return err
		}
		if len(password) == 0 {
			return backup.ErrNotFound
		}
		upn, err := one(ctx, tx, scanValue[string], `SELECT admin_upn FROM connections WHERE org_id = $1 AND id = $2`, org, id)
		if err != nil {
			return fmt.Errorf("read the backup administrator: %w", err)
		}
		if err := execOne(ctx, tx, `UPDATE connections SET admin_password_sealed = NULL WHERE org_id = $1 AND id = $2 AND admin_password_sealed IS NOT NULL`, org, id); err != nil {
			return fmt.Errorf("erase the password: %w", err)
		}
		return s.record(ctx, tx, by, org, "administrator.show", upn, "shown once and erased")
	})
	if err != nil {
		return nil, err
	}
	return password, nil
}

// RevertConnection sends a connection by service principal back to the backup
// administrator. Until one has authorized, the sub-applications go on backing
// up. A connection that is not by service principal is backup.ErrConflict.
func (s *Store) RevertConnection(ctx context.Context, org backup.OrgID, id backup.ConnectionID, reason string, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		conn, err := one(ctx, tx, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE org_id = $1 AND id = $2`, org, id)
		if err != nil {
			return fmt.Errorf("read the connection: %w", err)
		}
		if conn.Method != backup.MethodServicePrincipal || conn.ReadyAt.IsZero() {
			return backup.ErrConflict
		}
		if err := execOne(ctx, tx, `UPDATE connections SET method = $1, reverted_at = $2 WHERE org_id = $3 AND id = $4`,
			backup.MethodBackupAdministrator, millis(time.Now()), org, id); err != nil {
			return fmt.Errorf("revert the connection: %w", err)
		}
		return s.record(ctx, tx, by, org, "connection.revert", conn.TenantDomain, reason)
	})
}

// ForgetMigration forgets what an abandoned migration was about to use and what
// is gone from the tenant: the removed sub-applications and the custom role.
// The connection stays as it is. One that works by sub-applications is left alone.
func (s *Store) ForgetMigration(ctx context.Context, org backup.OrgID, id backup.ConnectionID) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		const legacy = ` AND EXISTS (SELECT 1 FROM connections c WHERE c.org_id = $1 AND c.id = $2 AND c.method = 'backup_administrator' AND c.reverted_at = 0)
			AND NOT EXISTS (SELECT 1 FROM authorizations a WHERE a.org_id = $1 AND a.connection_id = $2 AND a.purpose = 'migrate' AND a.step NOT IN ('done', 'abandoned'))`
		for _, query := range []string{
			`DELETE FROM sub_applications WHERE org_id = $1 AND connection_id = $2 AND state = 'removed'` + legacy,
			`DELETE FROM custom_roles WHERE org_id = $1 AND connection_id = $2` + legacy,
			`DELETE FROM permission_checks WHERE org_id = $1 AND connection_id = $2` + legacy,
		} {
			if _, err := tx.ExecContext(ctx, query, org, id); err != nil {
				return fmt.Errorf("forget the migration: %w", err)
			}
		}
		return nil
	})
}

// LegacyConnection returns the oldest connection of an organization that works
// by the legacy method; backup.ErrNotFound if there is none.
func (s *Store) LegacyConnection(ctx context.Context, org backup.OrgID) (backup.Connection, error) {
	return one(ctx, s.read, scanConnection, `SELECT `+connectionColumns+` FROM connections
		WHERE org_id = $1 AND method = 'backup_administrator' AND ready_at > 0 ORDER BY created_at LIMIT 1`, org)
}

// ConnectionAdministrators returns the names of the people who have signed in
// for authorizations of a connection, the latest first.
func (s *Store) ConnectionAdministrators(ctx context.Context, org backup.OrgID, id backup.ConnectionID) ([]string, error) {
	return collect(ctx, s.read, scanValue[string], `SELECT admin_upn FROM authorizations
		WHERE org_id = $1 AND connection_id = $2 AND admin_upn <> '' AND admin_id <> '' GROUP BY admin_upn ORDER BY MAX(created_at) DESC LIMIT 10`, org, id)
}
