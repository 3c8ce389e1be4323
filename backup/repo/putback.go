package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrOther says that a storage is not a copy of this repository.
var ErrOther = errors.New("the copy is of another repository")

// PutBack replaces objects of a tenant, named by their keys, by those of a copy
// of the repository, and calls did for each, with nil if it is whole now. What
// the copy has is compared first with what it has to be: a pack with the SHA-256
// that its snapshot names, a commit and an entry of the deletion log by opening
// them. What turns out to be whole stays as it is. Interrupted, it is called again.
//
// The log and commits come before packs, so that they can say what those have to be.
func (r *Repository) PutBack(ctx context.Context, from Storage, tenant string, keys []string, did func(key string, err error) error) error {
	if err := r.isCopy(ctx, from); err != nil {
		return err
	}
	p := putBack{Repository: r, from: from, tenant: tenant}
	sealed := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return p.isPack(key) })
	packs := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !p.isPack(key) })
	slices.Sort(sealed)
	slices.Reverse(sealed) // the log, which says what expired, before the commits
	for _, key := range sealed {
		if err := p.object(ctx, key, p.checkSealed, did); err != nil {
			return err
		}
	}
	if len(packs) == 0 {
		return ctx.Err()
	}
	var err error
	if p.sums, err = r.tenantSums(ctx, tenant); err != nil {
		return err
	}
	for _, key := range packs {
		if err := p.object(ctx, key, p.checkPack, did); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// isCopy returns ErrOther if a storage has not a copy of this repository.
func (r *Repository) isCopy(ctx context.Context, from Storage) error {
	data, err := get(ctx, from, formatKey, 0, -1, maxFormat)
	if err != nil {
		return fmt.Errorf("read %s of the copy: %w", formatKey, err)
	}
	if f, err := parseFormat(data); err != nil || f.ID != r.id {
		return errors.Join(ErrOther, err)
	}
	return nil
}

// putBack is a PutBack under way.
type putBack struct {
	*Repository
	from   Storage
	tenant string
	sums   Sums
}

func (p *putBack) isPack(key string) bool {
	return strings.HasPrefix(key, "t/"+p.tenant+"/d/") || strings.HasPrefix(key, "t/"+p.tenant+"/m/")
}

// object puts one object back. What the copy can't help with is told to did; the
// error is for what keeps all of it from going on.
func (p *putBack) object(ctx context.Context, key string, check func(context.Context, string, []byte) error, did func(string, error) error) error {
	err := p.replace(ctx, key, check)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !isDamage(err) && !errors.Is(err, ErrRetained) {
		return fmt.Errorf("put %s back: %w", key, err)
	}
	return did(key, err)
}

func (p *putBack) replace(ctx context.Context, key string, check func(context.Context, string, []byte) error) error {
	if own, err := get(ctx, p.storage, key, 0, -1, maxPack); err == nil && check(ctx, key, own) == nil {
		return nil
	}
	whole, err := get(ctx, p.from, key, 0, -1, maxPack)
	if err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	if err := check(ctx, key, whole); err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	if err := p.storage.Delete(ctx, key); err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	return put(context.WithoutCancel(ctx), p.storage, key, whole)
}

func (p *putBack) checkPack(_ context.Context, key string, data []byte) error {
	want, ok := p.sums[key]
	if !ok {
		return damaged(key, "no snapshot names it")
	}
	if sum := sha256.Sum256(data); !bytes.Equal(sum[:], want) {
		return damaged(key, "its bytes are not those that were written")
	}
	return nil
}

// checkSealed opens a commit or an entry of the deletion log.
func (p *putBack) checkSealed(ctx context.Context, key string, data []byte) error {
	part := strings.Split(key, "/")
	seq, epoch, ok := parseNumbered("", part[len(part)-1])
	as := func(name string) bool {
		return key == name && epoch == 0 || epoch > 0 && key == renewedKey(name, epoch)
	}
	switch {
	case !ok:
	case len(part) == 5 && as(commitKey(p.tenant, part[3], seq)):
		_, _, err := p.openCommit(ctx, p.tenant, part[3], numbered{seq: seq, key: key}, data)
		return err
	case as(logKey(p.tenant, seq)):
		_, err := p.openEntry(ctx, p.tenant, seq, data)
		return err
	}
	return damaged(key, "it is no object of this organization")
}

// tenantSums are the SHA-256 that the packs of a tenant have to have, as far as
// its commits and its deletion log can be read.
func (r *Repository) tenantSums(ctx context.Context, tenant string) (Sums, error) {
	log, err := r.currentLog(ctx, tenant)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	sums := Sums{}
	take := func(packs []Pack) {
		for _, p := range packs {
			sums[packKey(tenant, p.Kind, p.ID)] = p.SHA256
		}
	}
	take(log.packs(func(adopted) bool { return true }))
	sources, err := r.Sources(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		for c, err := range r.Commits(ctx, tenant, source, 0) {
			if err == nil {
				take(c.Packs)
			} else if !isDamage(err) {
				return nil, err
			}
		}
		for c, err := range r.expiredCommits(ctx, tenant, log.of(source)) {
			if err == nil {
				take(c.Packs)
			} else if !isDamage(err) {
				return nil, err
			}
		}
	}
	return sums, ctx.Err()
}
