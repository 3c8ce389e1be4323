package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
)

// Span is a range of snapshots, both ends included.
type Span struct {
	From int64 `cbor:"1,keyasint"`
	To   int64 `cbor:"2,keyasint"`
}

// Expired says which snapshots of a source are no longer kept.
type Expired struct {
	Source string
	Spans  []Span // in order, without overlap
	Erased bool   // the source's key is destroyed as well
}

// Has says whether a snapshot is no longer kept.
func (e Expired) Has(seq int64) bool {
	_, ok := slices.BinarySearchFunc(e.Spans, seq, func(s Span, seq int64) int {
		switch {
		case s.To < seq:
			return -1
		case s.From > seq:
			return 1
		}
		return 0
	})
	return ok
}

// joinSpans sorts spans and joins those that touch.
func joinSpans(list []Span) []Span {
	slices.SortFunc(list, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	out := list[:0]
	for _, s := range list {
		if n := len(out); n > 0 && s.From <= out[n-1].To+1 {
			out[n-1].To = max(out[n-1].To, s.To)
			continue
		}
		out = append(out, s)
	}
	return out
}

// SpansOf returns the spans of a list of snapshots.
func SpansOf(seqs []int64) []Span {
	list := make([]Span, len(seqs))
	for i, seq := range seqs {
		list[i] = Span{seq, seq}
	}
	return joinSpans(list)
}

// ErrNewest says that the newest snapshot of a source was to expire, on which
// its next one builds.
var ErrNewest = errors.New("the newest snapshot does not expire")

// Expire writes a tombstone for snapshots of a source: from then on they are
// not read, counted or kept any more. Collections free what only they needed.
// Snapshots that expired before, or do not exist, may be among them; the newest
// one may not, which is ErrNewest.
func (r *Repository) Expire(ctx context.Context, tenant, source string, spans []Span) error {
	if err := errors.Join(validName(tenant), validName(source)); err != nil {
		return err
	}
	for _, s := range spans {
		if s.From < 1 || s.To < s.From {
			return fmt.Errorf("snapshots %d to %d are no range", s.From, s.To)
		}
	}
	newest, err := r.newest(ctx, tenant, source)
	if err != nil {
		return err
	}
	spans = joinSpans(slices.Clone(spans))
	if n := len(spans); n == 0 {
		return nil
	} else if spans[n-1].To >= newest {
		return fmt.Errorf("snapshot %d of %s: %w", newest, source, ErrNewest)
	}
	return r.bury(ctx, tenant, expired{Source: source, Spans: spans})
}

// Erase writes a tombstone for everything that a source has, and will have. The
// caller destroys its keys then, and calls Forget. It may be called again.
func (r *Repository) Erase(ctx context.Context, tenant, source string) error {
	if err := errors.Join(validName(tenant), validName(source)); err != nil {
		return err
	}
	return r.bury(ctx, tenant, expired{Source: source, Spans: []Span{{1, forever}}, Erased: true})
}

// Forget drops what this process holds in memory of a source, or, with "", of a
// tenant: its keys, and blobs that they opened. It is called after the keys were
// destroyed; other processes use theirs for at most KeyLife.
func (r *Repository) Forget(tenant, source string) {
	r.keys.forget(tenant, source)
	r.cache.forget(tenant, source)
}

// Holding is what the storage holds of a source.
type Holding struct {
	Snapshots int // expired ones that are still there included
	Packs     int
	Bytes     int64
}

// Holding sums up the packs that the snapshots of a source brought and that are
// there, those whose shared pieces others use included. It needs no key of the
// source.
func (r *Repository) Holding(ctx context.Context, tenant, source string) (Holding, error) {
	var h Holding
	seqs, err := r.commitNumbers(ctx, tenant, source)
	if err != nil {
		return h, err
	}
	log, err := r.currentLog(ctx, tenant)
	if err != nil {
		return h, err
	}
	seen := map[logPack]bool{}
	add := func(packs []Pack) {
		for _, p := range packs {
			name := logPack{p.ID, p.Kind}
			if seen[name] || log.released[name] {
				continue
			}
			seen[name] = true
			h.Packs++
			h.Bytes += p.Length
		}
	}
	for _, seq := range seqs {
		c, _, err := r.sealedCommit(ctx, tenant, source, seq)
		if err != nil {
			return h, fmt.Errorf("commit %d of %s: %w", seq, source, err)
		}
		h.Snapshots++
		add(c.Packs)
	}
	add(log.packs(func(a adopted) bool { return a.Source == source }))
	return h, nil
}

// forever is the end of a span that holds for snapshots to come as well.
const forever = math.MaxInt64 - 1

// newest returns the number of the newest commit of a source, 0 for none.
func (r *Repository) newest(ctx context.Context, tenant, source string) (int64, error) {
	seqs, err := r.commitNumbers(ctx, tenant, source)
	if err != nil || len(seqs) == 0 {
		return 0, err
	}
	return seqs[len(seqs)-1], nil
}

// commitNumbers lists the commits of a source that are there, expired or not.
func (r *Repository) commitNumbers(ctx context.Context, tenant, source string) ([]int64, error) {
	found, err := r.listNumbered(ctx, commitPrefix(tenant, source))
	if err != nil {
		return nil, fmt.Errorf("list commits: %w", err)
	}
	list := make([]int64, len(found))
	for i, n := range found {
		list[i] = n.seq
	}
	return list, nil
}

// eachCommit reads all commits of a source in order, those that expired too. One
// that is missing between others and did not expire, or can't be read, is an error.
func (r *Repository) eachCommit(ctx context.Context, tenant, source string, gone Expired, do func(Commit)) error {
	seqs, err := r.commitNumbers(ctx, tenant, source)
	if err != nil {
		return err
	}
	next := int64(1)
	for _, seq := range seqs {
		if missing := gone.firstKept(next); missing < seq {
			return damaged(commitKey(tenant, source, missing), "it is missing")
		}
		next = seq + 1
		c, _, err := r.sealedCommit(ctx, tenant, source, seq)
		if err != nil {
			return fmt.Errorf("commit %d of %s: %w", seq, source, err)
		}
		do(c)
	}
	return nil
}

// bury appends a tombstone, after whatever others append meanwhile.
func (r *Repository) bury(ctx context.Context, tenant string, e expired) error {
	for {
		log, err := r.readLog(ctx, tenant)
		if err != nil {
			return err
		}
		if log.buried(e) {
			return nil
		}
		err = r.appendLog(ctx, tenant, log.seq+1, logRecord{Expired: []expired{e}})
		if !errors.Is(err, ErrCollecting) || ctx.Err() != nil {
			return err
		}
	}
}

// buried says that the log has a tombstone for all of e already.
func (d deletions) buried(e expired) bool {
	old := d.of(e.Source)
	if e.Erased && !old.Erased {
		return false
	}
	for _, s := range e.Spans {
		if !slices.ContainsFunc(old.Spans, func(o Span) bool { return o.From <= s.From && s.To <= o.To }) {
			return false
		}
	}
	return true
}

// Expired returns what is no longer kept of a source.
func (r *Repository) Expired(ctx context.Context, tenant, source string) (Expired, error) {
	log, err := r.currentLog(ctx, tenant)
	if err != nil {
		return Expired{Source: source}, err
	}
	return log.of(source), nil
}

// AllExpired returns what is no longer kept of every source of a tenant, in
// order of the sources.
func (r *Repository) AllExpired(ctx context.Context, tenant string) ([]Expired, error) {
	log, err := r.currentLog(ctx, tenant)
	if err != nil {
		return nil, err
	}
	return log.all(), nil
}

func (d deletions) all() []Expired {
	list := make([]Expired, 0, len(d.expired))
	for _, source := range slices.Sorted(maps.Keys(d.expired)) {
		list = append(list, d.of(source))
	}
	return list
}

// Kept lists the commits of a source that are newer than after and kept, in
// order. If the deletion log is damaged, all that are there are kept.
func (r *Repository) Kept(ctx context.Context, tenant, source string, after int64) ([]int64, error) {
	gone, err := r.Expired(ctx, tenant, source)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	list, err := r.commitNumbers(ctx, tenant, source)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(seq int64) bool { return seq <= after || gone.Has(seq) }), nil
}

