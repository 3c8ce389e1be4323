package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
)

const exportColumns = `id, org_id, mailbox_id, folder_id, name, at, format, state, problem, encryption, recipient, secrets_sealed, asked_by,
	created_at, beat_at, ended_at, expires_at, attempt, items_done, items_total, missing_items, read_bytes, size_bytes, downloaded_at`

// Names of the sealed secrets of an export.
const (
	exportPassphrase = "passphrase"
	exportKey        = "key"
)

func exportPlace(e backup.Export) []byte { return place("exports", e.OrgID, "secrets", string(e.ID)) }

func (s *Store) scanExport(row scanner) (backup.Export, error) {
	var e backup.Export
	var at, created, beat, ended, expires, downloaded int64
	var problem string
	var sealed []byte
	err := row.Scan(&e.ID, &e.OrgID, &e.MailboxID, &e.FolderID, &e.Name, &at, &e.Format, &e.State, &problem, &e.Encryption, &e.Recipient, &sealed, &e.AskedBy,
		&created, &beat, &ended, &expires, &e.Attempt, &e.ItemsDone, &e.ItemsTotal, &e.MissingItems, &e.ReadBytes, &e.SizeBytes, &downloaded)
	if err != nil {
		return e, err
	}
	e.At, e.CreatedAt, e.BeatAt, e.EndedAt, e.ExpiresAt, e.DownloadedAt = moment(at), moment(created), moment(beat), moment(ended), moment(expires), moment(downloaded)
	e.Problem = problemOf(problem)
	secrets, err := s.unsealAll(sealed, exportPlace(e))
	e.Passphrase, e.Key = secrets[exportPassphrase], secrets[exportKey]
	return e, err
}

func (s *Store) sealExport(e backup.Export) ([]byte, error) {
	return s.sealAll(map[string]backup.Secret{exportPassphrase: e.Passphrase, exportKey: e.Key}, exportPlace(e))
}

// exportsAtOnce is how many exports of an organization may wait or run.
const exportsAtOnce = 10

// StartExport stores an export and queues its work. It returns
// backup.FieldErrors if a field breaks a rule, and backup.ErrNotFound if the
// organization has no such mailbox.
func (s *Store) StartExport(ctx context.Context, e backup.Export, by backup.Actor) (backup.Export, error) {
	if err := e.Validate(); err != nil {
		return e, err
	}
	e.ID, e.State, e.CreatedAt, e.AskedBy, e.Name = backup.NewID[backup.ExportID](), backup.ExportWaiting, time.Now(), by.Person.Name, clean(e.Name)
	switch {
	case len(e.Passphrase) > 0:
		e.Encryption = "passphrase"
	case e.Recipient != "":
		e.Encryption = "recipient"
	}
	sealed, err := s.sealExport(e)
	if err != nil {
		return e, err
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if e.MailboxID != "" {
			if _, err := one(ctx, tx, scanValue[string], `SELECT id FROM mailboxes WHERE org_id = $1 AND id = $2`, e.OrgID, e.MailboxID); err != nil {
				return err
			}
		}
		n, err := one(ctx, tx, scanValue[int], `SELECT count(*) FROM exports WHERE org_id = $1 AND state IN ('waiting', 'running')`, e.OrgID)
		if err != nil {
			return fmt.Errorf("count exports: %w", err)
		}
		if n >= exportsAtOnce {
			return backup.FieldErrors{"export": fmt.Sprintf("There are %d exports under way. Wait for one to end, or cancel one.", n)}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO exports (id, org_id, mailbox_id, folder_id, name, at, format, state, encryption, recipient, secrets_sealed, asked_by, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			e.ID, e.OrgID, e.MailboxID, e.FolderID, e.Name, millis(e.At), e.Format, e.State, e.Encryption, e.Recipient, sealed, e.AskedBy, millis(e.CreatedAt)); err != nil {
			return fmt.Errorf("start export: %w", conflict(err))
		}
		if err := s.enqueueTx(ctx, tx, backup.ExportJob{OrgID: e.OrgID, ExportID: e.ID}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, e.OrgID, "export.start", e.Name, exportDetail(e))
	})
	return e, err
}

