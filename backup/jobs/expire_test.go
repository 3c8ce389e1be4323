package jobs_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestSnapshotsExpireDayByDay backs a mailbox up for ten days, with a letter
// that comes and one that goes each day, and lets the retention work as the
// daily job does.
func TestSnapshotsExpireDayByDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		letters := someLetters(20)
		k, ctx := keep(t, st, letters), t.Context()
		org := k.w.Contoso
		for day := range 9 {
			time.Sleep(24 * time.Hour)
			delete(letters, "m"+string(rune('0'+day)))
			letters["new"+string(rune('0'+day))] = strings.Repeat("new ", 100)
			if _, err := k.Engine.Backup(ctx, engine.Job{Org: org.ID, Mailbox: k.mailbox.ID, Source: letters}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		step := func(want int) {
			t.Helper()
			if _, err := k.Expire(ctx, org); err != nil {
				t.Fatal(err)
			}
			if got := k.snapshots(t); len(got) != want || got[0] != 10 {
				t.Errorf("snapshots %v are left, want %d", got, want)
			}
		}
		step(10) // without a rule
		if err := st.SaveRetention(ctx, org.ID, backup.Retention{Mode: backup.RetainDays, Days: 3}, k.w.Ada); err != nil {
			t.Fatal(err)
		}
		if err := st.SetLegalHold(ctx, org.ID, "Case 4711", k.w.Ada); err != nil {
			t.Fatal(err)
		}
		step(10) // under a hold
		if err := st.LiftLegalHold(ctx, org.ID, k.w.Ada); err != nil {
			t.Fatal(err)
		}
		step(4)
		step(4) // once more
		rule := func(days int) {
			t.Helper()
			own := backup.Retention{}
			if days > 0 {
				own = backup.Retention{Mode: backup.RetainDays, Days: days}
			}
			if err := st.SaveMailboxRetention(ctx, org.ID, []backup.MailboxID{k.mailbox.ID}, own, k.w.Ada); err != nil {
				t.Fatal(err)
			}
		}
		rule(1)
		if err := st.SetMailboxHold(ctx, org.ID, k.mailbox.ID, "Case 4712", k.w.Ada); err != nil {
			t.Fatal(err)
		}
		step(4) // under a hold of its own
		if err := st.LiftMailboxHold(ctx, org.ID, k.mailbox.ID, k.w.Ada); err != nil {
			t.Fatal(err)
		}
		rule(0)
		step(4) // by the organization's rule again
		rule(2)
		step(3)
		if n := k.entries(t, "retention.expire"); n != 2 {
			t.Errorf("%d entries of the activity say that snapshots expired, want 2", n)
		}
		k.space(t)
	})
}

func (k kept) snapshots(t *testing.T) []int64 {
	t.Helper()
	list, err := k.Store.Snapshots(t.Context(), k.w.Contoso.ID, k.mailbox.ID)
	if err != nil {
		t.Fatal(err)
	}
	var seqs []int64
	for _, s := range list {
		seqs = append(seqs, s.Seq)
	}
	return seqs
}

func (k kept) entries(t *testing.T, kind string) int {
	t.Helper()
	_, n, err := k.Store.Activity(t.Context(), k.w.Contoso.PartnerID, k.w.Contoso.ID, store.ActivityQuery{Kind: kind, Page: 1, Size: 10})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// space checks that collections free the space, and leave what is kept whole,
// for the catalog as it is and for one made anew.
func (k kept) space(t *testing.T) {
	t.Helper()
	ctx, freed := t.Context(), int64(0)
	for range 3 {
		time.Sleep(repo.Grace)
		c, err := k.Engine.Collect(ctx, k.w.Contoso.ID)
		if err != nil {
			t.Fatal(err)
		}
		freed += c.Freed
	}
	if freed == 0 {
		t.Error("nothing was freed")
	}
	before := k.snapshots(t)
	for range 2 {
		report, err := k.Engine.Verify(ctx, k.w.Contoso.ID, true)
		if err != nil || len(report.Damaged) > 0 || report.Snapshots != len(before) {
			t.Errorf("Verify = %+v, %v; want %d whole snapshots", report, err, len(before))
		}
		if err := k.Engine.Rebuild(ctx, k.w.Contoso.ID); err != nil {
			t.Fatal(err)
		}
		if got := k.snapshots(t); !slices.Equal(got, before) {
			t.Errorf("after a rebuild there are snapshots %v, want %v", got, before)
		}
	}
}
