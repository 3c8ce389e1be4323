package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup/repo"
)

// TestStorages holds every Storage to the same rules.
func TestStorages(t *testing.T) {
	storages := map[string]func(*testing.T) repo.Storage{
		"Memory": func(*testing.T) repo.Storage { return repo.NewMemory() },
		"Dir":    func(t *testing.T) repo.Storage { return openDir(t, t.TempDir()) },
	}
	rules := map[string]func(*testing.T, repo.Storage){
		"objects come back":            objectsComeBack,
		"parts are read":               partsAreRead,
		"objects appear when complete": objectsAppearWhenComplete,
		"objects are created once":     objectsAreCreatedOnce,
		"one of many wins":             oneOfManyWins,
		"listing":                      listing,
		"what is not there":            whatIsNotThere,
		"bad keys":                     badKeys,
		"deleting":                     deleting,
	}
	for name, make := range storages {
		for rule, check := range rules {
			t.Run(name+"/"+rule, func(t *testing.T) { check(t, make(t)) })
		}
	}
}

func openDir(t testing.TB, path string) *repo.Dir {
	t.Helper()
	d, err := repo.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func create(ctx context.Context, s repo.Storage, key, data string) error {
	u, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	defer u.Abort()
	if _, err := io.WriteString(u, data); err != nil {
		return err
	}
	return u.Commit(ctx)
}

func mustCreate(t *testing.T, s repo.Storage, key, data string) {
	t.Helper()
	if err := create(t.Context(), s, key, data); err != nil {
		t.Fatalf("create %s: %v", key, err)
	}
}

func objectsComeBack(t *testing.T, s repo.Storage) {
	for key, data := range map[string]string{"format.json": "{}", "t/a/c/b/000000000001": "commit", "empty": "", "t/a/d/0a/big": strings.Repeat("0123456789abcdef", 1<<16)} {
		mustCreate(t, s, key, data)
		if got := string(object(t, s, key)); got != data {
			t.Errorf("%s came back with %d bytes, want %d", key, len(got), len(data))
		}
		if n, err := s.Stat(t.Context(), key); err != nil || n != int64(len(data)) {
			t.Errorf("Stat(%s) = %d, %v; want %d", key, n, err, len(data))
		}
	}
}

func partsAreRead(t *testing.T, s repo.Storage) {
	mustCreate(t, s, "a", "0123456789")
	for _, c := range []struct {
		offset, length int64
		want           string
	}{{0, 3, "012"}, {4, 2, "45"}, {4, -1, "456789"}, {8, 5, "89"}, {10, 5, ""}, {30, -1, ""}, {3, 0, ""}} {
		r, err := s.Open(t.Context(), "a", c.offset, c.length)
		if err != nil {
			t.Errorf("Open at %d: %v", c.offset, err)
			continue
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(got) != c.want {
			t.Errorf("%d bytes at %d = %q, %v; want %q", c.length, c.offset, got, err, c.want)
		}
	}
}

func objectsAppearWhenComplete(t *testing.T, s repo.Storage) {
	u, err := s.Create(t.Context(), "t/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(u, "half"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "t/a"); !errors.Is(err, repo.ErrNotExist) {
		t.Errorf("Stat before Commit = %v, want ErrNotExist", err)
	}
	if list := keys(t, s, ""); len(list) != 0 {
		t.Errorf("objects before Commit = %q, want none", list)
	}
	u.Abort()
	if list := keys(t, s, ""); len(list) != 0 {
		t.Errorf("objects after Abort = %q, want none", list)
	}
	mustCreate(t, s, "t/a", "whole") // what was aborted is not in the way
}

func objectsAreCreatedOnce(t *testing.T, s repo.Storage) {
	mustCreate(t, s, "t/a", "first")
	if err := create(t.Context(), s, "t/a", "second"); !errors.Is(err, repo.ErrExist) {
		t.Errorf("creating it again = %v, want ErrExist", err)
	}
	if got := string(object(t, s, "t/a")); got != "first" {
		t.Errorf("the object is %q, want it as it was", got)
	}
}

func oneOfManyWins(t *testing.T, s repo.Storage) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := []string{}
	for i := range 20 {
		wg.Go(func() {
			data := fmt.Sprint("writer ", i)
			err := create(context.Background(), s, "t/a/c/1", data)
			if err != nil && !errors.Is(err, repo.ErrExist) {
				t.Errorf("create = %v, want nil or ErrExist", err)
			}
			if err == nil {
				mu.Lock()
				won = append(won, data)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(won) != 1 || string(object(t, s, "t/a/c/1")) != won[0] {
		t.Errorf("created by %q, want one writer and its data", won)
	}
}

func listing(t *testing.T, s repo.Storage) {
	all := []string{"format.json", "t/a/c/x/1", "t/a/c/x/2", "t/a/c/x/3", "t/a/d/00/p", "t/ab/c/x/1"}
	for _, key := range []string{all[3], all[5], all[0], all[4], all[1], all[2]} {
		mustCreate(t, s, key, key)
	}
	if got := keys(t, s, "t/a/c/x/"); !slices.Equal(got, all[1:4]) {
		t.Errorf("List = %q, want %q in order", got, all[1:4])
	}
	got := keys(t, s, "")
	slices.Sort(got)
	if !slices.Equal(got, all) {
		t.Errorf("List of all = %q, want %q", got, all)
	}
	if got := keys(t, s, "t/none/"); len(got) != 0 {
		t.Errorf("List of nothing = %q", got)
	}
	for e, err := range s.List(t.Context(), "t/a/") {
		if err != nil || e.Size != int64(len(e.Key)) {
			t.Errorf("List gives %+v, %v; want %d bytes", e, err, len(e.Key))
		}
		break // stopping early is allowed
	}
}

func whatIsNotThere(t *testing.T, s repo.Storage) {
	mustCreate(t, s, "t/a/b", "")
	for _, key := range []string{"none", "t/none", "t/a", "t"} {
		_, err := s.Stat(t.Context(), key)
		r, err2 := s.Open(t.Context(), key, 0, -1)
		if err2 == nil {
			r.Close()
		}
		for _, err := range []error{err, err2, s.Delete(t.Context(), key)} {
			if !errors.Is(err, repo.ErrNotExist) {
				t.Errorf("%s: %v, want ErrNotExist", key, err)
			}
		}
	}
}

func badKeys(t *testing.T, s repo.Storage) {
	for _, key := range []string{"", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", ".hidden", "t/.uploads", "a b", "a\\b", "a\x00", "ä"} {
		if err := create(t.Context(), s, key, "x"); err == nil {
			t.Errorf("creating %q worked", key)
		}
		if _, err := s.Stat(t.Context(), key); err == nil {
			t.Errorf("Stat(%q) worked", key)
		}
		if err := s.Delete(t.Context(), key); err == nil {
			t.Errorf("deleting %q worked", key)
		}
	}
}

func deleting(t *testing.T, s repo.Storage) {
	mustCreate(t, s, "t/a", "one")
	if err := s.Delete(t.Context(), "t/a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "t/a"); !errors.Is(err, repo.ErrNotExist) {
		t.Errorf("deleting it again = %v, want ErrNotExist", err)
	}
	mustCreate(t, s, "t/a", "two")
}

func TestCrashedUploadsAreDeletedLater(t *testing.T) {
	path := t.TempDir()
	openDir(t, path)
	for name, age := range map[string]time.Duration{"old": 2 * time.Hour, "new": time.Minute} {
		file := filepath.Join(path, ".uploads", name)
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	openDir(t, path)
	if _, err := os.Stat(filepath.Join(path, ".uploads", "old")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old upload: %v, want it deleted", err)
	}
	if _, err := os.Stat(filepath.Join(path, ".uploads", "new")); err != nil {
		t.Errorf("the new upload: %v, want it kept", err)
	}
}

func TestObjectsAreForTheOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "repository")
	mustCreate(t, openDir(t, path), "t/a/b", "x")
	err := filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
