package s3_test

import (
	"bytes"
	"context"
	"io"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
	"holdfast/backup/repo/s3"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/backup/repo/storagetest"
)

// outside is a storage whose requests are made outside of the bubble in which
// time is not real, since connections keep the bubble's time from passing.
type outside struct {
	storage repo.Locker
	mu      sync.Mutex
	calls   chan func()
	done    chan struct{}
}

// goOutside is called before the bubble.
func goOutside(t *testing.T, storage repo.Locker) *outside {
	o := &outside{storage: storage, calls: make(chan func()), done: make(chan struct{})}
	go func() {
		for f := range o.calls {
			f()
			o.done <- struct{}{}
		}
	}()
	t.Cleanup(func() { close(o.calls) })
	return o
}

func (o *outside) do(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls <- f
	<-o.done
}

func (o *outside) Create(_ context.Context, key string) (u repo.Upload, err error) {
	o.do(func() { u, err = o.storage.Create(context.Background(), key) })
	return outsideUpload{u, o}, err
}

func (o *outside) Open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	var data []byte
	var err error
	o.do(func() {
		var r io.ReadCloser
		if r, err = o.storage.Open(context.Background(), key, offset, length); err == nil {
			data, err = io.ReadAll(r)
			r.Close()
		}
	})
	return io.NopCloser(bytes.NewReader(data)), err
}

func (o *outside) Stat(_ context.Context, key string) (n int64, err error) {
	o.do(func() { n, err = o.storage.Stat(context.Background(), key) })
	return n, err
}

func (o *outside) List(_ context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	var list []repo.Entry
	var failed error
	o.do(func() {
		for e, err := range o.storage.List(context.Background(), prefix) {
			if err != nil {
				failed = err
				return
			}
			list = append(list, e)
		}
	})
	return func(yield func(repo.Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
		if failed != nil {
			yield(repo.Entry{}, failed)
		}
	}
}

func (o *outside) Delete(_ context.Context, key string) (err error) {
	o.do(func() { err = o.storage.Delete(context.Background(), key) })
	return err
}

func (o *outside) Extend(_ context.Context, key string) (done bool, err error) {
	o.do(func() { done, err = o.storage.Extend(context.Background(), key) })
	return done, err
}

type outsideUpload struct {
	u repo.Upload
	o *outside
}

func (u outsideUpload) Write(p []byte) (n int, err error) {
	u.o.do(func() { n, err = u.u.Write(p) })
	return n, err
}

func (u outsideUpload) Commit(context.Context) (err error) {
	u.o.do(func() { err = u.u.Commit(context.Background()) })
	return err
}

func (u outsideUpload) Abort() { u.o.do(u.u.Abort) }

func TestCollectorThatSleptIsFenced(t *testing.T) {
	server := s3test.Real(t)
	for _, alone := range []bool{false, true} {
		slept := true
		for at := 1; slept; at++ {
			storage := goOutside(t, open(t, server.Bucket(t)))
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
	storage := goOutside(t, open(t, c))
	longer := c
	longer.Lock.Period = 30 * day
	later := goOutside(t, open(t, longer))
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
