package store

import (
	"context"
	"errors"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// theLog is the source under which the newest entry of a deletion log stands
// among the heads.
const theLog = ""

// LogSeen implements repo.Ledger.
func (s *Store) LogSeen(ctx context.Context, tenant string) (int64, error) {
	seq, err := one(ctx, s.read, scanValue[int64], `SELECT seq FROM repository_heads WHERE org_id = $1 AND source = $2`, tenant, theLog)
	if errors.Is(err, backup.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read how far the deletion log goes: %w", err)
	}
	return seq, nil
}

// SawLog implements repo.Ledger.
func (s *Store) SawLog(ctx context.Context, tenant string, seq int64) error {
	return sawHead(ctx, s.db, tenant, theLog, seq)
}

func sawHead(ctx context.Context, q querier, tenant, source string, seq int64) error {
	if _, err := q.ExecContext(ctx, `
		INSERT INTO repository_heads (org_id, source, seq) VALUES ($1, $2, $3)
		ON CONFLICT (org_id, source) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > repository_heads.seq`, tenant, source, seq); err != nil {
		return fmt.Errorf("note how far the repository goes: %w", err)
	}
	return nil
}

// KnownHeads implements engine.Catalog.
func (s *Store) KnownHeads(ctx context.Context, org backup.OrgID) ([]engine.MailboxHead, error) {
	list, err := collect(ctx, s.read, func(row scanner) (engine.MailboxHead, error) {
		h := engine.MailboxHead{Org: org}
		err := row.Scan(&h.Mailbox, &h.Seq)
		return h, err
	}, `
		SELECT h.source, max(h.seq) FROM (
			SELECT mailbox_id AS source, seq FROM catalog_sources WHERE org_id = $1 AND seq > 0
			UNION ALL SELECT source, seq FROM repository_heads WHERE org_id = $1 AND source <> '') h
		GROUP BY h.source ORDER BY h.source`, org)
	if err != nil {
		return nil, fmt.Errorf("read how far the repository is known to go: %w", err)
	}
	return list, nil
}

// SetHead implements engine.Catalog.
func (s *Store) SetHead(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64) error {
	if _, err := s.db.ExecContext(ctx, `UPDATE repository_heads SET seq = $1 WHERE org_id = $2 AND source = $3`, seq, org, mailbox); err != nil {
		return fmt.Errorf("note how far the snapshots of mailbox %s go: %w", mailbox, err)
	}
	return nil
}

// keepHeads notes how far the catalog goes, of an organization or, with "", of all,
// before the catalog is cleared, or left out of a kit.
func keepHeads(ctx context.Context, q querier, org backup.OrgID) error {
	if _, err := q.ExecContext(ctx, `
		INSERT INTO repository_heads (org_id, source, seq)
		SELECT org_id, mailbox_id, seq FROM catalog_sources WHERE seq > 0 AND (org_id = $1 OR $1 = '')
		ON CONFLICT (org_id, source) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > repository_heads.seq`, org); err != nil {
		return fmt.Errorf("keep how far the catalog goes: %w", err)
	}
	return nil
}
