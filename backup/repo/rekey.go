package repo

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The answer to leaked keys is a new epoch of them, into which everything is
// moved that is there already. Packs are written anew and the old ones condemned,
// batch by batch, as a collection does it; commits and entries of the deletion
// log are sealed anew. Collections delete the old packs when their time is over.
// Then nothing stands under the older keys any more, and they can be destroyed.
// What is done shows in the storage alone, so whoever is killed is followed by
// another who goes on there.

// Rekeyed is how far a tenant has come into the newest epoch of its keys.
type Rekeyed struct {
	Epoch   int      // the newest
	Packs   int      // that were written anew
	Bytes   int64    // of the packs that have them now
	Sealed  int      // commits and entries of the deletion log that were sealed anew
	Damaged []string // keys of packs and commits that can't be read: they stay under older keys
	Standing
}

// Standing is what stands under older keys.
type Standing struct {
	Objects  int      // all that a tenant has, of whatever epoch
	Old      int      // packs, commits and entries whose older keys are still needed
	Retained []string // keys of those that nobody needs, and that a lock keeps from being deleted
	// RetainedUntil is when the last of their locks ends, zero if the storage does not
	// say it of each: a legal hold has no end.
	RetainedUntil time.Time
}

// rekeyBatch is how many packs are written anew before the log hears of them.
const rekeyBatch = 32

// WriterLife is for how long a writer may commit what it wrote under the keys
// that it began with.
const WriterLife = maxWriter

// Rekey moves what a tenant has under older keys into the newest epoch: see above.
// Interrupted, it is called again. Told hears how many of the packs are done.
func (r *Repository) Rekey(ctx context.Context, tenant string, owner Owner, told func(done, total int) error) (Rekeyed, error) {
	var done Rekeyed
	if err := validName(tenant); err != nil {
		return done, err
	}
	epoch, err := r.newestEpoch(ctx, tenant)
	if err != nil {
		return done, err
	}
	k := rekeying{Repository: r, tenant: tenant, owner: owner, epoch: epoch, result: &done}
	done.Epoch = int(epoch)
	if err := r.catchUp(ctx, tenant, owner); err != nil {
		return done, err
	}
	if err := errors.Join(k.sealLog(ctx), k.sealCommits(ctx)); err != nil {
		return done, err
	}
	return done, k.movePacks(ctx, told)
}

// rekeying is a Rekey under way.
type rekeying struct {
	*Repository
	tenant string
	owner  Owner
	epoch  uint32
	result *Rekeyed
}

