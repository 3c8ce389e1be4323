package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

const notificationColumns = `n.id, n.partner_id, n.org_id, n.kind, n.event_key, n.subject, n.body, n.path, n.since, n.at, n.tries, n.next_try_at, n.problem`

func scanNotification(row scanner) (backup.Notification, error) {
	var n backup.Notification
	var since, at, next int64
	err := row.Scan(&n.ID, &n.PartnerID, &n.OrgID, &n.Kind, &n.Key, &n.Subject, &n.Text, &n.Path, &since, &at, &n.Tries, &next, &n.Problem)
	n.Since, n.At, n.NextTryAt = moment(since), moment(at), moment(next)
	return n, err
}

// MailSettings returns how a partner's e-mail goes out; backup.ErrNotFound if
// it was never set up.
func (s *Store) MailSettings(ctx context.Context, partner backup.PartnerID) (backup.MailSettings, error) {
	return one(ctx, s.read, func(row scanner) (backup.MailSettings, error) {
		var m backup.MailSettings
		var sealed []byte
		if err := row.Scan(&m.PartnerID, &m.Host, &m.Port, &m.TLS, &m.User, &sealed, &m.From, &m.FromName); err != nil {
			return m, err
		}
		var err error
		m.Password, err = s.unseal(sealed, place("mail_settings", "", "password", string(m.PartnerID)))
		return m, err
	}, `SELECT partner_id, host, port, tls, username, password_sealed, from_address, from_name FROM mail_settings WHERE partner_id = $1`, partner)
}

// SaveMailSettings sets how the e-mail of by's partner goes out. It returns
// backup.FieldErrors if m breaks a rule.
func (s *Store) SaveMailSettings(ctx context.Context, m backup.MailSettings, by backup.Actor) error {
	m.PartnerID, m.Host, m.From, m.FromName, m.User = by.Partner.ID, strings.TrimSpace(clean(m.Host)), strings.TrimSpace(clean(m.From)), strings.TrimSpace(clean(m.FromName)), strings.TrimSpace(clean(m.User))
	if err := m.Validate(); err != nil {
		return err
	}
	sealed, err := s.seal(m.Password, place("mail_settings", "", "password", string(m.PartnerID)))
	if err != nil {
		return err
	}
	was, err := s.MailSettings(ctx, m.PartnerID)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("read the mail settings before: %w", err)
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `
			INSERT INTO mail_settings (partner_id, host, port, tls, username, password_sealed, from_address, from_name) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (partner_id) DO UPDATE SET host = excluded.host, port = excluded.port, tls = excluded.tls, username = excluded.username,
				password_sealed = excluded.password_sealed, from_address = excluded.from_address, from_name = excluded.from_name`,
			m.PartnerID, m.Host, m.Port, m.TLS, m.User, sealed, m.From, m.FromName); err != nil {
			return fmt.Errorf("save mail settings: %w", err)
		}
		// What waits is tried at once with the new settings.
		if _, err := tx.ExecContext(ctx, `UPDATE notifications SET next_try_at = $1 WHERE partner_id = $2 AND next_try_at > $1`, millis(time.Now()), m.PartnerID); err != nil {
			return fmt.Errorf("try what waits: %w", err)
		}
		return s.record(ctx, tx, by, "", "mail.save", m.Host, mailChange(was, m))
	})
}

// mailChange is what an entry says of a change: never the password.
func mailChange(was, is backup.MailSettings) string {
	words := func(m backup.MailSettings) string {
		if m.Host == "" {
			return ""
		}
		return fmt.Sprintf("%s:%d (%s) as %q from %s", m.Host, m.Port, m.TLS, m.User, m.From)
	}
	detail := fromTo(words(was), words(is))
	if !bytes.Equal(was.Password, is.Password) {
		detail += "; another password"
	}
	return detail
}

