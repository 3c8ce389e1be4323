package repo_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/repo"
)

// copied brings a copy up to the repository.
func (b box) copied(t testing.TB, to repo.Storage) repo.Pruned {
	t.Helper()
	sums, err := repo.ReadSums(t.Context(), b.storage, keyStore{"k"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Replicate(t.Context(), b.storage, to, sums, nil); err != nil {
		t.Fatal(err)
	}
	done, err := repo.PruneCopy(t.Context(), b.storage, to, keyStore{"k"})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// outlived is a repository of three mailboxes in which snapshots expired and one
// mailbox was erased, and which collections have freed of that; and a copy from
// before. Kept are the recipes of what is left of mailbox "box".
func outlived(t testing.TB) (b box, to *repo.Memory, kept []repo.Content) {
	t.Helper()
	b, to = open(t, repo.NewMemory(), keyStore{"k"}), repo.NewMemory()
	shared := []byte("X: 1\r\n\r\n" + lines(noise(9, 90<<10), 76, "\r\n"))
	b.store(t, "org", "box", 1, noise(1, 600<<10), shared)
	kept = b.store(t, "org", "box", 2, noise(2, 300<<10))
	kept = append(kept, b.store(t, "org", "box", 3, noise(3, 300<<10), shared)...)
	b.store(t, "org", "other", 1, noise(4, 300<<10))
	b.store(t, "org", "gone", 1, noise(5, 300<<10), shared)
	b.leave(t, 100)
	b.copied(t, to)
	if err := b.Expire(t.Context(), "org", "box", []repo.Span{{From: 1, To: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Erase(t.Context(), "org", "gone"); err != nil {
		t.Fatal(err)
	}
	b.collect(t)
	b.copied(t, to)
	for range 3 {
		time.Sleep(repo.Grace + time.Second)
		b.collect(t)
	}
	return b, to, kept
}

// TestPruneCopyFollowsTheLog frees in a copy what collections freed, and nothing
// before they did.
func TestPruneCopyFollowsTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, to, kept := outlived(t)
		if before, now := len(keys(t, to, "t/org/d/")), len(keys(t, b.storage, "t/org/d/")); before <= now {
			t.Fatalf("the copy has %d packs of content, the repository %d: nothing to free", before, now)
		}
		if done := b.copied(t, to); done.Deleted < 4 || done.Freed == 0 || len(done.Left) > 0 || done.Retained > 0 {
			t.Errorf("PruneCopy = %+v", done)
		}
		same(t, b.storage, to)
		again := open(t, to, keyStore{"k"})
		again.intact(t, kept)
		if done := b.copied(t, to); done.Deleted > 0 {
			t.Errorf("once more: %+v, want nothing to do", done)
		}
	})
}

// TestPruneCopyInterrupted ends it at every change of the copy: the next one ends it.
func TestPruneCopyInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, whole, kept := outlived(t)
		if _, err := repo.Replicate(t.Context(), b.storage, whole, nil, nil); err != nil {
			t.Fatal(err)
		}
		for at := 1; ; at++ {
			to := cloned(t, whole)
			dying := &undeleting{Storage: to, left: at, err: errors.New("killed")}
			_, err := repo.PruneCopy(t.Context(), b.storage, dying, keyStore{"k"})
			open(t, to, keyStore{"k"}).intact(t, kept)
			b.copied(t, to)
			same(t, b.storage, to)
			if err == nil {
				break
			}
		}
	})
}

// undeleting deletes as many objects as are left, and then returns an error.
type undeleting struct {
	repo.Storage
	left int
	err  error
}

func (u *undeleting) Delete(ctx context.Context, key string) error {
	if u.left--; u.left < 0 {
		return u.err
	}
	return u.Storage.Delete(ctx, key)
}

func TestPruneCopyLeavesWhatIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, to, _ := outlived(t)
		if _, err := repo.Replicate(t.Context(), b.storage, to, nil, nil); err != nil {
			t.Fatal(err)
		}
		before := keys(t, to, "t/org/")
		done, err := repo.PruneCopy(t.Context(), b.storage, &undeleting{Storage: to, err: repo.ErrRetained}, keyStore{"k"})
		if err != nil || done.Deleted > 0 || done.Retained == 0 {
			t.Errorf("PruneCopy = %+v, %v; want all of it retained", done, err)
		}
		if after := keys(t, to, "t/org/"); !slices.Equal(before, after) {
			t.Error("something locked is gone")
		}
	})
}

