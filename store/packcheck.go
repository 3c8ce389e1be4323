package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// PackChecks returns when the packs of an organization were last looked at, by
// their identifiers.
func (s *Store) PackChecks(ctx context.Context, org backup.OrgID) (map[string]backup.PackCheck, error) {
	list, err := collect(ctx, s.read, func(row scanner) (backup.PackCheck, error) {
		var p backup.PackCheck
		var seen, hashed, opened int64
		err := row.Scan(&p.Pack, &p.MailboxID, &p.Bytes, &seen, &hashed, &opened)
		p.SeenAt, p.HashedAt, p.OpenedAt = moment(seen), moment(hashed), moment(opened)
		return p, err
	}, `SELECT pack_id, mailbox_id, bytes, seen_at, hashed_at, opened_at FROM pack_checks WHERE org_id = $1`, org)
	if err != nil {
		return nil, fmt.Errorf("read when packs were checked: %w", err)
	}
	packs := make(map[string]backup.PackCheck, len(list))
	for _, p := range list {
		packs[p.Pack] = p
	}
	return packs, nil
}

// SavePackChecks keeps when packs were looked at.
func (s *Store) SavePackChecks(ctx context.Context, org backup.OrgID, list []backup.PackCheck) error {
	if len(list) == 0 {
		return nil
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		for _, p := range list {
			if _, err := tx.ExecContext(ctx, `
				INSERT INTO pack_checks (org_id, pack_id, mailbox_id, bytes, seen_at, hashed_at, opened_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
				ON CONFLICT (org_id, pack_id) DO UPDATE SET seen_at = excluded.seen_at, hashed_at = excluded.hashed_at, opened_at = excluded.opened_at`,
				org, p.Pack, p.MailboxID, p.Bytes, millis(p.SeenAt), millis(p.HashedAt), millis(p.OpenedAt)); err != nil {
				return fmt.Errorf("keep when pack %s was checked: %w", p.Pack, err)
			}
		}
		return nil
	})
}

// ForgetPackChecks forgets packs that a whole check did not see since before:
// they were collected.
func (s *Store) ForgetPackChecks(ctx context.Context, org backup.OrgID, before time.Time) error {
	if _, err := s.db.ExecContext(ctx, `DELETE FROM pack_checks WHERE org_id = $1 AND seen_at < $2`, org, millis(before)); err != nil {
		return fmt.Errorf("forget collected packs: %w", err)
	}
	return nil
}

// CheckedShares returns what part of each organization of a partner was looked
// at since the given times.
func (s *Store) CheckedShares(ctx context.Context, partner backup.PartnerID, hashedSince, openedSince time.Time) (map[backup.OrgID]backup.CheckedShare, error) {
	type share struct {
		org backup.OrgID
		backup.CheckedShare
	}
	list, err := collect(ctx, s.read, func(row scanner) (share, error) {
		var v share
		err := row.Scan(&v.org, &v.Bytes, &v.Hashed, &v.Opened)
		return v, err
	}, `SELECT c.org_id, sum(c.bytes), sum(CASE WHEN c.hashed_at >= $2 THEN c.bytes ELSE 0 END), sum(CASE WHEN c.opened_at >= $3 THEN c.bytes ELSE 0 END)
		FROM pack_checks c JOIN organizations o ON o.id = c.org_id WHERE o.partner_id = $1 GROUP BY c.org_id`, partner, millis(hashedSince), millis(openedSince))
	if err != nil {
		return nil, fmt.Errorf("read what was checked: %w", err)
	}
	shares := make(map[backup.OrgID]backup.CheckedShare, len(list))
	for _, v := range list {
		shares[v.org] = v.CheckedShare
	}
	return shares, nil
}

// Records returns the records of a mailbox with content, of all snapshots, in
// the order of their numbers, at most limit that are greater than after.
func (s *Store) Records(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, after int64, limit int) ([]engine.Record, error) {
	list, err := collect(ctx, s.read, func(row scanner) (engine.Record, error) {
		r := engine.Record{HasContent: true}
		var meta []byte
		err := row.Scan(&r.Number, &meta, &r.Bytes)
		copy(r.Meta[:], meta)
		return r, err
	}, `SELECT r.number, r.meta, r.size_bytes FROM catalog_sources c JOIN catalog_records r ON r.source = c.number
		WHERE c.org_id = $1 AND c.mailbox_id = $2 AND r.number > $3 AND r.has_content = TRUE ORDER BY r.number LIMIT $4`, org, mailbox, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	return list, nil
}

// CatalogMailboxes returns the mailboxes of an organization that have a
// snapshot.
func (s *Store) CatalogMailboxes(ctx context.Context, org backup.OrgID) ([]backup.MailboxID, error) {
	list, err := collect(ctx, s.read, scanValue[backup.MailboxID], `SELECT mailbox_id FROM catalog_sources WHERE org_id = $1 ORDER BY number`, org)
	if err != nil {
		return nil, fmt.Errorf("read mailboxes with snapshots: %w", err)
	}
	return list, nil
}
