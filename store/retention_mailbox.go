package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
)

const keepingColumns = `mode, days, daily, weekly, monthly, yearly, held_at, held_by, held_reason`

// keepingFields are the places for keepingColumns; finish completes k after the scan.
func keepingFields(k *backup.Keeping) (fields []any, finish func()) {
	var at int64
	r, h := &k.Rule, &k.Hold
	return []any{&r.Mode, &r.Days, &r.Daily, &r.Weekly, &r.Monthly, &r.Yearly, &at, &h.By, &h.Reason}, func() { h.At = moment(at) }
}

// Keeping returns what a mailbox has of its own, which may be nothing.
func (s *Store) Keeping(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) (backup.Keeping, error) {
	return keepingOf(ctx, s.read, org, mailbox)
}

func keepingOf(ctx context.Context, q querier, org backup.OrgID, mailbox backup.MailboxID) (backup.Keeping, error) {
	k, err := one(ctx, q, func(row scanner) (backup.Keeping, error) {
		var k backup.Keeping
		fields, finish := keepingFields(&k)
		err := row.Scan(fields...)
		finish()
		return k, err
	}, `SELECT `+keepingColumns+` FROM mailbox_retention WHERE org_id = $1 AND mailbox_id = $2`, org, mailbox)
	if errors.Is(err, backup.ErrNotFound) {
		return backup.Keeping{}, nil
	}
	if err != nil {
		return k, fmt.Errorf("read retention of mailbox %s: %w", mailbox, err)
	}
	return k, nil
}

// Keepings returns what holds for the snapshots of an organization.
func (s *Store) Keepings(ctx context.Context, org backup.OrgID) (backup.Keepings, error) {
	all := backup.Keepings{Own: map[backup.MailboxID]backup.Keeping{}}
	var err error
	if all.Rule, all.Hold, err = s.Retention(ctx, org); err != nil {
		return all, err
	}
	_, err = collect(ctx, s.read, func(row scanner) (backup.MailboxID, error) {
		var id backup.MailboxID
		var k backup.Keeping
		fields, finish := keepingFields(&k)
		err := row.Scan(append([]any{&id}, fields...)...)
		finish()
		all.Own[id] = k
		return id, err
	}, `SELECT mailbox_id, `+keepingColumns+` FROM mailbox_retention WHERE org_id = $1 AND (mode <> '' OR held_at <> 0)`, org)
	if err != nil {
		return all, fmt.Errorf("read retention of mailboxes: %w", err)
	}
	return all, nil
}

// SaveMailboxRetention gives mailboxes a rule of their own, or, with Mode "",
// takes it from them. It returns backup.FieldErrors if r breaks a rule, and
// backup.ErrNotFound, having changed none, if the organization lacks one of them.
func (s *Store) SaveMailboxRetention(ctx context.Context, org backup.OrgID, ids []backup.MailboxID, r backup.Retention, by backup.Actor) error {
	if r.Mode != "" {
		if err := r.Validate(); err != nil {
			return err
		}
	}
	general, _, err := s.Retention(ctx, org)
	if err != nil {
		return err
	}
	text := func(r backup.Retention) string {
		if r.Mode == "" {
			return "as the organization (" + general.String() + ")"
		}
		return r.String()
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
			m, err := s.selectedMailbox(ctx, tx, org, id)
			if err != nil {
				return err
			}
			was, err := keepingOf(ctx, tx, org, id)
			if err != nil {
				return err
			}
			if was.Rule == r {
				continue
			}
			if err := execOne(ctx, tx, `
				INSERT INTO mailbox_retention (mailbox_id, org_id, mode, days, daily, weekly, monthly, yearly) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
				ON CONFLICT (mailbox_id) DO UPDATE SET mode = excluded.mode, days = excluded.days, daily = excluded.daily, weekly = excluded.weekly,
					monthly = excluded.monthly, yearly = excluded.yearly WHERE mailbox_retention.org_id = excluded.org_id`,
				id, org, r.Mode, r.Days, r.Daily, r.Weekly, r.Monthly, r.Yearly); err != nil {
				return fmt.Errorf("save retention of mailbox %s: %w", id, err)
			}
			if err := s.record(ctx, tx, by, org, "retention.mailbox", m.Address, fromTo(text(was.Rule), text(r))); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetMailboxHold lets nothing of a mailbox expire or be erased any more. It
// returns backup.FieldErrors if the reason breaks a rule, and backup.ErrConflict
// if there is a hold already.
func (s *Store) SetMailboxHold(ctx context.Context, org backup.OrgID, id backup.MailboxID, reason string, by backup.Actor) error {
	h := backup.LegalHold{Reason: strings.TrimSpace(clean(reason)), By: entryOf(by, org, "", "", "").Person, At: time.Now()}
	if err := h.Validate(); err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		m, err := s.selectedMailbox(ctx, tx, org, id)
		if err != nil {
			return err
		}
		erasing, err := one(ctx, tx, scanValue[int], `SELECT count(*) FROM erasures WHERE org_id = $1 AND mailbox_id = $2 AND state = 'running'`, org, id)
		if err != nil {
			return fmt.Errorf("look for an erasure: %w", err)
		}
		if erasing > 0 {
			return backup.FieldErrors{"reason": "The data of this mailbox is being erased already."}
		}
		if err := execOne(ctx, tx, `
			INSERT INTO mailbox_retention (mailbox_id, org_id, held_at, held_by, held_reason) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (mailbox_id) DO UPDATE SET held_at = excluded.held_at, held_by = excluded.held_by, held_reason = excluded.held_reason
				WHERE mailbox_retention.org_id = excluded.org_id AND mailbox_retention.held_at = 0`,
			id, org, millis(h.At), h.By, h.Reason); errors.Is(err, backup.ErrNotFound) {
			return backup.ErrConflict
		} else if err != nil {
			return fmt.Errorf("set legal hold: %w", err)
		}
		return s.record(ctx, tx, by, org, "hold.mailbox.set", m.Address, h.Reason)
	})
}

// LiftMailboxHold ends the hold of a mailbox. Without one it returns
// backup.ErrNotFound.
func (s *Store) LiftMailboxHold(ctx context.Context, org backup.OrgID, id backup.MailboxID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		m, err := s.selectedMailbox(ctx, tx, org, id)
		if err != nil {
			return err
		}
		was, err := keepingOf(ctx, tx, org, id)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE mailbox_retention SET held_at = 0, held_by = '', held_reason = '' WHERE org_id = $1 AND mailbox_id = $2 AND held_at <> 0`, org, id); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "hold.mailbox.lift", m.Address, "it was set because: "+was.Hold.Reason)
	})
}
