package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// The catalog knows where everything in the repository is; see engine.Catalog.
var _ engine.Catalog = (*Store)(nil)

// untilNow is to_seq of a row that holds for the newest snapshot. It is spelled
// out in queries, so that they can use the partial index.
const untilNow = `9223372036854775807`

// catalogChunk is how many ids or numbers one query asks for.
const catalogChunk = 500

// catalogSource is the row of a mailbox.
type catalogSource struct {
	number, seq, nextNumber int64
	partial                 bool
	folderCursor            string
	totals                  engine.Totals
}

// source reads the row of a mailbox; a mailbox without a commit is ErrNotFound.
func (s *Store) source(ctx context.Context, q querier, org backup.OrgID, mailbox backup.MailboxID, suffix string) (catalogSource, error) {
	return one(ctx, q, func(row scanner) (catalogSource, error) {
		var c catalogSource
		err := row.Scan(&c.number, &c.seq, &c.nextNumber, &c.partial, &c.folderCursor, &c.totals.Items, &c.totals.Bytes, &c.totals.Damaged)
		return c, err
	}, `SELECT number, seq, next_number, partial, folder_cursor, items, bytes, damaged FROM catalog_sources
		WHERE org_id = $1 AND mailbox_id = $2`+suffix, org, mailbox)
}

// Head implements engine.Catalog.
func (s *Store) Head(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) (engine.Head, error) {
	c, err := s.source(ctx, s.read, org, mailbox, "")
	if errors.Is(err, backup.ErrNotFound) {
		return engine.Head{}, nil
	}
	if err != nil {
		return engine.Head{}, fmt.Errorf("read catalog source: %w", err)
	}
	folders, err := s.currentFolders(ctx, s.read, c.number)
	if err != nil {
		return engine.Head{}, err
	}
	head := engine.Head{Seq: c.seq, Partial: c.partial, NextNumber: c.nextNumber, Totals: c.totals, FolderCursor: c.folderCursor}
	for _, f := range folders {
		head.Folders = append(head.Folders, f.FolderState)
	}
	return head, nil
}

// numberedFolder is a folder of the newest snapshot with its number.
type numberedFolder struct {
	engine.FolderState
	number int64
}

func (s *Store) currentFolders(ctx context.Context, q querier, source int64) ([]numberedFolder, error) {
	list, err := collect(ctx, q, func(row scanner) (numberedFolder, error) {
		var f numberedFolder
		var node []byte
		err := row.Scan(&f.number, &f.ID, &f.Cursor, &node, &f.ParentID, &f.Name, &f.WellKnown, &f.Hidden, &f.Items)
		copy(f.Node[:], node)
		return f, err
	}, `
		SELECT f.number, f.folder_id, f.cursor, f.node, t.parent_id, t.name, t.well_known, t.hidden, t.items
		FROM catalog_folder_states t JOIN catalog_folders f ON f.source = t.source AND f.number = t.folder
		WHERE t.source = $1 AND t.to_seq = `+untilNow+` ORDER BY f.number`, source)
	if err != nil {
		return nil, fmt.Errorf("read catalog folders: %w", err)
	}
	return list, nil
}

// idHash is what provider ids are looked up by: they are too long for an index.
func idHash(providerID string) int64 {
	sum := sha256.Sum256([]byte(providerID))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits do
}

const catalogItemQuery = `
	SELECT i.number, i.provider_id, coalesce(f.folder_id, ''), coalesce(e.flags, 0), coalesce(e.importance, ''), coalesce(e.categories, ''),
		coalesce(e.version, ''), coalesce(e.problem, ''), e.properties,
		r.number, r.meta, r.subject, r.sender, r.recipients, r.message_id, r.received_at, r.sent_at, r.size_bytes, r.provider_bytes, r.attachments, r.has_content
	FROM catalog_items i
	JOIN catalog_records r ON r.source = i.source AND r.number = i.record
	LEFT JOIN catalog_entries e ON e.source = i.source AND e.item = i.number AND e.to_seq = ` + untilNow + `
	LEFT JOIN catalog_folders f ON f.source = e.source AND f.number = e.folder
	WHERE i.source = $1 `

func scanCatalogItem(row scanner) (engine.Item, error) {
	var i engine.Item
	var flags, received, sent int64
	var categories, problem string
	var meta, properties []byte
	err := row.Scan(&i.Number, &i.ID, &i.FolderID, &flags, &i.Importance, &categories, &i.Version, &problem, &properties,
		&i.Record.Number, &meta, &i.Subject, &i.From, &i.To, &i.InternetMessageID, &received, &sent, &i.Record.Bytes, &i.Size, &i.HasAttachments, &i.Record.HasContent)
	i.Read, i.Draft, i.Flagged = flags&flagRead != 0, flags&flagDraft != 0, flags&flagFlagged != 0
	i.Received, i.Sent, i.Problem, i.Categories = moment(received), moment(sent), problemOf(problem), categoriesOf(categories)
	copy(i.Record.Meta[:], meta)
	copy(i.Properties[:], properties)
	return i, err
}

