package engine_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// killedRun backs up, and dies between the commit and the catalog. It returns the
// keys of what it had written.
func killedRun(t *testing.T, b *bench, p *provider) (fresh []string) {
	t.Helper()
	before := keysBelow(t, b.storage.Storage, "t/")
	dying := openBench(t, b.store, b.storage.Storage)
	dying.Catalog = &killer{b.store, func() bool { dying.storage.refuse = errDead; return true }}
	if _, err := dying.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p}); err == nil {
		t.Fatal("the run was not killed")
	}
	return slices.DeleteFunc(keysBelow(t, b.storage.Storage, "t/"), func(key string) bool { return slices.Contains(before, key) })
}

// harmThose harms the objects whose keys have a part.
func harmThose(t *testing.T, storage *repo.Memory, keys []string, part string, harm func([]byte) []byte) {
	t.Helper()
	for _, key := range keys {
		if !strings.Contains(key, part) {
			continue
		}
		if harm != nil {
			storage.Set(key, harm(bytes.Clone(contentOf(t, storage, key))))
		} else if err := storage.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAMailboxGoesOnAfterItsNewestSnapshotIsLost kills a run between its commit and
// the catalog, and damages the commit or its metadata: one repair names it and gets
// the mailbox going again, the snapshots before stay as they are, and the next run
// reads from the provider what it had.
func TestAMailboxGoesOnAfterItsNewestSnapshotIsLost(t *testing.T) {
	for kind, names := range map[string][]string{
		"m": {"flip", "zero", "delete"},               // after the others its blobs are found
		"c": {"flip", "flip end", "truncate", "zero"}, // of one that is deleted nothing tells
	} {
		for _, name := range names {
			harm := harms[name]
			for _, runs := range []int{0, 2} {
				t.Run(fmt.Sprintf("%s %s after %d", kind, name, runs), func(t *testing.T) {
					t.Parallel()
					losesNewest(t, kind, harm, runs)
				})
			}
		}
	}
}

func losesNewest(t *testing.T, kind string, harm func([]byte) []byte, runs int) {
	storage := repo.NewMemory()
	b, p := openBench(t, openStore(t), storage), newProvider()
	images := map[int64]map[string]string{}
	moved, removed := p.add("inbox", "moved", []byte("text")), p.add("inbox", "removed", []byte("text"))
	for range runs {
		p.add("sentitems", "letter", randomText(random(t)))
		b.run(p)
		images[b.newest()] = p.image()
	}
	p.move(moved, "sentitems")
	p.remove(removed)
	p.addFolder("projects", "inbox", "Projects")
	for range 5 {
		p.add("projects", "new", randomText(random(t)))
	}
	harmThose(t, storage, killedRun(t, b, p), "/"+kind+"/", harm)

	b = openBench(t, b.store, storage)
	if _, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p}); backup.KindOf(err) != backup.ProblemRepository {
		t.Fatalf("Backup = %v, want the storage's problem", err)
	}
	mended, _, err := openBench(t, b.store, storage).tryMend(nil)
	if err != nil || len(mended.LostSnapshots) != 1 || mended.LostSnapshots[0].Seq != int64(runs+1) || mended.LostSnapshots[0].Mailbox != mailbox {
		t.Fatalf("Mend = %+v, %v; want snapshot %d named", mended, err, runs+1)
	}
	b = openBench(t, b.store, storage)
	for seq, want := range images {
		b.check(seq, want)
	}
	b.run(p)
	images[b.newest()] = p.image()
	b.isSound(t, images)
}

// isSound checks that nothing is damaged, and that a collection and a rebuild leave
// the snapshots as they are.
func (b *bench) isSound(t *testing.T, images map[int64]map[string]string) {
	t.Helper()
	again := openBench(t, b.store, b.storage.Storage)
	if report, err := again.Verify(t.Context(), org, true); err != nil || len(report.Damaged) > 0 {
		t.Errorf("Verify says %q, %v", report.Damaged, err)
	}
	if _, err := again.Collect(t.Context(), org); err != nil {
		t.Errorf("Collect: %v", err)
	}
	if err := again.Rebuild(t.Context(), org); err != nil {
		t.Errorf("Rebuild: %v", err)
	}
	for seq, want := range images {
		again.check(seq, want)
	}
}