func exportDetail(e backup.Export) string {
	detail := "as " + e.Format
	if e.At.IsZero() {
		detail += ", the newest backups"
	} else {
		detail += ", as of " + e.At.UTC().Format(time.DateTime)
	}
	if e.Encryption != "" {
		detail += ", encrypted"
	}
	return detail
}

// Export returns an export of an organization.
func (s *Store) Export(ctx context.Context, org backup.OrgID, id backup.ExportID) (backup.Export, error) {
	return one(ctx, s.read, s.scanExport, `SELECT `+exportColumns+` FROM exports WHERE org_id = $1 AND id = $2`, org, id)
}

// Exports returns the exports of an organization, the newest first.
func (s *Store) Exports(ctx context.Context, org backup.OrgID) ([]backup.Export, error) {
	list, err := collect(ctx, s.read, s.scanExport, `SELECT `+exportColumns+` FROM exports WHERE org_id = $1
		AND (expires_at = 0 OR expires_at > $2) ORDER BY created_at DESC, id LIMIT 200`, org, millis(time.Now()))
	if err != nil {
		return nil, fmt.Errorf("list exports: %w", err)
	}
	return list, nil
}

// TakeExport begins a try of an export under a fresh key and returns it. One
// that another worker beats for, or that ended, is backup.ErrConflict.
func (s *Store) TakeExport(ctx context.Context, org backup.OrgID, id backup.ExportID, key backup.Secret, alive time.Time) (backup.Export, error) {
	var e backup.Export
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		var err error
		if e, err = one(ctx, tx, s.scanExport, `SELECT `+exportColumns+` FROM exports WHERE org_id = $1 AND id = $2`+s.forUpdate(), org, id); err != nil {
			return err
		}
		if !e.Open() || e.State == backup.ExportRunning && e.BeatAt.After(alive) {
			return backup.ErrConflict
		}
		e.State, e.Key, e.BeatAt, e.Attempt = backup.ExportRunning, key, time.Now(), e.Attempt+1
		e.ItemsDone, e.ItemsTotal, e.MissingItems, e.ReadBytes = 0, 0, 0, 0
		sealed, err := s.sealExport(e)
		if err != nil {
			return err
		}
		return execOne(ctx, tx, `UPDATE exports SET state = $1, secrets_sealed = $2, beat_at = $3, attempt = $4, items_done = 0, items_total = 0, missing_items = 0, read_bytes = 0
			WHERE org_id = $5 AND id = $6`, e.State, sealed, millis(e.BeatAt), e.Attempt, org, id)
	})
	return e, err
}

// BeatExport writes how far a try is and that it lives. A try that is not the
// newest any more, or was cancelled, is backup.ErrNotFound.
func (s *Store) BeatExport(ctx context.Context, e backup.Export) error {
	return execOne(ctx, s.db, `UPDATE exports SET beat_at = $1, items_done = $2, items_total = $3, missing_items = $4, read_bytes = $5
		WHERE org_id = $6 AND id = $7 AND state = 'running' AND attempt = $8`,
		millis(time.Now()), e.ItemsDone, e.ItemsTotal, e.MissingItems, e.ReadBytes, e.OrgID, e.ID, e.Attempt)
}

// ReleaseExport gives a try up that its process can't end, for another to begin
// at once.
func (s *Store) ReleaseExport(ctx context.Context, e backup.Export) error {
	return execOne(ctx, s.db, `UPDATE exports SET state = 'waiting' WHERE org_id = $1 AND id = $2 AND state = 'running' AND attempt = $3`, e.OrgID, e.ID, e.Attempt)
}

// FinishExport ends a try as done or failed, and erases the passphrase; of one
// that failed, the key as well.
func (s *Store) FinishExport(ctx context.Context, e backup.Export) error {
	e.Passphrase = nil
	if e.State != backup.ExportDone {
		e.Key = nil
	}
	sealed, err := s.sealExport(e)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `UPDATE exports SET state = $1, problem = $2, secrets_sealed = $3, ended_at = $4, expires_at = $5, items_done = $6, items_total = $7,
				missing_items = $8, read_bytes = $9, size_bytes = $10
			WHERE org_id = $11 AND id = $12 AND state = 'running' AND attempt = $13`,
			e.State, problemText(e.Problem), sealed, millis(e.EndedAt), millis(e.ExpiresAt), e.ItemsDone, e.ItemsTotal,
			e.MissingItems, e.ReadBytes, e.SizeBytes, e.OrgID, e.ID, e.Attempt); err != nil {
			return err
		}
		kind, detail := "export.done", fmt.Sprintf("%d messages, %d missing", e.ItemsDone-e.MissingItems, e.MissingItems)
		if e.State == backup.ExportFailed {
			kind, detail = "export.failed", e.Problem.Text
		}
		return s.appendFor(ctx, tx, backup.Entry{OrgID: e.OrgID, Kind: kind, Subject: e.Name, Detail: detail})
	})
}

