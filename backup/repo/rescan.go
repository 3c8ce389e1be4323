package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Rescan finds what is left of a damaged pack of a source without its footer,
// by looking for frames: the pieces of blobs that still open, with identifiers
// made from their bytes. Shared pieces are left out, since only a recipe names
// and opens them. The epoch of the keys comes from the pack's header, and is 0
// where that is damaged as well.
func (r *Repository) Rescan(ctx context.Context, tenant, source string, kind PackKind, id PackID) ([]Object, error) {
	key := packKey(tenant, kind, id)
	in, err := r.storage.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data, err := io.ReadAll(io.LimitReader(in, maxPack))
	if err != nil && len(data) == 0 {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	epoch := uint32(0)
	if len(data) >= headerSize && string(data[:8]) == packMagic {
		epoch = binary.BigEndian.Uint32(data[24:])
	}
	var list []Object
	for at := 0; at+frameSize <= len(data); {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		found, end, err := r.rescanBlob(ctx, tenant, source, Location{Pack: id, Kind: kind, Epoch: epoch, Offset: int64(at)}, data[at:])
		if err != nil {
			at++ // not a blob, or not a whole one
			continue
		}
		list = append(list, found...)
		at += end
	}
	return list, nil
}

// rescanBlob takes data for a framed blob and returns its pieces and its length.
func (r *Repository) rescanBlob(ctx context.Context, tenant, source string, at Location, data []byte) ([]Object, int, error) {
	f, err := parseFrame(data)
	if err != nil {
		return nil, 0, err
	}
	end := frameSize + int(f.length)
	if f.length > maxSealed || end > len(data) || !slices.Contains([]byte{blobGroup, blobMeta}, f.kind) {
		return nil, 0, errFrame
	}
	at.Type, at.Blob, at.Length = f.kind, f.number, f.length
	opened, err := r.unseal(ctx, tenant, source, at, data[:frameSize], data[frameSize:end])
	if err != nil {
		return nil, 0, err
	}
	pieces, err := r.identify(ctx, tenant, source, f.kind, opened)
	if err != nil {
		return nil, 0, err
	}
	list := make([]Object, len(pieces))
	for i, p := range pieces {
		at.Start, at.Size = p.Start, p.Size
		list[i] = Object{ID: p.ID, Location: at}
	}
	return list, end, nil
}
