package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// Snapshots returns the snapshots of a mailbox, newest first.
func (s *Store) Snapshots(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) ([]backup.Snapshot, error) {
	list, err := collect(ctx, s.read, func(row scanner) (backup.Snapshot, error) {
		var v backup.Snapshot
		var at int64
		err := row.Scan(&v.Seq, &at, &v.Items, &v.Bytes, &v.Partial)
		v.At = moment(at)
		return v, err
	}, `
		SELECT n.seq, n.at, n.items, n.bytes, n.partial FROM catalog_sources c JOIN catalog_snapshots n ON n.source = c.number
		WHERE c.org_id = $1 AND c.mailbox_id = $2 AND n.expired = FALSE ORDER BY n.seq DESC`, org, mailbox)
	if err != nil {
		return nil, fmt.Errorf("read snapshots: %w", err)
	}
	return list, nil
}

// SnapshotAt returns the number of the newest snapshot that is not younger than
// t, and ErrNotFound if there is none.
func (s *Store) SnapshotAt(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, t time.Time) (int64, error) {
	seq, err := one(ctx, s.read, scanValue[int64], `
		SELECT n.seq FROM catalog_sources c JOIN catalog_snapshots n ON n.source = c.number
		WHERE c.org_id = $1 AND c.mailbox_id = $2 AND n.expired = FALSE AND n.at <= $3 ORDER BY n.seq DESC LIMIT 1`, org, mailbox, millis(t))
	if err != nil {
		return 0, fmt.Errorf("find snapshot: %w", err)
	}
	return seq, nil
}

// snapshotSource finds the number of a mailbox that has snapshot seq, and
// ErrNotFound if it has not.
func (s *Store) snapshotSource(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64) (int64, error) {
	number, err := one(ctx, s.read, scanValue[int64], `
		SELECT c.number FROM catalog_sources c JOIN catalog_snapshots n ON n.source = c.number AND n.seq = $3 AND n.expired = FALSE
		WHERE c.org_id = $1 AND c.mailbox_id = $2`, org, mailbox, seq)
	if err != nil {
		return 0, fmt.Errorf("find snapshot %d: %w", seq, err)
	}
	return number, nil
}

// Folders returns the folders of a snapshot, in the order in which they were
// first seen. A folder whose parent is not in the snapshot is a top folder.
func (s *Store) Folders(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64) ([]backup.Folder, error) {
	source, err := s.snapshotSource(ctx, org, mailbox, seq)
	if err != nil {
		return nil, err
	}
	list, err := collect(ctx, s.read, func(row scanner) (backup.Folder, error) {
		var f backup.Folder
		err := row.Scan(&f.ID, &f.ParentID, &f.Name, &f.WellKnown, &f.Hidden, &f.Items)
		return f, err
	}, `
		SELECT f.folder_id, t.parent_id, t.name, t.well_known, t.hidden, t.items
		FROM catalog_folder_states t JOIN catalog_folders f ON f.source = t.source AND f.number = t.folder
		WHERE t.source = $1 AND t.to_seq > $2 AND t.from_seq <= $2 ORDER BY f.number`, source, seq)
	if err != nil {
		return nil, fmt.Errorf("read folders: %w", err)
	}
	there := make(map[string]bool, len(list))
	for _, f := range list {
		there[f.ID] = true
	}
	for i := range list {
		if !there[list[i].ParentID] {
			list[i].ParentID = ""
		}
	}
	return list, nil
}

// ItemQuery says which items of a snapshot to list.
type ItemQuery struct {
	FolderID string // "" for all folders
	Search   string // words, each of subject, sender or recipients, in any case; "" for all
	Page     int    // from 1
	PageSize int    // at most 10000; 0 is 50
}

const itemColumns = `e.item, i.provider_id, f.folder_id, e.flags, e.importance, e.categories,
	r.number, r.meta, r.subject, r.sender, r.recipients, r.received_at, r.sent_at, r.size_bytes, r.provider_bytes, r.attachments, r.has_content`

const itemJoins = `
	FROM catalog_entries e
	JOIN catalog_records r ON r.source = e.source AND r.number = e.record
	JOIN catalog_items i ON i.source = e.source AND i.number = e.item
	JOIN catalog_folders f ON f.source = e.source AND f.number = e.folder `

func scanItem(row scanner) (backup.Item, error) {
	var i backup.Item
	var record engine.Record
	var number, flags, received, sent, providerBytes int64
	var categories string
	var meta []byte
	err := row.Scan(&number, &i.ProviderID, &i.FolderID, &flags, &i.Importance, &categories,
		&record.Number, &meta, &i.Subject, &i.From, &i.To, &received, &sent, &i.SizeBytes, &providerBytes, &i.HasAttachments, &record.HasContent)
	copy(record.Meta[:], meta)
	i.ID, i.ReceivedAt, i.SentAt, i.Categories = record.ID(), moment(received), moment(sent), categoriesOf(categories)
	i.Read, i.Draft, i.Flagged = flags&flagRead != 0, flags&flagDraft != 0, flags&flagFlagged != 0
	if i.Damaged = !record.HasContent; i.Damaged {
		i.SizeBytes = providerBytes
	}
	return i, err
}

