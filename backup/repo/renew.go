package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Commits and entries of the deletion log have numbers, and never change. Where
// they are sealed anew, since older keys were leaked, that stands beside them
// under their name with the epoch of the newer keys after it, and takes their
// place: the one of the newest epoch counts. The older ones are deleted when
// nothing needs the older keys any more.

// renewedKey is the key of a numbered object that was sealed anew in an epoch.
func renewedKey(key string, epoch uint32) string { return fmt.Sprintf("%s.%04d", key, epoch) }

// numbered is an object with a number, as it counts.
type numbered struct {
	seq   int64
	key   string
	epoch uint32   // in which it was sealed anew, 0 for never
	older []string // keys of the same, as it was sealed before
}

// parseNumbered reads the number of an object below prefix from its key, and in
// which epoch it was sealed anew.
func parseNumbered(prefix, key string) (seq int64, epoch uint32, ok bool) {
	name, again, renewed := strings.Cut(strings.TrimPrefix(key, prefix), ".")
	seq, err := strconv.ParseInt(name, 10, 64)
	if err != nil || seq < 1 {
		return 0, 0, false
	}
	if !renewed {
		return seq, 0, true
	}
	n, err := strconv.ParseUint(again, 10, 32)
	return seq, uint32(n), err == nil && n > 0 //nolint:gosec // 32 bits were asked for
}

// listNumbered lists the objects below a prefix that have numbers, in order.
func (r *Repository) listNumbered(ctx context.Context, prefix string) ([]numbered, error) {
	var list []numbered
	for e, err := range r.storage.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if seq, epoch, ok := parseNumbered(prefix, e.Key); ok {
			list = append(list, numbered{seq: seq, key: e.Key, epoch: epoch})
		}
	}
	slices.SortFunc(list, func(a, b numbered) int { return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(b.epoch, a.epoch)) })
	all := list[:0]
	for _, n := range list {
		if last := len(all) - 1; last >= 0 && all[last].seq == n.seq {
			all[last].older = append(all[last].older, n.key)
			continue
		}
		all = append(all, n)
	}
	return all, nil
}

// newestEpoch is the newest epoch of a tenant's keys.
func (r *Repository) newestEpoch(ctx context.Context, tenant string) (uint32, error) {
	epoch, err := r.keys.store.Epoch(ctx, tenant)
	if err != nil {
		return 0, fmt.Errorf("read key epoch: %w", err)
	}
	return uint32(epoch), nil //nolint:gosec // epochs are small
}

// numberedKeys are the keys that a numbered object of a tenant may have, those
// first that would count before others.
func (r *Repository) numberedKeys(ctx context.Context, tenant, key string) ([]string, error) {
	newest, err := r.newestEpoch(ctx, tenant)
	if err != nil {
		return nil, err
	}
	list := make([]string, 0, newest+1)
	for epoch := newest; epoch > 0; epoch-- {
		list = append(list, renewedKey(key, epoch))
	}
	return append(list, key), nil
}

// getNumbered reads a numbered object as it counts, and says where it is.
func (r *Repository) getNumbered(ctx context.Context, tenant, key string, limit int64) (data []byte, at string, err error) {
	list, err := r.numberedKeys(ctx, tenant, key)
	if err != nil {
		return nil, key, err
	}
	for _, at := range list {
		data, err = get(ctx, r.storage, at, 0, -1, limit)
		if !errors.Is(err, ErrNotExist) {
			return data, at, err
		}
	}
	return nil, key, err
}

// hasNumbered says whether a numbered object is there.
func (r *Repository) hasNumbered(ctx context.Context, tenant, key string) (bool, error) {
	list, err := r.numberedKeys(ctx, tenant, key)
	if err != nil {
		return false, err
	}
	for _, at := range list {
		if _, err := r.storage.Stat(ctx, at); !errors.Is(err, ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// deleteNumbered deletes a numbered object, however often it was sealed.
func (r *Repository) deleteNumbered(ctx context.Context, tenant, key string) error {
	list, err := r.numberedKeys(ctx, tenant, key)
	if err != nil {
		return err
	}
	found := false
	for _, at := range slices.Backward(list) {
		err := r.storage.Delete(ctx, at)
		if err != nil && !errors.Is(err, ErrNotExist) {
			return err
		}
		found = found || err == nil
	}
	if !found {
		return ErrNotExist
	}
	return nil
}

// putNumbered creates an object that nobody else may create: ErrExist says that
// somebody has, also if it was sealed anew and the first one deleted since.
func (r *Repository) putNumbered(ctx context.Context, tenant, key string, data []byte) error {
	if err := put(ctx, r.storage, key, data); err != nil {
		return err
	}
	list, err := r.numberedKeys(ctx, tenant, key)
	if err != nil {
		return err
	}
	for _, at := range list[:len(list)-1] {
		_, err := r.storage.Stat(ctx, at)
		if errors.Is(err, ErrNotExist) {
			continue
		}
		if err == nil {
			err = ErrExist
		}
		return errors.Join(err, r.storage.Delete(context.WithoutCancel(ctx), key))
	}
	return nil
}
