package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"holdfast/backup"
)

// When people are told.
const (
	noticeEvery    = 5 * time.Minute
	failingAfter   = 24 * time.Hour      // without a successful backup
	expiringBefore = 14 * 24 * time.Hour // before a certificate ends
	migratedWithin = 24 * time.Hour      // so long a migration counts as news
	summaryHour    = 7                   // UTC, on Mondays
)

// noticed are the kinds that are over as soon as they are not so any more; the
// others are told once.
var noticed = []backup.NotificationKind{backup.NotifyRolePending, backup.NotifyBackupFailing, backup.NotifyConnectionProblem,
	backup.NotifyPermissionDrift, backup.NotifyCredentialsExpire, backup.NotifyActingAsked, backup.NotifyDamage}

// notices looks from time to time for what people have to be told of, and puts
// what is owed into the queue.
func (w *schedule) notices(ctx context.Context, now time.Time) error {
	if now.Sub(w.noticedAt()) >= noticeEvery {
		if err := w.Notice(ctx, now); err != nil {
			return err
		}
	}
	due, err := w.Store.DueNotifications(ctx, now)
	if err != nil {
		return fmt.Errorf("find due notifications: %w", err)
	}
	for _, n := range due {
		if err := w.Store.Enqueue(ctx, backup.NotifyJob{OrgID: n.OrgID, NotificationID: n.ID}); err != nil {
			return fmt.Errorf("queue notification %s: %w", n.ID, err)
		}
	}
	return nil
}

func (r *Runner) noticedAt() time.Time {
	r.noticeMu.Lock()
	defer r.noticeMu.Unlock()
	return r.lastNotice
}

// Notice brings what people have to be told of up to date with the rows, for all
// organizations, at time now. It can be repeated: an event is owed once.
func (r *Runner) Notice(ctx context.Context, now time.Time) error {
	r.noticeMu.Lock()
	r.lastNotice = now
	r.noticeMu.Unlock()
	organizations, err := r.Store.AllOrganizations(ctx)
	if err != nil {
		return fmt.Errorf("read organizations: %w", err)
	}
	var errs []error
	for _, org := range organizations {
		if !org.SuspendedAt.IsZero() {
			continue
		}
		list, err := r.events(ctx, org, now)
		if err == nil {
			err = r.Store.SyncNotifications(ctx, org, noticed, list)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("notice what happens in organization %s: %w", org.ID, err))
		}
	}
	return errors.Join(errs...)
}

// events are what an organization's people have to be told of at time now.
func (r *Runner) events(ctx context.Context, org backup.Organization, now time.Time) ([]backup.Notification, error) {
	var list []backup.Notification
	connections, err := r.Store.Connections(ctx, org.ID)
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	for _, conn := range connections {
		some, err := r.connectionEvents(ctx, conn, now)
		if err != nil {
			return nil, err
		}
		list = append(list, some...)
	}
	failing, err := r.Store.FailingSince(ctx, org.ID, now.Add(-failingAfter))
	if err != nil {
		return nil, err
	}
	for _, f := range failing {
		subject := fmt.Sprintf("%d mailboxes", f.Mailboxes)
		if f.Mailboxes == 1 {
			subject = "One mailbox"
		}
		list = append(list, backup.Notification{Kind: backup.NotifyBackupFailing, Key: string(f.Kind), Subject: subject, Since: f.Since, Path: "/status",
			Text: "There was no successful backup for more than 24 hours. " + f.Text})
	}
	if org.ActingAsked > 0 {
		requests, err := r.Store.ActingRequests(ctx, org.ID, 20)
		if err != nil {
			return nil, fmt.Errorf("read requests to act: %w", err)
		}
		for _, q := range requests {
			if q.Answer == "" {
				list = append(list, backup.Notification{Kind: backup.NotifyActingAsked, Key: string(q.ID), Subject: q.Name, Since: q.AskedAt, Path: "/settings",
					Text: q.Name + " <" + q.Email + "> asks to act for your organization: " + q.Reason + ". Grant it for a day, or decline, under Account Settings."})
			}
		}
	}
	damage, err := r.upkeepEvents(ctx, org)
	if err != nil {
		return nil, err
	}
	list = append(list, damage...)
	migrated, err := r.Store.MigrationsSince(ctx, org.ID, now.Add(-migratedWithin))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	for _, m := range migrated {
		list = append(list, backup.Notification{Kind: backup.NotifyMigrationDone, Key: string(m.ID), Subject: m.TenantDomain, Since: m.UpdatedAt, Path: "/settings/credentials",
			Text: "The migration to least privilege is complete. The backupadmin account and the old permissions of the main application may now be deleted; Holdfast offers to do it. The sub-applications may not be deleted."})
	}
	summary, ok, err := r.summary(ctx, org, now)
	if ok {
		list = append(list, summary)
	}
	return list, err
}

