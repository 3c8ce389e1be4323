package repo

import (
	"context"
	"errors"
	"fmt"
)

// maxMove is how many bytes a collection writes anew.
const maxMove = 2 << 30

// move writes what is needed of packs anew, and condemns them. Shared pieces
// keep what is sealed under their own keys, which is bound to their identifiers
// only; what belongs to a source is sealed again. A pack that can't be read stays as it is.
func (k *collector) move(ctx context.Context, packs []logPack, rec *logRecord) ([]Object, error) {
	writers := map[string]*Writer{}
	defer func() {
		for _, w := range writers {
			w.Abort()
		}
	}()
	written := func() (n int64) {
		for _, w := range writers {
			n += w.Written()
		}
		return n
	}
	for _, p := range packs {
		if written() >= maxMove || len(rec.Condemned) >= maxLogPack {
			rec.Marked = false // the next collection goes on
			break
		}
		if k.plan {
			k.condemn(p, rec)
			k.result.Moved++
			k.result.Written += k.worth[p]
			continue
		}
		err := k.movePack(ctx, p, writers)
		if errors.Is(err, ErrDamaged) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write pack %s anew: %w", p.ID, err)
		}
		k.condemn(p, rec)
		k.result.Moved++
	}
	return k.flushMoved(ctx, writers, rec)
}

// flushMoved makes what was written anew durable, has the log name it, and returns
// its objects.
func (k *collector) flushMoved(ctx context.Context, writers map[string]*Writer, rec *logRecord) ([]Object, error) {
	var objects []Object
	for source, w := range writers {
		w.life.Lock()
		err := w.flush(ctx)
		w.life.Unlock()
		if err != nil {
			return nil, fmt.Errorf("write packs of %s anew: %w", source, err)
		}
		for _, p := range w.done {
			rec.Adopted = append(rec.Adopted, adopted{p, source})
			k.result.Written += p.Length
		}
		objects = append(objects, append(w.data.objects, w.meta.objects...)...)
	}
	return objects, nil
}

// movedBlob is what is needed of a blob.
type movedBlob struct {
	number uint32
	footerBlob
	pieces []footerPiece // those that are needed
	at     Location
	data   []byte // sealed under its own key if it is a shared piece, otherwise opened
}

// movePack reads all that is needed of a pack first, so that it is written as a
// whole or not at all.
func (k *collector) movePack(ctx context.Context, p logPack, writers map[string]*Writer) error {
	f, epoch, err := k.readFooter(ctx, k.tenant, p.Kind, p.ID)
	if err != nil {
		return err
	}
	var list []movedBlob
	for number, b := range f.Blobs {
		m := movedBlob{number: uint32(number), footerBlob: b} //nolint:gosec // bounded by the footer's length
		for _, piece := range b.Pieces {
			if k.moves(f.Source, b.Type, piece.ID) {
				m.pieces = append(m.pieces, piece)
			}
		}
		if len(m.pieces) == 0 {
			continue
		}
		m.at = b.locations(p.ID, p.Kind, epoch, m.number)[0]
		if holdsShared(b.Type) {
			m.data, err = k.readInner(ctx, k.tenant, m.at)
		} else {
			m.data, err = k.openBlob(ctx, k.tenant, f.Source, m.at)
		}
		if err != nil {
			return err
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil
	}
	w := writers[f.Source]
	if w == nil {
		if w, err = k.mover(ctx, f.Source); err != nil {
			return err
		}
		writers[f.Source] = w
	}
	for _, m := range list {
		if err := w.moveBlob(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// moves says whether a piece of a pack is written anew.
func (k *collector) moves(source string, blob byte, id PieceID) bool {
	if k.whole {
		return holdsShared(blob) || !k.log.of(source).Erased
	}
	_, needed := k.needed[markID(id[:16])]
	return needed
}

// mover returns a writer for packs of a source that no commit will name. That
// of an erased source has no key, and writes shared pieces only.
func (k *collector) mover(ctx context.Context, source string) (*Writer, error) {
	epoch, err := k.keys.store.Epoch(ctx, k.tenant)
	if err != nil {
		return nil, fmt.Errorf("read key epoch: %w", err)
	}
	w := &Writer{r: k.Repository, tenant: k.tenant, source: source, began: k.began, epoch: uint32(epoch), //nolint:gosec // epochs are small
		data: packLine{kind: PackData}, meta: packLine{kind: PackMeta}}
	if w.tenantKey, err = k.keys.tenant(ctx, k.tenant, w.epoch); err != nil {
		return nil, err
	}
	if k.log.of(source).Erased {
		return w, nil
	}
	w.sourceKey, err = k.keys.source(ctx, k.tenant, source, w.epoch)
	return w, err
}

// moveBlob writes what is needed of a blob to the packs of w.
func (w *Writer) moveBlob(ctx context.Context, m movedBlob) error {
	if holdsShared(m.Type) {
		return w.append(ctx, &w.data, func(p *packWriter) ([]Location, error) { return p.addSealed(m.data, m.pieces[0]) }, m.pieces)
	}
	if w.sourceKey == nil {
		return fmt.Errorf("pack %s: what belongs to an erased source is needed: %w", m.at.Pack, ErrDamaged)
	}
	line, g := &w.data, &w.group
	if m.Type == blobMeta {
		line, g = &w.meta, &w.metas
	}
	for _, piece := range m.pieces {
		at := m.at
		at.Start, at.Size = piece.Start, piece.Size
		data, err := slice(w.tenant, at, m.data)
		if err != nil {
			return err
		}
		if len(data) >= groupPiece {
			alone := group{data: data, pieces: []footerPiece{{ID: piece.ID, Size: piece.Size}}}
			err = w.addGroup(ctx, line, alone)
		} else {
			err = w.gather(ctx, line, g, piece.ID, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
