package repo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Salvaged is what Salvage found in damaged packs and wrote anew.
type Salvaged struct {
	Packs  int      // that were taken apart, or were not there
	Pieces int      // that were whole
	Bytes  int64    // of the packs that have them now
	Done   []string // keys of the packs that nobody names any more
}

// Add adds what another Salvage did.
func (s *Salvaged) Add(o Salvaged) {
	s.Packs, s.Pieces, s.Bytes, s.Done = s.Packs+o.Packs, s.Pieces+o.Pieces, s.Bytes+o.Bytes, append(s.Done, o.Done...)
}

// salvageBatch is how many packs are taken apart before the log hears of them.
const salvageBatch = 32

// Salvage takes damaged packs of a tenant apart, named by their keys: every blob
// that is still whole is written to a new pack, and the deletion log says so. From
// then on nobody uses the damaged packs; a collection deletes them Grace later,
// since a disk, or a copy, may come back that has them whole: see Revive. Shared
// are the keys of shared pieces by their identifiers, without which those can't be
// told to be whole. Packs that turn out to be whole stay. The index is told by the
// owner. Interrupted, it is called again. Told hears how many of the packs are done.
func (r *Repository) Salvage(ctx context.Context, tenant string, packs []string, shared map[PieceID][]byte, owner Owner, told func(done int) error) (Salvaged, error) {
	var all Salvaged
	names := r.packNames(tenant, packs)
	if err := r.catchUp(ctx, tenant, owner); err != nil {
		return all, err
	}
	for done := 0; done < len(names); {
		batch := names[done:min(done+salvageBatch, len(names))]
		s := salvage{Repository: r, tenant: tenant, owner: owner, shared: shared, writers: map[string]*Writer{}}
		err := s.do(ctx, batch)
		s.abort()
		if errors.Is(err, ErrCollecting) && ctx.Err() == nil {
			// Somebody else appended to the log, or this did and the answer was lost:
			// decide anew.
			if err := r.catchUp(ctx, tenant, owner); err != nil {
				return all, err
			}
			continue
		}
		all.Add(s.result)
		if err != nil {
			return all, err
		}
		done += len(batch)
		if err := told(done); err != nil {
			return all, err
		}
	}
	return all, nil
}

