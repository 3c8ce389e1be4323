package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
)

// rollAgain is when a change of certificates that failed is tried again.
const rollAgain = 6 * time.Hour

// rollLookAhead is how long before its end a certificate is looked at; when it
// is due, the application itself knows (SubApplication.RollDue).
const rollLookAhead = 31 * 24 * time.Hour

// rollCertificate changes the certificate of one application.
type rollCertificate struct {
	river.WorkerDefaults[backup.RollCertificateJob]
	*Runner
}

// Work implements river.Worker.
func (w *rollCertificate) Work(ctx context.Context, job *river.Job[backup.RollCertificateJob]) error {
	conn, err := w.Store.Connection(ctx, job.Args.OrgID, job.Args.ConnectionID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read connection %s: %w", job.Args.ConnectionID, err)
	}
	if busy, err := w.beingChanged(ctx, conn); busy || err != nil {
		return err
	}
	apps, err := w.Store.SubApplications(ctx, conn.OrgID, conn.ID)
	if err != nil {
		return fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if app.ID == job.Args.SubApplicationID && app.RollDue(time.Now()) {
			return w.roll(ctx, conn, app)
		}
	}
	return nil
}

// roll goes on with the change, and notes when to try again if it fails. The
// current certificate is good until its end.
func (w *rollCertificate) roll(ctx context.Context, conn backup.Connection, app backup.SubApplication) error {
	save := context.WithoutCancel(ctx)
	before := app.NotAfter
	err := w.Microsoft.RollCertificate(ctx, conn.TenantID, &app, func(a backup.SubApplication) error { return w.Store.SaveSubApplication(save, a) })
	if ctx.Err() != nil {
		return ctx.Err() // the process stops; the next one carries on
	}
	if err == nil {
		if !app.NotAfter.Equal(before) {
			w.Log.Info("certificate changed", "connection", conn.ID, "application", app.DisplayName, "ends", app.NotAfter)
			return w.Store.RecordCertificate(save, app)
		}
		return nil
	}
	app.RollError, app.RollAt = *backup.AsProblem(err), time.Now().Add(rollAgain)
	if saveErr := w.Store.SaveSubApplication(save, app); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	return river.JobCancel(fmt.Errorf("change the certificate of %s: %w", app.DisplayName, err))
}

// certificates changes those that are due.
func (w *schedule) certificates(ctx context.Context, now time.Time) error {
	ending, err := w.Store.EndingSubApplications(ctx, now.Add(rollLookAhead))
	if err != nil {
		return fmt.Errorf("find ending certificates: %w", err)
	}
	for _, app := range ending {
		if !app.RollDue(now) {
			continue
		}
		if err := w.Store.Enqueue(ctx, backup.RollCertificateJob{OrgID: app.OrgID, ConnectionID: app.ConnectionID, SubApplicationID: app.ID}); err != nil {
			return fmt.Errorf("queue the certificate of %s: %w", app.ID, err)
		}
	}
	return nil
}
