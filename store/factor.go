package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

// Factors returns what a person has besides the password.
func (s *Store) Factors(ctx context.Context, id backup.PersonID) (backup.Factors, error) {
	var f backup.Factors
	var at int64
	if err := s.read.QueryRowContext(ctx, `SELECT totp_at, (SELECT count(*) FROM recovery_codes WHERE person_id = $1) FROM people WHERE id = $1`, id).
		Scan(&at, &f.Recovery); err != nil {
		return f, fmt.Errorf("read the factors of %s: %w", id, err)
	}
	f.TOTP, f.TOTPAt = at > 0, moment(at)
	var err error
	f.Passkeys, err = s.passkeys(ctx, s.read, `person_id = $1`, id)
	return f, err
}

func (s *Store) passkeys(ctx context.Context, q querier, where string, args ...any) ([]backup.Passkey, error) {
	return collect(ctx, q, func(row scanner) (backup.Passkey, error) {
		var k backup.Passkey
		var created, used int64
		err := row.Scan(&k.ID, &k.PersonID, &k.Name, &k.Credential, &created, &used)
		k.CreatedAt, k.LastUsedAt = moment(created), moment(used)
		return k, err
	}, `SELECT id, person_id, name, credential, created_at, last_used_at FROM passkeys WHERE `+where+` ORDER BY created_at, id`, args...)
}

// countFactors brings people.factors up to date. Without a factor, the
// recovery codes go too.
func countFactors(ctx context.Context, tx *sql.Tx, id backup.PersonID) error {
	if err := execOne(ctx, tx, `UPDATE people SET factors = (CASE WHEN totp_at > 0 THEN 1 ELSE 0 END) + (SELECT count(*) FROM passkeys WHERE person_id = $1) WHERE id = $1`, id); err != nil {
		return fmt.Errorf("count the factors of %s: %w", id, err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM recovery_codes WHERE person_id = $1 AND EXISTS (SELECT 1 FROM people WHERE id = $1 AND factors = 0)`, id); err != nil {
		return fmt.Errorf("remove the recovery codes of %s: %w", id, err)
	}
	return nil
}

// changeFactors does change for by's own account and records it.
func (s *Store) changeFactors(ctx context.Context, by backup.Actor, kind, subject string, change func(tx *sql.Tx) error) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		if err := countFactors(ctx, tx, by.Person.ID); err != nil {
			return err
		}
		return s.record(ctx, tx, by, by.HomeOrg(), kind, subject, "")
	})
}

// TOTPSecret returns the shared secret of a person's authenticator app, empty
// if there is none.
func (s *Store) TOTPSecret(ctx context.Context, id backup.PersonID) (backup.Secret, error) {
	sealed, err := one(ctx, s.read, scanValue[[]byte], `SELECT totp_sealed FROM people WHERE id = $1`, id)
	if err != nil {
		return nil, err
	}
	return s.unseal(sealed, place("people", "", "totp", string(id)))
}

// SetTOTP sets up by's authenticator app; step is the time step of the code
// that proved it.
func (s *Store) SetTOTP(ctx context.Context, secret backup.Secret, step int64, by backup.Actor) error {
	sealed, err := s.seal(secret, place("people", "", "totp", string(by.Person.ID)))
	if err != nil {
		return err
	}
	return s.changeFactors(ctx, by, "factor.totp_on", "Authenticator app", func(tx *sql.Tx) error {
		return execOne(ctx, tx, `UPDATE people SET totp_sealed = $1, totp_step = $2, totp_at = $3 WHERE id = $4`, sealed, step, millis(time.Now()), by.Person.ID)
	})
}

// RemoveTOTP removes by's authenticator app.
func (s *Store) RemoveTOTP(ctx context.Context, by backup.Actor) error {
	return s.changeFactors(ctx, by, "factor.totp_off", "Authenticator app", func(tx *sql.Tx) error {
		return execOne(ctx, tx, `UPDATE people SET totp_sealed = NULL, totp_step = 0, totp_at = 0 WHERE id = $1 AND totp_at > 0`, by.Person.ID)
	})
}

// UseTOTPStep says whether the time step of a right code was not used before,
// nor a later one, and marks it as used: a code works once.
func (s *Store) UseTOTPStep(ctx context.Context, id backup.PersonID, step int64) (bool, error) {
	return s.changed(ctx, `UPDATE people SET totp_step = $1 WHERE id = $2 AND totp_at > 0 AND totp_step < $1`, step, id)
}

// changed says whether a statement changed a row.
func (s *Store) changed(ctx context.Context, query string, args ...any) (bool, error) {
	res, err := s.db.ExecContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// SetRecoveryCodes replaces by's recovery codes. Only hashes are kept.
func (s *Store) SetRecoveryCodes(ctx context.Context, codes []string, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM recovery_codes WHERE person_id = $1`, by.Person.ID); err != nil {
			return fmt.Errorf("remove recovery codes: %w", err)
		}
		for _, c := range codes {
			if _, err := tx.ExecContext(ctx, `INSERT INTO recovery_codes (person_id, code_hash) VALUES ($1, $2)`, by.Person.ID, hashToken(backup.FoldRecoveryCode(c))); err != nil {
				return fmt.Errorf("keep a recovery code: %w", err)
			}
		}
		return s.record(ctx, tx, by, by.HomeOrg(), "factor.recovery_codes", by.Person.Email, "")
	})
}

