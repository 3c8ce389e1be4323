package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
)

const runColumns = `r.id, r.org_id, r.mailbox_id, r.state, r.trigger_kind, r.started_at, r.beat_at, r.ended_at, r.snapshot, r.folders_done, r.folders_total,
	r.items_done, r.items_total, r.new_items, r.moved_items, r.changed_items, r.removed_items, r.failed_items, r.read_bytes, r.stored_bytes, r.problem`

// runFields are the places for runColumns; finish completes r after the scan.
func runFields(r *backup.Run) (fields []any, finish func()) {
	var started, beat, ended int64
	var problem string
	return []any{&r.ID, &r.OrgID, &r.MailboxID, &r.State, &r.Trigger, &started, &beat, &ended, &r.Snapshot, &r.FoldersDone, &r.FoldersTotal,
			&r.ItemsDone, &r.ItemsTotal, &r.NewItems, &r.MovedItems, &r.ChangedItems, &r.RemovedItems, &r.FailedItems, &r.ReadBytes, &r.StoredBytes, &problem},
		func() {
			r.StartedAt, r.BeatAt, r.EndedAt, r.Problem = moment(started), moment(beat), moment(ended), problemOf(problem)
		}
}

func scanRun(row scanner) (backup.Run, error) {
	var r backup.Run
	fields, finish := runFields(&r)
	err := row.Scan(fields...)
	finish()
	return r, err
}

// MailboxRun is a run with the mailbox it was of.
type MailboxRun struct {
	backup.Run
	Name    string
	Address string
}

func scanMailboxRun(row scanner) (MailboxRun, error) {
	var r MailboxRun
	fields, finish := runFields(&r.Run)
	err := row.Scan(append(fields, &r.Name, &r.Address)...)
	finish()
	return r, err
}

// StartRun opens a run and marks its mailbox as running. A mailbox has one
// open run: another is backup.ErrConflict.
func (s *Store) StartRun(ctx context.Context, r backup.Run) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO runs (id, org_id, mailbox_id, state, trigger_kind, started_at, beat_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			r.ID, r.OrgID, r.MailboxID, r.State, r.Trigger, millis(r.StartedAt), millis(r.BeatAt)); err != nil {
			return fmt.Errorf("start run: %w", conflict(err))
		}
		_, err := s.changeMailbox(ctx, tx, r.OrgID, r.MailboxID, func(m *backup.Mailbox) { m.Running = true })
		return err
	})
}

// BeatRun writes the progress of an open run and that it lives.
func (s *Store) BeatRun(ctx context.Context, r backup.Run) error { return s.writeRun(ctx, s.db, r) }

func (s *Store) writeRun(ctx context.Context, q querier, r backup.Run) error {
	return execOne(ctx, q, `
		UPDATE runs SET state = $1, beat_at = $2, ended_at = $3, snapshot = $4, folders_done = $5, folders_total = $6, items_done = $7, items_total = $8,
			new_items = $9, moved_items = $10, changed_items = $11, removed_items = $12, failed_items = $13, read_bytes = $14, stored_bytes = $15, problem = $16
		WHERE org_id = $17 AND id = $18 AND state = 'running'`,
		r.State, millis(r.BeatAt), millis(r.EndedAt), r.Snapshot, r.FoldersDone, r.FoldersTotal, r.ItemsDone, r.ItemsTotal,
		r.NewItems, r.MovedItems, r.ChangedItems, r.RemovedItems, r.FailedItems, r.ReadBytes, r.StoredBytes, problemText(r.Problem), r.OrgID, r.ID)
}