// Items returns a page of the items of a snapshot, newest first, and how many
// there are in all.
func (s *Store) Items(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64, q ItemQuery) ([]backup.Item, int64, error) {
	source, err := s.snapshotSource(ctx, org, mailbox, seq)
	if err != nil {
		return nil, 0, err
	}
	at := itemsAt{source: source, seq: seq}
	if q.FolderID != "" {
		at.folder, err = one(ctx, s.read, scanValue[int64], `SELECT number FROM catalog_folders WHERE source = $1 AND folder_id = $2`, source, q.FolderID)
		if errors.Is(err, backup.ErrNotFound) {
			return nil, 0, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("find folder: %w", err)
		}
	}
	query, args := q.countSQL(at)
	total, err := one(ctx, s.read, scanValue[int64], query, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("count items: %w", err)
	}
	if total == 0 {
		return nil, 0, nil
	}
	query, args = q.pageSQL(at)
	items, err := collect(ctx, s.read, scanItem, query, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("read items: %w", err)
	}
	return items, total, nil
}

// itemsAt is where Items looks; folder 0 is all folders.
type itemsAt struct{ source, seq, folder int64 }

// where returns the conditions of a query with their arguments.
func (q ItemQuery) where(at itemsAt) (string, []any) {
	where, args := ` WHERE e.source = $1 AND e.from_seq <= $2 AND e.to_seq > $2`, []any{at.source, at.seq}
	if at.folder != 0 {
		args = append(args, at.folder)
		where += ` AND e.folder = $3`
	}
	words, args := matchWords(searchWords(q.Search), args)
	return where + words, args
}

func (q ItemQuery) searches() bool { return len(searchWords(q.Search)) > 0 }

// countSQL is the statement that counts what Items pages through. Without a
// search the number stands beside the folder or the snapshot.
func (q ItemQuery) countSQL(at itemsAt) (string, []any) {
	switch {
	case q.searches():
		where, args := q.where(at)
		return `SELECT count(*) FROM catalog_entries e JOIN catalog_records r ON r.source = e.source AND r.number = e.record` + where, args
	case at.folder != 0:
		return `SELECT coalesce(max(items), 0) FROM catalog_folder_states WHERE source = $1 AND from_seq <= $2 AND to_seq > $2 AND folder = $3`, []any{at.source, at.seq, at.folder}
	}
	return `SELECT items FROM catalog_snapshots WHERE source = $1 AND seq = $2`, []any{at.source, at.seq}
}

// pageSQL is the statement of one page. It finds the entries of the page in the
// index first and joins only those with the rest, unless a search has to read
// them all.
func (q ItemQuery) pageSQL(at itemsAt) (string, []any) {
	size := q.PageSize
	if size <= 0 {
		size = 50
	}
	size = min(size, 10_000)
	where, args := q.where(at)
	args = append(args, size, int64(max(q.Page-1, 0))*int64(size))
	order := fmt.Sprintf(` ORDER BY e.received_at DESC, e.item DESC LIMIT $%d OFFSET $%d`, len(args)-1, len(args))
	if q.searches() {
		return `SELECT ` + itemColumns + itemJoins + where + order, args
	}
	return `SELECT ` + itemColumns + ` FROM (SELECT e.source AS at_source, e.item AS at_item, e.from_seq AS at_seq FROM catalog_entries e` + where + order + `) p
		JOIN catalog_entries e ON e.source = p.at_source AND e.item = p.at_item AND e.from_seq = p.at_seq
		JOIN catalog_records r ON r.source = e.source AND r.number = e.record
		JOIN catalog_items i ON i.source = e.source AND i.number = e.item
		JOIN catalog_folders f ON f.source = e.source AND f.number = e.folder
		ORDER BY e.received_at DESC, e.item DESC`, args
}

// Item returns an item of a snapshot, and ErrNotFound if it is not in it.
func (s *Store) Item(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64, id backup.ItemID) (backup.Item, error) {
	record, err := s.ItemRecord(ctx, org, mailbox, id)
	if err != nil {
		return backup.Item{}, err
	}
	source, err := s.snapshotSource(ctx, org, mailbox, seq)
	if err != nil {
		return backup.Item{}, err
	}
	item, err := one(ctx, s.read, scanItem, `SELECT `+itemColumns+itemJoins+`
		WHERE r.source = $1 AND r.number = $2 AND e.item = r.item AND e.from_seq <= $3 AND e.to_seq > $3`, source, record.Number, seq)
	if err != nil {
		return backup.Item{}, fmt.Errorf("read item %s: %w", id, err)
	}
	return item, nil
}
