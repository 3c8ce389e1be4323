package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Standing looks through what a tenant has for what stands under older keys than
// the newest: at the header of every pack, commit and entry of the deletion log.
// Once their keys are needed by nothing, it deletes the commits and entries that
// were sealed anew since.
func (r *Repository) Standing(ctx context.Context, tenant string) (Standing, error) {
	var s Standing
	if err := validName(tenant); err != nil {
		return s, err
	}
	epoch, err := r.newestEpoch(ctx, tenant)
	if err != nil {
		return s, err
	}
	log, err := r.readLog(ctx, tenant)
	if err != nil {
		return s, err
	}
	packs, err := r.oldPacks(ctx, tenant, log, epoch)
	if err != nil {
		return s, err
	}
	s.Objects, s.Old = packs.all, len(packs.old)+len(packs.damaged)
	for _, p := range packs.released {
		s.Retained = append(s.Retained, p.key(tenant))
	}
	prefixes := []string{logPrefix(tenant)}
	sources, err := r.Sources(ctx, tenant)
	if err != nil {
		return s, err
	}
	for _, source := range sources {
		prefixes = append(prefixes, commitPrefix(tenant, source))
	}
	var sealedAnew []string
	for _, prefix := range prefixes {
		older, err := r.oldSeals(ctx, prefix, epoch, &s)
		if err != nil {
			return s, err
		}
		sealedAnew = append(sealedAnew, older...)
	}
	for _, key := range sealedAnew {
		if s.Old > 0 {
			break
		}
		err := r.storage.Delete(ctx, key)
		if errors.Is(err, ErrRetained) {
			s.Retained = append(s.Retained, key)
			continue
		}
		if err != nil && !errors.Is(err, ErrNotExist) {
			return s, fmt.Errorf("delete %s, which was sealed anew: %w", key, err)
		}
	}
	s.RetainedUntil, err = r.lockedUntil(ctx, s.Retained)
	return s, err
}

// oldSeals counts the numbered objects below a prefix, and those of which nothing
// newer is there. It returns the keys of what was sealed anew.
func (r *Repository) oldSeals(ctx context.Context, prefix string, epoch uint32, s *Standing) (older []string, err error) {
	list, err := r.listNumbered(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	for _, n := range list {
		s.Objects++
		older = append(older, n.older...)
		sealed, err := r.sealEpoch(ctx, n.key)
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil && !isDamage(err) {
			return nil, err
		}
		if err != nil || sealed < epoch {
			s.Old++
		}
	}
	return older, nil
}

// sealEpoch reads from the header of a commit, or of an entry of the deletion log,
// which key it is sealed under.
func (r *Repository) sealEpoch(ctx context.Context, key string) (uint32, error) {
	header, err := get(ctx, r.storage, key, 0, 12, 12)
	if err != nil {
		return 0, err
	}
	if len(header) == 12 {
		switch string(header[:8]) {
		case commitMagic, logMagic2:
			return binary.BigEndian.Uint32(header[8:]), nil
		case logMagic:
			return 0, nil
		}
	}
	return 0, damaged(key, "its header is wrong")
}

// oldPacks are packs under older keys, as their headers say.
type oldPacks struct {
	all      int
	old      []logPack
	released []logPack // of the old, those that may be deleted
	damaged  []string  // keys of packs whose headers can't be read
}

// oldPacks finds the packs under keys that are older than an epoch.
func (r *Repository) oldPacks(ctx context.Context, tenant string, log deletions, epoch uint32) (oldPacks, error) {
	var found oldPacks
	packs, err := r.listPacks(ctx, tenant)
	if err != nil {
		return found, err
	}
	found.all = len(packs)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copiers)
	for p := range packs {
		g.Go(func() error {
			sealed, err := r.packEpoch(ctx, tenant, p)
			mu.Lock()
			defer mu.Unlock()
			_, apart := log.apart[p] // a repair may still take something from it
			switch {
			case errors.Is(err, ErrNotExist):
			case err != nil && !isDamage(err):
				return err
			case err == nil && sealed >= epoch:
			case log.released[p] && !apart:
				found.released = append(found.released, p)
			case err != nil:
				found.damaged = append(found.damaged, p.key(tenant))
			default:
				found.old = append(found.old, p)
			}
			return nil
		})
	}
	err = g.Wait()
	return found, err
}

// packEpoch reads from the header of a pack which keys it is sealed under.
func (r *Repository) packEpoch(ctx context.Context, tenant string, p logPack) (uint32, error) {
	key := p.key(tenant)
	header, err := get(ctx, r.storage, key, 0, headerSize, headerSize)
	if err != nil {
		return 0, err
	}
	if len(header) != headerSize || string(header[:8]) != packMagic {
		return 0, damaged(key, "its header is not that of a pack")
	}
	return binary.BigEndian.Uint32(header[24:]), nil
}
