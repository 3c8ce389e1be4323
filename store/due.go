package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

// The queue of backups is kept shallow, so that who falls due later does not
// stand behind all of a large organization: every filling takes turns anew.
const (
	// fillFactor is how many backups there are in the queue, those that run
	// among them, for each mailbox that the workers back up at the same time.
	fillFactor = 2
	// askedAtOnce is how many backups that people asked for an organization has
	// before the schedule's; more wait for its turns like the schedule's.
	askedAtOnce = 4
)

// River's priorities of backups: a person waits for the one asked for.
const (
	priorityAsked    = 1
	prioritySchedule = 2
)

// DueMailboxes returns at most limit mailboxes of all organizations that are
// due and not running, taking turns between the organizations so that a large
// one does not hold up a small one. Those of an organization whose window is not
// open, or whose backups are paused, are left out unless a person asked.
func (s *Store) DueMailboxes(ctx context.Context, now time.Time, limit int) ([]backup.Mailbox, error) {
	list, err := collect(ctx, s.read, scanMailbox, dueSQL, millis(now), limit)
	if err != nil {
		return nil, fmt.Errorf("find due mailboxes: %w", err)
	}
	return list, nil
}

// dueSQL goes through the organizations and only then through their mailboxes,
// so that one that is held back costs nothing however much of it is due; SQLite
// takes CROSS JOIN for the order, and + for no other index.
const dueSQL = `
	SELECT ` + mailboxColumns + ` FROM (
		SELECT due_id, due_at, row_number() OVER (PARTITION BY due_org ORDER BY due_at, due_id) AS turn FROM (
			SELECT m.id AS due_id, m.org_id AS due_org, m.next_run_at AS due_at FROM organizations o CROSS JOIN mailboxes m
			WHERE o.suspended_at = 0 AND o.opens_at <= $1 AND o.closes_at > $1
				AND m.org_id = o.id AND m.next_run_at > 0 AND m.next_run_at <= $1 AND m.selected = TRUE AND m.running = FALSE AND m.asked_at = 0
			UNION ALL
			SELECT m.id, m.org_id, m.next_run_at FROM mailboxes m JOIN organizations o ON o.id = m.org_id
			WHERE m.asked_at > 0 AND o.suspended_at = 0 AND +m.next_run_at > 0 AND +m.next_run_at <= $1 AND m.selected = TRUE AND m.running = FALSE
		) AS ready ORDER BY turn, due_at, due_id LIMIT $2
	) AS due CROSS JOIN mailboxes WHERE id = due_id ORDER BY turn, due_at, id`

// FillBackups tops the queue of backups up with due mailboxes, to twice what
// the living workers do at the same time. The organization with the fewest
// backups in the queue is always next. It returns how many it added.
//
// Two processes that fill at once may add a few more than that, which the next
// fillings leave out; a mailbox is never in the queue twice.
func (s *Store) FillBackups(ctx context.Context, now time.Time) (int, error) {
	if err := s.turnWindows(ctx, now); err != nil {
		return 0, err
	}
	slots, err := one(ctx, s.read, scanValue[int], `SELECT coalesce(sum(slots), 0) FROM workers WHERE alive_until > $1`, millis(now))
	if err != nil {
		return 0, fmt.Errorf("count the workers' slots: %w", err)
	}
	open, err := openBackups(ctx, s.read)
	if err != nil {
		return 0, err
	}
	want := fillFactor*max(slots, 1) - len(open)
	if want <= 0 {
		return 0, nil
	}
	// Of the first want + 2·open by plain turns, at most open are in the queue
	// themselves, and at most open have their turn put off by one that is.
	due, err := s.DueMailboxes(ctx, now, want+2*len(open))
	if err != nil {
		return 0, err
	}
	next := nextByTurn(due, open, want)
	for _, m := range next {
		if err := s.Enqueue(ctx, backup.BackupJob{OrgID: m.OrgID, MailboxID: m.ID}); err != nil {
			return 0, fmt.Errorf("queue mailbox %s: %w", m.ID, err)
		}
	}
	return len(next), nil
}

