package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Pruned is what PruneCopy did.
type Pruned struct {
	Deleted  int      // packs and expired commits
	Freed    int64    // bytes of the packs
	Retained int      // packs and commits that an object lock still keeps
	Left     []string // tenants of which nothing was deleted, and why
}

// PruneCopy deletes from a copy of a repository, after Replicate, what collections
// deleted from the repository because nothing needs it: what the mailboxes had
// that are erased, and what only expired commits needed.
//
// It deletes what the copy's own deletion log released, and nothing because it is
// not in the repository any more: that may be an accident, for which there is the
// copy. Packs that a repair took apart stay, since the copy may have them whole. It
// leaves a tenant alone whose log is not the repository's, or whose copy lacks
// anything that is needed. What the log released stays so: whoever deletes may
// sleep, die or be one of two, as with collections.
func PruneCopy(ctx context.Context, from, to Storage, keys KeyStore) (Pruned, error) {
	var done Pruned
	r, err := newRepository(to, keys, nil, Options{}, "")
	if err != nil {
		return done, err
	}
	tenants, err := r.Tenants(ctx)
	if err != nil {
		return done, err
	}
	for _, tenant := range tenants {
		p := copyPruner{Repository: r, from: from, tenant: tenant, began: time.Now().Round(0), did: &done}
		err := p.do(ctx)
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		if isDamage(err) || errors.Is(err, ErrNoKey) {
			done.Left = append(done.Left, fmt.Sprintf("%s: %v", tenant, err))
			continue
		}
		if err != nil {
			return done, fmt.Errorf("delete from the copy what %s does not need: %w", tenant, err)
		}
	}
	return done, nil
}

// copyPruner is the part of a PruneCopy for one tenant. The repository is the copy.
type copyPruner struct {
	*Repository
	from   Storage
	tenant string
	began  time.Time
	did    *Pruned
	log    deletions
	packs  map[logPack]int64
	kept   map[logPack]bool // that the log or a kept commit names
	over   []overCommit
}

func (p *copyPruner) do(ctx context.Context) (err error) {
	if p.log, err = p.readLog(ctx, p.tenant); err != nil {
		return err
	}
	if len(p.log.released) == 0 && len(p.log.expired) == 0 {
		return nil
	}
	entries, err := p.listNumbered(ctx, logPrefix(p.tenant))
	if err != nil {
		return fmt.Errorf("list the deletion log: %w", err)
	}
	if err := p.sameLog(ctx, entries); err != nil {
		return err
	}
	if p.packs, err = p.listPacks(ctx, p.tenant); err != nil {
		return err
	}
	if err := p.read(ctx); err != nil {
		return err
	}
	for pack := range p.kept {
		if _, there := p.packs[pack]; !there && !p.log.released[pack] {
			return damaged(pack.key(p.tenant), "the copy lacks it")
		}
	}
	for pack, size := range p.packs {
		if _, apart := p.log.apart[pack]; apart || !p.log.released[pack] {
			continue
		}
		if deleted, err := p.remove(ctx, pack.key(p.tenant)); err != nil {
			return err
		} else if deleted {
			p.did.Freed += size
		}
	}
	if err := p.commits(ctx); err != nil {
		return err
	}
	return p.older(ctx, entries)
}

// sameLog compares the log with the repository's: where that was written anew, it
// may need again what this one released.
func (p *copyPruner) sameLog(ctx context.Context, entries []numbered) error {
	for _, n := range entries {
		key := n.key
		theirs, err := get(ctx, p.from, key, 0, -1, maxLog)
		if err != nil {
			return fmt.Errorf("compare the deletion logs: %s: %w", key, err)
		}
		own, err := get(ctx, p.storage, key, 0, -1, maxLog)
		if err != nil {
			return fmt.Errorf("compare the deletion logs: %s: %w", key, err)
		}
		if !bytes.Equal(own, theirs) {
			return damaged(key, "it is another one in the copy")
		}
	}
	return nil
}

// read finds what is kept, and the commits that expired long ago.
func (p *copyPruner) read(ctx context.Context) error {
	p.kept = map[logPack]bool{}
	for pack := range p.log.adopted {
		p.kept[pack] = true
	}
	sources, err := p.Sources(ctx, p.tenant)
	if err != nil {
		return err
	}
	for _, source := range sources {
		gone := p.log.of(source)
		if err := p.eachCommit(ctx, p.tenant, source, gone, func(c Commit) {
			if p.log.over(source, c.Seq, p.began) {
				p.over = append(p.over, overCommit{source, c.Seq, c.Packs})
			}
			for _, pack := range c.Packs {
				name := logPack{pack.ID, pack.Kind}
				p.kept[name] = p.kept[name] || !gone.Has(c.Seq)
			}
		}); err != nil {
			return err
		}
	}
	maps.DeleteFunc(p.kept, func(_ logPack, kept bool) bool { return !kept })
	return ctx.Err()
}

// commits deletes the expired commits that name nothing any more that nobody else
// does, once a collection of the repository has deleted them there.
func (p *copyPruner) commits(ctx context.Context) error {
	for _, c := range p.over {
		if slices.ContainsFunc(c.packs, func(pack Pack) bool {
			name := logPack{pack.ID, pack.Kind}
			_, there := p.packs[name]
			return there && !p.kept[name] && !p.log.released[name]
		}) {
			continue
		}
		keys, err := p.numberedKeys(ctx, p.tenant, commitKey(p.tenant, c.source, c.seq))
		if err != nil {
			return err
		}
		if err := p.unlisted(ctx, keys); err != nil {
			return err
		}
	}
	return nil
}

// unlisted deletes a commit or an entry of the log, by the keys that it has or may
// have, of which the repository has none any more.
func (p *copyPruner) unlisted(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if _, err := p.from.Stat(ctx, key); err == nil {
			return nil
		} else if !errors.Is(err, ErrNotExist) {
			return err
		}
	}
	for _, key := range keys {
		if _, err := p.storage.Stat(ctx, key); errors.Is(err, ErrNotExist) {
			continue
		}
		if _, err := p.remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// older deletes commits and entries of the log that were sealed anew, where the
// repository has only those that take their place.
func (p *copyPruner) older(ctx context.Context, entries []numbered) error {
	sources, err := p.Sources(ctx, p.tenant)
	if err != nil {
		return err
	}
	for _, source := range sources {
		commits, err := p.listNumbered(ctx, commitPrefix(p.tenant, source))
		if err != nil {
			return fmt.Errorf("list commits: %w", err)
		}
		entries = append(entries, commits...)
	}
	for _, n := range entries {
		if len(n.older) == 0 {
			continue
		}
		if _, err := p.from.Stat(ctx, n.key); errors.Is(err, ErrNotExist) {
			continue // what takes their place is not there: that may be an accident
		} else if err != nil {
			return err
		}
		for _, key := range n.older {
			if err := p.unlisted(ctx, []string{key}); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove deletes an object of the copy, or counts it as locked.
func (p *copyPruner) remove(ctx context.Context, key string) (bool, error) {
	switch err := p.storage.Delete(ctx, key); {
	case errors.Is(err, ErrRetained):
		p.did.Retained++
		return false, nil
	case err != nil && !errors.Is(err, ErrNotExist):
		return false, fmt.Errorf("delete %s: %w", key, err)
	}
	p.did.Deleted++
	return true, nil
}
