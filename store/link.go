package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
)

// Purposes of a set-up link.
const (
	SetUpFirst    = "first"    // the first account of a new store
	SetUpPassword = "password" // a person's first or new password, shown to whoever made it
	SetUpMailed   = "mailed"   // the same, sent to the person
)

// SetUpLink lets whoever holds its token do one thing once.
type SetUpLink struct {
	Purpose   string
	PersonID  backup.PersonID // "" with SetUpFirst
	ExpiresAt time.Time
}

// NewSetUpLink stores a link and returns its token, which is kept only as a
// hash. An earlier link for the same thing ends.
func (s *Store) NewSetUpLink(ctx context.Context, l SetUpLink) (backup.Secret, error) {
	token := rand.Text()
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM set_up_links WHERE purpose = $1 AND person_id = $2`, l.Purpose, l.PersonID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO set_up_links (token_hash, purpose, person_id, expires_at) VALUES ($1, $2, $3, $4)`,
			hashToken(token), l.Purpose, l.PersonID, millis(l.ExpiresAt))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make set-up link: %w", err)
	}
	return backup.Secret(token), nil
}

func hashToken(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// SetUpLink returns the link of a token that was not used and is not too old.
// That of an invitation opens nothing while somebody else signs in with the
// address: it is backup.ErrNotFound like a token that never was, and does not
// tell whoever has it why.
func (s *Store) SetUpLink(ctx context.Context, token string) (SetUpLink, error) {
	var email string
	l, err := one(ctx, s.read, func(row scanner) (SetUpLink, error) {
		var l SetUpLink
		var expires int64
		err := row.Scan(&l.Purpose, &l.PersonID, &expires, &email)
		l.ExpiresAt = moment(expires)
		return l, err
	}, `SELECT l.purpose, l.person_id, l.expires_at, coalesce(p.email, '') FROM set_up_links l LEFT JOIN people p ON p.id = l.person_id
		WHERE l.token_hash = $1 AND l.expires_at > $2`, hashToken(token), millis(time.Now()))
	if err != nil || l.Purpose == SetUpFirst {
		return l, err
	}
	has, err := s.PersonByEmail(ctx, email)
	switch {
	case errors.Is(err, backup.ErrNotFound):
		return l, nil
	case err != nil:
		return SetUpLink{}, fmt.Errorf("read who has the address: %w", err)
	case has.ID != l.PersonID:
		return SetUpLink{}, backup.ErrNotFound
	}
	return l, nil
}

// UseSetUpFirst makes the partner and its owner with the link of the first
// start, which is used up by it.
func (s *Store) UseSetUpFirst(ctx context.Context, token, partner string, owner backup.Person) (backup.Actor, error) {
	var actor backup.Actor
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.useLink(ctx, tx, token, SetUpFirst, ""); err != nil {
			return err
		}
		var err error
		actor, err = s.setUpPartner(ctx, tx, partner, owner)
		return err
	})
	return actor, err
}

// linkOf is a link of a person and who they are, for the log.
func (s *Store) linkOf(ctx context.Context, token, address string) (SetUpLink, backup.Actor, error) {
	link, err := s.SetUpLink(ctx, token)
	if err == nil && link.Purpose == SetUpFirst {
		err = backup.ErrNotFound
	}
	if err != nil {
		return link, backup.Actor{}, err
	}
	by, err := s.Actor(ctx, backup.Session{PersonID: link.PersonID})
	by.Address = address
	return link, by, err
}

// usePersonsLink uses up a link, and with it the person's other ones, gives the
// person their address, does change, ends the person's sessions and records it.
// An address that is somebody else's by now is backup.ErrNotFound.
func (s *Store) usePersonsLink(ctx context.Context, token, address, kind, detail string, change func(tx *sql.Tx, id backup.PersonID) error) (backup.Person, error) {
	link, by, err := s.linkOf(ctx, token, address)
	if err != nil {
		return backup.Person{}, err
	}
	var person backup.Person
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.useLink(ctx, tx, token, link.Purpose, link.PersonID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM set_up_links WHERE person_id = $1`, link.PersonID); err != nil {
			return fmt.Errorf("end the person's other links: %w", err)
		}
		if err := claimAddress(ctx, tx, link.PersonID); err != nil {
			return err
		}
		if err := change(tx, link.PersonID); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM web_sessions WHERE person_id = $1`, link.PersonID); err != nil {
			return fmt.Errorf("end sessions: %w", err)
		}
		if person, err = one(ctx, tx, scanPerson, `SELECT `+personColumns+` FROM people p WHERE p.id = $1`, link.PersonID); err != nil {
			return err
		}
		return s.record(ctx, tx, by, by.HomeOrg(), kind, by.Person.Email, detail)
	})
	return person, err
}

// UseSetUpPassword sets the password of the link's person, which uses the link
// up and ends the person's sessions. The address is whose browser it was.
func (s *Store) UseSetUpPassword(ctx context.Context, token, hash, address string) (backup.Person, error) {
	return s.usePersonsLink(ctx, token, address, "password.link", "", func(tx *sql.Tx, id backup.PersonID) error {
		if err := execOne(ctx, tx, `UPDATE people SET password_hash = $1 WHERE id = $2`, hash, id); err != nil {
			return fmt.Errorf("set password: %w", err)
		}
		return nil
	})
}

// UseSetUpIdentity uses a one-time link of a person to let them sign in as a
// subject of an issuer, instead of choosing a password. A subject that is
// somebody's already is backup.ErrConflict.
func (s *Store) UseSetUpIdentity(ctx context.Context, token string, i backup.Identity, address string) (backup.Person, error) {
	return s.usePersonsLink(ctx, token, address, "identity.add", i.Issuer+", with a set-up link", func(tx *sql.Tx, id backup.PersonID) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO identities (provider_id, issuer, subject, person_id, shown, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			i.ProviderID, clean(i.Issuer), clean(i.Subject), id, clean(i.Shown), millis(time.Now())); err != nil {
			return fmt.Errorf("add identity: %w", conflict(err))
		}
		return nil
	})
}

func (s *Store) useLink(ctx context.Context, tx *sql.Tx, token, purpose string, person backup.PersonID) error {
	return execOne(ctx, tx, `DELETE FROM set_up_links WHERE token_hash = $1 AND purpose = $2 AND person_id = $3 AND expires_at > $4`,
		hashToken(token), purpose, person, millis(time.Now()))
}
