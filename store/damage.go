package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// damageColumns name a damaged message from the catalog, so that its subject is
// kept in one place only.
const (
	damageColumns = `d.org_id, d.object, d.mailbox_id, d.record, d.how, d.found_at, d.seen_at, d.mended_at, d.fate, coalesce(m.address, ''), coalesce(r.subject, ''),
		coalesce(r.received_at, 0), coalesce((SELECT t.name FROM catalog_entries e JOIN catalog_folder_states t ON t.source = e.source AND t.folder = e.folder
			WHERE e.source = c.number AND e.item = r.item AND e.record = r.number ORDER BY e.from_seq DESC, t.from_seq DESC LIMIT 1), '')`
	damageJoins = ` FROM damages d
		LEFT JOIN mailboxes m ON m.org_id = d.org_id AND m.id = d.mailbox_id
		LEFT JOIN catalog_sources c ON d.record > 0 AND c.org_id = d.org_id AND c.mailbox_id = d.mailbox_id
		LEFT JOIN catalog_records r ON r.source = c.number AND r.number = d.record`
)

func scanDamage(row scanner) (backup.Damage, error) {
	var d backup.Damage
	var found, seen, mended, received int64
	err := row.Scan(&d.OrgID, &d.Object, &d.MailboxID, &d.Record, &d.How, &found, &seen, &mended, &d.Fate, &d.MailboxName, &d.Subject, &received, &d.Folder)
	d.FoundAt, d.SeenAt, d.MendedAt, d.ReceivedAt = moment(found), moment(seen), moment(mended), moment(received)
	return d, err
}

// NoteDamage keeps what a check found to be damaged. What is known already keeps
// the time when it was found; what had been mended is damaged anew.
func (s *Store) NoteDamage(ctx context.Context, list ...backup.Damage) error {
	if len(list) == 0 {
		return nil
	}
	now := millis(time.Now())
	return s.inTx(ctx, func(tx *sql.Tx) error {
		for _, d := range list {
			if _, err := tx.ExecContext(ctx, `
				INSERT INTO damages (org_id, object, mailbox_id, record, how, found_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6, $6)
				ON CONFLICT (org_id, object) DO UPDATE SET how = excluded.how, seen_at = excluded.seen_at, mended_at = 0, fate = CASE WHEN damages.mended_at > 0 THEN '' ELSE damages.fate END,
					found_at = CASE WHEN damages.mended_at > 0 THEN excluded.found_at ELSE damages.found_at END`,
				d.OrgID, d.Object, d.MailboxID, d.Record, d.How, now); err != nil {
				return fmt.Errorf("note damage of %s: %w", d.Object, err)
			}
		}
		return nil
	})
}

// NoteLost implements engine.Catalog. Of an organization that is gone nobody is told.
func (s *Store) NoteLost(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64, how string) error {
	return noteLost(ctx, s.db, org, mailbox, seq, how)
}

