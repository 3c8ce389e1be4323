package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"holdfast/backup/repo"
)

// metadata reads and writes metadata of one mailbox.
type metadata interface {
	read(ctx context.Context, kind byte, id repo.MetaID) ([]byte, error)
	write(ctx context.Context, kind byte, data []byte) (repo.MetaID, error)
}

// entryChange is what happens to an item's entry in a folder. The zero entry
// means that it is no longer there.
type entryChange struct {
	item  int64
	entry *entry
}

// pageSmall is the number of entries under which a page is joined with the
// next, so that deletions don't leave a folder with a list of tiny pages.
const pageSmall = pageMax / 8

// applyChanges makes the pages of a folder from the pages it had. Pages that no
// change falls into stay as they are.
func applyChanges(ctx context.Context, m metadata, pages []pageRef, changes []entryChange) ([]pageRef, error) {
	slices.SortFunc(changes, func(a, b entryChange) int { return cmp.Compare(a.item, b.item) })
	var out []pageRef
	var carry []pageEntry // of a page that became small
	for i := 0; i < len(pages) || i == 0; i++ {
		last := i+1 >= len(pages)
		mine := changes
		if !last {
			n, _ := slices.BinarySearchFunc(changes, pages[i+1].First, func(c entryChange, first int64) int { return cmp.Compare(c.item, first) })
			mine = changes[:n]
		}
		changes = changes[len(mine):]
		if len(mine) == 0 && len(carry) == 0 {
			out = append(out, pages[i:min(i+1, len(pages))]...)
			continue
		}
		entries, err := mergePage(ctx, m, pages[i:min(i+1, len(pages))], mine)
		if err != nil {
			return nil, err
		}
		entries, carry = append(carry, entries...), nil
		if len(entries) < pageSmall && !last {
			carry = entries
			continue
		}
		refs, err := writePages(ctx, m, entries, last)
		if err != nil {
			return nil, err
		}
		out = append(out, refs...)
	}
	return out, nil
}

// mergePage applies changes to a page; page is empty for a folder without any.
func mergePage(ctx context.Context, m metadata, page []pageRef, changes []entryChange) ([]pageEntry, error) {
	var entries []pageEntry
	if len(page) > 0 {
		var err error
		if entries, err = readPage(ctx, m, page[0]); err != nil {
			return nil, err
		}
	}
	return merge(entries, changes)
}

// merge applies changes, which are in order, to entries.
func merge(entries []pageEntry, changes []entryChange) ([]pageEntry, error) {
	out := make([]pageEntry, 0, len(entries)+len(changes))
	for _, c := range changes {
		for len(entries) > 0 && entries[0].Item < c.item {
			out, entries = append(out, entries[0]), entries[1:]
		}
		if len(entries) > 0 && entries[0].Item == c.item {
			entries = entries[1:]
		}
		if c.entry == nil {
			continue
		}
		raw, err := encoding.Marshal(c.entry)
		if err != nil {
			return nil, fmt.Errorf("encode entry %d: %w", c.item, err)
		}
		out = append(out, pageEntry{entry: *c.entry, raw: raw})
	}
	return append(out, entries...), nil
}

// writePages writes entries as one or more pages. The last pages of a folder
// are filled, since new items follow; others are halved, since items move into
// their middle.
func writePages(ctx context.Context, m metadata, entries []pageEntry, last bool) ([]pageRef, error) {
	size := pageMax
	if pages := (len(entries) + pageMax - 1) / pageMax; !last && pages > 1 {
		size = (len(entries) + pages - 1) / pages
	}
	var refs []pageRef
	for part := range slices.Chunk(entries, size) {
		p := page{Entries: make([]cbor.RawMessage, len(part))}
		for i, e := range part {
			p.Entries[i] = e.raw
		}
		data, err := encoding.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("encode page: %w", err)
		}
		id, err := m.write(ctx, kindPage, data)
		if err != nil {
			return nil, err
		}
		refs = append(refs, pageRef{First: part[0].Item, Count: len(part), ID: id})
	}
	return refs, nil
}

func readPage(ctx context.Context, m metadata, ref pageRef) ([]pageEntry, error) {
	data, err := m.read(ctx, kindPage, ref.ID)
	if err != nil {
		return nil, fmt.Errorf("page at %d: %w", ref.First, err)
	}
	p, err := decodePage(data)
	if err != nil {
		return nil, err
	}
	entries, err := p.entries()
	if err != nil {
		return nil, fmt.Errorf("page at %d: %w", ref.First, err)
	}
	if len(entries) != ref.Count || len(entries) == 0 || entries[0].Item != ref.First {
		return nil, fromRepository(fmt.Errorf("page at %d is not the one that its folder names: %w", ref.First, repo.ErrDamaged))
	}
	return entries, nil
}

// diffPages calls changed for every entry of pages that old does not have in
// this form, and gone for every item of old that pages do not have. Pages that
// both share are not read.
func diffPages(ctx context.Context, m metadata, old, pages []pageRef, changed func(entry) error, gone func(item int64)) error {
	shared := map[repo.MetaID]bool{}
	for _, p := range old {
		shared[p.ID] = true
	}
	both := map[repo.MetaID]bool{}
	for _, p := range pages {
		both[p.ID] = shared[p.ID]
	}
	before := &pageReader{ctx: ctx, metadata: m, pages: slices.DeleteFunc(slices.Clone(old), func(p pageRef) bool { return both[p.ID] })}
	after := &pageReader{ctx: ctx, metadata: m, pages: slices.DeleteFunc(slices.Clone(pages), func(p pageRef) bool { return both[p.ID] })}
	a, err := before.next()
	if err != nil {
		return err
	}
	b, err := after.next()
	for err == nil && (a != nil || b != nil) {
		switch {
		case b == nil || a != nil && a.Item < b.Item:
			gone(a.Item)
			a, err = before.next()
		case a == nil || b.Item < a.Item:
			if err = changed(b.entry); err == nil {
				b, err = after.next()
			}
		default:
			if string(a.raw) != string(b.raw) {
				err = changed(b.entry)
			}
			if err == nil {
				a, err = before.next()
			}
			if err == nil {
				b, err = after.next()
			}
		}
	}
	return err
}

// pageReader reads the entries of pages one after the other.
type pageReader struct {
	ctx      context.Context
	metadata metadata
	pages    []pageRef
	entries  []pageEntry
}

// next returns nil at the end.
func (r *pageReader) next() (*pageEntry, error) {
	for len(r.entries) == 0 {
		if len(r.pages) == 0 {
			return nil, nil
		}
		var err error
		if r.entries, err = readPage(r.ctx, r.metadata, r.pages[0]); err != nil {
			return nil, err
		}
		r.pages = r.pages[1:]
	}
	e := &r.entries[0]
	r.entries = r.entries[1:]
	return e, nil
}
