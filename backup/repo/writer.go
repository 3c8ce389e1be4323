package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
)

// Writer adds a commit to a source. PutContent and PutMeta may be called from
// several goroutines, Commit and Abort once, after them. What a Writer wrote
// can be read when Commit returned and the Index knows it.
type Writer struct {
	r              *Repository
	tenant, source string
	epoch          uint32
	tenantKey      []byte
	sourceKey      []byte
	secrets        secrets

	mu      sync.Mutex
	known   map[PieceID]bool // pieces of this writer, or found in the index
	group   bytes.Buffer     // small pieces that wait for their blob
	grouped []footerPiece
	metas   bytes.Buffer // the same for metadata
	metaIDs []footerPiece
	packs   map[PackKind]*packWriter
	done    []Pack
	objects []Object
	bytes   int64
	closed  bool
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
	w.secrets, err = r.keys.secrets(ctx, tenant)
	return w, err
}

// Written returns how many bytes the writer's packs have so far.
func (w *Writer) Written() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes + int64(w.group.Len()+w.metas.Len())
}

// claim says whether a piece has to be written, and that this caller does it.
func (w *Writer) claim(ctx context.Context, id PieceID) (bool, error) {
	w.mu.Lock()
	if w.known[id] {
		w.mu.Unlock()
		return false, nil
	}
	w.mu.Unlock()
	found, err := w.r.index.Locate(ctx, w.tenant, []PieceID{id})
	if err != nil {
		return false, fmt.Errorf("look a piece up: %w", err)
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

// putSource stores a piece that belongs to the source.
func (w *Writer) putSource(ctx context.Context, data []byte) (PieceID, error) {
	hash := sha256.Sum256(data)
	id := w.secrets.sourceID(w.source, hash[:])
	if fresh, err := w.claim(ctx, id); err != nil || !fresh {
		return id, err
	}
	if len(data) >= groupPiece {
		return id, w.addBlob(ctx, PackData, blobGroup, w.r.compress(data), []footerPiece{{ID: id, Size: uint32(len(data))}})
	}
	w.mu.Lock()
	w.grouped = append(w.grouped, footerPiece{ID: id, Start: uint32(w.group.Len()), Size: uint32(len(data))})
	w.group.Write(data)
	full := w.group.Len() >= groupTarget
	blob, pieces := w.takeGroup(full)
	w.mu.Unlock()
	if !full {
		return id, nil
	}
	return id, w.addBlob(ctx, PackData, blobGroup, w.r.compress(blob), pieces)
}

// takeGroup returns the waiting pieces and starts a new group, if now.
func (w *Writer) takeGroup(now bool) ([]byte, []footerPiece) {
	if !now {
		return nil, nil
	}
	blob, pieces := bytes.Clone(w.group.Bytes()), w.grouped
	w.group.Reset()
	w.grouped = nil
	return blob, pieces
}

// putShared stores a piece that all sources of the tenant share.
func (w *Writer) putShared(ctx context.Context, data []byte) (SharedPiece, error) {
	hash := sha256.Sum256(data)
	s := SharedPiece{ID: w.secrets.sharedID(hash[:]), Key: w.secrets.sharedKey(hash[:])}
	fresh, err := w.claim(ctx, s.ID)
	if err != nil || !fresh {
		return s, err
	}
	payload := w.r.compress(data)
	w.mu.Lock()
	defer w.mu.Unlock()
	pack, err := w.pack(ctx, PackData)
	if err != nil {
		return s, err
	}
	locations, err := pack.addShared(s.Key, payload, footerPiece{ID: s.ID, Size: uint32(len(data))})
	if err != nil {
		return s, err
	}
	return s, w.added(ctx, pack, []footerPiece{{ID: s.ID}}, locations, len(payload))
}

// PutMeta stores a metadata blob of at most MaxMeta bytes, once however often
// it is given, and returns its identifier.
func (w *Writer) PutMeta(ctx context.Context, kind byte, data []byte) (MetaID, error) {
	if len(data) > MaxMeta {
		return MetaID{}, fmt.Errorf("metadata of %d bytes: %w", len(data), ErrTooLarge)
	}
	hash := sha256.Sum256(data)
	id := w.secrets.metaID(w.source, kind, hash[:])
	if fresh, err := w.claim(ctx, PieceID(id)); err != nil || !fresh {
		return id, err
	}
	w.mu.Lock()
	// The kind stands before the data, so that a reader can't take one for another.
	w.metaIDs = append(w.metaIDs, footerPiece{ID: PieceID(id), Start: uint32(w.metas.Len()), Size: uint32(len(data) + 1)})
	w.metas.WriteByte(kind)
	w.metas.Write(data)
	full := w.metas.Len() >= groupTarget
	blob, pieces := w.takeMetas(full)
	w.mu.Unlock()
	if !full {
		return id, nil
	}
	return id, w.addBlob(ctx, PackMeta, blobMeta, w.r.compress(blob), pieces)
}

func (w *Writer) takeMetas(now bool) ([]byte, []footerPiece) {
	if !now {
		return nil, nil
	}
	blob, pieces := bytes.Clone(w.metas.Bytes()), w.metaIDs
	w.metas.Reset()
	w.metaIDs = nil
	return blob, pieces
}

// addBlob appends a compressed blob of the source to a pack.
func (w *Writer) addBlob(ctx context.Context, kind PackKind, blob byte, payload []byte, pieces []footerPiece) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	pack, err := w.pack(ctx, kind)
	if err != nil {
		return err
	}
	locations, err := pack.add(blob, w.sourceKey, payload, pieces)
	if err != nil {
		return err
	}
	return w.added(ctx, pack, pieces, locations, len(payload))
}

var errClosed = errors.New("the writer has ended")

// pack returns the open pack of a kind. Called with the mutex held.
func (w *Writer) pack(ctx context.Context, kind PackKind) (*packWriter, error) {
	if w.closed {
		return nil, errClosed
	}
	if p := w.packs[kind]; p != nil {
		return p, nil
	}
	p, err := newPackWriter(ctx, w.r.storage, w.tenant, w.source, kind, w.epoch)
	if p != nil {
		w.packs[kind] = p
	}
	return p, err
}

// added notes what a blob holds and closes the pack when it is full. Called
// with the mutex held.
func (w *Writer) added(ctx context.Context, p *packWriter, pieces []footerPiece, at []Location, size int) error {
	for i, piece := range pieces {
		w.objects = append(w.objects, Object{ID: piece.ID, Location: at[i]})
	}
	w.bytes += int64(size)
	if p.offset < int64(w.r.options.TargetPack) {
		return nil
	}
	return w.closePack(ctx, p)
}

func (w *Writer) closePack(ctx context.Context, p *packWriter) error {
	delete(w.packs, p.kind)
	done, err := p.close(ctx, w.tenantKey)
	if err != nil {
		p.upload.Abort()
		return err
	}
	w.done = append(w.done, done)
	return nil
}

// flush makes everything durable. The data comes first: metadata never refers
// to what is not there.
func (w *Writer) flush(ctx context.Context) error {
	w.mu.Lock()
	group, grouped := w.takeGroup(w.group.Len() > 0 || len(w.grouped) > 0)
	metas, metaIDs := w.takeMetas(w.metas.Len() > 0)
	w.mu.Unlock()
	if len(grouped) > 0 {
		if err := w.addBlob(ctx, PackData, blobGroup, w.r.compress(group), grouped); err != nil {
			return err
		}
	}
	if len(metaIDs) > 0 {
		if err := w.addBlob(ctx, PackMeta, blobMeta, w.r.compress(metas), metaIDs); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kind := range []PackKind{PackData, PackMeta} {
		if p := w.packs[kind]; p != nil {
			if err := w.closePack(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Abort ends the writer without a commit. Packs that were completed stay, and
// are harmless. After Commit it does nothing.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for kind, p := range w.packs {
		p.upload.Abort()
		delete(w.packs, kind)
	}
}
