package repo_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
)

// stale is a storage whose listings lag behind: what was created since the last
// settle is not in them, though it can be read.
type stale struct {
	repo.Storage
	mu     sync.Mutex
	hidden map[string]bool
}

func (s *stale) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden = map[string]bool{}
}

func (s *stale) Create(ctx context.Context, key string) (repo.Upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hidden[key] = true
	return s.Storage.Create(ctx, key)
}

func (s *stale) List(ctx context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	return func(yield func(repo.Entry, error) bool) {
		for e, err := range s.Storage.List(ctx, prefix) {
			s.mu.Lock()
			skip := s.hidden[e.Key]
			s.mu.Unlock()
			if !skip && !yield(e, err) {
				return
			}
		}
	}
}

// TestStaleListings lets collections work with listings that lag behind by a
// commit, by packs or by the deletion log's last entries: nothing that is kept is
// lost, and nothing is kept for ever.
func TestStaleListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stale{Storage: repo.NewMemory(), hidden: map[string]bool{}}
		b := open(t, s, keyStore{"k"})
		truth := open(t, s.Storage, keyStore{"k"})
		var kept []repo.Content
		for seq := range int64(6) {
			kept = append(kept, b.store(t, "org", "box", seq+1, noise(uint64(seq), 200<<10), noise(uint64(seq%2+50), 60<<10))...) //nolint:gosec // small
			b.leave(t, 100*uint64(seq+1))                                                                                         //nolint:gosec // small
			if _, err := b.Collect(t.Context(), "org", owner{b}); err != nil {
				t.Logf("collection %d with a stale listing: %v", seq, err) // it may refuse
			}
			if seq%2 == 1 {
				s.settle()
			}
			time.Sleep(repo.Grace / 2)
			truth.intact(t, kept)
		}
		s.settle()
		for range 4 {
			time.Sleep(repo.Grace)
			b.collect(t)
			s.settle()
			truth.intact(t, kept)
		}
		if c := b.collect(t); c.Condemned+c.Deleted+c.Moved != 0 {
			t.Errorf("%+v: there is always something to collect", c)
		}
		report, err := truth.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
		if err != nil || len(report.Damaged) > 0 || report.Commits != 6 {
			t.Errorf("Verify = %+v, %v; want 6 commits, none damaged", report, err)
		}
	})
}

// TestClockJumps lets the clock go forwards by a year and back by ten days while
// something is condemned: what is kept stays, writers and collectors go on, and
// what is not needed goes in the end.
func TestClockJumps(t *testing.T) {
	storage := repo.NewMemory()
	var kept []repo.Content
	var needs map[repo.MetaID][]repo.Content
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * 24 * time.Hour)
		b := open(t, storage, keyStore{"k"})
		kept = append(kept, b.store(t, "org", "box", 1, noise(1, 300<<10))...)
		b.leave(t, 100)
		if c := b.collect(t); c.Condemned == 0 {
			t.Errorf("%+v: nothing is condemned", c)
		}
		needs = b.needs
	})
	synctest.Test(t, func(t *testing.T) { // begins ten days earlier
		b := open(t, storage, keyStore{"k"})
		b.load(t)
		b.needs = needs
		kept = append(kept, b.store(t, "org", "box", 2, noise(2, 300<<10))...)
		if c := b.collect(t); c.Deleted != 0 {
			t.Errorf("%+v: deleted what was condemned in the future", c)
		}
		b.intact(t, kept)
		time.Sleep(366 * 24 * time.Hour)
		kept = append(kept, b.store(t, "org", "box", 3, noise(3, 300<<10))...)
		for range 3 {
			b.collect(t)
			b.intact(t, kept)
			time.Sleep(repo.Grace)
		}
		if c := b.collect(t); c.Condemned+c.Deleted+c.Moved != 0 || len(keys(t, storage, "t/org/c/")) != 3 {
			t.Errorf("%+v is left", c)
		}
		report, err := b.Verify(t.Context(), "org", "box", repo.VerifyBlobs)
		if err != nil || len(report.Damaged) > 0 {
			t.Errorf("Verify = %+v, %v", report, err)
		}
	})
}
