package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

const permissionCheckColumns = `connection_id, org_id, applications, delegated, asked_at, checked_at, next_check_at, told`

func scanPermissionCheck(row scanner) (backup.PermissionCheck, error) {
	var c backup.PermissionCheck
	var applications, delegated string
	var asked, checked, next int64
	if err := row.Scan(&c.ConnectionID, &c.OrgID, &applications, &delegated, &asked, &checked, &next, &c.Told); err != nil {
		return c, err
	}
	c.AskedAt, c.CheckedAt, c.NextAt = moment(asked), moment(checked), moment(next)
	return c, errors.Join(listOf(applications, &c.Applications), listOf(delegated, &c.Delegated))
}

// listOf reads a list that stands in a column as JSON; "" is none.
func listOf[T any](text string, into *[]T) error {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("read permission check: %w", err)
	}
	return nil
}

// PermissionCheck returns what was last read of the permissions of a
// connection's applications; backup.ErrNotFound before anything was.
func (s *Store) PermissionCheck(ctx context.Context, org backup.OrgID, connection backup.ConnectionID) (backup.PermissionCheck, error) {
	return one(ctx, s.read, scanPermissionCheck, `SELECT `+permissionCheckColumns+` FROM permission_checks WHERE org_id = $1 AND connection_id = $2`, org, connection)
}

// PermissionChecks returns what was last read for each connection of an organization.
func (s *Store) PermissionChecks(ctx context.Context, org backup.OrgID) ([]backup.PermissionCheck, error) {
	return collect(ctx, s.read, scanPermissionCheck, `SELECT `+permissionCheckColumns+` FROM permission_checks WHERE org_id = $1 ORDER BY connection_id`, org)
}

// DuePermissionChecks returns the connections of all organizations whose
// permissions are to be read: completed ones at Microsoft, and those for which
// somebody asked and got no answer yet.
func (s *Store) DuePermissionChecks(ctx context.Context, now time.Time) ([]backup.Connection, error) {
	return collect(ctx, s.read, scanConnection, `SELECT `+connectionColumns+` FROM connections c
		WHERE (ready_at > 0 AND provider = 'microsoft365'
			AND NOT EXISTS (SELECT 1 FROM permission_checks p WHERE p.connection_id = c.id AND p.next_check_at > $1))
		OR EXISTS (SELECT 1 FROM permission_checks p WHERE p.connection_id = c.id AND p.asked_at > p.checked_at)
		ORDER BY ready_at LIMIT 100`, millis(now))
}

// AskPermissionCheck has the permissions of a connection read now, because
// somebody asked for it.
func (s *Store) AskPermissionCheck(ctx context.Context, org backup.OrgID, connection backup.ConnectionID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		conn, err := one(ctx, tx, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE org_id = $1 AND id = $2`, org, connection)
		if err != nil {
			return err
		}
		if err := s.askPermissionCheck(ctx, tx, org, connection); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "permissions.check", conn.TenantDomain, "")
	})
}

// askPermissionCheck has the permissions of a connection read once more, also if
// they are being read right now.
func (s *Store) askPermissionCheck(ctx context.Context, tx *sql.Tx, org backup.OrgID, connection backup.ConnectionID) error {
	if err := execOne(ctx, tx, `
		INSERT INTO permission_checks (connection_id, org_id, asked_at) VALUES ($1, $2, $3)
		ON CONFLICT (connection_id) DO UPDATE
			SET asked_at = CASE WHEN excluded.asked_at > permission_checks.checked_at THEN excluded.asked_at ELSE permission_checks.checked_at + 1 END
		WHERE permission_checks.org_id = excluded.org_id`,
		connection, org, millis(time.Now())); err != nil {
		return fmt.Errorf("ask for a check of permissions: %w", err)
	}
	return s.enqueueTx(ctx, tx, backup.CheckPermissionsJob{OrgID: org, ConnectionID: connection})
}

// SavePermissionCheck keeps what was read of c's applications, when, and when
// to read again; who asked and what an administrator was granted stay.
func (s *Store) SavePermissionCheck(ctx context.Context, c backup.PermissionCheck, jobs ...river.JobArgs) error {
	applications, err := json.Marshal(c.Applications)
	if err != nil {
		return fmt.Errorf("encode permission check: %w", err)
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `
			INSERT INTO permission_checks (connection_id, org_id, applications, checked_at, next_check_at, told) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (connection_id) DO UPDATE SET applications = excluded.applications, checked_at = excluded.checked_at,
				next_check_at = excluded.next_check_at, told = excluded.told
			WHERE permission_checks.org_id = excluded.org_id`,
			c.ConnectionID, c.OrgID, string(applications), millis(c.CheckedAt), millis(c.NextAt), c.Told); err != nil {
			return fmt.Errorf("save permission check: %w", err)
		}
		return s.enqueueTx(ctx, tx, jobs...)
	})
}

// SaveDelegatedCheck keeps what the main application was granted for the
// administrator who just signed in.
func (s *Store) SaveDelegatedCheck(ctx context.Context, org backup.OrgID, connection backup.ConnectionID, d backup.DelegatedCheck) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		check, err := one(ctx, tx, scanPermissionCheck, `SELECT `+permissionCheckColumns+` FROM permission_checks WHERE org_id = $1 AND connection_id = $2`, org, connection)
		if err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("read permission check: %w", err)
		}
		list := slices.DeleteFunc(check.Delegated, func(o backup.DelegatedCheck) bool { return o.Purpose == d.Purpose })
		text, err := json.Marshal(append(list, d))
		if err != nil {
			return fmt.Errorf("encode what was granted: %w", err)
		}
		return execOne(ctx, tx, `
			INSERT INTO permission_checks (connection_id, org_id, delegated) VALUES ($1, $2, $3)
			ON CONFLICT (connection_id) DO UPDATE SET delegated = excluded.delegated WHERE permission_checks.org_id = excluded.org_id`,
			connection, org, string(text))
	})
}
