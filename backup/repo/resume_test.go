package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup/repo"
)

// counting is an index that counts what it is asked.
type counting struct {
	*repo.MemoryIndex
	lookups, lists atomic.Int64
}

func (c *counting) Locate(ctx context.Context, tenant string, ids []repo.PieceID) (map[repo.PieceID]repo.Location, error) {
	c.lookups.Add(int64(len(ids)))
	return c.MemoryIndex.Locate(ctx, tenant, ids)
}

func (c *counting) EachPiece(ctx context.Context, tenant string, packs []repo.PackID, f func(repo.PieceID)) error {
	c.lists.Add(1)
	return c.MemoryIndex.EachPiece(ctx, tenant, packs, f)
}

// another opens the repository of b as another process does.
func (b box) another(t testing.TB, keys repo.KeyStore) (*repo.Repository, *counting) {
	t.Helper()
	index := &counting{MemoryIndex: b.index}
	r, err := repo.Open(t.Context(), b.storage, keys, index, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r, index
}

// letters puts the letters from..to and returns how many pieces the commit brought.
func (b box) letters(t testing.TB, w *repo.Writer, c repo.Commit, from, to int) int {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(4)
	for i := from; i < to; i++ {
		g.Go(func() error {
			_, err := w.PutContent(t.Context(), bytes.NewReader(fmt.Appendf(nil, "Subject: letter %d\r\n\r\ntext", i)))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	done, err := w.Commit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	b.index.Add("org", done.Objects)
	return len(done.Objects)
}

func writer(t testing.TB, r *repo.Repository, source string) *repo.Writer {
	t.Helper()
	w, err := r.NewWriter(t.Context(), "org", source)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func next(t testing.TB, w *repo.Writer) *repo.Writer {
	t.Helper()
	w, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func checkpoint(seq int64) repo.Commit {
	return repo.Commit{Seq: seq, At: time.Now(), Partial: true}
}

// TestAResumedFirstBackupSoonLooksNothingUp goes on with a first backup in another
// process, under other keys and after a checkpoint expired, and meets messages of
// before the interruption again.
func TestAResumedFirstBackupSoonLooksNothingUp(t *testing.T) {
	keys := &epochKeys{}
	b := open(t, repo.NewMemory(), keys)
	w := writer(t, b.Repository, "box")
	b.letters(t, w, checkpoint(1), 0, 300)
	w = next(t, w)
	b.letters(t, w, checkpoint(2), 300, 600)
	if err := b.Expire(t.Context(), "org", "box", []repo.Span{{From: 1, To: 1}}); err != nil {
		t.Fatal(err)
	}
	keys.to = 1

	r, index := b.another(t, keys)
	w = writer(t, r, "box")
	if n := b.letters(t, w, checkpoint(3), 600, 2600); n != 2000 {
		t.Errorf("2000 letters brought %d pieces", n)
	}
	if index.lists.Load() != 1 || index.lookups.Load() > 600 {
		t.Errorf("%d pieces were looked up for 2000 new letters, %d times all were listed; want some 500 and one", index.lookups.Load(), index.lists.Load())
	}
	index.lookups.Store(0)
	w = next(t, w)
	if n := b.letters(t, w, checkpoint(4), 0, 3000); n != 400 {
		t.Errorf("3000 letters of which 2600 were there brought %d pieces", n)
	}
	if n := index.lookups.Load(); n < 2600 || n > 2650 || index.lists.Load() != 1 {
		t.Errorf("%d pieces were looked up, want those that were there", n)
	}
	if n := b.letters(t, writer(t, r, "other"), checkpoint(1), 0, 100); n != 100 {
		t.Errorf("another mailbox brought %d pieces of 100", n)
	}
}

// TestPiecesOfAFinishedBackupAreLookedUp adds many messages to a mailbox that was
// backed up: to read all that it has may take longer.
func TestPiecesOfAFinishedBackupAreLookedUp(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	r, index := b.another(t, keyStore{"k"})
	w := writer(t, r, "box")
	b.letters(t, w, checkpoint(1), 0, 10)
	b.letters(t, next(t, w), repo.Commit{Seq: 2, At: time.Now()}, 10, 20)
	if n := index.lookups.Load(); n != 0 {
		t.Errorf("a first backup looked up %d pieces", n)
	}
	w = writer(t, r, "box")
	if n := b.letters(t, w, checkpoint(3), 10, 1500); n != 1480 {
		t.Errorf("1480 new letters brought %d pieces", n)
	}
	if index.lookups.Load() != 1490 || index.lists.Load() != 0 {
		t.Errorf("%d of 1490 pieces were looked up, all of the mailbox listed %d times", index.lookups.Load(), index.lists.Load())
	}
}

// TestPiecesThatCantBeListedAreLookedUp goes on with a first backup whose
// checkpoint is damaged, or whose index lists nothing.
func TestPiecesThatCantBeListedAreLookedUp(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	b.letters(t, writer(t, b.Repository, "box"), checkpoint(1), 0, 100)
	b.harm(t, nth(t, b.storage, "t/org/c/", 0), func(data []byte) []byte { return data[:len(data)/2] })
	r, index := b.another(t, keyStore{"k"})
	w := writer(t, r, "box")
	if n := b.letters(t, w, checkpoint(2), 0, 1000); n != 900 || index.lists.Load() != 0 {
		t.Errorf("900 new letters brought %d pieces; pieces were listed %d times", n, index.lists.Load())
	}
}

// TestLearningMissesNoPieceOfOthers claims the same pieces from many goroutines
// while the pieces of the mailbox are read.
func TestLearningMissesNoPieceOfOthers(t *testing.T) {
	b := open(t, repo.NewMemory(), keyStore{"k"})
	b.letters(t, writer(t, b.Repository, "box"), checkpoint(1), 0, 100)
	r, _ := b.another(t, keyStore{"k"})
	w := writer(t, r, "box")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				if _, err := w.PutContent(t.Context(), bytes.NewReader(fmt.Appendf(nil, "Subject: letter %d\r\n\r\ntext", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.letters(t, w, checkpoint(2), 0, 1000); n != 900 {
		t.Errorf("900 new letters, each stored five times, brought %d pieces", n)
	}
}
