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

// secretsEpoch is the epoch under which repository_keys has the secrets of an
// organization whose first key was destroyed. It was made when keys of older
// epochs were destroyed last.
const secretsEpoch = -1

// Secrets implements repo.KeyStore.
func (s *Store) Secrets(ctx context.Context, tenant string) ([]byte, error) {
	sealed, err := one(ctx, s.read, scanValue[[]byte], `SELECT key_sealed FROM repository_keys WHERE org_id = $1 AND source = '' AND epoch = $2`, tenant, secretsEpoch)
	if errors.Is(err, backup.ErrNotFound) {
		return nil, repo.ErrNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("read repository secrets: %w", err)
	}
	return s.unseal(sealed, keyPlace(backup.OrgID(tenant), "", secretsEpoch))
}

// BeginRekey begins a new key epoch of an organization of a partner, and has
// everything moved into it that is stored. It returns the epoch. Until that has
// ended, it is backup.ErrConflict.
func (s *Store) BeginRekey(ctx context.Context, partner backup.PartnerID, org backup.OrgID, by backup.Actor) (int, error) {
	return s.newEpoch(ctx, partner, org, func(tx *sql.Tx, name string, epoch int) error {
		err := execOne(ctx, tx, `
			INSERT INTO upkeep (org_id, kind, state, asked_at) VALUES ($1, $2, 'waiting', $3)
			ON CONFLICT (org_id, kind) DO UPDATE SET state = 'waiting', asked_at = excluded.asked_at, next_at = 0, done = 0, total = 0, step = '', problem = ''
			WHERE upkeep.state <> 'running' AND (upkeep.state <> 'waiting' OR upkeep.asked_at = 0) AND upkeep.next_at = 0`, org, backup.UpkeepRekey, millis(time.Now()))
		if errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("organization %s moves to new keys already: %w", org, backup.ErrConflict)
		}
		if err != nil {
			return fmt.Errorf("ask for upkeep: %w", err)
		}
		if err := s.enqueueTx(ctx, tx, backup.UpkeepJob{OrgID: org, Work: backup.UpkeepRekey}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "key.rekey", name, fmt.Sprintf("epoch %d", epoch))
	})
}

// DestroyOldKeys destroys the keys of all epochs of an organization but the newest,
// and returns how many there were. The caller has seen that nothing in the
// repository needs them. It is backup.ErrConflict while a run may be under way
// that began before the newest epoch.
func (s *Store) DestroyOldKeys(ctx context.Context, org backup.OrgID) (int, error) {
	now, destroyed := time.Now(), 0
	err := s.durably(ctx, func(tx *sql.Tx) error {
		o, err := one(ctx, tx, scanOrganizationName, `SELECT partner_id, name FROM organizations WHERE id = $1`+s.forUpdate(), org)
		if err != nil {
			return err
		}
		epoch, err := one(ctx, tx, scanValue[int], `SELECT coalesce(max(epoch), 0) FROM repository_keys WHERE org_id = $1 AND source = ''`, org)
		if err != nil {
			return fmt.Errorf("read key epoch: %w", err)
		}
		if destroyed, err = one(ctx, tx, scanValue[int], `SELECT count(*) FROM repository_keys WHERE org_id = $1 AND epoch >= 0 AND epoch < $2`, org, epoch); err != nil || destroyed == 0 {
			return err
		}
		began, err := one(ctx, tx, scanValue[int64], `SELECT created_at FROM repository_keys WHERE org_id = $1 AND source = '' AND epoch = $2`, org, epoch)
		if err != nil {
			return fmt.Errorf("read when the epoch began: %w", err)
		}
		if now.Sub(moment(began)) <= repo.WriterLife {
			return fmt.Errorf("runs that began before key epoch %d may still commit: %w", epoch, backup.ErrConflict)
		}
		if err := s.keepSecrets(ctx, tx, org, now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM repository_keys WHERE org_id = $1 AND epoch >= 0 AND epoch < $2`, org, epoch); err != nil {
			return fmt.Errorf("delete keys: %w", err)
		}
		by := backup.Actor{Partner: backup.Partner{ID: o.PartnerID}}
		return s.record(ctx, tx, by, org, "key.destroy", o.Name, fmt.Sprintf("%d keys older than epoch %d", destroyed, epoch))
	})
	if err != nil {
		return 0, fmt.Errorf("destroy old keys of organization %s: %w", org, err)
	}
	return destroyed, nil
}

func scanOrganizationName(row scanner) (backup.Organization, error) {
	var o backup.Organization
	err := row.Scan(&o.PartnerID, &o.Name)
	return o, err
}

// keepSecrets keeps what all epochs share, which is made of the first key, and
// notes when keys were destroyed.
func (s *Store) keepSecrets(ctx context.Context, tx *sql.Tx, org backup.OrgID, now time.Time) error {
	sealed, err := one(ctx, tx, scanValue[[]byte], `SELECT key_sealed FROM repository_keys WHERE org_id = $1 AND source = '' AND epoch = 0`, org)
	if errors.Is(err, backup.ErrNotFound) { // it was destroyed before
		return execOne(ctx, tx, `UPDATE repository_keys SET created_at = $1 WHERE org_id = $2 AND source = '' AND epoch = $3`, millis(now), org, secretsEpoch)
	}
	if err != nil {
		return fmt.Errorf("read the first key: %w", err)
	}
	first, err := s.unseal(sealed, keyPlace(org, "", 0))
	if err != nil {
		return fmt.Errorf("open the first key: %w", err)
	}
	if sealed, err = s.seal(repo.SecretsOf(first), keyPlace(org, "", secretsEpoch)); err != nil {
		return err
	}
	if err := execOne(ctx, tx, `INSERT INTO repository_keys (org_id, source, epoch, key_sealed, created_at) VALUES ($1, '', $2, $3, $4)`,
		org, secretsEpoch, sealed, millis(now)); err != nil {
		return fmt.Errorf("keep what all epochs share: %w", err)
	}
	return nil
}

// newEpoch begins a new key epoch, and does more in the same transaction.
func (s *Store) newEpoch(ctx context.Context, partner backup.PartnerID, org backup.OrgID, more func(tx *sql.Tx, name string, epoch int) error) (int, error) {
	if _, err := s.Organization(ctx, partner, org); err != nil {
		return 0, err
	}
	if _, err := s.TenantKey(ctx, string(org), 0); err != nil && !errors.Is(err, repo.ErrNoKey) {
		return 0, err // the first key has the secrets that all epochs share
	}
	epoch := 0
	err := s.durably(ctx, func(tx *sql.Tx) error {
		name, err := one(ctx, tx, scanValue[string], `SELECT name FROM organizations WHERE partner_id = $1 AND id = $2`+s.forUpdate(), partner, org)
		if err != nil {
			return err
		}
		if epoch, err = one(ctx, tx, scanValue[int], `SELECT coalesce(max(epoch), 0) + 1 FROM repository_keys WHERE org_id = $1 AND source = ''`, org); err != nil {
			return fmt.Errorf("read key epoch: %w", err)
		}
		key := make([]byte, repositoryKeySize)
		rand.Read(key)
		sealed, err := s.seal(key, keyPlace(org, "", epoch))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO repository_keys (org_id, source, epoch, key_sealed, created_at) VALUES ($1, '', $2, $3, $4)`,
			org, epoch, sealed, millis(time.Now())); err != nil {
			return fmt.Errorf("make repository key: %w", err)
		}
		return more(tx, name, epoch)
	})
	return epoch, err
}
