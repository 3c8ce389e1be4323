package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// fourSnapshots makes snapshots of a mailbox 40, 35 and 1 days ago and now. The
// first has messages 1 and 2; then 1 is deleted and 3 comes, which is gone the
// day before now.
func fourSnapshots(t *testing.T, st *store.Store, org backup.OrgID, box backup.MailboxID) {
	t.Helper()
	now, inbox := time.Now(), func(n int64) []engine.FolderState { return []engine.FolderState{folderOf("in", "Inbox", n)} }
	at := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	for _, d := range []engine.Delta{
		{At: at(40), Totals: engine.Totals{Items: 2}, Folders: inbox(2), Items: []engine.ItemChange{mailOf(1, "in", "one", "a", at(40)), mailOf(2, "in", "two", "a", at(40))}},
		{At: at(35), Totals: engine.Totals{Items: 2}, Folders: inbox(2), Items: []engine.ItemChange{mailOf(3, "in", "three", "a", at(36))}, Removed: []int64{1}},
		{At: at(1), Totals: engine.Totals{Items: 1}, Folders: inbox(1), Removed: []int64{3}},
		{At: now, Totals: engine.Totals{Items: 1}},
	} {
		head, err := st.Head(t.Context(), org, box)
		if err != nil {
			t.Fatal(err)
		}
		d.Seq, d.NextNumber = head.Seq+1, 4
		if err := st.ApplyCommit(t.Context(), org, box, d); err != nil {
			t.Fatal(err)
		}
	}
}

func seqsOf(t *testing.T, st *store.Store, org backup.OrgID, box backup.MailboxID) []int64 {
	t.Helper()
	list, err := st.Snapshots(t.Context(), org, box)
	if err != nil {
		t.Fatal(err)
	}
	var seqs []int64
	for _, s := range list {
		seqs = append(seqs, s.Seq)
	}
	return seqs
}

func TestExpiredSnapshotsAndWhatOnlyTheyHaveAreForgotten(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w, ctx := storetest.Fill(t, st), t.Context()
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		org, box := w.Contoso.ID, boxes["a"].ID
		fourSnapshots(t, st, org, box)
		rule := backup.Retention{Mode: backup.RetainDays, Days: 10}
		by := func(backup.MailboxID) (backup.Retention, bool) { return rule, true }
		list, err := st.Expiries(ctx, org, by, time.Now())
		if err != nil || len(list) != 1 || !slices.Equal(list[0].Snapshots, []int64{1}) || list[0].Messages != 1 || list[0].Bytes != 100 {
			t.Fatalf("Expiries = %+v, %v; want snapshot 1 with one message of 100 bytes", list, err)
		}
		if list, err := st.Expiries(ctx, w.Fabrikam.ID, by, time.Now()); err != nil || len(list) != 0 {
			t.Errorf("another organization's preview = %+v, %v", list, err)
		}
		if err := st.ForgetSnapshots(ctx, w.Fabrikam.ID, box, []repo.Span{{From: 1, To: 3}}); err != nil || len(seqsOf(t, st, org, box)) != 4 {
			t.Errorf("another organization forgot snapshots: %v", err)
		}
		for range 2 {
			if err := st.ForgetSnapshots(ctx, org, box, []repo.Span{{From: 1, To: 1}}); err != nil {
				t.Fatal(err)
			}
		}
		if got := seqsOf(t, st, org, box); !slices.Equal(got, []int64{4, 3, 2}) {
			t.Errorf("snapshots %v are left", got)
		}
		if _, _, err := st.Items(ctx, org, box, 1, store.ItemQuery{}); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("Items of the expired snapshot: %v, want ErrNotFound", err)
		}
		items, total, err := st.Items(ctx, org, box, 2, store.ItemQuery{})
		if err != nil || total != 2 || len(items) != 2 {
			t.Errorf("Items of snapshot 2 = %d of %d, %v; want 2", len(items), total, err)
		}
		known, err := st.KnownItems(ctx, org, box, []string{"provider-1", "provider-2", "provider-3"})
		if err != nil || len(known) != 2 {
			t.Errorf("%d items are known, %v; want those of the kept snapshots", len(known), err)
		}
		// The newest snapshot stays whatever is asked for.
		if err := st.ForgetSnapshots(ctx, org, box, []repo.Span{{From: 1, To: 9}}); err != nil || !slices.Equal(seqsOf(t, st, org, box), []int64{4}) {
			t.Errorf("%v are left, %v; want the newest", seqsOf(t, st, org, box), err)
		}
	})
}

