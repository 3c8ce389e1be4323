package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
)

// lying is a storage that says "done" to what a crash takes back within a minute:
// an object is gone again (a lost rename), or cut (a torn tail), or is there again
// after it was deleted. It answers a write that it did twice with "exists", reads
// slowly, and has storms in which it answers nothing.
type lying struct {
	repo.Storage
	memory *repo.Memory
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

const lieTime = time.Minute

var errBusy = errors.New("503 service unavailable")

func newLying(random *rand.Rand) *lying {
	memory := repo.NewMemory()
	return &lying{Storage: memory, memory: memory, random: random, fresh: map[string]time.Time{}, gone: map[string]deletedObject{}}
}

// chance is one in n.
func (l *lying) chance(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random != nil && l.random.IntN(n) == 0
}

func (l *lying) busy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.storm == 0 {
		return nil
	}
	l.storm--
	return errBusy
}

func (l *lying) Create(ctx context.Context, key string) (repo.Upload, error) {
	if err := l.busy(); err != nil {
		return nil, err
	}
	u, err := l.Storage.Create(ctx, key)
	return &lyingUpload{u, l, key}, err
}

type lyingUpload struct {
	repo.Upload
	l   *lying
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

func (l *lying) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := l.busy(); err != nil {
		return nil, err
	}
	if l.chance(50) {
		time.Sleep(3 * time.Second) // of the bubble
	}
	return l.Storage.Open(ctx, key, offset, length)
}

func (l *lying) Stat(ctx context.Context, key string) (int64, error) {
	if err := l.busy(); err != nil {
		return 0, err
	}
	return l.Storage.Stat(ctx, key)
}

func (l *lying) List(ctx context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	if err := l.busy(); err != nil {
		return func(yield func(repo.Entry, error) bool) { yield(repo.Entry{}, err) }
	}
	return l.Storage.List(ctx, prefix)
}

func (l *lying) Delete(ctx context.Context, key string) error {
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

// crash takes back some of what was done in the last minute.
func (l *lying) crash(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storm = 0
	for _, key := range slices.Sorted(maps.Keys(l.fresh)) {
		if time.Since(l.fresh[key]) > lieTime || key == "format.json" {
			continue
		}
		data := object(t, l.memory, key)
		switch l.random.IntN(6) {
		case 0:
			if err := l.memory.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			l.harmed = append(l.harmed, key+" is lost")
		case 1:
			l.memory.Set(key, data[:l.random.IntN(len(data))])
			l.harmed = append(l.harmed, key+" is cut")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(l.gone)) {
		if d := l.gone[key]; time.Since(d.at) <= lieTime && l.random.IntN(3) == 0 {
			l.memory.Set(key, d.data)
		}
	}
	clear(l.fresh)
	clear(l.gone)
}

// liars is a model whose storage lies.
type liars struct {
	*model
	lie *lying
}

// TestModelOnAStorageThatLies does what TestModel does on such a storage, and has it
// crash. What was committed comes back with its bytes or with an error; where it is
// an error, the verification names damage; and where nothing was taken, nothing is
// missing. A failure names its seed.
func TestModelOnAStorageThatLies(t *testing.T) {
	seed, steps := modelSeed(40)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := newLying(random)
		m := liars{&model{box: open(t, l, keyStore{"k"}), random: random, sources: map[string]*modelSource{}}, l}
		for _, name := range []string{"box", "other"} {
			m.sources[name] = &modelSource{snapshots: map[int64][]modelItem{}}
		}
		for i := range steps {
			m.step(t)
			if t.Failed() {
				t.Fatalf("at step %d: HOLDFAST_TEST_SEED=%d HOLDFAST_TEST_STEPS=%d; %q", i, seed, steps, l.harmed)
			}
		}
	})
}

func (m liars) step(t *testing.T) {
	t.Helper()
	time.Sleep(time.Duration(m.random.Int64N(int64(2 * lieTime))))
	switch m.random.IntN(10) {
	case 0, 1, 2, 3:
		if m.random.IntN(4) == 0 {
			m.lie.mu.Lock()
			m.lie.storm = m.random.IntN(20)
			m.lie.mu.Unlock()
		}
		m.run(t)
	case 4, 5:
		m.expire(t)
	case 6:
		if m.random.IntN(2) == 0 {
			time.Sleep(time.Duration(m.random.Int64N(int64(2 * repo.Grace))))
		}
		if _, err := m.Collect(t.Context(), "org", owner{m.box}); err != nil {
			m.mayFail(t, "Collect", err)
		}
	default:
		m.run(t)
		m.lie.crash(t)
		m.reopen(t)
	}
	m.check(t)
}

