package engine

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"holdfast/backup/repo"
)

// leftover finds what is left of a commit.
type leftover struct {
	ingester
	head    Head
	folders map[string]FolderState // as they will be
	doubt   bool                   // a part of the tree is lost, so nothing is taken for deleted
	lost    int                    // messages that are known to be left out
}

func (l *leftover) how() string {
	how := "a part of its folder lists is lost"
	if !l.doubt {
		how = fmt.Sprintf("the records of %d messages that it brought are lost", l.lost)
	} else if l.lost > 0 {
		how += fmt.Sprintf(", with at least %d messages that it brought", l.lost)
	}
	return how + "; the next backup reads them from the provider, if it still has them"
}

// delta is the difference between the catalog and what is left of a commit.
func (l *leftover) delta(ctx context.Context, c repo.Commit) (Delta, error) {
	var top root
	if err := decode(ctx, l.meta, kindRoot, c.Root, &top); err != nil {
		return Delta{}, err
	}
	d := Delta{Seq: c.Seq, Gap: c.Seq - l.head.Seq - 1, At: c.At, Partial: c.Partial, Totals: l.head.Totals,
		NextNumber: max(top.NextNumber, l.head.NextNumber), FolderCursor: top.FolderCursor}
	was := map[string]FolderState{}
	for _, f := range l.head.Folders {
		was[f.ID], l.folders[f.ID] = f, f
	}
	named := map[string]bool{}
	for _, id := range top.Folders {
		n, err := readNode(ctx, l.meta, id)
		if err == nil {
			named[n.FolderID] = true
			err = l.folder(ctx, id, n)
		} else if isDamage(err) {
			l.doubt, err = true, nil
		}
		if err != nil {
			return d, err
		}
	}
	for _, f := range l.head.Folders {
		if named[f.ID] {
			continue
		}
		if err := l.removed(ctx, f.ID); err != nil {
			return d, err
		}
		d.RemovedFolders = append(d.RemovedFolders, f.ID)
	}
	if err := l.items(ctx, &d); err != nil {
		return d, err
	}
	l.finish(&d, was)
	return d, nil
}

// folder notes how a folder differs from the catalog's.
func (l *leftover) folder(ctx context.Context, id repo.MetaID, n node) error {
	before, err := l.before(ctx, n.FolderID)
	if err != nil {
		return err
	}
	for i, p := range n.Pages {
		entries, err := readPage(ctx, l.meta, p)
		if isDamage(err) {
			end := int64(math.MaxInt64)
			if i+1 < len(n.Pages) {
				end = n.Pages[i+1].First
			}
			for item := range before {
				if p.First <= item && item < end {
					delete(before, item)
				}
			}
			l.doubt = true
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			item := Item{ItemState: ItemState{FolderID: n.FolderID}}
			e.fill(&item)
			l.now[e.Item] = item
			delete(before, e.Item)
		}
	}
	maps.Copy(l.gone, before)
	f := n.state(id)
	f.Items = l.folders[n.FolderID].Items // counted anew
	l.folders[n.FolderID] = f
	return nil
}

// before is what the catalog has in a folder.
func (l *leftover) before(ctx context.Context, folder string) (map[int64]bool, error) {
	numbers, err := l.Catalog.FolderItems(ctx, l.org, l.mailbox, folder)
	if err != nil {
		return nil, fmt.Errorf("read items of folder %s: %w", folder, err)
	}
	before := make(map[int64]bool, len(numbers))
	for _, n := range numbers {
		before[n] = true
	}
	return before, nil
}

func (l *leftover) removed(ctx context.Context, folder string) error {
	before, err := l.before(ctx, folder)
	maps.Copy(l.gone, before)
	return err
}

// items completes d with the items that differ and can be read.
func (l *leftover) items(ctx context.Context, d *Delta) error {
	numbers := slices.AppendSeq(slices.Collect(maps.Keys(l.now)), maps.Keys(l.gone))
	slices.Sort(numbers)
	for part := range slices.Chunk(slices.Compact(numbers), removalBatch) {
		list, err := l.Catalog.ItemsByNumber(ctx, l.org, l.mailbox, part)
		if err != nil {
			return fmt.Errorf("read items: %w", err)
		}
		known := make(map[int64]Item, len(list))
		for _, item := range list {
			known[item.Number] = item
		}
		if err := l.part(ctx, d, part, known); err != nil {
			return err
		}
	}
	return nil
}

// part completes d with a part of the items: all at once, or, if a record is lost,
// one by one.
func (l *leftover) part(ctx context.Context, d *Delta, numbers []int64, known map[int64]Item) error {
	var there []int64
	for _, n := range numbers {
		if _, ok := l.now[n]; ok {
			there = append(there, n)
		} else {
			l.remove(d, known[n])
		}
	}
	list, err := l.changes(ctx, there, known)
	if isDamage(err) && len(there) > 1 {
		for _, n := range there {
			if err := l.part(ctx, d, []int64{n}, known); err != nil {
				return err
			}
		}
		return nil
	}
	if isDamage(err) { // what was known of the item stays, where it was not taken away
		if l.lost++; l.gone[there[0]] {
			l.remove(d, known[there[0]])
		}
		return nil
	}
	for _, c := range list {
		old := known[c.Number]
		if sameItem(old, c.Item) {
			continue
		}
		if old.FolderID != "" {
			l.count(d, old, -1)
		}
		l.count(d, c.Item, 1)
		d.Items = append(d.Items, c)
	}
	return err
}

// remove takes an item out of the snapshot, if all of the tree says so.
func (l *leftover) remove(d *Delta, old Item) {
	if !l.doubt && old.FolderID != "" {
		l.count(d, old, -1)
		d.Removed = append(d.Removed, old.Number)
	}
}

// count adds an item to the sums, or takes it out of them.
func (l *leftover) count(d *Delta, item Item, n int64) {
	d.Totals.add(item, n)
	f := l.folders[item.FolderID]
	f.Items += n
	l.folders[item.FolderID] = f
}

// finish says how the folders are after the commit. If something is lost, the next
// run begins where the snapshot before was.
func (l *leftover) finish(d *Delta, was map[string]FolderState) {
	whole := !l.doubt && l.lost == 0
	if !whole {
		d.Partial, d.FolderCursor = true, l.head.FolderCursor
	}
	if l.doubt {
		d.RemovedFolders = nil
	}
	for _, id := range slices.Sorted(maps.Keys(l.folders)) {
		f := l.folders[id]
		if !whole {
			f.Cursor = was[id].Cursor
		}
		if f != was[id] && !slices.Contains(d.RemovedFolders, id) {
			d.Folders = append(d.Folders, f)
		}
	}
}
