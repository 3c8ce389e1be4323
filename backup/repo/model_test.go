package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
)

// TestModel does random things in random order, with collectors and writers
// that die at any change, and compares after each the repository with a model
// in memory: everything that a kept snapshot has is there, and nothing else is
// kept for ever. A failure names its seed; HOLDFAST_TEST_SEED runs it again,
// HOLDFAST_TEST_STEPS makes it longer.
func TestModel(t *testing.T) {
	seed, steps := modelSeed(80)
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, seed)
		for i := range steps {
			m.step(t)
			if t.Failed() {
				t.Fatalf("at step %d: HOLDFAST_TEST_SEED=%d HOLDFAST_TEST_STEPS=%d", i, seed, steps)
			}
		}
		for range 5 {
			time.Sleep(2 * repo.Grace)
			m.collect(t)
		}
		m.check(t)
		m.settled(t)
		if t.Failed() {
			t.Fatalf("in the end: HOLDFAST_TEST_SEED=%d HOLDFAST_TEST_STEPS=%d", seed, steps)
		}
	})
}

// modelSeed is the seed and the number of steps of a model.
func modelSeed(usual int) (seed uint64, steps int) {
	seed, steps = uint64(time.Now().UnixNano()), usual //nolint:gosec // any bits do
	if s, err := strconv.ParseUint(os.Getenv("HOLDFAST_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_TEST_STEPS")); err == nil {
		steps = n
	}
	return seed, steps
}

// model is a repository and what it must hold.
type model struct {
	box
	random  *rand.Rand
	sources map[string]*modelSource
	sleeper *modelRun
}

// modelSource is a source and its snapshots by number.
type modelSource struct {
	seq       int64
	snapshots map[int64][]modelItem
}

type modelItem struct {
	content repo.Content
	text    []byte
}

// modelRun is a writer under way.
type modelRun struct {
	*repo.Writer
	source string
	items  []modelItem
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{box: open(t, repo.NewMemory(), keyStore{"k"}), random: rand.New(rand.NewPCG(seed, 0)), sources: map[string]*modelSource{}}
	for _, name := range []string{"box", "other"} {
		m.sources[name] = &modelSource{snapshots: map[int64][]modelItem{}}
	}
	return m
}

func (m *model) source() string { return []string{"box", "other"}[m.random.IntN(2)] }

// text is one of a few texts, so that many are stored again; some are shared.
func (m *model) text() []byte {
	n := m.random.Uint64N(24)
	switch n % 3 {
	case 0:
		return []byte(lines(noise(n, 60<<10), 76, "\n"))
	case 1:
		return noise(n, 100<<10)
	}
	return noise(n, 1+int(n)*500)
}

func (m *model) step(t *testing.T) {
	t.Helper()
	switch m.random.IntN(10) {
	case 0, 1, 2: // a run
		m.finish(t, m.begin(t))
	case 3: // a run that is killed
		m.begin(t).Abort()
	case 4: // a run that begins, and goes on later
		if m.sleeper == nil {
			m.sleeper = m.begin(t)
		}
	case 5:
		if m.sleeper != nil {
			m.finish(t, m.sleeper)
			m.sleeper = nil
		}
	case 6, 7:
		m.expire(t)
	case 8: // a collector that dies
		dying := open(t, &mortal{m.storage, m.random.IntN(12)}, keyStore{"k"})
		dying.index, dying.needs = m.index, m.needs
		if _, err := dying.Collect(t.Context(), "org", owner{dying}); err != nil && !errors.Is(err, errDies) {
			t.Errorf("Collect: %v", err)
		}
	case 9:
		time.Sleep(time.Duration(m.random.Int64N(int64(repo.Grace))))
		m.collect(t)
	}
	m.check(t)
}

