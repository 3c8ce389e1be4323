package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// deletePacks deletes packs that the log released. The index forgets them
// first, when it knows where else everything is.
func (k *collector) deletePacks(ctx context.Context, list []logPack) error {
	if len(list) == 0 {
		return nil
	}
	if err := k.completeIndex(ctx); err != nil {
		return err
	}
	ids := make([]PackID, len(list))
	for i, p := range list {
		ids[i] = p.ID
	}
	if err := k.owner.Forget(ctx, ids); err != nil {
		return fmt.Errorf("take packs out of the index: %w", err)
	}
	for _, p := range list {
		switch err := k.storage.Delete(ctx, p.key(k.tenant)); {
		case errors.Is(err, ErrRetained):
			k.result.Retained++
		case err != nil && !errors.Is(err, ErrNotExist):
			return fmt.Errorf("delete pack %s: %w", p.ID, err)
		default:
			k.result.Deleted++
			k.result.Freed += k.packs[p]
		}
	}
	return nil
}

// completeIndex adds the packs that the log names and the index does not know:
// a collector may have died before it could.
func (k *collector) completeIndex(ctx context.Context) error {
	packs, err := k.unindexed(ctx)
	if err != nil {
		return err
	}
	objects, err := k.Objects(ctx, k.tenant, packs)
	if err != nil {
		return err
	}
	return k.index(ctx, objects)
}

// completeLeft is completeIndex for a repair: damaged packs are left out, which it
// takes apart.
func (k *collector) completeLeft(ctx context.Context) error {
	packs, err := k.unindexed(ctx)
	if err != nil {
		return err
	}
	for _, p := range packs {
		objects, err := k.Objects(ctx, k.tenant, []Pack{p})
		if isDamage(err) {
			continue
		}
		if err == nil {
			err = k.index(ctx, objects)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unindexed are the packs that the log names and the index does not know.
func (k *collector) unindexed(ctx context.Context) ([]Pack, error) {
	packs := k.log.packs(func(a adopted) bool { return k.log.condemned[logPack{a.Pack.ID, a.Pack.Kind}].IsZero() })
	ids := make([]PackID, len(packs))
	for i, p := range packs {
		ids[i] = p.ID
	}
	missing, err := k.owner.Missing(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("compare the index with the log: %w", err)
	}
	return slices.DeleteFunc(packs, func(p Pack) bool { return !slices.Contains(missing, p.ID) }), nil
}

func (k *collector) index(ctx context.Context, objects []Object) error {
	if err := k.owner.Add(ctx, objects); err != nil {
		return fmt.Errorf("add packs to the index: %w", err)
	}
	return nil
}

// deleteCommits deletes the expired commits that nobody needs any more. What
// they named is named elsewhere by now.
func (k *collector) deleteCommits(ctx context.Context) error {
	for _, c := range k.over {
		switch err := k.deleteNumbered(ctx, k.tenant, commitKey(k.tenant, c.source, c.seq)); {
		case errors.Is(err, ErrRetained):
			k.result.Retained++
		case err != nil && !errors.Is(err, ErrNotExist):
			return fmt.Errorf("delete commit %d of %s: %w", c.seq, c.source, err)
		default:
			k.result.Commits++
		}
	}
	return nil
}
