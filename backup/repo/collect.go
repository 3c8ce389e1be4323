package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Packs that nothing needs are left by runs that were killed and by snapshots
// that expired. They are collected in two steps: a collection condemns them in
// the deletion log of the tenant, and a later one, Grace after that, deletes
// those that are still not needed. A writer uses nothing that was condemned when
// it began, and commits nothing that is older than maxWriter; so a later
// collection sees what it used, and what may be deleted can never be needed
// again. A collector may sleep, die or run twice at any point.
//
// The right to delete is the number of the log's next entry, which the storage
// gives to one collector only. It is a fencing token that never ends: an entry
// names what may be deleted, and that stays so however late it is done. A lease
// would add a clock and nothing else.
const (
	// Grace is how long a pack stays condemned before it is deleted, and an
	// expired commit before its object is.
	Grace = 48 * time.Hour
	// maxWriter is the age at which a writer gives up.
	maxWriter = Grace / 2
	// maxCollector is the age at which a collector gives up before it has
	// appended to the log.
	maxCollector = Grace / 4
)

var (
	// ErrCollecting says that another collection of the tenant was faster, or
	// snapshots expired meanwhile. Nothing was done that the next collection
	// will not do.
	ErrCollecting = errors.New("another collection is under way")
	// ErrStale says that a writer took so long that its packs may be collected:
	// what it would commit has to be written again.
	ErrStale = errors.New("the writer is too old to commit")
)

// Owner is whose data is collected. It knows what the bytes mean, and keeps the
// index.
type Owner interface {
	// Follow is called first: the index must not offer what only snapshots had
	// that are no longer kept.
	Follow(ctx context.Context, gone []Expired) error
	// Live calls live with the identifier of every piece and metadata blob that
	// snapshots of a source with these roots need, from the roots themselves on.
	// What it can't read is an error.
	Live(ctx context.Context, source string, roots []MetaID, live func(PieceID)) error
	// Missing returns those of the packs that the index does not know.
	Missing(ctx context.Context, packs []PackID) ([]PackID, error)
	// Add makes the index know objects of new packs, besides those that it knows.
	Add(ctx context.Context, objects []Object) error
	// Forget takes packs that will be deleted out of the index.
	Forget(ctx context.Context, packs []PackID) error
}

// Collection is what a collection found and did.
type Collection struct {
	Packs     int   // of the tenant
	Bytes     int64 // of them
	Condemned int   // not needed; deleted by a collection Grace later
	Fresh     int   // of them, those that earlier collections had not found
	Waiting   int64 // bytes of the condemned
	Moved     int   // packs of which little is needed: that was written anew, and they are condemned
	Written   int64 // bytes of what was written anew
	Deleted   int   // packs
	Freed     int64 // bytes of the deleted
	Commits   int   // expired commits whose objects were deleted
	Retained  int   // packs and commits that an object lock still keeps; deleted by a later collection
}

// collector is a collection under way.
type collector struct {
	*Repository
	tenant string
	owner  Owner
	began  time.Time // waits count until what is known was read: what was committed while it sleeps after that it does not know
	log    deletions
	packs  map[logPack]int64   // bytes of those that are there
	named  map[logPack]adopted // by commits that are there, expired or not, and by the log
	kept   map[logPack]bool    // named by the log or a commit that is kept
	roots  map[string][]MetaID // of the commits that are kept, by source
	over   []overCommit        // that can be deleted
	plan   bool                // nothing is written or deleted
	whole  bool                // packs are written anew with all that can be needed of them
	worth  map[logPack]int64   // bytes of what is needed of packs that would be written anew
	needed map[markID]bool     // what is needed, and whether a pack has it that is not condemned; nil if nothing expired
	result Collection
}

// overCommit is an expired commit.
type overCommit struct {
	source string
	seq    int64
	packs  []Pack
}

// Collect condemns the packs of a tenant that nothing needs, writes anew what is
// needed of packs that are needed less than half, and deletes what was condemned
// Grace ago. While any commit can't be read, or anything that a kept one refers
// to, it changes nothing, since nobody knows what else is needed.
func (r *Repository) Collect(ctx context.Context, tenant string, owner Owner) (Collection, error) {
	if err := validName(tenant); err != nil {
		return Collection{}, err
	}
	k := newCollector(r, tenant, owner)
	if err := k.read(ctx); err != nil {
		return Collection{}, err
	}
	rec, again, moved, err := k.decide(ctx)
	if err != nil {
		return k.result, err
	}
	if !rec.empty() {
		if time.Since(k.began) > maxCollector {
			return Collection{}, fmt.Errorf("the collection took too long: %w", ErrCollecting)
		}
		if err := r.appendLog(ctx, tenant, k.log.seq+1, rec); err != nil {
			return Collection{}, err
		}
		k.log.apply(k.log.seq+1, rec)
	}
	if err := owner.Add(ctx, moved); err != nil {
		return k.result, fmt.Errorf("add what was written anew to the index: %w", err)
	}
	if err := k.deletePacks(ctx, append(again, rec.Deleted...)); err != nil {
		return k.result, err
	}
	return k.result, k.deleteCommits(ctx)
}

