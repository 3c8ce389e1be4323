package jobs

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store/storetest"
)

// slowBox is a mailbox of messages that take time to read.
type slowBox struct {
	n, size int
	takes   time.Duration
	mu      sync.Mutex
	read    map[string]int
}

func (b *slowBox) Folders(context.Context, string) (engine.FolderChanges, error) {
	return engine.FolderChanges{Full: true, Cursor: "1", Folders: []engine.Folder{{ID: "inbox", Name: "Inbox", WellKnown: "inbox"}}}, nil
}

func (b *slowBox) Changes(context.Context, string, string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		page := engine.Page{Full: true, Cursor: "1"}
		for i := range b.n {
			page.Items = append(page.Items, engine.ItemState{ID: fmt.Sprint("m", i), Version: "1", FolderID: "inbox", Received: time.Now()})
		}
		yield(page, nil)
	}
}

func (b *slowBox) Content(ctx context.Context, id string) (io.ReadCloser, error) {
	select {
	case <-time.After(b.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read == nil {
		b.read = map[string]int{}
	}
	b.read[id]++
	return io.NopCloser(strings.NewReader("Subject: " + id + "\r\n\r\n" + strings.Repeat("x", b.size))), nil
}

// newBackUp is a worker on a store with one organization's mailbox, in a bubble.
func newBackUp(t *testing.T) (*backUp, storetest.World, backup.Connection, backup.Mailbox) {
	t.Helper()
	st := storetest.Open(t)
	w := storetest.Fill(t, st)
	conn, boxes := storetest.Connect(t, st, w.Ada, "tenant", storetest.Account("ada"))
	r, err := repo.Open(t.Context(), repo.NewMemory(), st, st, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.RegisterWorker(t.Context(), "one", 4, 24*365*time.Hour); err != nil {
		t.Fatal(err)
	}
	return &backUp{Runner: &Runner{Store: st, Engine: &engine.Engine{Repo: r, Catalog: st}, Every: time.Hour, Log: slog.New(slog.DiscardHandler)}}, w, conn, boxes["ada"]
}

// try runs the mailbox's backup and returns the run and the mailbox after it.
func (w *backUp) try(t *testing.T, conn backup.Connection, id backup.MailboxID, source engine.Source) (backup.Run, backup.Mailbox) {
	t.Helper()
	m, err := w.Store.Mailbox(t.Context(), conn.OrgID, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.from(t.Context(), conn, m, source); err != nil {
		t.Fatal(err)
	}
	runs, err := w.Store.MailboxRuns(t.Context(), conn.OrgID, id, 1)
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	if m, err = w.Store.Mailbox(t.Context(), conn.OrgID, id); err != nil {
		t.Fatal(err)
	}
	return runs[0], m
}

// TestARunStopsWhenItsWindowCloses has a window of ten minutes each day and a
// mailbox that takes far longer. Each run goes on where the last one stopped.
func TestARunStopsWhenItsWindowCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, world, conn, mailbox := newBackUp(t)
		ctx, source := t.Context(), &slowBox{n: 100, takes: time.Minute}
		var plan backup.Schedule
		for d := time.Sunday; d <= time.Saturday; d++ {
			plan.Windows = append(plan.Windows, backup.Window{Day: d, From: 60, To: 70})
		}
		if err := w.Store.SaveSchedule(ctx, world.Contoso.ID, plan, world.Ada); err != nil {
			t.Fatal(err)
		}
		nights := 0
		for {
			opens, closes := plan.Span(time.Now())
			time.Sleep(time.Until(opens))
			run, m := w.try(t, conn, mailbox.ID, source)
			if nights++; nights > 10 {
				t.Fatal("the mailbox is never through")
			}
			if run.State == backup.RunSucceeded {
				if m.Status != backup.StatusProtected || m.Items != 100 {
					t.Errorf("after the last night the mailbox is %s with %d messages", m.Status, m.Items)
				}
				break
			}
			if run.State != backup.RunInterrupted || run.Problem.Kind != backup.ProblemHeld || run.NewItems == 0 {
				t.Fatalf("night %d: the run is %s with %+v and %d new messages", nights, run.State, run.Problem, run.NewItems)
			}
			if late := run.EndedAt.Sub(closes); late > 2*allowedEvery {
				t.Errorf("night %d: the run ended %s after the window closed", nights, late)
			}
			if m.Status != backup.StatusPending || m.Failures != 0 {
				t.Errorf("night %d: the mailbox is %s after %d failures, want pending", nights, m.Status, m.Failures)
			}
			if due, err := w.Store.DueMailboxes(ctx, time.Now(), 10); err != nil || len(due) != 0 {
				t.Errorf("night %d: %d are due after the window closed, %v", nights, len(due), err)
			}
			time.Sleep(time.Hour)
		}
		total := 0
		for _, n := range source.read {
			total += n
		}
		// What was being read when the window closed is read again.
		if most := 100 + 2*4*(nights-1); nights < 3 || total < 100 || total > most {
			t.Errorf("%d messages were read in %d nights, want 100 to %d in some", total, nights, most)
		}
	})
}

// TestAPersonsBackupGoesOn runs outside of the window, since somebody asked; a
// pause stops the schedule's, and a suspension both.
func TestAPersonsBackupGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, world, conn, mailbox := newBackUp(t)
		ctx, source := t.Context(), &slowBox{n: 40, takes: time.Minute}
		if err := w.Store.PauseBackups(ctx, world.Contoso.ID, "Exchange is moved", world.Ada); err != nil {
			t.Fatal(err)
		}
		if run, m := w.try(t, conn, mailbox.ID, source); run.State != backup.RunInterrupted || m.Status != backup.StatusPending {
			t.Errorf("while paused: the run is %s, the mailbox %s", run.State, m.Status)
		}
		if err := w.Store.BackUpNow(ctx, world.Contoso.ID, mailbox.ID, world.Ada); err != nil {
			t.Fatal(err)
		}
		run, m := w.try(t, conn, mailbox.ID, source)
		if run.State != backup.RunSucceeded || m.Items != 40 || !m.AskedAt.IsZero() {
			t.Errorf("asked for: the run is %s with %d messages, asked at %s", run.State, m.Items, m.AskedAt)
		}
		source.n = 80
		if err := w.Store.BackUpNow(ctx, world.Contoso.ID, mailbox.ID, world.Ada); err != nil {
			t.Fatal(err)
		}
		if err := w.Store.SetSuspended(ctx, world.Contoso.PartnerID, world.Contoso.ID, true, "Not paid", world.Owner); err != nil {
			t.Fatal(err)
		}
		if run, m := w.try(t, conn, mailbox.ID, source); run.State != backup.RunInterrupted || m.AskedAt.IsZero() {
			t.Errorf("suspended: the run is %s, asked at %s", run.State, m.AskedAt)
		}
	})
}

