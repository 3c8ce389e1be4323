package repo_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
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

// collect collects, and compares what was done with what was planned.
func (b box) collect(t testing.TB) repo.Collection {
	t.Helper()
	before := keys(t, b.storage, "")
	plan, err := b.PlanCollection(t.Context(), "org", owner{b})
	if err != nil {
		t.Fatal(err)
	}
	if after := keys(t, b.storage, ""); !slices.Equal(after, before) {
		t.Errorf("planning a collection left %d objects of %d", len(after), len(before))
	}
	c, err := b.Collect(t.Context(), "org", owner{b})
	if err != nil {
		t.Fatal(err)
	}
	did := c
	plan.Written, did.Written = 0, 0 // before and after compression
	if plan != did {
		t.Errorf("planned were %+v, done was %+v", plan, did)
	}
	return c
}

// owner says what commits need that box.store and others made.
type owner struct{ box }

func (o owner) Follow(context.Context, []repo.Expired) error { return nil }

func (o owner) Live(_ context.Context, _ string, roots []repo.MetaID, live func(repo.PieceID)) error {
	for _, root := range roots {
		live(repo.PieceID(root))
		for _, c := range o.needs[root] {
			c.Pieces(live)
		}
	}
	return nil
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
			if _, err := b.Collect(t.Context(), "org", owner{b}); !errors.Is(err, repo.ErrDamaged) {
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
		if _, err := b.Collect(t.Context(), "org", owner{b}); !errors.Is(err, repo.ErrDamaged) {
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
				_, err := b.Collect(t.Context(), "org", owner{b})
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

// TestWhatALostCommitBroughtIsKept has the storage lose a commit that newer ones
// build on. While it is missing nothing is collected; once it expired, what the
// newer ones need of its packs is written anew, and found by a rebuild.
func TestWhatALostCommitBroughtIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, repo.NewMemory(), keyStore{"k"})
		text, attachment := noise(2, 100<<10), []byte(lines(noise(3, 90<<10), 76, "\n"))
		b.store(t, "org", "box", 1, noise(1, 100<<10))
		b.store(t, "org", "box", 2, text, attachment, noise(4, 100<<10))
		kept := b.store(t, "org", "box", 3, text, attachment)
		b.harm(t, "t/org/c/box/000000000002", nil)
		if _, err := b.Collect(t.Context(), "org", owner{b}); !errors.Is(err, repo.ErrDamaged) {
			t.Errorf("Collect while it is missing = %v, want ErrDamaged", err)
		}
		if err := b.Expire(t.Context(), "org", "box", []repo.Span{{From: 1, To: 2}}); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			b.collect(t)
			time.Sleep(2 * repo.Grace)
		}
		b.intact(t, kept)
		if c := b.collect(t); c.Condemned+c.Moved != 0 || c.Bytes > 400<<10 {
			t.Errorf("%+v is left", c)
		}
	})
}