// CancelExport ends an export that waits or runs. One that ended by itself is
// backup.ErrConflict.
func (s *Store) CancelExport(ctx context.Context, org backup.OrgID, id backup.ExportID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		e, err := one(ctx, tx, s.scanExport, `SELECT `+exportColumns+` FROM exports WHERE org_id = $1 AND id = $2`+s.forUpdate(), org, id)
		if err != nil {
			return err
		}
		if !e.Open() {
			return fmt.Errorf("cancel export %s, which is %s: %w", id, e.State, backup.ErrConflict)
		}
		now := time.Now()
		if err := execOne(ctx, tx, `UPDATE exports SET state = 'cancelled', secrets_sealed = NULL, ended_at = $1, expires_at = $2 WHERE org_id = $3 AND id = $4`,
			millis(now), millis(now.Add(24*time.Hour)), org, id); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "export.cancel", e.Name, "")
	})
}

// DeleteExport makes a file unreadable at once, by erasing its key; the file
// itself is deleted soon after. One under way ends.
func (s *Store) DeleteExport(ctx context.Context, org backup.OrgID, id backup.ExportID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		name, err := one(ctx, tx, scanValue[string], `SELECT name FROM exports WHERE org_id = $1 AND id = $2`, org, id)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE exports SET state = 'cancelled', secrets_sealed = NULL, expires_at = $1 WHERE org_id = $2 AND id = $3`,
			millis(time.Now()), org, id); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "export.delete", name, "")
	})
}

// downloadSpan is how long requests of one person for one file count as one
// download: a browser that was interrupted asks for the rest.
const downloadSpan = 10 * time.Minute

// RecordDownload notes that a person downloads an export.
func (s *Store) RecordDownload(ctx context.Context, e backup.Export, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		now, who := time.Now(), string(by.Person.ID)
		err := execOne(ctx, tx, `UPDATE exports SET downloaded_at = $1, downloaded_by = $2
			WHERE org_id = $3 AND id = $4 AND (downloaded_by <> $2 OR downloaded_at < $5)`, millis(now), who, e.OrgID, e.ID, millis(now.Add(-downloadSpan)))
		if errors.Is(err, backup.ErrNotFound) {
			return nil // a further part of the same download
		}
		if err != nil {
			return fmt.Errorf("note download: %w", err)
		}
		return s.record(ctx, tx, by, e.OrgID, "export.download", e.Name, exportDetail(e))
	})
}

// LostExports returns the exports of all organizations that wait, or whose
// worker gave no sign of life since alive.
func (s *Store) LostExports(ctx context.Context, alive time.Time) ([]backup.Export, error) {
	list, err := collect(ctx, s.read, s.scanExport, `SELECT `+exportColumns+` FROM exports
		WHERE state IN ('waiting', 'running') AND (state = 'waiting' OR beat_at < $1) ORDER BY created_at LIMIT 100`, millis(alive))
	if err != nil {
		return nil, fmt.Errorf("find lost exports: %w", err)
	}
	return list, nil
}

// ExpiredExports returns the exports of all organizations whose time is over.
func (s *Store) ExpiredExports(ctx context.Context, now time.Time) ([]backup.Export, error) {
	list, err := collect(ctx, s.read, s.scanExport, `SELECT `+exportColumns+` FROM exports WHERE expires_at > 0 AND expires_at <= $1 ORDER BY expires_at LIMIT 100`, millis(now))
	if err != nil {
		return nil, fmt.Errorf("find expired exports: %w", err)
	}
	return list, nil
}

// ForgetExport removes the row of an export whose file is deleted.
func (s *Store) ForgetExport(ctx context.Context, org backup.OrgID, id backup.ExportID) error {
	return execOne(ctx, s.db, `DELETE FROM exports WHERE org_id = $1 AND id = $2`, org, id)
}