// aheadBox is a mailbox that wants to hear what it will be asked for.
type aheadBox struct {
	slowBox
	all      bool
	expected []string
}

func (b *aheadBox) ExpectAll() { b.all = true }

func (b *aheadBox) Expect(_ context.Context, items []engine.ItemState) {
	for _, i := range items {
		b.expected = append(b.expected, i.ID)
	}
}

// TestRunTellsTheProviderWhatComes runs a backup as a worker does: what holds the
// bandwidth must not keep from the provider which messages are new.
func TestRunTellsTheProviderWhatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, conn, mailbox := newBackUp(t)
		source := &aheadBox{slowBox: slowBox{n: 3}}
		if run, _ := w.try(t, conn, mailbox.ID, source); run.State != backup.RunSucceeded {
			t.Fatalf("the run is %s", run.State)
		}
		if want := []string{"m0", "m1", "m2"}; !source.all || !slices.Equal(source.expected, want) {
			t.Errorf("the provider was told of %v, want %v; that all are new: %t", source.expected, want, source.all)
		}
	})
}

// TestRunsShareTheBandwidth runs two mailboxes of an organization at the same
// time, and two of another organization, which is not limited.
func TestRunsShareTheBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w, _, _ := newBackUp(t)
		st := b.Store
		if err := st.SaveSchedule(t.Context(), w.Contoso.ID, backup.Schedule{BytesPerSecond: 8 * backup.Mbit}, w.Ada); err != nil {
			t.Fatal(err)
		}
		turn := 0
		took := func(org backup.OrgID) time.Duration {
			turn++
			start := time.Now()
			b.setBandwidth(t.Context(), org)
			var runs sync.WaitGroup
			for n := range 2 {
				runs.Go(func() {
					m := backup.Mailbox{OrgID: org, ID: backup.MailboxID(fmt.Sprintf("BOX%d%d", turn, n))}
					result, err := b.run(t.Context(), m, &backup.Run{}, &slowBox{n: 1, size: 5_000_000})
					if err != nil || result.Run.ReadBytes < 5_000_000 {
						t.Errorf("%d bytes, %v", result.Run.ReadBytes, err)
					}
				})
			}
			runs.Wait()
			return time.Since(start)
		}
		// 10 MB at 1 MB/s, less what may come at once.
		if d := took(w.Contoso.ID); d < 9*time.Second || d > 11*time.Second {
			t.Errorf("the limited ones took %s, want about 10 s", d)
		}
		if d := took(w.Fabrikam.ID); d > time.Second {
			t.Errorf("the others took %s", d)
		}
		if err := st.SaveSchedule(t.Context(), w.Contoso.ID, backup.Schedule{}, w.Ada); err != nil {
			t.Fatal(err)
		}
		if d := took(w.Contoso.ID); d > time.Second {
			t.Errorf("without a limit they took %s", d)
		}
	})
}