// FinishRun closes a run and applies change to its mailbox in one transaction.
// A run that was closed as interrupted meanwhile is backup.ErrNotFound.
func (s *Store) FinishRun(ctx context.Context, r backup.Run, change func(*backup.Mailbox)) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if r.BeatAt.Before(r.EndedAt) {
			r.BeatAt = r.EndedAt
		}
		if err := s.writeRun(ctx, tx, r); err != nil {
			return fmt.Errorf("finish run: %w", err)
		}
		if _, err := s.changeMailbox(ctx, tx, r.OrgID, r.MailboxID, func(m *backup.Mailbox) {
			m.Running = false
			change(m)
		}); err != nil {
			return fmt.Errorf("save the mailbox of run %s: %w", r.ID, err)
		}
		failed := 0
		if r.State == backup.RunFailed {
			failed = 1
		}
		if r.NewItems == 0 && r.ReadBytes == 0 && failed == 0 {
			return nil
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO day_figures (org_id, day, new_items, read_bytes, failed_runs) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (org_id, day) DO UPDATE SET new_items = day_figures.new_items + excluded.new_items, read_bytes = day_figures.read_bytes + excluded.read_bytes,
				failed_runs = day_figures.failed_runs + excluded.failed_runs`,
			r.OrgID, dayOf(r.EndedAt), r.NewItems, r.ReadBytes, failed)
		return err
	})
}

// dayOf is the day of t, counted from 1970 in UTC.
func dayOf(t time.Time) int64 { return t.UnixMilli() / (24 * time.Hour).Milliseconds() }

// InterruptRuns closes runs whose last sign of life is older than beat: their
// process is gone. Their mailboxes are due at once. It returns how many.
func (s *Store) InterruptRuns(ctx context.Context, beat time.Time) (int, error) {
	open, err := collect(ctx, s.read, scanRun, `SELECT `+runColumns+` FROM runs r WHERE r.state = 'running' AND r.beat_at < $1`, millis(beat))
	if err != nil {
		return 0, fmt.Errorf("find runs left open: %w", err)
	}
	n := 0
	for _, r := range open {
		r.State, r.EndedAt = backup.RunInterrupted, time.Now()
		err := s.FinishRun(ctx, r, func(m *backup.Mailbox) {
			if m.Deactivated == backup.NotDeactivated {
				m.NextRunAt = time.Now()
			}
		})
		if errors.Is(err, backup.ErrNotFound) {
			continue // it ended by itself in between
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Runs returns an organization's latest runs, the newest first.
func (s *Store) Runs(ctx context.Context, org backup.OrgID, limit int) ([]MailboxRun, error) {
	return collect(ctx, s.read, scanMailboxRun, `SELECT `+runColumns+`, m.name, m.address FROM runs r JOIN mailboxes m ON m.id = r.mailbox_id
		WHERE r.org_id = $1 ORDER BY r.started_at DESC, r.id DESC LIMIT $2`, org, limit)
}

// RunningRuns returns an organization's open runs, the oldest first.
func (s *Store) RunningRuns(ctx context.Context, org backup.OrgID) ([]MailboxRun, error) {
	return collect(ctx, s.read, scanMailboxRun, `SELECT `+runColumns+`, m.name, m.address FROM runs r JOIN mailboxes m ON m.id = r.mailbox_id
		WHERE r.org_id = $1 AND r.state = 'running' ORDER BY r.started_at, r.id`, org)
}

// MailboxRuns returns the latest runs of one mailbox, the newest first.
func (s *Store) MailboxRuns(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, limit int) ([]backup.Run, error) {
	return collect(ctx, s.read, scanRun, `SELECT `+runColumns+` FROM runs r WHERE r.org_id = $1 AND r.mailbox_id = $2 ORDER BY r.started_at DESC, r.id DESC LIMIT $3`, org, mailbox, limit)
}

// DayFigures returns the new data of the last days, oldest first, today last;
// a day without any has zeros.
func (s *Store) DayFigures(ctx context.Context, org backup.OrgID, days int) ([]backup.DayFigure, error) {
	today := dayOf(time.Now())
	list := make([]backup.DayFigure, days)
	for i := range list {
		list[i].Day = time.UnixMilli((today - int64(days-1-i)) * (24 * time.Hour).Milliseconds()).UTC()
	}
	rows, err := s.read.QueryContext(ctx, `SELECT day, new_items, read_bytes, failed_runs FROM day_figures WHERE org_id = $1 AND day > $2 AND day <= $3`, org, today-int64(days), today)
	if err != nil {
		return nil, fmt.Errorf("read day figures: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var day, items, bytes, failed int64
		if err := rows.Scan(&day, &items, &bytes, &failed); err != nil {
			return nil, fmt.Errorf("read day figures: %w", err)
		}
		f := &list[int64(days-1)-(today-day)]
		f.NewItems, f.ReadBytes, f.FailedRuns = items, bytes, failed
	}
	return list, rows.Err()
}

// Summary is what the dashboard says about an organization's last backup.
type Summary struct {
	LastRunAt time.Time // end of the last successful run, zero if none
	NextRunAt time.Time // when the next mailbox is due, zero if none
	NewItems  int64     // today
	ReadBytes int64     // today
}

// Summary returns when the last run of an organization succeeded and when the
// next is due.
func (s *Store) Summary(ctx context.Context, org backup.OrgID) (Summary, error) {
	var v Summary
	var last, next int64
	err := s.read.QueryRowContext(ctx, `SELECT
		coalesce((SELECT max(last_run_at) FROM mailboxes WHERE org_id = $1 AND selected = TRUE), 0),
		coalesce((SELECT next_run_at FROM mailboxes WHERE org_id = $1 AND selected = TRUE AND next_run_at > 0 ORDER BY next_run_at LIMIT 1), 0),
		coalesce((SELECT new_items FROM day_figures WHERE org_id = $1 AND day = $2), 0),
		coalesce((SELECT read_bytes FROM day_figures WHERE org_id = $1 AND day = $2), 0)`, org, dayOf(time.Now())).
		Scan(&last, &next, &v.NewItems, &v.ReadBytes)
	v.LastRunAt, v.NextRunAt = moment(last), moment(next)
	if err != nil {
		return v, fmt.Errorf("read summary: %w", err)
	}
	return v, nil
}
