package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// aheadIndex finds the metadata of a commit that the catalog has not taken in
// yet, so that all of the commit is one transaction.
type aheadIndex struct {
	catalog interface {
		Locate(ctx context.Context, tenant string, ids []repo.PieceID) (map[repo.PieceID]repo.Location, error)
	}
	objects map[repo.PieceID]repo.Location
}

func (a *aheadIndex) know(objects []repo.Object) {
	a.objects = make(map[repo.PieceID]repo.Location, len(objects)/2)
	for _, o := range objects {
		if o.Kind == repo.PackMeta {
			a.objects[o.ID] = o.Location
		}
	}
}

// Locate implements repo.Index.
func (a *aheadIndex) Locate(ctx context.Context, tenant string, ids []repo.PieceID) (map[repo.PieceID]repo.Location, error) {
	found := make(map[repo.PieceID]repo.Location, len(ids))
	var rest []repo.PieceID
	for _, id := range ids {
		if at, ok := a.objects[id]; ok {
			found[id] = at
		} else {
			rest = append(rest, id)
		}
	}
	if len(rest) == 0 {
		return found, nil
	}
	older, err := a.catalog.Locate(ctx, tenant, rest)
	maps.Copy(found, older)
	return found, err
}

// ingest takes a commit in that the catalog lacks.
func (e *Engine) ingest(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, c repo.Commit, ahead *aheadIndex) error {
	objects, err := e.objects(ctx, org, string(mailbox), c.Packs)
	if err != nil {
		return err
	}
	ahead.know(objects)
	head, err := e.Catalog.Head(ctx, org, mailbox)
	if err != nil {
		return fmt.Errorf("read the newest snapshot: %w", err)
	}
	in := ingester{Engine: e, org: org, mailbox: mailbox, known: head.NextNumber, meta: e.blobs(org, mailbox), now: map[int64]Item{}, gone: map[int64]bool{}}
	d, err := in.delta(ctx, head, c)
	if err != nil {
		return err
	}
	d.Objects = objects
	return e.Catalog.ApplyCommit(ctx, org, mailbox, d)
}

// ingester finds the difference between the catalog and a commit.
type ingester struct {
	*Engine
	org     backup.OrgID
	mailbox backup.MailboxID
	known   int64 // the catalog has no item from this number on
	meta    metadata
	now     map[int64]Item // entries that are new or changed
	gone    map[int64]bool // items that are no longer where they were
}

func (in *ingester) delta(ctx context.Context, head Head, c repo.Commit) (Delta, error) {
	var top root
	if err := decode(ctx, in.meta, kindRoot, c.Root, &top); err != nil {
		return Delta{}, err
	}
	d := Delta{Seq: c.Seq, Gap: c.Seq - head.Seq - 1, At: c.At, Partial: c.Partial, NextNumber: top.NextNumber, FolderCursor: top.FolderCursor,
		Totals: Totals{Items: top.Items, Bytes: top.Bytes, Damaged: top.Damaged}}
	old := make(map[string]FolderState, len(head.Folders))
	same := map[repo.MetaID]string{}
	for _, f := range head.Folders {
		old[f.ID], same[f.Node] = f, f.ID
	}
	for _, id := range top.Folders {
		if folder, ok := same[id]; ok {
			delete(old, folder)
			continue
		}
		n, err := readNode(ctx, in.meta, id)
		if err != nil {
			return d, err
		}
		if err := in.folder(ctx, old[n.FolderID].Node, n); err != nil {
			return d, fmt.Errorf("folder %s: %w", n.FolderID, err)
		}
		delete(old, n.FolderID)
		d.Folders = append(d.Folders, n.state(id))
	}
	for id, f := range old {
		d.RemovedFolders = append(d.RemovedFolders, id)
		if err := in.folder(ctx, f.Node, node{}); err != nil {
			return d, fmt.Errorf("folder %s: %w", id, err)
		}
	}
	slices.Sort(d.RemovedFolders)
	return d, in.items(ctx, &d)
}

// folder notes how a folder differs from its old node.
func (in *ingester) folder(ctx context.Context, old repo.MetaID, n node) error {
	var before node
	if !old.IsZero() {
		var err error
		if before, err = readNode(ctx, in.meta, old); err != nil {
			return err
		}
	}
	return diffPages(ctx, in.meta, before.Pages, n.Pages, func(e entry) error {
		item := Item{ItemState: ItemState{FolderID: n.FolderID}}
		e.fill(&item)
		in.now[e.Item] = item
		return nil
	}, func(item int64) { in.gone[item] = true })
}

// items completes d with the items that differ.
func (in *ingester) items(ctx context.Context, d *Delta) error {
	numbers := make([]int64, 0, len(in.now))
	for n := range in.now {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for part := range slices.Chunk(numbers, removalBatch) {
		old, _ := slices.BinarySearch(part, in.known)
		list, err := in.Catalog.ItemsByNumber(ctx, in.org, in.mailbox, part[:old])
		if err != nil {
			return fmt.Errorf("read items: %w", err)
		}
		known := make(map[int64]Item, len(list))
		for _, item := range list {
			known[item.Number] = item
		}
		changes, err := in.changes(ctx, part, known)
		if err != nil {
			return err
		}
		d.Items = append(d.Items, changes...)
	}
	for n := range in.gone {
		if _, moved := in.now[n]; !moved {
			d.Removed = append(d.Removed, n)
		}
	}
	slices.SortFunc(d.Removed, cmp.Compare)
	return nil
}

// changes completes items from what the catalog knows of them, or from their
// records.
func (in *ingester) changes(ctx context.Context, numbers []int64, known map[int64]Item) ([]ItemChange, error) {
	list := make([]ItemChange, len(numbers))
	var fresh []*ItemChange
	var ids []repo.MetaID
	for i, n := range numbers {
		now, old := in.now[n], known[n]
		list[i] = ItemChange{Item: now, NewItem: old.Number == 0, NewRecord: old.Record.Meta != now.Record.Meta}
		if list[i].NewRecord {
			fresh, ids = append(fresh, &list[i]), append(ids, now.Record.Meta)
			continue
		}
		list[i].Record, list[i].ItemState = old.Record, withState(old, now.ItemState).ItemState
	}
	records, err := in.Repo.ReadMetas(ctx, string(in.org), string(in.mailbox), kindRecord, ids)
	if err != nil {
		return nil, fromRepository(err)
	}
	for i, c := range fresh {
		if err := c.fill(records[i]); err != nil {
			return nil, fmt.Errorf("item %d: %w", c.Number, err)
		}
	}
	return list, nil
}

// fill completes c from its record.
func (c *ItemChange) fill(data []byte) error {
	var rec itemRecord
	if err := decoding.Unmarshal(data, &rec); err != nil {
		return fromRepository(fmt.Errorf("record %s: %w: %w", c.Record.Meta, err, repo.ErrDamaged))
	}
	if rec.Item != c.Number || rec.Number <= 0 {
		return fromRepository(fmt.Errorf("record %s is of another item: %w", c.Record.Meta, repo.ErrDamaged))
	}
	rec.fill(&c.ItemState)
	c.Record.Number = rec.Number
	if rec.Content != nil {
		c.Record.Bytes, c.Record.HasContent = rec.Content.Size, true
	}
	return nil
}
