package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

const sessionColumns = `s.id, s.person_id, s.acting_id, s.created_at, s.seen_at, s.expires_at, s.address, s.agent, s.half, s.via, s.confirmed_at`

func scanSession(row scanner) (backup.Session, error) {
	var v backup.Session
	var created, seen, expires, confirmed int64
	err := row.Scan(&v.ID, &v.PersonID, &v.ActingID, &created, &seen, &expires, &v.Address, &v.Agent, &v.Half, &v.Via, &confirmed)
	v.CreatedAt, v.SeenAt, v.ExpiresAt, v.ConfirmedAt = moment(created), moment(seen), moment(expires), moment(confirmed)
	return v, err
}

// CreateSession stores a session and returns its secret, which is kept only as
// a hash. v.PersonID may be empty for a visitor who has not signed in.
func (s *Store) CreateSession(ctx context.Context, v backup.Session) (backup.SessionID, backup.Secret, error) {
	return createSession(ctx, s.db, v)
}

// SignIn stores the session of a person who has proved who they are, and
// records it; how says by what. The secret is kept only as a hash.
func (s *Store) SignIn(ctx context.Context, v backup.Session, how string) (backup.SessionID, backup.Secret, error) {
	by, err := s.Actor(ctx, v)
	if err != nil {
		return "", nil, fmt.Errorf("read the person who signs in: %w", err)
	}
	by.Address = v.Address
	var id backup.SessionID
	var secret backup.Secret
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if id, secret, err = createSession(ctx, tx, v); err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE people SET signed_in_at = $1 WHERE id = $2`, millis(time.Now()), v.PersonID); err != nil {
			return fmt.Errorf("note the sign-in: %w", err)
		}
		return s.record(ctx, tx, by, by.HomeOrg(), "sign_in", by.Person.Email, "by "+how)
	})
	return id, secret, err
}

func createSession(ctx context.Context, q querier, v backup.Session) (backup.SessionID, backup.Secret, error) {
	v.ID = backup.NewID[backup.SessionID]()
	if v.Via == "" {
		v.Via = backup.ViaPassword
	}
	if !v.Half && v.PersonID != "" {
		v.ConfirmedAt = v.CreatedAt
	}
	secret := newSessionSecret()
	_, err := q.ExecContext(ctx, `
		INSERT INTO web_sessions (id, secret_hash, person_id, created_at, seen_at, expires_at, address, agent, half, via, confirmed_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		v.ID, hashToken(secret), v.PersonID, millis(v.CreatedAt), millis(v.CreatedAt), millis(v.ExpiresAt), clip(v.Address, 100), clip(v.Agent, 300), v.Half, v.Via, millis(v.ConfirmedAt))
	if err != nil {
		return "", nil, fmt.Errorf("create session: %w", err)
	}
	return v.ID, backup.Secret(secret), nil
}

func newSessionSecret() string { return rand.Text() + rand.Text() }

// ConfirmSession notes that by's person proved anew who they are, and records it;
// how says by what. The session has a new secret afterwards, and the one before
// opens nothing any more.
func (s *Store) ConfirmSession(ctx context.Context, by backup.Actor, how string, now time.Time) (backup.Secret, error) {
	secret := newSessionSecret()
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `UPDATE web_sessions SET secret_hash = $1, confirmed_at = $2 WHERE id = $3 AND person_id = $4 AND half = FALSE`,
			hashToken(secret), millis(now), by.Session, by.Person.ID); err != nil {
			return fmt.Errorf("confirm session: %w", err)
		}
		return s.record(ctx, tx, by, by.HomeOrg(), "session.confirm", by.Person.Email, "by "+how)
	})
	return backup.Secret(secret), err
}