// connectionEvents are those of one connection.
func (r *Runner) connectionEvents(ctx context.Context, conn backup.Connection, now time.Time) ([]backup.Notification, error) {
	var list []backup.Notification
	add := func(kind backup.NotificationKind, key string, since time.Time, path, text string) {
		list = append(list, backup.Notification{Kind: kind, Key: string(conn.ID) + " " + key, Subject: conn.TenantDomain, Since: since, Path: path, Text: text})
	}
	if !conn.Problem.IsZero() && !conn.ReadyAt.IsZero() {
		add(backup.NotifyConnectionProblem, string(conn.Problem.Kind), conn.Problem.At, "/settings/credentials", conn.Problem.Text)
	}
	role, err := r.Store.CustomRole(ctx, conn.OrgID, conn.ID)
	switch {
	case errors.Is(err, backup.ErrNotFound):
	case err != nil:
		return nil, fmt.Errorf("read custom role: %w", err)
	case role.State == backup.RolePending && !role.PendingSince.IsZero() && now.Sub(role.PendingSince) >= backup.RoleGiveUp:
		add(backup.NotifyRolePending, fmt.Sprint(role.PendingSince.UnixMilli()), role.PendingSince, "/settings/credentials",
			"The custom role in Exchange Online is still pending after three days. Public folder backup and restore, and journaling, are paused; everything else runs. "+
				"Holdfast tries again every day. Please contact support. "+role.Problem.Text)
	case role.State == backup.RoleDisconnected:
		add(backup.NotifyConnectionProblem, "custom role", role.CheckedAt, "/settings/credentials", "The custom role in Exchange Online is disconnected. "+role.Problem.Text)
	}
	check, err := r.Store.PermissionCheck(ctx, conn.OrgID, conn.ID)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return nil, fmt.Errorf("read permission check: %w", err)
	}
	if drift := check.Drift(); err == nil && len(drift) > 0 {
		add(backup.NotifyPermissionDrift, strings.Join(drift, "; "), check.CheckedAt, "/settings/permissions",
			"The tenant does not grant what Holdfast asks for: "+strings.Join(drift, "; ")+".")
	}
	if p := check.MainTrouble(); err == nil && !p.IsZero() {
		add(backup.NotifyConnectionProblem, "main application", p.At, "/settings/credentials", p.Text)
	}
	apps, err := r.Store.SubApplications(ctx, conn.OrgID, conn.ID)
	if err != nil {
		return nil, fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if app.State == backup.ApplicationReady && !conn.ReadyAt.IsZero() && !app.Problem.IsZero() && app.Problem.Cause() != conn.Problem.Cause() {
			add(backup.NotifyConnectionProblem, string(app.ID)+" "+string(app.Problem.Kind), app.Problem.At, "/settings/credentials", app.DisplayName+": "+app.Problem.Text)
		}
		if app.State == backup.ApplicationReady && !app.NotAfter.IsZero() && app.NotAfter.Sub(now) < expiringBefore {
			add(backup.NotifyCredentialsExpire, string(app.ID), now, "/settings/credentials",
				fmt.Sprintf("The certificate of %s ends on %s and could not be renewed. Repair the application before then, or its backups stop.", app.DisplayName, app.NotAfter.UTC().Format("2 January 2006")))
		}
	}
	return list, nil
}

// summary is the weekly one, on Mondays; ok says whether there is one now.
func (r *Runner) summary(ctx context.Context, org backup.Organization, now time.Time) (n backup.Notification, ok bool, err error) {
	now = now.UTC()
	if now.Weekday() != time.Monday || now.Hour() < summaryHour {
		return n, false, nil
	}
	counts, err := r.Store.MailboxCounts(ctx, org.ID)
	if err != nil || counts.Total() == 0 {
		return n, false, err
	}
	days, err := r.Store.DayFigures(ctx, org.ID, 8)
	if err != nil {
		return n, false, err
	}
	var items int64
	for _, d := range days[:7] {
		items += d.NewItems
	}
	year, week := now.ISOWeek()
	text := fmt.Sprintf("In the last week %d new messages were backed up. Of %d mailboxes, %d are protected", items, counts.Total(), counts[backup.StatusProtected])
	for _, s := range []backup.Status{backup.StatusFailing, backup.StatusPending, backup.StatusInactive, backup.StatusDeactivated, backup.StatusEmpty} {
		if counts[s] > 0 {
			text += fmt.Sprintf(", %d %s", counts[s], s)
		}
	}
	return backup.Notification{Kind: backup.NotifyWeeklySummary, Key: fmt.Sprintf("%d-%02d", year, week), Subject: org.Name, Since: now, Path: "/dashboard", Text: text + "."}, true, nil
}

// link is the address of a page of the portal.
func (r *Runner) link(path string) string {
	if u, err := url.JoinPath(r.PublicURL, path); err == nil {
		return u
	}
	return r.PublicURL + path
}
