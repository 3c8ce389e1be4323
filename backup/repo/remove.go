package repo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Removal is what DeleteTenant has done.
type Removal struct {
	Deleted       int64     // objects
	Retained      int64     // objects that are locked
	RetainedUntil time.Time // when the last of their locks ends, zero if that is not known
}

// lockTimes is a Locker that knows when a lock ends.
type lockTimes interface {
	LockedUntil(ctx context.Context, key string) (time.Time, error)
}

// pruner is a Storage with folders, which are left when their objects are gone.
type pruner interface {
	// Prune removes the folders of a prefix that are empty.
	Prune(ctx context.Context, prefix string) error
}

// DeleteTenant deletes all that a tenant has in the repository, and its deletion
// log too. The caller has destroyed the tenant's keys and sees to it that nobody
// works for the tenant any more. It may be called again, and then deletes what is
// left. Locked objects are counted; progress, if not nil, is told as it goes.
func (r *Repository) DeleteTenant(ctx context.Context, tenant string, progress func(Removal)) (Removal, error) {
	return DeleteTenant(ctx, r.storage, tenant, progress)
}

// DeleteTenant is Repository.DeleteTenant for a copy of a repository.
func DeleteTenant(ctx context.Context, storage Storage, tenant string, progress func(Removal)) (Removal, error) {
	var done Removal
	if err := validName(tenant); err != nil {
		return done, err
	}
	prefix := "t/" + tenant + "/"
	var keys []string
	for e, err := range storage.List(ctx, prefix) {
		if err != nil {
			return done, fmt.Errorf("list the objects of %s: %w", tenant, err)
		}
		keys = append(keys, e.Key)
	}
	for _, key := range keys {
		err := storage.Delete(ctx, key)
		switch {
		case errors.Is(err, ErrRetained):
			if err := done.retain(ctx, storage, key); err != nil {
				return done, err
			}
		case err != nil && !errors.Is(err, ErrNotExist):
			return done, fmt.Errorf("delete %s: %w", key, err)
		default:
			done.Deleted++
		}
		if progress != nil {
			progress(done)
		}
	}
	if p, ok := storage.(pruner); ok && done.Retained == 0 {
		if err := p.Prune(ctx, prefix); err != nil {
			return done, fmt.Errorf("remove the folders of %s: %w", tenant, err)
		}
	}
	return done, nil
}

// retain counts a locked object.
func (d *Removal) retain(ctx context.Context, storage Storage, key string) error {
	d.Retained++
	times, ok := storage.(lockTimes)
	if !ok {
		return nil
	}
	until, err := times.LockedUntil(ctx, key)
	if err != nil {
		return fmt.Errorf("ask until when %s is locked: %w", key, err)
	}
	if until.After(d.RetainedUntil) {
		d.RetainedUntil = until
	}
	return nil
}
