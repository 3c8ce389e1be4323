package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

const scheduleColumns = `zone, windows, every_ms, bytes_per_second, paused_at, paused_by, paused_reason`

func scanSchedule(row scanner) (backup.Schedule, error) {
	var v backup.Schedule
	var windows string
	var every, paused int64
	err := row.Scan(&v.Zone, &windows, &every, &v.BytesPerSecond, &paused, &v.Pause.By, &v.Pause.Reason)
	v.Windows, v.Every, v.Pause.At = windowsOf(windows), time.Duration(every)*time.Millisecond, moment(paused)
	return v, err
}

// windowsText encodes windows; none are "".
func windowsText(list []backup.Window) string {
	if len(list) == 0 {
		return ""
	}
	data, err := json.Marshal(list)
	if err != nil {
		return "" // numbers always encode
	}
	return string(data)
}

// windowsOf reverses windowsText.
func windowsOf(text string) []backup.Window {
	var list []backup.Window
	if text == "" || json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	return list
}

// Schedule returns when the automatic backups of an organization run.
func (s *Store) Schedule(ctx context.Context, org backup.OrgID) (backup.Schedule, error) {
	return schedule(ctx, s.read, org)
}

func schedule(ctx context.Context, q querier, org backup.OrgID) (backup.Schedule, error) {
	v, err := one(ctx, q, scanSchedule, `SELECT `+scheduleColumns+` FROM schedules WHERE org_id = $1`, org)
	if errors.Is(err, backup.ErrNotFound) {
		return backup.Schedule{}, nil
	}
	if err != nil {
		return v, fmt.Errorf("read schedule: %w", err)
	}
	return v, nil
}

// SaveSchedule sets when the automatic backups of an organization run, how often
// and how fast; a pause stays as it is. It returns backup.FieldErrors if v breaks
// a rule. Mailboxes whose last run succeeded get their next one by v.Every, if it
// changed and is not 0.
func (s *Store) SaveSchedule(ctx context.Context, org backup.OrgID, v backup.Schedule, by backup.Actor) error {
	if err := v.Validate(); err != nil {
		return err
	}
	return s.changeSchedule(ctx, org, time.Now(), func(tx *sql.Tx, was backup.Schedule) (backup.Schedule, error) {
		v.Pause = was.Pause
		if v.Every != was.Every && v.Every > 0 {
			if err := respace(ctx, tx, org, v.Every); err != nil {
				return v, err
			}
		}
		return v, s.record(ctx, tx, by, org, "schedule.save", v.String(), fromTo(was.String(), v.String()))
	})
}

// respace gives mailboxes their next run by a new pause. Failing ones keep their
// retries, and empty ones their daily look.
func respace(ctx context.Context, tx *sql.Tx, org backup.OrgID, every time.Duration) error {
	if _, err := tx.ExecContext(ctx, `UPDATE mailboxes SET next_run_at = last_run_at + $1
		WHERE org_id = $2 AND selected = TRUE AND status = $3 AND next_run_at > 0 AND running = FALSE AND asked_at = 0 AND last_run_at > 0`,
		every.Milliseconds(), org, backup.StatusProtected); err != nil {
		return fmt.Errorf("plan the next runs anew: %w", err)
	}
	return mailboxChanged(ctx, tx, org, false)
}

// PauseBackups lets no automatic backup of an organization run any more; those
// under way stop where they can go on later. It returns backup.FieldErrors if the
// reason breaks a rule, and backup.ErrConflict if they are paused already.
func (s *Store) PauseBackups(ctx context.Context, org backup.OrgID, reason string, by backup.Actor) error {
	p := backup.Pause{Reason: strings.TrimSpace(clean(reason)), By: entryOf(by, org, "", "", "").Person, At: time.Now()}
	if err := p.Validate(); err != nil {
		return err
	}
	return s.changeSchedule(ctx, org, time.Now(), func(tx *sql.Tx, v backup.Schedule) (backup.Schedule, error) {
		if !v.Pause.IsZero() {
			return v, backup.ErrConflict
		}
		v.Pause = p
		return v, s.record(ctx, tx, by, org, "schedule.pause", "automatic backups", p.Reason)
	})
}

