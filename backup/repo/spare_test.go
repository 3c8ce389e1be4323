package repo_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
)

// TestWhatANewerCommitUsesIsSpared lets a run find content of a snapshot that
// expires, and whose pack is condemned, before the run commits.
func TestWhatANewerCommitUsesIsSpared(t *testing.T) {
	for name, late := range map[string]time.Duration{"collected at once": 0, "collected when the expired commit can be deleted": repo.Grace + time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := open(t, repo.NewMemory(), keyStore{"k"})
			text := noise(1, 100<<10)
			b.store(t, "org", "box", 1, text)
			kept := b.store(t, "org", "box", 2, noise(2, 100<<10))
			if err := b.Expire(t.Context(), "org", "box", []repo.Span{{From: 1, To: 1}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(late)
			w, err := b.NewWriter(t.Context(), "org", "box")
			if err != nil {
				t.Fatal(err)
			}
			c, err := w.PutContent(t.Context(), bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if w.Written() != 0 {
				t.Fatalf("%s: %d bytes were written, want the content found", name, w.Written())
			}
			if done := b.collect(t); done.Condemned == 0 {
				t.Fatalf("%s: %+v, want the pack of the expired snapshot condemned", name, done)
			}
			b.commit(t, w, 3, c)
			for range 3 {
				time.Sleep(repo.Grace)
				b.collect(t)
				b.intact(t, append(kept, c))
			}
			if n := len(keys(t, b.storage, "t/org/c/")); n != 2 {
				t.Errorf("%s: %d commits are left, want those that are kept", name, n)
			}
		})
	}
}

func (b box) commit(t testing.TB, w *repo.Writer, seq int64, contents ...repo.Content) {
	t.Helper()
	root, err := w.PutMeta(t.Context(), 'r', fmt.Appendf(nil, "root %d", seq))
	if err != nil {
		t.Fatal(err)
	}
	done, err := w.Commit(t.Context(), repo.Commit{Seq: seq, At: time.Now(), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	b.index.Add("org", done.Objects)
	b.needs[root] = contents
}

// TestWritersUseNothingThatIsCondemned begins a run after the pack was condemned.
func TestWritersUseNothingThatIsCondemned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, repo.NewMemory(), keyStore{"k"})
		text := noise(1, 100<<10)
		b.store(t, "org", "box", 1, text)
		b.store(t, "org", "box", 2, noise(2, 100<<10))
		if err := b.Expire(t.Context(), "org", "box", []repo.Span{{From: 1, To: 1}}); err != nil {
			t.Fatal(err)
		}
		b.collect(t)
		w, err := b.NewWriter(t.Context(), "org", "box")
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if _, err := w.PutContent(t.Context(), bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		if w.Written() < int64(len(text)) {
			t.Errorf("%d bytes were written, want the content anew", w.Written())
		}
	})
}

// TestCollectorKilledAtEveryChange lets a collection die at each of its changes
// of the storage: everything that is kept stays whole, and the next one ends it.
func TestCollectorKilledAtEveryChange(t *testing.T) {
	for at, died := 0, true; died; at++ {
		synctest.Test(t, func(t *testing.T) {
			b := open(t, repo.NewMemory(), keyStore{"k"})
			b.store(t, "org", "box", 1, noise(1, 100<<10), noise(2, 100<<10))
			b.store(t, "org", "box", 2, noise(3, 500<<10), noise(4, 20<<10))
			b.store(t, "org", "box", 3, noise(5, 100<<10), noise(4, 20<<10)) // of which 2 has a part
			kept := b.store(t, "org", "box", 4, noise(4, 20<<10), noise(6, 30<<10))
			b.leave(t, 100)
			if err := b.Expire(t.Context(), "org", "box", []repo.Span{{From: 1, To: 3}}); err != nil {
				t.Fatal(err)
			}
			b.collect(t)
			b.leave(t, 200)
			time.Sleep(repo.Grace)
			dying := open(t, &mortal{b.storage, at}, keyStore{"k"})
			dying.index, dying.needs = b.index, b.needs
			_, err := dying.Collect(t.Context(), "org", owner{dying})
			if died = errors.Is(err, errDies); err != nil && !died {
				t.Fatalf("at %d: %v", at, err)
			}
			b.intact(t, kept)
			for range 3 {
				time.Sleep(repo.Grace)
				b.collect(t)
				b.intact(t, kept)
			}
			if c := b.collect(t); c.Condemned+c.Deleted+c.Moved+c.Commits != 0 || len(keys(t, b.storage, "t/org/c/")) != 1 {
				t.Errorf("at %d: %+v is left", at, c)
			}
		})
	}
}
