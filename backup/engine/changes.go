package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"holdfast/backup/repo"
)

// readFolder reads what changed in a folder, or all of it if the provider no
// longer knows the cursor.
func (r *run) readFolder(ctx context.Context, f *folder) error {
	err := r.readChanges(ctx, f, f.Cursor)
	if errors.Is(err, ErrCursorExpired) && f.Cursor != "" {
		r.progress.expect(f.Items)
		err = r.readChanges(ctx, f, "")
	}
	if err == nil {
		r.progress.folderDone()
	}
	return err
}

func (r *run) readChanges(ctx context.Context, f *folder, cursor string) error {
	full := cursor == ""
	listed := &bitset{}
	f.next, f.doubt = "", false
	for page, err := range ahead(ctx, func(ctx context.Context) iter.Seq2[Page, error] { return r.job.Source.Changes(ctx, f.ID, cursor) }) {
		if err != nil {
			return err
		}
		full = full || page.Full
		if !full {
			r.progress.expect(int64(len(page.Items)))
		}
		if err := r.readPage(ctx, f, page, listed); err != nil {
			return err
		}
		if page.Cursor != "" {
			f.next = page.Cursor
		}
		if err := r.maybeCheckpoint(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if full {
		if err := r.allPending(ctx, f, listed); err != nil {
			return err
		}
	}
	if f.doubt {
		f.next = "" // the next run lists the folder and sees what is true
	}
	f.done = true
	return nil
}

// ahead yields what list does, and asks for the next page while the caller works
// through the one before.
func ahead(ctx context.Context, list func(context.Context) iter.Seq2[Page, error]) iter.Seq2[Page, error] {
	type result struct {
		page Page
		err  error
	}
	return func(yield func(Page, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		pages := make(chan result)
		var listing sync.WaitGroup
		defer listing.Wait()
		defer cancel()
		listing.Go(func() {
			defer close(pages)
			for page, err := range list(ctx) {
				select {
				case pages <- result{page, err}:
				case <-ctx.Done():
					return
				}
			}
		})
		for r := range pages {
			if !yield(r.page, r.err) {
				return
			}
		}
	}
}

// readPage works through a page of changes.
func (r *run) readPage(ctx context.Context, f *folder, page Page, listed *bitset) error {
	items := lastOfEach(page.Items)
	ids := slices.Clone(page.Removed)
	for _, s := range items {
		ids = append(ids, s.ID)
	}
	known, err := r.lookup(ctx, ids)
	if err != nil {
		return err
	}
	r.expect(ctx, items, known)
	present := make(map[string]bool, len(items))
	for _, s := range items {
		present[s.ID] = true
		if slices.Contains(page.Removed, s.ID) {
			// The page does not say which came last.
			f.doubt = true
			if item, ok := known[s.ID]; ok && r.seen.has(item.Number) && item.FolderID != f.ID && item.FolderID != "" {
				continue
			}
		}
		if err := r.sight(ctx, f, s, known, listed); err != nil {
			return err
		}
	}
	for _, id := range page.Removed {
		if item, ok := known[id]; ok && !present[id] {
			r.unsight(f, item)
		}
	}
	return r.failed()
}

// expect tells a Source that reads ahead which items are new.
func (r *run) expect(ctx context.Context, items []ItemState, known map[string]Item) {
	source, ok := r.job.Source.(Expecter)
	if !ok {
		return
	}
	fresh := slices.Clone(items)
	source.Expect(ctx, slices.DeleteFunc(fresh, func(s ItemState) bool { _, ok := known[s.ID]; return ok }))
}

// lastOfEach returns the last state of each item, since a page may have several.
func lastOfEach(items []ItemState) []ItemState {
	at := make(map[string]int, len(items))
	out := make([]ItemState, 0, len(items))
	for _, s := range items {
		if i, ok := at[s.ID]; ok {
			out[i] = s
			continue
		}
		at[s.ID] = len(out)
		out = append(out, s)
	}
	return out
}

// lookup returns the items that are known under ids, with the changes that the
// next commit will hold.
func (r *run) lookup(ctx context.Context, ids []string) (map[string]Item, error) {
	if r.anyInFlight(ids) {
		if err := r.wait(); err != nil {
			return nil, err
		}
	}
	known := make(map[string]Item, len(ids))
	if len(ids) == 0 {
		return known, nil
	}
	list, err := r.Catalog.KnownItems(ctx, r.job.Org, r.job.Mailbox, ids)
	if err != nil {
		return nil, fmt.Errorf("look items up: %w", err)
	}
	for _, item := range list {
		known[item.ID] = item
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if number, ok := r.stagedID[id]; ok {
			known[id] = r.staged[number].current()
		}
	}
	return known, nil
}

// current is the item as the next commit will have it.
func (s *staged) current() Item {
	item := s.now.Item
	if s.removed {
		item.FolderID = ""
	}
	return item
}

func (r *run) anyInFlight(ids []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(ids, func(id string) bool { return r.inFlight[id] })
}

// sight works on an item that a folder reports as being in it.
func (r *run) sight(ctx context.Context, f *folder, s ItemState, known map[string]Item, listed *bitset) error {
	s = cleanState(s)
	s.FolderID = f.ID
	item, ok := known[s.ID]
	if !ok {
		item = Item{Number: r.number()}
	} else if s.Version != "" && s.Version == item.Version {
		s = withHeader(s, item.ItemState)
	}
	r.keepOtherPlace(f, item)
	r.seen.set(item.Number)
	listed.set(item.Number)
	delete(r.pending, item.Number)
	if !ok {
		return r.fetch(ctx, item, s)
	}
	fetch, changed := compare(item, s)
	switch {
	case fetch || !item.Problem.IsZero():
		return r.fetch(ctx, item, s)
	case changed:
		r.progress.item()
		return r.stageState(ctx, item, s)
	}
	r.progress.item()
	return nil
}

// keepOtherPlace remembers where another folder reported the item earlier in
// this run, in case f's report turns out to be older.
func (r *run) keepOtherPlace(f *folder, item Item) {
	if !r.seen.has(item.Number) {
		return
	}
	others := slices.DeleteFunc(r.elsewhere[item.Number], func(p place) bool { return p.folder == f.ID })
	if item.FolderID != "" && item.FolderID != f.ID {
		others = append(others, place{item.FolderID, item.ItemState})
	}
	if len(others) > 0 {
		r.elsewhere[item.Number] = others
	} else {
		delete(r.elsewhere, item.Number)
	}
}

// unsight works on an item that a folder reports as no longer being in it. That
// it is deleted is concluded only when all folders were read.
func (r *run) unsight(f *folder, item Item) {
	others := slices.DeleteFunc(r.elsewhere[item.Number], func(p place) bool { return p.folder == f.ID })
	if item.FolderID != f.ID {
		return
	}
	if n := len(others); n > 0 {
		back := others[n-1]
		r.elsewhere[item.Number] = others[:n-1]
		now := withState(item, back.state)
		now.FolderID = back.folder
		r.stage(item, ItemChange{Item: now})
		return
	}
	f.pending = true
	r.pending[item.Number] = f.ID
}

// stageState stages a change that the content has no part in. The provider's
// properties are kept as they are now, since they say more than we read.
func (r *run) stageState(ctx context.Context, item Item, s ItemState) error {
	now := withState(item, s)
	if len(s.Properties) > 0 {
		id, err := r.putMeta(ctx, kindProperties, s.Properties)
		if err != nil {
			return err
		}
		now.Properties = id
	}
	r.stage(item, ItemChange{Item: now})
	return nil
}

// stage keeps a change for the next commit and returns what was staged for the
// item before, if anything.
func (r *run) stage(old Item, now ItemChange) (*staged, *staged) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.staged[now.Number]
	s := &staged{old: old, now: now}
	if before != nil {
		s.old, s.now.NewItem, s.now.NewRecord = before.old, before.now.NewItem, before.now.NewRecord || now.NewRecord
	}
	r.staged[now.Number] = s
	r.stagedID[now.ID] = now.Number
	return s, before
}

// stageRemoval keeps for the next commit that an item is gone.
func (r *run) stageRemoval(item Item) {
	s, _ := r.stage(item, ItemChange{Item: item})
	s.removed = true
}

// number gives the next number of an item or record.
func (r *run) number() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return r.next - 1
}

// allPending marks the items of a folder that are not in listed as gone from it;
// nil means all.
func (r *run) allPending(ctx context.Context, f *folder, listed *bitset) error {
	numbers, err := r.Catalog.FolderItems(ctx, r.job.Org, r.job.Mailbox, f.ID)
	if err != nil {
		return fmt.Errorf("read items of folder %s: %w", f.ID, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for number, s := range r.staged {
		if s.current().FolderID == f.ID {
			numbers = append(numbers, number)
		}
	}
	for _, number := range numbers {
		if listed == nil || !listed.has(number) {
			r.pending[number] = f.ID
			f.pending = true
		}
	}
	return nil
}

// putMeta writes metadata to the run's writer.
func (r *run) putMeta(ctx context.Context, kind byte, data []byte) (repo.MetaID, error) {
	w, err := r.openWriter(ctx)
	if err != nil {
		return repo.MetaID{}, err
	}
	id, err := w.PutMeta(ctx, kind, data)
	if err != nil {
		return repo.MetaID{}, fromRepository(err)
	}
	return id, nil
}
