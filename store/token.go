package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

// tokenPrefix begins every API token, so that scanners of code find a leaked one.
const tokenPrefix = "holdfast_"

const apiTokenColumns = `id, partner_id, name, scopes, created_by, created_at, expires_at, last_used_at, last_used_by` //nolint:gosec // columns

func scanAPIToken(row scanner) (backup.APIToken, error) {
	var t backup.APIToken
	var scopes string
	var created, expires, used int64
	err := row.Scan(&t.ID, &t.PartnerID, &t.Name, &scopes, &t.CreatedBy, &created, &expires, &used, &t.LastUsedBy)
	t.CreatedAt, t.ExpiresAt, t.LastUsedAt = moment(created), moment(expires), moment(used)
	for s := range strings.FieldsSeq(scopes) {
		t.Scopes = append(t.Scopes, backup.Scope(s))
	}
	return t, err
}

// CreateAPIToken makes a token of by's partner that lives for life and returns
// it: it can't be read again. It returns backup.FieldErrors if t breaks a rule.
func (s *Store) CreateAPIToken(ctx context.Context, t backup.APIToken, life time.Duration, by backup.Actor) (backup.Secret, error) {
	t.ID, t.PartnerID, t.Name, t.CreatedBy = backup.NewID[backup.APITokenID](), by.Partner.ID, strings.TrimSpace(clean(t.Name)), by.Person.Name
	t.CreatedAt = time.Now()
	t.ExpiresAt = t.CreatedAt.Add(life)
	if err := t.Validate(); err != nil {
		return nil, err
	}
	secret := tokenPrefix + rand.Text()
	hash := sha256.Sum256([]byte(secret))
	scopes := make([]string, len(t.Scopes))
	for i, scope := range t.Scopes {
		scopes[i] = string(scope)
	}
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO api_tokens (id, partner_id, name, token_hash, scopes, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			t.ID, t.PartnerID, t.Name, hash[:], strings.Join(scopes, " "), t.CreatedBy, millis(t.CreatedAt), millis(t.ExpiresAt)); err != nil {
			return fmt.Errorf("create API token: %w", err)
		}
		return s.record(ctx, tx, by, "", "token.create", t.Name, strings.Join(scopes, " "))
	})
	return backup.Secret(secret), err
}

// APITokens returns a partner's tokens, the newest first.
func (s *Store) APITokens(ctx context.Context, partner backup.PartnerID) ([]backup.APIToken, error) {
	return collect(ctx, s.read, scanAPIToken, `SELECT `+apiTokenColumns+` FROM api_tokens WHERE partner_id = $1 ORDER BY created_at DESC, id`, partner)
}

// RevokeAPIToken ends a partner's token at once.
func (s *Store) RevokeAPIToken(ctx context.Context, id backup.APITokenID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		name, err := one(ctx, tx, scanValue[string], `SELECT name FROM api_tokens WHERE partner_id = $1 AND id = $2`, by.Partner.ID, id)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, `DELETE FROM api_tokens WHERE partner_id = $1 AND id = $2`, by.Partner.ID, id); err != nil {
			return fmt.Errorf("revoke API token: %w", err)
		}
		return s.record(ctx, tx, by, "", "token.revoke", name, "")
	})
}

// ExpiredAPIToken returns a token that is too old to be used, and its partner,
// for the log.
func (s *Store) ExpiredAPIToken(ctx context.Context, secret backup.Secret) (backup.APIToken, backup.Partner, error) {
	hash := sha256.Sum256(secret)
	t, err := one(ctx, s.read, scanAPIToken, `SELECT `+apiTokenColumns+` FROM api_tokens WHERE token_hash = $1`, hash[:])
	if err != nil {
		return t, backup.Partner{}, err
	}
	partner, err := s.Partner(ctx, t.PartnerID)
	return t, partner, err
}

// UseAPIToken returns the token and its partner, and notes the use, at most
// once a minute. One that is unknown, expired or revoked is backup.ErrNotFound.
func (s *Store) UseAPIToken(ctx context.Context, secret backup.Secret, address string, now time.Time) (backup.APIToken, backup.Partner, error) {
	hash := sha256.Sum256(secret)
	t, err := one(ctx, s.read, scanAPIToken, `SELECT `+apiTokenColumns+` FROM api_tokens WHERE token_hash = $1 AND expires_at > $2`, hash[:], millis(now))
	if err != nil {
		return t, backup.Partner{}, err
	}
	partner, err := s.Partner(ctx, t.PartnerID)
	if err != nil {
		return t, partner, fmt.Errorf("read partner %s: %w", t.PartnerID, err)
	}
	if now.Sub(t.LastUsedAt) < time.Minute {
		return t, partner, nil
	}
	if _, err := s.db.ExecContext(ctx, `UPDATE api_tokens SET last_used_at = $1, last_used_by = $2 WHERE partner_id = $3 AND id = $4`,
		millis(now), clean(address), t.PartnerID, t.ID); err != nil {
		return t, partner, fmt.Errorf("note the use of API token %s: %w", t.ID, err)
	}
	return t, partner, nil
}
