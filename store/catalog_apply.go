package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	sqlite "modernc.org/sqlite"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// ApplyCommit implements engine.Catalog.
func (s *Store) ApplyCommit(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, d engine.Delta) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		c, err := s.sourceForCommit(ctx, tx, org, mailbox)
		if err != nil {
			return err
		}
		switch {
		case c.seq >= d.Seq:
			return nil
		case c.seq != d.Seq-1-d.Gap:
			return fmt.Errorf("commit %d after %d: %w", d.Seq, c.seq, engine.ErrNotNext)
		}
		a := applier{store: s, tx: tx, org: org, source: c.number, delta: d}
		if err := s.addObjects(ctx, tx, org, d.Objects); err != nil {
			return err
		}
		for _, step := range []func(context.Context) error{a.folders, a.forgotten, a.items, a.records, a.entries, a.snapshot} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		if d.Lost == "" {
			return nil
		}
		return noteLost(ctx, tx, org, mailbox, d.Seq, d.Lost)
	})
	if err = diskFull(err); err != nil {
		return fmt.Errorf("bring the catalog to commit %d of mailbox %s: %w", d.Seq, mailbox, err)
	}
	return nil
}

// sqliteFull is SQLite's code for a full disk.
const sqliteFull = 13

// diskFull lets a full disk under SQLite be told by syscall.ENOSPC, as one under
// the repository is.
func diskFull(err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqliteFull {
		return fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	}
	return err
}

