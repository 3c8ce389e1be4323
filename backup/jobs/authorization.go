package jobs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"holdfast/backup"
)

// advance moves an authorization on from a step that is done. The last one
// completes it: the connection then works by the new method, and its accounts
// are listed by it.
func (r *Runner) advance(ctx context.Context, org backup.OrgID, id backup.AuthorizationID, done backup.Step) error {
	return r.advancePast(ctx, org, id, done, done)
}

// advancePast is advance that leaves out the steps up to last, since they have
// nothing to do.
func (r *Runner) advancePast(ctx context.Context, org backup.OrgID, id backup.AuthorizationID, done, last backup.Step) error {
	for {
		auth, err := r.Store.Authorization(ctx, org, id)
		if err != nil {
			return fmt.Errorf("read authorization %s: %w", id, err)
		}
		if auth.Step != done {
			return nil // somebody else moved it, or gave it up
		}
		auth.Step, auth.Problem = auth.Next(last), backup.Problem{}
		list := backup.ListAccountsJob{OrgID: auth.OrgID, ConnectionID: auth.ConnectionID}
		switch auth.Step {
		case backup.StepDone:
			err = r.Store.CompleteAuthorization(ctx, &auth, list, backup.CheckPermissionsJob{OrgID: auth.OrgID, ConnectionID: auth.ConnectionID})
		case backup.StepChooseAccounts:
			err = r.Store.SaveAuthorization(ctx, &auth, list)
		default:
			err = r.Store.SaveAuthorization(ctx, &auth, stepJobs(auth)...)
		}
		if !errors.Is(err, backup.ErrStale) {
			return err
		}
	}
}

// stepJobs is the job of the step at which an authorization stands, if it has one.
func stepJobs(auth backup.Authorization) []river.JobArgs {
	if job := auth.StepJob(); job != nil {
		return []river.JobArgs{job}
	}
	return nil
}

// failed decides whether River tries a step again or the person has to act.
func (r *Runner) failed(ctx context.Context, auth backup.Authorization, step backup.Step, err error, last bool) error {
	if ctx.Err() != nil {
		return err // the process stops; the next one carries on
	}
	problem := backup.AsProblem(err)
	if problem.Temporary && !last {
		return err
	}
	saveErr := r.change(context.WithoutCancel(ctx), auth.OrgID, auth.ID, func(a *backup.Authorization) bool {
		if a.Step != step {
			return false
		}
		a.Step, a.FailedFrom, a.Problem = backup.StepFailed, step, *problem
		if problem.Kind == backup.ProblemSignInExpired || problem.Kind == backup.ProblemNotAdministrator || problem.Kind == backup.ProblemConsentMissing {
			a.FailedFrom = backup.StepConsent // only a new sign-in helps
			a.SetupToken, a.SetupTokenExpiresAt = nil, time.Time{}
		}
		return true
	})
	return errors.Join(river.JobCancel(err), saveErr)
}

// change reads the authorization anew and saves what set does to it, as often
// as somebody else changes it in between. set says whether there is anything to
// save.
func (r *Runner) change(ctx context.Context, org backup.OrgID, id backup.AuthorizationID, set func(*backup.Authorization) bool, next ...river.JobArgs) error {
	for {
		auth, err := r.Store.Authorization(ctx, org, id)
		if err != nil {
			return fmt.Errorf("read authorization %s: %w", id, err)
		}
		if !set(&auth) {
			return nil
		}
		err = r.Store.SaveAuthorization(ctx, &auth, next...)
		if !errors.Is(err, backup.ErrStale) {
			return err
		}
	}
}

// pauseBetween is how long a job is put off that must not run beside another.
const pauseBetween = time.Second

// waitFor returns what puts a job off while another runs, in any process, whose
// arguments match.
func waitFor[A river.JobArgs](ctx context.Context, match func(A) bool) error {
	var args A
	params := river.NewJobListParams().Kinds(args.Kind()).States(rivertype.JobStateRunning).First(1000)
	list, err := river.ClientFromContext[*sql.Tx](ctx).JobList(ctx, params)
	if err != nil {
		return fmt.Errorf("list running jobs: %w", err)
	}
	for _, job := range list.Jobs {
		var args A
		if err := json.Unmarshal(job.EncodedArgs, &args); err != nil {
			return fmt.Errorf("read arguments of job %d: %w", job.ID, err)
		}
		if match(args) {
			return river.JobSnooze(pauseBetween)
		}
	}
	return nil
}
