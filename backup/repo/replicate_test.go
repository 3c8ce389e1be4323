package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/backup/repo"
	"holdfast/backup/repo/storagetest"
)

// same fails if two storages differ, but for the mark of a move.
func same(t *testing.T, a, b repo.Storage) {
	t.Helper()
	inA, inB := storagetest.Keys(t, a, ""), storagetest.Keys(t, b, "")
	inA = slices.DeleteFunc(inA, func(key string) bool { return key == "moved.json" })
	if !slices.Equal(inA, inB) {
		t.Fatalf("the target has %d objects, want the %d of the source", len(inB), len(inA))
	}
	for _, key := range inA {
		if !bytes.Equal(storagetest.Object(t, a, key), storagetest.Object(t, b, key)) {
			t.Errorf("%s differs", key)
		}
	}
}

// filled is a repository with three commits.
func filled(t *testing.T) (box, map[int]repo.Content) {
	t.Helper()
	b := open(t, repo.NewMemory(), keyStore{"k"})
	var contents map[int]repo.Content
	for seq := int64(1); seq <= 3; seq++ {
		done, c, err := b.run(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		b.index.Add("org", done.Objects)
		if seq == 1 {
			contents = c
		}
	}
	if _, err := b.Collect(t.Context(), "org", owner{b}); err != nil { // begins a deletion log, if there is something
		t.Fatal(err)
	}
	f := b.Files().Create(t.Context(), "portal/20260101T000000Z")
	if _, err := f.Write([]byte("a copy of the database")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b, contents
}

// TestReplicate interrupts a replication at every operation. What there is then
// opens and verifies, and the next call copies only the rest.
func TestReplicate(t *testing.T) {
	from, contents := filled(t)
	sums, err := repo.ReadSums(t.Context(), from.storage, keyStore{"k"})
	if err != nil {
		t.Fatal(err)
	}
	step := int64(1)
	if testing.Short() {
		step = 5
	}
	for at := int64(1); ; at += step {
		to := repo.NewMemory()
		f := &faulty{Storage: to, fault: fault{err: errors.New("interrupted")}, at: at, keep: true}
		_, err := repo.Replicate(t.Context(), from.storage, f, sums, nil)
		if err != nil && len(storagetest.Keys(t, to, "format.json")) == 0 && at > 4 {
			t.Errorf("interrupted at %d: no format.json", at)
		}
		if err != nil && at > 4 {
			b := open(t, to, keyStore{"k"})
			if report, err := b.Verify(t.Context(), "org", "box", repo.VerifyBlobs); err != nil || len(report.Damaged) > 0 {
				t.Errorf("interrupted at %d: Verify = %+v, %v", at, report, err)
			}
		}
		before := len(storagetest.Keys(t, to, "")) - len(storagetest.Keys(t, to, "format.json"))
		again, errAgain := repo.Replicate(t.Context(), from.storage, to, sums, nil)
		if errAgain != nil || again.Copied != again.Objects-before || again.There != again.Objects || len(again.Damaged) > 0 {
			t.Errorf("interrupted at %d, then again: %+v, %v; %d objects were there", at, again, errAgain, before)
		}
		same(t, from.storage, to)
		if err == nil {
			b := open(t, to, keyStore{"k"})
			b.load(t)
			for i, c := range contents {
				if got := b.read(t, "org", "box", c); !bytes.Equal(got, work[i]) {
					t.Errorf("content %d came back changed", i)
				}
			}
			break
		}
	}
}

// growing commits to the source whenever something is read from it.
type growing struct {
	repo.Storage
	grow func()
}

func (g growing) List(ctx context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	return func(yield func(repo.Entry, error) bool) {
		for e, err := range g.Storage.List(ctx, prefix) {
			if !yield(e, err) {
				return
			}
		}
		g.grow()
	}
}

func TestReplicateWhileTheSourceGrows(t *testing.T) {
	from, _ := filled(t)
	next := int64(3)
	grow := func() {
		next++
		if _, _, err := from.run(t.Context(), next); err != nil {
			t.Error(err)
		}
	}
	to := repo.NewMemory()
	if _, err := repo.Replicate(t.Context(), growing{from.storage, grow}, to, nil, nil); err != nil {
		t.Fatal(err)
	}
	b := open(t, to, keyStore{"k"})
	report, err := b.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
	if err != nil || len(report.Damaged) > 0 || report.Commits < 3 {
		t.Errorf("Verify = %+v, %v; want at least three whole commits", report, err)
	}
}

// collected deletes a pack just before it is read, when what was needed of it
// has been written anew.
type collected struct {
	*repo.Memory
	once sync.Once
}

func (c *collected) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if strings.Contains(key, "/d/") {
		c.once.Do(func() {
			data := []byte("what was needed")
			c.Set("t/org/d/ff/ff000000000000000000000000000000", data)
			if err := c.Delete(ctx, key); err != nil {
				panic(err)
			}
		})
	}
	return c.Memory.Open(ctx, key, offset, length)
}

func TestReplicateWhileTheSourceIsCollected(t *testing.T) {
	from, _ := filled(t)
	source := &collected{Memory: from.storage.(*repo.Memory)}
	to := repo.NewMemory()
	done, err := repo.Replicate(t.Context(), source, to, nil, nil)
	if err != nil || done.There != done.Objects {
		t.Errorf("Replicate = %+v, %v; want all that there is now", done, err)
	}
	same(t, from.storage, to)
}

func TestReplicateNamesDamagedPacks(t *testing.T) {
	from, _ := filled(t)
	sums, err := repo.ReadSums(t.Context(), from.storage, keyStore{"k"})
	if err != nil {
		t.Fatal(err)
	}
	key := slices.Sorted(maps.Keys(sums))[0]
	data := storagetest.Object(t, from.storage, key)
	data[len(data)/2] ^= 1
	from.storage.(*repo.Memory).Set(key, data)
	to := repo.NewMemory()
	done, err := repo.Replicate(t.Context(), from.storage, to, sums, nil)
	if err != nil || !slices.Equal(done.Damaged, []string{key}) {
		t.Errorf("Replicate = %+v, %v; want %s named", done, err, key)
	}
	same(t, from.storage, to)
}

func TestReplicateRefuses(t *testing.T) {
	from, _ := filled(t)
	other, _ := filled(t)
	if _, err := repo.Replicate(t.Context(), from.storage, other.storage, nil, nil); err == nil || !strings.Contains(err.Error(), "another repository") {
		t.Errorf("Replicate into another repository = %v", err)
	}
	if _, err := repo.Replicate(t.Context(), repo.NewMemory(), repo.NewMemory(), nil, nil); err == nil || !strings.Contains(err.Error(), "no repository") {
		t.Errorf("Replicate of nothing = %v", err)
	}
	to := repo.NewMemory()
	if _, err := repo.Replicate(t.Context(), from.storage, to, nil, nil); err != nil {
		t.Fatal(err)
	}
	key := storagetest.Keys(t, to, "t/")[0]
	to.Set(key, []byte("torn"))
	if _, err := repo.Replicate(t.Context(), from.storage, to, nil, nil); !errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), key) {
		t.Errorf("Replicate onto a torn object = %v, want it named", err)
	}
	if _, err := repo.ReadSums(t.Context(), from.storage, keyStore{"other"}); err == nil {
		t.Error("sums were read with the wrong keys")
	}
}