// begin begins a run that keeps a part of the newest snapshot and adds to it.
func (m *model) begin(t *testing.T) *modelRun {
	t.Helper()
	source := m.source()
	w, err := m.NewWriter(t.Context(), "org", source)
	if err != nil {
		t.Fatal(err)
	}
	r := &modelRun{Writer: w, source: source}
	s := m.sources[source]
	for _, item := range s.snapshots[s.seq] {
		if m.random.IntN(3) > 0 {
			r.items = append(r.items, item)
		}
	}
	for range 1 + m.random.IntN(4) {
		text := m.text()
		c, err := w.PutContent(t.Context(), bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r.items = append(r.items, modelItem{c, text})
	}
	return r
}

func (m *model) finish(t *testing.T, r *modelRun) {
	t.Helper()
	s := m.sources[r.source]
	root, err := r.PutMeta(t.Context(), 'r', fmt.Appendf(nil, "root %d %d", s.seq+1, m.random.Uint64()))
	if err != nil {
		t.Fatal(err)
	}
	done, err := r.Commit(t.Context(), repo.Commit{Seq: s.seq + 1, At: time.Now(), Root: root})
	if errors.Is(err, repo.ErrStale) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	s.seq++
	s.snapshots[s.seq] = r.items
	m.index.Add("org", done.Objects)
	for _, item := range r.items {
		m.needs[root] = append(m.needs[root], item.content)
	}
}

// expire lets some snapshots of a source expire.
func (m *model) expire(t *testing.T) {
	t.Helper()
	source := m.source()
	if m.sleeper != nil && m.sleeper.source == source {
		return // it took content over from the snapshot that was the newest then
	}
	s := m.sources[source]
	var gone []int64
	for _, seq := range slices.Sorted(maps.Keys(s.snapshots)) {
		if seq < s.seq && m.random.IntN(2) == 0 {
			gone = append(gone, seq)
		}
	}
	if err := m.Expire(t.Context(), "org", source, repo.SpansOf(gone)); err != nil {
		t.Fatal(err)
	}
	for _, seq := range gone {
		delete(s.snapshots, seq)
	}
	if s.seq > 0 {
		if err := m.Expire(t.Context(), "org", source, []repo.Span{{From: 1, To: s.seq}}); !errors.Is(err, repo.ErrNewest) {
			t.Errorf("the newest snapshot expired: %v", err)
		}
	}
}

// check reads everything that is kept, through the index as it is and through
// one made anew.
func (m *model) check(t *testing.T) {
	t.Helper()
	again := open(t, m.storage, keyStore{"k"})
	again.load(t)
	for _, b := range []box{m.box, again} {
		for source, s := range m.sources {
			m.readAll(t, b, source, s)
			report, err := b.Verify(t.Context(), "org", source, repo.VerifyBlobs)
			if err != nil || len(report.Damaged) > 0 || report.Commits != len(s.snapshots) {
				t.Errorf("Verify = %+v, %v; want %d commits", report, err, len(s.snapshots))
			}
		}
	}
}

func (m *model) readAll(t *testing.T, b box, source string, s *modelSource) {
	t.Helper()
	read := map[string]bool{}
	for _, seq := range slices.Sorted(maps.Keys(s.snapshots)) {
		for i, item := range s.snapshots[seq] {
			if read[string(item.content.SHA256)] {
				continue
			}
			read[string(item.content.SHA256)] = true
			var out bytes.Buffer
			if err := b.ReadContent(t.Context(), "org", source, item.content, &out); err != nil || !bytes.Equal(out.Bytes(), item.text) {
				t.Errorf("snapshot %d of %s, content %d: %d bytes, %v", seq, source, i, out.Len(), err)
			}
		}
	}
}

// settled checks that only what is needed is left: no pack that is condemned,
// no expired commit, and not more than twice the bytes.
func (m *model) settled(t *testing.T) {
	t.Helper()
	c := m.collect(t)
	if c.Condemned+c.Deleted+c.Moved+c.Commits != 0 {
		t.Errorf("%+v: there is always something to collect", c)
	}
	needed, kept := map[string]int64{}, 0
	for source, s := range m.sources {
		kept += len(s.snapshots)
		for _, items := range s.snapshots {
			for _, item := range items {
				needed[source+string(item.content.SHA256)] = int64(len(item.text))
			}
		}
	}
	if n := len(keys(t, m.storage, "t/org/c/")); n != kept {
		t.Errorf("%d commits are left, want %d", n, kept)
	}
	sum := int64(0)
	for _, n := range needed {
		sum += n
	}
	if c.Bytes > 2*sum+64<<10 {
		t.Errorf("%d bytes are left for %d that are needed", c.Bytes, sum)
	}
}
