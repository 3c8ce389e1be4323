package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// FuzzDecode gives arbitrary bytes to every decoder of what comes from the
// repository: none may panic, and what decodes must encode again.
func FuzzDecode(f *testing.F) {
	item := Item{Number: 7, ItemState: ItemState{ID: "x", Read: true, Categories: []string{"a"}, Version: "v"}, Record: Record{Meta: repo.MetaID{1}},
		Properties: repo.MetaID{2}, Problem: backup.Problem{Kind: backup.ProblemItems, Text: "no", At: time.UnixMilli(5)}}
	raw := must(encoding.Marshal(entryOf(item)))
	for _, v := range []any{
		page{Entries: []cbor.RawMessage{raw}}, node{FolderID: "f", Pages: []pageRef{{First: 1, Count: 2, ID: repo.MetaID{3}}}},
		root{Folders: []repo.MetaID{{4}}, NextNumber: 9}, recordOf(1, 2, item.ItemState, &repo.Content{Size: 3, SHA256: make([]byte, 32)}),
	} {
		f.Add(must(encoding.Marshal(v)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := decodePage(data); err == nil {
			if _, err := p.entries(); err == nil {
				if _, err := encoding.Marshal(p); err != nil {
					t.Error(err)
				}
			}
		}
		for _, v := range []any{new(node), new(root), new(itemRecord)} {
			if decoding.Unmarshal(data, v) != nil {
				continue
			}
			if _, err := encoding.Marshal(v); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestEntriesAndRecordsKeepEverything(t *testing.T) {
	want := Item{Number: 7, ItemState: ItemState{ID: "id", Version: "v", FolderID: "f", Subject: "s", From: "a", To: "b", Received: time.UnixMilli(-11644473600000).UTC(), Sent: time.UnixMilli(5).UTC(),
		Size: 9, Read: true, Draft: true, Flagged: true, HasAttachments: true, Importance: "high", Categories: []string{"x", "y"}, InternetMessageID: "<m>"},
		Record: Record{Meta: repo.MetaID{1}}, Properties: repo.MetaID{2},
		Problem: backup.Problem{Kind: backup.ProblemItems, Text: "text", Code: "code", Status: 500, At: time.UnixMilli(77).UTC()}}
	got := Item{ItemState: ItemState{FolderID: "f"}}
	var e entry
	if err := decoding.Unmarshal(must(encoding.Marshal(entryOf(want))), &e); err != nil {
		t.Fatal(err)
	}
	var r itemRecord
	if err := decoding.Unmarshal(must(encoding.Marshal(recordOf(7, 7, want.ItemState, nil))), &r); err != nil {
		t.Fatal(err)
	}
	e.fill(&got)
	r.fill(&got.ItemState)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("item comes back as\n%+v, want\n%+v", got, want)
	}
}

func TestItemIDNamesNumberAndRecord(t *testing.T) {
	id := Record{Number: 1 << 40, Meta: repo.MetaID{1, 2, 3}}.ID()
	if n, ok := RecordNumber(id); !ok || n != 1<<40 || len(id) != 26 {
		t.Errorf("RecordNumber(%s) = %d, %v; want 1<<40", id, n, ok)
	}
	for _, bad := range []backup.ItemID{"", "short", backup.ItemID(strings.Repeat("7", 26)), backup.ItemID(strings.Repeat("=", 26)), (Record{Number: -1}).ID(), (Record{}).ID()} {
		if n, ok := RecordNumber(bad); ok {
			t.Errorf("RecordNumber(%q) = %d, want none", bad, n)
		}
	}
}

// memory keeps metadata in a map.
type memory map[repo.MetaID][]byte

func (m memory) read(_ context.Context, _ byte, id repo.MetaID) ([]byte, error) {
	if data, ok := m[id]; ok {
		return data, nil
	}
	return nil, fmt.Errorf("%s: %w", id, repo.ErrDamaged)
}

func (m memory) write(_ context.Context, kind byte, data []byte) (repo.MetaID, error) {
	id := repo.MetaID{kind}
	n := len(m) + 1
	for known, have := range m {
		if bytes.Equal(have, data) {
			return known, nil
		}
	}
	id[1], id[2], id[3] = byte(n), byte(n>>8), byte(n>>16)
	m[id] = data
	return id, nil
}

func TestPagesHoldWhatWasPutIntoThem(t *testing.T) {
	r, m, ctx := rand.New(rand.NewPCG(1, 2)), memory{}, t.Context()
	var pages []pageRef
	want := map[int64]string{}
	next := int64(1)
	for round := range 60 {
		var changes []entryChange
		touched := map[int64]bool{}
		put := func(n int64) {
			if touched[n] {
				return
			}
			touched[n] = true
			e := entry{Item: n, Version: fmt.Sprint(round)}
			changes = append(changes, entryChange{n, &e})
			want[n] = e.Version
		}
		for range r.IntN(700) {
			put(next)
			next++
		}
		for range r.IntN(30) {
			put(1 + r.Int64N(next)) // an item that moved in, or changed
			next = max(next, slices.Max(append(keys(want), 0))+1)
		}
		for _, n := range keys(want) {
			if r.IntN(3) == 0 && round%5 == 4 && !touched[n] {
				touched[n] = true
				changes = append(changes, entryChange{item: n})
				delete(want, n)
			}
		}
		old := pages
		var err error
		if pages, err = applyChanges(ctx, m, pages, changes); err != nil {
			t.Fatal(err)
		}
		checkPages(t, m, pages, want)
		checkDiff(t, m, old, pages, changes)
	}
	small := 0
	for _, p := range pages[:len(pages)-1] {
		if p.Count < pageSmall {
			small++
		}
	}
	if small > 0 {
		t.Errorf("%d of %d pages are small, want none but the last", small, len(pages))
	}
}

func keys(m map[int64]string) []int64 {
	var list []int64
	for n := range m {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

func checkPages(t *testing.T, m memory, pages []pageRef, want map[int64]string) {
	t.Helper()
	got := map[int64]string{}
	last := int64(0)
	for _, p := range pages {
		entries, err := readPage(t.Context(), m, p)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) > pageMax {
			t.Fatalf("page with %d entries, want at most %d", len(entries), pageMax)
		}
		for _, e := range entries {
			if e.Item <= last {
				t.Fatalf("item %d follows %d", e.Item, last)
			}
			last = e.Item
			got[e.Item] = e.Version
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("pages have %d entries, want %d, or other ones", len(got), len(want))
	}
}

func checkDiff(t *testing.T, m memory, old, pages []pageRef, changes []entryChange) {
	t.Helper()
	set, gone := map[int64]bool{}, map[int64]bool{}
	if err := diffPages(t.Context(), m, old, pages, func(e entry) error { set[e.Item] = true; return nil }, func(n int64) { gone[n] = true }); err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if c.entry != nil && !set[c.item] || c.entry == nil && !gone[c.item] {
			t.Fatalf("the difference lacks item %d", c.item)
		}
	}
	if len(set)+len(gone) != len(changes) {
		t.Fatalf("the difference has %d and %d items, want the %d that changed", len(set), len(gone), len(changes))
	}
}

func TestAddedItemsLeaveFullPagesAsTheyAre(t *testing.T) {
	m, ctx := memory{}, t.Context()
	var first []entryChange
	for n := range int64(2000) {
		first = append(first, entryChange{n + 1, &entry{Item: n + 1}})
	}
	pages, err := applyChanges(ctx, m, nil, first)
	if err != nil {
		t.Fatal(err)
	}
	next, err := applyChanges(ctx, m, pages, []entryChange{{5000, &entry{Item: 5000}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) != 4 || !slices.Equal(next[:3], pages[:3]) || next[3] == pages[3] {
		t.Errorf("pages after one more item = %v, want the first three of %v as they were", next, pages)
	}
}