// sealLog seals the entries of the deletion log anew that are under older keys.
func (k *rekeying) sealLog(ctx context.Context) error {
	list, err := k.listNumbered(ctx, logPrefix(k.tenant))
	if err != nil {
		return fmt.Errorf("list the deletion log: %w", err)
	}
	for _, n := range list {
		data, err := get(ctx, k.storage, n.key, 0, -1, maxLog)
		if err != nil {
			return fmt.Errorf("read the deletion log: %w", err)
		}
		if epoch, header := logEpoch(data); header > 0 && epoch >= k.epoch {
			continue
		}
		rec, err := k.openEntry(ctx, k.tenant, n.seq, data)
		if err != nil {
			return err
		}
		if data, err = k.sealEntry(ctx, k.tenant, k.epoch, n.seq, rec); err != nil {
			return err
		}
		if err := k.renew(ctx, logKey(k.tenant, n.seq), data); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// renew puts a numbered object beside what it was.
func (k *rekeying) renew(ctx context.Context, key string, data []byte) error {
	err := put(ctx, k.storage, renewedKey(key, k.epoch), data)
	if errors.Is(err, ErrExist) {
		return nil // somebody else did it
	}
	if err != nil {
		return fmt.Errorf("seal %s anew: %w", key, err)
	}
	k.result.Sealed++
	return nil
}

// sealCommits seals the commits anew that are under older keys, the expired ones
// too: until their packs are gone, they say what those are.
func (k *rekeying) sealCommits(ctx context.Context) error {
	sources, err := k.Sources(ctx, k.tenant)
	if err != nil {
		return err
	}
	log, err := k.currentLog(ctx, k.tenant)
	if err != nil {
		return err
	}
	for _, source := range sources {
		list, err := k.listNumbered(ctx, commitPrefix(k.tenant, source))
		if err != nil {
			return fmt.Errorf("list commits: %w", err)
		}
		for _, n := range list {
			err := k.sealCommit(ctx, source, n, log)
			if errors.Is(err, ErrNotExist) {
				continue // a collection deleted it
			}
			if isDamage(err) {
				k.result.Damaged = append(k.result.Damaged, n.key)
				continue
			}
			if err != nil {
				return fmt.Errorf("commit %d of %s: %w", n.seq, source, err)
			}
		}
	}
	return ctx.Err()
}

func (k *rekeying) sealCommit(ctx context.Context, source string, n numbered, log deletions) error {
	data, err := get(ctx, k.storage, n.key, 0, -1, maxCommit)
	if err != nil {
		return err
	}
	if len(data) >= commitHeader && binary.BigEndian.Uint32(data[8:]) >= k.epoch {
		return nil
	}
	c, header, err := k.openCommit(ctx, k.tenant, source, n, data)
	if err != nil {
		return err
	}
	by := newCollector(k.Repository, k.tenant, k.owner)
	by.log = log
	w, err := by.mover(ctx, source)
	if err != nil {
		return err
	}
	erased := w.sourceKey == nil // then what only its key opened stays as it is
	if !erased {
		if c, err = k.openInfo(ctx, k.tenant, source, n, c, header); err != nil {
			return err
		}
	}
	if data, err = w.sealCommit(c, erased); err != nil {
		return err
	}
	return k.renew(ctx, commitKey(k.tenant, source, n.seq), data)
}

// movePacks writes the packs anew that are under older keys and that commits or
// the log name. Collections see to the others.
func (k *rekeying) movePacks(ctx context.Context, told func(done, total int) error) error {
	log, err := k.readLog(ctx, k.tenant)
	if err != nil {
		return err
	}
	packs, err := k.oldPacks(ctx, k.tenant, log, k.epoch)
	if err != nil {
		return err
	}
	k.result.Damaged = append(k.result.Damaged, packs.damaged...)
	named, err := k.namedPacks(ctx, k.tenant, log)
	if err != nil {
		return err
	}
	list := slices.DeleteFunc(packs.old, func(p logPack) bool {
		_, condemned := log.condemned[p]
		_, ok := named[p]
		return condemned || log.released[p] || !ok
	})
	slices.SortFunc(list, func(a, b logPack) int { // what is small of one source comes together
		return cmp.Or(cmp.Compare(named[a].Source, named[b].Source), cmp.Compare(a.Kind, b.Kind), slices.Compare(a.ID[:], b.ID[:]))
	})
	for done := 0; done < len(list); {
		batch := list[done:min(done+rekeyBatch, len(list))]
		err := k.moveBatch(ctx, batch)
		if errors.Is(err, ErrCollecting) && ctx.Err() == nil {
			continue // somebody else appended to the log: decide anew
		}
		if err != nil {
			return err
		}
		done += len(batch)
		if err := told(done, len(list)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// moveBatch writes packs anew, and condemns them.
func (k *rekeying) moveBatch(ctx context.Context, packs []logPack) error {
	by := newCollector(k.Repository, k.tenant, k.owner)
	by.whole = true
	var err error
	if by.log, err = k.readLog(ctx, k.tenant); err != nil {
		return err
	}
	writers := map[string]*Writer{}
	defer func() {
		for _, w := range writers {
			w.Abort()
		}
	}()
	rec := logRecord{Moved: true}
	var damaged []string
	for _, p := range packs {
		if _, condemned := by.log.condemned[p]; condemned || by.log.released[p] {
			continue
		}
		err := by.movePack(ctx, p, writers)
		switch {
		case errors.Is(err, ErrNotExist):
		case isDamage(err):
			damaged = append(damaged, p.key(k.tenant))
		case err != nil:
			return fmt.Errorf("write pack %s anew: %w", p.ID, err)
		default:
			rec.Condemned = append(rec.Condemned, p)
		}
	}
	objects, err := by.flushMoved(ctx, writers, &rec)
	if err != nil {
		return err
	}
	if time.Since(by.began) > maxCollector {
		return fmt.Errorf("it took too long: %w", ErrStale)
	}
	if len(rec.Condemned) > 0 {
		if err := k.appendLog(ctx, k.tenant, by.log.seq+1, rec); err != nil {
			return err
		}
	}
	k.result.Damaged = append(k.result.Damaged, damaged...)
	k.result.Packs += len(rec.Condemned)
	k.result.Bytes += by.result.Written
	if err := k.owner.Add(ctx, objects); err != nil {
		return fmt.Errorf("add what was written anew to the index: %w", err)
	}
	return nil
}