// packNames are the packs among keys of objects.
func (r *Repository) packNames(tenant string, keys []string) []logPack {
	var list []logPack
	for _, key := range keys {
		if p, ok := packOf(tenant, key); ok && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// catchUp ends what an interrupted Salvage began: the index knows the packs that
// the log names, and nothing of those that it released.
func (r *Repository) catchUp(ctx context.Context, tenant string, owner Owner) error {
	k := newCollector(r, tenant, owner)
	var err error
	if k.log, err = r.currentLog(ctx, tenant); err != nil {
		return err
	}
	if err := k.completeLeft(ctx); err != nil {
		return err
	}
	gone := make([]PackID, 0, len(k.log.released))
	for p := range k.log.released {
		gone = append(gone, p.ID)
	}
	missing, err := owner.Missing(ctx, gone)
	if err != nil {
		return err
	}
	return owner.Forget(ctx, slices.DeleteFunc(gone, func(id PackID) bool { return slices.Contains(missing, id) }))
}

// salvage is a batch of a Salvage.
type salvage struct {
	*Repository
	tenant  string
	owner   Owner
	shared  map[PieceID][]byte
	log     deletions
	named   map[logPack]adopted
	epochs  uint32 // newest epoch of the tenant's keys
	writers map[string]*Writer
	lost    map[PieceID]bool // nothing else is written anew; nil for no choice
	back    map[PieceID]bool // what was lost and is written
	result  Salvaged
}

func (s *salvage) abort() {
	for _, w := range s.writers {
		w.Abort()
	}
}

// begin reads what the log and the commits say.
func (s *salvage) begin(ctx context.Context) (err error) {
	if s.log, err = s.readLog(ctx, s.tenant); err != nil {
		return err
	}
	if s.named, err = s.namedPacks(ctx, s.tenant, s.log); err != nil {
		return err
	}
	epoch, err := s.keys.store.Epoch(ctx, s.tenant)
	if err != nil {
		return fmt.Errorf("read key epoch: %w", err)
	}
	s.epochs = uint32(epoch) //nolint:gosec // epochs are small
	return nil
}

func (s *salvage) do(ctx context.Context, packs []logPack) error {
	began := time.Now()
	if err := s.begin(ctx); err != nil {
		return err
	}
	var rec logRecord
	for _, p := range packs {
		if s.log.released[p] {
			s.result.Done = append(s.result.Done, p.key(s.tenant))
			continue
		}
		if s.whole(ctx, p) {
			continue
		}
		if err := s.pack(ctx, p); err != nil {
			return fmt.Errorf("take pack %s apart: %w", p.ID, err)
		}
		rec.Deleted = append(rec.Deleted, p)
		s.result.Packs++
	}
	if len(rec.Deleted) == 0 {
		return nil
	}
	return s.finish(ctx, began, rec)
}

// whole says that a pack is what its snapshot names, or that it can't be told: a
// disk that fails to read may do it the next time.
func (s *salvage) whole(ctx context.Context, p logPack) bool {
	want, ok := s.named[p]
	data, err := get(ctx, s.storage, p.key(s.tenant), 0, -1, maxPack)
	if err != nil {
		return !isDamage(err) || errors.Is(err, syscall.EIO)
	}
	check := putBack{Repository: s.Repository, tenant: s.tenant, sums: Sums{p.key(s.tenant): want.Pack.SHA256}}
	return ok && check.checkPack(ctx, p.key(s.tenant), data) == nil
}

// BrokenMeta returns the keys of those packs of metadata that are not what they
// have to be and that no Salvage took apart yet.
func (r *Repository) BrokenMeta(ctx context.Context, tenant string, packs []Pack) (broken []string, err error) {
	s := salvage{Repository: r, tenant: tenant, named: map[logPack]adopted{}}
	if s.log, err = r.currentLog(ctx, tenant); err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	for _, p := range packs {
		name := logPack{p.ID, p.Kind}
		s.named[name] = adopted{Pack: p}
		if p.Kind == PackMeta && !s.log.released[name] && !s.whole(ctx, name) {
			broken = append(broken, name.key(tenant))
		}
	}
	return broken, ctx.Err()
}

// Absent returns the keys of those packs that are not there.
func (r *Repository) Absent(ctx context.Context, tenant string, packs []Pack) (absent []string, err error) {
	there, err := r.listPacks(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, p := range packs {
		if _, ok := there[logPack{p.ID, p.Kind}]; !ok {
			absent = append(absent, packKey(tenant, p.Kind, p.ID))
		}
	}
	return absent, nil
}

// finish makes the new packs durable, and tells the log and the index.
func (s *salvage) finish(ctx context.Context, began time.Time, rec logRecord) error {
	var objects []Object
	for source, w := range s.writers {
		w.life.Lock()
		err := w.flush(ctx)
		w.life.Unlock()
		if err != nil {
			return fmt.Errorf("write what is whole of %s: %w", source, err)
		}
		for _, p := range w.done {
			rec.Adopted = append(rec.Adopted, adopted{p, source})
			s.result.Bytes += p.Length
		}
		objects = append(objects, append(w.data.objects, w.meta.objects...)...)
	}
	if rec.empty() {
		return nil
	}
	if time.Since(began) > maxCollector {
		return fmt.Errorf("it took too long: %w", ErrStale)
	}
	if err := s.appendLog(ctx, s.tenant, s.log.seq+1, rec); err != nil {
		return err
	}
	s.result.Pieces += len(objects)
	if err := s.owner.Add(ctx, objects); err != nil {
		return fmt.Errorf("add what was whole to the index: %w", err)
	}
	ids := make([]PackID, len(rec.Deleted))
	for i, p := range rec.Deleted {
		ids[i] = p.ID
	}
	if err := s.owner.Forget(ctx, ids); err != nil {
		return fmt.Errorf("take damaged packs out of the index: %w", err)
	}
	s.cache.forget(s.tenant, "")
	for _, p := range rec.Deleted {
		s.result.Done = append(s.result.Done, p.key(s.tenant))
	}
	return nil
}

// namedPacks are the packs that the commits of a tenant name, as far as they can
// be read, or its deletion log.
func (r *Repository) namedPacks(ctx context.Context, tenant string, log deletions) (map[logPack]adopted, error) {
	named := maps.Clone(log.adopted)
	sources, err := r.Sources(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		seqs, err := r.commitNumbers(ctx, tenant, source)
		if err != nil {
			return nil, err
		}
		for _, seq := range seqs {
			c, _, err := r.sealedCommit(ctx, tenant, source, seq)
			if err != nil && !isDamage(err) {
				return nil, err
			}
			for _, p := range c.Packs {
				named[logPack{p.ID, p.Kind}] = adopted{p, source}
			}
		}
	}
	return named, ctx.Err()
}

// packOf reads the name of a pack of a tenant from its key.
func packOf(tenant, key string) (logPack, bool) {
	for _, kind := range []PackKind{PackData, PackMeta} {
		if !strings.HasPrefix(key, fmt.Sprintf("t/%s/%c/", tenant, kind)) {
			continue
		}
		p := logPack{Kind: kind}
		if id, ok := packID(key); ok {
			p.ID = id
			return p, p.key(tenant) == key
		}
	}
	return logPack{}, false
}
