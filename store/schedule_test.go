package store_test

import (
	"database/sql"
	"errors"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// dailyWindow is a schedule with a window of an hour each day that begins at from.
func dailyWindow(from time.Time) backup.Schedule {
	from = from.UTC()
	begin := from.Hour()*60 + from.Minute()
	var s backup.Schedule
	for d := time.Sunday; d <= time.Saturday; d++ {
		s.Windows = append(s.Windows, backup.Window{Day: d, From: begin, To: (begin + 60) % (24 * 60)})
	}
	return s
}

// TestMailboxesWaitForTheirWindow has one organization with a window in two hours
// and one without.
func TestMailboxesWaitForTheirWindow(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", numbered(3)...)
		storetest.Connect(t, st, w.Otto, "tenant-2", numbered(1)...)
		now := time.Now()
		if err := st.SaveSchedule(ctx, w.Contoso.ID, dailyWindow(now.Add(2*time.Hour)), w.Ada); err != nil {
			t.Fatal(err)
		}
		plan, err := st.Schedule(ctx, w.Contoso.ID)
		if err != nil {
			t.Fatal(err)
		}
		opens, closes := plan.Span(now)
		due := func(at time.Time, contoso int) {
			t.Helper()
			list, err := st.DueMailboxes(ctx, at, 100)
			if err != nil {
				t.Fatal(err)
			}
			of := map[backup.OrgID]int{}
			for _, m := range list {
				of[m.OrgID]++
			}
			if of[w.Contoso.ID] != contoso || of[w.Fabrikam.ID] != 1 {
				t.Errorf("at %s %d and %d are due, want %d and 1", at, of[w.Contoso.ID], of[w.Fabrikam.ID], contoso)
			}
		}
		may := func(at time.Time, want error) {
			t.Helper()
			if err := st.MayRun(ctx, w.Contoso.ID, boxes["m01"].ID, at); !errors.Is(err, want) {
				t.Errorf("at %s the backup may run: %v, want %v", at, err, want)
			}
		}
		due(now, 0)
		may(now, store.ErrWindowClosed)
		due(opens.Add(-time.Second), 0)
		due(opens, 3)
		may(opens, nil)
		due(closes.Add(-time.Second), 3)
		due(closes, 0)
		may(closes, store.ErrWindowClosed)
		if l, err := st.Load(ctx, now); err != nil || l.Due != 1 {
			t.Errorf("load = %+v, %v, want one due", l, err)
		}

		// A person's wish needs no window.
		if err := st.BackUpNow(ctx, w.Contoso.ID, boxes["m00"].ID, w.Ada); err != nil {
			t.Fatal(err)
		}
		if err := st.MayRun(ctx, w.Contoso.ID, boxes["m00"].ID, now); err != nil {
			t.Errorf("the backup that was asked for may run: %v", err)
		}
		due(time.Now(), 1)
		due(opens, 3)

		// The queue is filled after the window closed, when the next is written.
		if _, err := st.FillBackups(ctx, closes.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		due(closes.Add(time.Minute), 1)
		due(opens.Add(24*time.Hour), 3)
		if _, err := raw.ExecContext(ctx, `UPDATE organizations SET suspended_at = 1 WHERE id = $1`, w.Contoso.ID); err != nil {
			t.Fatal(err)
		}
		due(opens.Add(24*time.Hour), 0)
		if err := st.MayRun(ctx, w.Contoso.ID, boxes["m00"].ID, now); !errors.Is(err, store.ErrSuspended) {
			t.Errorf("of a suspended organization it may run: %v", err)
		}
	})
}