// sourceForCommit reads and locks the row of a mailbox, making it if needed.
func (s *Store) sourceForCommit(ctx context.Context, tx *sql.Tx, org backup.OrgID, mailbox backup.MailboxID) (catalogSource, error) {
	c, err := s.source(ctx, tx, org, mailbox, s.forUpdate())
	if !errors.Is(err, backup.ErrNotFound) {
		return c, err
	}
	if err := mustNotBeErased(ctx, tx, string(org), string(mailbox)); err != nil {
		return c, err
	}
	if s.dialect == dialectPostgres {
		// Two first commits at a time must not get the same number.
		if _, err := tx.ExecContext(ctx, `LOCK TABLE catalog_sources IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return c, fmt.Errorf("lock sources: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO catalog_sources (number, org_id, mailbox_id, seq, next_number, partial, folder_cursor, items, bytes, damaged)
		SELECT coalesce(max(number), 0) + 1, CAST($1 AS TEXT), CAST($2 AS TEXT), 0, 0, FALSE, '', 0, 0, 0 FROM catalog_sources WHERE TRUE
		ON CONFLICT (org_id, mailbox_id) DO NOTHING`, org, mailbox); err != nil {
		return c, fmt.Errorf("add source: %w", err)
	}
	return s.source(ctx, tx, org, mailbox, s.forUpdate())
}

// applier makes a commit's changes in one transaction.
type applier struct {
	store   *Store
	tx      *sql.Tx
	org     backup.OrgID
	source  int64
	delta   engine.Delta
	numbers map[string]int64 // of folders, by id
}

// folders brings the folders up to date.
func (a *applier) folders(ctx context.Context) error {
	known, err := a.folderNumbers(ctx)
	if err != nil {
		return err
	}
	list, err := a.store.currentFolders(ctx, a.tx, a.source)
	if err != nil {
		return err
	}
	current := make(map[string]engine.FolderState, len(list))
	for _, f := range list {
		current[f.ID] = f.FolderState
	}
	for _, id := range a.delta.RemovedFolders {
		if err := a.closeFolder(ctx, known[id]); err != nil {
			return err
		}
		if _, err := a.tx.ExecContext(ctx, `UPDATE catalog_folders SET cursor = '', node = NULL WHERE source = $1 AND number = $2`, a.source, known[id]); err != nil {
			return fmt.Errorf("forget folder: %w", err)
		}
	}
	for _, f := range a.delta.Folders {
		old, ok := current[f.ID]
		if err := a.folder(ctx, f, ok && old.Folder == f.Folder); err != nil {
			return fmt.Errorf("folder %s: %w", f.ID, err)
		}
	}
	return nil
}

func (a *applier) folderNumbers(ctx context.Context) (map[string]int64, error) {
	a.numbers = map[string]int64{}
	rows, err := a.tx.QueryContext(ctx, `SELECT folder_id, number FROM catalog_folders WHERE source = $1`, a.source)
	if err != nil {
		return nil, fmt.Errorf("read folders: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var number int64
		if err := rows.Scan(&id, &number); err != nil {
			return nil, fmt.Errorf("read folders: %w", err)
		}
		a.numbers[id] = number
	}
	return a.numbers, rows.Err()
}

// folder saves one folder; same says that only its cursor or node changed.
func (a *applier) folder(ctx context.Context, f engine.FolderState, same bool) error {
	number, ok := a.numbers[f.ID]
	if !ok {
		number = int64(len(a.numbers)) + 1 // folders are never deleted from the table
		a.numbers[f.ID] = number
	}
	if _, err := a.tx.ExecContext(ctx, `
		INSERT INTO catalog_folders (source, number, folder_id, cursor, node) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (source, number) DO UPDATE SET cursor = excluded.cursor, node = excluded.node`,
		a.source, number, f.ID, f.Cursor, f.Node[:]); err != nil {
		return err
	}
	if same {
		return nil
	}
	if err := a.closeFolder(ctx, number); err != nil {
		return err
	}
	_, err := a.tx.ExecContext(ctx, `
		INSERT INTO catalog_folder_states (source, folder, from_seq, to_seq, parent_id, name, well_known, hidden, items)
		VALUES ($1, $2, $3, `+untilNow+`, $4, $5, $6, $7, $8)`,
		a.source, number, a.delta.Seq, clean(f.ParentID), clean(f.Name), clean(f.WellKnown), f.Hidden, f.Items)
	return err
}

func (a *applier) closeFolder(ctx context.Context, number int64) error {
	_, err := a.tx.ExecContext(ctx, `UPDATE catalog_folder_states SET to_seq = $1 WHERE source = $2 AND folder = $3 AND to_seq = `+untilNow, a.delta.Seq, a.source, number)
	if err != nil {
		return fmt.Errorf("close folder: %w", err)
	}
	return nil
}

// forgotten makes items and records new that were forgotten since the run looked
// them up: they were only in snapshots that expired meanwhile.
func (a *applier) forgotten(ctx context.Context) error {
	var items, records []int64
	for n := range a.delta.Items {
		i := &a.delta.Items[n]
		if !i.NewItem {
			items = append(items, i.Number)
		}
		if !i.NewRecord {
			records = append(records, i.Record.Number)
		}
	}
	if len(items)+len(records) == 0 {
		return nil
	}
	knownItems, err := a.numbersIn(ctx, "catalog_items", items)
	if err != nil {
		return err
	}
	knownRecords, err := a.numbersIn(ctx, "catalog_records", records)
	if err != nil {
		return err
	}
	a.delta.Items = slices.Clone(a.delta.Items)
	for n, i := range a.delta.Items {
		a.delta.Items[n].NewItem = i.NewItem || !knownItems[i.Number]
		a.delta.Items[n].NewRecord = i.NewRecord || !knownRecords[i.Record.Number]
	}
	return nil
}

// numbersIn returns which of numbers a table of the source has.
func (a *applier) numbersIn(ctx context.Context, table string, numbers []int64) (map[int64]bool, error) {
	known := make(map[int64]bool, len(numbers))
	for part := range slices.Chunk(numbers, catalogChunk) {
		args := []any{a.source}
		for _, n := range part {
			args = append(args, n)
		}
		list, err := collect(ctx, a.tx, scanValue[int64], `SELECT number FROM `+table+` WHERE source = $1 AND number IN (`+placeholders(2, len(part))+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", table, err)
		}
		for _, n := range list {
			known[n] = true
		}
	}
	return known, nil
}

// items adds the items that are new, and points others to their new records.
func (a *applier) items(ctx context.Context) error {
	in := a.store.inserter(ctx, a.tx, `INSERT INTO catalog_items (source, number, id_hash, provider_id, record)`, `?1, ?, ?, ?, ?`, a.source)
	for n := range a.delta.Items {
		switch i := &a.delta.Items[n]; {
		case i.NewItem:
			if err := in.add(i.Number, idHash(i.ID), i.ID, i.Record.Number); err != nil {
				return fmt.Errorf("add items: %w", err)
			}
		case i.NewRecord:
			if _, err := a.tx.ExecContext(ctx, `UPDATE catalog_items SET record = $1 WHERE source = $2 AND number = $3`, i.Record.Number, a.source, i.Number); err != nil {
				return fmt.Errorf("update item: %w", err)
			}
		}
	}
	if err := in.flush(); err != nil {
		return fmt.Errorf("add items: %w", err)
	}
	return nil
}

// records adds what is new about contents.
func (a *applier) records(ctx context.Context) error {
	in := a.store.inserter(ctx, a.tx, `INSERT INTO catalog_records (source, number, item, meta, subject, sender, recipients, message_id, received_at, sent_at,
		size_bytes, provider_bytes, attachments, has_content, search)`,
		`?1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, coalesce(?, '')`, a.source)
	for n := range a.delta.Items {
		i := &a.delta.Items[n]
		if !i.NewRecord {
			continue
		}
		if err := in.add(i.Record.Number, i.Number, i.Record.Meta[:], clean(i.Subject), clean(i.From), clean(i.To), clean(i.InternetMessageID),
			millis(i.Received), millis(i.Sent), i.Record.Bytes, i.Size, i.HasAttachments, i.Record.HasContent, given(itemSearch(i.Subject, i.From, i.To))); err != nil {
			return fmt.Errorf("add records: %w", err)
		}
	}
	if err := in.flush(); err != nil {
		return fmt.Errorf("add records: %w", err)
	}
	return nil
}

// itemSearch is what a search looks into besides subject, sender and recipients
// themselves: the folded forms of those for which the databases' own lower(),
// which may know ASCII only, does not do.
func itemSearch(texts ...string) string {
	var folded []string
	for _, text := range texts {
		if strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
			folded = append(folded, strings.ToLower(clean(text)))
		}
	}
	return strings.Join(folded, "\n")
}

// clean makes any text fit for a TEXT column: PostgreSQL takes neither NUL nor
// invalid UTF-8.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// entries ends the entries that no longer hold and adds those that do.
func (a *applier) entries(ctx context.Context) error {
	ended := append([]int64(nil), a.delta.Removed...)
	for n := range a.delta.Items {
		if i := &a.delta.Items[n]; !i.NewItem {
			ended = append(ended, i.Number)
		}
	}
	for len(ended) > 0 {
		n := min(len(ended), catalogChunk)
		args := []any{a.delta.Seq, a.source}
		for _, number := range ended[:n] {
			args = append(args, number)
		}
		query := `UPDATE catalog_entries SET to_seq = $1 WHERE source = $2 AND to_seq = ` + untilNow + ` AND item IN (` + placeholders(3, n) + `)` //nolint:gosec // placeholders only
		if _, err := a.tx.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("end entries: %w", err)
		}
		ended = ended[n:]
	}
	in := a.store.inserter(ctx, a.tx, `INSERT INTO catalog_entries (source, from_seq, to_seq, item, folder, record, received_at, flags, importance, categories, version, problem, properties)`,
		`?1, ?2, `+untilNow+`, ?, ?, ?, ?, ?, coalesce(?, ''), coalesce(?, ''), ?, coalesce(?, ''), ?`, a.source, a.delta.Seq)
	for n := range a.delta.Items {
		i := &a.delta.Items[n]
		folder, ok := a.numbers[i.FolderID]
		if !ok {
			return fmt.Errorf("item %d is in folder %q: %w", i.Number, i.FolderID, backup.ErrNotFound)
		}
		var properties []byte
		if !i.Properties.IsZero() {
			properties = i.Properties[:]
		}
		if err := in.add(i.Number, folder, i.Record.Number, millis(i.Received), flagBits(i.ItemState),
			given(clean(i.Importance)), given(categoriesText(i.Categories)), clean(i.Version), given(problemText(i.Problem)), properties); err != nil {
			return fmt.Errorf("add entries: %w", err)
		}
	}
	if err := in.flush(); err != nil {
		return fmt.Errorf("add entries: %w", err)
	}
	return nil
}

// snapshot adds the snapshot and moves the mailbox to it.
func (a *applier) snapshot(ctx context.Context) error {
	d := a.delta
	if _, err := a.tx.ExecContext(ctx, `INSERT INTO catalog_snapshots (source, seq, at, items, bytes, partial) VALUES ($1, $2, $3, $4, $5, $6)`,
		a.source, d.Seq, millis(d.At), d.Totals.Items, d.Totals.Bytes, d.Partial); err != nil {
		return fmt.Errorf("add snapshot: %w", err)
	}
	if _, err := a.tx.ExecContext(ctx, `
		UPDATE catalog_sources SET seq = $1, next_number = $2, partial = $3, folder_cursor = $4, items = $5, bytes = $6, damaged = $7 WHERE number = $8`,
		d.Seq, d.NextNumber, d.Partial, d.FolderCursor, d.Totals.Items, d.Totals.Bytes, d.Totals.Damaged, a.source); err != nil {
		return fmt.Errorf("move source: %w", err)
	}
	return nil
}
