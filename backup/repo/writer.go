package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
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
	began          time.Time // by the wall clock, which goes on while the machine sleeps
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
	own     *pieceSet        // all pieces of the source itself, so that new ones need not be looked up; nil if they are not known
	misses  int              // pieces of the source that were looked up in vain
	alone   bool             // nothing in the index is relied on
	log     deletions        // when the writer began
	blind   bool             // the log can't be read: nobody knows what may be deleted
	used    map[logPack]bool // packs of others that pieces were found in
	group   group            // small pieces that wait for their blob
	metas   group            // the same for metadata
	done    []Pack

	// Packs have locks of their own, so that no one who looks whether a piece is
	// known waits for the storage.
	data, meta packLine
}

// packLine is the packs of one kind, one after the other.
type packLine struct {
	kind    PackKind
	mu      sync.Mutex
	open    *packWriter // nil if there is none
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
	w := &Writer{r: r, tenant: tenant, source: source, began: time.Now().Round(0), epoch: uint32(epoch), known: map[PieceID]bool{}, used: map[logPack]bool{}, //nolint:gosec // epochs are small
		data: packLine{kind: PackData}, meta: packLine{kind: PackMeta}}
	if w.tenantKey, err = r.keys.tenant(ctx, tenant, w.epoch); err != nil {
		return nil, err
	}
	if w.sourceKey, err = r.keys.source(ctx, tenant, source, w.epoch); err != nil {
		return nil, err
	}
	if w.secrets, err = r.keys.secrets(ctx, tenant); err != nil {
		return nil, err
	}
	begun, err := r.hasNumbered(ctx, tenant, commitKey(tenant, source, 1))
	if err != nil {
		return nil, fmt.Errorf("look for commits: %w", err)
	}
	if w.log, err = r.currentLog(ctx, tenant); err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	w.blind = err != nil
	if !begun && len(w.log.of(source).Spans) == 0 {
		w.own = &pieceSet{}
	}
	return w, nil
}

// Next begins the commit of the source after the one that w made. Where w began
// with a source without any, or learned what that has, it remembers what came
// since, and looks up nothing that is new.
func (w *Writer) Next(ctx context.Context) (*Writer, error) {
	next, err := w.r.NewWriter(ctx, w.tenant, w.source)
	if err == nil && next.own == nil {
		next.own, next.misses = w.own, w.misses
	}
	return next, err
}

// Written returns how many bytes the writer's packs have so far.
func (w *Writer) Written() int64 {
	w.mu.Lock()
	n := int64(len(w.group.data) + len(w.metas.data))
	w.mu.Unlock()
	for _, line := range w.lines() {
		line.mu.Lock()
		n += line.bytes
		line.mu.Unlock()
	}
	return n
}

