package storagetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup/repo"
)

// Lying is a storage that says "done" to what a crash takes back within a minute:
// an object is gone again (a lost rename), or cut (a torn tail), or is there again
// after it was deleted. It answers a write that it did twice with "exists", reads
// slowly, and has storms in which it answers nothing.
type Lying struct {
	repo.Storage
	Memory *repo.Memory // what is there
	Prompt bool         // reads are not slow: the clock of a bubble stands while one waits for a lock whose holder sleeps
	mu     sync.Mutex
	random *rand.Rand
	storm  int                  // operations that fail from now on
	fresh  map[string]time.Time // objects, by when they were made
	gone   map[string]deletedObject
	harmed []string // what crashes took
}

type deletedObject struct {
	at   time.Time
	data []byte
}

// LieTime is how long a crash may take back what was answered.
const LieTime = time.Minute

// ErrBusy is what a storm answers.
var ErrBusy = errors.New("503 service unavailable")

// NewLying returns an empty one that takes its chances from random.
func NewLying(random *rand.Rand) *Lying {
	memory := repo.NewMemory()
	return &Lying{Storage: memory, Memory: memory, random: random, fresh: map[string]time.Time{}, gone: map[string]deletedObject{}}
}

// chance is one in n.
func (l *Lying) chance(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random != nil && l.random.IntN(n) == 0
}

func (l *Lying) busy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.storm == 0 {
		return nil
	}
	l.storm--
	return ErrBusy
}

// Create implements repo.Storage.
func (l *Lying) Create(ctx context.Context, key string) (repo.Upload, error) {
	if err := l.busy(); err != nil {
		return nil, err
	}
	u, err := l.Storage.Create(ctx, key)
	return &lyingUpload{u, l, key}, err
}

type lyingUpload struct {
	repo.Upload
	l   *Lying
	key string
}

func (u *lyingUpload) Commit(ctx context.Context) error {
	if err := u.l.busy(); err != nil {
		return err
	}
	if err := u.Upload.Commit(ctx); err != nil {
		return err
	}
	u.l.mu.Lock()
	u.l.fresh[u.key] = time.Now()
	u.l.mu.Unlock()
	if u.l.chance(60) {
		return fmt.Errorf("%s: %w", u.key, repo.ErrExist) // the first answer was lost, this is the second try's
	}
	return nil
}

// Open implements repo.Storage.
func (l *Lying) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := l.busy(); err != nil {
		return nil, err
	}
	if !l.Prompt && l.chance(50) {
		time.Sleep(3 * time.Second) // of the bubble
	}
	return l.Storage.Open(ctx, key, offset, length)
}

// Stat implements repo.Storage.
func (l *Lying) Stat(ctx context.Context, key string) (int64, error) {
	if err := l.busy(); err != nil {
		return 0, err
	}
	return l.Storage.Stat(ctx, key)
}

// List implements repo.Storage.
func (l *Lying) List(ctx context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	if err := l.busy(); err != nil {
		return func(yield func(repo.Entry, error) bool) { yield(repo.Entry{}, err) }
	}
	return l.Storage.List(ctx, prefix)
}

// Delete implements repo.Storage.
func (l *Lying) Delete(ctx context.Context, key string) error {
	if err := l.busy(); err != nil {
		return err
	}
	r, err := l.Storage.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close(), l.Storage.Delete(ctx, key)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone[key] = deletedObject{time.Now(), data}
	return nil
}

// Crash takes back some of what was done in the last minute.
func (l *Lying) Crash(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storm = 0
	for _, key := range l.inOrder() {
		if time.Since(l.fresh[key]) > LieTime || key == "format.json" {
			continue
		}
		data := Object(t, l.Memory, key)
		switch l.random.IntN(6) {
		case 0:
			if err := l.Memory.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			l.harmed = append(l.harmed, key+" is lost")
		case 1:
			l.Memory.Set(key, data[:l.random.IntN(len(data))])
			l.harmed = append(l.harmed, key+" is cut")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(l.gone)) {
		if d := l.gone[key]; time.Since(d.at) <= LieTime && l.random.IntN(3) == 0 {
			l.Memory.Set(key, d.data)
		}
	}
	clear(l.fresh)
	clear(l.gone)
}

// inOrder are the fresh objects in an order that does not hang on the random names
// of packs, as far as they were not made at the same time.
func (l *Lying) inOrder() []string {
	return slices.SortedFunc(maps.Keys(l.fresh), func(a, b string) int {
		return cmp.Or(l.fresh[a].Compare(l.fresh[b]), strings.Compare(kindOf(a), kindOf(b)), strings.Compare(a, b))
	})
}

// kindOf is the part of a key that says what the object is.
func kindOf(key string) string {
	part := strings.SplitN(key, "/", 4)
	return strings.Join(part[:min(len(part), 3)], "/")
}

// Storm lets the next n operations fail.
func (l *Lying) Storm(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storm = n
}

// Harmed says what crashes took.
func (l *Lying) Harmed() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.harmed)
}