func newCollector(r *Repository, tenant string, owner Owner) *collector {
	return &collector{Repository: r, tenant: tenant, owner: owner, began: time.Now().Round(0), named: map[logPack]adopted{}, kept: map[logPack]bool{}, roots: map[string][]MetaID{}, worth: map[logPack]int64{}}
}

// PlanCollection says what Collect would do now: Condemned and Waiting, Moved and
// Written (before compression makes it less), Deleted and Freed, and Commits. It
// changes nothing in the repository, and does not know what is locked.
func (r *Repository) PlanCollection(ctx context.Context, tenant string, owner Owner) (Collection, error) {
	if err := validName(tenant); err != nil {
		return Collection{}, err
	}
	k := newCollector(r, tenant, owner)
	k.plan = true
	if err := k.read(ctx); err != nil {
		return Collection{}, err
	}
	rec, again, _, err := k.decide(ctx)
	if err != nil {
		return k.result, err
	}
	for _, p := range append(again, rec.Deleted...) {
		k.result.Deleted++
		k.result.Freed += k.packs[p]
	}
	k.result.Commits = len(k.over)
	return k.result, nil
}

// read reads the log, what packs there are, and what the commits say.
func (k *collector) read(ctx context.Context) error {
	var err error
	if k.log, err = k.readLog(ctx, k.tenant); err != nil {
		return err
	}
	if err := k.owner.Follow(ctx, k.log.all()); err != nil {
		return fmt.Errorf("follow what expired: %w", err)
	}
	// Packs before commits: one that is committed in between is then named.
	if k.packs, err = k.listPacks(ctx, k.tenant); err != nil {
		return err
	}
	for p, a := range k.log.adopted {
		k.named[p], k.kept[p] = a, true
	}
	sources, err := k.Sources(ctx, k.tenant)
	if err != nil {
		return err
	}
	for _, source := range sources {
		if err := k.readCommits(ctx, source); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// readCommits reads the commits of a source.
func (k *collector) readCommits(ctx context.Context, source string) error {
	gone := k.log.of(source)
	return k.eachCommit(ctx, k.tenant, source, gone, func(c Commit) {
		if !gone.Has(c.Seq) {
			k.roots[source] = append(k.roots[source], c.Root)
		} else if k.log.over(source, c.Seq, k.began) {
			k.over = append(k.over, overCommit{source, c.Seq, c.Packs})
		}
		for _, p := range c.Packs {
			name := logPack{p.ID, p.Kind}
			if _, ok := k.named[name]; !ok {
				k.named[name] = adopted{p, source}
			}
			k.kept[name] = k.kept[name] || !gone.Has(c.Seq)
		}
	})
}

// firstKept returns the first snapshot from seq on that is kept, if it exists.
func (e Expired) firstKept(seq int64) int64 {
	for _, s := range e.Spans {
		if s.From <= seq && seq <= s.To {
			seq = s.To + 1
		}
	}
	return seq
}

// listPacks returns the packs of a tenant with their bytes.
func (r *Repository) listPacks(ctx context.Context, tenant string) (map[logPack]int64, error) {
	packs := map[logPack]int64{}
	for _, kind := range []PackKind{PackData, PackMeta} {
		for e, err := range r.storage.List(ctx, fmt.Sprintf("t/%s/%c/", tenant, kind)) {
			if err != nil {
				return nil, fmt.Errorf("list packs: %w", err)
			}
			id, _ := packID(e.Key)
			p := logPack{ID: id, Kind: kind}
			if p.key(tenant) == e.Key {
				packs[p] = e.Size
			}
		}
	}
	return packs, nil
}

// fresh returns ErrStale if what the writer wrote or used may be collected.
func (w *Writer) fresh(ctx context.Context, since time.Time) error {
	if since.IsZero() || since.After(w.began) {
		since = w.began
	}
	if time.Since(since) > maxWriter {
		return fmt.Errorf("begun %s: %w", since.Format(time.DateTime), ErrStale)
	}
	log, err := w.r.currentLog(ctx, w.tenant)
	// Collections stop at a damaged log; backups need not, since Grace is twice
	// the age of any writer.
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	for _, p := range w.done {
		if log.released[logPack{p.ID, p.Kind}] {
			return fmt.Errorf("pack %s was collected: %w", p.ID, ErrStale)
		}
	}
	for p := range w.used {
		if log.released[p] {
			return fmt.Errorf("pack %s, which was used, was collected: %w", p.ID, ErrStale)
		}
	}
	return nil
}

// packID reads the identifier at the end of a pack's key.
func packID(key string) (id PackID, ok bool) {
	name, err := hex.DecodeString(key[strings.LastIndexByte(key, '/')+1:])
	if err != nil || len(name) != len(id) {
		return id, false // not ours
	}
	return PackID(name), true
}
