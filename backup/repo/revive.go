package repo

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// Revive looks whether packs that a Salvage took apart have come back: in the
// storage itself, as with a disk that was away, or in a copy of the repository,
// which may be nil. Blobs that are whole there, and whose pieces the index has
// nowhere, are written to new packs. It may be called at any time, and again.
func (r *Repository) Revive(ctx context.Context, from Storage, tenant string, shared map[PieceID][]byte, owner Owner) (Salvaged, error) {
	var all Salvaged
	storages := []Storage{r.storage}
	if from != nil {
		if err := r.isCopy(ctx, from); err != nil {
			return all, err
		}
		storages = append(storages, from)
	}
	for again := true; again; {
		s := salvage{Repository: r, tenant: tenant, owner: owner, shared: shared, writers: map[string]*Writer{}, lost: map[PieceID]bool{}, back: map[PieceID]bool{}}
		err := s.revive(ctx, storages)
		s.abort()
		if again = errors.Is(err, ErrCollecting) && ctx.Err() == nil; again {
			continue // somebody else appended to the log: decide anew
		}
		all.Add(s.result)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// Apart says whether a Salvage took packs of a tenant apart.
func (r *Repository) Apart(ctx context.Context, tenant string) (bool, error) {
	log, err := r.currentLog(ctx, tenant)
	return len(log.apart) > 0, err
}

func (s *salvage) revive(ctx context.Context, storages []Storage) error {
	began := time.Now()
	if err := s.begin(ctx); err != nil {
		return err
	}
	packs := slices.SortedFunc(maps.Keys(s.log.apart), func(a, b logPack) int {
		return cmp.Or(cmp.Compare(b.Kind, a.Kind), slices.Compare(a.ID[:], b.ID[:])) // metadata first
	})
	for _, p := range packs {
		for _, storage := range storages {
			data, err := get(ctx, storage, p.key(s.tenant), 0, -1, maxPack)
			if err != nil && !isDamage(err) {
				return err
			}
			if err := s.missing(ctx, p, data); err != nil {
				return err
			}
			if len(s.lost) == 0 {
				continue
			}
			before := len(s.back)
			if err := s.takeApart(ctx, p, data); err != nil {
				return err
			}
			if len(s.back) > before {
				s.result.Packs++
			}
		}
	}
	if len(s.writers) == 0 {
		return nil
	}
	return s.finish(ctx, began, logRecord{})
}

// missing takes for lost the pieces of a pack's bytes that are nowhere, as far as
// its footer tells.
func (s *salvage) missing(ctx context.Context, p logPack, data []byte) error {
	clear(s.lost)
	f, _, err := s.footerIn(ctx, s.tenant, p.Kind, p.ID, int64(len(data)), sectionOf(data))
	if err != nil {
		if isDamage(err) {
			err = nil
		}
		return err
	}
	var ids []PieceID
	for _, b := range f.Blobs {
		for _, piece := range b.Pieces {
			ids = append(ids, piece.ID)
		}
	}
	found, err := s.index.Locate(ctx, s.tenant, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, ok := found[id]; !ok && !s.back[id] {
			s.lost[id] = true
		}
	}
	return nil
}

// apart says that a pack that was taken apart is not deleted yet: before Grace is
// over, and as long as it is whole again and has what is needed and nowhere else,
// which a repair takes from it.
func (k *collector) apart(ctx context.Context, p logPack) (stays bool, err error) {
	since, ok := k.log.apart[p]
	if !ok {
		return false, nil
	}
	if k.began.Sub(since) < Grace {
		return true, nil
	}
	want, named := k.named[p]
	if !named || k.log.of(want.Source).Erased {
		return false, nil
	}
	data, err := get(ctx, k.storage, p.key(k.tenant), 0, -1, maxPack)
	if err != nil {
		if isDamage(err) {
			err = nil
		}
		return false, err
	}
	check := putBack{Repository: k.Repository, tenant: k.tenant, sums: Sums{p.key(k.tenant): want.Pack.SHA256}}
	if check.checkPack(ctx, p.key(k.tenant), data) != nil {
		return false, nil
	}
	s := salvage{Repository: k.Repository, tenant: k.tenant, lost: map[PieceID]bool{}}
	if err := s.missing(ctx, p, data); err != nil {
		return false, err
	}
	for id := range s.lost {
		if _, needed := k.needed[markID(id[:16])]; needed || k.needed == nil {
			return true, nil
		}
	}
	return false, nil
}
