package repo_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"holdfast/backup/repo"
)

func TestFilesComeBackFromAnyPlace(t *testing.T) {
	for name, size := range map[string]int{"empty": 0, "small": 10, "a part": repo.FilePart, "more than two parts": 2*repo.FilePart + 12345} {
		t.Run(name, func(t *testing.T) {
			files := repo.Files{Storage: repo.NewMemory()}
			data := noise(1, size)
			w := files.Create(t.Context(), "exports/a/1")
			if _, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(data))); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil || w.Size() != int64(size) {
				t.Fatalf("Close: %v, %d bytes", err, w.Size())
			}
			f, err := files.Open(t.Context(), "exports/a/1")
			if err != nil || f.Size() != int64(size) {
				t.Fatalf("Open: %v", err)
			}
			got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("read %d bytes, %v; want the %d that were written", len(got), err, size)
			}
			for _, at := range []int{0, 5, size / 3, repo.FilePart - 3, size - 7} {
				if at < 0 || at >= size {
					continue
				}
				p := make([]byte, min(100, size-at))
				if n, err := f.ReadAt(p, int64(at)); n != len(p) || err != nil || !bytes.Equal(p, data[at:at+len(p)]) {
					t.Errorf("ReadAt(%d) = %d, %v", at, n, err)
				}
			}
			if n, err := f.ReadAt(make([]byte, 1), int64(size)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("ReadAt the end = %d, %v; want EOF", n, err)
			}
		})
	}
}

func TestAnUnfinishedFileIsNotThere(t *testing.T) {
	storage := repo.NewMemory()
	files := repo.Files{Storage: storage}
	w := files.Create(t.Context(), "portal/half")
	if _, err := w.Write(noise(1, repo.FilePart+1)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, err := files.Open(t.Context(), "portal/half"); !errors.Is(err, repo.ErrNotExist) {
		t.Errorf("Open = %v, want ErrNotExist", err)
	}
	whole := files.Create(t.Context(), "portal/whole")
	if _, err := io.WriteString(whole, "x"); err != nil {
		t.Fatal(err)
	}
	if err := whole.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err := files.Names(t.Context(), "portal/"); err != nil || !slices.Equal(names, []string{"portal/whole"}) {
		t.Errorf("Names = %v, %v", names, err)
	}
	if n, err := files.Delete(t.Context(), "portal/half/"); n != 1 || err != nil {
		t.Errorf("Delete = %d, %v; want the part that was left", n, err)
	}
	if n, err := files.Delete(t.Context(), "portal/"); n != 2 || err != nil {
		t.Errorf("Delete = %d, %v; want the part and its end", n, err)
	}
	if names, err := files.Names(t.Context(), "portal/"); err != nil || len(names) != 0 {
		t.Errorf("Names afterwards = %v, %v", names, err)
	}
}

func TestAShortPartIsFound(t *testing.T) {
	storage := repo.NewMemory()
	files := repo.Files{Storage: storage}
	w := files.Create(t.Context(), "exports/a/1")
	if _, err := w.Write(noise(1, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	storage.Set("exports/a/1/00000000", noise(1, 999))
	f, err := files.Open(t.Context(), "exports/a/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 10), 0); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("ReadAt = %v, want ErrDamaged", err)
	}
}
