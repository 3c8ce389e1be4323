package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

const restoreColumns = `r.id, r.org_id, r.mailbox_id, r.snapshot, r.scope, r.folder_id, r.item_id, r.what, r.target_id, r.place, r.folder_name, r.copies, r.state,
	r.items_total, r.items_done, r.restored, r.skipped, r.failed, r.altered, r.bytes, r.problem, r.started_by, r.started_name, r.cancel_asked, r.tries,
	r.created_at, r.started_at, r.beat_at, r.next_try_at, r.ended_at`

// restoreFields are the places for restoreColumns; finish completes r after the scan.
func restoreFields(r *backup.Restore) (fields []any, finish func()) {
	var created, started, beat, next, ended int64
	var problem string
	return []any{&r.ID, &r.OrgID, &r.MailboxID, &r.Snapshot, &r.Scope, &r.FolderID, &r.ItemID, &r.What, &r.TargetID, &r.Place, &r.FolderName, &r.Copies, &r.State,
			&r.ItemsTotal, &r.ItemsDone, &r.Restored, &r.Skipped, &r.Failed, &r.Altered, &r.Bytes, &problem, &r.StartedBy, &r.StartedName, &r.CancelAsked, &r.Tries,
			&created, &started, &beat, &next, &ended},
		func() {
			r.Problem = problemOf(problem)
			r.CreatedAt, r.StartedAt, r.BeatAt, r.NextTryAt, r.EndedAt = moment(created), moment(started), moment(beat), moment(next), moment(ended)
		}
}

func scanRestore(row scanner) (backup.Restore, error) {
	var r backup.Restore
	fields, finish := restoreFields(&r)
	err := row.Scan(fields...)
	finish()
	return r, err
}

// MailboxRestore is a restore with the mailboxes that it is about.
type MailboxRestore struct {
	backup.Restore
	From, FromAddress string    // the mailbox that was backed up
	To, ToAddress     string    // the one that is restored to
	SnapshotAt        time.Time // zero if the snapshot is gone
	ConnectionID      backup.ConnectionID
}

const mailboxRestoreSQL = `SELECT ` + restoreColumns + `, f.name, f.address, t.name, t.address, t.connection_id,
	coalesce((SELECT n.at FROM catalog_sources c JOIN catalog_snapshots n ON n.source = c.number AND n.seq = r.snapshot WHERE c.org_id = r.org_id AND c.mailbox_id = r.mailbox_id), 0)
	FROM restores r JOIN mailboxes f ON f.id = r.mailbox_id JOIN mailboxes t ON t.id = r.target_id`

func scanMailboxRestore(row scanner) (MailboxRestore, error) {
	var r MailboxRestore
	var at int64
	fields, finish := restoreFields(&r.Restore)
	err := row.Scan(append(fields, &r.From, &r.FromAddress, &r.To, &r.ToAddress, &r.ConnectionID, &at)...)
	finish()
	r.SnapshotAt = moment(at)
	return r, err
}

// StartRestore stores a new restore and, if it is queued, its job. A mailbox or
// a snapshot that the organization does not have is backup.ErrNotFound.
func (s *Store) StartRestore(ctx context.Context, r backup.Restore, by backup.Actor) (backup.Restore, error) {
	r.FolderName, r.What = strings.TrimSpace(clean(r.FolderName)), clean(r.What)
	if err := r.Validate(); err != nil {
		return r, err
	}
	if _, err := s.snapshotSource(ctx, r.OrgID, r.MailboxID, r.Snapshot); err != nil {
		return r, err
	}
	r.ID, r.CreatedAt = backup.NewID[backup.RestoreID](), time.Now()
	r.StartedBy, r.StartedName = by.Person.ID, by.Person.Name
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		names := map[backup.MailboxID]string{}
		for _, id := range []backup.MailboxID{r.MailboxID, r.TargetID} {
			name, err := one(ctx, tx, scanValue[string], `SELECT address FROM mailboxes WHERE org_id = $1 AND id = $2`, r.OrgID, id)
			if err != nil {
				return fmt.Errorf("mailbox %s: %w", id, err)
			}
			names[id] = name
		}
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO restores (id, org_id, mailbox_id, snapshot, scope, folder_id, item_id, what, target_id, place, folder_name, copies, state, items_total, started_by, started_name, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
			r.ID, r.OrgID, r.MailboxID, r.Snapshot, r.Scope, r.FolderID, r.ItemID, r.What, r.TargetID, r.Place, r.FolderName, r.Copies, r.State, r.ItemsTotal,
			r.StartedBy, r.StartedName, millis(r.CreatedAt)); err != nil {
			return fmt.Errorf("start restore: %w", conflict(err))
		}
		if err := s.queueRestore(ctx, tx, r); err != nil {
			return err
		}
		return s.record(ctx, tx, by, r.OrgID, "restore.start", restoreSubject(r, names[r.MailboxID]), restoreDetail(r, names[r.TargetID]))
	})
	return r, err
}