// SessionBySecret returns the session of a cookie and the values kept with it.
func (s *Store) SessionBySecret(ctx context.Context, secret string) (backup.Session, map[string]string, error) {
	var data []byte
	v, err := one(ctx, s.read, func(row scanner) (backup.Session, error) {
		var v backup.Session
		var created, seen, expires, confirmed int64
		err := row.Scan(&v.ID, &v.PersonID, &v.ActingID, &created, &seen, &expires, &v.Address, &v.Agent, &v.Half, &v.Via, &confirmed, &data)
		v.CreatedAt, v.SeenAt, v.ExpiresAt, v.ConfirmedAt = moment(created), moment(seen), moment(expires), moment(confirmed)
		return v, err
	}, `SELECT `+sessionColumns+`, s.data FROM web_sessions s WHERE s.secret_hash = $1 AND s.expires_at > $2`,
		hashToken(secret), millis(time.Now()))
	if err != nil {
		return v, nil, err
	}
	values := map[string]string{}
	plain, err := s.unseal(data, place("web_sessions", "", "data", string(v.ID)))
	if err != nil || plain == nil {
		return v, values, err
	}
	if err := json.Unmarshal(plain, &values); err != nil {
		return v, nil, fmt.Errorf("read session values: %w", err)
	}
	return v, values, nil
}

// SaveSessionValues replaces what is kept with a session.
func (s *Store) SaveSessionValues(ctx context.Context, id backup.SessionID, values map[string]string) error {
	var data []byte
	if len(values) > 0 {
		plain, err := json.Marshal(values)
		if err != nil {
			return fmt.Errorf("encode session values: %w", err)
		}
		if data, err = s.seal(plain, place("web_sessions", "", "data", string(id))); err != nil {
			return err
		}
	}
	return execOne(ctx, s.db, `UPDATE web_sessions SET data = $1 WHERE id = $2`, data, id)
}

// TouchSession notes a use of a session and how long it now lasts.
func (s *Store) TouchSession(ctx context.Context, id backup.SessionID, expires time.Time, address, agent string) error {
	return execOne(ctx, s.db, `UPDATE web_sessions SET seen_at = $1, expires_at = $2, address = $3, agent = $4 WHERE id = $5`,
		millis(time.Now()), millis(expires), clip(address, 100), clip(agent, 300), id)
}

// Sessions returns a person's sessions, the last used first.
func (s *Store) Sessions(ctx context.Context, person backup.PersonID) ([]backup.Session, error) {
	return collect(ctx, s.read, scanSession, `SELECT `+sessionColumns+` FROM web_sessions s
		WHERE s.person_id = $1 AND s.half = FALSE AND s.expires_at > $2 ORDER BY s.seen_at DESC`, person, millis(time.Now()))
}

// EndSession ends one session of a person (or of a visitor, with "").
func (s *Store) EndSession(ctx context.Context, person backup.PersonID, id backup.SessionID) error {
	return execOne(ctx, s.db, `DELETE FROM web_sessions WHERE person_id = $1 AND id = $2`, person, id)
}

// EndOwnSession signs out one browser of by's person, and records it. A session
// that is not theirs, or has ended, is backup.ErrNotFound.
func (s *Store) EndOwnSession(ctx context.Context, by backup.Actor, id backup.SessionID) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		v, err := one(ctx, tx, scanSession, `SELECT `+sessionColumns+` FROM web_sessions s WHERE s.person_id = $1 AND s.id = $2`, by.Person.ID, id)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, `DELETE FROM web_sessions WHERE person_id = $1 AND id = $2`, by.Person.ID, id); err != nil {
			return fmt.Errorf("end session: %w", err)
		}
		return s.record(ctx, tx, by, by.HomeOrg(), "session.end", by.Person.Email, "the one from "+v.Address+" since "+v.CreatedAt.UTC().Format(time.RFC3339))
	})
}

