package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
)

// locate finds one object.
func (r *Repository) locate(ctx context.Context, tenant string, id PieceID) (Location, error) {
	found, err := r.index.Locate(ctx, tenant, []PieceID{id})
	if err != nil {
		return Location{}, fmt.Errorf("look an object up: %w", err)
	}
	at, ok := found[id]
	if !ok {
		return Location{}, damaged(id.String(), "no commit holds it")
	}
	return at, nil
}

// locating reads an object where the index says it is, or said before. If its pack
// was deleted since, it is elsewhere by now, and the index knows.
func (r *Repository) locating(ctx context.Context, tenant string, id PieceID, said map[PieceID]Location, read func(Location) ([]byte, error)) ([]byte, error) {
	at, ok := said[id]
	if !ok {
		var err error
		if at, err = r.locate(ctx, tenant, id); err != nil {
			return nil, err
		}
	}
	data, err := read(at)
	if !errors.Is(err, ErrNotExist) {
		return data, err
	}
	now, again := r.locate(ctx, tenant, id)
	if again != nil || now == at {
		return nil, err
	}
	return read(now)
}

// cachedBlob is openBlob, keeping what was opened last.
func (r *Repository) cachedBlob(ctx context.Context, tenant, source string, at Location) ([]byte, error) {
	name := blobName{tenant, source, at.Pack, at.Blob}
	if data, ok := r.cache.get(name); ok {
		return data, nil
	}
	data, err := r.openBlob(ctx, tenant, source, at)
	if err != nil {
		return nil, err
	}
	r.cache.put(name, data)
	return data, nil
}

// openBlob opens a blob under a source's key and returns its bytes.
func (r *Repository) openBlob(ctx context.Context, tenant, source string, at Location) ([]byte, error) {
	frame, sealed, err := r.readBlob(ctx, tenant, at)
	if err != nil {
		return nil, err
	}
	return r.unseal(ctx, tenant, source, at, frame, sealed)
}

// unseal opens a sealed blob of a source.
func (r *Repository) unseal(ctx context.Context, tenant, source string, at Location, frame, sealed []byte) ([]byte, error) {
	return r.unsealTo(ctx, room{}, tenant, source, at, frame, sealed)
}

// room is memory that opening a blob may use: for its payload, which may be the
// sealed bytes, and for what that expands to. Either is left if it is too small.
type room struct{ payload, data []byte }

// unsealTo is unseal in given memory.
func (r *Repository) unsealTo(ctx context.Context, in room, tenant, source string, at Location, frame, sealed []byte) ([]byte, error) {
	key, err := r.keys.source(ctx, tenant, source, at.Epoch)
	if err != nil {
		return nil, err
	}
	payload, err := newGCM(blobKey(key, at.Pack, at.Type, at.Blob)).Open(in.payload, blobNonce(at.Blob), sealed, blobData(tenant, at.Pack, at.Epoch, frame))
	if err != nil {
		return nil, damaged(packKey(tenant, at.Kind, at.Pack), fmt.Sprintf("blob %d does not open under the source's key", at.Blob))
	}
	data, err := r.expandTo(in.data, payload)
	if err != nil {
		return nil, damaged(packKey(tenant, at.Kind, at.Pack), fmt.Sprintf("blob %d does not decompress", at.Blob))
	}
	return data, nil
}

// slice takes a piece out of its blob.
func slice(tenant string, at Location, data []byte) ([]byte, error) {
	if uint64(at.Start)+uint64(at.Size) > uint64(len(data)) {
		return nil, damaged(packKey(tenant, at.Kind, at.Pack), fmt.Sprintf("blob %d is shorter than its pieces", at.Blob))
	}
	return data[at.Start : at.Start+at.Size : at.Start+at.Size], nil
}

// readPiece reads a piece of a source and, by piece, checks that it is the one.
func (r *Repository) readPiece(ctx context.Context, tenant, source string, id PieceID, by comparing) ([]byte, error) {
	return r.locating(ctx, tenant, id, by.said, func(at Location) ([]byte, error) { return r.readPieceAt(ctx, tenant, source, id, by.compared, at) })
}

