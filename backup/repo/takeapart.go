package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"slices"
)

// pack writes what is whole of a pack anew.
func (s *salvage) pack(ctx context.Context, p logPack) error {
	in, err := s.storage.Open(ctx, p.key(s.tenant), 0, -1)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(in, maxPack))
	in.Close()
	if err != nil && !isDamage(err) {
		return err
	}
	return s.takeApart(ctx, p, data)
}

// takeApart writes what is whole in the bytes of a pack anew.
func (s *salvage) takeApart(ctx context.Context, p logPack, data []byte) error {
	f, _, err := s.footerIn(ctx, s.tenant, p.Kind, p.ID, int64(len(data)), sectionOf(data))
	if err != nil && !isDamage(err) {
		return err
	}
	sources := []string{s.named[p].Source}
	switch {
	case f.Source != "":
		sources = []string{f.Source}
	case sources[0] == "":
		if sources, err = s.Sources(ctx, s.tenant); err != nil {
			return err
		}
	}
	for _, source := range sources {
		if err := s.blobs(ctx, p, source, f, data); err != nil {
			return err
		}
	}
	return nil
}

// sectionOf reads from bytes.
func sectionOf(data []byte) section {
	return func(_ context.Context, offset, length, _ int64) ([]byte, error) {
		end := min(offset+length, int64(len(data)))
		return data[min(offset, end):end:end], nil
	}
}

// blobs looks for frames in the bytes of a pack, and writes the blobs of a source
// that are whole.
func (s *salvage) blobs(ctx context.Context, p logPack, source string, f footer, data []byte) error {
	erased := s.log.of(source).Erased
	for at := 0; ; {
		next := bytes.Index(data[at:], []byte(frameMagic))
		if next < 0 {
			return nil
		}
		at += next
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m, err := s.blob(ctx, p, source, erased, f, data, at)
		if err != nil && !isDamage(err) && !errors.Is(err, errFrame) && !errors.Is(err, errTable) {
			return err
		}
		if err != nil {
			at++
			continue
		}
		at += frameSize + int(m.at.Length)
		if s.lost != nil {
			m.pieces = slices.DeleteFunc(m.pieces, func(piece footerPiece) bool { return !s.lost[piece.ID] })
			if len(m.pieces) == 0 {
				continue
			}
		}
		w := s.writers[source]
		if w == nil {
			k := newCollector(s.Repository, s.tenant, s.owner)
			k.log = s.log
			if w, err = k.mover(ctx, source); err != nil {
				return err
			}
			s.writers[source] = w
		}
		if err := w.moveBlob(ctx, m); err != nil {
			return err
		}
		if s.lost != nil {
			for _, piece := range m.pieces {
				delete(s.lost, piece.ID)
				s.back[piece.ID] = true
			}
		}
	}
}

// blob opens what looks like a blob at a place in the bytes of a pack.
func (s *salvage) blob(ctx context.Context, p logPack, source string, erased bool, f footer, data []byte, at int) (movedBlob, error) {
	fr, err := parseFrame(data[at:])
	if err != nil {
		return movedBlob{}, err
	}
	end := at + frameSize + int(fr.length)
	if fr.length > maxSealed || end > len(data) {
		return movedBlob{}, errFrame
	}
	m := movedBlob{number: fr.number, footerBlob: footerBlob{Type: fr.kind, Offset: int64(at), Length: fr.length},
		at: Location{Pack: p.ID, Kind: p.Kind, Blob: fr.number, Type: fr.kind, Offset: int64(at), Length: fr.length}}
	frame, sealed := data[at:at+frameSize], data[at+frameSize:end]
	switch {
	case holdsShared(fr.kind):
		return s.sharedBlob(ctx, m, f, data, frame, sealed)
	case fr.kind != blobGroup && fr.kind != blobMeta || erased:
		return movedBlob{}, errFrame
	}
	for _, epoch := range s.tryEpochs(data) {
		m.at.Epoch = epoch
		if m.data, err = s.unseal(ctx, s.tenant, source, m.at, frame, sealed); err == nil {
			m.pieces, err = s.identify(ctx, s.tenant, source, fr.kind, m.data)
			return m, err
		}
		if !isDamage(err) {
			return movedBlob{}, err
		}
	}
	return movedBlob{}, err
}

// tryEpochs are the epochs of the keys that a pack may be sealed under: what its
// header says, and all, should that be damaged.
func (s *salvage) tryEpochs(data []byte) []uint32 {
	var list []uint32
	if len(data) >= headerSize && string(data[:8]) == packMagic {
		if epoch := binary.BigEndian.Uint32(data[24:]); epoch <= s.epochs {
			list = append(list, epoch)
		}
	}
	for epoch := range s.epochs + 1 {
		if !slices.Contains(list, epoch) {
			list = append(list, epoch)
		}
	}
	return list
}

// sharedBlob opens what looks like a shared piece of a pack.
func (s *salvage) sharedBlob(ctx context.Context, m movedBlob, f footer, pack, frame, sealed []byte) (movedBlob, error) {
	err := errFrame
	for _, m.at.Epoch = range s.tryEpochs(pack) {
		if m.data, err = s.inner(ctx, nil, s.tenant, m.at, frame, sealed); err == nil {
			m.pieces, err = s.sharedIn(ctx, m.at, f, m.data)
			return m, err
		}
		if !isDamage(err) {
			return movedBlob{}, err
		}
	}
	return movedBlob{}, err
}

// sharedIn finds which shared piece a sealed blob is: the one that the footer
// names, or, without it, the one whose key opens it.
func (s *salvage) sharedIn(ctx context.Context, at Location, f footer, sealed []byte) ([]footerPiece, error) {
	ids := maps.Keys(s.shared)
	if n := int(at.Blob); n < len(f.Blobs) && f.Blobs[n].Type == at.Type && len(f.Blobs[n].Pieces) == 1 {
		ids = slices.Values([]PieceID{f.Blobs[n].Pieces[0].ID})
	}
	for id := range ids {
		piece, err := s.openSharedAs(ctx, id, at, sealed)
		if err == nil {
			return []footerPiece{piece}, nil
		}
		if !isDamage(err) {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, errFrame
}

// openSharedAs opens a sealed blob as a shared piece.
func (s *salvage) openSharedAs(ctx context.Context, id PieceID, at Location, sealed []byte) (footerPiece, error) {
	key := s.shared[id]
	if len(key) != keySize || len(sealed) < nonceSize+gcmOverhead {
		return footerPiece{}, damaged(id.String(), "nobody has its key")
	}
	payload, err := newGCM(key).Open(nil, sealed[:nonceSize], sealed[nonceSize:], sharedData(s.tenant, id))
	if err != nil {
		return footerPiece{}, damaged(id.String(), "it is not this blob")
	}
	plain, err := s.expand(payload)
	if err != nil {
		return footerPiece{}, damaged(id.String(), "it can't be decompressed")
	}
	at.Size = uint32(len(plain)) //nolint:gosec // at most maxOpened
	_, err = s.unsealShared(ctx, room{}, s.tenant, SharedPiece{ID: id, Key: key}, byPiece, at, sealed)
	return footerPiece{ID: id, Size: at.Size}, err
}
