package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

const customRoleColumns = `id, org_id, connection_id, state, problem, admin_upn, tries, token_expires_at, secrets_sealed, pending_since, next_try_at, checked_at, connected_at`

func (s *Store) scanCustomRole(row scanner) (backup.CustomRole, error) {
	var r backup.CustomRole
	var problem string
	var ends, since, next, checked, connected int64
	var sealed []byte
	if err := row.Scan(&r.ID, &r.OrgID, &r.ConnectionID, &r.State, &problem, &r.AdminUPN, &r.Tries, &ends, &sealed, &since, &next, &checked, &connected); err != nil {
		return r, err
	}
	r.Problem, r.TokenExpiresAt, r.PendingSince = problemOf(problem), moment(ends), moment(since)
	r.NextTryAt, r.CheckedAt, r.ConnectedAt = moment(next), moment(checked), moment(connected)
	secrets, err := s.unsealAll(sealed, place("custom_roles", r.OrgID, "secrets", string(r.ID)))
	r.Token, r.RefreshToken = secrets["token"], secrets["refresh_token"]
	return r, err
}

// CustomRole returns the custom role of a connection.
func (s *Store) CustomRole(ctx context.Context, org backup.OrgID, connection backup.ConnectionID) (backup.CustomRole, error) {
	return one(ctx, s.read, s.scanCustomRole, `SELECT `+customRoleColumns+` FROM custom_roles WHERE org_id = $1 AND connection_id = $2`, org, connection)
}

// CustomRoles returns the custom roles of an organization, by connection.
func (s *Store) CustomRoles(ctx context.Context, org backup.OrgID) (map[backup.ConnectionID]backup.CustomRole, error) {
	list, err := collect(ctx, s.read, s.scanCustomRole, `SELECT `+customRoleColumns+` FROM custom_roles WHERE org_id = $1`, org)
	if err != nil {
		return nil, fmt.Errorf("read custom roles: %w", err)
	}
	roles := make(map[backup.ConnectionID]backup.CustomRole, len(list))
	for _, r := range list {
		roles[r.ConnectionID] = r
	}
	return roles, nil
}

// CustomRoleByID returns a custom role of an organization.
func (s *Store) CustomRoleByID(ctx context.Context, org backup.OrgID, id backup.CustomRoleID) (backup.CustomRole, error) {
	return one(ctx, s.read, s.scanCustomRole, `SELECT `+customRoleColumns+` FROM custom_roles WHERE org_id = $1 AND id = $2`, org, id)
}

// DueCustomRoles returns the roles of all organizations whose next try is due.
func (s *Store) DueCustomRoles(ctx context.Context, now time.Time) ([]backup.CustomRole, error) {
	return collect(ctx, s.read, s.scanCustomRole, `SELECT `+customRoleColumns+` FROM custom_roles
		WHERE next_try_at > 0 AND next_try_at <= $1 ORDER BY next_try_at LIMIT 200`, millis(now))
}

// SaveCustomRole makes or replaces the custom role of a connection and queues
// jobs in the same transaction. Tokens that are empty in r are erased.
func (s *Store) SaveCustomRole(ctx context.Context, r *backup.CustomRole, jobs ...river.JobArgs) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.saveCustomRole(ctx, tx, r); err != nil {
			return err
		}
		return s.enqueueTx(ctx, tx, jobs...)
	})
}

// AskRoleCheck has a role tried or checked at once. It is due as well, for a
// job that is added while the one before it ends is dropped by the queue.
func (s *Store) AskRoleCheck(ctx context.Context, r backup.CustomRole, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `UPDATE custom_roles SET next_try_at = $1 WHERE org_id = $2 AND id = $3`, millis(time.Now()), r.OrgID, r.ID); err != nil {
			return fmt.Errorf("make the custom role due: %w", err)
		}
		if err := s.enqueueTx(ctx, tx, backup.VerifyRoleJob{OrgID: r.OrgID, CustomRoleID: r.ID}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, r.OrgID, "role.check", "Custom role", "")
	})
}

func (s *Store) saveCustomRole(ctx context.Context, tx *sql.Tx, r *backup.CustomRole) error {
	if r.ID == "" {
		r.ID = backup.NewID[backup.CustomRoleID]()
	}
	sealed, err := s.sealAll(map[string]backup.Secret{"token": r.Token, "refresh_token": r.RefreshToken},
		place("custom_roles", r.OrgID, "secrets", string(r.ID)))
	if err != nil {
		return err
	}
	err = execOne(ctx, tx, `
		INSERT INTO custom_roles (`+customRoleColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, problem = excluded.problem, admin_upn = excluded.admin_upn, tries = excluded.tries,
			token_expires_at = excluded.token_expires_at, secrets_sealed = excluded.secrets_sealed, pending_since = excluded.pending_since,
			next_try_at = excluded.next_try_at, checked_at = excluded.checked_at, connected_at = excluded.connected_at
		WHERE custom_roles.org_id = excluded.org_id`,
		r.ID, r.OrgID, r.ConnectionID, r.State, problemText(r.Problem), r.AdminUPN, r.Tries, millis(r.TokenExpiresAt), sealed,
		millis(r.PendingSince), millis(r.NextTryAt), millis(r.CheckedAt), millis(r.ConnectedAt))
	if err != nil {
		return fmt.Errorf("save custom role: %w", err)
	}
	return nil
}

// BeginVerify hands the administrator's Exchange tokens of a to the custom
// role and moves the authorization to verify, all in one transaction: the
// tokens are in one row only. r.ID is filled.
func (s *Store) BeginVerify(ctx context.Context, a *backup.Authorization, r *backup.CustomRole) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		existing, err := one(ctx, tx, scanValue[backup.CustomRoleID], `SELECT id FROM custom_roles WHERE org_id = $1 AND connection_id = $2`, r.OrgID, r.ConnectionID)
		if err == nil {
			r.ID = existing
		}
		if err := s.saveCustomRole(ctx, tx, r); err != nil {
			return err
		}
		return s.saveAuthorization(ctx, tx, a, backup.VerifyRoleJob{OrgID: r.OrgID, CustomRoleID: r.ID})
	})
}
