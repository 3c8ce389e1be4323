package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

const (
	catalogOrg = backup.OrgID("ORG")
	catalogBox = backup.MailboxID("BOX")
)

// mailOf is an item for a Delta.
func mailOf(number int64, folder, subject, from string, received time.Time) engine.ItemChange {
	i := engine.Item{Number: number, Record: engine.Record{Number: number, Meta: repo.MetaID{byte(number), byte(number >> 8), 1}, Bytes: 100, HasContent: true}}
	i.ItemState = engine.ItemState{ID: fmt.Sprintf("provider-%d", number), FolderID: folder, Subject: subject, From: from, To: "bob@example.org", Received: received, Version: "1"}
	return engine.ItemChange{Item: i, NewItem: true, NewRecord: true}
}

func folderOf(id, name string, items int64) engine.FolderState {
	return engine.FolderState{Folder: engine.Folder{ID: id, Name: name, Items: items}, Node: repo.MetaID{1}, Cursor: "cursor of " + id}
}

func apply(t *testing.T, st *store.Store, d engine.Delta) {
	t.Helper()
	if err := st.ApplyCommit(t.Context(), catalogOrg, catalogBox, d); err != nil {
		t.Fatal(err)
	}
}

func subjects(t *testing.T, st *store.Store, seq int64, q store.ItemQuery) ([]string, int64) {
	t.Helper()
	items, total, err := st.Items(t.Context(), catalogOrg, catalogBox, seq, q)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, i := range items {
		list = append(list, i.Subject)
	}
	return list, total
}