func (r *Repository) readPieceAt(ctx context.Context, tenant, source string, id PieceID, by compared, at Location) ([]byte, error) {
	data, err := r.cachedBlob(ctx, tenant, source, at)
	if err != nil {
		return nil, err
	}
	if data, err = slice(tenant, at, data); err != nil || by == byWhole {
		return data, err
	}
	s, err := r.keys.secrets(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if hash := sha256.Sum256(data); s.sourceID(source, hash[:]) != id {
		return nil, damaged(packKey(tenant, at.Kind, at.Pack), "it holds another piece than the index says")
	}
	return data, nil
}

// readShared reads a shared piece with the key from its recipe and, by piece,
// checks that it is the one.
func (r *Repository) readShared(ctx context.Context, tenant string, p SharedPiece, by comparing) ([]byte, error) {
	return r.locating(ctx, tenant, p.ID, by.said, func(at Location) ([]byte, error) { return r.openShared(ctx, tenant, p, by.compared, at) })
}

func (r *Repository) openShared(ctx context.Context, tenant string, p SharedPiece, by compared, at Location) ([]byte, error) {
	sealed, err := r.readInner(ctx, tenant, at)
	if err != nil {
		return nil, err
	}
	return r.unsealShared(ctx, room{}, tenant, p, by, at, sealed)
}

// readInner reads a shared piece as it is sealed under its own key.
func (r *Repository) readInner(ctx context.Context, tenant string, at Location) ([]byte, error) {
	frame, sealed, err := r.readBlob(ctx, tenant, at)
	if err != nil {
		return nil, err
	}
	return r.inner(ctx, sealed[:0], tenant, at, frame, sealed)
}

// inner opens what is around a shared piece that is sealed under its own key, if
// there is something, to dst, which may be the sealed bytes.
func (r *Repository) inner(ctx context.Context, dst []byte, tenant string, at Location, frame, sealed []byte) ([]byte, error) {
	if at.Type != blobInner {
		return sealed, nil
	}
	key, err := r.keys.tenant(ctx, tenant, at.Epoch)
	if err != nil {
		return nil, err
	}
	data, err := newGCM(blobKey(key, at.Pack, at.Type, at.Blob)).Open(dst, blobNonce(at.Blob), sealed, blobData(tenant, at.Pack, at.Epoch, frame))
	if err != nil {
		return nil, damaged(packKey(tenant, at.Kind, at.Pack), fmt.Sprintf("blob %d does not open under the tenant's key", at.Blob))
	}
	return data, nil
}

// unsealShared opens a sealed shared piece in given memory and, by piece, checks
// that it is the one.
func (r *Repository) unsealShared(ctx context.Context, in room, tenant string, p SharedPiece, by compared, at Location, sealed []byte) ([]byte, error) {
	key := packKey(tenant, at.Kind, at.Pack)
	if len(sealed) < nonceSize+gcmOverhead || len(p.Key) != keySize {
		return nil, damaged(key, fmt.Sprintf("blob %d is no shared piece", at.Blob))
	}
	payload, err := newGCM(p.Key).Open(in.payload, sealed[:nonceSize], sealed[nonceSize:], sharedData(tenant, p.ID))
	if err != nil {
		return nil, damaged(key, fmt.Sprintf("blob %d does not open under the piece's key", at.Blob))
	}
	data, err := r.expandTo(in.data, payload)
	if err != nil {
		return nil, damaged(key, fmt.Sprintf("blob %d does not decompress", at.Blob))
	}
	if by == byWhole {
		return data, nil
	}
	s, err := r.keys.secrets(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if hash := sha256.Sum256(data); len(data) != int(at.Size) || s.sharedID(hash[:]) != p.ID {
		return nil, damaged(key, fmt.Sprintf("blob %d holds another piece than the index says", at.Blob))
	}
	return data, nil
}

// ReadMeta reads a metadata blob of a source that was put with kind.
func (r *Repository) ReadMeta(ctx context.Context, tenant, source string, kind byte, id MetaID) ([]byte, error) {
	return r.locating(ctx, tenant, PieceID(id), nil, func(at Location) ([]byte, error) { return r.readMetaAt(ctx, tenant, source, kind, id, at) })
}

// ReadMetas reads metadata blobs of a kind in the order of ids, looking all of
// them up at once.
func (r *Repository) ReadMetas(ctx context.Context, tenant, source string, kind byte, ids []MetaID) ([][]byte, error) {
	pieces := make([]PieceID, len(ids))
	for i, id := range ids {
		pieces[i] = PieceID(id)
	}
	found, err := r.index.Locate(ctx, tenant, pieces)
	if err != nil {
		return nil, fmt.Errorf("look objects up: %w", err)
	}
	list := make([][]byte, len(ids))
	for i, id := range ids {
		at, ok := found[pieces[i]]
		if !ok {
			return nil, damaged(id.String(), "no commit holds it")
		}
		list[i], err = r.readMetaAt(ctx, tenant, source, kind, id, at)
		if errors.Is(err, ErrNotExist) {
			list[i], err = r.ReadMeta(ctx, tenant, source, kind, id)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (r *Repository) readMetaAt(ctx context.Context, tenant, source string, kind byte, id MetaID, at Location) ([]byte, error) {
	data, err := r.cachedBlob(ctx, tenant, source, at)
	if err != nil {
		return nil, err
	}
	if data, err = slice(tenant, at, data); err != nil {
		return nil, err
	}
	s, err := r.keys.secrets(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 || data[0] != kind {
		return nil, damaged(packKey(tenant, at.Kind, at.Pack), "a metadata blob is of another kind")
	}
	if hash := sha256.Sum256(data[1:]); s.metaID(source, kind, hash[:]) != id {
		return nil, damaged(packKey(tenant, at.Kind, at.Pack), "it holds another metadata blob than the index says")
	}
	return data[1:], nil
}

// Locate returns where objects are, as the index says.
func (r *Repository) Locate(ctx context.Context, tenant string, ids []PieceID) (map[PieceID]Location, error) {
	return r.index.Locate(ctx, tenant, ids)
}
