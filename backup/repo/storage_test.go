package repo_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/backup/repo"
	"holdfast/backup/repo/storagetest"
)

func TestMemory(t *testing.T) {
	storagetest.Run(t, func(*testing.T) repo.Storage { return repo.NewMemory() })
}

func TestDir(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) repo.Storage { return openDir(t, t.TempDir()) })
}

// TestFaulty holds the storage that fails on demand to the rules while nothing
// is demanded: what its tests find is then the repository's.
func TestFaulty(t *testing.T) {
	storagetest.Run(t, func(*testing.T) repo.Storage { return &faulty{Storage: repo.NewMemory()} })
}

// TestLying does the same with the storage that lies, which tells the truth as long
// as it does not crash.
func TestLying(t *testing.T) {
	storagetest.Run(t, func(*testing.T) repo.Storage { return storagetest.NewLying(nil) })
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
	storagetest.MustCreate(t, openDir(t, path), "t/a/b", "x")
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