func TestItemsPageAndSearch(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		d := engine.Delta{Seq: 1, At: at, NextNumber: 10, Totals: engine.Totals{Items: 5}, Folders: []engine.FolderState{folderOf("in", "Inbox", 4), folderOf("out", "Sent", 1)}}
		for i, subject := range []string{"First", "100 % sure_thing", `back\slash`, "GRÜSSE aus Köln", "Sent \x00 one"} {
			folder := "in"
			if i == 4 {
				folder = "out"
			}
			d.Items = append(d.Items, mailOf(int64(i)+1, folder, subject, "Zoë <zoe@example.org>", at.Add(time.Duration(i)*time.Hour)))
		}
		apply(t, st, d)
		for _, c := range []struct {
			query store.ItemQuery
			want  []string
			total int64
		}{
			{store.ItemQuery{FolderID: "in"}, []string{"GRÜSSE aus Köln", `back\slash`, "100 % sure_thing", "First"}, 4},
			{store.ItemQuery{FolderID: "in", Page: 2, PageSize: 3}, []string{"First"}, 4},
			{store.ItemQuery{FolderID: "in", Page: 3, PageSize: 3}, nil, 4},
			{store.ItemQuery{FolderID: "gone"}, nil, 0},
			{store.ItemQuery{PageSize: 2}, []string{"Sent \uFFFD one", "GRÜSSE aus Köln"}, 5},
			{store.ItemQuery{Search: "fIrSt"}, []string{"First"}, 1},
			{store.ItemQuery{Search: "grüsse"}, []string{"GRÜSSE aus Köln"}, 1},
			{store.ItemQuery{Search: "ZOË"}, []string{"Sent \uFFFD one", "GRÜSSE aus Köln", `back\slash`, "100 % sure_thing", "First"}, 5},
			{store.ItemQuery{Search: "%"}, []string{"100 % sure_thing"}, 1},
			{store.ItemQuery{Search: "e_t"}, []string{"100 % sure_thing"}, 1},
			{store.ItemQuery{Search: `\`}, []string{`back\slash`}, 1},
			{store.ItemQuery{Search: "sent", FolderID: "in"}, nil, 0},
			{store.ItemQuery{Search: "\x00\xff"}, nil, 0},
		} {
			got, total := subjects(t, st, 1, c.query)
			if !slices.Equal(got, c.want) || total != c.total {
				t.Errorf("Items(%+v) = %q of %d, want %q of %d", c.query, got, total, c.want, c.total)
			}
		}
	})
}

func TestSnapshotsAreWholeTrees(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, at := t.Context(), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		child := folderOf("child", "Child", 0)
		child.ParentID = "in"
		apply(t, st, engine.Delta{Seq: 1, At: at, NextNumber: 3, Totals: engine.Totals{Items: 2}, Folders: []engine.FolderState{folderOf("in", "Inbox", 2), child},
			Items: []engine.ItemChange{mailOf(1, "in", "stays", "a", at), mailOf(2, "in", "goes", "a", at)}})
		moved := mailOf(1, "child", "stays", "a", at)
		moved.NewItem, moved.NewRecord, moved.Read = false, false, true
		renamed := child
		renamed.Name, renamed.Items = "Renamed", 1
		apply(t, st, engine.Delta{Seq: 2, At: at.Add(time.Hour), Partial: true, NextNumber: 3, Totals: engine.Totals{Items: 1},
			Folders: []engine.FolderState{renamed}, RemovedFolders: []string{"in"}, Items: []engine.ItemChange{moved}, Removed: []int64{2}})

		for seq, want := range map[int64][]backup.Folder{
			1: {{ID: "in", Name: "Inbox", Items: 2}, {ID: "child", ParentID: "in", Name: "Child"}},
			2: {{ID: "child", Name: "Renamed", Items: 1}}, // its parent is gone
		} {
			if got, err := st.Folders(ctx, catalogOrg, catalogBox, seq); err != nil || !slices.Equal(got, want) {
				t.Errorf("Folders of %d = %+v, %v; want %+v", seq, got, err, want)
			}
		}
		if got, _ := subjects(t, st, 1, store.ItemQuery{FolderID: "in"}); !slices.Equal(got, []string{"goes", "stays"}) {
			t.Errorf("first snapshot has %q in the inbox, want both", got)
		}
		if got, _ := subjects(t, st, 2, store.ItemQuery{}); !slices.Equal(got, []string{"stays"}) {
			t.Errorf("second snapshot has %q, want what stays", got)
		}
		list, err := st.Snapshots(ctx, catalogOrg, catalogBox)
		if err != nil || len(list) != 2 || list[0] != (backup.Snapshot{Seq: 2, At: at.Add(time.Hour), Items: 1, Partial: true}) {
			t.Errorf("Snapshots = %+v, %v; want two, the newest first", list, err)
		}
		for offset, want := range map[time.Duration]int64{0: 1, time.Minute: 1, time.Hour: 2, 100 * time.Hour: 2} {
			if got, err := st.SnapshotAt(ctx, catalogOrg, catalogBox, at.Add(offset)); err != nil || got != want {
				t.Errorf("SnapshotAt(+%v) = %d, %v; want %d", offset, got, err, want)
			}
		}
		if _, err := st.SnapshotAt(ctx, catalogOrg, catalogBox, at.Add(-time.Millisecond)); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("SnapshotAt before the first: %v, want ErrNotFound", err)
		}
		if _, err := st.Folders(ctx, catalogOrg, catalogBox, 3); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("Folders of a snapshot that is not there: %v, want ErrNotFound", err)
		}
	})
}

func TestCommitsAreTakenInOrderAndOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, at := t.Context(), time.Now()
		first := engine.Delta{Seq: 1, At: at, NextNumber: 2, Totals: engine.Totals{Items: 1}, FolderCursor: "f", Folders: []engine.FolderState{folderOf("in", "Inbox", 1)}, Items: []engine.ItemChange{mailOf(1, "in", "a", "b", at)}}
		if err := st.ApplyCommit(ctx, catalogOrg, catalogBox, engine.Delta{Seq: 2}); !errors.Is(err, engine.ErrNotNext) {
			t.Errorf("second commit before the first: %v, want ErrNotNext", err)
		}
		apply(t, st, first)
		apply(t, st, first)
		if got, total := subjects(t, st, 1, store.ItemQuery{}); total != 1 {
			t.Errorf("after the same commit twice: %q, want one item", got)
		}
		if err := st.SaveCursors(ctx, catalogOrg, catalogBox, 1, engine.Cursors{Folders: "newer", Items: map[string]string{"in": "newer"}}); err != nil {
			t.Fatal(err)
		}
		if err := st.SaveCursors(ctx, catalogOrg, catalogBox, 7, engine.Cursors{Folders: "of another run", Items: map[string]string{"in": "of another run"}}); err != nil {
			t.Fatal(err)
		}
		head, err := st.Head(ctx, catalogOrg, catalogBox)
		if err != nil || head.FolderCursor != "newer" || len(head.Folders) != 1 || head.Folders[0].Cursor != "newer" {
			t.Errorf("Head = %+v, %v; want the cursors of the newest snapshot's run", head, err)
		}
	})
}

func TestLocateStaysInTheOrganization(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		var objects []repo.Object
		for i := range 1200 {
			objects = append(objects, repo.Object{ID: repo.PieceID{7: byte(i % 50), 9: byte(i), 10: byte(i >> 8)}, Location: repo.Location{
				Pack: repo.PackID{byte(i / 500)}, Kind: repo.PackData, Epoch: 3, Blob: uint32(i % 500 / 10), Type: 1, Offset: 1 << 33, Length: 1 << 31, Start: uint32(i), Size: 5}})
		}
		for i := range objects { // a blob has one place
			objects[i].Type = byte(1 + objects[i].Blob%2)
		}
		for range 2 { // the second time is for nothing
			if err := st.AddObjects(ctx, catalogOrg, objects); err != nil {
				t.Fatal(err)
			}
		}
		ids := []repo.PieceID{{31: 1}} // one that nobody has
		for _, o := range objects {
			ids = append(ids, o.ID)
		}
		found, err := st.Locate(ctx, string(catalogOrg), ids)
		if err != nil || len(found) != len(objects) {
			t.Fatalf("Locate found %d, %v; want %d", len(found), err, len(objects))
		}
		for _, o := range objects {
			if found[o.ID] != o.Location {
				t.Fatalf("Locate = %+v, want %+v", found[o.ID], o.Location)
			}
		}
		if found, err = st.Locate(ctx, "OTHER", ids); err != nil || len(found) != 0 {
			t.Errorf("Locate for another organization found %d, %v; want none", len(found), err)
		}
		if err := st.ClearCatalog(ctx, "OTHER"); err != nil {
			t.Fatal(err)
		}
		if found, err = st.Locate(ctx, string(catalogOrg), ids); err != nil || len(found) != len(objects) {
			t.Errorf("after clearing another organization's catalog %d are found, %v; want all", len(found), err)
		}
	})
}

func TestPiecesOfPacksStayInTheOrganization(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		var objects []repo.Object
		var packs []repo.PackID
		for i := range 1200 {
			pack := repo.PackID{byte(i), byte(i >> 8)}
			objects = append(objects, repo.Object{ID: repo.PieceID{9: byte(i), 10: byte(i >> 8)}, Location: repo.Location{Pack: pack, Kind: repo.PackData}})
			if i%2 == 0 {
				packs = append(packs, pack)
			}
		}
		if err := st.AddObjects(t.Context(), catalogOrg, objects); err != nil {
			t.Fatal(err)
		}
		for org, want := range map[string]int{string(catalogOrg): 600, "OTHER": 0} {
			found := map[repo.PieceID]bool{}
			if err := st.EachPiece(t.Context(), org, packs, func(id repo.PieceID) { found[id] = true }); err != nil || len(found) != want {
				t.Errorf("%s: %d pieces, %v; want %d", org, len(found), err, want)
			}
			for i, o := range objects {
				if want > 0 && found[o.ID] != (i%2 == 0) {
					t.Fatalf("piece %d is there: %t", i, found[o.ID])
				}
			}
		}
	})
}

func TestForgedItemIDsFindNothing(t *testing.T) {
	st := storetest.Open(t)
	at := time.Now()
	apply(t, st, engine.Delta{Seq: 1, At: at, NextNumber: 2, Folders: []engine.FolderState{folderOf("in", "Inbox", 1)}, Items: []engine.ItemChange{mailOf(1, "in", "a", "b", at)}})
	forged := engine.Record{Number: 1, Meta: repo.MetaID{99}}.ID()
	for _, id := range []backup.ItemID{"", "x", forged, "AAAAAAAAAAAAAAAAAAAAAAAAAA", "ZZZZZZZZZZZZZZZZZZZZZZZZZZ", "../../etc/passwd"} {
		if _, err := st.ItemRecord(t.Context(), catalogOrg, catalogBox, id); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("ItemRecord(%q): %v, want ErrNotFound", id, err)
		}
	}
}
