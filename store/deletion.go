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

const deletionColumns = `org_id, partner_id, name, started_by, reason, step, done, mailboxes, messages, size_bytes, exports, removed, left_behind,
	objects, retained, retained_until, problem, tries, started_at, step_at, next_try_at, ended_at, settled_at, settled_by`

func scanDeletion(row scanner) (backup.Deletion, error) {
	var d backup.Deletion
	var removed, left, problem string
	var until, started, step, next, ended, settled int64
	err := row.Scan(&d.OrgID, &d.PartnerID, &d.Name, &d.By, &d.Reason, &d.Step, &d.Done, &d.Mailboxes, &d.Messages, &d.Bytes, &d.Exports, &removed, &left,
		&d.Objects, &d.Retained, &until, &problem, &d.Tries, &started, &step, &next, &ended, &settled, &d.SettledBy)
	if err != nil {
		return d, err
	}
	d.Problem, d.RetainedUntil, d.StartedAt, d.StepAt = problemOf(problem), moment(until), moment(started), moment(step)
	d.NextTryAt, d.EndedAt, d.SettledAt = moment(next), moment(ended), moment(settled)
	return d, errors.Join(jsonOf(removed, &d.Removed), jsonOf(left, &d.Left))
}

// jsonText encodes a list; an empty one is "".
func jsonText[T any](list []T) (string, error) {
	if len(list) == 0 {
		return "", nil
	}
	data, err := json.Marshal(list)
	return string(data), err
}

// jsonOf reverses jsonText.
func jsonOf[T any](text string, list *[]T) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), list)
}

// WhatGoes returns what a deletion of an organization of a partner would delete.
func (s *Store) WhatGoes(ctx context.Context, partner backup.PartnerID, org backup.OrgID) (backup.Deletion, error) {
	return whatGoes(ctx, s.read, partner, org)
}

func whatGoes(ctx context.Context, q querier, partner backup.PartnerID, org backup.OrgID) (backup.Deletion, error) {
	d := backup.Deletion{OrgID: org, PartnerID: partner}
	err := q.QueryRowContext(ctx, `SELECT o.name,
		(SELECT count(*) FROM mailboxes m WHERE m.org_id = o.id AND m.selected = TRUE),
		(SELECT coalesce(sum(m.items), 0) FROM mailboxes m WHERE m.org_id = o.id AND m.selected = TRUE),
		(SELECT coalesce(sum(m.size_bytes), 0) FROM mailboxes m WHERE m.org_id = o.id AND m.selected = TRUE),
		(SELECT count(*) FROM exports e WHERE e.org_id = o.id)
		FROM organizations o WHERE o.partner_id = $1 AND o.id = $2`, partner, org).Scan(&d.Name, &d.Mailboxes, &d.Messages, &d.Bytes, &d.Exports)
	if errors.Is(err, sql.ErrNoRows) {
		return d, backup.ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("count what would be deleted: %w", err)
	}
	return d, nil
}

// StartDeletion begins the deletion of a suspended organization of a partner. It
// returns backup.FieldErrors naming name, reason, anyway or hold, and
// backup.ErrConflict for an organization that is not suspended or is being deleted
// already.
func (s *Store) StartDeletion(ctx context.Context, partner backup.PartnerID, org backup.OrgID, wish backup.DeletionWish, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		o, err := one(ctx, tx, scanOrganization, `SELECT `+organizationColumns+` FROM organizations o WHERE o.partner_id = $1 AND o.id = $2`+s.forUpdate(), partner, org)
		if err != nil {
			return err
		}
		if o.SuspendedAt.IsZero() || !o.DeletingAt.IsZero() {
			return backup.ErrConflict
		}
		d, err := whatGoes(ctx, tx, partner, org)
		if err != nil {
			return err
		}
		d.Reason, d.By, d.StartedAt = strings.TrimSpace(clean(wish.Reason)), entryOf(by, "", "", "", "").Person, time.Now()
		wish.Reason = d.Reason
		if err := mayDelete(ctx, tx, o, wish); err != nil {
			return err
		}
		d.Move(backup.DeletionStop, d.StartedAt)
		return s.beginDeletion(ctx, tx, d, by)
	})
}

