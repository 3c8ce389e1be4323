package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// ProblemLost is what people read of a message that damage took, until the next
// run has read it again.
const ProblemLost = "Damage in the backup storage took this message, or a part of it. The next backup reads it again from the provider, if it is still there."

// treeMender writes snapshots of a mailbox anew from the catalog.
type treeMender struct {
	*Engine
	org     backup.OrgID
	mailbox backup.MailboxID
	meta    metadata
	ok      map[repo.MetaID]bool // what was looked at, and whether it can be read
	stubs   map[int64][]byte     // records, by number, that take the place of lost ones
	instead map[int64]Record     // records, by number, that take the place of others
	lost    []LostItem
	newest  Restated
}

func newTreeMender(e *Engine, org backup.OrgID, mailbox backup.MailboxID) *treeMender {
	return &treeMender{Engine: e, org: org, mailbox: mailbox, meta: e.blobs(org, mailbox), ok: map[repo.MetaID]bool{}, stubs: map[int64][]byte{}, instead: map[int64]Record{}}
}

// findLost finds the records that are nowhere, and makes those that take their
// place: they have what the catalog knows, and no content.
func (t *treeMender) findLost(ctx context.Context, m *mender) error {
	var w *repo.Writer
	defer func() {
		if w != nil {
			w.Abort()
		}
	}()
	return m.eachRecord(ctx, t.mailbox, func(item Item) error {
		there, err := t.there(ctx, item.Record.Meta)
		if err != nil || there {
			return err
		}
		data, err := encoding.Marshal(recordOf(item.Record.Number, item.Number, item.ItemState, nil))
		if err != nil {
			return fmt.Errorf("encode record %d: %w", item.Record.Number, err)
		}
		if w == nil {
			if w, err = t.Repo.NewWriter(ctx, string(t.org), string(t.mailbox)); err != nil {
				return fromRepository(err)
			}
		}
		id, err := w.PutMeta(ctx, kindRecord, data) // for its name: what needs it writes it
		if err != nil {
			return fromRepository(err)
		}
		now := Record{Number: item.Record.Number, Meta: id}
		t.stubs[now.Number] = data
		t.newest.Records = append(t.newest.Records, now)
		t.lost = append(t.lost, LostItem{Mailbox: t.mailbox, Was: item.Record.ID(), Record: now})
		return nil
	})
}

// there says whether the index knows a metadata blob.
func (t *treeMender) there(ctx context.Context, id repo.MetaID) (bool, error) {
	found, err := t.Repo.Locate(ctx, string(t.org), []repo.PieceID{repo.PieceID(id)})
	return len(found) > 0, err
}

// readable says whether a snapshot can be read: its commit, its tree, and the
// records that this names. Of the newest, what the catalog takes for its nodes has
// to be readable too, since runs begin from that.
func (t *treeMender) readable(ctx context.Context, seq int64, newest bool) (bool, error) {
	err := t.read(ctx, seq, newest)
	if isDamage(err) {
		return false, nil
	}
	return err == nil, err
}

func (t *treeMender) read(ctx context.Context, seq int64, newest bool) error {
	c, err := t.Repo.Commit(ctx, string(t.org), string(t.mailbox), seq)
	if err != nil {
		return fromRepository(err)
	}
	var top root
	if err := decode(ctx, t.meta, kindRoot, c.Root, &top); err != nil {
		return err
	}
	folders := top.Folders
	if newest {
		head, err := t.Catalog.Head(ctx, t.org, t.mailbox)
		if err != nil {
			return err
		}
		for _, f := range head.Folders {
			folders = append(folders, f.Node)
		}
	}
	for _, id := range folders {
		if err := t.once(id, func() error { return t.readNode(ctx, id) }); err != nil {
			return err
		}
	}
	return nil
}

// once looks at something that several snapshots have.
func (t *treeMender) once(id repo.MetaID, look func() error) error {
	ok, known := t.ok[id]
	switch {
	case known && ok:
		return nil
	case known:
		return fmt.Errorf("metadata %s: %w", id, repo.ErrDamaged)
	}
	err := look()
	if err == nil || isDamage(err) {
		t.ok[id] = err == nil
	}
	return err
}

