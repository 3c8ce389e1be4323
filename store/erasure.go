package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

const erasureColumns = `id, org_id, mailbox_id, address, name, reason, requested_by, asked_by, asked_at, begun_at, ended_at, state, problem, found, certificate`

func scanErasure(row scanner) (backup.Erasure, error) {
	var e backup.Erasure
	var asked, begun, ended int64
	var problem, found, certificate string
	err := row.Scan(&e.ID, &e.OrgID, &e.MailboxID, &e.Address, &e.Name, &e.Reason, &e.RequestedBy, &e.AskedBy, &asked, &begun, &ended, &e.State, &problem, &found, &certificate)
	e.AskedAt, e.BegunAt, e.EndedAt, e.Problem = moment(asked), moment(begun), moment(ended), problemOf(problem)
	if found != "" && err == nil {
		err = json.Unmarshal([]byte(found), &e.Found)
	}
	if certificate != "" {
		e.Certificate = []byte(certificate)
	}
	return e, err
}

// errHeld says why a mailbox under hold is not erased.
func errHeld(h backup.LegalHold) error {
	return backup.FieldErrors{"hold": "A legal hold is in force: " + h.Reason + ". Nothing is erased before it is lifted."}
}

// holdOf returns the hold that keeps a mailbox: its own or its organization's.
func (s *Store) holdOf(ctx context.Context, q querier, org backup.OrgID, mailbox backup.MailboxID) (backup.LegalHold, error) {
	own, err := keepingOf(ctx, q, org, mailbox)
	if err != nil || !own.Hold.IsZero() {
		return own.Hold, err
	}
	h, err := one(ctx, q, func(row scanner) (backup.LegalHold, error) {
		var h backup.LegalHold
		var at int64
		err := row.Scan(&at, &h.By, &h.Reason)
		h.At = moment(at)
		return h, err
	}, `SELECT held_at, held_by, held_reason FROM retention WHERE org_id = $1`+s.forUpdate(), org)
	if errors.Is(err, backup.ErrNotFound) {
		return backup.LegalHold{}, nil
	}
	return h, err
}

