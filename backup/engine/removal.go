package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// removalBatch is how many items are looked up at once.
const removalBatch = 500

// concludeRemovals stages as deleted what a folder reported as gone and no
// other folder has. All folders have been read.
func (r *run) concludeRemovals(ctx context.Context) error {
	if err := r.confirmMoves(ctx); err != nil {
		return err
	}
	numbers := slices.Sorted(maps.Keys(r.pending))
	for part := range slices.Chunk(numbers, removalBatch) {
		items, err := r.itemsNow(ctx, part)
		if err != nil {
			return err
		}
		for _, item := range items {
			if item.FolderID == r.pending[item.Number] {
				r.stageRemoval(item)
			}
		}
		if err := r.maybeCheckpoint(ctx); err != nil {
			return err
		}
	}
	return nil
}

// itemsNow returns items by number, with the changes that the next commit will
// hold.
func (r *run) itemsNow(ctx context.Context, numbers []int64) ([]Item, error) {
	items, err := r.Catalog.ItemsByNumber(ctx, r.job.Org, r.job.Mailbox, numbers)
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	found := make(map[int64]bool, len(items))
	for i := range items {
		found[items[i].Number] = true
		if s := r.staged[items[i].Number]; s != nil {
			items[i] = s.current()
		}
	}
	for _, n := range numbers {
		if s := r.staged[n]; s != nil && !found[n] {
			items = append(items, s.current())
		}
	}
	return items, nil
}

// confirmMoves looks once more into the folders that were read before another
// folder reported items as gone: those items may have been moved there in
// between. Only that is taken from the answers; the cursors stay, so that the
// next run reads the rest.
func (r *run) confirmMoves(ctx context.Context) error {
	last := -1
	for i, f := range r.folders {
		if f.pending {
			last = i
		}
	}
	for i, f := range r.folders {
		if i >= last || len(r.pending) == 0 {
			return nil
		}
		if f.gone || f.next == "" {
			continue
		}
		if err := r.confirmIn(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) confirmIn(ctx context.Context, f *folder) error {
	for page, err := range r.job.Source.Changes(ctx, f.ID, f.next) {
		if errors.Is(err, ErrCursorExpired) || errors.Is(err, ErrItemGone) {
			return nil // the next run sees what it is
		}
		if err != nil {
			return fmt.Errorf("folder %s: %w", f.ID, err)
		}
		items := lastOfEach(page.Items)
		ids := make([]string, len(items))
		for i, s := range items {
			ids[i] = s.ID
		}
		known, err := r.lookup(ctx, ids)
		if err != nil {
			return err
		}
		for _, s := range items {
			item, ok := known[s.ID]
			if _, gone := r.pending[item.Number]; !ok || !gone || slices.Contains(page.Removed, s.ID) {
				continue
			}
			if err := r.sight(ctx, f, s, known, &bitset{}); err != nil {
				return err
			}
		}
	}
	return r.wait()
}
