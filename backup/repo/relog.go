package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
)

// Relog puts an entry in the place of every entry of a tenant's deletion log that
// can't be read, and has it say what the others do not: the snapshots that the
// owner's index knows to be gone, the packs that it knows and nobody names, and
// those that were deleted. What was condemned waits anew. It returns how many
// entries it wrote.
func (r *Repository) Relog(ctx context.Context, tenant string, gone []Expired, owner Owner) (int, error) {
	for n := 0; ; n++ {
		log, err := r.readLog(ctx, tenant)
		if !errors.Is(err, ErrDamaged) || ctx.Err() != nil {
			return n, err
		}
		rec, err := r.summary(ctx, tenant, log, owner)
		if err != nil {
			return n, err
		}
		for _, g := range gone {
			rec.Expired = append(rec.Expired, expired(g))
		}
		// The one that counts: if it was sealed anew, the first may be whole.
		_, key, err := r.getNumbered(ctx, tenant, logKey(tenant, log.seq+1), maxLog)
		if err != nil && !isDamage(err) {
			return n, fmt.Errorf("read an entry of the deletion log: %w", err)
		}
		err = r.storage.Delete(ctx, key)
		if err != nil && !errors.Is(err, ErrNotExist) {
			return n, fmt.Errorf("replace an entry of the deletion log: %w", err)
		}
		if err := r.appendLog(ctx, tenant, log.seq+1, rec); err != nil && !errors.Is(err, ErrCollecting) {
			return n, err
		}
		r.forgetLog(tenant)
	}
}

// forgetLog lets the log be read anew.
func (r *Repository) forgetLog(tenant string) {
	r.logs.mu.Lock()
	defer r.logs.mu.Unlock()
	delete(r.logs.logs, tenant)
}

// summary is what a lost entry of the log may have said about packs, as far as the
// index tells.
func (r *Repository) summary(ctx context.Context, tenant string, log deletions, owner Owner) (logRecord, error) {
	var rec logRecord
	packs, err := r.listPacks(ctx, tenant)
	if err != nil {
		return rec, err
	}
	named, err := r.namedPacks(ctx, tenant, log)
	if err != nil {
		return rec, err
	}
	var absent []PackID
	for p := range named {
		if _, there := packs[p]; !there {
			absent = append(absent, p.ID)
		}
	}
	unknown, err := owner.Missing(ctx, absent)
	if err != nil {
		return rec, err
	}
	for p := range named {
		if slices.Contains(unknown, p.ID) && len(rec.Deleted) < maxLogPack {
			rec.Deleted = append(rec.Deleted, p)
		}
	}
	rec.Adopted, _, err = r.orphans(ctx, tenant, packs, named, owner)
	return rec, err
}

