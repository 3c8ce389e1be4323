package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

// How often permissions are read: daily, sooner while something is wrong or
// Microsoft could not be asked.
const (
	checkEvery       = 24 * time.Hour
	checkBrokenAgain = time.Hour
)

// checkPermissions reads, as the applications themselves, what they may do in
// the tenant, and says of each what is broken about it.
type checkPermissions struct {
	river.WorkerDefaults[backup.CheckPermissionsJob]
	*Runner
}

// Work implements river.Worker.
func (w *checkPermissions) Work(ctx context.Context, job *river.Job[backup.CheckPermissionsJob]) error {
	conn, err := w.Store.Connection(ctx, job.Args.OrgID, job.Args.ConnectionID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read connection %s: %w", job.Args.ConnectionID, err)
	}
	if busy, err := w.beingChanged(ctx, conn); busy || err != nil {
		return err // the authorization has them checked when it is done
	}
	check, err := w.Store.PermissionCheck(ctx, conn.OrgID, conn.ID)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("read the last check: %w", err)
	}
	apps, err := w.Store.SubApplications(ctx, conn.OrgID, conn.ID)
	if err != nil {
		return fmt.Errorf("read sub-applications: %w", err)
	}
	check.OrgID, check.ConnectionID, check.Applications = conn.OrgID, conn.ID, []backup.ApplicationCheck{}
	start := time.Now()
	check.NextAt = start.Add(checkEvery)
	for _, app := range apps {
		if app.State == backup.ApplicationRemoved {
			continue
		}
		got, err := w.check(ctx, conn, app)
		if err != nil {
			return err
		}
		if got.Problem != nil {
			check.NextAt = start.Add(checkBrokenAgain)
		}
		check.Applications = append(check.Applications, got)
	}
	main, err := w.Microsoft.GrantedMain(ctx, conn)
	if err != nil {
		return err
	}
	check.Applications = append(check.Applications, main)
	check.CheckedAt = start // who asks from now on gets a newer answer
	if err := w.save(context.WithoutCancel(ctx), conn, check); err != nil {
		return err
	}
	// The queue drops the job of somebody who asked while this one was reading.
	if now, err := w.Store.PermissionCheck(ctx, conn.OrgID, conn.ID); err == nil && now.Running() {
		return w.Work(ctx, job)
	}
	return nil
}

// beingChanged says whether an authorization is changing the connection's
// applications right now.
func (r *Runner) beingChanged(ctx context.Context, conn backup.Connection) (bool, error) {
	auth, err := r.Store.ActiveAuthorization(ctx, conn.OrgID)
	if errors.Is(err, backup.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the authorization under way: %w", err)
	}
	return auth.ConnectionID == conn.ID && (auth.Step == backup.StepCreateApplications || auth.Step == backup.StepRemoveApplications), nil
}

// check reads one application and notes in its row what is broken. That
// Microsoft could not be asked says nothing about the application.
func (w *checkPermissions) check(ctx context.Context, conn backup.Connection, app backup.SubApplication) (backup.ApplicationCheck, error) {
	if app.AppID == "" { // an authorization that was to make it anew was given up
		return backup.ApplicationCheck{Workload: app.Workload, DisplayName: app.DisplayName, Granted: []backup.GrantedRole{},
			Problem: &backup.ProblemOfReport{Kind: backup.ProblemApplicationGone, At: time.Now().UTC(),
				Text: "This application is not in the tenant. Select Repair to create it."}}, nil
	}
	got, err := w.Microsoft.Granted(ctx, conn.TenantID, conn.TenantDomain, app)
	if err != nil {
		return got, err
	}
	var problem backup.Problem
	if p := got.Problem; p != nil {
		problem = backup.Problem{Kind: p.Kind, Text: p.Text, Code: p.Code, RequestID: p.RequestID, At: p.At}
		if !breaks(p.Kind) {
			return got, nil
		}
		w.Log.Warn("application does not work", "connection", conn.ID, "application", app.DisplayName, "kind", p.Kind, "code", p.Code, "request", p.RequestID)
	}
	if problem.Kind == app.Problem.Kind && problem.Text == app.Problem.Text {
		return got, nil // since when stays what it was
	}
	save := context.WithoutCancel(ctx)
	if err := w.Store.SetSubApplicationProblem(save, app.OrgID, app.ID, problem); err != nil {
		return got, fmt.Errorf("save the state of %s: %w", app.DisplayName, err)
	}
	if app.Workload != backup.WorkloadMail || conn.ByMainApplication() {
		return got, nil
	}
	if !problem.IsZero() || breaks(conn.Problem.Kind) {
		err = w.Store.SetConnectionProblem(save, conn.OrgID, conn.ID, problem)
	}
	return got, err
}

// breaks says that an application with such a problem has to be repaired.
func breaks(kind backup.ProblemKind) bool {
	switch kind {
	case backup.ProblemApplicationGone, backup.ProblemApplicationOff, backup.ProblemCredential, backup.ProblemConsentMissing, backup.ProblemPermission, backup.ProblemPolicy:
		return true
	}
	return false
}

// save keeps the answers. People are told of drift once, and again only of more.
func (w *checkPermissions) save(ctx context.Context, conn backup.Connection, check backup.PermissionCheck) error {
	drift := check.Drift()
	told := strings.Split(check.Told, "\n")
	more := slices.DeleteFunc(slices.Clone(drift), func(d string) bool { return slices.Contains(told, d) })
	check.Told = strings.Join(drift, "\n")
	if err := w.Store.SavePermissionCheck(ctx, check); err != nil {
		return err
	}
	if len(more) > 0 {
		w.Log.Warn("the tenant grants more than was asked", "connection", conn.ID, "beyond", more)
	}
	return nil
}

// permissions has the permissions of connections read whose check is due.
func (w *schedule) permissions(ctx context.Context, now time.Time) error {
	due, err := w.Store.DuePermissionChecks(ctx, now)
	if err != nil {
		return fmt.Errorf("find permissions to check: %w", err)
	}
	for _, c := range due {
		if err := w.Store.Enqueue(ctx, backup.CheckPermissionsJob{OrgID: c.OrgID, ConnectionID: c.ID}); err != nil {
			return fmt.Errorf("queue permissions of connection %s: %w", c.ID, err)
		}
	}
	return nil
}
