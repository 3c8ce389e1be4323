package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
)

const personColumns = `p.id, p.name, p.email, p.password_hash, p.factors, p.created_at`

func scanPerson(row scanner) (backup.Person, error) {
	var p backup.Person
	var created int64
	err := row.Scan(&p.ID, &p.Name, &p.Email, &p.PasswordHash, &p.Factors, &created)
	p.CreatedAt = moment(created)
	return p, err
}

// Partner returns a partner.
func (s *Store) Partner(ctx context.Context, id backup.PartnerID) (backup.Partner, error) {
	return one(ctx, s.read, scanPartner, `SELECT id, name, created_at FROM partners WHERE id = $1`, id)
}

// Partners returns every partner; for operators' tools.
func (s *Store) Partners(ctx context.Context) ([]backup.Partner, error) {
	return collect(ctx, s.read, scanPartner, `SELECT id, name, created_at FROM partners ORDER BY name, id`)
}

func scanPartner(row scanner) (backup.Partner, error) {
	var p backup.Partner
	var created int64
	err := row.Scan(&p.ID, &p.Name, &created)
	p.CreatedAt = moment(created)
	return p, err
}

// CountPeople returns how many people have an account.
func (s *Store) CountPeople(ctx context.Context) (int, error) {
	n, err := one(ctx, s.read, scanValue[int], `SELECT count(*) FROM people`)
	if err != nil {
		return 0, fmt.Errorf("count people: %w", err)
	}
	return n, nil
}

// Person returns a person.
func (s *Store) Person(ctx context.Context, id backup.PersonID) (backup.Person, error) {
	return one(ctx, s.read, scanPerson, `SELECT `+personColumns+` FROM people p WHERE p.id = $1`, id)
}

// PersonByEmail returns the person with an e-mail address, in any case.
func (s *Store) PersonByEmail(ctx context.Context, email string) (backup.Person, error) {
	return one(ctx, s.read, scanPerson, `SELECT `+personColumns+` FROM people p WHERE p.email_folded = $1`, backup.FoldEmail(clean(email)))
}

// Member is a person of an organization or of the partner, with their role.
type Member struct {
	backup.Person
	Role       backup.Role
	SignedInAt time.Time // last time, zero if never
}

// Invited says whether the person has not accepted the invitation yet.
func (m Member) Invited() bool { return m.PasswordHash == "" && m.SignedInAt.IsZero() }

// Members returns the people of an organization in order of their names.
func (s *Store) Members(ctx context.Context, org backup.OrgID) ([]Member, error) {
	return collect(ctx, s.read, scanMember, `
		SELECT `+personColumns+`, m.role, p.signed_in_at FROM memberships m JOIN people p ON p.id = m.person_id
		WHERE m.org_id = $1 ORDER BY lower(p.name), p.id`, org)
}

// Staff returns the partner's own people in order of their names.
func (s *Store) Staff(ctx context.Context, partner backup.PartnerID) ([]Member, error) {
	return collect(ctx, s.read, scanMember, `
		SELECT `+personColumns+`, m.role, p.signed_in_at FROM memberships m JOIN people p ON p.id = m.person_id
		WHERE m.partner_id = $1 ORDER BY lower(p.name), p.id`, partner)
}

func scanMember(row scanner) (Member, error) {
	var m Member
	var created, signedIn int64
	err := row.Scan(&m.ID, &m.Name, &m.Email, &m.PasswordHash, &m.Factors, &created, &m.Role, &signedIn)
	m.CreatedAt, m.SignedInAt = moment(created), moment(signedIn)
	return m, err
}

// Memberships returns where a person belongs, the partner first.
func (s *Store) Memberships(ctx context.Context, id backup.PersonID) ([]backup.Membership, error) {
	return collect(ctx, s.read, scanMembership, `
		SELECT person_id, coalesce(partner_id, ''), coalesce(org_id, ''), role FROM memberships WHERE person_id = $1
		ORDER BY partner_id IS NULL, partner_id, org_id`, id)
}

func scanMembership(row scanner) (backup.Membership, error) {
	var m backup.Membership
	err := row.Scan(&m.PersonID, &m.PartnerID, &m.OrgID, &m.Role)
	return m, err
}

// SetUpPartner makes the partner and its first owner in a store without
// people, and returns that owner as an actor. It returns backup.FieldErrors
// naming partner, name or email, and backup.ErrConflict if there are people.
func (s *Store) SetUpPartner(ctx context.Context, name string, owner backup.Person) (backup.Actor, error) {
	var actor backup.Actor
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var err error
		actor, err = s.setUpPartner(ctx, tx, name, owner)
		return err
	})
	return actor, err
}

func (s *Store) setUpPartner(ctx context.Context, tx *sql.Tx, name string, owner backup.Person) (backup.Actor, error) {
	name = strings.TrimSpace(clean(name))
	fields := backup.FieldErrors{}
	if err := owner.Validate(); err != nil {
		if f, ok := errors.AsType[backup.FieldErrors](err); ok {
			fields = f
		}
	}
	if name == "" || len([]rune(name)) > 100 {
		fields["partner"] = "Enter the name of your company, at most 100 characters."
	}
	if err := fields.OrNil(); err != nil {
		return backup.Actor{}, err
	}
	n, err := one(ctx, tx, scanValue[int], `SELECT count(*) FROM people`)
	if err != nil {
		return backup.Actor{}, fmt.Errorf("count people: %w", err)
	}
	if n > 0 {
		return backup.Actor{}, fmt.Errorf("set up a store with people: %w", backup.ErrConflict)
	}
	partner := backup.Partner{ID: backup.NewID[backup.PartnerID](), Name: name, CreatedAt: time.Now()}
	if _, err := tx.ExecContext(ctx, `INSERT INTO partners (id, name, created_at) VALUES ($1, $2, $3)`,
		partner.ID, partner.Name, millis(partner.CreatedAt)); err != nil {
		return backup.Actor{}, fmt.Errorf("create partner: %w", err)
	}
	if owner.ID == "" {
		owner.ID = backup.NewID[backup.PersonID]()
	}
	actor := backup.Actor{Person: owner, Partner: partner, Role: backup.RoleOwner}
	if err := s.createPerson(ctx, tx, owner, backup.Membership{PartnerID: partner.ID, Role: backup.RoleOwner}, actor); err != nil {
		return backup.Actor{}, err
	}
	return actor, nil
}

