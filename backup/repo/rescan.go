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

// ObjectsLeft is Objects for packs of a source of which some may be damaged: one
// that has no readable footer is looked through for what is whole, and one that
// is gone has nothing. It returns the keys of these packs too. What a damaged pack
// had for several sources is found only as far as this one's keys open it.
func (r *Repository) ObjectsLeft(ctx context.Context, tenant, source string, packs []Pack) (objects []Object, harmed []string, err error) {
	objects, err = r.Objects(ctx, tenant, packs)
	if err == nil || !isDamage(err) {
		return objects, nil, err
	}
	objects = nil
	for _, p := range packs {
		list, err := r.Objects(ctx, tenant, []Pack{p})
		if isDamage(err) {
			harmed = append(harmed, packKey(tenant, p.Kind, p.ID))
			list, err = r.Rescan(ctx, tenant, source, p.Kind, p.ID)
		}
		if err != nil && !isDamage(err) {
			return nil, nil, err
		}
		objects = append(objects, list...)
	}
	return objects, harmed, nil
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
