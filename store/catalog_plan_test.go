package store

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// fillCatalog takes one commit with n items in two folders in.
func fillCatalog(t testing.TB, s *Store, org backup.OrgID, mailbox backup.MailboxID, n int) {
	t.Helper()
	d := engine.Delta{Seq: 1, At: time.Now(), NextNumber: int64(n) + 1, Totals: engine.Totals{Items: int64(n)}, FolderCursor: "c"}
	for i := range 2 {
		d.Folders = append(d.Folders, engine.FolderState{Folder: engine.Folder{ID: fmt.Sprintf("folder-%d", i), Name: "Folder", Items: int64((n + 1 - i) / 2)}, Node: repo.MetaID{byte(i + 1)}, Cursor: "c"})
	}
	for i := range n {
		item := engine.Item{Number: int64(i) + 1, Record: engine.Record{Number: int64(i) + 1, Meta: repo.MetaID{1, byte(i), byte(i >> 8)}, Bytes: 10, HasContent: true}}
		item.ItemState = engine.ItemState{ID: fmt.Sprintf("AAMkAGI2THVSAAA%0100d", i), FolderID: fmt.Sprintf("folder-%d", i%2), Version: "CQAAABYAAAD" + fmt.Sprint(i),
			Subject: fmt.Sprintf("Subject number %d of many", i), From: "Ada Lovelace <ada@example.org>", To: "bob@example.org", Received: time.UnixMilli(int64(i) * 60_000)}
		d.Items = append(d.Items, engine.ItemChange{Item: item, NewItem: true, NewRecord: true})
		id := repo.PieceID{byte(i), byte(i >> 8), byte(i >> 16), 9}
		d.Objects = append(d.Objects, repo.Object{ID: id, Location: repo.Location{Pack: repo.PackID{byte(i / 1000)}, Blob: uint32(i % 1000 / 10)}})
	}
	if err := s.ApplyCommit(t.Context(), org, mailbox, d); err != nil {
		t.Fatal(err)
	}
}

func openCatalog(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: filepath.Join(t.TempDir(), "holdfast.db"), RootKey: bytes.Repeat([]byte("k"), 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestCatalogQueriesUseIndexes reads SQLite's plans: nothing scans a table, and
// no page sorts what it does not show.
func TestCatalogQueriesUseIndexes(t *testing.T) {
	s := openCatalog(t)
	for _, mailbox := range []backup.MailboxID{"BOX", "BOX2", "BOX3"} {
		fillCatalog(t, s, "ORG", mailbox, 2000)
	}
	queries := map[string]struct {
		sql    string
		args   []any
		sorted bool // a sort is right: of what is shown, or of what a search found
	}{}
	for name, q := range map[string]ItemQuery{"folder": {FolderID: "x"}, "all": {}, "search in a folder": {FolderID: "x", Search: "ada"}, "search": {Search: "ada"}} {
		at := itemsAt{source: 1, seq: 1}
		if q.FolderID != "" {
			at.folder = 1
		}
		query, args := q.countSQL(at)
		queries["count, "+name] = struct {
			sql    string
			args   []any
			sorted bool
		}{query, args, false}
		query, args = q.pageSQL(at)
		queries["page, "+name] = struct {
			sql    string
			args   []any
			sorted bool
		}{query, args, true}
	}
	queries["known items"] = struct {
		sql    string
		args   []any
		sorted bool
	}{catalogItemQuery + "AND i.id_hash IN ($2, $3)", []any{1, 2, 3}, false}
	queries["pieces of packs"] = struct {
		sql    string
		args   []any
		sorted bool
	}{piecesSQL(2), []any{"ORG", []byte{1}, []byte{2}}, false}
	query, args := MailSearch{Words: "ada", From: time.UnixMilli(1), Gone: true}.sql("ORG", "BOX", 6)
	queries["search of a mailbox"] = struct {
		sql    string
		args   []any
		sorted bool
	}{query, args, false}
	for name, q := range queries {
		plan := explain(t, s, q.sql, q.args...)
		for _, line := range plan {
			if strings.HasPrefix(line, "SCAN") && line != "SCAN p" {
				t.Errorf("%s: %s\n%s", name, line, strings.Join(plan, "\n"))
			}
			if strings.Contains(line, "TEMP B-TREE") && !q.sorted {
				t.Errorf("%s: %s\n%s", name, line, strings.Join(plan, "\n"))
			}
		}
	}
	page := explain(t, s, queries["page, folder"].sql, queries["page, folder"].args...)
	if !strings.Contains(strings.Join(page, "\n"), "COVERING INDEX catalog_entries_folder") {
		t.Errorf("page of a folder = %q, want the covering index to find the page", page)
	}
}

func explain(t *testing.T, s *Store, query string, args ...any) []string {
	t.Helper()
	rows, err := s.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%v in %s", err, query)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan
}

// BenchmarkItems reads pages of a mailbox with 100,000 messages.
func BenchmarkItems(b *testing.B) {
	s := openCatalog(b)
	start := time.Now()
	fillCatalog(b, s, "ORG", "BOX", 100_000)
	b.Logf("one commit of 100,000 items: %v", time.Since(start))
	for name, q := range map[string]ItemQuery{
		"first page": {FolderID: "folder-0"}, "last page": {FolderID: "folder-0", Page: 1000}, "all folders": {Page: 10}, "search": {FolderID: "folder-0", Search: "number 99998"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if items, _, err := s.Items(b.Context(), "ORG", "BOX", 1, q); err != nil || len(items) == 0 {
					b.Fatal(len(items), err)
				}
			}
		})
	}
}

// BenchmarkFindItems searches a mailbox with 100,000 messages for what none has, and
// for what all have.
func BenchmarkFindItems(b *testing.B) {
	s := openCatalog(b)
	fillCatalog(b, s, "ORG", "BOX", 100_000)
	for words, want := range map[string]int{"subject nowhere": 0, "subject ada": 6} {
		b.Run(words, func(b *testing.B) {
			for b.Loop() {
				if items, err := s.FindItems(b.Context(), "ORG", "BOX", MailSearch{Words: words}, 6); err != nil || len(items) != want {
					b.Fatal(len(items), err)
				}
			}
		})
	}
}
