package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/backup"
)

const restoreGrantColumns = `connection_id, org_id, admin_upn, granted_at, ends_at, token_expires_at, secrets_sealed, problem`

func (s *Store) scanRestoreGrant(row scanner) (backup.RestoreGrant, error) {
	var g backup.RestoreGrant
	var granted, ends, token int64
	var sealed []byte
	var problem string
	if err := row.Scan(&g.ConnectionID, &g.OrgID, &g.AdminUPN, &granted, &ends, &token, &sealed, &problem); err != nil {
		return g, err
	}
	g.GrantedAt, g.EndsAt, g.TokenExpiresAt, g.Problem = moment(granted), moment(ends), moment(token), problemOf(problem)
	secrets, err := s.unsealAll(sealed, place("restore_grants", g.OrgID, "secrets", string(g.ConnectionID)))
	g.Token, g.RefreshToken = secrets["token"], secrets["refresh_token"]
	return g, err
}

// RestoreGrant returns the restore permission of a connection;
// backup.ErrNotFound if there is none.
func (s *Store) RestoreGrant(ctx context.Context, org backup.OrgID, conn backup.ConnectionID) (backup.RestoreGrant, error) {
	return one(ctx, s.read, s.scanRestoreGrant, `SELECT `+restoreGrantColumns+` FROM restore_grants WHERE org_id = $1 AND connection_id = $2`, org, conn)
}

// RestoreGrants returns the restore permissions of all organizations.
func (s *Store) RestoreGrants(ctx context.Context) ([]backup.RestoreGrant, error) {
	return collect(ctx, s.read, s.scanRestoreGrant, `SELECT `+restoreGrantColumns+` FROM restore_grants ORDER BY granted_at`)
}

// SaveRestoreGrant keeps newer tokens of a restore permission, or why it could
// not be given back.
func (s *Store) SaveRestoreGrant(ctx context.Context, g backup.RestoreGrant) error {
	return s.saveRestoreGrant(ctx, s.db, g)
}

func (s *Store) saveRestoreGrant(ctx context.Context, q querier, g backup.RestoreGrant) error {
	sealed, err := s.sealAll(map[string]backup.Secret{"token": g.Token, "refresh_token": g.RefreshToken}, place("restore_grants", g.OrgID, "secrets", string(g.ConnectionID)))
	if err != nil {
		return err
	}
	if err := execOne(ctx, q, `
		INSERT INTO restore_grants (`+restoreGrantColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (connection_id) DO UPDATE SET admin_upn = excluded.admin_upn, granted_at = excluded.granted_at, ends_at = excluded.ends_at,
			token_expires_at = excluded.token_expires_at, secrets_sealed = excluded.secrets_sealed, problem = excluded.problem
		WHERE restore_grants.org_id = excluded.org_id`,
		g.ConnectionID, g.OrgID, g.AdminUPN, millis(g.GrantedAt), millis(g.EndsAt), millis(g.TokenExpiresAt), sealed, problemText(g.Problem)); err != nil {
		return fmt.Errorf("save restore permission: %w", err)
	}
	return nil
}

// GrantRestore completes the authorization that gives the restore permission, in
// one transaction with the permission itself, and lets the restores go on that
// wait for it.
func (s *Store) GrantRestore(ctx context.Context, a *backup.Authorization, g backup.RestoreGrant) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.saveRestoreGrant(ctx, tx, g); err != nil {
			return err
		}
		waiting, err := collect(ctx, tx, scanRestore, `SELECT `+restoreColumns+` FROM restores r JOIN mailboxes t ON t.id = r.target_id
			WHERE r.org_id = $1 AND t.connection_id = $2 AND r.state = 'waiting_for_permission' AND r.ended_at = 0`, a.OrgID, a.ConnectionID)
		if err != nil {
			return fmt.Errorf("find restores that wait: %w", err)
		}
		for _, r := range waiting {
			r.State = backup.RestoreQueued
			if err := writeRestore(ctx, tx, r); err != nil {
				return fmt.Errorf("let restore %s go on: %w", r.ID, err)
			}
			if err := s.queueRestore(ctx, tx, r); err != nil {
				return err
			}
		}
		next := *a
		next.Complete()
		if err := s.saveAuthorization(ctx, tx, &next, backup.CheckPermissionsJob{OrgID: a.OrgID, ConnectionID: a.ConnectionID}); err != nil {
			return err
		}
		*a = next
		return s.recordGrant(ctx, tx, g, a.StartedBy, a.MovedBy, "restore.permission_given", "by "+g.AdminUPN+", until "+g.EndsAt.UTC().Format("2006-01-02 15:04 MST")+" at the latest")
	})
}

// ReturnRestoreGrant forgets a restore permission, which is no longer in the
// tenant, with its application.
func (s *Store) ReturnRestoreGrant(ctx context.Context, g backup.RestoreGrant) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sub_applications WHERE org_id = $1 AND connection_id = $2 AND workload = $3`, g.OrgID, g.ConnectionID, backup.WorkloadRestore); err != nil {
			return fmt.Errorf("forget the restore application: %w", err)
		}
		if err := execOne(ctx, tx, `DELETE FROM restore_grants WHERE org_id = $1 AND connection_id = $2`, g.OrgID, g.ConnectionID); err != nil {
			return fmt.Errorf("forget the restore permission: %w", err)
		}
		// What was read while the permission was held shows it as granted.
		if err := s.askPermissionCheck(ctx, tx, g.OrgID, g.ConnectionID); err != nil {
			return err
		}
		return s.recordGrant(ctx, tx, g, "", "Holdfast", "restore.permission_returned", "held since "+g.GrantedAt.UTC().Format("2006-01-02 15:04 MST"))
	})
}

func (s *Store) recordGrant(ctx context.Context, tx *sql.Tx, g backup.RestoreGrant, person backup.PersonID, name, kind, detail string) error {
	domain, err := one(ctx, tx, scanValue[string], `SELECT tenant_domain FROM connections WHERE org_id = $1 AND id = $2`, g.OrgID, g.ConnectionID)
	if err != nil {
		return fmt.Errorf("read connection %s: %w", g.ConnectionID, err)
	}
	return s.appendFor(ctx, tx, backup.Entry{OrgID: g.OrgID, PersonID: person, Person: name, Kind: kind, Subject: domain, Detail: detail})
}

// EraseRestoreTokens forgets the administrator's tokens of restore permissions
// that have ended long ago and could not be given back.
func (s *Store) EraseRestoreTokens(ctx context.Context, before time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE restore_grants SET secrets_sealed = NULL, token_expires_at = 0 WHERE ends_at < $1 AND token_expires_at > 0`, millis(before))
	return err
}