// AskErasure has everything of a mailbox erased, in the background. From then on
// it is not backed up. It returns backup.FieldErrors if the address was not typed
// as it is, a field breaks a rule or a legal hold is in force, and
// backup.ErrConflict if it is being erased already.
func (s *Store) AskErasure(ctx context.Context, e backup.Erasure, typed string, by backup.Actor) (backup.Erasure, error) {
	e.Reason, e.RequestedBy = strings.TrimSpace(clean(e.Reason)), strings.TrimSpace(clean(e.RequestedBy))
	fields, _ := errors.AsType[backup.FieldErrors](e.Validate())
	if fields == nil {
		fields = backup.FieldErrors{}
	}
	e.ID, e.AskedAt, e.State = backup.NewID[backup.ErasureID](), time.Now(), backup.ErasureWaiting
	e.AskedBy = entryOf(by, e.OrgID, "", "", "").Person
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		m, err := s.selectedMailbox(ctx, tx, e.OrgID, e.MailboxID)
		if err != nil {
			return err
		}
		if !backup.SameAddress(typed, m.Address) {
			fields["address"] = "Type the address of the mailbox as it stands here: " + m.Address
		}
		if err := fields.OrNil(); err != nil {
			return err
		}
		hold, err := s.holdOf(ctx, tx, e.OrgID, e.MailboxID)
		if err != nil {
			return fmt.Errorf("look for a legal hold: %w", err)
		}
		if !hold.IsZero() {
			return errHeld(hold)
		}
		e.Address, e.Name = m.Address, m.Name
		if _, err := tx.ExecContext(ctx, `INSERT INTO erasures (id, org_id, mailbox_id, address, name, reason, requested_by, asked_by, asked_at, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			e.ID, e.OrgID, e.MailboxID, e.Address, e.Name, e.Reason, e.RequestedBy, e.AskedBy, millis(e.AskedAt), e.State); err != nil {
			return fmt.Errorf("ask for the erasure: %w", conflict(err))
		}
		if _, err := s.changeMailbox(ctx, tx, e.OrgID, e.MailboxID, func(m *backup.Mailbox) {
			m.Deactivated, m.DeactivatedBy, m.NextRunAt = backup.DeactivatedManual, by.Person.Name, time.Time{}
		}); err != nil {
			return fmt.Errorf("stop its backups: %w", err)
		}
		if err := s.enqueueTx(ctx, tx, backup.EraseJob{OrgID: e.OrgID, ErasureID: e.ID}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, e.OrgID, "erasure.ask", e.Address, "on the request of "+e.RequestedBy+": "+e.Reason)
	})
	return e, err
}

// Erasure returns an erasure of an organization.
func (s *Store) Erasure(ctx context.Context, org backup.OrgID, id backup.ErasureID) (backup.Erasure, error) {
	return one(ctx, s.read, scanErasure, `SELECT `+erasureColumns+` FROM erasures WHERE org_id = $1 AND id = $2`, org, id)
}

// Erasures returns the erasures of an organization, the newest first.
func (s *Store) Erasures(ctx context.Context, org backup.OrgID) ([]backup.Erasure, error) {
	return collect(ctx, s.read, scanErasure, `SELECT `+erasureColumns+` FROM erasures WHERE org_id = $1 ORDER BY asked_at DESC, id LIMIT 1000`, org)
}

// OpenErasures returns the erasures of all organizations that have not ended.
func (s *Store) OpenErasures(ctx context.Context) ([]backup.Erasure, error) {
	return collect(ctx, s.read, scanErasure, `SELECT `+erasureColumns+` FROM erasures WHERE ended_at = 0 ORDER BY asked_at LIMIT 100`)
}

// Erasing returns the erasure under way of a mailbox, or backup.ErrNotFound.
func (s *Store) Erasing(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) (backup.Erasure, error) {
	return one(ctx, s.read, scanErasure, `SELECT `+erasureColumns+` FROM erasures WHERE org_id = $1 AND mailbox_id = $2 AND ended_at = 0`, org, mailbox)
}

// BeginErasure takes an erasure to the point from which there is no way back,
// notes what there is, and ends exports and restores of the mailbox. If a legal
// hold came first, the erasure stops. While a run or a restore is at the mailbox,
// it is backup.ErrConflict. One that has begun is returned as it is.
func (s *Store) BeginErasure(ctx context.Context, e backup.Erasure, packs, storedBytes int64) (backup.Erasure, error) {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		now, err := one(ctx, tx, scanErasure, `SELECT `+erasureColumns+` FROM erasures WHERE org_id = $1 AND id = $2`+s.forUpdate(), e.OrgID, e.ID)
		if err != nil {
			return err
		}
		if e = now; e.State != backup.ErasureWaiting {
			return nil
		}
		hold, err := s.holdOf(ctx, tx, e.OrgID, e.MailboxID)
		if err != nil {
			return fmt.Errorf("look for a legal hold: %w", err)
		}
		if !hold.IsZero() {
			e.State, e.EndedAt = backup.ErasureStopped, time.Now()
			e.Problem = backup.Problem{Kind: backup.ProblemUnknown, At: e.EndedAt, Text: "A legal hold was set before it began: " + hold.Reason + ". Nothing was erased."}
			if err := s.saveErasure(ctx, tx, e); err != nil {
				return err
			}
			return s.recordErasure(ctx, tx, e, "erasure.stop", hold.Reason)
		}
		if err := s.endUses(ctx, tx, &e); err != nil {
			return err
		}
		if err := countErased(ctx, tx, &e); err != nil {
			return fmt.Errorf("count what there is: %w", err)
		}
		e.Found.Packs, e.Found.StoredBytes = packs, storedBytes
		e.State, e.BegunAt, e.Problem = backup.ErasureRunning, time.Now(), backup.Problem{}
		return s.saveErasure(ctx, tx, e)
	})
	return e, err
}

// errBusy says that a run or a restore is at the mailbox. What was asked of them
// is kept, so this is no reason to undo the transaction.
var errBusy = fmt.Errorf("a backup or a restore is at the mailbox: %w", backup.ErrConflict)

// endUses refuses while a run or a restore is at a mailbox, and ends its exports.
func (s *Store) endUses(ctx context.Context, tx *sql.Tx, e *backup.Erasure) error {
	busy, err := one(ctx, tx, scanValue[int], `SELECT (SELECT count(*) FROM mailboxes WHERE org_id = $1 AND id = $2 AND running = TRUE)
		+ (SELECT count(*) FROM restores WHERE org_id = $1 AND (mailbox_id = $2 OR target_id = $2) AND ended_at = 0 AND state = 'running')`, e.OrgID, e.MailboxID)
	if err != nil {
		return fmt.Errorf("look for runs: %w", err)
	}
	if busy > 0 {
		return errBusy
	}
	res, err := tx.ExecContext(ctx, `UPDATE exports SET state = 'cancelled', secrets_sealed = NULL, expires_at = $1 WHERE org_id = $2 AND (mailbox_id = $3 OR mailbox_id = '')`,
		millis(time.Now()), e.OrgID, e.MailboxID)
	if err != nil {
		return fmt.Errorf("end exports: %w", err)
	}
	e.Found.Exports, err = res.RowsAffected()
	return err
}

// CancelErasedRestores asks restores of a mailbox that run to end.
func (s *Store) CancelErasedRestores(ctx context.Context, e backup.Erasure) error {
	_, err := s.db.ExecContext(ctx, `UPDATE restores SET cancel_asked = TRUE WHERE org_id = $1 AND (mailbox_id = $2 OR target_id = $2) AND ended_at = 0`, e.OrgID, e.MailboxID)
	return err
}

// countErased notes what the catalog has of a mailbox.
func countErased(ctx context.Context, tx *sql.Tx, e *backup.Erasure) error {
	return tx.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM catalog_snapshots n JOIN catalog_sources c ON c.number = n.source WHERE c.org_id = $1 AND c.mailbox_id = $2),
			(SELECT count(*) FROM catalog_items i JOIN catalog_sources c ON c.number = i.source WHERE c.org_id = $1 AND c.mailbox_id = $2),
			CAST(coalesce((SELECT sum(r.size_bytes) FROM catalog_records r JOIN catalog_sources c ON c.number = r.source WHERE c.org_id = $1 AND c.mailbox_id = $2), 0) AS BIGINT),
			(SELECT count(*) FROM restores WHERE org_id = $1 AND (mailbox_id = $2 OR target_id = $2))`, e.OrgID, e.MailboxID).
		Scan(&e.Found.Snapshots, &e.Found.Messages, &e.Found.Bytes, &e.Found.Restores)
}

