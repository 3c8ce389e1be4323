package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/backup"
)

const subApplicationColumns = `id, org_id, connection_id, workload, display_name, state, object_id, app_id, principal_id, certificate, private_key_sealed, not_after, problem, updated_at,
	generation, key_id, old_key_id, next_certificate, next_key_sealed, next_not_after, next_key_id, roll_at, roll_error`

func (s *Store) scanSubApplication(row scanner) (backup.SubApplication, error) {
	var a backup.SubApplication
	var sealed, nextSealed []byte
	var problem, rollError string
	var notAfter, updated, nextNotAfter, rollAt int64
	if err := row.Scan(&a.ID, &a.OrgID, &a.ConnectionID, &a.Workload, &a.DisplayName, &a.State, &a.ObjectID, &a.AppID, &a.PrincipalID,
		&a.Certificate, &sealed, &notAfter, &problem, &updated,
		&a.Generation, &a.KeyID, &a.OldKeyID, &a.Next.Certificate, &nextSealed, &nextNotAfter, &a.Next.KeyID, &rollAt, &rollError); err != nil {
		return a, err
	}
	a.Problem, a.NotAfter, a.UpdatedAt = problemOf(problem), moment(notAfter), moment(updated)
	a.Next.NotAfter, a.RollAt, a.RollError = moment(nextNotAfter), moment(rollAt), problemOf(rollError)
	key, err := s.unseal(sealed, place("sub_applications", a.OrgID, "private_key", string(a.ID)))
	if err != nil {
		return a, err
	}
	a.PrivateKey = key
	a.Next.PrivateKey, err = s.unseal(nextSealed, place("sub_applications", a.OrgID, "next_key", string(a.ID)))
	return a, err
}

// SubApplications returns the sub-applications of a connection, mail first.
func (s *Store) SubApplications(ctx context.Context, org backup.OrgID, connection backup.ConnectionID) ([]backup.SubApplication, error) {
	return collect(ctx, s.read, s.scanSubApplication, `SELECT `+subApplicationColumns+` FROM sub_applications
		WHERE org_id = $1 AND connection_id = $2 ORDER BY workload DESC`, org, connection)
}

// SaveSubApplication makes or replaces a sub-application. A connection has one
// per workload: another is backup.ErrConflict.
func (s *Store) SaveSubApplication(ctx context.Context, a backup.SubApplication) error {
	return s.saveSubApplication(ctx, s.db, a)
}

func (s *Store) saveSubApplication(ctx context.Context, q querier, a backup.SubApplication) error {
	sealed, err := s.seal(a.PrivateKey, place("sub_applications", a.OrgID, "private_key", string(a.ID)))
	if err != nil {
		return err
	}
	next, err := s.seal(a.Next.PrivateKey, place("sub_applications", a.OrgID, "next_key", string(a.ID)))
	if err != nil {
		return err
	}
	err = execOne(ctx, q, `
		INSERT INTO sub_applications (`+subApplicationColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
		ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name, state = excluded.state, object_id = excluded.object_id,
			app_id = excluded.app_id, principal_id = excluded.principal_id, certificate = excluded.certificate,
			private_key_sealed = excluded.private_key_sealed, not_after = excluded.not_after, problem = excluded.problem, updated_at = excluded.updated_at,
			generation = excluded.generation, key_id = excluded.key_id, old_key_id = excluded.old_key_id, next_certificate = excluded.next_certificate,
			next_key_sealed = excluded.next_key_sealed, next_not_after = excluded.next_not_after, next_key_id = excluded.next_key_id,
			roll_at = excluded.roll_at, roll_error = excluded.roll_error
		WHERE sub_applications.org_id = excluded.org_id`,
		a.ID, a.OrgID, a.ConnectionID, a.Workload, a.DisplayName, a.State, a.ObjectID, a.AppID, a.PrincipalID,
		a.Certificate, sealed, millis(a.NotAfter), problemText(a.Problem), millis(time.Now()),
		a.Generation, a.KeyID, a.OldKeyID, a.Next.Certificate, next, millis(a.Next.NotAfter), a.Next.KeyID, millis(a.RollAt), problemText(a.RollError))
	if err != nil {
		return fmt.Errorf("save sub-application: %w", err)
	}
	return nil
}

// EndingSubApplications returns the ready sub-applications of all completed
// connections whose certificate ends before a time, or is being changed.
func (s *Store) EndingSubApplications(ctx context.Context, before time.Time) ([]backup.SubApplication, error) {
	return collect(ctx, s.read, s.scanSubApplication, `SELECT `+subApplicationColumns+` FROM sub_applications
		WHERE state = 'ready' AND (not_after < $1 OR next_not_after > 0 OR old_key_id <> '')
		AND EXISTS (SELECT 1 FROM connections c WHERE c.id = connection_id AND c.ready_at > 0)
		ORDER BY not_after LIMIT 200`, millis(before))
}

// SetSubApplicationProblem says what is broken about a sub-application, or
// that nothing is. It leaves the rest of the row to whoever works on it.
func (s *Store) SetSubApplicationProblem(ctx context.Context, org backup.OrgID, id backup.SubApplicationID, p backup.Problem) error {
	return execOne(ctx, s.db, `UPDATE sub_applications SET problem = $1 WHERE org_id = $2 AND id = $3`, problemText(p), org, id)
}

// RecordCertificate writes into the activity log that the application changed
// its certificate by itself.
func (s *Store) RecordCertificate(ctx context.Context, app backup.SubApplication) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		print, _ := app.Thumbprints()
		return s.appendFor(ctx, tx, backup.Entry{OrgID: app.OrgID, Person: "Holdfast",
			Kind: "certificate.change", Subject: app.DisplayName, Detail: "new certificate " + print + ", ends " + app.NotAfter.UTC().Format(time.DateOnly)})
	})
}
