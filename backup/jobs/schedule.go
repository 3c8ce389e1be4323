package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

// scheduleEvery is how often the schedule looks for what is due.
const scheduleEvery = 10 * time.Second

// listEvery is how often the accounts of a connection are listed anew. An
// ended licence puts mail out of reach, so this is often.
const listEvery = time.Hour

// lostAfter is how long an authorization may wait before its job is put into
// the queue again. The queue drops a job that it has: while the job waits or
// runs, that changes nothing. A person who selects Try again in the moment
// between a job's last word and its end meets that job still running.
const lostAfter = 5 * time.Second

// schedule looks for what is due and puts it into the queue. Everything that
// is due is in our own tables, so a lost job is found again here.
type schedule struct {
	river.WorkerDefaults[backup.ScheduleJob]
	*Runner
}

// Work implements river.Worker.
func (w *schedule) Work(ctx context.Context, _ *river.Job[backup.ScheduleJob]) error {
	now := time.Now()
	return errors.Join(
		w.releaseDead(ctx),
		w.mailboxes(ctx, now),
		w.roles(ctx, now),
		w.accounts(ctx, now),
		w.authorizations(ctx, now),
		w.permissions(ctx, now),
		w.restores(ctx, now),
		w.certificates(ctx, now),
		w.notices(ctx, now),
		w.upkeep(ctx, now),
		w.exports(ctx, now),
		w.deletions(ctx, now),
		w.erasures(ctx),
		w.tidy(ctx, now),
	)
}

func (w *schedule) mailboxes(ctx context.Context, now time.Time) error {
	if _, err := w.Store.FillBackups(ctx, now); err != nil {
		return fmt.Errorf("queue due mailboxes: %w", err)
	}
	return nil
}

func (w *schedule) roles(ctx context.Context, now time.Time) error {
	due, err := w.Store.DueCustomRoles(ctx, now)
	if err != nil {
		return fmt.Errorf("find due custom roles: %w", err)
	}
	for _, role := range due {
		if err := w.Store.Enqueue(ctx, backup.VerifyRoleJob{OrgID: role.OrgID, CustomRoleID: role.ID}); err != nil {
			return fmt.Errorf("queue custom role %s: %w", role.ID, err)
		}
	}
	return nil
}

func (w *schedule) accounts(ctx context.Context, now time.Time) error {
	due, err := w.Store.ConnectionsListedBefore(ctx, now.Add(-listEvery))
	if err != nil {
		return fmt.Errorf("find connections to list: %w", err)
	}
	for _, c := range due {
		if err := w.Store.Enqueue(ctx, backup.ListAccountsJob{OrgID: c.OrgID, ConnectionID: c.ID}); err != nil {
			return fmt.Errorf("queue accounts of connection %s: %w", c.ID, err)
		}
	}
	return nil
}

// authorizations puts jobs back that an authorization waits for, should one
// have been lost.
func (w *schedule) authorizations(ctx context.Context, now time.Time) error {
	waiting, err := w.Store.WaitingAuthorizations(ctx, now.Add(-lostAfter))
	if err != nil {
		return fmt.Errorf("find waiting authorizations: %w", err)
	}
	for _, a := range waiting {
		jobs := stepJobs(a)
		if a.Step == backup.StepVerify {
			role, err := w.Store.CustomRole(ctx, a.OrgID, a.ConnectionID)
			if err != nil {
				return fmt.Errorf("read custom role of connection %s: %w", a.ConnectionID, err)
			}
			jobs = []river.JobArgs{backup.VerifyRoleJob{OrgID: a.OrgID, CustomRoleID: role.ID}}
		}
		for _, job := range jobs {
			if err := w.Store.Enqueue(ctx, job); err != nil {
				return fmt.Errorf("queue authorization %s: %w", a.ID, err)
			}
		}
	}
	return nil
}

// tidy removes what has outlived its use: ended sessions and links, tokens
// past their life.
func (w *schedule) tidy(ctx context.Context, now time.Time) error {
	return errors.Join(
		w.Store.DeleteExpiredSessions(ctx, now),
		w.Store.EraseExpiredTokens(ctx, now),
	)
}
