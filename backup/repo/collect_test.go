package repo_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
)

// leave writes packs that are never committed, as a killed run does.
func (b box) leave(t testing.TB, seed uint64) {
	t.Helper()
	w, err := b.NewWriter(t.Context(), "org", "box")
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

func (b box) collect(t testing.TB) repo.Collection {
	t.Helper()
	c, err := b.Collect(t.Context(), "org")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCollectDeletesOnlyAfterGraceAndOnlyWhatNoCommitNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, repo.NewMemory(), keyStore{"k"})
		kept := b.store(t, "org", "box", 1, noise(1, 300<<10))
		b.leave(t, 100)
		packs := len(keys(t, b.storage, "t/org/d/"))
		first := b.collect(t)
		if first.Condemned == 0 || first.Deleted != 0 {
			t.Fatalf("the first collection = %+v, want packs condemned and none deleted", first)
		}
		time.Sleep(repo.Grace - time.Second)
		if c := b.collect(t); c.Deleted != 0 || len(keys(t, b.storage, "t/org/g/")) != 1 {
			t.Errorf("before the grace is over: %+v", c)
		}
		time.Sleep(time.Second)
		if c := b.collect(t); c.Deleted != first.Condemned || c.Freed == 0 {
			t.Errorf("after the grace: %+v, want %d deleted", c, first.Condemned)
		}
		if n := len(keys(t, b.storage, "t/org/d/")); n != packs-first.Condemned {
			t.Errorf("%d packs of content are left, want %d", n, packs-first.Condemned)
		}
		b.intact(t, kept)
		if c := b.collect(t); c.Condemned+c.Deleted != 0 {
			t.Errorf("once more: %+v, want nothing to do", c)
		}
	})
}

// intact checks that everything comes back and nothing is damaged.
func (b box) intact(t testing.TB, contents []repo.Content) {
	t.Helper()
	again := open(t, b.storage, keyStore{"k"})
	again.load(t)
	for _, c := range contents {
		again.read(t, "org", "box", c)
	}
	report, err := again.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
	if err != nil || len(report.Damaged) > 0 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
}

func TestWriterThatSleptCommitsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, repo.NewMemory(), keyStore{"k"})
		w, err := b.NewWriter(t.Context(), "org", "box")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.PutContent(t.Context(), bytes.NewReader(noise(1, 600<<10))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(repo.Grace/2 + time.Second)
		if _, err := w.Commit(t.Context(), repo.Commit{Seq: 1, At: time.Now()}); !errors.Is(err, repo.ErrStale) {
			t.Errorf("Commit = %v, want ErrStale", err)
		}
	})
}

func TestNothingIsCollectedWhileACommitIsUnreadable(t *testing.T) {
	for name, harm := range harms {
		synctest.Test(t, func(t *testing.T) {
			b, _ := three(t)
			b.leave(t, 100)
			b.collect(t)
			time.Sleep(repo.Grace + time.Hour)
			before := len(keys(t, b.storage, "t/"))
			b.harm(t, nth(t, b.storage, "t/org/c/", 1), harm)
			if harm == nil {
				before--
			}
			if _, err := b.Collect(t.Context(), "org"); !errors.Is(err, repo.ErrDamaged) {
				t.Errorf("%s: Collect = %v, want ErrDamaged", name, err)
			}
			if n := len(keys(t, b.storage, "t/")); n != before {
				t.Errorf("%s: %d objects are left of %d", name, n, before)
			}
		})
	}
}

func TestDamagedDeletionLogStopsCollectionsAndNoBackups(t *testing.T) {
	for name, harm := range harms {
		if harm == nil {
			continue // the last entry gone: the log is one shorter, and time counts anew
		}
		b := open(t, repo.NewMemory(), keyStore{"k"})
		b.store(t, "org", "box", 1, noise(1, 300<<10))
		b.leave(t, 100)
		b.collect(t)
		b.harm(t, nth(t, b.storage, "t/org/g/", 0), harm)
		if _, err := b.Collect(t.Context(), "org"); !errors.Is(err, repo.ErrDamaged) {
			t.Errorf("%s: Collect = %v, want ErrDamaged", name, err)
		}
		if err := b.VerifyLog(t.Context(), "org"); !errors.Is(err, repo.ErrDamaged) {
			t.Errorf("%s: VerifyLog = %v, want ErrDamaged", name, err)
		}
		b.store(t, "org", "box", 2, noise(2, 300<<10))
	}
}

// mortal is a storage whose process dies after some more changes.
type mortal struct {
	repo.Storage
	left int
}

func (m *mortal) alive() error {
	if m.left--; m.left < 0 {
		return errDies
	}
	return nil
}

var errDies = errors.New("the process is dead")

func (m *mortal) Delete(ctx context.Context, key string) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Storage.Delete(ctx, key)
}

func (m *mortal) Create(ctx context.Context, key string) (repo.Upload, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	return m.Storage.Create(ctx, key)
}

