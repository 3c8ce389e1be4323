package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// markID is the beginning of a PieceID, enough to tell them apart.
type markID [16]byte

// mark finds what the commits need that are kept, unless no snapshot expired
// since that was done last and nothing waits. It says whether the log has to
// hear of it.
func (k *collector) mark(ctx context.Context) (bool, error) {
	if len(k.log.expired) == 0 && len(k.log.moved) == 0 {
		return false, nil // every commit is kept, and with it all that it names
	}
	waits := false
	for p := range k.log.condemned {
		_, there := k.packs[p]
		_, named := k.named[p]
		waits = waits || there && named
	}
	if !k.log.unmarked && !waits {
		return false, nil
	}
	k.needed = map[markID]bool{}
	for _, source := range slices.Sorted(maps.Keys(k.roots)) {
		err := k.owner.Live(ctx, source, k.roots[source], func(id PieceID) { k.needed[markID(id[:16])] = false })
		if err != nil {
			return false, fmt.Errorf("find what %s needs: %w", source, err)
		}
	}
	return k.log.unmarked, ctx.Err()
}

// order returns the packs that are there in the order in which they are looked
// at: those that are condemned or that nothing names last, since they are needed
// only for what no other has.
func (k *collector) order() []logPack {
	list := slices.Collect(maps.Keys(k.packs))
	slices.SortFunc(list, func(a, b logPack) int {
		second, first := k.spare(a), k.spare(b)
		switch {
		case second && !first:
			return 1
		case first && !second:
			return -1
		}
		return cmp.Or(slices.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Kind, b.Kind))
	})
	return list
}

// need is how much of a pack is needed.
type need struct {
	unknown      bool // it can't be told, so all of it is
	bytes, total int64
}

func (n need) some() bool { return n.unknown || n.bytes > 0 }

// little says that it pays to write what is needed anew.
func (n need) little() bool { return !n.unknown && n.bytes*2 < n.total }

// spare says that a pack is condemned, or that nothing names it.
func (k *collector) spare(p logPack) bool {
	_, condemned := k.log.condemned[p]
	_, named := k.named[p]
	return condemned || !named
}

// need finds how much of a pack is needed. Of a condemned one, or one that nothing
// names, that is only what no other pack has: it came with a commit that the
// storage lost and that expired since.
func (k *collector) need(ctx context.Context, p logPack) (need, error) {
	_, named := k.named[p]
	if k.needed == nil {
		return need{unknown: named}, nil
	}
	f, _, err := k.readFooter(ctx, k.tenant, p.Kind, p.ID)
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotExist) && !named {
		return need{unknown: named}, nil
	}
	if err != nil {
		return need{}, fmt.Errorf("footer of pack %s: %w", p.ID, err)
	}
	spare := k.spare(p)
	var n need
	for _, b := range f.Blobs {
		bytes, total := int64(0), int64(0)
		for _, piece := range b.Pieces {
			id := markID(piece.ID[:16])
			covered, needed := k.needed[id]
			size := max(int64(piece.Size), 1)
			total += size
			if !needed || spare && covered {
				continue
			}
			bytes += size
			k.needed[id] = true
		}
		n.total += int64(b.Length)
		if total > 0 {
			n.bytes += (int64(b.Length)*bytes + total - 1) / total
		}
	}
	return n, nil
}
