package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// check looks at one pack and returns how many pieces it holds.
func (v *verification) check(ctx context.Context, p *packCheck) (int, error) {
	key := packKey(v.tenant, p.Kind, p.ID)
	size, err := v.storage.Stat(ctx, key)
	if err != nil {
		return 0, err
	}
	if size != p.Length {
		return 0, damaged(key, fmt.Sprintf("it has %d bytes instead of %d", size, p.Length))
	}
	switch {
	case p.level < VerifyStructure:
		return 0, nil
	case p.level == VerifyStructure:
		f, _, err := v.footer(ctx, p, size, v.stored(key))
		return f.pieces(), err
	case size > maxPack:
		return 0, damaged(key, "its length is not that of a pack")
	}
	buf := packBuffers.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in it
	defer packBuffers.Put(buf)
	data, err := v.whole(ctx, key, size, buf)
	if err != nil {
		return 0, err
	}
	return v.checkBytes(ctx, p, data)
}

// packBuffers hold a pack each while it is looked at.
var packBuffers = sync.Pool{New: func() any { return new([]byte) }}

// whole reads a pack into buf.
func (v *verification) whole(ctx context.Context, key string, size int64, buf *[]byte) ([]byte, error) {
	if int64(cap(*buf)) < size {
		*buf = make([]byte, max(size, targetPack+maxSealed/8))
	}
	in, err := v.storage.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data := (*buf)[:size]
	if n, err := io.ReadFull(in, data); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, damaged(key, fmt.Sprintf("it has %d bytes instead of %d", n, size))
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return data, nil
}

// checkBytes looks at the bytes of a pack, which it may overwrite. What is
// whole of a damaged pack is proven all the same.
func (v *verification) checkBytes(ctx context.Context, p *packCheck, data []byte) (int, error) {
	key := packKey(v.tenant, p.Kind, p.ID)
	var damage error
	if sum := sha256.Sum256(data); !slices.Equal(sum[:], p.SHA256) {
		if damage = damaged(key, "its bytes are not those that were written"); v.proof == nil {
			return 0, damage
		}
	}
	f, epoch, err := v.footer(ctx, p, int64(len(data)), func(_ context.Context, offset, length, _ int64) ([]byte, error) {
		end := min(offset+length, int64(len(data)))
		return data[min(offset, end):end:end], nil
	})
	if damage != nil && (err == nil || isDamage(err)) {
		err = damage // which says more
	}
	if f.Blobs == nil || err != nil && damage == nil || p.level < VerifyBlobs {
		return f.pieces(), err
	}
	for number, b := range f.Blobs {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		at := b.locations(p.ID, p.Kind, epoch, uint32(number)) //nolint:gosec // bounded by the footer's length
		found := v.blob(ctx, p.source, b, at, data)
		if found != nil && !isDamage(found) {
			return 0, found
		}
		if err == nil {
			err = found
		}
	}
	return f.pieces(), err
}

// footer reads the footer of a pack of the check's source.
func (v *verification) footer(ctx context.Context, p *packCheck, size int64, in section) (footer, uint32, error) {
	f, epoch, err := v.footerIn(ctx, v.tenant, p.Kind, p.ID, size, in)
	if err == nil && f.Source != p.source {
		err = damaged(packKey(v.tenant, p.Kind, p.ID), "it belongs to another source")
	}
	if err != nil {
		return footer{}, 0, err
	}
	return f, epoch, nil
}

func (f footer) pieces() (n int) {
	for _, b := range f.Blobs {
		n += len(b.Pieces)
	}
	return n
}

// blob opens a blob of a pack and makes the identifiers of its pieces anew. Of a
// shared piece whose key nobody has it can only check the frame.
func (v *verification) blob(ctx context.Context, source string, b footerBlob, at []Location, pack []byte) error {
	if len(at) == 0 {
		return damaged("footer", "it names a blob without pieces")
	}
	key := packKey(v.tenant, at[0].Kind, at[0].Pack)
	start := min(b.Offset, int64(len(pack)))
	end := min(start+frameSize+int64(b.Length), int64(len(pack)))
	frame, sealed, err := blobIn(ctx, key, at[0], func(context.Context, int64, int64, int64) ([]byte, error) { return pack[start:end:end], nil })
	if err != nil {
		return err
	}
	buf := takeBuffer(int(b.opened()))
	defer giveBuffer(buf)
	if holdsShared(b.Type) {
		if sealed, err = v.inner(ctx, sealed[:0], v.tenant, at[0], frame, sealed); err != nil {
			return err
		}
		return v.shared(ctx, b, at[0], room{data: *buf}, sealed)
	}
	data, err := v.unsealTo(ctx, room{sealed[:0], *buf}, v.tenant, source, at[0], frame, sealed)
	if err != nil {
		return err
	}
	pieces, err := v.identify(ctx, v.tenant, source, b.Type, data)
	if err != nil || !slices.Equal(pieces, b.Pieces) {
		return damaged(key, fmt.Sprintf("blob %d holds other pieces than its footer says", at[0].Blob))
	}
	v.prove(source, b.Type, pieces, data)
	return nil
}

// opened is about how many bytes a blob opens to.
func (b footerBlob) opened() int64 {
	last := b.Pieces[len(b.Pieces)-1]
	return int64(last.Start) + int64(last.Size)
}

func (v *verification) shared(ctx context.Context, b footerBlob, at Location, in room, sealed []byte) error {
	if v.proof == nil {
		return nil
	}
	id := b.Pieces[0].ID
	pieceKey := v.proof.Key(id)
	if pieceKey == nil {
		return nil
	}
	if len(sealed) >= nonceSize {
		in.payload = sealed[nonceSize:nonceSize]
	}
	if _, err := v.unsealShared(ctx, in, v.tenant, SharedPiece{ID: id, Key: pieceKey}, byPiece, at, sealed); err != nil {
		return err
	}
	v.proof.Whole(id)
	return nil
}

// prove tells what an opened blob holds.
func (v *verification) prove(source string, kind byte, pieces []footerPiece, data []byte) {
	if v.proof == nil {
		return
	}
	for _, p := range pieces {
		if kind == blobMeta {
			piece := data[p.Start : p.Start+p.Size]
			v.proof.Meta(source, piece[0], MetaID(p.ID), piece[1:])
		} else {
			v.proof.Whole(p.ID)
		}
	}
}

// identify returns the pieces of an opened blob of a source, with the
// identifiers that their bytes give.
func (r *Repository) identify(ctx context.Context, tenant, source string, blobType byte, data []byte) ([]footerPiece, error) {
	s, err := r.keys.secrets(ctx, tenant)
	if err != nil {
		return nil, err
	}
	pieces, err := groupTable(data)
	if err != nil {
		return nil, err
	}
	for i, p := range pieces {
		piece := data[p.Start : p.Start+p.Size]
		if blobType == blobMeta {
			if len(piece) == 0 {
				return nil, errTable
			}
			hash := sha256.Sum256(piece[1:])
			pieces[i].ID = PieceID(s.metaID(source, piece[0], hash[:]))
		} else {
			hash := sha256.Sum256(piece)
			pieces[i].ID = s.sourceID(source, hash[:])
		}
	}
	return pieces, nil
}
