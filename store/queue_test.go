package store_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestAJobIsQueuedOnceWhileItWaitsOrRuns clicks twice.
func TestAJobIsQueuedOnceWhileItWaitsOrRuns(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx := t.Context()
		job := backup.BackupJob{OrgID: "ORG", MailboxID: "BOX"}
		enqueue := func() {
			t.Helper()
			if err := st.Enqueue(ctx, job); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			enqueue()
		}
		if n := waiting(t, st, job.Kind()); n != 1 {
			t.Errorf("%d jobs after three clicks, want 1", n)
		}
		if err := st.Enqueue(ctx, backup.BackupJob{OrgID: "ORG", MailboxID: "BOX2"}); err != nil {
			t.Fatal(err)
		}
		if n := waiting(t, st, job.Kind()); n != 2 {
			t.Errorf("%d jobs for two mailboxes, want 2", n)
		}
		started := make(chan struct{}, 2)
		release := make(chan struct{})
		workers := river.NewWorkers()
		river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, _ *river.Job[backup.BackupJob]) error {
			started <- struct{}{}
			<-release
			return nil
		}))
		client, err := st.River(&river.Config{Queues: map[string]river.QueueConfig{store.QueueBackup: {MaxWorkers: 2}}, Workers: workers, ID: "worker-1", FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		done, cancel := client.Subscribe(river.EventKindJobCompleted)
		defer cancel()
		if err := client.Start(ctx); err != nil {
			t.Fatal(err)
		}
		<-started
		<-started
		enqueue()
		if n := waiting(t, st, job.Kind()); n != 2 {
			t.Errorf("%d jobs while they run, want 2", n)
		}
		close(release)
		<-done
		<-done
		enqueue()
		if n := waiting(t, st, job.Kind()); n != 3 {
			t.Errorf("%d jobs with two done, want 3", n)
		}
		<-done
		if err := client.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("Stop = %v", err)
		}
	})
}

// TestJobsOfADeadProcessAreReleased leaves a running job behind, as kill -9 does.
func TestJobsOfADeadProcessAreReleased(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx := t.Context()
		if err := st.Enqueue(ctx, backup.BackupJob{OrgID: "ORG", MailboxID: "BOX"}); err != nil {
			t.Fatal(err)
		}
		if err := st.RegisterWorker(ctx, "dead", 1, time.Hour); err != nil {
			t.Fatal(err)
		}
		attempted := `'["dead"]'`
		if strings.HasSuffix(t.Name(), "/postgres") {
			attempted = `'{dead}'`
		}
		if _, err := raw.ExecContext(ctx, `UPDATE river_job SET state = 'running', attempt = 1, attempted_at = CURRENT_TIMESTAMP, attempted_by = `+attempted); err != nil {
			t.Fatal(err)
		}
		if n, err := st.ReleaseDeadJobs(ctx); err != nil || n != 0 {
			t.Errorf("ReleaseDeadJobs of a living process = %d, %v", n, err)
		}
		if err := st.RemoveWorker(ctx, "dead"); err != nil {
			t.Fatal(err)
		}
		if n, err := st.ReleaseDeadJobs(ctx); err != nil || n != 1 {
			t.Errorf("ReleaseDeadJobs = %d, %v, want 1", n, err)
		}
		var state string
		if err := raw.QueryRowContext(ctx, `SELECT state FROM river_job`).Scan(&state); err != nil || state != "available" {
			t.Errorf("state = %s, %v", state, err)
		}
	})
}