// mayDelete says why an organization may not be deleted.
func mayDelete(ctx context.Context, tx *sql.Tx, o backup.Organization, wish backup.DeletionWish) error {
	fields := backup.FieldErrors{}
	if strings.TrimSpace(wish.Name) != o.Name {
		fields["name"] = "Enter the organization's name exactly as it stands above."
	}
	if err := (backup.LegalHold{Reason: wish.Reason}).Validate(); err != nil {
		fields["reason"] = "Say why, in 3 to 500 characters. It stands in the activity."
	}
	if wish.Leaves && !wish.Anyway {
		fields["anyway"] = "Confirm that this may stay in the tenant, or have it removed there first."
	}
	held, err := one(ctx, tx, scanValue[int], `SELECT
		(SELECT count(*) FROM retention WHERE org_id = $1 AND held_at <> 0) + (SELECT count(*) FROM mailbox_retention WHERE org_id = $1 AND held_at <> 0)`, o.ID)
	if err != nil {
		return fmt.Errorf("look for a legal hold: %w", err)
	}
	if held > 0 {
		fields["hold"] = "There is a legal hold on the organization or on one of its mailboxes. Nothing is deleted before it is lifted."
	}
	return fields.OrNil()
}

func (s *Store) beginDeletion(ctx context.Context, tx *sql.Tx, d backup.Deletion, by backup.Actor) error {
	now := millis(d.StartedAt)
	if err := execOne(ctx, tx, `
		INSERT INTO deletions (org_id, partner_id, name, started_by, reason, step, mailboxes, messages, size_bytes, exports, started_at, step_at, next_try_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11)`,
		d.OrgID, d.PartnerID, d.Name, d.By, d.Reason, d.Step, d.Mailboxes, d.Messages, d.Bytes, d.Exports, now); err != nil {
		return fmt.Errorf("begin the deletion: %w", conflict(err))
	}
	if err := execOne(ctx, tx, `UPDATE organizations SET deleting_at = $1 WHERE id = $2`, now, d.OrgID); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE actings SET ended_at = $1 WHERE org_id = $2 AND ended_at = 0`, now, d.OrgID); err != nil {
		return fmt.Errorf("end actings: %w", err)
	}
	if err := s.enqueueTx(ctx, tx, backup.DeleteOrganizationJob{OrgID: d.OrgID}); err != nil {
		return err
	}
	return s.record(ctx, tx, by, "", "organization.delete_begin", d.Name, fmt.Sprintf("why: %s; %d mailboxes, %d messages", d.Reason, d.Mailboxes, d.Messages))
}

// Deletion returns the deletion of an organization of a partner, also after it is
// through.
func (s *Store) Deletion(ctx context.Context, partner backup.PartnerID, org backup.OrgID) (backup.Deletion, error) {
	return one(ctx, s.read, scanDeletion, `SELECT `+deletionColumns+` FROM deletions WHERE partner_id = $1 AND org_id = $2`, partner, org)
}

// DeletionByID returns the deletion of an organization whoever its partner is;
// for jobs.
func (s *Store) DeletionByID(ctx context.Context, org backup.OrgID) (backup.Deletion, error) {
	return one(ctx, s.read, scanDeletion, `SELECT `+deletionColumns+` FROM deletions WHERE org_id = $1`, org)
}

// UnsettledDeletions returns a partner's deletions of which something is to be
// done still, by Holdfast or by a person, the newest first.
func (s *Store) UnsettledDeletions(ctx context.Context, partner backup.PartnerID) ([]backup.Deletion, error) {
	list, err := collect(ctx, s.read, scanDeletion, `SELECT `+deletionColumns+` FROM deletions
		WHERE partner_id = $1 AND (step <> $2 OR (left_behind <> '' AND settled_at = 0)) ORDER BY started_at DESC, org_id`, partner, backup.DeletionDone)
	if err != nil {
		return nil, fmt.Errorf("list deletions: %w", err)
	}
	return list, nil
}

// DeletedOrganizations returns the organizations whose part of the repository was
// deleted, with whatever an object lock still keeps.
func (s *Store) DeletedOrganizations(ctx context.Context) ([]backup.OrgID, error) {
	list, err := collect(ctx, s.read, scanValue[backup.OrgID], `SELECT org_id FROM deletions WHERE step = $1 OR step = $2 ORDER BY org_id`, backup.DeletionRetained, backup.DeletionDone)
	if err != nil {
		return nil, fmt.Errorf("list deleted organizations: %w", err)
	}
	return list, nil
}

// DueDeletions returns the deletions that go on at now.
func (s *Store) DueDeletions(ctx context.Context, now time.Time) ([]backup.Deletion, error) {
	return collect(ctx, s.read, scanDeletion, `SELECT `+deletionColumns+` FROM deletions WHERE next_try_at > 0 AND next_try_at <= $1 ORDER BY next_try_at LIMIT 100`, millis(now))
}

// IsDeleting says whether an organization is being deleted, or was.
func (s *Store) IsDeleting(ctx context.Context, org backup.OrgID) (bool, error) {
	n, err := one(ctx, s.read, scanValue[int], `SELECT count(*) FROM deletions WHERE org_id = $1`, org)
	return n > 0, err
}

// SaveDeletion writes how far the step under way of a deletion is. It is
// backup.ErrConflict if the deletion has gone on without the caller: another worker
// took it over from one that was away for long.
func (s *Store) SaveDeletion(ctx context.Context, d backup.Deletion) error {
	return saveDeletion(ctx, s.db, d, d)
}

// MoveDeletion is SaveDeletion of one that goes on to another step.
func (s *Store) MoveDeletion(ctx context.Context, d backup.Deletion, to backup.DeletionStep) error {
	moved := d
	moved.Move(to, time.Now())
	return saveDeletion(ctx, s.db, moved, d)
}

// saveDeletion writes d if the row is at the step of was.
func saveDeletion(ctx context.Context, q querier, d, was backup.Deletion) error {
	removed, err := jsonText(d.Removed)
	if err != nil {
		return err
	}
	left, err := jsonText(d.Left)
	if err != nil {
		return err
	}
	err = execOne(ctx, q, `
		UPDATE deletions SET step = $1, done = $2, removed = $3, left_behind = $4, objects = $5, retained = $6, retained_until = $7, problem = $8,
			tries = $9, step_at = $10, next_try_at = $11, ended_at = $12 WHERE org_id = $13 AND step = $14 AND step_at = $15`,
		d.Step, d.Done, removed, left, d.Objects, d.Retained, millis(d.RetainedUntil), problemText(d.Problem),
		d.Tries, millis(d.StepAt), millis(d.NextTryAt), millis(d.EndedAt), d.OrgID, was.Step, millis(was.StepAt))
	if errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("the deletion of organization %s is at the step %s no more: %w", d.OrgID, was.Step, backup.ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("save the deletion: %w", err)
	}
	return nil
}

// SettleDeletion notes that somebody has removed what was left. A
// deletion that left nothing is backup.ErrNotFound.
func (s *Store) SettleDeletion(ctx context.Context, partner backup.PartnerID, org backup.OrgID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		d, err := one(ctx, tx, scanDeletion, `SELECT `+deletionColumns+` FROM deletions WHERE partner_id = $1 AND org_id = $2`+s.forUpdate(), partner, org)
		if err != nil {
			return err
		}
		if d.EndedAt.IsZero() || len(d.Left) == 0 || !d.SettledAt.IsZero() {
			return backup.ErrNotFound
		}
		who := entryOf(by, "", "", "", "").Person
		if err := execOne(ctx, tx, `UPDATE deletions SET settled_at = $1, settled_by = $2 WHERE org_id = $3`, millis(time.Now()), who, org); err != nil {
			return err
		}
		return s.record(ctx, tx, by, "", "organization.delete_settle", d.Name, "removed by hand")
	})
}
