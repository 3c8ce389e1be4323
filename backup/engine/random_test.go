package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
)

// random is the same sequence in every run of a test.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(1, 2))
}

func folderImage(f backup.Folder) string {
	return fmt.Sprintf("%q in %q, %d items", f.Name, f.ParentID, f.Items)
}

// history makes random changes to a mailbox.
type history struct {
	*rand.Rand
	p *provider
}

func (h history) item() string {
	ids := slices.Sorted(maps.Keys(h.p.items))
	if len(ids) == 0 {
		return h.p.add("inbox", "first", []byte("x"))
	}
	return ids[h.IntN(len(ids))]
}

func (h history) folder() string {
	ids := slices.Sorted(maps.Keys(h.p.folders))
	return ids[h.IntN(len(ids))]
}

func (h history) step() {
	p := h.p
	switch h.IntN(16) {
	case 0, 1, 2, 3, 4:
		id := p.add(h.folder(), "subject "+strconv.Itoa(h.IntN(1000)), randomText(h.Rand))
		if h.IntN(5) == 0 {
			p.change(id, func(m *message) { m.Draft = true })
		}
		if h.IntN(12) == 0 {
			p.failing[id] = errCorrupt
		}
	case 5, 6, 7:
		p.move(h.item(), h.folder())
	case 8:
		p.remove(h.item())
	case 9, 10:
		p.change(h.item(), func(m *message) { m.Read, m.Flagged = h.IntN(2) == 0, h.IntN(2) == 0 })
	case 11:
		p.change(h.item(), func(m *message) { m.Categories = []string{"c" + strconv.Itoa(h.IntN(9))} })
	case 12:
		p.change(h.item(), func(m *message) {
			m.Draft = h.IntN(2) == 0
			m.Subject, m.text = "edited "+strconv.Itoa(h.IntN(1000)), randomText(h.Rand)
		})
	case 13:
		p.addFolder(p.id("folder"), h.folder(), "folder "+strconv.Itoa(p.next))
	case 14:
		if id := h.folder(); strings.HasPrefix(id, "folder") {
			if h.IntN(3) == 0 {
				p.removeFolder(id)
			} else {
				p.renameFolder(id, "renamed "+strconv.Itoa(h.IntN(100)))
			}
		}
	case 15:
		for id := range p.failing {
			delete(p.failing, id)
			break
		}
	}
}

// mood gives the provider one of its ways.
func (h history) mood() {
	h.p.pageSize = 1 + h.IntN(12)
	h.p.emptyPages, h.p.repeat = h.IntN(3) == 0, h.IntN(3) == 0
	if h.IntN(6) == 0 {
		h.p.expire()
	}
}

// TestEverySnapshotIsTheMailboxAtItsTime lets a mailbox live through random
// histories while its runs are interrupted and killed at random, snapshots
// expire and the repository is collected, and compares every whole snapshot that
// is kept with what the mailbox was at its time, before and after the catalog
// was made anew.
func TestEverySnapshotIsTheMailboxAtItsTime(t *testing.T) {
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_ROUNDS")); err == nil {
		rounds = n
	}
	for seed := range rounds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { liveThrough(t, uint64(seed)) })
		})
	}
}

func liveThrough(t *testing.T, seed uint64) {
	h := history{rand.New(rand.NewPCG(seed, 7)), newProvider()}
	st, storage := openStore(t), repo.NewMemory()
	want := map[int64]map[string]string{}
	for range 25 {
		for range h.IntN(25) {
			h.step()
		}
		h.mood()
		b := openBench(t, st, storage)
		b.Checkpoint = engine.Checkpoint{Items: 1 + h.IntN(30)}
		err := b.mishap(h)
		if err == nil {
			seq := b.newest()
			want[seq] = h.p.image()
			b.check(seq, want[seq])
		}
		if h.IntN(3) == 0 {
			openBench(t, st, storage).expireSome(h, want)
		}
		if h.IntN(3) == 0 {
			time.Sleep(time.Duration(h.Int64N(int64(repo.Grace))))
			openBench(t, st, storage).collect()
		}
	}
	b := openBench(t, st, storage)
	b.run(h.p)
	for range 3 {
		time.Sleep(repo.Grace)
		b.collect()
	}
	for seq, image := range want {
		b.check(seq, image)
	}
	b.checkRebuild(want)
	report, err := b.Verify(t.Context(), org, true)
	if err != nil || len(report.Damaged) > 0 || report.Mailboxes != 1 {
		t.Errorf("Verify = %+v, %v; want no damage", report, err)
	}
}

