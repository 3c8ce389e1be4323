package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// repositoryKeySize is the length of a repository key in bytes.
const repositoryKeySize = 32

// Epoch returns the key epoch that new data of an organization is written in.
func (s *Store) Epoch(ctx context.Context, tenant string) (int, error) {
	epoch, err := one(ctx, s.read, scanValue[int], `SELECT coalesce(max(epoch), 0) FROM repository_keys WHERE org_id = $1 AND source = ''`, tenant)
	if err != nil {
		return 0, fmt.Errorf("read key epoch: %w", err)
	}
	return epoch, nil
}

// TenantKey returns the 32-byte key of an organization and epoch, made on
// first use.
func (s *Store) TenantKey(ctx context.Context, tenant string, epoch int) ([]byte, error) {
	return s.repositoryKey(ctx, tenant, "", epoch)
}

// SourceKey returns the 32-byte key of a mailbox and epoch, made on first use.
func (s *Store) SourceKey(ctx context.Context, tenant, source string, epoch int) ([]byte, error) {
	if source == "" {
		return nil, errors.New("a source key needs a source")
	}
	return s.repositoryKey(ctx, tenant, source, epoch)
}

func (s *Store) repositoryKey(ctx context.Context, tenant, source string, epoch int) ([]byte, error) {
	where := keyPlace(backup.OrgID(tenant), source, epoch)
	const query = `SELECT key_sealed FROM repository_keys WHERE org_id = $1 AND source = $2 AND epoch = $3`
	sealed, err := one(ctx, s.read, scanValue[[]byte], query, tenant, source, epoch)
	if errors.Is(err, backup.ErrNotFound) {
		// Only what is written from now on may need a new key. A damaged header names
		// any epoch, and keys that are gone stay gone.
		now, epochErr := s.Epoch(ctx, tenant)
		if epochErr != nil {
			return nil, epochErr
		}
		if epoch != now {
			return nil, fmt.Errorf("epoch %d: %w", epoch, repo.ErrNoKey)
		}
		key := make([]byte, repositoryKeySize)
		rand.Read(key)
		fresh, sealErr := s.seal(key, where)
		if sealErr != nil {
			return nil, sealErr
		}
		// Durably, since what is sealed under the key soon is in the repository for good.
		err = s.durably(ctx, func(tx *sql.Tx) error {
			if err := s.lockKeys(ctx, tx, tenant); err != nil {
				return err
			}
			if err := mustNotBeErased(ctx, tx, tenant, source); err != nil {
				return err
			}
			// Another process may make it at the same time: the first one stays.
			_, err := tx.ExecContext(ctx, `INSERT INTO repository_keys (org_id, source, epoch, key_sealed, created_at) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (org_id, source, epoch) DO NOTHING`, tenant, source, epoch, fresh, millis(time.Now()))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("make repository key: %w", err)
		}
		sealed, err = one(ctx, s.db, scanValue[[]byte], query, tenant, source, epoch)
	}
	if err != nil {
		return nil, fmt.Errorf("read repository key: %w", err)
	}
	return s.unseal(sealed, where)
}

func keyPlace(org backup.OrgID, source string, epoch int) []byte {
	return place("repository_keys", org, "key", fmt.Sprintf("%s/%d", source, epoch))
}

// RotateKey begins a new key epoch of an organization of a partner: what is
// written from now on is sealed under new keys. Old keys stay, since what was
// written before still needs them. It returns the new epoch.
func (s *Store) RotateKey(ctx context.Context, partner backup.PartnerID, org backup.OrgID, by backup.Actor) (int, error) {
	return s.newEpoch(ctx, partner, org, func(tx *sql.Tx, name string, epoch int) error {
		return s.record(ctx, tx, by, org, "key.rotate", name, fmt.Sprintf("epoch %d", epoch))
	})
}
