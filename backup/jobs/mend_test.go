package jobs_test

import (
	"bytes"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
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
