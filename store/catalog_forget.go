package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// forgetStep is how many numbers of items or records one transaction goes
// through, so that runs and pages don't wait for it.
const forgetStep = 2000

// ForgetSnapshots implements engine.Catalog. First the snapshots are marked, so
// that nobody sees them any more; the marks go last, so that it can be ended by
// another call.
func (s *Store) ForgetSnapshots(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, spans []repo.Span) error {
	c, err := s.source(ctx, s.read, org, mailbox, "")
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read catalog source: %w", err)
	}
	marked, err := s.markExpired(ctx, c, spans)
	if err != nil || marked == 0 {
		return err
	}
	for from := int64(0); from < c.nextNumber; from += forgetStep {
		if err := s.forgetRange(ctx, c.number, from, from+forgetStep); err != nil {
			return fmt.Errorf("forget expired snapshots of mailbox %s: %w", mailbox, err)
		}
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM catalog_folder_states WHERE source = $1 AND to_seq <> `+untilNow+` AND NOT EXISTS (
			SELECT 1 FROM catalog_snapshots n WHERE n.source = catalog_folder_states.source AND n.expired = FALSE
			AND n.seq >= catalog_folder_states.from_seq AND n.seq < catalog_folder_states.to_seq)`, c.number); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM catalog_snapshots WHERE source = $1 AND expired = TRUE`, c.number)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget expired snapshots of mailbox %s: %w", mailbox, err)
	}
	return nil
}

// markExpired marks the snapshots within spans and returns how many are marked
// now. The newest one stays.
func (s *Store) markExpired(ctx context.Context, c catalogSource, spans []repo.Span) (int64, error) {
	var n int64
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		for _, span := range spans {
			if _, err := tx.ExecContext(ctx, `UPDATE catalog_snapshots SET expired = TRUE WHERE source = $1 AND seq >= $2 AND seq <= $3 AND seq < $4 AND expired = FALSE`,
				c.number, span.From, span.To, c.seq); err != nil {
				return err
			}
		}
		var err error
		n, err = one(ctx, tx, scanValue[int64], `SELECT count(*) FROM catalog_snapshots WHERE source = $1 AND expired = TRUE`, c.number)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("mark expired snapshots: %w", err)
	}
	return n, nil
}