// SyncNotifications brings an organization's open events of the given kinds up
// to date with what is so now: new ones are owed, the same ones stay, and those
// that are over are settled, so that they count as new when they come back.
func (s *Store) SyncNotifications(ctx context.Context, org backup.Organization, kinds []backup.NotificationKind, now []backup.Notification) error {
	open, err := s.OpenNotifications(ctx, org.ID)
	if err != nil {
		return err
	}
	type event struct {
		kind backup.NotificationKind
		key  string
	}
	known, is := map[event]bool{}, map[event]bool{}
	for _, n := range open {
		known[event{n.Kind, n.Key}] = true
	}
	for _, n := range now {
		is[event{n.Kind, n.Key}] = true
		if known[event{n.Kind, n.Key}] {
			continue
		}
		known[event{n.Kind, n.Key}] = true
		n.OrgID, n.PartnerID = org.ID, org.PartnerID
		if err := s.oweNotification(ctx, n); err != nil && !errors.Is(err, backup.ErrConflict) {
			return err
		}
	}
	for _, n := range open {
		for _, k := range kinds {
			if n.Kind != k || is[event{n.Kind, n.Key}] {
				continue
			}
			if _, err := s.db.ExecContext(ctx, `UPDATE notifications SET settled_at = $1, next_try_at = 0 WHERE org_id = $2 AND id = $3 AND settled_at = 0`, millis(time.Now()), org.ID, n.ID); err != nil {
				return fmt.Errorf("settle notification: %w", err)
			}
		}
	}
	return nil
}

// OpenNotifications returns the events of an organization that are not over.
func (s *Store) OpenNotifications(ctx context.Context, org backup.OrgID) ([]backup.Notification, error) {
	return collect(ctx, s.read, scanNotification, `SELECT `+notificationColumns+` FROM notifications n WHERE n.org_id = $1 AND n.settled_at = 0 ORDER BY n.at, n.id`, org)
}

func (s *Store) oweNotification(ctx context.Context, n backup.Notification) error {
	now := millis(time.Now())
	_, err := s.db.ExecContext(ctx, `INSERT INTO notifications (id, partner_id, org_id, kind, event_key, subject, body, path, since, at, next_try_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)`,
		backup.NewID[backup.NotificationID](), n.PartnerID, n.OrgID, n.Kind, n.Key, clean(n.Subject), clean(n.Text), n.Path, millis(n.Since), now)
	if err != nil {
		return fmt.Errorf("owe notification: %w", conflict(err))
	}
	return nil
}

// Notification returns a notification of an organization.
func (s *Store) Notification(ctx context.Context, org backup.OrgID, id backup.NotificationID) (backup.Notification, error) {
	return one(ctx, s.read, scanNotification, `SELECT `+notificationColumns+` FROM notifications n WHERE n.org_id = $1 AND n.id = $2`, org, id)
}

// DueNotifications returns the notifications of all organizations that are to
// be sent by now.
func (s *Store) DueNotifications(ctx context.Context, now time.Time) ([]backup.Notification, error) {
	return collect(ctx, s.read, scanNotification, `SELECT `+notificationColumns+` FROM notifications n WHERE n.next_try_at > 0 AND n.next_try_at <= $1 ORDER BY n.next_try_at LIMIT 200`, millis(now))
}

// WaitingNotifications returns a partner's notifications that could not be sent yet.
func (s *Store) WaitingNotifications(ctx context.Context, partner backup.PartnerID) ([]backup.Notification, error) {
	return collect(ctx, s.read, scanNotification, `SELECT `+notificationColumns+` FROM notifications n WHERE n.partner_id = $1 AND n.next_try_at > 0 AND n.tries > 0 ORDER BY n.at LIMIT 50`, partner)
}

// NotificationRecipients returns who is to have a notification and has not had
// it: the organization's admins and the partner's people, unless they switched
// its kind off.
func (s *Store) NotificationRecipients(ctx context.Context, n backup.Notification) ([]backup.Person, error) {
	return collect(ctx, s.read, scanPerson, `
		SELECT DISTINCT `+personColumns+` FROM people p JOIN memberships m ON m.person_id = p.id
		WHERE ((m.org_id = $1 AND m.role = 'admin' AND NOT EXISTS (SELECT 1 FROM notification_switches w WHERE w.org_id = $1 AND w.kind = $3))
			OR (m.partner_id = $2 AND $3 <> 'acting_asked' AND NOT EXISTS (SELECT 1 FROM notification_switches w WHERE w.partner_id = $2 AND w.org_id = '' AND w.kind = $3)))
			AND NOT EXISTS (SELECT 1 FROM notification_recipients r WHERE r.notification_id = $4 AND r.email_folded = p.email_folded)
		ORDER BY p.id`, n.OrgID, n.PartnerID, n.Kind, n.ID)
}

// NotificationSent notes that somebody had a notification.
func (s *Store) NotificationSent(ctx context.Context, n backup.Notification, to backup.Person) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO notification_recipients (notification_id, email_folded, sent_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		n.ID, backup.FoldEmail(to.Email), millis(time.Now()))
	return err
}

