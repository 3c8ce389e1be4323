package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"holdfast/backup/repo"
)

// faulty is a Storage on which one operation fails, and optionally all after it.
type faulty struct {
	repo.Storage
	count atomic.Int64 // operations so far
	at    int64        // number of the one that fails, from 1; 0 for none
	keep  bool         // so do all after it
	fault fault
}

// fault is what goes wrong.
type fault struct {
	err   error
	short bool // a write takes half of the bytes and says so without an error
	late  bool // a commit is done, but its answer is lost
}

func (f *faulty) fails() bool {
	n := f.count.Add(1)
	return f.at > 0 && (n == f.at || f.keep && n > f.at)
}

func (f *faulty) Create(ctx context.Context, key string) (repo.Upload, error) {
	if !f.fault.short && f.fails() {
		return nil, f.fault.err
	}
	u, err := f.Storage.Create(ctx, key)
	return &faultyUpload{u, f}, err
}

func (f *faulty) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r, err := f.Storage.Open(ctx, key, offset, length)
	if err != nil || !f.fails() {
		return r, err
	}
	if f.fault.short {
		data, err := io.ReadAll(r)
		return io.NopCloser(bytes.NewReader(data[:len(data)/2])), errors.Join(err, r.Close())
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(r, 10), iotest.ErrReader(f.fault.err))), nil
}

type faultyUpload struct {
	repo.Upload
	f *faulty
}

func (u *faultyUpload) Write(p []byte) (int, error) {
	if !u.f.fails() {
		return u.Upload.Write(p)
	}
	n, err := u.Upload.Write(p[:len(p)/2])
	if !u.f.fault.short {
		err = u.f.fault.err
	}
	return n, err
}

func (u *faultyUpload) Commit(ctx context.Context) error {
	if u.f.fault.short || !u.f.fails() {
		return u.Upload.Commit(ctx)
	}
	if u.f.fault.late {
		if err := u.Upload.Commit(ctx); err != nil {
			return err
		}
	}
	return u.f.fault.err
}

var faults = map[string]fault{
	"disk full":   {err: &fakePathError{syscall.ENOSPC}},
	"I/O error":   {err: syscall.EIO},
	"short write": {short: true, err: io.ErrShortWrite},
	"lost answer": {late: true, err: syscall.ECONNRESET},
}

// fakePathError is what os gives around such errors.
type fakePathError struct{ err error }

func (e *fakePathError) Error() string { return "write x: " + e.err.Error() }
func (e *fakePathError) Unwrap() error { return e.err }

// work is what a run puts: contents from several goroutines, then metadata.
var work = [][]byte{
	[]byte("a letter"), noise(1, 200<<10), []byte("another letter"), []byte(lines(noise(2, 150<<10), 76, "\r\n")),
	noise(3, 40<<10), noise(4, 40<<10), noise(5, 40<<10), noise(6, 40<<10), []byte("a letter"),
}

