package store_test

import (
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

// TestFindItems searches a mailbox in which a message moved, one was deleted, and
// one was written anew.
func TestFindItems(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, at := t.Context(), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
		day := func(n int) time.Time { return at.AddDate(0, 0, n) }
		mail := func(number int64, folder, subject, to string) engine.ItemChange {
			i := mailOf(number, folder, subject, "Ada <ada@example.org>", day(int(number)))
			i.To, i.HasAttachments = to, number == 2
			return i
		}
		apply(t, st, engine.Delta{Seq: 1, At: day(10), NextNumber: 5, Totals: engine.Totals{Items: 4}, Folders: []engine.FolderState{folderOf("in", "Inbox", 4), folderOf("old", "Old", 0)},
			Items: []engine.ItemChange{mail(1, "in", "Invoice moved", "bob@example.org"), mail(2, "in", "Invoice deleted", "ÖMER <oe@example.org>"), mail(3, "in", "Draft", ""), mail(4, "in", "100 % other", "")}})
		moved := mail(1, "old", "Invoice moved", "bob@example.org")
		moved.NewItem, moved.NewRecord = false, false
		written := mail(3, "in", "Invoice written anew", "")
		written.NewItem, written.Record.Number, written.Record.Meta = false, 5, repo.MetaID{5, 5}
		apply(t, st, engine.Delta{Seq: 2, At: day(11), NextNumber: 6, Totals: engine.Totals{Items: 3}, Folders: []engine.FolderState{folderOf("in", "Inbox", 2), folderOf("old", "Older", 1)},
			Items: []engine.ItemChange{moved, written}, Removed: []int64{2}})

		const other, anew, gone, stays = "100 % other in Inbox of 2", "Invoice written anew in Inbox of 2", "Invoice deleted in Inbox of 1, gone", "Invoice moved in Older of 2"
		for _, c := range []struct {
			query store.MailSearch
			n     int
			want  []string
		}{
			{store.MailSearch{}, 9, []string{other, anew, gone, stays}},
			{store.MailSearch{}, 2, []string{other, anew}},
			{store.MailSearch{Words: "  ADA\tinvoice "}, 9, []string{anew, gone, stays}},
			{store.MailSearch{Words: "invoice bob"}, 9, []string{stays}},
			{store.MailSearch{Words: "ömer"}, 9, []string{gone}},
			{store.MailSearch{Words: "draft"}, 9, nil}, // as it was before it was written anew
			{store.MailSearch{Words: "%"}, 9, []string{other}},
			{store.MailSearch{Words: "invoice nobody"}, 9, nil},
			{store.MailSearch{Gone: true}, 9, []string{gone}},
			{store.MailSearch{Attachments: true}, 9, []string{gone}},
			{store.MailSearch{From: day(2), Before: day(4)}, 9, []string{anew, gone}},
		} {
			found, err := st.FindItems(ctx, catalogOrg, catalogBox, c.query, c.n)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				text := fmt.Sprintf("%s in %s of %d", f.Subject, f.Folder, f.Seq)
				if f.Gone {
					text += ", gone"
				}
				if got = append(got, text); !f.At.Equal(day(9 + int(f.Seq))) {
					t.Errorf("%s is of %v, want the time of its snapshot", text, f.At)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("FindItems(%+v) = %q, want %q", c.query, got, c.want)
			}
		}

		if err := st.ForgetSnapshots(ctx, catalogOrg, catalogBox, []repo.Span{{From: 1, To: 1}}); err != nil {
			t.Fatal(err)
		}
		if found, err := st.FindItems(ctx, catalogOrg, catalogBox, store.MailSearch{Gone: true}, 9); err != nil || len(found) > 0 {
			t.Errorf("after its only snapshot expired: %v, %v; want nothing", found, err)
		}
		for what, where := range map[string]struct {
			org backup.OrgID
			box backup.MailboxID
		}{"another organization": {"OTHER", catalogBox}, "another mailbox": {catalogOrg, "OTHER"}} {
			if found, err := st.FindItems(ctx, where.org, where.box, store.MailSearch{}, 9); err != nil || len(found) > 0 {
				t.Errorf("%s: %v, %v; want nothing", what, found, err)
			}
		}
	})
}
