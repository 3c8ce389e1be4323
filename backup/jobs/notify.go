package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/outmail"
)

// notify sends a notification to everybody who is to have it and has not. A
// message whose sending a crash interrupted may be sent again, with the same
// Message-ID, by which mail programs know it.
type notify struct {
	river.WorkerDefaults[backup.NotifyJob]
	*Runner
}

// Work implements river.Worker. What is tried again, and when, stands in the
// notification's row; River never repeats it.
func (w *notify) Work(ctx context.Context, job *river.Job[backup.NotifyJob]) error {
	if err := w.Notify(ctx, job.Args.OrgID, job.Args.NotificationID); err != nil {
		return river.JobCancel(err)
	}
	return nil
}

// Notify sends a notification that is due. Who had it has it once; with an error
// the others get it later.
func (r *Runner) Notify(ctx context.Context, org backup.OrgID, id backup.NotificationID) error {
	n, err := r.Store.Notification(ctx, org, id)
	if errors.Is(err, backup.ErrNotFound) || err == nil && (n.NextTryAt.IsZero() || n.NextTryAt.After(time.Now())) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read notification %s: %w", id, err)
	}
	sendErr := r.send(ctx, n)
	save := context.WithoutCancel(ctx)
	switch {
	case sendErr == nil:
		return r.Store.NotificationTried(save, n, time.Time{}, "")
	case errors.Is(sendErr, backup.ErrNotFound):
		// No outgoing mail is set up: it waits until there is, and is looked at daily.
		return r.Store.NotificationTried(save, n, time.Now().Add(24*time.Hour), "No outgoing mail is set up.")
	}
	r.Log.Warn("notification not sent", "notification", n.ID, "organization", n.OrgID, "error", sendErr)
	pause := min(time.Minute<<min(n.Tries, 9), 6*time.Hour)
	return errors.Join(sendErr, r.Store.NotificationTried(save, n, time.Now().Add(pause), backup.AsProblem(sendErr).Text))
}

// send sends to each recipient who has not had it. A recipient who is refused
// for good does not keep the others from theirs.
func (r *Runner) send(ctx context.Context, n backup.Notification) error {
	settings, err := r.Store.MailSettings(ctx, n.PartnerID)
	if err != nil {
		return err
	}
	org, err := r.Store.OrganizationByID(ctx, n.OrgID)
	if err != nil {
		return err
	}
	people, err := r.Store.NotificationRecipients(ctx, n)
	if err != nil {
		return fmt.Errorf("read recipients: %w", err)
	}
	sender := outmail.Sender{Settings: settings, Roots: r.MailRoots}
	var errs []error
	for _, p := range people {
		_, err := sender.Send(ctx, r.message(n, org, p))
		if problem := backup.AsProblem(err); problem != nil && problem.Temporary {
			errs = append(errs, err)
			continue
		} else if problem != nil {
			r.Log.Warn("recipient refused", "notification", n.ID, "person", p.ID, "error", err)
		}
		if err := r.Store.NotificationSent(context.WithoutCancel(ctx), n, p); err != nil {
			errs = append(errs, fmt.Errorf("note that %s had it: %w", p.ID, err))
		}
	}
	return errors.Join(errs...)
}

// subjects are the first words of each kind of message.
var subjects = map[backup.NotificationKind]string{
	backup.NotifyRolePending: "Custom role still pending", backup.NotifyBackupFailing: "Backup failing for 24 hours",
	backup.NotifyConnectionProblem: "A connection needs your attention", backup.NotifyPermissionDrift: "Permissions differ from what was asked for",
	backup.NotifyMigrationDone: "Migration complete", backup.NotifyCredentialsExpire: "A certificate is about to end", backup.NotifyWeeklySummary: "Your week of backups", backup.NotifyActingAsked: "Your provider asks to act for you",
	backup.NotifyDamage: "Backed-up data is damaged or could not be checked",
}

// message is a notification as an e-mail to one person.
func (r *Runner) message(n backup.Notification, org backup.Organization, to backup.Person) outmail.Message {
	lines := []string{n.Text}
	if n.Kind != backup.NotifyWeeklySummary {
		lines = append([]string{org.Name + ": " + n.Subject + "."}, lines...)
		if !n.Since.IsZero() {
			lines = append(lines, "Since "+n.Since.UTC().Format("2 January 2006, 15:04 UTC")+".")
		}
	}
	return outmail.Message{To: to.Email, ToName: to.Name, Subject: subjects[n.Kind] + ": " + org.Name, Greeting: "Hello " + to.Name + ",", Lines: lines,
		Button: "Open Holdfast", Link: r.link(n.Path), ID: string(n.ID) + "." + string(to.ID),
		Footer: "You get this because you look after the backups of " + org.Name + ". Which messages you get is set under Notifications."}
}