// orphans are the packs that are there and that the index knows, but that nobody
// names; broken are those of them that are damaged.
func (r *Repository) orphans(ctx context.Context, tenant string, packs map[logPack]int64, named map[logPack]adopted, owner Owner) (list []adopted, broken []string, err error) {
	var ids []PackID
	for p := range packs {
		if _, ok := named[p]; !ok {
			ids = append(ids, p.ID)
		}
	}
	unknown, err := owner.Missing(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	for p := range packs {
		if _, ok := named[p]; ok || slices.Contains(unknown, p.ID) || len(list) >= maxLogPack {
			continue
		}
		data, err := get(ctx, r.storage, p.key(tenant), 0, -1, maxPack)
		if err != nil && !isDamage(err) {
			return nil, nil, err
		}
		f, _, err := r.footerIn(ctx, tenant, p.Kind, p.ID, int64(len(data)), sectionOf(data))
		if err != nil && !isDamage(err) {
			return nil, nil, err
		}
		sum := sha256.Sum256(data)
		pack := Pack{ID: p.ID, Kind: p.Kind, Length: int64(len(data)), SHA256: sum[:]}
		if err != nil || !r.opens(ctx, tenant, adopted{pack, f.Source}, data) {
			broken = append(broken, p.key(tenant))
			continue
		}
		list = append(list, adopted{pack, f.Source})
	}
	return list, broken, nil
}

// opens says whether the blobs of a pack open whose sum nobody knows, as far as
// there are keys; it may overwrite data.
func (r *Repository) opens(ctx context.Context, tenant string, a adopted, data []byte) bool {
	v := verification{Repository: r, tenant: tenant}
	_, err := v.checkBytes(ctx, &packCheck{Pack: a.Pack, source: a.Source, level: VerifyBlobs}, data)
	return !isDamage(err)
}

// Adopt has the deletion log name the packs that the owner's index knows and that
// nobody names any more, since the commit that did is lost. It returns the keys of
// those that can't be adopted because they are damaged.
func (r *Repository) Adopt(ctx context.Context, tenant string, owner Owner) (broken []string, err error) {
	return r.adoptThose(ctx, tenant, owner, r.knownPacks)
}

// AdoptAll is Adopt for the packs that the index does not know too, which knows
// them then: where commits can't be read that it had not taken in, nobody knows
// which packs they named. What killed runs left is among them; a collection
// condemns it.
func (r *Repository) AdoptAll(ctx context.Context, tenant string, owner Owner) (broken []string, err error) {
	broken, err = r.adoptThose(ctx, tenant, anyPack{owner}, func(_ context.Context, packs map[logPack]int64, _ Owner) (map[logPack]int64, error) {
		return packs, nil
	})
	if err != nil {
		return broken, err
	}
	k := newCollector(r, tenant, owner)
	if k.log, err = r.currentLog(ctx, tenant); err != nil {
		return broken, err
	}
	return broken, k.completeLeft(ctx)
}

// anyPack is an owner whose index takes every pack for known.
type anyPack struct{ Owner }

// Missing implements Owner.
func (anyPack) Missing(context.Context, []PackID) ([]PackID, error) { return nil, nil }

// adoptThose adopts, of the packs that which chooses, those that nobody names.
func (r *Repository) adoptThose(ctx context.Context, tenant string, owner Owner, which func(context.Context, map[logPack]int64, Owner) (map[logPack]int64, error)) (broken []string, err error) {
	for {
		log, err := r.readLog(ctx, tenant)
		if err != nil {
			return nil, err
		}
		// Packs before what the index says, and that before commits: one that is
		// committed in between is then named.
		packs, err := r.listPacks(ctx, tenant)
		if err != nil {
			return nil, err
		}
		known, err := which(ctx, packs, owner)
		if err != nil {
			return nil, err
		}
		named, err := r.namedPacks(ctx, tenant, log)
		if err != nil {
			return nil, err
		}
		for p := range known {
			if log.released[p] {
				delete(known, p)
			}
		}
		list, broken, err := r.orphans(ctx, tenant, known, named, owner)
		if err != nil || len(list) == 0 {
			return broken, err
		}
		err = r.appendLog(ctx, tenant, log.seq+1, logRecord{Adopted: list})
		if err != nil && !errors.Is(err, ErrCollecting) || ctx.Err() != nil {
			return broken, err
		}
	}
}

func (r *Repository) knownPacks(ctx context.Context, packs map[logPack]int64, owner Owner) (map[logPack]int64, error) {
	ids := make([]PackID, 0, len(packs))
	for p := range packs {
		ids = append(ids, p.ID)
	}
	missing, err := owner.Missing(ctx, ids)
	if err != nil {
		return nil, err
	}
	unknown := make(map[PackID]bool, len(missing))
	for _, id := range missing {
		unknown[id] = true
	}
	known := map[logPack]int64{}
	for p, size := range packs {
		if !unknown[p.ID] {
			known[p] = size
		}
	}
	return known, nil
}

// Recommit writes a snapshot of a source anew, in the place of one that can't be
// read, or whose tree can't: c says what it was, and old the packs that it
// brought. What the writer wrote belongs to it as well. The writer has ended in
// any case. Interrupted between the two, the snapshot is missing, and made again.
// One that is locked stays, which is ErrRetained: what the writer wrote is named by
// the deletion log then, and returned as well.
func (w *Writer) Recommit(ctx context.Context, c Commit, old []Pack) (Committed, error) {
	w.life.Lock()
	defer w.life.Unlock()
	defer w.end()
	if err := w.usable(); err != nil {
		return Committed{}, err
	}
	if err := w.flush(ctx); err != nil {
		return Committed{}, err
	}
	if err := errors.Join(w.fresh(ctx, c.Since), notMoved(ctx, w.r.storage)); err != nil {
		return Committed{}, err
	}
	log, err := w.r.currentLog(ctx, w.tenant)
	if err != nil {
		return Committed{}, err
	}
	c.Packs = slices.Clone(w.done)
	for _, p := range old {
		if !log.released[logPack{p.ID, p.Kind}] {
			c.Packs = append(c.Packs, p)
		}
	}
	data, err := w.sealCommit(c, false)
	if err != nil {
		return Committed{}, err
	}
	key := commitKey(w.tenant, w.source, c.Seq)
	if err := w.r.deleteNumbered(ctx, w.tenant, key); errors.Is(err, ErrRetained) {
		return Committed{Objects: append(w.data.objects, w.meta.objects...)}, errors.Join(fmt.Errorf("replace %s: %w", key, err), w.adopt(ctx))
	} else if err != nil && !errors.Is(err, ErrNotExist) {
		return Committed{}, fmt.Errorf("replace %s: %w", key, err)
	}
	if err := put(context.WithoutCancel(ctx), w.r.storage, key, data); err != nil {
		return Committed{}, fmt.Errorf("replace %s: %w", key, err)
	}
	done := Committed{Commit: c, Objects: append(w.data.objects, w.meta.objects...)}
	for _, p := range w.done {
		done.Bytes += p.Length
	}
	return done, nil
}

// adopt has the deletion log name what a writer wrote that no commit will.
func (w *Writer) adopt(ctx context.Context) error {
	if len(w.done) == 0 {
		return nil
	}
	var rec logRecord
	for _, p := range w.done {
		rec.Adopted = append(rec.Adopted, adopted{p, w.source})
	}
	for {
		log, err := w.r.readLog(ctx, w.tenant)
		if err != nil {
			return err
		}
		err = w.r.appendLog(ctx, w.tenant, log.seq+1, rec)
		if !errors.Is(err, ErrCollecting) || ctx.Err() != nil {
			return err
		}
	}
}

// Alone lets a writer write all metadata that it is given, whatever the index has:
// a snapshot that is written anew must not need the packs of later ones.
func (w *Writer) Alone() { w.alone = true }

// DropExpired deletes an expired commit that can't be read, after Adopt.
func (r *Repository) DropExpired(ctx context.Context, tenant, source string, seq int64) error {
	gone, err := r.Expired(ctx, tenant, source)
	if err != nil {
		return err
	}
	if !gone.Has(seq) {
		return fmt.Errorf("snapshot %d of %s did not expire", seq, source)
	}
	if _, _, err := r.sealedCommit(ctx, tenant, source, seq); err == nil || !isDamage(err) {
		return err
	}
	err = r.deleteNumbered(ctx, tenant, commitKey(tenant, source, seq))
	if errors.Is(err, ErrNotExist) || errors.Is(err, ErrRetained) {
		return nil
	}
	return err
}