// TestWhatIsLeftOfASnapshotIsKept damages one blob of the metadata of a commit that
// the catalog had not taken in: what can be read of it is in the snapshot, and only
// the rest is read again. So it is when the catalog is lost as well.
func TestWhatIsLeftOfASnapshotIsKept(t *testing.T) {
	for _, rebuilt := range []bool{false, true} {
		t.Run(fmt.Sprintf("catalog lost=%t", rebuilt), func(t *testing.T) {
			t.Parallel()
			keepsWhatIsLeft(t, rebuilt)
		})
	}
}

func keepsWhatIsLeft(t *testing.T, rebuilt bool) {
	storage := repo.NewMemory()
	b, p := openBench(t, openStore(t), storage), newProvider()
	p.add("inbox", "before", []byte("text"))
	b.run(p)
	first := p.image()
	many := random(t)
	for i := range 1000 {
		p.add("inbox", fmt.Sprintf("letter %d", i), fmt.Appendf(nil, "text %x", many.Uint64()))
	}
	gone := p.add("inbox", "only in the snapshot", []byte("text"))
	harmThose(t, storage, killedRun(t, b, p), "/m/", func(d []byte) []byte { d[5000] ^= 1; return d })
	if rebuilt {
		if err := b.store.ClearCatalog(t.Context(), org); err != nil {
			t.Fatal(err)
		}
	}
	p.remove(gone)
	p.calm()
	mended, _, err := openBench(t, b.store, storage).tryMend(nil)
	if err != nil || len(mended.LostSnapshots) != 1 || !strings.Contains(mended.LostSnapshots[0].How, "records of") {
		t.Fatalf("Mend = %+v, %v; want a part of snapshot 2 named", mended, err)
	}
	b = openBench(t, b.store, storage)
	if item := b.item(gone); b.read(item.ID) != "text" {
		t.Error("what the provider has no more is not in the snapshot")
	}
	left := b.image(2)
	b.run(p)
	if want := 1002 - (len(left) - 3); p.contents != want || want == 0 || want > 900 {
		t.Errorf("the next run read %d messages, want the %d that were lost", p.contents, want)
	}
	b.isSound(t, map[int64]map[string]string{1: first, 2: left, 3: p.image()})
}

// TestWhatIsLeftAfterTheCatalogIsLostToo damages a blob of the metadata of an early
// snapshot on which later ones build, and loses the catalog: a repair has all
// snapshots back but for what it names, and the next run is whole.
func TestWhatIsLeftAfterTheCatalogIsLostToo(t *testing.T) {
	for name, at := range map[string]func([]byte) int{
		"records of": func([]byte) int { return 5000 },
		"folder lists": func(d []byte) int {
			return bytes.LastIndex(d[:bytes.LastIndex(d, []byte("HFBL"))], []byte("HFBL")) + 100
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storage := repo.NewMemory()
			b, p := openBench(t, openStore(t), storage), newProvider()
			p.add("inbox", "before", []byte("text"))
			b.run(p)
			images := map[int64]map[string]string{1: b.image(1)}
			before := keysBelow(t, storage, "t/")
			for i := range 1300 {
				p.add("inbox", fmt.Sprintf("letter %d", i), fmt.Appendf(nil, "text %d", i))
			}
			b.run(p)
			fresh := slices.DeleteFunc(keysBelow(t, storage, "t/"), func(key string) bool { return slices.Contains(before, key) })
			last := p.add("inbox", "last", []byte("text"))
			for seq := int64(3); seq < 5; seq++ { // which leave the first page as it was
				p.move(last, "sentitems")
				last = p.add("inbox", fmt.Sprintf("later %d", seq), []byte("text"))
				b.run(p)
				images[seq] = b.image(seq)
			}
			harmThose(t, storage, fresh, "/m/", func(d []byte) []byte { d[at(d)] ^= 1; return d })
			if err := openBench(t, b.store, storage).Rebuild(t.Context(), org); err == nil {
				t.Error("the rebuild does not say that snapshot 2 can't be read")
			}
			mended, _, err := openBench(t, b.store, storage).tryMend(nil)
			if err != nil || len(mended.LostSnapshots) == 0 || !strings.Contains(mended.LostSnapshots[0].How, name) {
				t.Fatalf("Mend = %+v, %v; want what is lost named", mended, err)
			}
			b = openBench(t, b.store, storage)
			b.check(1, images[1])
			for seq := int64(3); seq < 5; seq++ {
				left := b.image(seq)
				for key, text := range left {
					if strings.HasPrefix(key, "item ") && text != images[seq][key] {
						t.Errorf("snapshot %d: %s came back as %s, want %s", seq, key, text, images[seq][key])
					}
				}
				if name == "records of" && len(left) < 300 {
					t.Errorf("snapshot %d has %d messages and folders, want most", seq, len(left))
				}
				images[seq] = left
			}
			b.run(p)
			images[b.newest()] = p.image()
			b.isSound(t, images)
		})
	}
}

