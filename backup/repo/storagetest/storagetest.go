// Package storagetest holds every repo.Storage to the same rules.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/backup/repo"
)

// Run checks every rule on a new, empty storage.
func Run(t *testing.T, open func(*testing.T) repo.Storage) {
	t.Helper()
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) { rule.check(t, open(t)) })
	}
}

var rules = []struct {
	name  string
	check func(*testing.T, repo.Storage)
}{
	{"objects come back", objectsComeBack},
	{"parts are read", partsAreRead},
	{"objects appear when complete", objectsAppearWhenComplete},
	{"objects are created once", objectsAreCreatedOnce},
	{"one of many wins", oneOfManyWins},
	{"listing", listing},
	{"long listings", longListings},
	{"what is not there", whatIsNotThere},
	{"bad keys", badKeys},
	{"deleting", deleting},
	{"written piece by piece", pieceByPiece},
	{"ended contexts", endedContexts},
}

// Object reads an object.
func Object(t testing.TB, s repo.Storage, key string) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Keys lists the keys below prefix.
func Keys(t testing.TB, s repo.Storage, prefix string) []string {
	t.Helper()
	var list []string
	for e, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Key)
	}
	return list
}

// Create writes an object in one go.
func Create(ctx context.Context, s repo.Storage, key, data string) error {
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

// MustCreate is Create without an error.
func MustCreate(t testing.TB, s repo.Storage, key, data string) {
	t.Helper()
	if err := Create(t.Context(), s, key, data); err != nil {
		t.Fatalf("create %s: %v", key, err)
	}
}

func objectsComeBack(t *testing.T, s repo.Storage) {
	for key, data := range map[string]string{"format.json": "{}", "t/a/c/b/000000000001": "commit", "empty": "", "t/a/d/0a/big": strings.Repeat("0123456789abcdef", 1<<16)} {
		MustCreate(t, s, key, data)
		if got := string(Object(t, s, key)); got != data {
			t.Errorf("%s came back with %d bytes, want %d", key, len(got), len(data))
		}
		if n, err := s.Stat(t.Context(), key); err != nil || n != int64(len(data)) {
			t.Errorf("Stat(%s) = %d, %v; want %d", key, n, err, len(data))
		}
	}
}

func partsAreRead(t *testing.T, s repo.Storage) {
	MustCreate(t, s, "a", "0123456789")
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
	if list := Keys(t, s, ""); len(list) != 0 {
		t.Errorf("objects before Commit = %q, want none", list)
	}
	u.Abort()
	if list := Keys(t, s, ""); len(list) != 0 {
		t.Errorf("objects after Abort = %q, want none", list)
	}
	MustCreate(t, s, "t/a", "whole") // what was aborted is not in the way
}

func objectsAreCreatedOnce(t *testing.T, s repo.Storage) {
	MustCreate(t, s, "t/a", "first")
	if err := Create(t.Context(), s, "t/a", "second"); !errors.Is(err, repo.ErrExist) {
		t.Errorf("creating it again = %v, want ErrExist", err)
	}
	if got := string(Object(t, s, "t/a")); got != "first" {
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
			err := Create(context.Background(), s, "t/a/c/1", data)
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
	if len(won) != 1 || string(Object(t, s, "t/a/c/1")) != won[0] {
		t.Errorf("created by %q, want one writer and its data", won)
	}
}

func listing(t *testing.T, s repo.Storage) {
	all := []string{"format.json", "t/a/c/x/1", "t/a/c/x/2", "t/a/c/x/3", "t/a/d/00/p", "t/ab/c/x/1"}
	for _, key := range []string{all[3], all[5], all[0], all[4], all[1], all[2]} {
		MustCreate(t, s, key, key)
	}
	if got := Keys(t, s, "t/a/c/x/"); !slices.Equal(got, all[1:4]) {
		t.Errorf("List = %q, want %q in order", got, all[1:4])
	}
	got := Keys(t, s, "")
	slices.Sort(got)
	if !slices.Equal(got, all) {
		t.Errorf("List of all = %q, want %q", got, all)
	}
	if got := Keys(t, s, "t/none/"); len(got) != 0 {
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
	MustCreate(t, s, "t/a/b", "")
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
		if err := Create(t.Context(), s, key, "x"); err == nil {
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
	MustCreate(t, s, "t/a", "one")
	if err := s.Delete(t.Context(), "t/a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "t/a"); !errors.Is(err, repo.ErrNotExist) {
		t.Errorf("deleting it again = %v, want ErrNotExist", err)
	}
	MustCreate(t, s, "t/a", "two")
}

func longListings(t *testing.T, s repo.Storage) {
	const n = 1100 // servers answer a thousand at a time
	var wg sync.WaitGroup
	limit := make(chan struct{}, 16)
	for i := range n {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			if err := Create(t.Context(), s, fmt.Sprintf("t/a/c/x/%012d", i), ""); err != nil {
				t.Errorf("create: %v", err)
			}
		})
	}
	wg.Wait()
	list := Keys(t, s, "t/a/c/x/")
	if len(list) != n || !slices.IsSorted(list) {
		t.Errorf("List gives %d objects, sorted %v; want %d in order", len(list), slices.IsSorted(list), n)
	}
}

func pieceByPiece(t *testing.T, s repo.Storage) {
	u, err := s.Create(t.Context(), "t/a/d/00/pieces")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Abort()
	var want []byte
	for i := range 40 { // over what implementations keep in memory
		piece := bytes.Repeat([]byte{byte(i)}, 7001)
		want = append(want, piece...)
		if n, err := u.Write(piece); err != nil || n != len(piece) {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if err := u.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.Abort() // after Commit it does nothing
	if got := Object(t, s, "t/a/d/00/pieces"); !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back changed, want %d", len(got), len(want))
	}
	r, err := s.Open(t.Context(), "t/a/d/00/pieces", 7000, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want[7000:7002]) {
		t.Errorf("two bytes between pieces = %v, %v; want %v", got, err, want[7000:7002])
	}
}

// endedContexts lets a storage do its work or refuse it, but nothing between.
func endedContexts(t *testing.T, s repo.Storage) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Create(ctx, s, "t/a", "data")
	there := slices.Contains(Keys(t, s, ""), "t/a")
	if err == nil != there {
		t.Errorf("create = %v, and the object is there: %v", err, there)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("create = %v, want Canceled", err)
	}
}