// Missing lists the commits of a source before its newest that are not there and did
// not expire.
func (r *Repository) Missing(ctx context.Context, tenant, source string) ([]int64, error) {
	gone, err := r.Expired(ctx, tenant, source)
	if err != nil {
		return nil, err
	}
	there, err := r.commitNumbers(ctx, tenant, source)
	if err != nil {
		return nil, err
	}
	var missing []int64
	next := int64(1)
	for _, seq := range there {
		for next = gone.firstKept(next); next < seq; next = gone.firstKept(next + 1) {
			missing = append(missing, next)
		}
		next = seq + 1
	}
	return missing, nil
}

// OtherPacks returns the packs of a source that no kept snapshot names, but some
// may still need: those that the log names, and those of expired commits that
// are still there. With their objects, all kept snapshots can be read. Expired
// commits that can't be read are left out.
func (r *Repository) OtherPacks(ctx context.Context, tenant, source string) ([]Pack, error) {
	log, err := r.currentLog(ctx, tenant)
	if err != nil {
		return nil, err
	}
	list := log.packs(func(a adopted) bool { return a.Source == source })
	gone := log.of(source)
	if len(gone.Spans) == 0 {
		return list, nil
	}
	for c, err := range r.expiredCommits(ctx, tenant, gone) {
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotExist) {
			return nil, err
		}
		list = append(list, c.Packs...)
	}
	return list, nil
}

// expiredCommits yields the expired commits of a source that are still there,
// with their Info sealed.
func (r *Repository) expiredCommits(ctx context.Context, tenant string, gone Expired) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		seqs, err := r.commitNumbers(ctx, tenant, gone.Source)
		if err != nil {
			yield(Commit{}, err)
			return
		}
		for _, seq := range seqs {
			if !gone.Has(seq) {
				continue
			}
			c, _, err := r.sealedCommit(ctx, tenant, gone.Source, seq)
			if err != nil {
				err = fmt.Errorf("commit %d of %s: %w", seq, gone.Source, err)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// packs returns the adopted packs that want chooses, in order of their ids.
func (d deletions) packs(want func(adopted) bool) []Pack {
	var list []Pack
	for _, a := range d.adopted {
		if want(a) {
			list = append(list, a.Pack)
		}
	}
	slices.SortFunc(list, func(a, b Pack) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return list
}

// Always is the span of a source that is erased.
var Always = Span{1, forever}