// TestAMessageThatWasForgottenMeanwhileIsKnownAgain lets a run that looked an
// item up commit it after it was forgotten.
func TestAMessageThatWasForgottenMeanwhileIsKnownAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w, ctx := storetest.Fill(t, st), t.Context()
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		org, box := w.Contoso.ID, boxes["a"].ID
		fourSnapshots(t, st, org, box)
		known, err := st.KnownItems(ctx, org, box, []string{"provider-1"})
		if err != nil || len(known) != 1 {
			t.Fatal(known, err)
		}
		if err := st.ForgetSnapshots(ctx, org, box, []repo.Span{{From: 1, To: 3}}); err != nil {
			t.Fatal(err)
		}
		back := known[0]
		back.FolderID = "in"
		d := engine.Delta{Seq: 5, At: time.Now(), NextNumber: 4, Totals: engine.Totals{Items: 2}, Folders: []engine.FolderState{folderOf("in", "Inbox", 2)}, Items: []engine.ItemChange{{Item: back}}}
		if err := st.ApplyCommit(ctx, org, box, d); err != nil {
			t.Fatal(err)
		}
		items, total, err := st.Items(ctx, org, box, 5, store.ItemQuery{})
		if err != nil || total != 2 || !slices.ContainsFunc(items, func(i backup.Item) bool { return i.Subject == "one" }) {
			t.Errorf("Items = %+v, %d, %v; want the message that came back", items, total, err)
		}
	})
}

func TestPacksAreForgotten(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		here, there := repo.PackID{1}, repo.PackID{2}
		object := repo.Object{ID: repo.PieceID{7}, Location: repo.Location{Pack: here, Kind: repo.PackData, Type: 1, Length: 10, Size: 10}}
		if err := st.AddObjects(ctx, catalogOrg, []repo.Object{object}); err != nil {
			t.Fatal(err)
		}
		if missing, err := st.MissingPacks(ctx, catalogOrg, []repo.PackID{here, there}); err != nil || !slices.Equal(missing, []repo.PackID{there}) {
			t.Errorf("MissingPacks = %v, %v", missing, err)
		}
		if err := st.ForgetPacks(ctx, "OTHER", []repo.PackID{here}); err != nil {
			t.Fatal(err)
		}
		if found, err := st.Locate(ctx, string(catalogOrg), []repo.PieceID{object.ID}); err != nil || len(found) != 1 {
			t.Errorf("another organization forgot a pack: %v, %v", found, err)
		}
		if err := st.ForgetPacks(ctx, catalogOrg, []repo.PackID{here, there}); err != nil {
			t.Fatal(err)
		}
		if found, err := st.Locate(ctx, string(catalogOrg), []repo.PieceID{object.ID}); err != nil || len(found) != 0 {
			t.Errorf("Locate = %v, %v; want nothing", found, err)
		}
	})
}

func TestRetentionAndLegalHold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w, ctx := storetest.Fill(t, st), t.Context()
		org := w.Contoso.ID
		if r, h, err := st.Retention(ctx, org); err != nil || r.Mode != backup.RetainAll || !h.IsZero() {
			t.Errorf("without a row: %+v, %+v, %v", r, h, err)
		}
		if err := st.SaveRetention(ctx, org, backup.Retention{Mode: backup.RetainDays}, w.Ada); err == nil {
			t.Error("a rule that breaks a rule was saved")
		}
		if err := st.SetLegalHold(ctx, org, " ", w.Ada); err == nil {
			t.Error("a hold without a reason was set")
		}
		if err := st.SetLegalHold(ctx, org, "Case 4711", w.Ada); err != nil {
			t.Fatal(err)
		}
		if err := st.SetLegalHold(ctx, org, "Another", w.Ada); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("a second hold: %v, want ErrConflict", err)
		}
		want := backup.Retention{Mode: backup.RetainPeriods, Daily: 7, Weekly: 4, Monthly: 12, Yearly: 2}
		if err := st.SaveRetention(ctx, org, want, w.Ada); err != nil {
			t.Fatal(err)
		}
		r, h, err := st.Retention(ctx, org)
		if err != nil || r != want || h.Reason != "Case 4711" || !strings.Contains(h.By, w.Ada.Person.Email) {
			t.Errorf("Retention = %+v, %+v, %v", r, h, err)
		}
		if r, h, err := st.Retention(ctx, w.Fabrikam.ID); err != nil || r.Mode != backup.RetainAll || !h.IsZero() {
			t.Errorf("another organization's: %+v, %+v, %v", r, h, err)
		}
		if err := st.LiftLegalHold(ctx, w.Fabrikam.ID, w.Otto); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("another organization lifts: %v, want ErrNotFound", err)
		}
		if err := st.LiftLegalHold(ctx, org, w.Ada); err != nil {
			t.Fatal(err)
		}
		if _, h, err := st.Retention(ctx, org); err != nil || !h.IsZero() {
			t.Errorf("after lifting: %+v, %v", h, err)
		}
	})
}