// TestModel does random things in random order, with collectors and writers
// that die at any change, and checks after each that every commit is whole. A
// failure names its seed; HOLDFAST_TEST_SEED runs it again, HOLDFAST_TEST_STEPS
// makes it longer.
func TestModel(t *testing.T) {
	seed, steps := uint64(time.Now().UnixNano()), 60 //nolint:gosec // any bits do
	if s, err := strconv.ParseUint(os.Getenv("HOLDFAST_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_TEST_STEPS")); err == nil {
		steps = n
	}
	synctest.Test(t, func(t *testing.T) {
		m := model{box: open(t, repo.NewMemory(), keyStore{"k"}), random: rand.New(rand.NewPCG(seed, 0))}
		for i := range steps {
			m.step(t)
			if t.Failed() {
				t.Fatalf("at step %d: HOLDFAST_TEST_SEED=%d", i, seed)
			}
		}
		time.Sleep(2 * repo.Grace)
		m.collect(t)
		time.Sleep(2 * repo.Grace)
		m.collect(t)
		m.check(t)
		if c := m.collect(t); c.Condemned != 0 {
			t.Errorf("%d packs are never collected: HOLDFAST_TEST_SEED=%d", c.Condemned, seed)
		}
	})
}

// model is a repository and what it must hold.
type model struct {
	box
	random   *rand.Rand
	seq      int64
	contents []repo.Content
	text     [][]byte
	sleeper  *repo.Writer
	slept    []repo.Content
	sleeping [][]byte
}

func (m *model) step(t *testing.T) {
	t.Helper()
	switch m.random.IntN(7) {
	case 0, 1: // a run
		text := noise(m.random.Uint64N(30), 1+m.random.IntN(200<<10))
		m.seq++
		m.contents = append(m.contents, m.store(t, "org", "box", m.seq, text)...)
		m.text = append(m.text, text)
	case 2: // a run that is killed
		m.leave(t, m.random.Uint64N(1000))
	case 3: // a run that begins, and goes on later
		m.begin(t)
	case 4:
		m.goOn(t)
	case 5: // a collector that dies
		dying := open(t, &mortal{m.storage, m.random.IntN(4)}, keyStore{"k"})
		if _, err := dying.Collect(t.Context(), "org"); err != nil && !errors.Is(err, errDies) {
			t.Errorf("Collect: %v", err)
		}
	case 6:
		time.Sleep(time.Duration(m.random.Int64N(int64(repo.Grace))))
		m.collect(t)
	}
	m.check(t)
}

func (m *model) begin(t *testing.T) {
	if m.sleeper != nil {
		return
	}
	var err error
	if m.sleeper, err = m.NewWriter(t.Context(), "org", "box"); err != nil {
		t.Fatal(err)
	}
	m.slept, m.sleeping = nil, nil
	for range 3 {
		text := noise(m.random.Uint64N(30), 150<<10)
		c, err := m.sleeper.PutContent(t.Context(), bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		m.slept, m.sleeping = append(m.slept, c), append(m.sleeping, text)
	}
}

func (m *model) goOn(t *testing.T) {
	if m.sleeper == nil {
		return
	}
	done, err := m.sleeper.Commit(t.Context(), repo.Commit{Seq: m.seq + 1, At: time.Now()})
	m.sleeper = nil
	if errors.Is(err, repo.ErrStale) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.seq++
	m.index.Add("org", done.Objects)
	m.contents, m.text = append(m.contents, m.slept...), append(m.text, m.sleeping...)
}

// check reads everything that was ever committed.
func (m *model) check(t *testing.T) {
	t.Helper()
	for i, c := range m.contents {
		var b bytes.Buffer
		if err := m.ReadContent(t.Context(), "org", "box", c, &b); err != nil || !bytes.Equal(b.Bytes(), m.text[i]) {
			t.Errorf("content %d: %d bytes, %v", i, b.Len(), err)
		}
	}
	report, err := m.Verify(t.Context(), "org", "box", repo.VerifyStructure)
	if err != nil || len(report.Damaged) > 0 || int64(report.Commits) != m.seq {
		t.Errorf("Verify = %+v, %v; want %d commits", report, err, m.seq)
	}
}

func TestTwoCollectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, repo.NewMemory(), keyStore{"k"})
		kept := b.store(t, "org", "box", 1, noise(1, 300<<10))
		b.leave(t, 100)
		b.collect(t)
		time.Sleep(repo.Grace)
		errs := make(chan error, 8)
		for range cap(errs) {
			go func() {
				_, err := b.Collect(t.Context(), "org")
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil && !errors.Is(err, repo.ErrCollecting) {
				t.Errorf("Collect: %v", err)
			}
		}
		b.intact(t, kept)
		if c := b.collect(t); c.Condemned != 0 || c.Packs == 0 {
			t.Errorf("%+v is left", c)
		}
	})
}
