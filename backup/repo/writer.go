package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
)

// Writer adds a commit to a source. PutContent and PutMeta may be called from
// several goroutines, Commit and Abort once, after them. What a Writer wrote
// can be read when Commit returned and the Index knows it.
//
// When writing to the storage failed once, the writer is of no more use: other
// content may refer to what was lost, so everything after, Commit as well,
// returns that error.
type Writer struct {
	r              *Repository
	tenant, source string
	epoch          uint32
	tenantKey      []byte
	sourceKey      []byte
	secrets        secrets

	// life is held for reading from the claim of a piece until it is written,
	// and for writing to end, so that no commit misses a piece under way.
	life  sync.RWMutex
	ended bool

	mu      sync.Mutex
	failure error            // the first of the storage
	known   map[PieceID]bool // pieces of this writer, or found in the index
	first   bool             // the source has no commit, so the index has nothing of its own
	group   group            // small pieces that wait for their blob
	metas   group            // the same for metadata
	packs   map[PackKind]*packWriter
	done    []Pack
	objects []Object
	bytes   int64
}

// Object is a piece or metadata blob that a commit adds, with its place.
type Object struct {
	ID PieceID // or the bytes of a MetaID
	Location
}

// NewWriter begins a commit of a source.
func (r *Repository) NewWriter(ctx context.Context, tenant, source string) (*Writer, error) {
	if err := errors.Join(validName(tenant), validName(source)); err != nil {
		return nil, err
	}
	epoch, err := r.keys.store.Epoch(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("read key epoch: %w", err)
	}
	w := &Writer{r: r, tenant: tenant, source: source, epoch: uint32(epoch), known: map[PieceID]bool{}, packs: map[PackKind]*packWriter{}} //nolint:gosec // epochs are small
	if w.tenantKey, err = r.keys.tenant(ctx, tenant, w.epoch); err != nil {
		return nil, err
	}
	if w.sourceKey, err = r.keys.source(ctx, tenant, source, w.epoch); err != nil {
		return nil, err
	}
	if w.secrets, err = r.keys.secrets(ctx, tenant); err != nil {
		return nil, err
	}
	_, err = r.storage.Stat(ctx, commitKey(tenant, source, 1))
	if err != nil && !errors.Is(err, ErrNotExist) {
		return nil, fmt.Errorf("look for commits: %w", err)
	}
	w.first = err != nil
	return w, nil
}

// Written returns how many bytes the writer's packs have so far.
func (w *Writer) Written() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes + int64(len(w.group.data)+len(w.metas.data))
}

var errEnded = errors.New("the writer has ended")

// begin says whether the writer can still be used; if so, the caller holds
// life for reading.
func (w *Writer) begin() error {
	w.life.RLock()
	if err := w.usable(); err != nil {
		w.life.RUnlock()
		return err
	}
	return nil
}

// usable is called with life held.
func (w *Writer) usable() error {
	if w.ended {
		return errEnded
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure != nil {
		return fmt.Errorf("the writer failed before: %w", w.failure)
	}
	return nil
}

// fail notes an error of the storage and returns it.
func (w *Writer) fail(err error) error {
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.failure == nil {
			w.failure = err
		}
	}
	return err
}