// Bits of catalog_entries.flags.
const (
	flagRead = 1 << iota
	flagDraft
	flagFlagged
)

func flagBits(s engine.ItemState) (bits int64) {
	if s.Read {
		bits |= flagRead
	}
	if s.Draft {
		bits |= flagDraft
	}
	if s.Flagged {
		bits |= flagFlagged
	}
	return bits
}

// categoriesText encodes categories; none is "".
func categoriesText(list []string) string {
	if len(list) == 0 {
		return ""
	}
	data, err := json.Marshal(list)
	if err != nil {
		return "" // strings always encode
	}
	return string(data)
}

func categoriesOf(text string) []string {
	var list []string
	if text == "" || json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	return list
}

// KnownItems implements engine.Catalog.
func (s *Store) KnownItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, ids []string) ([]engine.Item, error) {
	hashes := make([]any, len(ids))
	wanted := make(map[string]bool, len(ids))
	for i, id := range ids {
		hashes[i], wanted[id] = idHash(id), true
	}
	items, err := s.catalogItems(ctx, org, mailbox, "i.id_hash", hashes)
	if err != nil {
		return nil, err
	}
	known := items[:0]
	for _, item := range items {
		if wanted[item.ID] {
			known = append(known, item)
		}
	}
	return known, nil
}

// ItemsByNumber implements engine.Catalog.
func (s *Store) ItemsByNumber(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, numbers []int64) ([]engine.Item, error) {
	values := make([]any, len(numbers))
	for i, n := range numbers {
		values[i] = n
	}
	return s.catalogItems(ctx, org, mailbox, "i.number", values)
}

// catalogItems reads the items whose column is one of values.
func (s *Store) catalogItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, column string, values []any) ([]engine.Item, error) {
	c, err := s.source(ctx, s.read, org, mailbox, "")
	if errors.Is(err, backup.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read catalog source: %w", err)
	}
	var items []engine.Item
	for len(values) > 0 {
		n := min(len(values), catalogChunk)
		args := append([]any{c.number}, values[:n]...)
		list, err := collect(ctx, s.read, scanCatalogItem, catalogItemQuery+"AND "+column+" IN ("+placeholders(2, n)+")", args...)
		if err != nil {
			return nil, fmt.Errorf("read catalog items: %w", err)
		}
		items, values = append(items, list...), values[n:]
	}
	return items, nil
}

// placeholders returns "$from, $from+1 …", n of them.
func placeholders(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", from+i)
	}
	return b.String()
}

// FolderItems implements engine.Catalog.
func (s *Store) FolderItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, folderID string) ([]int64, error) {
	numbers, err := collect(ctx, s.read, scanValue[int64], `
		SELECT e.item FROM catalog_sources c
		JOIN catalog_folders f ON f.source = c.number AND f.folder_id = $3
		JOIN catalog_entries e ON e.source = c.number AND e.folder = f.number AND e.to_seq = `+untilNow+`
		WHERE c.org_id = $1 AND c.mailbox_id = $2`, org, mailbox, folderID)
	if err != nil {
		return nil, fmt.Errorf("read items of a folder: %w", err)
	}
	return numbers, nil
}

