package jobs_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestOldEpochsAreReadAfterRotation writes in three epochs: what is new is
// sealed under the new one, and everything is read, checked and rebuilt.
func TestOldEpochsAreReadAfterRotation(t *testing.T) {
	st := storetest.Open(t)
	ctx := t.Context()
	source := someLetters(3)
	k := keep(t, st, source)
	org := k.w.Contoso.ID
	for epoch := 1; epoch <= 2; epoch++ {
		if _, err := st.RotateKey(ctx, k.w.Owner.Partner.ID, org, k.w.Owner); err != nil {
			t.Fatal(err)
		}
		before := k.objects(t, "t/"+string(org)+"/d/")
		source["epoch"+strings.Repeat("x", epoch)] = strings.Repeat("written in a new epoch\r\n", 100*epoch)
		if _, err := k.Engine.Backup(ctx, engine.Job{Org: org, Mailbox: k.mailbox.ID, Source: source}); err != nil {
			t.Fatal(err)
		}
		fresh := 0
		for _, key := range k.objects(t, "t/"+string(org)+"/d/") {
			if strings.Contains(strings.Join(before, "\n"), key) {
				continue
			}
			fresh++
			if got := binary.BigEndian.Uint32(k.read(t, key)[24:]); int(got) != epoch {
				t.Errorf("pack %s is of epoch %d, want %d", key, got, epoch)
			}
		}
		if fresh == 0 {
			t.Errorf("nothing was written in epoch %d", epoch)
		}
	}
	whole := func(e *engine.Engine) {
		t.Helper()
		report, err := e.Verify(ctx, org, true)
		if err != nil || len(report.Damaged) > 0 || report.Items != len(source) {
			t.Errorf("Verify = %+v, %v; want %d whole messages", report, err, len(source))
		}
	}
	whole(k.Engine)
	again, err := repo.Open(ctx, k.storage, st, st, repo.Options{}) // with no key in memory
	if err != nil {
		t.Fatal(err)
	}
	anew := &engine.Engine{Repo: again, Catalog: st}
	if err := anew.Rebuild(ctx, org); err != nil {
		t.Fatal(err)
	}
	whole(anew)
	snapshots, err := st.Snapshots(ctx, org, k.mailbox.ID)
	if err != nil {
		t.Fatal(err)
	}
	items, _, err := st.Items(ctx, org, k.mailbox.ID, snapshots[0].Seq, store.ItemQuery{PageSize: 100})
	if err != nil || len(items) != len(source) {
		t.Fatalf("%d items, %v; want %d", len(items), err, len(source))
	}
	for _, item := range items {
		var out bytes.Buffer
		if err := anew.WriteItem(ctx, org, k.mailbox.ID, item.ID, &out); err != nil || out.String() != source[item.ProviderID] {
			t.Errorf("message %s: %v, or not what it was", item.ProviderID, err)
		}
	}
}

// TestDamagedEpochIsDamage flips a bit of the epoch in each pack's header.
func TestDamagedEpochIsDamage(t *testing.T) {
	st := storetest.Open(t)
	k := keep(t, st, someLetters(2))
	org := k.w.Contoso.ID
	for _, key := range k.objects(t, "t/"+string(org)+"/d/") {
		k.change(t, key, func(d []byte) []byte { d[24] ^= 1; return d })
	}
	k.Engine.Repo = k.Engine.Repo.Unhurried(nil)
	if u := k.do(t, backup.UpkeepData); u.State != backup.UpkeepDamaged {
		t.Errorf("data = %+v, want damage", u)
	}
	report, err := k.Engine.Verify(t.Context(), org, false)
	if err != nil || len(report.Damaged) == 0 {
		t.Errorf("Verify = %+v, %v; want damage", report, err)
	}
	if epoch, err := st.Epoch(t.Context(), string(org)); err != nil || epoch != 0 {
		t.Errorf("the damaged header began epoch %d, %v", epoch, err)
	}
}
