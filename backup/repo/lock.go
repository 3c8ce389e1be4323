package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Locks is what ExtendLocks did.
type Locks struct {
	Needed   int // objects
	Extended int // of them, whose lock was prolonged
}

// ExtendLocks prolongs the locks of format.json, of the kept commits of a tenant
// and of the packs that are not condemned, where less than half of the time remains.
// What is not needed any more is left to run out. On a Storage without locks it
// does nothing.
func (r *Repository) ExtendLocks(ctx context.Context, tenant string) (Locks, error) {
	var l Locks
	locker, ok := r.storage.(Locker)
	if !ok {
		return l, nil
	}
	if err := validName(tenant); err != nil {
		return l, err
	}
	keys, err := r.lastingKeys(ctx, tenant)
	if err != nil {
		return l, err
	}
	var extended atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copiers)
	for _, key := range keys {
		g.Go(func() error {
			done, err := locker.Extend(ctx, key)
			switch {
			case errors.Is(err, ErrNotExist):
				// Collected meanwhile, or lost: Verify says so.
			case err != nil:
				return fmt.Errorf("extend the lock of %s: %w", key, err)
			case done:
				extended.Add(1)
			}
			return nil
		})
	}
	err = g.Wait()
	return Locks{Needed: len(keys), Extended: int(extended.Load())}, err
}

// lastingKeys are the objects that a tenant needs: what is not condemned. If
// the deletion log is damaged, that is everything.
func (r *Repository) lastingKeys(ctx context.Context, tenant string) ([]string, error) {
	keys := []string{formatKey}
	log, err := r.readLog(ctx, tenant)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	packs, err := r.listPacks(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for p := range packs {
		if _, condemned := log.condemned[p]; !condemned && !log.released[p] {
			keys = append(keys, p.key(tenant))
		}
	}
	sources, err := r.Sources(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		commits, err := r.listNumbered(ctx, commitPrefix(tenant, source))
		if err != nil {
			return nil, fmt.Errorf("list commits: %w", err)
		}
		for _, n := range commits {
			if !log.of(source).Has(n.seq) {
				keys = append(keys, n.key)
			}
		}
	}
	return keys, nil
}

// lockedUntil is when the last lock of some objects ends, zero if the storage does not
// say it of each.
func (r *Repository) lockedUntil(ctx context.Context, keys []string) (time.Time, error) {
	times, ok := r.storage.(lockTimes)
	if !ok || len(keys) == 0 {
		return time.Time{}, nil
	}
	ends := make([]time.Time, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copiers)
	for i, key := range keys {
		g.Go(func() error {
			until, err := times.LockedUntil(ctx, key)
			if errors.Is(err, ErrNotExist) {
				until, err = time.Unix(0, 0), nil // long over
			}
			if ends[i] = until; err != nil {
				return fmt.Errorf("ask until when %s is locked: %w", key, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil || slices.ContainsFunc(ends, time.Time.IsZero) {
		return time.Time{}, err
	}
	return slices.MaxFunc(ends, time.Time.Compare), nil
}

// CommitLocked says whether an object lock keeps a commit of a source from being
// written anew now, as far as the storage can tell.
func (r *Repository) CommitLocked(ctx context.Context, tenant, source string, seq int64) (bool, error) {
	times, ok := r.storage.(lockTimes)
	if !ok {
		return false, nil
	}
	keys, err := r.numberedKeys(ctx, tenant, commitKey(tenant, source, seq))
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		until, err := times.LockedUntil(ctx, key)
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err != nil || until.After(time.Now()) {
			return err == nil, err
		}
	}
	return false, nil
}
