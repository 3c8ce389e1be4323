package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/backup/repo"
)

// keyStore makes the same keys always.
type keyStore struct{}

func (keyStore) Epoch(context.Context, string) (int, error) { return 0, nil }

func (keyStore) TenantKey(_ context.Context, tenant string, epoch int) ([]byte, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%d", tenant, epoch))
	return h[:], nil
}

func (keyStore) SourceKey(_ context.Context, tenant, source string, epoch int) ([]byte, error) {
	h := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", tenant, source, epoch))
	return h[:], nil
}

func (keyStore) Secrets(context.Context, string) ([]byte, error) { return nil, repo.ErrNoKey }

// Repository is a repository on a storage, with what it must hold.
type Repository struct {
	*repo.Repository
	Storage  repo.Storage
	index    *repo.MemoryIndex
	seq      int64
	contents map[*repo.Content][]byte
}

// OpenRepository opens a repository.
func OpenRepository(t testing.TB, storage repo.Storage) *Repository {
	t.Helper()
	index := repo.NewMemoryIndex()
	r, err := repo.Open(t.Context(), storage, keyStore{}, index, repo.Options{TargetPack: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return &Repository{r, storage, index, 0, map[*repo.Content][]byte{}}
}

// Store commits a content made of seed.
func (r *Repository) Store(t testing.TB, seed uint64) {
	t.Helper()
	r.begin(t, seed)()
}

// begin writes a content, whose packs are mostly durable then; finish commits it.
func (r *Repository) begin(t testing.TB, seed uint64) (finish func()) {
	t.Helper()
	w, err := r.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	data := noise(seed, 600<<10)
	c, err := w.PutContent(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		r.seq++
		done, err := w.Commit(t.Context(), repo.Commit{Seq: r.seq, At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		r.index.Add("org", done.Objects)
		r.contents[&c] = data
	}
}

// Leave writes packs that are never committed, as a killed run does.
func (r *Repository) Leave(t testing.TB, seed uint64) {
	t.Helper()
	w, err := r.NewWriter(t.Context(), "org", "box")
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(4) {
		if _, err := w.PutContent(t.Context(), bytes.NewReader(noise(seed+i, 100<<10))); err != nil {
			t.Fatal(err)
		}
	}
	w.Abort()
}

// Gather collects, without an error.
func (r *Repository) Gather(t testing.TB) repo.Collection {
	t.Helper()
	c, err := r.Collect(t.Context(), "org", owner{r.index})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// owner keeps the index of a repository in which nothing expires.
type owner struct{ index *repo.MemoryIndex }

func (owner) Follow(context.Context, []repo.Expired) error { return nil }

func (owner) Live(context.Context, string, []repo.MetaID, func(repo.PieceID)) error {
	return errors.New("nothing expired: nobody has to know what is needed")
}

func (o owner) Missing(_ context.Context, packs []repo.PackID) ([]repo.PackID, error) {
	return o.index.Missing("org", packs), nil
}

func (o owner) Add(_ context.Context, objects []repo.Object) error {
	o.index.Add("org", objects)
	return nil
}

func (o owner) Forget(_ context.Context, packs []repo.PackID) error {
	o.index.Forget("org", packs)
	return nil
}

// Intact checks that everything comes back and nothing is damaged.
func (r *Repository) Intact(t testing.TB) {
	t.Helper()
	for c, want := range r.contents {
		var got bytes.Buffer
		if err := r.ReadContent(t.Context(), "org", "box", *c, &got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d bytes came back, want %d: %v", got.Len(), len(want), err)
		}
	}
	report, err := r.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
	if err != nil || len(report.Damaged) > 0 || int64(report.Commits) != r.seq {
		t.Errorf("Verify = %+v, %v; want %d whole commits", report, err, r.seq)
	}
}

func noise(seed uint64, n int) []byte {
	random := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed)))
	b := make([]byte, n)
	_, _ = random.Read(b) // never fails
	return b
}

// Fencing lets a collector fall asleep at every one of its operations, for far
// longer than anybody waits for it. Meanwhile others collect and commit, or a
// run that was under way commits alone. What the collector does when it wakes
// may not touch anything but what was released for deletion before. Fencing is
// called in a bubble of synctest, with a new storage, and returns false when the
// collector ended before operation at.
func Fencing(t *testing.T, storage repo.Storage, at int, alone bool) bool {
	t.Helper()
	r := OpenRepository(t, storage)
	r.Store(t, 1)
	before := Keys(t, storage, "t/org/d/")
	r.Leave(t, 100)
	released := slices.DeleteFunc(Keys(t, storage, "t/org/d/"), func(key string) bool { return slices.Contains(before, key) })
	r.Gather(t) // condemns them
	time.Sleep(repo.Grace)
	finish := r.begin(t, 200)
	if alone {
		released = nil
		r.Gather(t) // deletes them, and condemns what the run has written
		time.Sleep(time.Hour)
	}
	s := &sleepy{Storage: storage, at: at, asleep: make(chan struct{}), wake: make(chan struct{})}
	sleeper := OpenRepository(t, s)
	s.armed = true
	ended := make(chan error, 1)
	go func() {
		_, err := sleeper.Collect(t.Context(), "org", owner{r.index})
		ended <- err
	}()
	select {
	case <-s.asleep:
	case err := <-ended:
		if err != nil {
			t.Errorf("the collector that did not sleep: %v", err)
		}
		return false
	}
	finish()
	for i := range uint64(3) {
		if !alone {
			r.Gather(t)
			r.Store(t, 10+i)
		}
		time.Sleep(repo.Grace)
	}
	there := Keys(t, storage, "t/org/")
	close(s.wake)
	if err := <-ended; err != nil && !errors.Is(err, repo.ErrCollecting) {
		t.Errorf("asleep at %d: Collect = %v, want nil or ErrCollecting", at, err)
	}
	for _, key := range slices.Sorted(maps.Keys(s.deleted)) {
		if !slices.Contains(released, key) && slices.Contains(there, key) {
			t.Errorf("asleep at %d: it deleted %s", at, key)
		}
	}
	r.Intact(t)
	return true
}

// sleepy is a storage whose process falls asleep at an operation.
type sleepy struct {
	repo.Storage
	at           int
	asleep, wake chan struct{}

	mu      sync.Mutex
	armed   bool
	n       int
	deleted map[string]bool
}

func (s *sleepy) sleep() {
	s.mu.Lock()
	if s.armed {
		s.n++
	}
	now := s.armed && s.n == s.at
	s.mu.Unlock()
	if now {
		close(s.asleep)
		<-s.wake
	}
}

func (s *sleepy) Create(ctx context.Context, key string) (repo.Upload, error) {
	s.sleep()
	u, err := s.Storage.Create(ctx, key)
	return sleepyUpload{u, s}, err
}

func (s *sleepy) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	s.sleep()
	return s.Storage.Open(ctx, key, offset, length)
}

func (s *sleepy) List(ctx context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	s.sleep()
	return s.Storage.List(ctx, prefix)
}

func (s *sleepy) Delete(ctx context.Context, key string) error {
	s.sleep()
	s.mu.Lock()
	if s.deleted == nil {
		s.deleted = map[string]bool{}
	}
	s.deleted[key] = true
	s.mu.Unlock()
	return s.Storage.Delete(ctx, key)
}

type sleepyUpload struct {
	repo.Upload
	s *sleepy
}

func (u sleepyUpload) Commit(ctx context.Context) error {
	u.s.sleep()
	return u.Upload.Commit(ctx)
}
