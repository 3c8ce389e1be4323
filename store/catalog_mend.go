package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// GoneSnapshots implements engine.Catalog.
func (s *Store) GoneSnapshots(ctx context.Context, org backup.OrgID) ([]repo.Expired, error) {
	var gone []repo.Expired
	mailboxes, err := s.CatalogMailboxes(ctx, org)
	if err != nil {
		return nil, err
	}
	for _, mailbox := range mailboxes {
		there, err := s.SnapshotNumbers(ctx, org, mailbox)
		if err != nil {
			return nil, err
		}
		var spans []repo.Span
		next := int64(1)
		for _, seq := range there {
			if next < seq {
				spans = append(spans, repo.Span{From: next, To: seq - 1})
			}
			next = seq + 1
		}
		if len(spans) > 0 {
			gone = append(gone, repo.Expired{Source: string(mailbox), Spans: spans})
		}
	}
	erased, err := collect(ctx, s.read, scanValue[string], `SELECT source FROM erased_sources WHERE org_id = $1 ORDER BY source`, org)
	if err != nil {
		return nil, fmt.Errorf("read erased mailboxes: %w", err)
	}
	for _, source := range erased {
		gone = append(gone, repo.Expired{Source: source, Spans: []repo.Span{repo.Always}, Erased: true})
	}
	return gone, nil
}

// SnapshotNumbers implements engine.Catalog.
func (s *Store) SnapshotNumbers(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) ([]int64, error) {
	list, err := collect(ctx, s.read, scanValue[int64], `
		SELECT n.seq FROM catalog_sources c JOIN catalog_snapshots n ON n.source = c.number
		WHERE c.org_id = $1 AND c.mailbox_id = $2 AND n.expired = FALSE ORDER BY n.seq`, org, mailbox)
	if err != nil {
		return nil, fmt.Errorf("read snapshots: %w", err)
	}
	return list, nil
}

// SnapshotTree implements engine.Catalog.
func (s *Store) SnapshotTree(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64) (engine.Delta, error) {
	c, err := s.source(ctx, s.read, org, mailbox, "")
	if err != nil {
		return engine.Delta{}, err
	}
	d, err := one(ctx, s.read, func(row scanner) (engine.Delta, error) {
		d := engine.Delta{Seq: seq, NextNumber: c.nextNumber}
		var at int64
		err := row.Scan(&at, &d.Partial, &d.Totals.Items, &d.Totals.Bytes)
		d.At = moment(at)
		return d, err
	}, `SELECT at, partial, items, bytes FROM catalog_snapshots WHERE source = $1 AND seq = $2 AND expired = FALSE`, c.number, seq)
	if err != nil {
		return d, fmt.Errorf("read snapshot %d: %w", seq, err)
	}
	d.Folders, err = collect(ctx, s.read, func(row scanner) (engine.FolderState, error) {
		var f engine.FolderState
		var node []byte
		err := row.Scan(&f.ID, &f.Cursor, &node, &f.ParentID, &f.Name, &f.WellKnown, &f.Hidden, &f.Items)
		copy(f.Node[:], node)
		return f, err
	}, `
		SELECT f.folder_id, f.cursor, f.node, t.parent_id, t.name, t.well_known, t.hidden, t.items
		FROM catalog_folder_states t JOIN catalog_folders f ON f.source = t.source AND f.number = t.folder
		WHERE t.source = $1 AND t.to_seq > $2 AND t.from_seq <= $2 ORDER BY f.number`, c.number, seq)
	if err != nil {
		return d, fmt.Errorf("read folders of snapshot %d: %w", seq, err)
	}
	if seq == c.seq {
		d.FolderCursor = c.folderCursor
		return d, nil
	}
	for i := range d.Folders {
		d.Folders[i].Cursor, d.Folders[i].Node = "", repo.MetaID{}
	}
	return d, nil
}

const mendColumns = `i.number, i.provider_id, %s,
		r.number, r.meta, r.subject, r.sender, r.recipients, r.message_id, r.received_at, r.sent_at, r.size_bytes, r.provider_bytes, r.attachments, r.has_content`

// SnapshotItems implements engine.Catalog.
func (s *Store) SnapshotItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64, folderID string, after int64, limit int) ([]engine.Item, error) {
	query := fmt.Sprintf(`SELECT `+mendColumns+`
		FROM catalog_sources c
		JOIN catalog_folders f ON f.source = c.number AND f.folder_id = $3
		JOIN catalog_entries e ON e.source = c.number AND e.folder = f.number AND e.from_seq <= $4 AND e.to_seq > $4 AND e.item > $5
		JOIN catalog_items i ON i.source = c.number AND i.number = e.item
		JOIN catalog_records r ON r.source = c.number AND r.number = e.record
		WHERE c.org_id = $1 AND c.mailbox_id = $2 ORDER BY e.item LIMIT $6`,
		`f.folder_id, e.flags, e.importance, e.categories, e.version, e.problem, e.properties`)
	list, err := collect(ctx, s.read, scanCatalogItem, query, org, mailbox, folderID, seq, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read items of snapshot %d: %w", seq, err)
	}
	return list, nil
}