// UseRecoveryCode says whether a person has a recovery code, and uses it up.
func (s *Store) UseRecoveryCode(ctx context.Context, id backup.PersonID, code string) (bool, error) {
	return s.changed(ctx, `DELETE FROM recovery_codes WHERE person_id = $1 AND code_hash = $2`, id, hashToken(backup.FoldRecoveryCode(code)))
}

// AddPasskey stores a passkey of by. It returns backup.FieldErrors naming name,
// and backup.ErrConflict for a credential that is known already.
func (s *Store) AddPasskey(ctx context.Context, k backup.Passkey, credentialID []byte, by backup.Actor) error {
	k.Name = strings.TrimSpace(clean(k.Name))
	if err := (backup.Person{Name: k.Name, Email: "a@b.example"}).Validate(); err != nil {
		return err
	}
	return s.changeFactors(ctx, by, "factor.passkey_on", k.Name, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO passkeys (id, person_id, name, credential_id, credential, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			backup.NewID[backup.PasskeyID](), by.Person.ID, k.Name, credentialID, k.Credential, millis(time.Now()))
		if err != nil {
			return fmt.Errorf("add passkey: %w", conflict(err))
		}
		return nil
	})
}

// RemovePasskey removes a passkey of by.
func (s *Store) RemovePasskey(ctx context.Context, id backup.PasskeyID, by backup.Actor) error {
	name, err := one(ctx, s.read, scanValue[string], `SELECT name FROM passkeys WHERE person_id = $1 AND id = $2`, by.Person.ID, id)
	if err != nil {
		return err
	}
	return s.changeFactors(ctx, by, "factor.passkey_off", name, func(tx *sql.Tx) error {
		return execOne(ctx, tx, `DELETE FROM passkeys WHERE person_id = $1 AND id = $2`, by.Person.ID, id)
	})
}

// UsePasskey saves what a sign-in changed of a passkey: its counter, and when
// it was used.
func (s *Store) UsePasskey(ctx context.Context, person backup.PersonID, credentialID, credential []byte) error {
	return execOne(ctx, s.db, `UPDATE passkeys SET credential = $1, last_used_at = $2 WHERE person_id = $3 AND credential_id = $4`,
		credential, millis(time.Now()), person, credentialID)
}

// ChangePassword sets by's password and ends all other sessions of the person.
func (s *Store) ChangePassword(ctx context.Context, hash string, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `UPDATE people SET password_hash = $1 WHERE id = $2`, hash, by.Person.ID); err != nil {
			return fmt.Errorf("set password: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM web_sessions WHERE person_id = $1 AND id <> $2`, by.Person.ID, by.Session); err != nil {
			return fmt.Errorf("end other sessions: %w", err)
		}
		return s.record(ctx, tx, by, by.HomeOrg(), "password.change", by.Person.Email, "")
	})
}

// SetRequireFactor says whether the people of an organization need a second
// factor.
func (s *Store) SetRequireFactor(ctx context.Context, org backup.OrgID, required bool, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		was, err := one(ctx, tx, scanValue[bool], `SELECT require_factor FROM organizations WHERE id = $1`, org)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE organizations SET require_factor = $1 WHERE id = $2`, required, org); err != nil {
			return fmt.Errorf("set the need of a second factor: %w", err)
		}
		words := map[bool]string{true: "required", false: "optional"}
		return s.record(ctx, tx, by, org, "organization.require_factor", "Second factor", fromTo(words[was], words[required]))
	})
}