// TestACopyKeepsWhatTheRepositoryLost loses objects of the repository, one, or
// many, or all: what the copy deletes then is what it would have deleted anyhow.
func TestACopyKeepsWhatTheRepositoryLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, to, kept := outlived(t)
		pruned := cloned(t, to)
		b.copied(t, pruned)
		mayGo := map[string]bool{}
		for _, key := range keys(t, to, "") {
			mayGo[key] = !slices.Contains(keys(t, pruned, ""), key)
		}
		losses := map[string]func(key string) bool{
			"all":           func(string) bool { return true },
			"but its name":  func(key string) bool { return key != "format.json" },
			"packs":         func(key string) bool { return strings.Contains(key, "/d/") || strings.Contains(key, "/m/") },
			"commits":       func(key string) bool { return strings.Contains(key, "/c/") },
			"log":           func(key string) bool { return strings.Contains(key, "/g/") },
			"end of log":    func(key string) bool { return strings.Contains(key, "/g/") && !strings.HasSuffix(key, "1") },
			"a mailbox":     func(key string) bool { return strings.Contains(key, "/c/box/") },
			"commits, logs": func(key string) bool { return strings.Contains(key, "/c/") || strings.Contains(key, "/g/") },
		}
		for _, one := range keys(t, b.storage, "") {
			losses[one] = func(key string) bool { return key == one }
		}
		for name, lost := range losses {
			from, copied := cloned(t, b.storage), cloned(t, to)
			for _, key := range keys(t, from, "") {
				if lost(key) {
					if err := from.Delete(t.Context(), key); err != nil {
						t.Fatal(err)
					}
				}
			}
			sums, _ := repo.ReadSums(t.Context(), from, keyStore{"k"}) // which may not be able to
			_, _ = repo.Replicate(t.Context(), from, copied, sums, nil)
			if _, err := repo.PruneCopy(t.Context(), from, copied, keyStore{"k"}); err != nil {
				t.Errorf("%s lost: PruneCopy = %v", name, err)
			}
			for _, key := range keys(t, to, "") {
				if mayGo[key] {
					continue
				}
				if !slices.Contains(keys(t, copied, ""), key) || !bytes.Equal(object(t, copied, key), object(t, to, key)) {
					t.Errorf("%s lost: the copy has lost %s", name, key)
				}
			}
			open(t, copied, keyStore{"k"}).intact(t, kept)
			if t.Failed() {
				return
			}
		}
	})
}

// TestPruneCopyLeavesAloneWhatIsNotWhole takes something from the copy, or from
// its log, that it needs: nothing is deleted, and it says why.
func TestPruneCopyLeavesAloneWhatIsNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, to, _ := outlived(t)
		if _, err := repo.Replicate(t.Context(), b.storage, to, nil, nil); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys(t, b.storage, "t/org/") {
			copied := cloned(t, to)
			if err := copied.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			before := keys(t, copied, "")
			done, err := repo.PruneCopy(t.Context(), b.storage, copied, keyStore{"k"})
			of := keys(t, b.storage, key[:strings.LastIndexByte(key, '/')+1])
			newest := key == of[len(of)-1] && (strings.Contains(key, "/c/") || strings.Contains(key, "/g/")) // nothing in the copy tells that it was there
			if err != nil || !newest && (len(done.Left) != 1 || !slices.Equal(keys(t, copied, ""), before)) {
				t.Errorf("without %s: %+v, %v; want nothing deleted", key, done, err)
			}
		}
		done, err := repo.PruneCopy(t.Context(), b.storage, to, keyStore{"another"})
		if err != nil || len(done.Left) != 1 || done.Deleted > 0 {
			t.Errorf("with other keys: %+v, %v", done, err)
		}
	})
}

// cloned is a storage with the same objects.
func cloned(t testing.TB, s repo.Storage) *repo.Memory {
	t.Helper()
	m := repo.NewMemory()
	for _, key := range keys(t, s, "") {
		m.Set(key, object(t, s, key))
	}
	return m
}