// RecordItems implements engine.Catalog.
func (s *Store) RecordItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, after int64, limit int) ([]engine.Item, error) {
	query := fmt.Sprintf(`SELECT `+mendColumns+`
		FROM catalog_sources c
		JOIN catalog_records r ON r.source = c.number AND r.number > $3
		JOIN catalog_items i ON i.source = c.number AND i.number = r.item
		WHERE c.org_id = $1 AND c.mailbox_id = $2 ORDER BY r.number LIMIT $4`, `'', 0, '', '', '', '', NULL`)
	list, err := collect(ctx, s.read, scanCatalogItem, query, org, mailbox, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	return list, nil
}

// SnapshotsOfRecord implements engine.Catalog.
func (s *Store) SnapshotsOfRecord(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, record int64) ([]int64, error) {
	list, err := collect(ctx, s.read, scanValue[int64], `
		SELECT DISTINCT n.seq FROM catalog_sources c
		JOIN catalog_records r ON r.source = c.number AND r.number = $3
		JOIN catalog_entries e ON e.source = c.number AND e.item = r.item AND e.record = r.number
		JOIN catalog_snapshots n ON n.source = c.number AND n.expired = FALSE AND n.seq >= e.from_seq AND n.seq < e.to_seq
		WHERE c.org_id = $1 AND c.mailbox_id = $2 ORDER BY n.seq`, org, mailbox, record)
	if err != nil {
		return nil, fmt.Errorf("find snapshots of record %d: %w", record, err)
	}
	return list, nil
}

// Restate implements engine.Catalog. The folders of items whose records are lost
// are listed anew by the next run, since only that brings what the provider says
// of them.
func (s *Store) Restate(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, r engine.Restated) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		c, err := s.source(ctx, tx, org, mailbox, s.forUpdate())
		if err != nil {
			return err
		}
		for folder, node := range r.Nodes {
			if c.seq != r.Seq {
				break // a run was faster: its nodes are newer
			}
			if _, err := tx.ExecContext(ctx, `UPDATE catalog_folders SET node = $1 WHERE source = $2 AND folder_id = $3 AND node IS NOT NULL`, node[:], c.number, folder); err != nil {
				return err
			}
		}
		for _, id := range r.Properties {
			if _, err := tx.ExecContext(ctx, `UPDATE catalog_entries SET properties = NULL WHERE source = $1 AND properties = $2`, c.number, id[:]); err != nil {
				return err
			}
		}
		for _, rec := range r.Records {
			if _, err := tx.ExecContext(ctx, `UPDATE catalog_records SET meta = $1, has_content = FALSE WHERE source = $2 AND number = $3`, rec.Meta[:], c.number, rec.Number); err != nil {
				return err
			}
			if err := s.markEntries(ctx, tx, c.number, rec.Number, r.Problem, true); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note what of mailbox %s was written anew: %w", mailbox, err)
	}
	return nil
}

// markEntries gives entries with a record a problem, so that the next run reads
// the newest anew: only that one, or all, whose folder it then lists anew as well.
func (s *Store) markEntries(ctx context.Context, tx *sql.Tx, source, record int64, problem backup.Problem, all bool) error {
	const of = ` WHERE source = $1 AND item = (SELECT r.item FROM catalog_records r WHERE r.source = $1 AND r.number = $2) AND record = $2`
	n, err := one(ctx, tx, scanValue[int64], `SELECT count(*) FROM catalog_entries`+of+` AND problem = '' AND to_seq = `+untilNow, source, record)
	if err != nil {
		return err
	}
	which := of + ` AND problem = ''`
	if !all {
		which += ` AND to_seq = ` + untilNow
	}
	if _, err := tx.ExecContext(ctx, `UPDATE catalog_entries SET problem = $3`+which, source, record, problemText(problem)); err != nil {
		return err
	}
	if all {
		if _, err := tx.ExecContext(ctx, `UPDATE catalog_folders SET cursor = '' WHERE source = $1 AND number IN (SELECT folder FROM catalog_entries`+of+` AND to_seq = `+untilNow+`)`, source, record); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE catalog_sources SET damaged = damaged + $1 WHERE number = $2`, n, source)
	return err
}

// ReadAgain has the next run of a mailbox read the messages anew whose newest
// content is one of these records, and returns how many those are.
func (s *Store) ReadAgain(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, records []int64, problem backup.Problem) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		c, err := s.source(ctx, tx, org, mailbox, s.forUpdate())
		if err != nil {
			return err
		}
		for _, n := range records {
			if err := s.markEntries(ctx, tx, c.number, n, problem, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("have messages of mailbox %s read again: %w", mailbox, err)
	}
	return nil
}

// SupersedeRecord implements engine.Catalog.
func (s *Store) SupersedeRecord(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, old, by int64) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		c, err := s.source(ctx, tx, org, mailbox, s.forUpdate())
		if err != nil {
			return err
		}
		item, err := one(ctx, tx, scanValue[int64], `SELECT r.item FROM catalog_records r JOIN catalog_records b ON b.source = r.source AND b.item = r.item
			WHERE r.source = $1 AND r.number = $2 AND b.number = $3`, c.number, old, by)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE catalog_entries SET record = $1, problem = '' WHERE source = $2 AND item = $3 AND record = $4 AND to_seq <> `+untilNow, by, c.number, item, old); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM catalog_records WHERE source = $1 AND number = $2 AND NOT EXISTS (
			SELECT 1 FROM catalog_entries e WHERE e.source = catalog_records.source AND e.item = catalog_records.item AND e.record = catalog_records.number)`, c.number, old)
		return err
	})
	if err != nil {
		return fmt.Errorf("supersede record %d of mailbox %s: %w", old, mailbox, err)
	}
	return nil
}
