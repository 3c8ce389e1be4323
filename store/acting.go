package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
)

const actingRequestColumns = `r.id, r.org_id, r.person_id, p.name, p.email, r.reason, r.asked_at, r.answer, r.answered_at, r.answered_by, r.until_at`

func scanActingRequest(row scanner) (backup.ActingRequest, error) {
	var r backup.ActingRequest
	var asked, answered, until int64
	err := row.Scan(&r.ID, &r.OrgID, &r.PersonID, &r.Name, &r.Email, &r.Reason, &asked, &r.Answer, &answered, &r.AnsweredBy, &until)
	r.AskedAt, r.AnsweredAt, r.Until = moment(asked), moment(answered), moment(until)
	return r, err
}

// ActingRequests returns the latest requests to act for an organization, the
// newest first.
func (s *Store) ActingRequests(ctx context.Context, org backup.OrgID, limit int) ([]backup.ActingRequest, error) {
	return collect(ctx, s.read, scanActingRequest, `SELECT `+actingRequestColumns+` FROM acting_requests r JOIN people p ON p.id = r.person_id
		WHERE r.org_id = $1 ORDER BY r.asked_at DESC, r.id LIMIT $2`, org, limit)
}

// grantedActing says whether an admin of an organization lets a person act for
// it at time now.
func grantedActing(ctx context.Context, tx *sql.Tx, org backup.OrgID, person backup.PersonID, now time.Time) (bool, error) {
	n, err := one(ctx, tx, scanValue[int], `SELECT count(*) FROM acting_requests WHERE org_id = $1 AND person_id = $2 AND answer = 'granted' AND until_at > $3`,
		org, person, millis(now))
	return n > 0, err
}

// AskToAct asks the admins of an organization that forbids it for leave to act
// for it. A request of the same person that waits already is backup.ErrConflict.
func (s *Store) AskToAct(ctx context.Context, by backup.Actor, org backup.OrgID, reason string) error {
	if !by.IsPartner() {
		return backup.ErrForbidden
	}
	a := backup.Acting{Reason: reason}
	if err := a.Validate(); err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		o, err := one(ctx, tx, scanOrganization, `SELECT `+organizationColumns+` FROM organizations o WHERE o.partner_id = $1 AND o.id = $2`, by.Partner.ID, org)
		if err != nil {
			return err
		}
		waiting, err := one(ctx, tx, scanValue[int], `SELECT count(*) FROM acting_requests WHERE org_id = $1 AND person_id = $2 AND answer = ''`, org, by.Person.ID)
		if err != nil {
			return fmt.Errorf("look for a request that waits: %w", err)
		}
		if waiting > 0 {
			return backup.ErrConflict
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO acting_requests (id, org_id, person_id, reason, asked_at) VALUES ($1, $2, $3, $4, $5)`,
			backup.NewID[backup.ActingRequestID](), org, by.Person.ID, clean(reason), millis(time.Now())); err != nil {
			return fmt.Errorf("ask to act: %w", err)
		}
		if err := countActingRequests(ctx, tx, org); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "acting.ask", o.Name, "reason: "+reason)
	})
}

// countActingRequests brings the number of requests that wait up to date, which
// stands with the organization since each of its pages needs it.
func countActingRequests(ctx context.Context, tx *sql.Tx, org backup.OrgID) error {
	return execOne(ctx, tx, `UPDATE organizations SET acting_asked = (SELECT count(*) FROM acting_requests WHERE org_id = $1 AND answer = '') WHERE id = $1`, org)
}

// AnswerActingRequest grants a request for backup.ActingGrant, or declines it.
// One that was answered already is backup.ErrNotFound; somebody who acts for the
// organization may not answer: backup.ErrForbidden.
func (s *Store) AnswerActingRequest(ctx context.Context, by backup.Actor, id backup.ActingRequestID, grant bool) error {
	org := by.Org.ID
	return s.inTx(ctx, func(tx *sql.Tx) error {
		r, err := one(ctx, tx, scanActingRequest, `SELECT `+actingRequestColumns+` FROM acting_requests r JOIN people p ON p.id = r.person_id
			WHERE r.org_id = $1 AND r.id = $2 AND r.answer = ''`, org, id)
		if err != nil {
			return err
		}
		if by.Acting.ID != "" {
			return backup.ErrForbidden
		}
		now := time.Now()
		answer, kind, until := backup.ActingDeclined, "acting.decline", int64(0)
		if grant {
			answer, kind, until = backup.ActingGranted, "acting.grant", millis(now.Add(backup.ActingGrant))
		}
		if err := execOne(ctx, tx, `UPDATE acting_requests SET answer = $1, answered_at = $2, answered_by = $3, until_at = $4 WHERE org_id = $5 AND id = $6`,
			answer, millis(now), by.Person.Name, until, org, id); err != nil {
			return fmt.Errorf("answer the request: %w", err)
		}
		if err := countActingRequests(ctx, tx, org); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, kind, r.Name+" <"+r.Email+">", "reason: "+r.Reason)
	})
}

// SetForbidActing says whether the partner's people may act for by's organization
// only with leave. Whoever acts for it when it is forbidden acts no longer, and
// leave that was given before is void.
func (s *Store) SetForbidActing(ctx context.Context, forbid bool, by backup.Actor) error {
	if by.Acting.ID != "" {
		return backup.ErrForbidden
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		org, now := by.Org.ID, millis(time.Now())
		was, err := one(ctx, tx, scanValue[bool], `SELECT forbid_acting FROM organizations WHERE id = $1`, org)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE organizations SET forbid_acting = $1 WHERE id = $2`, forbid, org); err != nil {
			return fmt.Errorf("forbid acting: %w", err)
		}
		words := map[bool]string{true: "only with leave", false: "with a reason, at any time"}
		if forbid {
			for _, query := range []string{`UPDATE actings SET ended_at = $1 WHERE org_id = $2 AND ended_at = 0`,
				`UPDATE acting_requests SET until_at = $1 WHERE org_id = $2 AND until_at > $1`} {
				if _, err := tx.ExecContext(ctx, query, now, org); err != nil {
					return fmt.Errorf("end acting: %w", err)
				}
			}
		}
		return s.record(ctx, tx, by, org, "organization.acting", "Acting for the organization", fromTo(words[was], words[forbid]))
	})
}

// MayAct says whether a person of the partner may act for an organization now.
func (s *Store) MayAct(ctx context.Context, by backup.Actor, o backup.Organization) (bool, error) {
	if !o.ForbidActing {
		return true, nil
	}
	var may bool
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var err error
		may, err = grantedActing(ctx, tx, o.ID, by.Person.ID, time.Now())
		return err
	})
	if errors.Is(err, backup.ErrNotFound) {
		return false, nil
	}
	return may, err
}
