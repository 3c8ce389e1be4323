package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestASmallOrganizationDoesNotWaitForALargeOne has four slots, one organization
// with 2,000 due mailboxes, and one whose five fall due when twenty of those
// are done. Four backups run then and four wait: the five begin among the next
// few after those.
func TestASmallOrganizationDoesNotWaitForALargeOne(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		const slots = 4
		if err := st.RegisterWorker(ctx, "worker", slots, time.Hour); err != nil {
			t.Fatal(err)
		}
		connect(t, st, w.Ada, 2000)
		began, end := backEverythingUp(t, st, slots)
		for range 20 {
			if org := <-began; org != w.Contoso.ID {
				t.Fatalf("a backup of %s began, want the only organization's", org)
			}
			end <- struct{}{}
		}
		connect(t, st, w.Otto, 5)
		small, n := 0, 0
		for small < 5 && n < 100 {
			if <-began == w.Fabrikam.ID {
				small++
			}
			n++
			end <- struct{}{}
		}
		t.Logf("five of five began among %d", n)
		if small != 5 || n > 5*slots {
			t.Errorf("%d of five began among %d, want all among %d", small, n, 5*slots)
		}
	})
}

// connect selects n accounts of by's organization, which are due then.
func connect(t *testing.T, st *store.Store, by backup.Actor, n int) {
	t.Helper()
	accounts := make([]backup.Mailbox, n)
	for i := range accounts {
		accounts[i] = storetest.Account(fmt.Sprintf("m%04d", i))
	}
	storetest.Connect(t, st, by, "tenant-"+string(by.Org.ID), accounts...)
}

// backEverythingUp works the queue of backups, refilling it. Every run says on
// began whose it is, and ends when it is let go by end.
func backEverythingUp(t *testing.T, st *store.Store, slots int) (began <-chan backup.OrgID, end chan<- struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	starts, ends := make(chan backup.OrgID, 10_000), make(chan struct{}, 10_000)
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[backup.BackupJob]) error {
		run := backup.Run{ID: backup.NewID[backup.RunID](), OrgID: job.Args.OrgID, MailboxID: job.Args.MailboxID, State: backup.RunRunning, StartedAt: time.Now(), BeatAt: time.Now()}
		if err := st.StartRun(ctx, run); err != nil {
			return err
		}
		starts <- run.OrgID
		select {
		case <-ends:
		case <-ctx.Done():
		}
		run.State, run.EndedAt = backup.RunSucceeded, time.Now()
		return st.FinishRun(context.WithoutCancel(ctx), run, func(m *backup.Mailbox) {
			m.LastRunAt, m.NextRunAt = run.EndedAt, run.EndedAt.Add(time.Hour)
		})
	}))
	client, err := st.River(&river.Config{ID: "worker", Workers: workers, Queues: map[string]river.QueueConfig{store.QueueBackup: {MaxWorkers: slots}},
		FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ended, _ := client.Subscribe(backupEnds...)
	if err := client.Start(ctx); err != nil {
		t.Fatal(err)
	}
	r, done := &Runner{Store: st, Log: slog.New(slog.DiscardHandler)}, make(chan struct{})
	go func() { defer close(done); r.refill(ctx, ended) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := client.StopAndCancel(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return starts, ends
}