// FailedItems implements engine.Catalog.
func (s *Store) FailedItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, after int64, limit int) ([]engine.Item, error) {
	numbers, err := collect(ctx, s.read, scanValue[int64], `
		SELECT e.item FROM catalog_sources c
		JOIN catalog_entries e ON e.source = c.number AND e.problem <> '' AND e.to_seq = `+untilNow+` AND e.item > $3
		WHERE c.org_id = $1 AND c.mailbox_id = $2 ORDER BY e.item LIMIT $4`, org, mailbox, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read failed items: %w", err)
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	return s.ItemsByNumber(ctx, org, mailbox, numbers)
}

// ItemRecord implements engine.Catalog.
func (s *Store) ItemRecord(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, id backup.ItemID) (engine.Record, error) {
	number, ok := engine.RecordNumber(id)
	if !ok {
		return engine.Record{}, backup.ErrNotFound
	}
	r, err := one(ctx, s.read, func(row scanner) (engine.Record, error) {
		var r engine.Record
		var meta []byte
		err := row.Scan(&r.Number, &meta, &r.Bytes, &r.HasContent)
		copy(r.Meta[:], meta)
		return r, err
	}, `
		SELECT r.number, r.meta, r.size_bytes, r.has_content FROM catalog_sources c JOIN catalog_records r ON r.source = c.number
		WHERE c.org_id = $1 AND c.mailbox_id = $2 AND r.number = $3`, org, mailbox, number)
	if err != nil {
		return engine.Record{}, fmt.Errorf("read record %s: %w", id, err)
	}
	if r.ID() != id {
		return engine.Record{}, backup.ErrNotFound
	}
	return r, nil
}

// SaveCursors implements engine.Catalog.
func (s *Store) SaveCursors(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64, cursors engine.Cursors) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		c, err := s.source(ctx, tx, org, mailbox, s.forUpdate())
		if errors.Is(err, backup.ErrNotFound) || err == nil && c.seq != seq {
			return nil // a later commit brought its own
		}
		if err != nil {
			return err
		}
		if cursors.Folders != c.folderCursor {
			if _, err := tx.ExecContext(ctx, `UPDATE catalog_sources SET folder_cursor = $1 WHERE number = $2`, cursors.Folders, c.number); err != nil {
				return err
			}
		}
		for folder, cursor := range cursors.Items {
			if _, err := tx.ExecContext(ctx, `UPDATE catalog_folders SET cursor = $1 WHERE source = $2 AND folder_id = $3`, cursor, c.number, folder); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save cursors: %w", err)
	}
	return nil
}

// Heads implements engine.Catalog.
func (s *Store) Heads(ctx context.Context) ([]engine.MailboxHead, error) {
	list, err := collect(ctx, s.read, func(row scanner) (engine.MailboxHead, error) {
		var h engine.MailboxHead
		err := row.Scan(&h.Org, &h.Mailbox, &h.Seq)
		return h, err
	}, `
		SELECT m.org_id, m.id, coalesce(c.seq, 0) FROM mailboxes m LEFT JOIN catalog_sources c ON c.org_id = m.org_id AND c.mailbox_id = m.id
		WHERE m.selected = TRUE OR c.seq IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("read catalog sources: %w", err)
	}
	return list, nil
}

// ClearCatalog implements engine.Catalog.
func (s *Store) ClearCatalog(ctx context.Context, org backup.OrgID) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		alone, err := s.aloneInCatalog(ctx, tx, org)
		if err != nil {
			return err
		}
		if err := keepHeads(ctx, tx, org); err != nil {
			return err
		}
		for _, t := range []struct{ table, rows string }{
			{"catalog_pieces", "pack IN (SELECT number FROM catalog_packs WHERE org_id = $1)"},
			{"catalog_blobs", "pack IN (SELECT number FROM catalog_packs WHERE org_id = $1)"},
			{"catalog_packs", "org_id = $1"},
			{"catalog_entries", "source IN (SELECT number FROM catalog_sources WHERE org_id = $1)"},
			{"catalog_records", "source IN (SELECT number FROM catalog_sources WHERE org_id = $1)"},
			{"catalog_items", "source IN (SELECT number FROM catalog_sources WHERE org_id = $1)"},
			{"catalog_folder_states", "source IN (SELECT number FROM catalog_sources WHERE org_id = $1)"},
			{"catalog_folders", "source IN (SELECT number FROM catalog_sources WHERE org_id = $1)"},
			{"catalog_snapshots", "source IN (SELECT number FROM catalog_sources WHERE org_id = $1)"},
			{"catalog_sources", "org_id = $1"},
		} {
			query, args := `DELETE FROM `+t.table+` WHERE `+t.rows, []any{org} //nolint:gosec // the texts are constant
			if alone {
				query, args = `DELETE FROM `+t.table, nil //nolint:gosec // the tables are constant
			}
			if _, err := tx.ExecContext(ctx, query, args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("clear the catalog of %s: %w", org, err)
	}
	return nil
}

// aloneInCatalog says that the catalog has nothing but of one organization:
// SQLite empties a table at once where PostgreSQL would have to look at each row,
// and could not be sure of what others add meanwhile.
func (s *Store) aloneInCatalog(ctx context.Context, tx *sql.Tx, org backup.OrgID) (bool, error) {
	if s.dialect != dialectSQLite {
		return false, nil
	}
	others, err := one(ctx, tx, scanValue[int64], `
		SELECT (SELECT count(*) FROM catalog_sources WHERE org_id <> $1) + (SELECT count(*) FROM catalog_packs WHERE org_id <> $1)`, org)
	return others == 0, err
}