func (t *treeMender) readNode(ctx context.Context, id repo.MetaID) error {
	n, err := readNode(ctx, t.meta, id)
	if err != nil {
		return err
	}
	for _, p := range n.Pages {
		err := t.once(p.ID, func() error {
			entries, err := readPage(ctx, t.meta, p)
			if err != nil {
				return err
			}
			return t.readEntries(ctx, entries)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readEntries says whether what entries name is there.
func (t *treeMender) readEntries(ctx context.Context, entries []pageEntry) error {
	ids := make([]repo.PieceID, 0, len(entries))
	for _, e := range entries {
		ids = append(ids, repo.PieceID(e.Record))
		if e.Properties != nil {
			ids = append(ids, repo.PieceID(*e.Properties))
		}
	}
	found, err := t.Repo.Locate(ctx, string(t.org), ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, ok := found[id]; !ok {
			return fmt.Errorf("metadata %s: %w", id, repo.ErrDamaged)
		}
	}
	return nil
}

// rewrite writes a snapshot anew as the catalog has it. One that an object lock
// keeps as it is is repo.ErrRetained; what its tree lacked is there then all the
// same, as far as it comes out as it was, and runs go on from it.
func (t *treeMender) rewrite(ctx context.Context, seq int64) error {
	d, err := t.Catalog.SnapshotTree(ctx, t.org, t.mailbox, seq)
	if err != nil {
		return err
	}
	since := time.Now().Round(0)
	w, err := t.Repo.NewWriter(ctx, string(t.org), string(t.mailbox))
	if err != nil {
		return fromRepository(err)
	}
	defer w.Abort()
	w.Alone()
	m := t.blobs(t.org, t.mailbox)
	m.put = w.PutMeta
	top := root{FolderCursor: d.FolderCursor, NextNumber: d.NextNumber, Items: d.Totals.Items, Bytes: d.Totals.Bytes}
	nodes := map[string]repo.MetaID{}
	for _, f := range d.Folders {
		id, damaged, err := t.folder(ctx, m, seq, f)
		if err != nil {
			return fmt.Errorf("folder %s: %w", f.ID, err)
		}
		nodes[f.ID] = id
		top.Folders = append(top.Folders, id)
		top.Damaged += damaged
	}
	id, err := writeMeta(ctx, m, kindRoot, top)
	if err != nil {
		return err
	}
	old, err := t.Repo.Commit(ctx, string(t.org), string(t.mailbox), seq)
	if err != nil && !isDamage(err) {
		return fromRepository(err)
	}
	done, err := w.Recommit(ctx, repo.Commit{Seq: seq, At: d.At, Root: id, Partial: d.Partial, Since: since}, old.Packs)
	if err != nil && !errors.Is(err, repo.ErrRetained) {
		return fromRepository(err)
	}
	t.newest.Seq, t.newest.Nodes = seq, nodes // the last one counts
	return errors.Join(fromRepository(err), t.Catalog.AddObjects(context.WithoutCancel(ctx), t.org, done.Objects))
}

// folder writes a folder's pages and node.
func (t *treeMender) folder(ctx context.Context, m metadata, seq int64, f FolderState) (id repo.MetaID, damaged int64, err error) {
	n := node{FolderID: f.ID, ParentID: f.ParentID, Name: f.Name, WellKnown: f.WellKnown, Hidden: f.Hidden, Cursor: f.Cursor}
	for after := int64(0); ; {
		items, err := t.Catalog.SnapshotItems(ctx, t.org, t.mailbox, seq, f.ID, after, mendBatch)
		if err != nil {
			return id, 0, err
		}
		if len(items) == 0 {
			break
		}
		after = items[len(items)-1].Number
		entries := make([]pageEntry, len(items))
		for i, item := range items {
			e, err := t.entry(ctx, m, item)
			if err != nil {
				return id, 0, err
			}
			if e.Problem != nil {
				damaged++
			}
			raw, err := encoding.Marshal(e)
			if err != nil {
				return id, 0, fmt.Errorf("encode entry %d: %w", item.Number, err)
			}
			entries[i] = pageEntry{entry: e, raw: cbor.RawMessage(raw)}
		}
		refs, err := writePages(ctx, m, entries, true)
		if err != nil {
			return id, 0, err
		}
		n.Pages = append(n.Pages, refs...)
	}
	id, err = writeMeta(ctx, m, kindNode, n)
	return id, damaged, err
}

// entry is an item as its page has it, with what takes the place of what is lost.
func (t *treeMender) entry(ctx context.Context, m metadata, item Item) (entry, error) {
	if by, ok := t.instead[item.Record.Number]; ok {
		data, err := m.read(ctx, kindRecord, by.Meta)
		if err != nil {
			return entry{}, err
		}
		if _, err := m.write(ctx, kindRecord, data); err != nil {
			return entry{}, fromRepository(err)
		}
		item.Record, item.Problem = by, backup.Problem{}
	}
	if data, ok := t.stubs[item.Record.Number]; ok {
		id, err := m.write(ctx, kindRecord, data)
		if err != nil {
			return entry{}, fromRepository(err)
		}
		item.Record.Meta = id
		if item.Problem.IsZero() {
			item.Problem = t.problemLost()
		}
	}
	if !item.Properties.IsZero() {
		there, err := t.there(ctx, item.Properties)
		if err != nil {
			return entry{}, err
		}
		if !there {
			t.newest.Properties = append(t.newest.Properties, item.Properties)
			item.Properties = repo.MetaID{}
		}
	}
	return entryOf(item), nil
}

func (t *treeMender) problemLost() backup.Problem {
	if t.newest.Problem.IsZero() {
		t.newest.Problem = backup.Problem{Kind: backup.ProblemDamaged, Text: ProblemLost, At: time.UnixMilli(time.Now().UnixMilli()).UTC()}
	}
	return t.newest.Problem
}

// restate tells the catalog what was written anew.
func (t *treeMender) restate(ctx context.Context) error {
	if len(t.newest.Nodes) == 0 && len(t.newest.Records) == 0 {
		return nil
	}
	t.problemLost()
	return t.Catalog.Restate(context.WithoutCancel(ctx), t.org, t.mailbox, t.newest)
}

// writeMeta encodes and writes metadata of a kind.
func writeMeta(ctx context.Context, m metadata, kind byte, v any) (repo.MetaID, error) {
	data, err := encoding.Marshal(v)
	if err != nil {
		return repo.MetaID{}, fmt.Errorf("encode metadata: %w", err)
	}
	return m.write(ctx, kind, data)
}
