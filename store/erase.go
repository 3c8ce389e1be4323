package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// EraseMailbox implements engine.Catalog. The keys go first; all of it may be
// called again, and ends then what was begun.
func (s *Store) EraseMailbox(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) error {
	if err := s.inTx(ctx, func(tx *sql.Tx) error { return s.destroyKeys(ctx, tx, org, mailbox) }); err != nil {
		return fmt.Errorf("destroy the keys of mailbox %s: %w", mailbox, err)
	}
	if err := s.ForgetMailbox(ctx, org, mailbox); err != nil {
		return err
	}
	if err := s.inTx(ctx, func(tx *sql.Tx) error { return s.forgetAccount(ctx, tx, org, mailbox) }); err != nil {
		return fmt.Errorf("forget mailbox %s: %w", mailbox, err)
	}
	return nil
}

// destroyKeys deletes the keys of a mailbox and notes their fingerprints. From
// then on none is made.
func (s *Store) destroyKeys(ctx context.Context, tx *sql.Tx, org backup.OrgID, mailbox backup.MailboxID) error {
	now := time.Now()
	if err := s.lockKeys(ctx, tx, string(org)); err != nil {
		return err
	}
	keys, err := s.destroyedKeys(ctx, tx, org, mailbox)
	known := err == nil
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return err
	}
	list, err := collect(ctx, tx, func(row scanner) (backup.DestroyedKey, error) {
		k := backup.DestroyedKey{DestroyedAt: now.UTC()}
		var sealed []byte
		var made int64
		if err := row.Scan(&k.Epoch, &sealed, &made); err != nil {
			return k, err
		}
		k.MadeAt = moment(made).UTC()
		k.Fingerprint = "unknown: it could not be opened"
		if key, err := s.unseal(sealed, keyPlace(org, string(mailbox), k.Epoch)); err == nil {
			k.Fingerprint = backup.KeyFingerprint(key)
		}
		return k, nil
	}, `SELECT epoch, key_sealed, created_at FROM repository_keys WHERE org_id = $1 AND source = $2 ORDER BY epoch`, org, mailbox)
	if err != nil {
		return fmt.Errorf("read its keys: %w", err)
	}
	if known && len(list) == 0 {
		return nil
	}
	data, err := json.Marshal(append(keys, list...))
	if err != nil {
		return err
	}
	if err := execOne(ctx, tx, `INSERT INTO erased_sources (org_id, source, erased_at, destroyed) VALUES ($1, $2, $3, $4)
		ON CONFLICT (org_id, source) DO UPDATE SET destroyed = excluded.destroyed`, org, mailbox, millis(now), string(data)); err != nil {
		return fmt.Errorf("note it: %w", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM repository_keys WHERE org_id = $1 AND source = $2`, org, mailbox)
	return err
}

// lockKeys has others wait who make or destroy keys of an organization, until the
// transaction ends.
func (s *Store) lockKeys(ctx context.Context, tx *sql.Tx, org string) error {
	_, err := one(ctx, tx, scanValue[string], `SELECT id FROM organizations WHERE id = $1`+s.forUpdate(), org)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("lock the keys: %w", err)
	}
	return nil
}

// DestroyedKeys returns the keys of a mailbox that were destroyed; one whose data
// was not erased is backup.ErrNotFound.
func (s *Store) DestroyedKeys(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) ([]backup.DestroyedKey, error) {
	return s.destroyedKeys(ctx, s.read, org, mailbox)
}

func (s *Store) destroyedKeys(ctx context.Context, q querier, org backup.OrgID, mailbox backup.MailboxID) ([]backup.DestroyedKey, error) {
	text, err := one(ctx, q, scanValue[string], `SELECT destroyed FROM erased_sources WHERE org_id = $1 AND source = $2`, org, mailbox)
	if err != nil {
		return nil, err
	}
	var list []backup.DestroyedKey
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("read destroyed keys: %w", err)
	}
	return list, nil
}

// mustNotBeErased refuses a key for a mailbox whose keys were destroyed, and for
// an organization that is being deleted, or was.
func mustNotBeErased(ctx context.Context, q querier, tenant, source string) error {
	n, err := one(ctx, q, scanValue[int], `SELECT count(*) FROM erased_sources WHERE org_id = $1 AND source = $2`, tenant, source)
	if err != nil {
		return fmt.Errorf("look for what was erased: %w", err)
	}
	if n > 0 {
		return fmt.Errorf("mailbox %s was erased: %w", source, repo.ErrNoKey)
	}
	gone, err := one(ctx, q, scanValue[int], `SELECT count(*) FROM deletions WHERE org_id = $1`, tenant)
	if err != nil {
		return fmt.Errorf("look for deleted organizations: %w", err)
	}
	if gone > 0 {
		return fmt.Errorf("organization %s was deleted: %w", tenant, repo.ErrNoKey)
	}
	return nil
}

// forgetAccount removes the rows of a mailbox, and those of others that tell
// what was in it: restores from it, which name messages, and into it.
func (s *Store) forgetAccount(ctx context.Context, tx *sql.Tx, org backup.OrgID, mailbox backup.MailboxID) error {
	const restores = `(mailbox_id = $2 OR target_id = $2)`
	for _, query := range []string{
		`DELETE FROM restore_notes WHERE org_id = $1 AND restore_id IN (SELECT id FROM restores WHERE org_id = $1 AND ` + restores + `)`,
		`DELETE FROM restores WHERE org_id = $1 AND ` + restores,
		`DELETE FROM damages WHERE org_id = $1 AND mailbox_id = $2`,
		`DELETE FROM pack_checks WHERE org_id = $1 AND mailbox_id = $2`,
		`DELETE FROM repository_heads WHERE org_id = $1 AND source = $2`,
		`UPDATE upkeep SET mailbox_id = '' WHERE org_id = $1 AND mailbox_id = $2`,
		`DELETE FROM runs WHERE org_id = $1 AND mailbox_id = $2`,
		`DELETE FROM mailbox_retention WHERE org_id = $1 AND mailbox_id = $2`,
		`DELETE FROM imap_accounts WHERE org_id = $1 AND mailbox_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, org, mailbox); err != nil {
			return err
		}
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM mailboxes WHERE org_id = $1 AND id = $2`, org, mailbox)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return mailboxChanged(ctx, tx, org, true)
}

// Scrub makes sure that what was deleted stands nowhere in the database's files
// any more. SQLite's is written anew without it, for which it needs as much room
// again, and others wait with writing. On PostgreSQL the space is given free,
// and the server overwrites it as it goes. What reads for long is in its way:
// then it returns an error, and is called again.
func (s *Store) Scrub(ctx context.Context) error {
	if s.dialect == dialectPostgres {
		if _, err := s.db.ExecContext(ctx, `VACUUM`); err != nil {
			return fmt.Errorf("give the space free: %w", err)
		}
		return nil
	}
	if _, err := s.db.ExecContext(ctx, `VACUUM`); err != nil {
		return fmt.Errorf("write the database anew: %w", diskFull(err))
	}
	for range scrubTries {
		busy, err := one(ctx, s.db, func(row scanner) (int, error) {
			var busy, pages, moved int
			err := row.Scan(&busy, &pages, &moved)
			return busy, err
		}, `PRAGMA wal_checkpoint(TRUNCATE)`)
		if err != nil {
			return fmt.Errorf("empty the log of writes: %w", err)
		}
		if busy == 0 {
			return nil
		}
		select { // somebody reads the database as it was before
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(scrubPause):
		}
	}
	return errors.New("empty the log of writes: somebody reads the database")
}

// How often, and with what pauses, Scrub waits for readers.
const (
	scrubTries = 40
	scrubPause = 250 * time.Millisecond
)
