package repo_test

import (
	"bytes"
	"errors"
	"fmt"
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
	"holdfast/backup/repo/storagetest"
)

// liars is a model whose storage lies.
type liars struct {
	*model
	lie *storagetest.Lying
}

// TestModelOnAStorageThatLies does what TestModel does on such a storage, and has it
// crash. What was committed comes back with its bytes or with an error; where it is
// an error, the verification names damage; and where nothing was taken, nothing is
// missing. A failure names its seed.
func TestModelOnAStorageThatLies(t *testing.T) {
	seed, steps := modelSeed(40)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := storagetest.NewLying(random)
		m := liars{&model{box: open(t, l, keyStore{"k"}), random: random, sources: map[string]*modelSource{}}, l}
		for _, name := range []string{"box", "other"} {
			m.sources[name] = &modelSource{snapshots: map[int64][]modelItem{}}
		}
		for i := range steps {
			m.step(t)
			if t.Failed() {
				t.Fatalf("at step %d: HOLDFAST_TEST_SEED=%d HOLDFAST_TEST_STEPS=%d; %q", i, seed, steps, l.Harmed())
			}
		}
	})
}

func (m liars) step(t *testing.T) {
	t.Helper()
	time.Sleep(time.Duration(m.random.Int64N(int64(2 * storagetest.LieTime))))
	switch m.random.IntN(10) {
	case 0, 1, 2, 3:
		if m.random.IntN(4) == 0 {
			m.lie.Storm(m.random.IntN(20))
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
		m.lie.Crash(t)
		m.reopen(t)
	}
	m.check(t)
}

// mayFail refuses errors for which the storage gives no reason.
func (m liars) mayFail(t *testing.T, what string, err error) {
	t.Helper()
	for _, reason := range []error{storagetest.ErrBusy, repo.ErrExist, repo.ErrCommitExists, repo.ErrStale, repo.ErrCollecting} {
		if errors.Is(err, reason) {
			return
		}
	}
	if len(m.lie.Harmed()) == 0 {
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
	m.lie.Storm(0)
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
		} else if len(m.lie.Harmed()) == 0 {
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
		for _, key := range keys(t, m.lie.Memory, "t/org/c/"+source+"/") {
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
	m.lie.Storm(0)
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
		if len(m.lie.Harmed()) == 0 && (len(report.Damaged) > 0 || report.Commits != want) {
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
				case err != nil && len(m.lie.Harmed()) == 0:
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
		if !ok || strings.Contains(strings.Join(m.lie.Harmed(), " "), at.Pack.String()) {
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
