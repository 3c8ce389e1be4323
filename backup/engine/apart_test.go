package engine_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
)

// apartBench has a repository, a copy of it from before, and a repair that took
// apart a pack of which something is lost; lost are the subjects.
func apartBench(t *testing.T, harm func([]byte) []byte) (b *bench, storage, before *repo.Memory, key string, images map[int64]map[string]string) {
	b, _, storage = mendBench(t)
	before = repo.NewMemory()
	if _, err := repo.Replicate(t.Context(), storage, before, nil, nil); err != nil {
		t.Fatal(err)
	}
	images = map[int64]map[string]string{}
	for _, seq := range must[[]int64](t)(b.store.SnapshotNumbers(t.Context(), org, mailbox)) {
		images[seq] = b.image(seq)
	}
	key = keysBelow(t, storage, "t/"+string(org)+"/d/")[0]
	if harm == nil {
		if err := storage.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	} else {
		storage.Set(key, harm(bytes.Clone(contentOf(t, storage, key))))
	}
	b = openBench(t, b.store, storage)
	if lost := b.mend(); len(lost) == 0 {
		t.Fatal("nothing is lost")
	}
	return openBench(t, b.store, storage), storage, before, key, images
}

// collects collects and says whether an object is there after it.
func (b *bench) collects(t *testing.T, storage *repo.Memory, key string) (there bool) {
	t.Helper()
	if _, err := b.Collect(t.Context(), org); err != nil {
		t.Fatalf("Collect: %v", err)
	}
	_, err := storage.Stat(t.Context(), key)
	if err != nil && !errors.Is(err, repo.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// isAsBefore checks that everything is whole again.
func (b *bench) isAsBefore(t *testing.T, images map[int64]map[string]string) {
	t.Helper()
	report, err := b.Verify(t.Context(), org, true)
	if err != nil || len(report.Damaged) > 0 {
		t.Errorf("Verify says %q, %v", report.Damaged, err)
	}
	for seq, want := range images {
		if !maps.Equal(b.image(seq), want) {
			t.Errorf("snapshot %d is not what it was", seq)
		}
	}
}

// TestAPackTakenApartWaits damages a pack and repairs: it is used by nobody,
// reported by no check, indexed by no rebuild, copied by no replication, and
// deleted when its time is over. What a copy has of it that comes later comes back.
func TestAPackTakenApartWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, storage, before, key, images := apartBench(t, func(d []byte) []byte { clear(d[len(d)/3:]); return d })
		report, err := b.Verify(t.Context(), org, true)
		if err != nil || len(report.Damaged) == 0 || slices.ContainsFunc(report.Damaged, func(line string) bool { return strings.HasPrefix(line, key) }) {
			t.Errorf("Verify says %q, %v; want the lost messages alone", report.Damaged, err)
		}
		if !b.collects(t, storage, key) {
			t.Error("the pack was deleted at once")
		}
		copied := repo.NewMemory()
		if done, err := repo.Replicate(t.Context(), storage, copied, must[repo.Sums](t)(repo.ReadSums(t.Context(), storage, b.store)), nil); err != nil || len(done.Damaged) > 0 {
			t.Errorf("Replicate = %+v, %v", done, err)
		}
		if _, err := copied.Stat(t.Context(), key); !errors.Is(err, repo.ErrNotExist) {
			t.Errorf("what was taken apart was copied (%v)", err)
		}
		if err := b.Rebuild(t.Context(), org); err != nil {
			t.Errorf("Rebuild: %v", err)
		}
		other := repo.NewMemory()
		openBench(t, openStore(t), other)
		if _, err := b.Mend(t.Context(), org, nil, other, func(int, int) error { return nil }); err == nil {
			t.Error("another repository was taken for a copy")
		}
		if lost := b.mendFrom(before); len(lost) > 0 {
			t.Errorf("%q are lost although a copy has them", lost)
		}
		b = openBench(t, b.store, storage)
		b.isAsBefore(t, images)
		time.Sleep(repo.Grace + time.Hour)
		if b.collects(t, storage, key) {
			t.Error("the pack is there after its time is over")
		}
		if err := b.Rebuild(t.Context(), org); err != nil {
			t.Errorf("Rebuild: %v", err)
		}
		openBench(t, b.store, storage).isAsBefore(t, images)
	})
}

// TestAPackThatComesBackIsNotDeleted takes a pack away, as with a disk that is not
// there, repairs, and puts it back: it stays until a repair took from it what it has.
func TestAPackThatComesBackIsNotDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, storage, before, key, images := apartBench(t, nil)
		storage.Set(key, contentOf(t, before, key))
		time.Sleep(repo.Grace + time.Hour)
		if !b.collects(t, storage, key) {
			t.Fatal("what is nowhere else was deleted")
		}
		if lost := b.mend(); len(lost) > 0 {
			t.Errorf("%q are lost although the pack is back", lost)
		}
		b = openBench(t, b.store, storage)
		b.isAsBefore(t, images)
		if b.collects(t, storage, key) {
			t.Error("the pack is there although all of it is elsewhere")
		}
		openBench(t, b.store, storage).isAsBefore(t, images)
	})
}