// EndOtherSessions signs out all browsers of by's person but the one that asks,
// and records it.
func (s *Store) EndOtherSessions(ctx context.Context, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM web_sessions WHERE person_id = $1 AND id <> $2`, by.Person.ID, by.Session)
		if err != nil {
			return fmt.Errorf("end sessions: %w", err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return fmt.Errorf("count the sessions that ended: %w", err)
		}
		return s.record(ctx, tx, by, by.HomeOrg(), "session.end_all", by.Person.Email, fmt.Sprintf("%d browsers", n))
	})
}

// DeleteExpiredSessions removes sessions, links and failure counters that have
// outlived their use.
func (s *Store) DeleteExpiredSessions(ctx context.Context, now time.Time) error {
	_, err1 := s.db.ExecContext(ctx, `DELETE FROM web_sessions WHERE expires_at <= $1`, millis(now))
	_, err2 := s.db.ExecContext(ctx, `DELETE FROM set_up_links WHERE expires_at <= $1`, millis(now))
	_, err3 := s.db.ExecContext(ctx, `DELETE FROM sign_in_failures WHERE at <= $1`, millis(now.Add(-24*time.Hour)))
	return errors.Join(err1, err2, err3)
}

// FailedSignIns counts the failures under a key (an account or an address)
// since a time.
func (s *Store) FailedSignIns(ctx context.Context, key string, since time.Time) (int, error) {
	return one(ctx, s.read, scanValue[int], `SELECT count(*) FROM sign_in_failures WHERE key = $1 AND at > $2`, clean(key), millis(since))
}

// CountSignIn notes a try under a key, at a time, before it is made.
func (s *Store) CountSignIn(ctx context.Context, key string, at time.Time) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO sign_in_failures (key, at) VALUES ($1, $2)`, clean(key), millis(at))
	return err
}

// ForgetSignIn takes back the try under a key that was noted at a time: it
// succeeded.
func (s *Store) ForgetSignIn(ctx context.Context, key string, at time.Time) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM sign_in_failures WHERE key = $1 AND at = $2`, clean(key), millis(at))
	return err
}

// ForgetSignIns takes back all tries under a key.
func (s *Store) ForgetSignIns(ctx context.Context, key string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM sign_in_failures WHERE key = $1`, clean(key))
	return err
}

// clip keeps at most n bytes of what a client sent.
func clip(s string, n int) string {
	return clean(s[:min(len(s), n)])
}

const actingColumns = `id, person_id, org_id, reason, started_at, ends_at, ended_at`

func scanActing(row scanner) (backup.Acting, error) {
	var a backup.Acting
	var started, ends, ended int64
	err := row.Scan(&a.ID, &a.PersonID, &a.OrgID, &a.Reason, &started, &ends, &ended)
	a.StartedAt, a.EndsAt, a.EndedAt = moment(started), moment(ends), moment(ended)
	return a, err
}

// StartActing lets a partner's person act for one of the partner's
// organizations in their session, which ends what they did for another one
// there. It returns backup.FieldErrors naming reason.
func (s *Store) StartActing(ctx context.Context, by backup.Actor, org backup.OrgID, reason string) (backup.Acting, error) {
	now := time.Now()
	a := backup.Acting{ID: backup.NewID[backup.ActingID](), PersonID: by.Person.ID, OrgID: org, Reason: strings.TrimSpace(clean(reason)),
		StartedAt: now, EndsAt: now.Add(backup.ActingMax)}
	if !by.IsPartner() {
		return a, backup.ErrForbidden
	}
	if err := a.Validate(); err != nil {
		return a, err
	}
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		o, err := one(ctx, tx, scanOrganization, `SELECT `+organizationColumns+` FROM organizations o WHERE o.partner_id = $1 AND o.id = $2`, by.Partner.ID, org)
		if err != nil {
			return err
		}
		if !o.DeletingAt.IsZero() {
			return backup.ErrConflict
		}
		if may := !o.ForbidActing; !may {
			if may, err = grantedActing(ctx, tx, org, by.Person.ID, now); err != nil {
				return fmt.Errorf("look for leave to act: %w", err)
			}
			if !may {
				return backup.ErrForbidden
			}
		}
		if _, err := tx.ExecContext(ctx, `UPDATE actings SET ended_at = $1 WHERE ended_at = 0 AND id =
			(SELECT acting_id FROM web_sessions WHERE id = $2 AND person_id = $3)`, millis(now), by.Session, by.Person.ID); err != nil {
			return fmt.Errorf("end the acting before: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO actings (id, person_id, org_id, reason, started_at, ends_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			a.ID, a.PersonID, a.OrgID, a.Reason, millis(a.StartedAt), millis(a.EndsAt)); err != nil {
			return fmt.Errorf("start acting: %w", conflict(err))
		}
		if err := execOne(ctx, tx, `UPDATE web_sessions SET acting_id = $1 WHERE id = $2 AND person_id = $3`, a.ID, by.Session, by.Person.ID); err != nil {
			return fmt.Errorf("start acting: %w", err)
		}
		by.Acting, by.Org = a, o
		return s.record(ctx, tx, by, org, "acting.start", o.Name, "reason: "+a.Reason)
	})
	return a, err
}

