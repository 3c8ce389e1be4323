package store

import (
	"context"
	"fmt"
	"time"

	"holdfast/backup"
)

// Load is how much work there is, over all organizations; for operators.
type Load struct {
	Jobs      []JobCount          // that are not finished
	Mailboxes backup.StatusCounts // selected ones by status
	Due       int                 // mailboxes whose run is due and may begin
	OldestDue time.Time           // since when the first of them waits, its window open; zero if none
	Running   int                 // runs under way
}

// JobCount counts jobs of the queue.
type JobCount struct {
	Queue, Kind, State string
	N                  int
}

// Load reads how much work there is at time now.
func (s *Store) Load(ctx context.Context, now time.Time) (Load, error) {
	l := Load{Mailboxes: backup.StatusCounts{}}
	var err error
	l.Jobs, err = collect(ctx, s.read, func(row scanner) (JobCount, error) {
		var c JobCount
		err := row.Scan(&c.Queue, &c.Kind, &c.State, &c.N)
		return c, err
	}, `SELECT queue, kind, state, count(*) FROM river_job WHERE finalized_at IS NULL GROUP BY queue, kind, state ORDER BY queue, kind, state`)
	if err != nil {
		return l, fmt.Errorf("count jobs: %w", err)
	}
	type count struct {
		status backup.Status
		n      int
	}
	counts, err := collect(ctx, s.read, func(row scanner) (count, error) {
		var c count
		err := row.Scan(&c.status, &c.n)
		return c, err
	}, `SELECT status, count(*) FROM mailboxes WHERE selected = TRUE GROUP BY status`)
	if err != nil {
		return l, fmt.Errorf("count mailboxes: %w", err)
	}
	for _, c := range counts {
		l.Mailboxes[c.status] = c.n
	}
	var oldest int64
	if err := s.read.QueryRowContext(ctx, `
		SELECT count(*), coalesce(min(CASE WHEN m.next_run_at < o.opens_at AND m.asked_at = 0 THEN o.opens_at ELSE m.next_run_at END), 0) FROM organizations o CROSS JOIN mailboxes m
		WHERE o.suspended_at = 0 AND m.org_id = o.id AND m.next_run_at > 0 AND m.next_run_at <= $1 AND (m.asked_at > 0 OR (o.opens_at <= $1 AND o.closes_at > $1))`,
		millis(now)).Scan(&l.Due, &oldest); err != nil {
		return l, fmt.Errorf("find due mailboxes: %w", err)
	}
	l.OldestDue = moment(oldest)
	if l.Running, err = one(ctx, s.read, scanValue[int], `SELECT count(*) FROM runs WHERE state = 'running'`); err != nil {
		return l, fmt.Errorf("count runs: %w", err)
	}
	return l, nil
}