// mayFail refuses errors for which the storage gives no reason.
func (m liars) mayFail(t *testing.T, what string, err error) {
	t.Helper()
	for _, reason := range []error{errBusy, repo.ErrExist, repo.ErrCommitExists, repo.ErrStale, repo.ErrCollecting} {
		if errors.Is(err, reason) {
			return
		}
	}
	if len(m.lie.harmed) == 0 {
		t.Errorf("%s: %v", what, err)
	}
}

// run is a run on some source, which fails with the storage.
func (m liars) run(t *testing.T) {
	t.Helper()
	source := m.source()
	s := m.sources[source]
	w, err := m.NewWriter(t.Context(), "org", source)
	if err != nil {
		m.mayFail(t, "NewWriter", err)
		return
	}
	defer w.Abort()
	var items []modelItem
	for _, item := range s.snapshots[s.seq] {
		if m.random.IntN(3) > 0 {
			items = append(items, item)
		}
	}
	for range 1 + m.random.IntN(4) {
		text := m.text()
		c, err := w.PutContent(t.Context(), bytes.NewReader(text))
		if err != nil {
			m.mayFail(t, "PutContent", err)
			return
		}
		items = append(items, modelItem{c, text})
	}
	root, err := w.PutMeta(t.Context(), 'r', fmt.Appendf(nil, "root %d %d", s.seq+1, m.random.Uint64()))
	if err != nil {
		m.mayFail(t, "PutMeta", err)
		return
	}
	done, err := w.Commit(t.Context(), repo.Commit{Seq: s.seq + 1, At: time.Now(), Root: root})
	if err != nil {
		m.mayFail(t, "Commit", err)
		m.needs[root] = contentsOf(items)
		m.adopt(t, source, root, items)
		return
	}
	s.seq++
	s.snapshots[s.seq] = items
	m.index.Add("org", done.Objects)
	m.needs[root] = contentsOf(items)
}

func contentsOf(items []modelItem) []repo.Content {
	var list []repo.Content
	for _, item := range items {
		list = append(list, item.content)
	}
	return list
}

// adopt takes in a commit that was made although its answer is an error, as the
// next run of a mailbox does.
func (m liars) adopt(t *testing.T, source string, root repo.MetaID, items []modelItem) {
	t.Helper()
	m.lie.mu.Lock()
	m.lie.storm = 0
	m.lie.mu.Unlock()
	s := m.sources[source]
	c, err := m.Commit(t.Context(), "org", source, s.seq+1)
	if err != nil || c.Root != root {
		return
	}
	s.seq++
	s.snapshots[s.seq] = items
	m.take(t, c.Packs)
}

// take adds what packs have to the index, as far as they can be read.
func (m liars) take(t *testing.T, packs []repo.Pack) {
	t.Helper()
	for _, p := range packs {
		objects, err := m.Objects(t.Context(), "org", []repo.Pack{p})
		if err == nil {
			m.index.Add("org", objects)
		} else if len(m.lie.harmed) == 0 {
			t.Errorf("objects of %s: %v", p.ID, err)
		}
	}
}

func (m liars) expire(t *testing.T) {
	t.Helper()
	source := m.source()
	s := m.sources[source]
	var gone []int64
	for _, seq := range slices.Sorted(maps.Keys(s.snapshots)) {
		if seq < s.seq && m.random.IntN(2) == 0 {
			gone = append(gone, seq)
		}
	}
	if err := m.Expire(t.Context(), "org", source, repo.SpansOf(gone)); err != nil {
		if !errors.Is(err, repo.ErrNewest) { // the newest of the storage is older than ours: lost
			m.mayFail(t, "Expire", err)
		}
		gone = nil
		for seq := range s.snapshots { // what the log says counts, whatever was answered
			if x, err := m.Expired(t.Context(), "org", source); err == nil && x.Has(seq) {
				gone = append(gone, seq)
			}
		}
	}
	for _, seq := range gone {
		delete(s.snapshots, seq)
	}
}