// expireSome lets snapshots expire, and takes them out of want.
func (b *bench) expireSome(h history, want map[int64]map[string]string) {
	b.t.Helper()
	var seqs []int64
	for i, s := range must[[]backup.Snapshot](b.t)(b.store.Snapshots(b.t.Context(), org, mailbox)) {
		if i > 0 && h.IntN(2) == 0 {
			seqs = append(seqs, s.Seq)
			delete(want, s.Seq)
		}
	}
	if err := b.Expire(b.t.Context(), org, mailbox, seqs); err != nil {
		b.t.Fatalf("Expire: %v", err)
	}
}

func (b *bench) collect() repo.Collection {
	b.t.Helper()
	c, err := b.Collect(b.t.Context(), org)
	if err != nil {
		b.t.Fatalf("Collect: %v", err)
	}
	return c
}

var errUnsettled = errors.New("the snapshot has no one time")

// mishap runs a backup that may be interrupted or killed.
func (b *bench) mishap(h history) error {
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	var mu sync.Mutex
	left := -1
	h.p.during = func(string) {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			cancel()
		}
	}
	defer func() { h.p.during = nil }()
	switch h.IntN(4) {
	case 0: // interrupted
		left = 1 + h.IntN(40)
	case 1: // killed between a commit and the catalog
		commits := 1 + h.IntN(3)
		b.Catalog = &killer{b.store, func() bool {
			if commits--; commits == 0 {
				b.storage.refuse = errDead
				cancel()
				return true
			}
			return false
		}}
	case 2: // killed while writing
		mu.Lock()
		dies := 1 + h.IntN(60)
		mu.Unlock()
		h.p.during = func(string) {
			mu.Lock()
			defer mu.Unlock()
			if dies--; dies == 0 {
				b.storage.refuse = errDead
			}
		}
	}
	unsettled := error(nil)
	if h.IntN(4) == 0 { // the mailbox changes while it is read
		before := h.p.during
		h.p.during = func(call string) {
			before(call)
			h.p.do(func() {
				if h.IntN(4) == 0 {
					h.step()
				}
			})
		}
		unsettled = errUnsettled
	}
	_, err := b.Backup(ctx, engine.Job{Org: org, Mailbox: mailbox, Source: h.p})
	if err == nil {
		return unsettled
	}
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errKilled) && !errors.Is(err, errDead) {
		b.t.Fatalf("Backup: %v", err)
	}
	return err
}

// answers are what pages ask of the catalog.
func (b *bench) answers() map[string]any {
	b.t.Helper()
	out := map[string]any{}
	ctx := b.t.Context()
	snapshots := must[[]backup.Snapshot](b.t)(b.store.Snapshots(ctx, org, mailbox))
	out["snapshots"] = snapshots
	for _, s := range snapshots {
		folders := must[[]backup.Folder](b.t)(b.store.Folders(ctx, org, mailbox, s.Seq))
		slices.SortFunc(folders, func(a, b backup.Folder) int { return strings.Compare(a.ID, b.ID) })
		out[fmt.Sprintf("folders of %d", s.Seq)] = folders
		items, total, err := b.store.Items(ctx, org, mailbox, s.Seq, store.ItemQuery{PageSize: 10_000})
		if err != nil || total != s.Items {
			b.t.Fatalf("Items of %d = %d, %v; want %d", s.Seq, total, err, s.Items)
		}
		out[fmt.Sprintf("items of %d", s.Seq)] = items
	}
	head := must[engine.Head](b.t)(b.store.Head(ctx, org, mailbox))
	out["head"] = []any{head.Seq, head.Partial, head.NextNumber, head.Totals}
	out["failed"] = b.failed()
	return out
}

// checkRebuild makes the catalog anew and expects the same answers.
func (b *bench) checkRebuild(want map[int64]map[string]string) {
	b.t.Helper()
	before := b.answers()
	if err := b.Rebuild(b.t.Context(), org); err != nil {
		b.t.Fatalf("Rebuild: %v", err)
	}
	after := b.answers()
	for key, value := range before {
		if !reflect.DeepEqual(after[key], value) {
			b.t.Errorf("after the rebuild %s are\n%+v, want\n%+v", key, after[key], value)
		}
	}
	for seq, image := range want {
		b.check(seq, image)
	}
}