func (s *Store) saveErasure(ctx context.Context, q querier, e backup.Erasure) error {
	found, err := json.Marshal(e.Found)
	if err != nil {
		return err
	}
	return execOne(ctx, q, `UPDATE erasures SET state = $1, begun_at = $2, ended_at = $3, problem = $4, found = $5 WHERE org_id = $6 AND id = $7`,
		e.State, millis(e.BegunAt), millis(e.EndedAt), problemText(e.Problem), string(found), e.OrgID, e.ID)
}

// NoteErasure keeps why an erasure has not ended yet.
func (s *Store) NoteErasure(ctx context.Context, e backup.Erasure) error {
	return execOne(ctx, s.db, `UPDATE erasures SET problem = $1 WHERE org_id = $2 AND id = $3 AND ended_at = 0`, problemText(e.Problem), e.OrgID, e.ID)
}

// FinishErasure ends an erasure with its certificate, which is sealed.
func (s *Store) FinishErasure(ctx context.Context, e backup.Erasure, c backup.ErasureCertificate) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	sealed, err := s.seal(sum[:], erasurePlace(e))
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		err := execOne(ctx, tx, `UPDATE erasures SET state = $1, ended_at = $2, problem = '', certificate = $3, certificate_sealed = $4 WHERE org_id = $5 AND id = $6 AND ended_at = 0`,
			backup.ErasureDone, millis(c.EndedAt), string(text), sealed, e.OrgID, e.ID)
		if err != nil {
			return err
		}
		return s.recordErasure(ctx, tx, e, "erasure.done", fmt.Sprintf("%d messages; sha256 of the certificate %x", e.Found.Messages, sum))
	})
}

func erasurePlace(e backup.Erasure) []byte {
	return place("erasures", e.OrgID, "certificate", string(e.ID))
}

// recordErasure notes what Holdfast itself did.
func (s *Store) recordErasure(ctx context.Context, tx *sql.Tx, e backup.Erasure, kind, detail string) error {
	return s.appendFor(ctx, tx, backup.Entry{OrgID: e.OrgID, Kind: kind, Subject: e.Address, Detail: detail})
}

// CertificateSeal returns the seal of an erasure's certificate, which only this
// installation's keys make, and ErrBroken if the certificate is not the one that
// was sealed.
func (s *Store) CertificateSeal(ctx context.Context, e backup.Erasure) ([]byte, error) {
	sealed, err := one(ctx, s.read, scanValue[[]byte], `SELECT certificate_sealed FROM erasures WHERE org_id = $1 AND id = $2`, e.OrgID, e.ID)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(e.Certificate)
	if want, err := s.unseal(sealed, erasurePlace(e)); err != nil || string(want) != string(sum[:]) {
		return nil, fmt.Errorf("certificate %s: %w", e.ID, ErrBroken)
	}
	return sealed, nil
}

// LastErased returns when keys of a mailbox, or older ones of an organization, were
// destroyed last, zero for never.
func (s *Store) LastErased(ctx context.Context) (time.Time, error) {
	at, err := one(ctx, s.db, scanValue[int64], `SELECT coalesce(max(at), 0) FROM (SELECT erased_at AS at FROM erased_sources
		UNION ALL SELECT created_at FROM repository_keys WHERE source = '' AND epoch = $1) d`, secretsEpoch)
	return moment(at), err
}

// WritesFilesAnew says whether Scrub leaves nothing in the database's files.
func (s *Store) WritesFilesAnew() bool { return s.dialect == dialectSQLite }
