package jobs_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestRepairWithoutACopy loses all content, then all metadata, of a mailbox, and
// repairs without a copy: every message is named, the next run reads again what
// the provider still has, and what it has not is said.
func TestRepairWithoutACopy(t *testing.T) {
	for name, folder := range map[string]string{"content": "/d/", "metadata": "/m/"} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, st *store.Store) { withoutACopy(t, st, folder) })
		})
	}
}

func withoutACopy(t *testing.T, st *store.Store, folder string) {
	letters := someLetters(5)
	k := keep(t, st, letters)
	org, ctx := k.w.Contoso.ID, t.Context()
	want := map[string]string{}
	for id, text := range letters {
		want["Letter "+id] = text
	}
	for _, key := range k.objects(t, "t/"+string(org)+folder) {
		if err := k.storage.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	k.do(t, backup.UpkeepData)
	if u := k.do(t, backup.UpkeepRepair); u.State != backup.UpkeepDamaged || u.Damaged != 5 {
		t.Errorf("repair = %+v, want five messages lost", u)
	}
	fates := func() map[string]backup.DamageFate {
		t.Helper()
		list, err := st.Damages(ctx, org, 100)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]backup.DamageFate{}
		for _, d := range list {
			if d.Record == 0 || d.Folder != "Inbox" || d.MailboxName != k.mailbox.Address || d.ReceivedAt.IsZero() {
				t.Errorf("damage %+v does not name its message", d)
			}
			found[d.Subject] = d.Fate
		}
		return found
	}
	for subject := range want {
		if got := fates()[subject]; got != backup.DamageWanted {
			t.Errorf("%s is %q, want it read again", subject, got)
		}
	}
	letters["m0"] += "P.S. another text"
	delete(letters, "m1")
	if _, err := k.Engine.Backup(ctx, engine.Job{Org: org, Mailbox: k.mailbox.ID, Source: letters}); err != nil {
		t.Fatal(err)
	}
	k.SettleDamagesForTest(ctx, org, k.mailbox.ID)
	if got := fates(); len(got) != 2 || got["Letter m0"] != backup.DamageDiffers || got["Letter m1"] != backup.DamageGone {
		t.Errorf("after the run there are %v, want what differs and what is gone", got)
	}
	for seq := int64(1); seq <= 2; seq++ {
		items, _, err := st.Items(ctx, org, k.mailbox.ID, seq, store.ItemQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range items {
			var text bytes.Buffer
			err := k.Engine.WriteItem(ctx, org, k.mailbox.ID, i.ID, &text)
			id := strings.TrimPrefix(i.Subject, "Letter ")
			switch {
			case seq == 1 && (id == "m0" || id == "m1"):
				if err == nil {
					t.Errorf("%s came back as %d bytes of snapshot 1, and is lost", i.Subject, text.Len())
				}
			case err != nil || text.String() != letters[id]:
				t.Errorf("%s of snapshot %d: %d bytes, %v; want %d", i.Subject, seq, text.Len(), err, len(letters[id]))
			}
		}
	}
	report, err := k.Engine.Verify(ctx, org, true)
	if err != nil || folder == "/d/" && len(report.Damaged) != 2 || folder == "/m/" && len(report.Damaged) != 0 {
		t.Errorf("Verify = %q, %v; want the two that are lost", report.Damaged, err)
	}
	if _, err := k.Engine.Collect(ctx, org); err != nil {
		t.Errorf("Collect: %v", err)
	}
}

// TestRepairGetsAMailboxGoing kills a run between its commit and the catalog and
// flips a bit of its metadata, which no check has seen. A repair puts it back from a
// copy; without one it says what the snapshot lost, once, and the next run goes on.
func TestRepairGetsAMailboxGoing(t *testing.T) {
	for _, copied := range []bool{true, false} {
		t.Run(fmt.Sprintf("copied=%t", copied), func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, st *store.Store) { getsGoing(t, st, copied) })
		})
	}
}

func getsGoing(t *testing.T, st *store.Store, copied bool) {
	k, run := stuck(t, st, "m", func(k kept) {
		if copied {
			k.copyTo(t)
		}
	})
	org, ctx := k.w.Contoso.ID, t.Context()
	if _, err := k.Engine.Backup(ctx, run); backup.KindOf(err) != backup.ProblemRepository {
		t.Fatalf("Backup = %v, want the storage's problem", err)
	}
	u := k.do(t, backup.UpkeepRepair)
	list, err := k.Store.Damages(ctx, org, 10)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case copied && (u.State != backup.UpkeepOK || u.Counted != 1 || len(list) > 0):
		t.Errorf("repair = %+v with %+v left, want the pack put back", u, list)
	case !copied && (u.State != backup.UpkeepDamaged || len(list) != 1 || list[0].MailboxName != k.mailbox.Address || !strings.Contains(list[0].How, "as the snapshot before")):
		t.Errorf("repair = %+v with %+v, want the snapshot named", u, list)
	}
	if _, err := k.Engine.Backup(ctx, run); err != nil {
		t.Errorf("Backup after the repair: %v", err)
	}
	newest := int64(3)
	if copied {
		newest = 2 // which was taken in, and nothing changed since
	}
	items, _, err := k.Store.Items(ctx, org, k.mailbox.ID, newest, store.ItemQuery{})
	if err != nil || len(items) != 6 {
		t.Errorf("snapshot %d has %d messages, %v; want all six", newest, len(items), err)
	}
	if u := k.do(t, backup.UpkeepAll); u.State != backup.UpkeepOK {
		t.Errorf("a check of everything = %+v", u)
	}
}

// TestRepairOfTheDeletionLog cuts an entry of the deletion log while a run was killed
// between its commit and the catalog.
func TestRepairOfTheDeletionLog(t *testing.T) {
	letters := someLetters(5)
	k := keep(t, storetest.Open(t), letters)
	org, ctx := k.w.Contoso.ID, t.Context()
	run := engine.Job{Org: org, Mailbox: k.mailbox.ID, Source: letters}
	delete(letters, "m0")
	if _, err := k.Engine.Backup(ctx, run); err != nil {
		t.Fatal(err)
	}
	if err := k.Engine.Expire(ctx, org, k.mailbox.ID, []int64{1}); err != nil {
		t.Fatal(err)
	}
	k.change(t, k.objects(t, "t/"+string(org)+"/g/")[0], func(d []byte) []byte { return d[:len(d)/2] })
	delete(letters, "m1")
	r, err := repo.Open(ctx, k.storage, k.Store, k.Store, repo.Options{}) // the next process
	if err != nil {
		t.Fatal(err)
	}
	k.Engine = &engine.Engine{Repo: r, Catalog: &stopped{k.Store, 0}}
	if _, err := k.Engine.Backup(ctx, run); !errors.Is(err, errKilled) {
		t.Fatalf("Backup = %v, want it killed", err)
	}
	k.Engine.Catalog = k.Store
	if u := k.do(t, backup.UpkeepRepair); u.State != backup.UpkeepOK {
		t.Errorf("repair = %+v", u)
	}
	if u := k.do(t, backup.UpkeepAll); u.State != backup.UpkeepOK {
		t.Errorf("a check of everything = %+v", u)
	}
	if _, err := k.Engine.Backup(ctx, run); err != nil {
		t.Errorf("Backup after the repair: %v", err)
	}
}
