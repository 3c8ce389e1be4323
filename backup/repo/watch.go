package repo

import (
	"context"
	"fmt"
)

// Watch follows a verification pack by pack.
type Watch struct {
	// Level says how deep a pack is looked at; nil for as deep as Verify is told.
	// It is called from several goroutines.
	Level func(Pack) VerifyLevel
	// Checked is told how a pack of a source was found, one after the other; an
	// error ends the verification. Err is nil if the pack is whole as far as level
	// looks.
	Checked func(source string, p Pack, level VerifyLevel, err error) error
}

// Watched returns the repository for a verification that w follows. How long
// the packs of the tenant are it asks once, by listing them.
func (r *Repository) Watched(ctx context.Context, tenant string, w Watch) (*Repository, error) {
	packs, err := r.listPacks(ctx, tenant)
	if err != nil {
		return nil, err
	}
	listed := listedStorage{Storage: r.storage, sizes: make(map[string]int64, len(packs))}
	for p, size := range packs {
		listed.sizes[p.key(tenant)] = size
	}
	return &Repository{storage: listed, index: r.index, keys: newKeyring(r.keys.store), options: r.options,
		id: r.id, encoder: r.encoder, decoder: r.decoder, ledger: r.ledger, watch: &w}, nil
}

// listedStorage answers from a listing how long packs are. What came since is
// asked for.
type listedStorage struct {
	Storage
	sizes map[string]int64
}

// Stat implements Storage.
func (l listedStorage) Stat(ctx context.Context, key string) (int64, error) {
	if size, ok := l.sizes[key]; ok {
		return size, nil
	}
	return l.Storage.Stat(ctx, key)
}

// watched looks at one pack as deep as the watcher says.
func (v *verification) watched(ctx context.Context, p *packCheck) (int, error) {
	if v.watch == nil {
		return v.check(ctx, p)
	}
	if v.watch.Level != nil {
		p.level = min(p.level, v.watch.Level(p.Pack)) // of an erased source nothing opens
	}
	n, err := v.check(ctx, p)
	v.told.Lock()
	defer v.told.Unlock()
	if stop := v.watch.Checked(p.source, p.Pack, p.level, err); stop != nil {
		return n, fmt.Errorf("follow the verification: %w", stop)
	}
	return n, err
}

// CommitName names a commit in messages: its key.
func CommitName(tenant, source string, seq int64) string { return commitKey(tenant, source, seq) }

// PackName names a pack in messages: its key.
func PackName(tenant string, p Pack) string { return packKey(tenant, p.Kind, p.ID) }