// fillAfter fills the queue after mailboxes became due.
func (s *Store) fillAfter(ctx context.Context, err error) error {
	if err == nil {
		// What became due is saved: if this fails, the schedule queues it.
		_, _ = s.FillBackups(ctx, time.Now())
	}
	return err
}

// openBackups are the backups that wait or run in the queue.
func openBackups(ctx context.Context, q querier) ([]backup.BackupJob, error) {
	jobs, err := collect(ctx, q, scanBackupJob,
		`SELECT `+backupJobColumns+` FROM river_job WHERE state IN ('available', 'pending', 'retryable', 'running', 'scheduled') AND queue = $1`, QueueBackup)
	if err != nil {
		return nil, fmt.Errorf("read the queue of backups: %w", err)
	}
	return jobs, nil
}

// backupJobColumns are the arguments of a backup in the queue.
const backupJobColumns = `args ->> 'org_id', args ->> 'mailbox_id'`

func scanBackupJob(row scanner) (backup.BackupJob, error) {
	var job backup.BackupJob
	err := row.Scan(&job.OrgID, &job.MailboxID)
	return job, err
}

// nextByTurn chooses want of the due mailboxes, which are in the order of plain
// turns, so that the organization with the fewest backups, those that are open
// in the queue and those chosen before, is always next.
func nextByTurn(due []backup.Mailbox, open []backup.BackupJob, want int) []backup.Mailbox {
	queued, turn := map[backup.BackupJob]bool{}, map[backup.OrgID]int{}
	for _, job := range open {
		queued[job] = true
		turn[job.OrgID]++
	}
	type place struct {
		backup.Mailbox
		turn int
	}
	places := make([]place, 0, len(due))
	for _, m := range due {
		if queued[backup.BackupJob{OrgID: m.OrgID, MailboxID: m.ID}] {
			continue
		}
		turn[m.OrgID]++
		places = append(places, place{m, turn[m.OrgID]})
	}
	slices.SortStableFunc(places, func(a, b place) int { return a.turn - b.turn })
	next := make([]backup.Mailbox, 0, want)
	for _, p := range places[:min(want, len(places))] {
		next = append(next, p.Mailbox)
	}
	return next
}

// enqueueAsked queues a backup that a person asked for, before those of the
// schedule.
func (s *Store) enqueueAsked(ctx context.Context, tx *sql.Tx, job backup.BackupJob) error {
	asked, err := collect(ctx, tx, scanBackupJob, `SELECT `+backupJobColumns+` FROM river_job WHERE state = 'available' AND queue = $1 AND priority = $2`, QueueBackup, priorityAsked)
	if err != nil {
		return fmt.Errorf("count backups asked for: %w", err)
	}
	asked = slices.DeleteFunc(asked, func(other backup.BackupJob) bool { return other.OrgID != job.OrgID })
	if len(asked) >= askedAtOnce {
		return nil // it is due, and has its turn
	}
	opts := insertOpts(job)
	opts.Priority = priorityAsked
	results, err := s.queue.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job, InsertOpts: opts}})
	if err != nil {
		return fmt.Errorf("queue the backup of mailbox %s: %w", job.MailboxID, err)
	}
	for _, r := range results {
		if !r.UniqueSkippedAsDuplicate {
			continue
		}
		if _, err := tx.ExecContext(ctx, `UPDATE river_job SET priority = $1 WHERE id = $2 AND state = 'available'`, priorityAsked, r.Job.ID); err != nil {
			return fmt.Errorf("bring the backup of mailbox %s forward: %w", job.MailboxID, err)
		}
	}
	return nil
}

// PostponeMailbox makes a mailbox due at next at the earliest; one whose backup
// did not even begin must not stand before its organization's others.
func (s *Store) PostponeMailbox(ctx context.Context, org backup.OrgID, id backup.MailboxID, next time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE mailboxes SET next_run_at = $1 WHERE org_id = $2 AND id = $3 AND next_run_at > 0 AND next_run_at < $1 AND running = FALSE`, millis(next), org, id)
	return err
}