// forgetRange removes what no snapshot has, of the items and records with
// numbers in a range. The newest record of an item becomes the newest that is
// still in a snapshot, as a rebuild finds it.
func (s *Store) forgetRange(ctx context.Context, source, from, to int64) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		for _, query := range []string{
			`DELETE FROM catalog_entries WHERE source = $1 AND item >= $2 AND item < $3 AND to_seq <> ` + untilNow + ` AND NOT EXISTS (
				SELECT 1 FROM catalog_snapshots n WHERE n.source = catalog_entries.source AND n.expired = FALSE
				AND n.seq >= catalog_entries.from_seq AND n.seq < catalog_entries.to_seq)`,
			`DELETE FROM catalog_items WHERE source = $1 AND number >= $2 AND number < $3 AND NOT EXISTS (
				SELECT 1 FROM catalog_entries e WHERE e.source = catalog_items.source AND e.item = catalog_items.number)`,
			`UPDATE catalog_items SET record = (
				SELECT e.record FROM catalog_entries e WHERE e.source = catalog_items.source AND e.item = catalog_items.number ORDER BY e.from_seq DESC LIMIT 1)
				WHERE source = $1 AND number >= $2 AND number < $3 AND NOT EXISTS (
				SELECT 1 FROM catalog_entries e WHERE e.source = catalog_items.source AND e.item = catalog_items.number AND e.record = catalog_items.record)`,
			`DELETE FROM catalog_records WHERE source = $1 AND number >= $2 AND number < $3 AND NOT EXISTS (
				SELECT 1 FROM catalog_entries e WHERE e.source = catalog_records.source AND e.item = catalog_records.item AND e.record = catalog_records.number)`,
		} {
			if _, err := tx.ExecContext(ctx, query, source, from, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetMailbox implements engine.Catalog. The snapshots go first, so that nobody
// sees a part of them; the mailbox's own row goes last, so that another call ends
// what a crash left.
func (s *Store) ForgetMailbox(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) error {
	c, err := s.source(ctx, s.read, org, mailbox, "")
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read catalog source: %w", err)
	}
	steps := [][]string{{`DELETE FROM catalog_snapshots WHERE source = $1`}}
	for from := int64(0); from < c.nextNumber; from += forgetStep {
		steps = append(steps, []string{
			fmt.Sprintf(`DELETE FROM catalog_entries WHERE source = $1 AND item >= %d AND item < %d`, from, from+forgetStep),
			fmt.Sprintf(`DELETE FROM catalog_items WHERE source = $1 AND number >= %d AND number < %d`, from, from+forgetStep),
			fmt.Sprintf(`DELETE FROM catalog_records WHERE source = $1 AND number >= %d AND number < %d`, from, from+forgetStep)})
	}
	steps = append(steps, []string{
		`DELETE FROM catalog_entries WHERE source = $1`, `DELETE FROM catalog_items WHERE source = $1`, `DELETE FROM catalog_records WHERE source = $1`,
		`DELETE FROM catalog_folder_states WHERE source = $1`, `DELETE FROM catalog_folders WHERE source = $1`, `DELETE FROM catalog_sources WHERE number = $1`})
	for _, queries := range steps {
		err := s.inTx(ctx, func(tx *sql.Tx) error {
			for _, query := range queries {
				if _, err := tx.ExecContext(ctx, query, c.number); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("forget mailbox %s in the catalog: %w", mailbox, err)
		}
	}
	return nil
}

// MissingPacks implements engine.Catalog.
func (s *Store) MissingPacks(ctx context.Context, org backup.OrgID, packs []repo.PackID) ([]repo.PackID, error) {
	var missing []repo.PackID
	for len(packs) > 0 {
		n := min(len(packs), catalogChunk)
		args := []any{org}
		for _, id := range packs[:n] {
			args = append(args, id[:])
		}
		known := map[repo.PackID]bool{}
		list, err := collect(ctx, s.read, scanValue[[]byte], `SELECT pack_id FROM catalog_packs WHERE org_id = $1 AND pack_id IN (`+placeholders(2, n)+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("look for packs: %w", err)
		}
		for _, id := range list {
			known[repo.PackID(id)] = true
		}
		for _, id := range packs[:n] {
			if !known[id] {
				missing = append(missing, id)
			}
		}
		packs = packs[n:]
	}
	return missing, nil
}

// KnownPacks implements engine.Catalog.
func (s *Store) KnownPacks(ctx context.Context, org backup.OrgID) ([]repo.Pack, error) {
	list, err := collect(ctx, s.read, func(row scanner) (repo.Pack, error) {
		var p repo.Pack
		var id []byte
		err := row.Scan(&id, &p.Kind)
		copy(p.ID[:], id)
		return p, err
	}, `SELECT pack_id, kind FROM catalog_packs WHERE org_id = $1 ORDER BY pack_id`, org)
	if err != nil {
		return nil, fmt.Errorf("read which packs are known: %w", err)
	}
	return list, nil
}

// ForgetPacks implements engine.Catalog.
func (s *Store) ForgetPacks(ctx context.Context, org backup.OrgID, packs []repo.PackID) error {
	for _, id := range packs {
		err := s.inTx(ctx, func(tx *sql.Tx) error {
			number, err := one(ctx, tx, scanValue[int64], `SELECT number FROM catalog_packs WHERE org_id = $1 AND pack_id = $2`+s.forUpdate(), org, id[:])
			if errors.Is(err, backup.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, query := range []string{`DELETE FROM catalog_pieces WHERE pack = $1`, `DELETE FROM catalog_blobs WHERE pack = $1`, `DELETE FROM catalog_packs WHERE number = $1`} {
				if _, err := tx.ExecContext(ctx, query, number); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("forget pack %s: %w", id, err)
		}
	}
	return nil
}