// TestOneRepairIsEnough loses what no check looks at, because what named it is lost
// as well: after one repair and a run all is whole.
func TestOneRepairIsEnough(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, b *bench, p *provider, storage *repo.Memory, fresh []string){
		"a commit with its packs": func(t *testing.T, _ *bench, _ *provider, storage *repo.Memory, fresh []string) {
			harmThose(t, storage, fresh, "/", nil)
		},
		"a commit, and its packs are damaged": func(t *testing.T, _ *bench, _ *provider, storage *repo.Memory, fresh []string) {
			harmThose(t, storage, fresh, "/c/", harms["truncate"])
			harmThose(t, storage, fresh, "/m/", harms["flip"])
			harmThose(t, storage, fresh, "/d/", harms["flip"])
		},
		"a commit in the middle that the catalog forgot": func(t *testing.T, b *bench, p *provider, storage *repo.Memory, fresh []string) {
			p.add("inbox", "later", []byte("text"))
			b.run(p)
			harmThose(t, storage, fresh, "/c/", harms["truncate"])
			if err := b.store.ClearCatalog(t.Context(), org); err != nil {
				t.Fatal(err)
			}
		},
		"a commit in the middle that is gone": func(t *testing.T, b *bench, p *provider, storage *repo.Memory, fresh []string) {
			p.add("inbox", "later", []byte("text"))
			b.run(p)
			harmThose(t, storage, fresh, "/c/", nil)
			if err := b.store.ClearCatalog(t.Context(), org); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storage := repo.NewMemory()
			b, p := openBench(t, openStore(t), storage), newProvider()
			p.add("inbox", "first", []byte("text"))
			b.run(p)
			images := map[int64]map[string]string{1: p.image()}
			before := keysBelow(t, storage, "t/")
			p.add("inbox", "second", randomText(random(t)))
			b.run(p)
			second := p.image()
			fresh := slices.DeleteFunc(keysBelow(t, storage, "t/"), func(key string) bool { return slices.Contains(before, key) })
			lose(t, b, p, storage, fresh)
			b = openBench(t, b.store, storage)
			b.mend()
			b = openBench(t, b.store, storage)
			b.run(p)
			b.settle(t)
			images[b.newest()] = p.image()
			if seqs := must[[]int64](t)(b.store.SnapshotNumbers(t.Context(), org, mailbox)); slices.Contains(seqs, 2) && !maps.Equal(b.image(2), second) {
				t.Error("snapshot 2 is not what it was")
			}
			b.isSound(t, images)
		})
	}
}

