package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// backUp backs up one mailbox. What happened stands in its run; River never
// repeats it, since the schedule does.
type backUp struct {
	river.WorkerDefaults[backup.BackupJob]
	*Runner
}

// Timeout implements river.Worker: a first backup takes as long as it takes.
// A process that died is found by its missing beat instead.
func (*backUp) Timeout(*river.Job[backup.BackupJob]) time.Duration { return -1 }

// runLife is how long a run counts as alive after its last beat.
const runLife = 2 * time.Minute

// notBegunPause is how long a mailbox waits whose run could not be begun.
const notBegunPause = time.Minute

// Work implements river.Worker.
func (w *backUp) Work(ctx context.Context, job *river.Job[backup.BackupJob]) error {
	if held(w.Store.MayRun(ctx, job.Args.OrgID, job.Args.MailboxID, time.Now())) != nil {
		return nil // it was queued before; the mailbox stays due
	}
	begun, err := w.work(ctx, job.Args)
	if begun || ctx.Err() != nil {
		return err
	}
	return errors.Join(err, w.Store.PostponeMailbox(ctx, job.Args.OrgID, job.Args.MailboxID, time.Now().Add(notBegunPause)))
}

// work backs up the mailbox of a job and says whether its run began.
func (w *backUp) work(ctx context.Context, job backup.BackupJob) (begun bool, err error) {
	mailbox, err := w.Store.Mailbox(ctx, job.OrgID, job.MailboxID)
	if errors.Is(err, backup.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read mailbox %s: %w", job.MailboxID, err)
	}
	if !mailbox.Selected || mailbox.Deactivated != backup.NotDeactivated {
		return false, nil
	}
	conn, err := w.Store.Connection(ctx, mailbox.OrgID, mailbox.ConnectionID)
	if err != nil {
		return false, fmt.Errorf("read connection %s: %w", mailbox.ConnectionID, err)
	}
	provider, err := w.provider(conn)
	if err != nil {
		return false, err
	}
	source, err := provider.open(ctx, conn, mailbox)
	if err != nil {
		return false, err
	}
	defer source.Close() //nolint:errcheck // it was only read from
	return w.from(ctx, conn, mailbox, source)
}

// from backs a mailbox up from its source and says whether its run began.
func (w *backUp) from(ctx context.Context, conn backup.Connection, mailbox backup.Mailbox, source engine.Source) (begun bool, err error) {
	run := backup.Run{ID: backup.NewID[backup.RunID](), OrgID: mailbox.OrgID, MailboxID: mailbox.ID,
		State: backup.RunRunning, Trigger: trigger(mailbox), StartedAt: time.Now(), BeatAt: time.Now()}
	if err := w.Store.StartRun(ctx, run); errors.Is(err, backup.ErrConflict) {
		return false, nil // it is being backed up right now
	} else if err != nil {
		return false, fmt.Errorf("start run: %w", err)
	}
	allowed, end := w.whileAllowed(ctx, mailbox)
	result, runErr := w.run(allowed, mailbox, &run, source)
	why := end()
	stopped := ctx.Err() != nil
	if runErr != nil && why != nil {
		stopped, run.Problem, runErr = true, *why, nil
	}
	if err := w.finish(context.WithoutCancel(ctx), conn, run, result, runErr, stopped); err != nil {
		return true, fmt.Errorf("record run %s: %w", run.ID, err)
	}
	if runErr != nil {
		return true, river.JobCancel(fmt.Errorf("back up mailbox %s: %w", mailbox.ID, runErr))
	}
	w.settleDamages(ctx, mailbox.OrgID, mailbox.ID)
	return true, nil
}

func trigger(m backup.Mailbox) string {
	switch {
	case m.LastRunAt.IsZero():
		return "first"
	case !m.AskedAt.IsZero():
		return "manual"
	}
	return "schedule"
}

// run does the work, telling the store how far it is and that it lives.
func (w *backUp) run(ctx context.Context, m backup.Mailbox, run *backup.Run, source engine.Source) (engine.Result, error) {
	beat := newBeat(w.Store, *run, w.Worked, w.Log)
	defer beat.stop()
	result, err := w.Engine.Backup(ctx, engine.Job{Org: m.OrgID, Mailbox: m.ID, Source: source, Concurrency: 4, Progress: beat.progress, Pace: w.pace(m.OrgID)})
	*run = beat.stop()
	return result, err
}

// finish closes the run and sets the mailbox's status and next run.
func (w *backUp) finish(ctx context.Context, conn backup.Connection, run backup.Run, result engine.Result, runErr error, stopped bool) error {
	run.EndedAt = time.Now()
	switch {
	case stopped:
		run.State = backup.RunInterrupted
	case runErr != nil:
		run.State, run.Problem = backup.RunFailed, refused(conn, *backup.AsProblem(runErr))
	case result.DamagedItems > 0:
		run.State = backup.RunPartial
	default:
		run.State = backup.RunSucceeded
	}
	result.Fill(&run)
	if w.Ended != nil {
		w.Ended(run)
	}
	plan, err := w.Store.Schedule(ctx, run.OrgID)
	if err != nil {
		return err
	}
	every := cmp.Or(plan.Every, w.Every)
	if err := w.Store.FinishRun(ctx, run, func(m *backup.Mailbox) { settle(m, run, result, every) }); err != nil {
		return err
	}
	if conn.Provider == backup.ProviderIMAP {
		return w.settleIMAP(ctx, conn, run)
	}
	if run.State != backup.RunFailed {
		return nil
	}
	if !concernsConnection(run.Problem.Kind) && (run.Problem.Kind != backup.ProblemPermission || !conn.ByMainApplication()) {
		return nil
	}
	if err := w.Store.SetConnectionProblem(ctx, conn.OrgID, conn.ID, run.Problem); err != nil {
		return err
	}
	// Which application it is, and what exactly, is found out by asking as each.
	return w.Store.Enqueue(ctx, backup.CheckPermissionsJob{OrgID: conn.OrgID, ConnectionID: conn.ID})
}

// settle applies the rules of product.md to the mailbox after a run.
func settle(m *backup.Mailbox, run backup.Run, result engine.Result, every time.Duration) {
	now := run.EndedAt
	switch run.State {
	case backup.RunInterrupted:
		m.NextRunAt = now
		return
	case backup.RunFailed:
		m.Problem = run.Problem
		switch run.Problem.Kind {
		case backup.ProblemMailboxDeleted:
			m.Deactivated, m.DeactivatedBy, m.Failures = backup.DeactivatedDeleted, "", 0
		case backup.ProblemMailboxInactive:
			m.Licence, m.Failures = backup.LicenceNone, 0
		default:
			m.Failures++
		}
	default:
		m.Problem, m.Failures, m.LastRunAt = backup.Problem{}, 0, now
		m.Items, m.SizeBytes, m.DamagedItems = result.Items, result.SizeBytes, result.DamagedItems
	}
	m.Running, m.AskedAt = false, time.Time{}
	m.NextRunAt = backup.NextRun(now, every, backup.MailboxStatus(*m), m.Failures, run.Problem.RetryAfter)
}

// concernsConnection says that a problem of one mailbox is one of them all.
func concernsConnection(kind backup.ProblemKind) bool {
	switch kind {
	case backup.ProblemApplicationGone, backup.ProblemApplicationOff, backup.ProblemCredential, backup.ProblemConsentMissing:
		return true
	}
	return false
}