// claim says whether a piece has to be written, and that this caller does it:
// it must, or fail the writer.
func (w *Writer) claim(ctx context.Context, id PieceID, shared bool) (bool, error) {
	w.mu.Lock()
	known := w.known[id]
	w.mu.Unlock()
	if known {
		return false, nil
	}
	var found map[PieceID]Location
	if shared || !w.first {
		var err error
		if found, err = w.r.index.Locate(ctx, w.tenant, []PieceID{id}); err != nil {
			return false, fmt.Errorf("look a piece up: %w", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[id] {
		return false, nil
	}
	w.known[id] = true
	_, there := found[id]
	return !there, nil
}

// put claims a piece and has it written if it is new.
func (w *Writer) put(ctx context.Context, id PieceID, shared bool, write func(context.Context) error) error {
	if err := w.begin(); err != nil {
		return err
	}
	defer w.life.RUnlock()
	if fresh, err := w.claim(ctx, id, shared); err != nil || !fresh {
		return err
	}
	// Others may rely on the claimed piece, so it is not given up half way.
	return w.fail(write(context.WithoutCancel(ctx)))
}

// putSource stores a piece that belongs to the source.
func (w *Writer) putSource(ctx context.Context, data []byte) (PieceID, error) {
	hash := sha256.Sum256(data)
	id := w.secrets.sourceID(w.source, hash[:])
	return id, w.put(ctx, id, false, func(ctx context.Context) error {
		if len(data) < groupPiece {
			return w.gather(ctx, PackData, &w.group, id, data)
		}
		alone := group{}
		alone.data, alone.pieces = data, []footerPiece{{ID: id, Size: uint32(len(data))}} //nolint:gosec // at most maxPiece
		return w.addGroup(ctx, PackData, alone)
	})
}

// gather adds a small piece to a group, and the group to a pack when it is full.
func (w *Writer) gather(ctx context.Context, kind PackKind, g *group, id PieceID, parts ...[]byte) error {
	w.mu.Lock()
	g.add(id, parts...)
	if !g.full() {
		w.mu.Unlock()
		return nil
	}
	taken := g.take()
	w.mu.Unlock()
	return w.addGroup(ctx, kind, taken)
}

// addGroup compresses a group and appends it to a pack.
func (w *Writer) addGroup(ctx context.Context, kind PackKind, g group) error {
	if len(g.pieces) == 0 {
		return nil
	}
	plain, packed := takeBuffer(len(g.data)+5*len(g.pieces)+5), takeBuffer(len(g.data)/2)
	defer giveBuffer(plain)
	defer giveBuffer(packed)
	*plain = g.blob(*plain)
	*packed = w.r.compress(*packed, *plain)
	blob := blobGroup
	if kind == PackMeta {
		blob = blobMeta
	}
	return w.append(ctx, kind, func(p *packWriter) ([]Location, error) {
		return p.add(blob, w.sourceKey, *packed, g.pieces)
	}, g.pieces)
}

// putShared stores a piece that all sources of the tenant share.
func (w *Writer) putShared(ctx context.Context, data []byte) (SharedPiece, error) {
	hash := sha256.Sum256(data)
	s := SharedPiece{ID: w.secrets.sharedID(hash[:]), Key: w.secrets.sharedKey(hash[:])}
	return s, w.put(ctx, s.ID, true, func(ctx context.Context) error {
		packed := takeBuffer(len(data) + 64)
		defer giveBuffer(packed)
		*packed = w.r.compress(*packed, data)
		piece := footerPiece{ID: s.ID, Size: uint32(len(data))} //nolint:gosec // at most maxPiece
		return w.append(ctx, PackData, func(p *packWriter) ([]Location, error) {
			return p.addShared(s.Key, *packed, piece)
		}, []footerPiece{piece})
	})
}

// PutMeta stores a metadata blob of at most MaxMeta bytes, once however often
// it is given, and returns its identifier. Kind has to be named again to read
// it, so that one kind is never taken for another.
func (w *Writer) PutMeta(ctx context.Context, kind byte, data []byte) (MetaID, error) {
	if len(data) > MaxMeta {
		return MetaID{}, fmt.Errorf("metadata of %d bytes: %w", len(data), ErrTooLarge)
	}
	hash := sha256.Sum256(data)
	id := w.secrets.metaID(w.source, kind, hash[:])
	return id, w.put(ctx, PieceID(id), false, func(ctx context.Context) error {
		return w.gather(ctx, PackMeta, &w.metas, PieceID(id), []byte{kind}, data)
	})
}

// append lets add put a blob into the open pack of a kind, and closes the pack
// when it is full. Others go on in the next one meanwhile.
func (w *Writer) append(ctx context.Context, kind PackKind, add func(*packWriter) ([]Location, error), pieces []footerPiece) error {
	full, err := w.appendOpen(ctx, kind, add, pieces)
	if err != nil || full == nil {
		return err
	}
	return w.closePack(ctx, full)
}

// appendOpen returns the pack if it has to be closed.
func (w *Writer) appendOpen(ctx context.Context, kind PackKind, add func(*packWriter) ([]Location, error), pieces []footerPiece) (*packWriter, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.packs[kind]
	if p == nil {
		var err error
		p, err = newPackWriter(ctx, w.r.storage, w.tenant, w.source, kind, w.epoch)
		if p != nil {
			w.packs[kind] = p
		}
		if err != nil {
			return nil, err
		}
	}
	before := p.offset
	at, err := add(p)
	if err != nil {
		return nil, err
	}
	for i, piece := range pieces {
		w.objects = append(w.objects, Object{ID: piece.ID, Location: at[i]})
	}
	w.bytes += p.offset - before
	if !p.full(w.r.options.TargetPack) {
		return nil, nil
	}
	delete(w.packs, kind)
	return p, nil
}

// closePack makes a pack durable that no one else writes to any more.
func (w *Writer) closePack(ctx context.Context, p *packWriter) error {
	done, err := p.close(ctx, w.tenantKey)
	if err != nil {
		p.upload.Abort()
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, done)
	return nil
}

// flush makes everything durable. The data comes first: metadata never refers
// to what is not there. Called with life held for writing.
func (w *Writer) flush(ctx context.Context) error {
	if err := w.addGroup(ctx, PackData, w.group.take()); err != nil {
		return err
	}
	if err := w.addGroup(ctx, PackMeta, w.metas.take()); err != nil {
		return err
	}
	for _, kind := range []PackKind{PackData, PackMeta} {
		p := w.packs[kind]
		if p == nil {
			continue
		}
		delete(w.packs, kind)
		if err := w.closePack(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// Abort ends the writer without a commit. Packs that were completed stay, and
// are harmless. After Commit it does nothing.
func (w *Writer) Abort() {
	w.life.Lock()
	defer w.life.Unlock()
	w.end()
}

// end is called with life held for writing.
func (w *Writer) end() {
	w.ended = true
	for kind, p := range w.packs {
		p.upload.Abort()
		delete(w.packs, kind)
	}
}