// reopen is the next process: with the catalog that it has, or with one made from
// what is in the repository.
func (m *liars) reopen(t *testing.T) {
	t.Helper()
	b := open(t, m.lie, keyStore{"k"})
	b.needs = m.needs
	if m.random.IntN(2) == 0 {
		b.index = m.index
		again, err := repo.Open(t.Context(), m.lie, keyStore{"k"}, b.index, repo.Options{TargetPack: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		b.Repository = again
		m.box = b
		return
	}
	m.box = b
	for source, s := range m.sources {
		newest := int64(0)
		for _, key := range keys(t, m.lie.memory, "t/org/c/"+source+"/") {
			n, err := strconv.ParseInt(key[strings.LastIndexByte(key, '/')+1:], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			newest = max(newest, n)
		}
		for seq := range s.snapshots {
			if seq > newest {
				delete(s.snapshots, seq) // nobody who sees the repository alone knows of it
			}
		}
		s.seq = newest
		for c, err := range m.Commits(t.Context(), "org", source, 0) {
			if err == nil {
				m.take(t, c.Packs)
			}
		}
		if packs, err := m.OtherPacks(t.Context(), "org", source); err == nil {
			m.take(t, packs)
		}
	}
}

// check reads everything that is kept.
func (m liars) check(t *testing.T) {
	t.Helper()
	m.lie.mu.Lock()
	m.lie.storm = 0
	m.lie.mu.Unlock()
	proof := &proven{whole: map[repo.PieceID]bool{}, keys: map[repo.PieceID][]byte{}}
	sources := slices.Sorted(maps.Keys(m.sources))
	for _, source := range sources {
		for _, items := range m.sources[source].snapshots {
			for _, item := range items {
				proof.expect(item.content)
			}
		}
	}
	reports, err := m.VerifyAll(t.Context(), "org", sources, repo.VerifyBlobs, proof)
	if err != nil {
		t.Errorf("Verify: %v", err)
	}
	told := m.VerifyLog(t.Context(), "org") != nil
	for i, source := range sources {
		report, want := reports[i], len(m.sources[source].snapshots)
		if len(m.lie.harmed) == 0 && (len(report.Damaged) > 0 || report.Commits != want) {
			t.Errorf("Verify = %+v of %d snapshots although nothing was taken", report, want)
		}
		told = told || len(report.Damaged) > 0
	}
	for source, s := range m.sources {
		for seq, items := range s.snapshots {
			for i, item := range items {
				var out bytes.Buffer
				err := m.ReadContent(t.Context(), "org", source, item.content, &out)
				switch {
				case err == nil && !bytes.Equal(out.Bytes(), item.text):
					t.Errorf("snapshot %d of %s: content %d came back changed without an error", seq, source, i)
				case err != nil && len(m.lie.harmed) == 0:
					t.Errorf("snapshot %d of %s: content %d: %v, although nothing was taken", seq, source, i, err)
				case err != nil && m.whole(t, item.content):
					t.Errorf("snapshot %d of %s: content %d: %v, although its packs are as they were", seq, source, i, err)
				case err != nil && !told && proof.proves(item.content):
					t.Errorf("snapshot %d of %s: content %d can't be read (%v), and nothing says so", seq, source, i, err)
				}
			}
		}
	}
}

// whole says that no crash took anything of the packs that a content is in.
func (m liars) whole(t *testing.T, c repo.Content) bool {
	t.Helper()
	var ids []repo.PieceID
	c.Pieces(func(id repo.PieceID) { ids = append(ids, id) })
	found, err := m.index.Locate(t.Context(), "org", ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		at, ok := found[id]
		if !ok || strings.Contains(strings.Join(m.lie.harmed, " "), at.Pack.String()) {
			return false
		}
	}
	return true
}

// proven is what a verification found whole, as the check of all data asks for it.
type proven struct {
	mu    sync.Mutex
	whole map[repo.PieceID]bool
	keys  map[repo.PieceID][]byte
}

func (p *proven) expect(c repo.Content) {
	for _, part := range c.Parts {
		for _, s := range part.Shared {
			p.keys[s.ID] = s.Key[:]
		}
	}
}

func (p *proven) proves(c repo.Content) bool {
	whole := true
	c.Pieces(func(id repo.PieceID) { whole = whole && p.whole[id] })
	return whole
}

func (p *proven) Meta(string, byte, repo.MetaID, []byte) {}
func (p *proven) Key(id repo.PieceID) []byte             { return p.keys[id] }
func (p *proven) Whole(id repo.PieceID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole[id] = true
}