// TestARunDoesNotFillAGap takes a commit away that the catalog does not know, but not
// the one after it: a run must not commit under its number, as the later one would
// seem to follow what it commits.
func TestARunDoesNotFillAGap(t *testing.T) {
	storage := repo.NewMemory()
	b, p := openBench(t, openStore(t), storage), newProvider()
	p.add("inbox", "first", []byte("text"))
	b.run(p)
	st := openStore(t) // as it was then
	for range 2 {
		p.add("inbox", "later", randomText(random(t)))
		b.run(p)
	}
	harmThose(t, storage, keysBelow(t, storage, "t/"), "/c/"+string(mailbox)+"/000000000002", nil)
	old := openUnder(t, st, storage, b.store)
	if err := old.Refill(t.Context(), org, nil); err == nil {
		t.Log("the later one can be read alone")
	}
	if seqs := must[[]int64](t)(st.SnapshotNumbers(t.Context(), org, mailbox)); !slices.Equal(seqs, []int64{1}) {
		t.Fatalf("the catalog has %v, want the first alone", seqs)
	}
	p.add("inbox", "latest", []byte("text"))
	if _, err := old.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p}); backup.KindOf(err) != backup.ProblemRepository {
		t.Errorf("Backup = %v, want the storage's problem", err)
	}
	if list := keysBelow(t, storage, "t/"+string(org)+"/c/"); len(list) != 2 {
		t.Errorf("there are %q, want nothing new", list)
	}
	openUnder(t, st, storage, b.store).mend()
	old = openUnder(t, st, storage, b.store)
	old.run(p)
	if report, err := openUnder(t, st, storage, b.store).Verify(t.Context(), org, true); err != nil || len(report.Damaged) > 0 {
		t.Errorf("Verify says %q, %v", report.Damaged, err)
	}
}

// answersTwice is a storage that loses its first answer to an entry of the deletion
// log, and says of the second try that the entry exists.
type answersTwice struct {
	repo.Storage
	done bool
}

type twiceUpload struct {
	repo.Upload
	s *answersTwice
}

func (a *answersTwice) Create(ctx context.Context, key string) (repo.Upload, error) {
	u, err := a.Storage.Create(ctx, key)
	if err != nil || a.done || !strings.Contains(key, "/g/") {
		return u, err
	}
	return twiceUpload{u, a}, nil
}

func (u twiceUpload) Commit(ctx context.Context) error {
	u.s.done = true
	return cmp.Or(u.Upload.Commit(ctx), repo.ErrExist)
}

// TestARepairWhoseAnswerIsLost repairs where the log says already that the damaged
// pack was taken apart, and the index has to hear of it.
func TestARepairWhoseAnswerIsLost(t *testing.T) {
	for _, part := range []string{"/m/", "/d/"} {
		storage := repo.NewMemory()
		b, p := openBench(t, openStore(t), storage), newProvider()
		p.add("inbox", "first", randomText(random(t)))
		b.run(p)
		harmThose(t, storage, keysBelow(t, storage, "t/"), part, harms["flip"])
		twice := &answersTwice{Storage: storage}
		if openBench(t, b.store, twice).mend(); !twice.done {
			t.Error("the repair wrote nothing to the log")
		}
		b = openBench(t, b.store, storage)
		b.run(p)
		b.settle(t)
		b.isSound(t, map[int64]map[string]string{b.newest(): p.image()})
	}
}

// TestPacksOfALostCommitServeLaterOnes loses the catalog and a commit in the middle:
// nothing names the packs any more that it brought, nor knows them, and later
// snapshots need them. A repair has those back as they were, without the provider.
func TestPacksOfALostCommitServeLaterOnes(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{"damaged": harms["truncate"], "gone": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storage := repo.NewMemory()
			b, p := openBench(t, openStore(t), storage), newProvider()
			images := map[int64]map[string]string{}
			for seq := int64(1); seq <= 4; seq++ {
				p.add("inbox", fmt.Sprintf("letter %d", seq), randomText(random(t)))
				b.run(p)
				images[seq] = p.image()
			}
			delete(images, 2)
			harmThose(t, storage, keysBelow(t, storage, "t/"), "/c/"+string(mailbox)+"/000000000002", harm)
			if err := b.store.ClearCatalog(t.Context(), org); err != nil {
				t.Fatal(err)
			}
			mended, lost, err := openBench(t, b.store, storage).tryMend(nil)
			if err != nil || len(lost) > 0 || len(mended.LostSnapshots) != 1 || mended.LostSnapshots[0].Seq != 2 {
				t.Errorf("Mend = %+v with %q lost, %v; want snapshot 2 named, and nothing else", mended, lost, err)
			}
			openBench(t, b.store, storage).isSound(t, images)
		})
	}
}