// CreatePerson makes a person with one membership. It returns
// backup.FieldErrors if a field breaks a rule or the e-mail address is taken.
func (s *Store) CreatePerson(ctx context.Context, p backup.Person, m backup.Membership, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error { return s.createPerson(ctx, tx, p, m, by) })
}

// InvitePerson makes a person with one membership whose e-mail address is theirs
// once they accept with a set-up link. Until then it may be somebody else's, here
// or in another organization: whoever invites does not learn it. It returns
// backup.FieldErrors if a field breaks a rule or the place has the address.
func (s *Store) InvitePerson(ctx context.Context, p backup.Person, m backup.Membership, by backup.Actor) error {
	p.Email = strings.TrimSpace(clean(p.Email))
	return s.inTx(ctx, func(tx *sql.Tx) error {
		there, err := collect(ctx, tx, scanValue[string], `SELECT p.email FROM memberships m JOIN people p ON p.id = m.person_id
			WHERE m.org_id = $1 OR m.partner_id = $2`, nullable(m.OrgID), nullable(m.PartnerID))
		if err != nil {
			return fmt.Errorf("read who is there: %w", err)
		}
		if slices.ContainsFunc(there, func(email string) bool { return backup.FoldEmail(email) == backup.FoldEmail(p.Email) }) {
			return backup.FieldErrors{"email": "This address is in the list already. Enter another one."}
		}
		return s.addPerson(ctx, tx, p, invitedKey(p.ID), m, by)
	})
}

// invitedKey stands in the place of the address of somebody who has not accepted
// yet. No address is like it.
func invitedKey(id backup.PersonID) string { return "invited " + string(id) }

// PlaceOfAddress names where in a partner's care somebody signs in with an e-mail
// address: an organization, or the partner itself. It is backup.ErrNotFound if
// nobody does. Only the partner's people may read the answer.
func (s *Store) PlaceOfAddress(ctx context.Context, partner backup.PartnerID, email string) (string, error) {
	return one(ctx, s.read, scanValue[string], `
		SELECT coalesce(o.name, t.name) FROM people p JOIN memberships m ON m.person_id = p.id
		LEFT JOIN organizations o ON o.id = m.org_id
		JOIN partners t ON t.id = coalesce(m.partner_id, o.partner_id)
		WHERE p.email_folded = $1 AND t.id = $2 ORDER BY m.partner_id IS NULL, o.name LIMIT 1`, backup.FoldEmail(clean(email)), partner)
}

// claimAddress gives a person who accepts an invitation their address. One that
// somebody else has taken at this moment is backup.ErrNotFound, as their link is
// from now on.
func claimAddress(ctx context.Context, tx *sql.Tx, id backup.PersonID) error {
	email, err := one(ctx, tx, scanValue[string], `SELECT email FROM people WHERE id = $1`, id)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE people SET email_folded = $1 WHERE id = $2 AND email_folded = $3`, backup.FoldEmail(email), id, invitedKey(id))
	if constraintOf(err) == constraintUnique {
		return backup.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("claim the address: %w", err)
	}
	return nil
}

func (s *Store) createPerson(ctx context.Context, tx *sql.Tx, p backup.Person, m backup.Membership, by backup.Actor) error {
	return s.addPerson(ctx, tx, p, backup.FoldEmail(clean(p.Email)), m, by)
}

// addPerson makes a person under a key, by which they are found to sign in.
func (s *Store) addPerson(ctx context.Context, tx *sql.Tx, p backup.Person, key string, m backup.Membership, by backup.Actor) error {
	p.Name, p.Email = strings.TrimSpace(clean(p.Name)), strings.TrimSpace(clean(p.Email))
	if err := p.Validate(); err != nil {
		return err
	}
	if !m.Valid() {
		return fmt.Errorf("create person: a membership as %q does not belong there", m.Role)
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO people (id, name, email, email_folded, password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		p.ID, p.Name, p.Email, key, p.PasswordHash, millis(time.Now()))
	if constraintOf(err) == constraintUnique {
		return backup.FieldErrors{"email": "Somebody already signs in with this address. Enter another one."}
	}
	if err != nil {
		return fmt.Errorf("create person: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO memberships (person_id, partner_id, org_id, role) VALUES ($1, $2, $3, $4)`,
		p.ID, nullable(m.PartnerID), nullable(m.OrgID), m.Role); err != nil {
		return fmt.Errorf("create membership: %w", conflict(err))
	}
	return s.record(ctx, tx, by, m.OrgID, "person.create", p.Name+" <"+p.Email+">", "role "+string(m.Role))
}

// nullable is NULL for an empty identifier.
func nullable[T ~string](id T) any {
	if id == "" {
		return nil
	}
	return string(id)
}

// SetPassword saves the hash of a person's password and ends all their
// sessions but keep.
func (s *Store) SetPassword(ctx context.Context, id backup.PersonID, hash string, keep backup.SessionID) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `UPDATE people SET password_hash = $1 WHERE id = $2`, hash, id); err != nil {
			return fmt.Errorf("set password: %w", err)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM web_sessions WHERE person_id = $1 AND id <> $2`, id, keep)
		return err
	})
}