func TestPauseHoldsBackupsUntilTheyAreResumed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", numbered(2)...)
		if err := st.PauseBackups(ctx, w.Contoso.ID, " ", w.Ada); fieldErrors(err)["reason"] == "" {
			t.Errorf("a pause without a reason = %v", err)
		}
		if err := st.PauseBackups(ctx, w.Contoso.ID, "Exchange is moved", w.Ada); err != nil {
			t.Fatal(err)
		}
		if err := st.PauseBackups(ctx, w.Contoso.ID, "Once more", w.Ada); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("a second pause = %v, want ErrConflict", err)
		}
		plan, err := st.Schedule(ctx, w.Contoso.ID)
		if err != nil || plan.Pause.Reason != "Exchange is moved" || plan.Pause.By == "" || plan.Pause.At.IsZero() {
			t.Errorf("pause = %+v, %v", plan.Pause, err)
		}
		if err := st.SaveSchedule(ctx, w.Contoso.ID, backup.Schedule{Every: 4 * time.Hour}, w.Ada); err != nil {
			t.Fatal(err)
		}
		for _, at := range []time.Time{time.Now(), time.Now().AddDate(1, 0, 0)} {
			if due, err := st.DueMailboxes(ctx, at, 10); err != nil || len(due) != 0 {
				t.Errorf("%d are due while paused, %v", len(due), err)
			}
		}
		if err := st.MayRun(ctx, w.Contoso.ID, boxes["m00"].ID, time.Now()); !errors.Is(err, store.ErrPaused) {
			t.Errorf("it may run while paused: %v", err)
		}
		if err := st.ResumeBackups(ctx, w.Contoso.ID, w.Ada); err != nil {
			t.Fatal(err)
		}
		if err := st.ResumeBackups(ctx, w.Contoso.ID, w.Ada); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("a second resume = %v, want ErrNotFound", err)
		}
		if due, err := st.DueMailboxes(ctx, time.Now(), 10); err != nil || len(due) != 2 {
			t.Errorf("%d are due after it was resumed, %v, want 2", len(due), err)
		}
		for _, kind := range []string{"schedule.pause", "schedule.save", "schedule.resume"} {
			if _, n, err := st.Activity(ctx, "", w.Contoso.ID, store.ActivityQuery{Kind: kind, Page: 1, Size: 1}); err != nil || n != 1 {
				t.Errorf("%d entries of %s, %v, want 1", n, kind, err)
			}
		}
	})
}

// TestHowOftenHoldsForWhatIsPlanned changes the pause between two runs.
func TestHowOftenHoldsForWhatIsPlanned(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", numbered(2)...)
		ended := time.Now().Truncate(time.Millisecond)
		for id, items := range map[string]int64{"m00": 5, "m01": 0} {
			run := backup.Run{ID: backup.RunID(id), OrgID: w.Contoso.ID, MailboxID: boxes[id].ID, State: backup.RunRunning, StartedAt: ended, BeatAt: ended}
			if err := st.StartRun(ctx, run); err != nil {
				t.Fatal(err)
			}
			run.State, run.EndedAt = backup.RunSucceeded, ended
			if err := st.FinishRun(ctx, run, func(m *backup.Mailbox) { m.Items, m.LastRunAt, m.NextRunAt = items, ended, ended.Add(time.Hour) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.SaveSchedule(ctx, w.Contoso.ID, backup.Schedule{Every: 6 * time.Hour}, w.Ada); err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]time.Duration{"m00": 6 * time.Hour, "m01": time.Hour} {
			if m, err := st.Mailbox(ctx, w.Contoso.ID, boxes[id].ID); err != nil || !m.NextRunAt.Equal(ended.Add(want)) {
				t.Errorf("the next run of %s is %s after the last, %v, want %s", id, m.NextRunAt.Sub(ended), err, want)
			}
		}
	})
}

// TestWorkersAreCounted registers two, one of which backs nothing up, and one
// that is dead; SQLite serves one process.
func TestWorkersAreCounted(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx, now := t.Context(), time.Now()
		for id, slots := range map[string]int{"a": 4, "b": 4, "web": 0} {
			if _, err := raw.ExecContext(ctx, `INSERT INTO workers (id, alive_until, slots) VALUES ($1, $2, $3)`, id, now.Add(time.Minute).UnixMilli(), slots); err != nil {
				t.Fatal(err)
			}
		}
		for after, want := range map[time.Duration]int{0: 2, 2 * time.Minute: 0} {
			if n, err := st.Workers(ctx, now.Add(after)); err != nil || n != want {
				t.Errorf("%d workers live after %s, %v, want %d", n, after, err, want)
			}
		}
	})
}