// StopActing ends the acting of by's session.
func (s *Store) StopActing(ctx context.Context, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `UPDATE actings SET ended_at = $1 WHERE id = $2 AND person_id = $3 AND ended_at = 0`,
			millis(time.Now()), by.Acting.ID, by.Person.ID); err != nil {
			return fmt.Errorf("stop acting: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE web_sessions SET acting_id = '' WHERE acting_id = $1`, by.Acting.ID); err != nil {
			return fmt.Errorf("stop acting: %w", err)
		}
		return s.record(ctx, tx, by, by.Org.ID, "acting.stop", by.Org.Name, "")
	})
}

// Actor reads anew who the person of a session is and for whom they work. A
// person without a membership is backup.ErrNotFound.
func (s *Store) Actor(ctx context.Context, v backup.Session) (backup.Actor, error) {
	a, err := one(ctx, s.read, scanActor, `SELECT `+personColumns+`, m.role, t.id, t.name, t.created_at,
			coalesce(o.id, ''), coalesce(o.partner_id, ''), coalesce(o.name, ''), coalesce(o.manual_role, FALSE), coalesce(o.require_factor, FALSE), coalesce(o.forbid_acting, FALSE), coalesce(o.acting_asked, 0), coalesce(o.suspended_at, 0), coalesce(o.deleting_at, 0), coalesce(o.created_at, 0)
		FROM people p JOIN memberships m ON m.person_id = p.id
		LEFT JOIN organizations o ON o.id = m.org_id
		JOIN partners t ON t.id = coalesce(m.partner_id, o.partner_id)
		WHERE p.id = $1 ORDER BY m.partner_id IS NULL, m.partner_id, m.org_id LIMIT 1`, v.PersonID)
	if err != nil {
		return a, err
	}
	a.Session, a.Via = v.ID, v.Via
	if a.Org.ID == "" && v.ActingID != "" {
		err = s.fillActing(ctx, &a, a.Partner.ID, v.ActingID)
	}
	return a, err
}

func scanActor(row scanner) (backup.Actor, error) {
	var a backup.Actor
	var person, partner, suspended, deleting, org int64
	p := &a.Person
	fields := []any{&p.ID, &p.Name, &p.Email, &p.PasswordHash, &p.Factors, &person, &a.Role, &a.Partner.ID, &a.Partner.Name, &partner}
	err := row.Scan(append(fields, organizationFields(&a.Org, &suspended, &deleting, &org)...)...)
	p.CreatedAt, a.Partner.CreatedAt, a.Org.SuspendedAt, a.Org.DeletingAt, a.Org.CreatedAt = moment(person), moment(partner), moment(suspended), moment(deleting), moment(org)
	return a, err
}

// fillActing sets Acting and Org if the acting still lasts.
func (s *Store) fillActing(ctx context.Context, a *backup.Actor, partner backup.PartnerID, id backup.ActingID) error {
	acting, err := one(ctx, s.read, scanActing, `SELECT `+actingColumns+` FROM actings WHERE id = $1 AND person_id = $2`, id, a.Person.ID)
	if errors.Is(err, backup.ErrNotFound) || (err == nil && !acting.Active(time.Now())) {
		return nil
	}
	if err != nil {
		return err
	}
	org, err := s.Organization(ctx, partner, acting.OrgID)
	if err != nil {
		return err
	}
	a.Acting, a.Org = acting, org
	return nil
}