// run does the work and returns the recipes of what was put without an error.
func (b box) run(ctx context.Context, seq int64) (repo.Committed, map[int]repo.Content, error) {
	w, err := b.NewWriter(ctx, "org", "box")
	if err != nil {
		return repo.Committed{}, nil, err
	}
	defer w.Abort()
	contents := map[int]repo.Content{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	for i, data := range work {
		wg.Go(func() {
			c, err := w.PutContent(ctx, bytes.NewReader(data))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else {
				contents[i] = c
			}
		})
	}
	wg.Wait()
	root, err := w.PutMeta(ctx, 'r', noise(9, 150<<10))
	errs = append(errs, err)
	// Callers go on after an item failed: the commit has to refuse by itself.
	done, err := w.Commit(ctx, repo.Commit{Seq: seq, At: time.Now(), Root: root})
	if failed := errors.Join(errs...); err == nil && failed != nil {
		return done, contents, fmt.Errorf("committed although %w", failed)
	}
	return done, contents, err
}

// TestFaultsOnWriting lets every operation of a run fail once, in every way:
// either the run says so, or everything is there; and the next run works.
func TestFaultsOnWriting(t *testing.T) {
	step := int64(1)
	if testing.Short() {
		step = 5
	}
	for name, fault := range faults {
		for _, keep := range []bool{false, name == "disk full"} {
			for n := int64(1); ; n += step {
				memory := repo.NewMemory()
				open(t, memory, keyStore{"k"}) // writes format.json
				f := &faulty{Storage: memory, fault: fault, keep: keep}
				b := open(t, f, keyStore{"k"})
				f.count.Store(0)
				f.at = n
				_, contents, err := b.run(t.Context(), 1)
				done := f.count.Load() < n // nothing failed any more
				if !done && !errors.Is(err, fault.err) {
					t.Errorf("%s at operation %d: the run says %v", name, n, err)
				}
				if done && err != nil {
					t.Fatalf("%s: the run without a fault: %v", name, err)
				}
				checkAfterFault(t, memory, contents, fmt.Sprintf("%s at operation %d, keep %v", name, n, keep))
				if done {
					break
				}
			}
		}
	}
}

// checkAfterFault checks that every commit is whole, and adds one.
func checkAfterFault(t *testing.T, memory *repo.Memory, contents map[int]repo.Content, when string) {
	t.Helper()
	b := open(t, memory, keyStore{"k"})
	b.load(t)
	seq := int64(1)
	for c := range b.Commits(t.Context(), "org", "box", 0) {
		seq = c.Seq + 1
		for i, content := range contents {
			if got := b.read(t, "org", "box", content); !bytes.Equal(got, work[i]) {
				t.Errorf("%s: content %d came back changed", when, i)
			}
		}
	}
	done, contents, err := b.run(t.Context(), seq)
	if err != nil {
		t.Fatalf("%s: the next run: %v", when, err)
	}
	b.index.Add("org", done.Objects)
	for i, content := range contents {
		if got := b.read(t, "org", "box", content); !bytes.Equal(got, work[i]) {
			t.Errorf("%s: content %d of the next run came back changed", when, i)
		}
	}
	if report, err := b.Verify(t.Context(), "org", "box", repo.VerifyBlobs); err != nil || len(report.Damaged) > 0 {
		t.Errorf("%s: Verify = %+v, %v", when, report, err)
	}
}

// TestFaultsOnReading lets every operation of reading fail: never is it other
// bytes without an error.
func TestFaultsOnReading(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	done, contents, err := b.run(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, fault := range faults {
		for n := int64(1); ; n++ {
			f := &faulty{Storage: b.storage, fault: fault}
			r := open(t, f, keyStore{"k"})
			r.index.Add("org", done.Objects)
			f.count.Store(0)
			f.at = n
			failed := 0
			for i, c := range contents {
				var out bytes.Buffer
				err := r.ReadContent(t.Context(), "org", "box", c, &out)
				if err == nil && !bytes.Equal(out.Bytes(), work[i]) {
					t.Errorf("%s at operation %d: content %d came back changed without an error", name, n, i)
				}
				if err != nil && !errors.Is(err, fault.err) && !errors.Is(err, repo.ErrDamaged) {
					t.Errorf("%s at operation %d: %v", name, n, err)
				}
				if err != nil {
					failed++
				}
			}
			over := f.count.Load() < n
			if over == (failed > 0) {
				t.Errorf("%s at operation %d: %d contents failed", name, n, failed)
			}
			if over {
				break
			}
		}
	}
}

// TestLostPieceIsNotReliedOn fails the write of a piece and stores the same
// piece again: the writer must not take it for known.
func TestLostPieceIsNotReliedOn(t *testing.T) {
	memory := repo.NewMemory()
	open(t, memory, keyStore{"k"})
	f := &faulty{Storage: memory, fault: faults["disk full"]}
	b := open(t, f, keyStore{"k"})
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	f.count.Store(0)
	f.at = 3 // the first blob
	for range 2 {
		if _, err := w.PutContent(t.Context(), bytes.NewReader(noise(1, 100<<10))); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("PutContent = %v, want ENOSPC", err)
		}
	}
	if _, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Commit = %v, want ENOSPC", err)
	}
	if list := keys(t, memory, "t/"); len(list) != 0 {
		t.Errorf("the storage holds %q, want nothing", list)
	}
}

func TestFailingReaderLeavesTheWriterUsable(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	w, err := b.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the connection broke")
	half := io.MultiReader(bytes.NewReader(noise(1, 9<<20)), iotest.ErrReader(broken))
	if _, err := w.PutContent(t.Context(), half); !errors.Is(err, broken) {
		t.Errorf("PutContent = %v, want the reader's error", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.PutContent(canceled, bytes.NewReader(noise(2, 1<<20))); !errors.Is(err, context.Canceled) {
		t.Errorf("PutContent = %v, want Canceled", err)
	}
	c, err := w.PutContent(t.Context(), bytes.NewReader(noise(1, 9<<20)))
	if err != nil {
		t.Fatal(err)
	}
	done, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	b.index.Add("org", done.Objects)
	b.read(t, "org", "box", c)
}
