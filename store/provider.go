package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

const providerColumns = `id, partner_id, org_id, name, issuer, tenants, client_id, secret_sealed, created_at`

func (s *Store) scanProvider(row scanner) (backup.SignInProvider, error) {
	var p backup.SignInProvider
	var tenants string
	var sealed []byte
	var created int64
	if err := row.Scan(&p.ID, &p.PartnerID, &p.OrgID, &p.Name, &p.Issuer, &tenants, &p.ClientID, &sealed, &created); err != nil {
		return p, err
	}
	p.Tenants, p.CreatedAt = strings.Fields(tenants), moment(created)
	secret, err := s.unseal(sealed, place("sign_in_providers", p.OrgID, "secret", string(p.ID)))
	p.Secret = secret
	return p, err
}

// SignInProviders returns the issuers of an organization, or, with org "", of
// the partner itself, the oldest first.
func (s *Store) SignInProviders(ctx context.Context, partner backup.PartnerID, org backup.OrgID) ([]backup.SignInProvider, error) {
	return collect(ctx, s.read, s.scanProvider, `SELECT `+providerColumns+` FROM sign_in_providers WHERE partner_id = $1 AND org_id = $2 ORDER BY created_at, id`, partner, org)
}

// SharedSignInProviders returns the partners' own issuers, which the sign-in
// page offers to everybody.
func (s *Store) SharedSignInProviders(ctx context.Context) ([]backup.SignInProvider, error) {
	return collect(ctx, s.read, s.scanProvider, `SELECT `+providerColumns+` FROM sign_in_providers WHERE org_id = '' ORDER BY created_at, id`)
}

// SignInProvider returns an issuer by its id, which stands in its sign-in
// address.
func (s *Store) SignInProvider(ctx context.Context, id backup.SignInProviderID) (backup.SignInProvider, error) {
	return one(ctx, s.read, s.scanProvider, `SELECT `+providerColumns+` FROM sign_in_providers WHERE id = $1`, id)
}

// AddSignInProvider stores an issuer of by's partner, or of p.OrgID. It returns
// backup.FieldErrors if p breaks a rule.
func (s *Store) AddSignInProvider(ctx context.Context, p backup.SignInProvider, by backup.Actor) (backup.SignInProviderID, error) {
	p.Name, p.Issuer, p.ClientID = strings.TrimSpace(clean(p.Name)), strings.TrimSpace(clean(p.Issuer)), strings.TrimSpace(clean(p.ClientID))
	if err := p.Validate(); err != nil {
		return "", err
	}
	p.ID, p.PartnerID = backup.NewID[backup.SignInProviderID](), by.Partner.ID
	sealed, err := s.seal(p.Secret, place("sign_in_providers", p.OrgID, "secret", string(p.ID)))
	if err != nil {
		return "", err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO sign_in_providers (`+providerColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			p.ID, p.PartnerID, p.OrgID, p.Name, p.Issuer, clean(strings.Join(p.Tenants, " ")), p.ClientID, sealed, millis(time.Now())); err != nil {
			return fmt.Errorf("add sign-in provider: %w", conflict(err))
		}
		return s.record(ctx, tx, by, p.OrgID, "provider.add", p.Name, p.Issuer)
	})
	return p.ID, err
}

// RemoveSignInProvider removes an issuer, who its people are there, and the
// sessions that it signed in.
func (s *Store) RemoveSignInProvider(ctx context.Context, org backup.OrgID, id backup.SignInProviderID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		p, err := one(ctx, tx, s.scanProvider, `SELECT `+providerColumns+` FROM sign_in_providers WHERE partner_id = $1 AND org_id = $2 AND id = $3`, by.Partner.ID, org, id)
		if err != nil {
			return err
		}
		for _, query := range []string{
			`DELETE FROM web_sessions WHERE via = 'oidc' AND person_id IN (SELECT person_id FROM identities WHERE provider_id = $1)`,
			`DELETE FROM identities WHERE provider_id = $1`, `DELETE FROM sign_in_providers WHERE id = $1`,
		} {
			if _, err := tx.ExecContext(ctx, query, id); err != nil {
				return fmt.Errorf("remove sign-in provider: %w", err)
			}
		}
		return s.record(ctx, tx, by, org, "provider.remove", p.Name, p.Issuer)
	})
}

// PersonByIdentity returns who signs in as a subject of an issuer.
func (s *Store) PersonByIdentity(ctx context.Context, provider backup.SignInProviderID, issuer, subject string) (backup.Person, error) {
	return one(ctx, s.read, scanPerson, `SELECT `+personColumns+` FROM identities i JOIN people p ON p.id = i.person_id
		WHERE i.provider_id = $1 AND i.issuer = $2 AND i.subject = $3`, provider, issuer, subject)
}

// Identities returns who a person is at which issuers.
func (s *Store) Identities(ctx context.Context, id backup.PersonID) ([]backup.Identity, error) {
	return collect(ctx, s.read, func(row scanner) (backup.Identity, error) {
		var i backup.Identity
		var created int64
		err := row.Scan(&i.ProviderID, &i.Issuer, &i.Subject, &i.PersonID, &i.Shown, &created)
		i.CreatedAt = moment(created)
		return i, err
	}, `SELECT provider_id, issuer, subject, person_id, shown, created_at FROM identities WHERE person_id = $1 ORDER BY created_at`, id)
}

// AddIdentity lets by's person sign in as a subject of an issuer. A subject that
// is somebody's already, or another one of the same issuer for the person, is
// backup.ErrConflict.
func (s *Store) AddIdentity(ctx context.Context, i backup.Identity, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO identities (provider_id, issuer, subject, person_id, shown, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			i.ProviderID, clean(i.Issuer), clean(i.Subject), by.Person.ID, clean(i.Shown), millis(time.Now())); err != nil {
			return fmt.Errorf("add identity: %w", conflict(err))
		}
		return s.record(ctx, tx, by, by.HomeOrg(), "identity.add", by.Person.Email, i.Issuer)
	})
}

// RemoveIdentity ends that by's person signs in by an issuer.
func (s *Store) RemoveIdentity(ctx context.Context, provider backup.SignInProviderID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `DELETE FROM identities WHERE provider_id = $1 AND person_id = $2`, provider, by.Person.ID); err != nil {
			return err
		}
		return s.record(ctx, tx, by, by.HomeOrg(), "identity.remove", by.Person.Email, "")
	})
}
