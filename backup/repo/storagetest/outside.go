package storagetest

import (
	"bytes"
	"context"
	"io"
	"iter"
	"sync"
	"testing"
	"time"

	"holdfast/backup/repo"
)

// Outside is a storage whose requests are made outside of the bubble in which
// time is not real, since connections keep the bubble's time from passing.
type Outside struct {
	storage repo.Locker
	mu      sync.Mutex
	calls   chan func()
	done    chan struct{}
}

// GoOutside is called before the bubble.
func GoOutside(t testing.TB, storage repo.Locker) *Outside {
	o := &Outside{storage: storage, calls: make(chan func()), done: make(chan struct{})}
	go func() {
		for f := range o.calls {
			f()
			o.done <- struct{}{}
		}
	}()
	t.Cleanup(func() { close(o.calls) })
	return o
}

// Do calls f outside of the bubble.
func (o *Outside) Do(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls <- f
	<-o.done
}

// Create implements repo.Locker.
func (o *Outside) Create(_ context.Context, key string) (u repo.Upload, err error) {
	o.Do(func() { u, err = o.storage.Create(context.Background(), key) })
	return outsideUpload{u, o}, err
}

// Open implements repo.Locker.
func (o *Outside) Open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	var data []byte
	var err error
	o.Do(func() {
		var r io.ReadCloser
		if r, err = o.storage.Open(context.Background(), key, offset, length); err == nil {
			data, err = io.ReadAll(r)
			r.Close()
		}
	})
	return io.NopCloser(bytes.NewReader(data)), err
}

// Stat implements repo.Locker.
func (o *Outside) Stat(_ context.Context, key string) (n int64, err error) {
	o.Do(func() { n, err = o.storage.Stat(context.Background(), key) })
	return n, err
}

// List implements repo.Locker.
func (o *Outside) List(_ context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	var list []repo.Entry
	var failed error
	o.Do(func() {
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

// Delete implements repo.Locker.
func (o *Outside) Delete(_ context.Context, key string) (err error) {
	o.Do(func() { err = o.storage.Delete(context.Background(), key) })
	return err
}

// Extend implements repo.Locker.
func (o *Outside) Extend(_ context.Context, key string) (done bool, err error) {
	o.Do(func() { done, err = o.storage.Extend(context.Background(), key) })
	return done, err
}

// LockedUntil is when the lock of an object ends, zero if the storage does not say it.
func (o *Outside) LockedUntil(_ context.Context, key string) (until time.Time, err error) {
	if times, ok := o.storage.(interface {
		LockedUntil(ctx context.Context, key string) (time.Time, error)
	}); ok {
		o.Do(func() { until, err = times.LockedUntil(context.Background(), key) })
	}
	return until, err
}

type outsideUpload struct {
	u repo.Upload
	o *Outside
}

func (u outsideUpload) Write(p []byte) (n int, err error) {
	u.o.Do(func() { n, err = u.u.Write(p) })
	return n, err
}

func (u outsideUpload) Commit(context.Context) (err error) {
	u.o.Do(func() { err = u.u.Commit(context.Background()) })
	return err
}

func (u outsideUpload) Abort() { u.o.Do(u.u.Abort) }