// ResumeBackups lets them run again. If they are not paused, it returns
// backup.ErrNotFound.
func (s *Store) ResumeBackups(ctx context.Context, org backup.OrgID, by backup.Actor) error {
	return s.fillAfter(ctx, s.changeSchedule(ctx, org, time.Now(), func(tx *sql.Tx, v backup.Schedule) (backup.Schedule, error) {
		if v.Pause.IsZero() {
			return v, backup.ErrNotFound
		}
		reason := v.Pause.Reason
		v.Pause = backup.Pause{}
		return v, s.record(ctx, tx, by, org, "schedule.resume", "automatic backups", "they were paused because: "+reason)
	}))
}

// changeSchedule reads a schedule, lets change alter it, saves it and writes in
// which time its backups run at now.
func (s *Store) changeSchedule(ctx context.Context, org backup.OrgID, now time.Time, change func(*sql.Tx, backup.Schedule) (backup.Schedule, error)) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if _, err := one(ctx, tx, scanValue[string], `SELECT id FROM organizations WHERE id = $1`+s.forUpdate(), org); err != nil {
			return err
		}
		v, err := schedule(ctx, tx, org)
		if err != nil {
			return err
		}
		if v, err = change(tx, v); err != nil {
			return err
		}
		if err := execOne(ctx, tx, `
			INSERT INTO schedules (org_id, `+scheduleColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (org_id) DO UPDATE SET zone = excluded.zone, windows = excluded.windows, every_ms = excluded.every_ms,
				bytes_per_second = excluded.bytes_per_second, paused_at = excluded.paused_at, paused_by = excluded.paused_by, paused_reason = excluded.paused_reason`,
			org, v.Zone, windowsText(v.Windows), v.Every.Milliseconds(), v.BytesPerSecond, millis(v.Pause.At), v.Pause.By, v.Pause.Reason); err != nil {
			return fmt.Errorf("save schedule: %w", err)
		}
		return saveSpan(ctx, tx, org, v, now)
	})
}

// saveSpan writes the time in which an organization's backups run: the window of
// now, or the next.
func saveSpan(ctx context.Context, q querier, org backup.OrgID, v backup.Schedule, now time.Time) error {
	opens, closes := v.Span(now)
	if opens.Before(now) {
		opens = now // what is due waits since then, and not since before
	}
	if err := execOne(ctx, q, `UPDATE organizations SET opens_at = $1, closes_at = $2 WHERE id = $3`, millis(opens), millis(closes), org); err != nil {
		return fmt.Errorf("save window: %w", err)
	}
	return nil
}

// turnWindows writes the next window of the organizations whose last has closed.
func (s *Store) turnWindows(ctx context.Context, now time.Time) error {
	orgs, err := collect(ctx, s.read, scanValue[backup.OrgID], closedSQL, millis(now))
	if err != nil {
		return fmt.Errorf("find windows that closed: %w", err)
	}
	for _, org := range orgs {
		if err := s.changeSchedule(ctx, org, now, func(_ *sql.Tx, v backup.Schedule) (backup.Schedule, error) { return v, nil }); err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("open the next window of organization %s: %w", org, err)
		}
	}
	return nil
}

const closedSQL = `SELECT id FROM organizations WHERE closes_at <= $1`

// Errors that say why a backup may not run, told by errors.Is.
var (
	// ErrSuspended says that the organization is suspended.
	ErrSuspended = errors.New("the organization is suspended")
	// ErrPaused says that the organization's automatic backups are paused.
	ErrPaused = errors.New("automatic backups are paused")
	// ErrWindowClosed says that none of the organization's windows is open.
	ErrWindowClosed = errors.New("the backup window is closed")
)

// MayRun returns nil if the backup of a mailbox may begin or go on at now, else
// why not. One that a person asked for needs no window.
func (s *Store) MayRun(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, now time.Time) error {
	type state struct {
		suspended bool
		asked     bool
	}
	v, err := one(ctx, s.read, func(row scanner) (state, error) {
		var v state
		err := row.Scan(&v.suspended, &v.asked)
		return v, err
	}, `SELECT o.suspended_at > 0, m.asked_at > 0 FROM mailboxes m JOIN organizations o ON o.id = m.org_id WHERE m.org_id = $1 AND m.id = $2`, org, mailbox)
	switch {
	case err != nil:
		return fmt.Errorf("read whether mailbox %s may be backed up: %w", mailbox, err)
	case v.suspended:
		return ErrSuspended
	case v.asked:
		return nil
	}
	plan, err := s.Schedule(ctx, org)
	switch {
	case err != nil:
		return err
	case !plan.Pause.IsZero():
		return ErrPaused
	case !plan.Open(now):
		return ErrWindowClosed
	}
	return nil
}