// queueRestore puts the job of a queued restore into the queue.
func (s *Store) queueRestore(ctx context.Context, tx *sql.Tx, r backup.Restore) error {
	if r.State != backup.RestoreQueued {
		return nil
	}
	return s.enqueueTx(ctx, tx, backup.RestoreJob{OrgID: r.OrgID, RestoreID: r.ID})
}

// restoreSubject says in the activity log what is restored. A message is named by
// its id: what the log says stays when the message is erased.
func restoreSubject(r backup.Restore, address string) string {
	switch r.Scope {
	case backup.RestoreMailbox:
		return address
	case backup.RestoreMessage:
		return address + ": message " + string(r.ItemID)
	}
	return address + ": " + string(r.Scope) + " " + r.What
}

func restoreDetail(r backup.Restore, target string) string {
	where := "to the original folders of " + target
	if r.Place == backup.PlaceFolder {
		where = "to the folder " + r.FolderName + " of " + target
	}
	if r.Copies {
		where += ", also what is there already"
	}
	return fmt.Sprintf("snapshot %d, %s", r.Snapshot, where)
}

// Restore returns a restore of an organization.
func (s *Store) Restore(ctx context.Context, org backup.OrgID, id backup.RestoreID) (MailboxRestore, error) {
	return one(ctx, s.read, scanMailboxRestore, mailboxRestoreSQL+` WHERE r.org_id = $1 AND r.id = $2`, org, id)
}

// Restores returns an organization's latest restores, the newest first.
func (s *Store) Restores(ctx context.Context, org backup.OrgID, limit int) ([]MailboxRestore, error) {
	return collect(ctx, s.read, scanMailboxRestore, mailboxRestoreSQL+` WHERE r.org_id = $1 ORDER BY r.created_at DESC, r.id LIMIT $2`, org, limit)
}

// OpenRestores returns the restores to the mailboxes of a connection that have
// not ended, the oldest first.
func (s *Store) OpenRestores(ctx context.Context, org backup.OrgID, conn backup.ConnectionID) ([]MailboxRestore, error) {
	return collect(ctx, s.read, scanMailboxRestore, mailboxRestoreSQL+` WHERE r.org_id = $1 AND t.connection_id = $2 AND r.ended_at = 0 ORDER BY r.created_at, r.id`, org, conn)
}

// DueRestores returns the restores of all organizations that a job has to work
// on: those that are not paused, also those that are being worked on.
func (s *Store) DueRestores(ctx context.Context, now time.Time) ([]backup.Restore, error) {
	return collect(ctx, s.read, scanRestore, `SELECT `+restoreColumns+` FROM restores r
		WHERE r.ended_at = 0 AND r.state IN ('queued', 'running') AND r.next_try_at <= $1 ORDER BY r.created_at LIMIT 200`, millis(now))
}

// RestoresWaitingSince returns the restores of all organizations that nobody has
// given permission for since a time.
func (s *Store) RestoresWaitingSince(ctx context.Context, before time.Time) ([]backup.Restore, error) {
	return collect(ctx, s.read, scanRestore, `SELECT `+restoreColumns+` FROM restores r
		WHERE r.ended_at = 0 AND r.state = 'waiting_for_permission' AND r.created_at < $1 ORDER BY r.created_at LIMIT 200`, millis(before))
}