// NotificationTried notes how a try to send ended: with next zero, everybody
// had it.
func (s *Store) NotificationTried(ctx context.Context, n backup.Notification, next time.Time, problem string) error {
	return execOne(ctx, s.db, `UPDATE notifications SET tries = tries + 1, next_try_at = $1, problem = $2 WHERE org_id = $3 AND id = $4`, millis(next), clean(problem), n.OrgID, n.ID)
}

// SwitchedOff returns the kinds that an organization, or, with org "", the
// partner does not want.
func (s *Store) SwitchedOff(ctx context.Context, partner backup.PartnerID, org backup.OrgID) (map[backup.NotificationKind]bool, error) {
	list, err := collect(ctx, s.read, scanValue[backup.NotificationKind], `SELECT kind FROM notification_switches WHERE partner_id = $1 AND org_id = $2`, partner, org)
	off := map[backup.NotificationKind]bool{}
	for _, k := range list {
		off[k] = true
	}
	return off, err
}

// SetNotifications says which kinds an organization, or, with org "", by's
// partner wants.
func (s *Store) SetNotifications(ctx context.Context, org backup.OrgID, wanted map[backup.NotificationKind]bool, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		was, err := collect(ctx, tx, scanValue[string], `SELECT kind FROM notification_switches WHERE partner_id = $1 AND org_id = $2 ORDER BY kind`, by.Partner.ID, org)
		if err != nil {
			return fmt.Errorf("read the switches before: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM notification_switches WHERE partner_id = $1 AND org_id = $2`, by.Partner.ID, org); err != nil {
			return fmt.Errorf("switch notifications on: %w", err)
		}
		var off []string
		for _, k := range backup.NotificationKinds {
			if wanted[k] {
				continue
			}
			off = append(off, string(k))
			if _, err := tx.ExecContext(ctx, `INSERT INTO notification_switches (partner_id, org_id, kind) VALUES ($1, $2, $3)`, by.Partner.ID, org, k); err != nil {
				return fmt.Errorf("switch notifications off: %w", err)
			}
		}
		return s.record(ctx, tx, by, org, "notifications.save", "Notifications", "switched off "+fromTo(strings.Join(was, " "), strings.Join(off, " ")))
	})
}

// FailingCause is a cause for which mailboxes of an organization had no
// successful run for a while.
type FailingCause struct {
	Kind      backup.ProblemKind
	Text      string // of one of them
	Mailboxes int
	Since     time.Time // the longest
}

// FailingSince returns why mailboxes of an organization had no successful run
// since a time, by the kind of the problem.
func (s *Store) FailingSince(ctx context.Context, org backup.OrgID, since time.Time) ([]FailingCause, error) {
	type row struct {
		problem backup.Problem
		at      int64
	}
	list, err := collect(ctx, s.read, func(sc scanner) (row, error) {
		var r row
		var problem string
		err := sc.Scan(&problem, &r.at)
		r.problem = problemOf(problem)
		return r, err
	}, `SELECT problem, CASE WHEN last_run_at > 0 THEN last_run_at ELSE created_at END FROM mailboxes
		WHERE org_id = $1 AND selected = TRUE AND failures > 0 AND deactivated = '' AND status IN ('failing', 'pending')
			AND CASE WHEN last_run_at > 0 THEN last_run_at ELSE created_at END <= $2`, org, millis(since))
	if err != nil {
		return nil, fmt.Errorf("find failing mailboxes: %w", err)
	}
	var causes []FailingCause
	at := map[backup.ProblemKind]int{}
	for _, r := range list {
		i, ok := at[r.problem.Kind]
		if !ok {
			i = len(causes)
			at[r.problem.Kind] = i
			causes = append(causes, FailingCause{Kind: r.problem.Kind, Text: r.problem.Text, Since: moment(r.at)})
		}
		causes[i].Mailboxes++
		if t := moment(r.at); t.Before(causes[i].Since) {
			causes[i].Since = t
		}
	}
	return causes, nil
}

// MigrationsSince returns the migrations of an organization that were completed
// since a time.
func (s *Store) MigrationsSince(ctx context.Context, org backup.OrgID, since time.Time) ([]backup.Authorization, error) {
	return collect(ctx, s.read, s.scanAuthorization, `SELECT `+authorizationColumns+` FROM authorizations
		WHERE org_id = $1 AND purpose = 'migrate' AND step = 'done' AND updated_at >= $2`, org, millis(since))
}
