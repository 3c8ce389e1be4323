package store_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// queuedBackups are the backups in the queue in the order in which they begin,
// with their priorities.
func queuedBackups(t *testing.T, raw *sql.DB) (jobs []backup.BackupJob, priorities []int) {
	t.Helper()
	rows, err := raw.QueryContext(t.Context(), `SELECT args ->> 'org_id', args ->> 'mailbox_id', priority FROM river_job WHERE queue = 'backup' AND state = 'available' ORDER BY priority, scheduled_at, id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var priority int
		var job backup.BackupJob
		if err := rows.Scan(&job.OrgID, &job.MailboxID, &priority); err != nil {
			t.Fatal(err)
		}
		jobs, priorities = append(jobs, job), append(priorities, priority)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return jobs, priorities
}

// numbered are n accounts for storetest.Connect.
func numbered(n int) []backup.Mailbox {
	list := make([]backup.Mailbox, n)
	for i := range list {
		list[i] = storetest.Account(fmt.Sprintf("m%02d", i))
	}
	return list
}

// TestTheQueueOfBackupsStaysShallow fills it again and again, and loses its jobs.
func TestTheQueueOfBackupsStaysShallow(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		storetest.Connect(t, st, w.Ada, "tenant-1", numbered(30)...)
		fill := func(when string, contoso, fabrikam int) {
			t.Helper()
			if _, err := st.FillBackups(ctx, time.Now()); err != nil {
				t.Fatal(err)
			}
			jobs, _ := queuedBackups(t, raw)
			of := map[backup.OrgID]int{}
			for _, job := range jobs {
				of[job.OrgID]++
			}
			if of[w.Contoso.ID] != contoso || of[w.Fabrikam.ID] != fabrikam {
				t.Errorf("%s: %d and %d backups are in the queue, want %d and %d", when, of[w.Contoso.ID], of[w.Fabrikam.ID], contoso, fabrikam)
			}
		}
		fill("without a worker", 2, 0)
		if err := st.RegisterWorker(ctx, "one", 6, time.Hour); err != nil {
			t.Fatal(err)
		}
		fill("with a worker", 12, 0)
		storetest.Connect(t, st, w.Otto, "tenant-2", numbered(5)...)
		fill("with another organization", 12, 0)
		jobs, _ := queuedBackups(t, raw)
		for _, job := range jobs[:3] {
			if _, err := raw.ExecContext(ctx, `DELETE FROM river_job WHERE id = (SELECT min(id) FROM river_job WHERE queue = 'backup')`); err != nil {
				t.Fatal(err)
			}
			if err := st.PostponeMailbox(ctx, job.OrgID, job.MailboxID, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		fill("with three places", 9, 3)
		if _, err := raw.ExecContext(ctx, `DELETE FROM river_job`); err != nil {
			t.Fatal(err)
		}
		fill("after all jobs were lost", 7, 5)
		if err := st.RegisterWorker(ctx, "one", 6, -time.Hour); err != nil {
			t.Fatal(err)
		}
		fill("when the worker is dead", 7, 5)
	})
}

// TestBackUpNowComesBeforeTheSchedule asks for backups of more mailboxes than
// come before those of the schedule, one of which waits in the queue already.
func TestBackUpNowComesBeforeTheSchedule(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		storetest.Connect(t, st, w.Ada, "tenant-1", numbered(10)...)
		before, _ := queuedBackups(t, raw)
		if len(before) != 2 {
			t.Fatalf("%d backups are in the queue, want 2", len(before))
		}
		asked := []backup.MailboxID{before[1].MailboxID}
		page, err := st.Mailboxes(ctx, w.Contoso.ID, store.MailboxQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Mailboxes {
			if m.ID != before[0].MailboxID && m.ID != before[1].MailboxID {
				asked = append(asked, m.ID)
			}
		}
		for _, id := range asked[:6] {
			if err := st.BackUpNow(ctx, w.Contoso.ID, id, w.Ada); err != nil {
				t.Fatal(err)
			}
		}
		jobs, priorities := queuedBackups(t, raw)
		if len(jobs) != 5 || priorities[3] != 1 || priorities[4] != 2 || jobs[4] != before[0] {
			t.Errorf("%v with priorities %v, want four asked for before the first of the schedule", jobs, priorities)
		}
		if jobs[0].MailboxID != asked[0] {
			t.Errorf("%s comes first, want the one that waited already, %s", jobs[0].MailboxID, asked[0])
		}
	})
}