// BeginRestore marks a restore as running and forgets which messages failed the
// last time, since they are tried again. One that ended, or waits for permission,
// is backup.ErrNotFound.
func (s *Store) BeginRestore(ctx context.Context, org backup.OrgID, id backup.RestoreID) (backup.Restore, error) {
	var r backup.Restore
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		now := millis(time.Now())
		if err := execOne(ctx, tx, `
			UPDATE restores SET state = 'running', problem = '', next_try_at = 0, beat_at = $1, started_at = CASE WHEN started_at = 0 THEN $1 ELSE started_at END
			WHERE org_id = $2 AND id = $3 AND state IN ('queued', 'running') AND ended_at = 0`, now, org, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM restore_notes WHERE org_id = $1 AND restore_id = $2 AND altered = FALSE`, org, id); err != nil {
			return fmt.Errorf("forget what failed before: %w", err)
		}
		var err error
		r, err = one(ctx, tx, scanRestore, `SELECT `+restoreColumns+` FROM restores r WHERE r.org_id = $1 AND r.id = $2`, org, id)
		return err
	})
	return r, err
}

// BeatRestore writes the counters of a running restore and that it lives, and
// says whether somebody asked to cancel it. One that ended is backup.ErrNotFound.
func (s *Store) BeatRestore(ctx context.Context, r backup.Restore) (cancel bool, err error) {
	r.State, r.BeatAt = backup.RestoreRunning, time.Now()
	if err := writeRestore(ctx, s.db, r); err != nil {
		return false, err
	}
	return one(ctx, s.db, scanValue[bool], `SELECT cancel_asked FROM restores WHERE org_id = $1 AND id = $2`, r.OrgID, r.ID)
}

func writeRestore(ctx context.Context, q querier, r backup.Restore) error {
	return execOne(ctx, q, `
		UPDATE restores SET state = $1, items_total = $2, items_done = $3, restored = $4, skipped = $5, failed = $6, altered = $7, bytes = $8,
			problem = $9, tries = $10, beat_at = $11, next_try_at = $12, ended_at = $13
		WHERE org_id = $14 AND id = $15 AND ended_at = 0`,
		r.State, r.ItemsTotal, r.ItemsDone, r.Restored, r.Skipped, r.Failed, r.Altered, r.Bytes,
		problemText(r.Problem), r.Tries, millis(r.BeatAt), millis(r.NextTryAt), millis(r.EndedAt), r.OrgID, r.ID)
}

// PauseRestore puts a restore off until r.NextTryAt.
func (s *Store) PauseRestore(ctx context.Context, r backup.Restore) error {
	r.State, r.BeatAt = backup.RestoreQueued, time.Now()
	return writeRestore(ctx, s.db, r)
}

// FinishRestore ends a restore in r.State, with its counters, and writes into
// the activity log how it went. It puts jobs into the queue.
func (s *Store) FinishRestore(ctx context.Context, r backup.Restore, jobs ...backup.Job) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		r.EndedAt = time.Now()
		r.BeatAt, r.NextTryAt = r.EndedAt, time.Time{}
		if err := writeRestore(ctx, tx, r); err != nil {
			return fmt.Errorf("finish restore: %w", err)
		}
		for _, job := range jobs {
			if err := s.enqueueTx(ctx, tx, job); err != nil {
				return err
			}
		}
		address, err := one(ctx, tx, scanValue[string], `SELECT address FROM mailboxes WHERE org_id = $1 AND id = $2`, r.OrgID, r.MailboxID)
		if err != nil {
			return fmt.Errorf("read mailbox %s: %w", r.MailboxID, err)
		}
		return s.appendFor(ctx, tx, backup.Entry{OrgID: r.OrgID, Person: "Holdfast", Kind: "restore.end",
			Subject: restoreSubject(r, address), Detail: restoreOutcome(r)})
	})
}

func restoreOutcome(r backup.Restore) string {
	text := fmt.Sprintf("%s: %d restored, %d there already, %d not restored", r.State, r.Restored, r.Skipped, r.Failed)
	if !r.Problem.IsZero() {
		text += "; " + r.Problem.Text
	}
	return text
}

// CancelRestore ends a restore that no job works on, and asks the job of one
// that runs to end it. One that has ended is backup.ErrNotFound.
func (s *Store) CancelRestore(ctx context.Context, org backup.OrgID, id backup.RestoreID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		r, err := one(ctx, tx, scanRestore, `SELECT `+restoreColumns+` FROM restores r WHERE r.org_id = $1 AND r.id = $2 AND r.ended_at = 0`+s.forUpdate(), org, id)
		if err != nil {
			return err
		}
		if r.State == backup.RestoreRunning {
			err = execOne(ctx, tx, `UPDATE restores SET cancel_asked = TRUE WHERE org_id = $1 AND id = $2`, org, id)
		} else {
			r.State, r.EndedAt, r.NextTryAt = backup.RestoreCancelled, time.Now(), time.Time{}
			err = writeRestore(ctx, tx, r)
		}
		if err != nil {
			return fmt.Errorf("cancel restore: %w", err)
		}
		detail := r.What
		if r.Scope == backup.RestoreMessage {
			detail = "message " + string(r.ItemID)
		}
		return s.record(ctx, tx, by, org, "restore.cancel", string(id), detail)
	})
}

// RetryRestore lets a restore that was cancelled or failed go on in a state. One
// that has done all, or has not ended, is backup.ErrNotFound.
func (s *Store) RetryRestore(ctx context.Context, org backup.OrgID, id backup.RestoreID, state backup.RestoreState, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		err := execOne(ctx, tx, `
			UPDATE restores SET state = $1, problem = '', cancel_asked = FALSE, tries = 0, next_try_at = 0, ended_at = 0, created_at = $2
			WHERE org_id = $3 AND id = $4 AND (state IN ('cancelled', 'failed') OR state = 'done' AND failed > 0)`, state, millis(time.Now()), org, id)
		if err != nil {
			return err
		}
		if err := s.queueRestore(ctx, tx, backup.Restore{ID: id, OrgID: org, State: state}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "restore.retry", string(id), "")
	})
}

// AddRestoreNote keeps what is to be said of one message of a restore.
func (s *Store) AddRestoreNote(ctx context.Context, org backup.OrgID, id backup.RestoreID, n backup.RestoreNote) error {
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO restore_notes (restore_id, org_id, item_id, subject, sender, folder, received_at, altered, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (restore_id, item_id) DO UPDATE SET altered = excluded.altered, reason = excluded.reason WHERE restore_notes.org_id = excluded.org_id`,
		id, org, n.ItemID, clean(n.Subject), clean(n.From), clean(n.Folder), millis(n.ReceivedAt), n.Altered, clean(n.Reason))
	if err != nil {
		return fmt.Errorf("note of restore %s: %w", id, conflict(err))
	}
	return nil
}

// RestoreNotes returns what is to be said of a restore's messages: first those
// that were not restored. A limit of 0 is none.
func (s *Store) RestoreNotes(ctx context.Context, org backup.OrgID, id backup.RestoreID, limit int) ([]backup.RestoreNote, error) {
	query := `SELECT item_id, subject, sender, folder, received_at, altered, reason FROM restore_notes
		WHERE org_id = $1 AND restore_id = $2 ORDER BY altered, folder, received_at DESC, item_id`
	args := []any{org, id}
	if limit > 0 {
		query, args = query+` LIMIT $3`, append(args, limit)
	}
	return collect(ctx, s.read, func(row scanner) (backup.RestoreNote, error) {
		var n backup.RestoreNote
		var at int64
		err := row.Scan(&n.ItemID, &n.Subject, &n.From, &n.Folder, &at, &n.Altered, &n.Reason)
		n.ReceivedAt = moment(at)
		return n, err
	}, query, args...)
}
