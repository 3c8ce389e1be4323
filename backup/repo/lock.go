package repo

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Locks is what ExtendLocks did.
type Locks struct {
	Locked   int // objects that are needed
	Extended int // of them, whose lock was prolonged
	Missing  int // of them, that are not there; Verify says what they held
}

// ExtendLocks prolongs the locks of format.json, of the commits of a tenant and
// of the packs that they name, where less than half of the time remains. What is
// not needed any more is left to run out. On a Storage without locks it does
// nothing.
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
	var extended, missing atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(copiers)
	for _, key := range keys {
		g.Go(func() error {
			done, err := locker.Extend(ctx, key)
			switch {
			case errors.Is(err, ErrNotExist):
				missing.Add(1)
			case err != nil:
				return fmt.Errorf("extend the lock of %s: %w", key, err)
			case done:
				extended.Add(1)
			}
			return nil
		})
	}
	err = g.Wait()
	return Locks{Locked: len(keys), Extended: int(extended.Load()), Missing: int(missing.Load())}, err
}

// lastingKeys are the objects that a tenant needs.
func (r *Repository) lastingKeys(ctx context.Context, tenant string) ([]string, error) {
	keys := []string{formatKey}
	named, err := r.namedPacks(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for p := range named {
		keys = append(keys, p.key(tenant))
	}
	for e, err := range r.storage.List(ctx, "t/"+tenant+"/c/") {
		if err != nil {
			return nil, fmt.Errorf("list commits: %w", err)
		}
		keys = append(keys, e.Key)
	}
	return keys, nil
}
