package store

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"holdfast/backup"
)

// The queues: backups never hold up a person in the wizard, or one who waits for
// a restore, and checks of the repository hold up nobody.
const (
	QueueBackup  = "backup"
	QueueSetup   = "setup"
	QueueRestore = "restore"
	QueueUpkeep  = "upkeep"
	QueueExport  = "export"
	QueueDelete  = "delete"
)

// River returns a client of the job queue in this database.
func (s *Store) River(cfg *river.Config) (*river.Client[*sql.Tx], error) {
	return river.NewClient(s.driver, cfg)
}

// insertOpts says how a job is kept: once per arguments while it waits or runs.
func insertOpts(args river.JobArgs) *river.InsertOpts {
	opts := &river.InsertOpts{Queue: QueueSetup, MaxAttempts: 6, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled,
	}}}
	switch args.Kind() {
	case (backup.BackupJob{}).Kind():
		opts.Queue, opts.MaxAttempts, opts.Priority = QueueBackup, 1, prioritySchedule
	case (backup.RestoreJob{}).Kind():
		opts.Queue, opts.MaxAttempts = QueueRestore, 1
	case (backup.UpkeepJob{}).Kind():
		opts.Queue, opts.MaxAttempts = QueueUpkeep, 1
	case (backup.DeleteOrganizationJob{}).Kind():
		opts.Queue, opts.MaxAttempts = QueueDelete, 1
	case (backup.ExportJob{}).Kind():
		opts.Queue, opts.MaxAttempts = QueueExport, 1
	}
	return opts
}

// Enqueue puts a job into the queue, unless the same one waits there.
func (s *Store) Enqueue(ctx context.Context, args river.JobArgs) error {
	return s.inTx(ctx, func(tx *sql.Tx) error { return s.enqueueTx(ctx, tx, args) })
}

func (s *Store) enqueueTx(ctx context.Context, tx *sql.Tx, jobs ...river.JobArgs) error {
	if len(jobs) == 0 {
		return nil
	}
	params := make([]river.InsertManyParams, len(jobs))
	for i, args := range jobs {
		params[i] = river.InsertManyParams{Args: args, InsertOpts: insertOpts(args)}
	}
	if _, err := s.queue.InsertManyTx(ctx, tx, params); err != nil {
		return fmt.Errorf("queue %s: %w", jobs[0].Kind(), err)
	}
	return nil
}

// RegisterWorker says that the process id works jobs, backs up as many mailboxes
// at the same time as it has slots, and is alive for life from now on. On SQLite, which serves one process, it is the only one.
func (s *Store) RegisterWorker(ctx context.Context, id string, slots int, life time.Duration) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if s.dialect == dialectSQLite {
			if _, err := tx.ExecContext(ctx, `DELETE FROM workers WHERE id <> $1`, id); err != nil {
				return fmt.Errorf("forget dead workers: %w", err)
			}
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO workers (id, alive_until, slots) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until, slots = excluded.slots`, id, millis(time.Now().Add(life)), slots)
		if err != nil {
			return fmt.Errorf("register worker %s: %w", id, err)
		}
		return nil
	})
}

// RemoveWorker says that the process id works no more.
func (s *Store) RemoveWorker(ctx context.Context, id string) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM workers WHERE id = $1`, id)
	return err
}

// Workers returns how many living processes back up mailboxes.
func (s *Store) Workers(ctx context.Context, now time.Time) (int, error) {
	return one(ctx, s.read, scanValue[int], `SELECT count(*) FROM workers WHERE alive_until > $1 AND slots > 0`, millis(now))
}

// ReleaseDeadJobs gives jobs back to the queue whose process is not alive. It
// returns how many. InterruptRuns closes the runs that they left open.
func (s *Store) ReleaseDeadJobs(ctx context.Context) (int, error) {
	alive, err := collect(ctx, s.read, scanValue[string], `SELECT id FROM workers WHERE alive_until > $1`, millis(time.Now()))
	if err != nil {
		return 0, fmt.Errorf("list workers: %w", err)
	}
	living := make(map[string]bool, len(alive))
	for _, id := range alive {
		living[id] = true
	}
	running, err := s.queue.JobList(ctx, river.NewJobListParams().States(rivertype.JobStateRunning).First(1000))
	if err != nil {
		return 0, fmt.Errorf("list running jobs: %w", err)
	}
	n := 0
	for _, job := range running.Jobs {
		if len(job.AttemptedBy) > 0 && living[job.AttemptedBy[len(job.AttemptedBy)-1]] {
			continue
		}
		res, err := s.db.ExecContext(ctx, `UPDATE river_job SET state = 'available' WHERE id = $1 AND state = 'running' AND attempt = $2`, job.ID, job.Attempt)
		if err != nil {
			return n, fmt.Errorf("release job %d: %w", job.ID, err)
		}
		if changed, err := res.RowsAffected(); err == nil {
			n += int(changed)
		}
	}
	return n, nil
}

// discardLog drops the queue's own lines.
var discardLog = slog.New(slog.DiscardHandler)
