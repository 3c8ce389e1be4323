package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

func newRun(m backup.Mailbox) backup.Run {
	now := time.UnixMilli(time.Now().UnixMilli()).UTC()
	return backup.Run{ID: backup.NewID[backup.RunID](), OrgID: m.OrgID, MailboxID: m.ID, State: backup.RunRunning, Trigger: "first", StartedAt: now, BeatAt: now}
}

func TestARunAndItsMailboxChangeTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		org, run := w.Contoso.ID, newRun(boxes["a"])
		if err := st.StartRun(ctx, run); err != nil {
			t.Fatal(err)
		}
		if err := st.StartRun(ctx, newRun(boxes["a"])); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("a second run = %v, want ErrConflict", err)
		}
		run.ItemsDone, run.ItemsTotal, run.FoldersDone, run.FoldersTotal = 3, 10, 1, 4
		if err := st.BeatRun(ctx, run); err != nil {
			t.Fatal(err)
		}
		open, err := st.RunningRuns(ctx, org)
		if err != nil || len(open) != 1 || open[0].ItemsDone != 3 || open[0].Name != "Name of a" || open[0].Address != "a@contoso.example" {
			t.Errorf("RunningRuns = %+v, %v", open, err)
		}
		run.State, run.EndedAt, run.Snapshot, run.NewItems, run.ReadBytes = backup.RunPartial, run.StartedAt.Add(time.Second), 1, 9, 900
		run.MovedItems, run.ChangedItems, run.RemovedItems, run.FailedItems, run.StoredBytes = 1, 2, 3, 4, 500
		next := run.EndedAt.Add(time.Hour)
		if err := st.FinishRun(ctx, run, func(m *backup.Mailbox) {
			m.Items, m.SizeBytes, m.DamagedItems, m.LastRunAt, m.NextRunAt = 9, 900, 4, run.EndedAt, next
		}); err != nil {
			t.Fatal(err)
		}
		m, err := st.Mailbox(ctx, org, run.MailboxID)
		if err != nil || m.Running || m.Status != backup.StatusProtected || m.Items != 9 || !m.NextRunAt.Equal(next) {
			t.Errorf("mailbox = %+v, %v", m, err)
		}
		runs, err := st.MailboxRuns(ctx, org, run.MailboxID, 5)
		run.BeatAt = run.EndedAt
		if err != nil || len(runs) != 1 || !reflect.DeepEqual(runs[0], run) {
			t.Errorf("runs = %+v, %v\nwant %+v", runs, err, run)
		}
		if err := st.FinishRun(ctx, run, func(m *backup.Mailbox) { m.Items = 0 }); !isNotFound(err) {
			t.Errorf("finishing twice = %v, want ErrNotFound", err)
		}
		if err := st.BeatRun(ctx, run); !isNotFound(err) {
			t.Errorf("a beat after the end = %v, want ErrNotFound", err)
		}
		if m, _ := st.Mailbox(ctx, org, run.MailboxID); m.Items != 9 {
			t.Errorf("finishing twice changed the mailbox: %+v", m)
		}
		s, err := st.Summary(ctx, org)
		if err != nil || !s.LastRunAt.Equal(run.EndedAt) || !s.NextRunAt.Equal(next) || s.NewItems != 9 || s.ReadBytes != 900 {
			t.Errorf("Summary = %+v, %v", s, err)
		}
	})
}

func TestStatusFollowsTheRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		since := boxes["a"].StatusSince
		for _, step := range []struct {
			change func(m *backup.Mailbox)
			want   backup.Status
		}{
			{func(m *backup.Mailbox) { m.Failures++ }, backup.StatusFailing},
			{func(m *backup.Mailbox) { m.Failures++ }, backup.StatusFailing},
			{func(m *backup.Mailbox) { m.Failures, m.LastRunAt = 0, time.Now() }, backup.StatusEmpty},
			{func(m *backup.Mailbox) { m.Items = 1 }, backup.StatusProtected},
			{func(m *backup.Mailbox) { m.Licence = backup.LicenceNone }, backup.StatusInactive},
		} {
			time.Sleep(time.Minute)
			run := newRun(boxes["a"])
			if err := st.StartRun(ctx, run); err != nil {
				t.Fatal(err)
			}
			run.State, run.EndedAt = backup.RunSucceeded, time.Now()
			if err := st.FinishRun(ctx, run, step.change); err != nil {
				t.Fatal(err)
			}
			m, err := st.Mailbox(ctx, w.Contoso.ID, run.MailboxID)
			if err != nil || m.Status != step.want || m.StatusSince.Before(since) {
				t.Errorf("status = %s since %v, %v, want %s", m.Status, m.StatusSince, err, step.want)
			}
			since = m.StatusSince
		}
	})
}

func TestRunsOfADeadProcessAreInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("dead"), storetest.Account("alive"), storetest.Account("off"))
		runs := map[string]backup.Run{}
		for id, m := range boxes {
			runs[id] = newRun(m)
			if err := st.StartRun(ctx, runs[id]); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.SetMailboxDeactivated(ctx, w.Contoso.ID, boxes["off"].ID, true, w.Ada); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		alive := runs["alive"]
		alive.BeatAt = time.Now()
		if err := st.BeatRun(ctx, alive); err != nil {
			t.Fatal(err)
		}
		if n, err := st.InterruptRuns(ctx, time.Now().Add(-2*time.Minute)); err != nil || n != 2 {
			t.Errorf("InterruptRuns = %d, %v, want 2", n, err)
		}
		for id, want := range map[string]struct{ running, due bool }{"dead": {false, true}, "alive": {true, true}, "off": {false, false}} {
			m, err := st.Mailbox(ctx, w.Contoso.ID, boxes[id].ID)
			if err != nil || m.Running != want.running || m.NextRunAt.IsZero() == want.due {
				t.Errorf("%s: running %v, next %v, %v", id, m.Running, m.NextRunAt, err)
			}
		}
		list, err := st.MailboxRuns(ctx, w.Contoso.ID, boxes["dead"].ID, 1)
		if err != nil || list[0].State != backup.RunInterrupted || list[0].EndedAt.IsZero() {
			t.Errorf("run = %+v, %v", list, err)
		}
		if err := st.StartRun(ctx, newRun(boxes["dead"])); err != nil {
			t.Errorf("the next run = %v", err)
		}
	})
}

func TestDayFiguresHaveEveryDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		for _, items := range []int64{1, 2, 4} { // two runs today, one two days later
			run := newRun(boxes["a"])
			if err := st.StartRun(ctx, run); err != nil {
				t.Fatal(err)
			}
			run.State, run.EndedAt, run.NewItems, run.ReadBytes = backup.RunSucceeded, time.Now(), items, items*10
			if err := st.FinishRun(ctx, run, func(*backup.Mailbox) {}); err != nil {
				t.Fatal(err)
			}
			if items == 2 {
				time.Sleep(48 * time.Hour)
			}
		}
		figures, err := st.DayFigures(ctx, w.Contoso.ID, 4)
		if err != nil || len(figures) != 4 {
			t.Fatalf("DayFigures = %v, %v", figures, err)
		}
		for i, want := range []int64{0, 3, 0, 4} {
			if f := figures[i]; f.NewItems != want || f.ReadBytes != want*10 || !f.Day.Equal(time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, i-3)) {
				t.Errorf("day %d = %+v, want %d items", i, f, want)
			}
		}
		if figures, err := st.DayFigures(ctx, w.Fabrikam.ID, 1); err != nil || figures[0].NewItems != 0 {
			t.Errorf("another organization's figures = %v, %v", figures, err)
		}
	})
}

// TestManyWritersAndReaders runs backups, jobs, log and pages at the same
// time: nothing is locked out, no count is lost.
func TestManyWritersAndReaders(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		const writers, rounds = 8, 10
		accounts := make([]backup.Mailbox, writers)
		for i := range accounts {
			accounts[i] = storetest.Account(fmt.Sprint("m", i))
		}
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", accounts...)
		check := func(what string, err error) {
			if err != nil {
				t.Errorf("%s = %v", what, err)
			}
		}
		var wg sync.WaitGroup
		for _, m := range boxes {
			wg.Go(func() {
				for range rounds {
					run := newRun(m)
					check("StartRun", st.StartRun(ctx, run))
					check("BeatRun", st.BeatRun(ctx, run))
					check("BackUpNow", st.BackUpNow(ctx, m.OrgID, m.ID, w.Ada))
					run.State, run.EndedAt, run.NewItems, run.ReadBytes = backup.RunSucceeded, time.Now(), 1, 1
					check("FinishRun", st.FinishRun(ctx, run, func(m *backup.Mailbox) { m.Items++ }))
				}
			})
			wg.Go(func() {
				for range rounds {
					_, err := st.Mailboxes(ctx, m.OrgID, store.MailboxQuery{Search: "m"})
					check("Mailboxes", err)
					_, err = st.Summary(ctx, m.OrgID)
					check("Summary", err)
				}
			})
		}
		wg.Wait()
		figures, err := st.DayFigures(ctx, w.Contoso.ID, 2)
		if err != nil || figures[0].NewItems+figures[1].NewItems != writers*rounds {
			t.Errorf("%+v, %v, want %d new items", figures, err, writers*rounds)
		}
		for _, m := range boxes {
			if got, err := st.Mailbox(ctx, m.OrgID, m.ID); err != nil || got.Items != rounds || got.Running {
				t.Errorf("mailbox = %+v, %v", got, err)
			}
		}
		if n, err := st.VerifyActivity(ctx, "", w.Contoso.ID); err != nil {
			t.Errorf("VerifyActivity = %d, %v", n, err)
		}
	})
}