// TestMove interrupts a move at every operation on either side; afterwards the
// old place refuses, also a writer that began before.
func TestMove(t *testing.T) {
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	for at := int64(1); ; at += step {
		from, _ := filled(t)
		late, err := from.NewWriter(t.Context(), "org", "late")
		if err != nil {
			t.Fatal(err)
		}
		to := repo.NewMemory()
		f := &faulty{Storage: from.storage, fault: fault{err: errors.New("interrupted")}, at: at, keep: true}
		_, err = repo.Move(t.Context(), f, to, "the new place", nil, nil)
		done := err == nil
		if _, err := repo.Move(t.Context(), from.storage, to, "the new place", nil, nil); err != nil {
			t.Errorf("interrupted at %d, then again: %v", at, err)
		}
		same(t, from.storage, to)
		_, err = repo.Open(t.Context(), from.storage, keyStore{"k"}, repo.NewMemoryIndex(), repo.Options{})
		if !errors.Is(err, repo.ErrMoved) || !strings.Contains(err.Error(), "the new place") {
			t.Errorf("opening the old place = %v, want ErrMoved and where to", err)
		}
		if _, err := late.Commit(t.Context(), repo.Commit{Seq: 1}); !errors.Is(err, repo.ErrMoved) {
			t.Errorf("commit to the old place = %v, want ErrMoved", err)
		}
		open(t, to, keyStore{"k"})
		if done {
			break
		}
	}
}