// lines are the packs of both kinds, the data first.
func (w *Writer) lines() []*packLine { return []*packLine{&w.data, &w.meta} }

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
	fresh := !shared && w.own != nil && !w.own.maybe(id)
	w.mu.Unlock()
	if known {
		return false, nil
	}
	var found map[PieceID]Location
	if !fresh && !w.alone {
		var err error
		if found, err = w.r.index.Locate(ctx, w.tenant, []PieceID{id}); err != nil {
			return false, fmt.Errorf("look a piece up: %w", err)
		}
		if len(found) == 0 && !shared {
			w.missed(ctx)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[id] {
		return false, nil
	}
	w.known[id] = true
	at, there := found[id]
	if w.own != nil && !shared && !there {
		w.own.add(id)
	}
	return !there || !w.use(logPack{at.Pack, at.Kind}), nil
}

// use says whether what a pack has can be relied on, and notes that it is. A
// condemned one may be deleted before the commit is seen. Called with mu held.
func (w *Writer) use(p logPack) bool {
	if _, condemned := w.log.condemned[p]; condemned || w.blind || w.log.released[p] {
		return false
	}
	w.used[p] = true
	return true
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

// putSource stores a piece that belongs to the source; hash is its SHA-256.
func (w *Writer) putSource(ctx context.Context, data []byte, hash [sha256.Size]byte) (PieceID, error) {
	id := w.secrets.sourceID(w.source, hash[:])
	return id, w.put(ctx, id, false, func(ctx context.Context) error {
		if len(data) < groupPiece {
			return w.gather(ctx, &w.data, &w.group, id, data)
		}
		alone := group{}
		alone.data, alone.pieces = data, []footerPiece{{ID: id, Size: uint32(len(data))}} //nolint:gosec // at most maxPiece
		return w.addGroup(ctx, &w.data, alone)
	})
}

// gather adds a small piece to a group, and the group to a pack when it is full.
func (w *Writer) gather(ctx context.Context, line *packLine, g *group, id PieceID, parts ...[]byte) error {
	w.mu.Lock()
	g.add(id, parts...)
	if !g.full() {
		w.mu.Unlock()
		return nil
	}
	taken := g.take()
	w.mu.Unlock()
	return w.addGroup(ctx, line, taken)
}

// addGroup compresses a group and appends it to a pack.
func (w *Writer) addGroup(ctx context.Context, line *packLine, g group) error {
	defer g.release()
	if len(g.pieces) == 0 {
		return nil
	}
	plain, packed := takeBuffer(len(g.data)+5*len(g.pieces)+5), takeBuffer(len(g.data)/2)
	defer giveBuffer(plain)
	defer giveBuffer(packed)
	*plain = g.blob(*plain)
	*packed = w.r.compress(*packed, *plain)
	blob := blobGroup
	if line.kind == PackMeta {
		blob = blobMeta
	}
	return w.append(ctx, line, func(p *packWriter) ([]Location, error) {
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
		return w.append(ctx, &w.data, func(p *packWriter) ([]Location, error) {
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
		return w.gather(ctx, &w.meta, &w.metas, PieceID(id), []byte{kind}, data)
	})
}

// append lets add put a blob into the open pack of a line, and closes the pack
// when it is full. Others go on in the next one meanwhile.
func (w *Writer) append(ctx context.Context, line *packLine, add func(*packWriter) ([]Location, error), pieces []footerPiece) error {
	full, err := w.appendOpen(ctx, line, add, pieces)
	if err != nil || full == nil {
		return err
	}
	return w.closePack(ctx, full)
}

// appendOpen returns the pack if it has to be closed.
func (w *Writer) appendOpen(ctx context.Context, line *packLine, add func(*packWriter) ([]Location, error), pieces []footerPiece) (*packWriter, error) {
	line.mu.Lock()
	defer line.mu.Unlock()
	if line.open == nil {
		p, err := newPackWriter(ctx, w.r.storage, w.tenant, w.source, line.kind, w.epoch, w.tenantKey)
		line.open = p // also with an error, so that it is aborted
		if err != nil {
			return nil, err
		}
	}
	p := line.open
	before := p.offset
	at, err := add(p)
	if err != nil {
		return nil, err
	}
	for i, piece := range pieces {
		line.objects = append(line.objects, Object{ID: piece.ID, Location: at[i]})
	}
	line.bytes += p.offset - before
	if !p.full(w.r.options.TargetPack) {
		return nil, nil
	}
	line.open = nil
	return p, nil
}

// closePack makes a pack durable that no one else writes to any more.
func (w *Writer) closePack(ctx context.Context, p *packWriter) error {
	done, err := p.close(ctx)
	if err != nil {
		p.upload.Abort()
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = append(w.done, done)
	return nil
}

// flush makes everything durable, the last packs of both kinds at the same time:
// nothing refers to either before the commit. Called with life held for writing.
func (w *Writer) flush(ctx context.Context) error {
	if err := w.addGroup(ctx, &w.data, w.group.take()); err != nil {
		return err
	}
	if err := w.addGroup(ctx, &w.meta, w.metas.take()); err != nil {
		return err
	}
	var g errgroup.Group
	for _, line := range w.lines() {
		if p := line.open; p != nil {
			line.open = nil
			g.Go(func() error { return w.closePack(ctx, p) })
		}
	}
	return g.Wait()
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
	w.known, w.used = nil, nil
	w.group.release()
	w.metas.release()
	for _, line := range w.lines() {
		line.objects = nil
		if line.open != nil {
			line.open.upload.Abort()
			line.open = nil
		}
	}
}
