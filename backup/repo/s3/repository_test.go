package s3_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
	"holdfast/backup/repo/s3"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/backup/repo/storagetest"
)

func TestCollectorThatSleptIsFenced(t *testing.T) {
	server := s3test.Real(t)
	for _, alone := range []bool{false, true} {
		slept := true
		for at := 1; slept; at++ {
			storage := storagetest.GoOutside(t, open(t, server.Bucket(t)))
			synctest.Test(t, func(t *testing.T) { slept = storagetest.Fencing(t, storage, at, alone) })
		}
	}
}

// TestLockedPacksAreRetained collects packs that nobody needs and that are
// locked: they stay, and their locks end; those of what is needed go on.
func TestLockedPacksAreRetained(t *testing.T) {
	server := s3test.Real(t)
	c := server.LockedBucket(t)
	c.Lock = s3.Lock{Mode: s3.Compliance, Period: 10 * day}
	storage := storagetest.GoOutside(t, open(t, c))
	longer := c
	longer.Lock.Period = 30 * day
	later := storagetest.GoOutside(t, open(t, longer))
	var condemned []string
	synctest.Test(t, func(t *testing.T) {
		r := storagetest.OpenRepository(t, storage)
		r.Store(t, 1)
		needed := storagetest.Keys(t, storage, "t/org/d/")
		r.Leave(t, 100)
		condemned = slices.DeleteFunc(storagetest.Keys(t, storage, "t/org/d/"), func(key string) bool { return slices.Contains(needed, key) })
		r.Gather(t)
		time.Sleep(repo.Grace)
		for range 2 {
			if got := r.Gather(t); got.Retained != len(condemned) || got.Deleted != 0 || len(condemned) == 0 {
				t.Errorf("Collect = %+v, want %d packs retained and none deleted", got, len(condemned))
			}
		}
		if l, err := r.ExtendLocks(t.Context(), "org"); err != nil || l.Extended != 0 || l.Needed < 3 {
			t.Errorf("ExtendLocks = %+v, %v; want nothing extended of at least three", l, err)
		}
		l, err := storagetest.OpenRepository(t, later).ExtendLocks(t.Context(), "org")
		if err != nil || l.Extended != l.Needed {
			t.Errorf("ExtendLocks to 30 days = %+v, %v; want all extended", l, err)
		}
		r.Intact(t)
	})
	for _, e := range storagetest.Keys(t, open(t, c), "") {
		want := 30 * day
		if slices.Contains(condemned, e) {
			want = 10 * day
		}
		if !repo.Lasting(e) {
			want = 0
		}
		if _, left := retention(t, server, c, e); left != want {
			t.Errorf("%s is locked for %s, want %s", e, left, want)
		}
	}
}