func noteLost(ctx context.Context, tx querier, org backup.OrgID, mailbox backup.MailboxID, seq int64, how string) error {
	object, now := repo.CommitName(string(org), string(mailbox), seq), millis(time.Now())
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO damages (org_id, object, mailbox_id, record, how, found_at, seen_at, fate)
		SELECT id, CAST($2 AS TEXT), CAST($3 AS TEXT), 0, CAST($4 AS TEXT), CAST($5 AS BIGINT), CAST($5 AS BIGINT), CAST($6 AS TEXT) FROM organizations WHERE id = $1
		ON CONFLICT (org_id, object) DO UPDATE SET mailbox_id = excluded.mailbox_id, how = excluded.how, seen_at = excluded.seen_at, mended_at = 0, fate = excluded.fate,
			found_at = CASE WHEN damages.mended_at > 0 THEN excluded.found_at ELSE damages.found_at END`,
		org, object, mailbox, how, now, backup.DamageTold); err != nil {
		return fmt.Errorf("note that %s is lost: %w", object, err)
	}
	return nil
}

// SaveFate notes what can be done about a damaged message.
func (s *Store) SaveFate(ctx context.Context, org backup.OrgID, object string, fate backup.DamageFate) error {
	_, err := s.db.ExecContext(ctx, `UPDATE damages SET fate = $1 WHERE org_id = $2 AND object = $3 AND mended_at = 0`, fate, org, object)
	if err != nil {
		return fmt.Errorf("note the fate of %s: %w", object, err)
	}
	return nil
}

// MailboxDamages returns the damaged messages of a mailbox.
func (s *Store) MailboxDamages(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) ([]backup.Damage, error) {
	list, err := collect(ctx, s.read, scanDamage, `SELECT `+damageColumns+damageJoins+`
		WHERE d.org_id = $1 AND d.mailbox_id = $2 AND d.record > 0 AND d.mended_at = 0 ORDER BY d.record`, org, mailbox)
	if err != nil {
		return nil, fmt.Errorf("read damages of mailbox %s: %w", mailbox, err)
	}
	return list, nil
}

// MendDamage notes that objects were found whole again. It returns how many had
// been damaged.
func (s *Store) MendDamage(ctx context.Context, org backup.OrgID, objects ...string) (int64, error) {
	if len(objects) == 0 {
		return 0, nil
	}
	mended := int64(0)
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		for _, object := range objects {
			res, err := tx.ExecContext(ctx, `UPDATE damages SET mended_at = $1 WHERE org_id = $2 AND object = $3 AND mended_at = 0`, millis(time.Now()), org, object)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err == nil {
				mended += n
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("note what is whole again: %w", err)
	}
	return mended, nil
}

// Damages returns what is damaged in an organization's repository, newest first.
func (s *Store) Damages(ctx context.Context, org backup.OrgID, limit int) ([]backup.Damage, error) {
	list, err := collect(ctx, s.read, scanDamage, `SELECT `+damageColumns+damageJoins+`
		WHERE d.org_id = $1 AND d.mended_at = 0 ORDER BY d.found_at DESC, d.object LIMIT $2`, org, limit)
	if err != nil {
		return nil, fmt.Errorf("read damages: %w", err)
	}
	return list, nil
}

// CountDamages returns how many objects and messages of an organization are
// damaged, and since when the first of them is.
func (s *Store) CountDamages(ctx context.Context, org backup.OrgID) (int64, time.Time, error) {
	var n, since int64
	err := s.read.QueryRowContext(ctx, `SELECT count(*), coalesce(min(found_at), 0) FROM damages WHERE org_id = $1 AND mended_at = 0`, org).Scan(&n, &since)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("count damages: %w", err)
	}
	return n, moment(since), nil
}

// AllDamages returns how many objects and messages are damaged at each
// organization of a partner that has some.
func (s *Store) AllDamages(ctx context.Context, partner backup.PartnerID) (map[backup.OrgID]int64, error) {
	type count struct {
		org backup.OrgID
		n   int64
	}
	list, err := collect(ctx, s.read, func(row scanner) (count, error) {
		var c count
		err := row.Scan(&c.org, &c.n)
		return c, err
	}, `SELECT d.org_id, count(*) FROM damages d JOIN organizations o ON o.id = d.org_id WHERE o.partner_id = $1 AND d.mended_at = 0 GROUP BY d.org_id`, partner)
	if err != nil {
		return nil, fmt.Errorf("count damages: %w", err)
	}
	all := map[backup.OrgID]int64{}
	for _, c := range list {
		all[c.org] = c.n
	}
	return all, nil
}

// ItemDamage returns the damage of a message's content, and backup.ErrNotFound
// if none is known.
func (s *Store) ItemDamage(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, item backup.ItemID) (backup.Damage, error) {
	number, ok := engine.RecordNumber(item)
	if !ok {
		return backup.Damage{}, backup.ErrNotFound
	}
	d, err := one(ctx, s.read, scanDamage, `SELECT `+damageColumns+damageJoins+`
		WHERE d.org_id = $1 AND d.mailbox_id = $2 AND d.record = $3 AND d.mended_at = 0`, org, mailbox, number)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return d, fmt.Errorf("read damage of item %s: %w", item, err)
	}
	return d, err
}
