package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
)

// Retention returns how long the snapshots of an organization are kept, and its
// legal hold, which is zero if there is none.
func (s *Store) Retention(ctx context.Context, org backup.OrgID) (backup.Retention, backup.LegalHold, error) {
	var r backup.Retention
	var h backup.LegalHold
	_, err := one(ctx, s.read, func(row scanner) (bool, error) {
		var at int64
		err := row.Scan(&r.Mode, &r.Days, &r.Daily, &r.Weekly, &r.Monthly, &r.Yearly, &at, &h.By, &h.Reason)
		h.At = moment(at)
		return true, err
	}, `SELECT mode, days, daily, weekly, monthly, yearly, held_at, held_by, held_reason FROM retention WHERE org_id = $1`, org)
	if errors.Is(err, backup.ErrNotFound) {
		return backup.Retention{Mode: backup.RetainAll}, backup.LegalHold{}, nil
	}
	if err != nil {
		return r, h, fmt.Errorf("read retention: %w", err)
	}
	return r, h, nil
}

// SaveRetention sets how long the snapshots of an organization are kept. It
// returns backup.FieldErrors if r breaks a rule.
func (s *Store) SaveRetention(ctx context.Context, org backup.OrgID, r backup.Retention, by backup.Actor) error {
	if err := r.Validate(); err != nil {
		return err
	}
	was, _, err := s.Retention(ctx, org)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `
			INSERT INTO retention (org_id, mode, days, daily, weekly, monthly, yearly) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (org_id) DO UPDATE SET mode = excluded.mode, days = excluded.days, daily = excluded.daily, weekly = excluded.weekly,
				monthly = excluded.monthly, yearly = excluded.yearly`,
			org, r.Mode, r.Days, r.Daily, r.Weekly, r.Monthly, r.Yearly); err != nil {
			return fmt.Errorf("save retention: %w", err)
		}
		return s.record(ctx, tx, by, org, "retention.save", r.String(), fromTo(was.String(), r.String()))
	})
}

// SetLegalHold lets nothing of an organization expire any more. It returns
// backup.FieldErrors if the reason breaks a rule, and backup.ErrConflict if there
// is a hold already.
func (s *Store) SetLegalHold(ctx context.Context, org backup.OrgID, reason string, by backup.Actor) error {
	h := backup.LegalHold{Reason: strings.TrimSpace(clean(reason)), By: entryOf(by, org, "", "", "").Person, At: time.Now()}
	if err := h.Validate(); err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `
			INSERT INTO retention (org_id, held_at, held_by, held_reason) VALUES ($1, $2, $3, $4)
			ON CONFLICT (org_id) DO UPDATE SET held_at = excluded.held_at, held_by = excluded.held_by, held_reason = excluded.held_reason WHERE retention.held_at = 0`,
			org, millis(h.At), h.By, h.Reason); errors.Is(err, backup.ErrNotFound) {
			return backup.ErrConflict
		} else if err != nil {
			return fmt.Errorf("set legal hold: %w", err)
		}
		return s.record(ctx, tx, by, org, "hold.set", "legal hold", h.Reason)
	})
}

// LiftLegalHold lets snapshots of an organization expire again. Without a hold
// it returns backup.ErrNotFound.
func (s *Store) LiftLegalHold(ctx context.Context, org backup.OrgID, by backup.Actor) error {
	_, h, err := s.Retention(ctx, org)
	if err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `UPDATE retention SET held_at = 0, held_by = '', held_reason = '' WHERE org_id = $1 AND held_at <> 0`, org); err != nil {
			return fmt.Errorf("lift legal hold: %w", err)
		}
		return s.record(ctx, tx, by, org, "hold.lift", "legal hold", "it was set because: "+h.Reason)
	})
}

// RuleFor says by which rule snapshots of a mailbox expire, and whether they do.
type RuleFor func(backup.MailboxID) (backup.Retention, bool)

// Expiries returns what rules let expire of an organization at now, the most
// bytes first. Mailboxes of which nothing does are left out.
func (s *Store) Expiries(ctx context.Context, org backup.OrgID, rule RuleFor, now time.Time) ([]backup.Expiry, error) {
	list, err := collect(ctx, s.read, func(row scanner) (backup.Expiry, error) {
		var e backup.Expiry
		err := row.Scan(&e.Mailbox, &e.Address, &e.Name)
		return e, err
	}, `SELECT m.id, m.address, m.name FROM mailboxes m JOIN catalog_sources c ON c.org_id = m.org_id AND c.mailbox_id = m.id WHERE m.org_id = $1`, org)
	if err != nil {
		return nil, fmt.Errorf("read mailboxes with snapshots: %w", err)
	}
	out := list[:0]
	for _, e := range list {
		var does bool
		if e.Rule, does = rule(e.Mailbox); !does || e.Rule.Mode == backup.RetainAll {
			continue
		}
		snapshots, err := s.Snapshots(ctx, org, e.Mailbox)
		if err != nil {
			return nil, err
		}
		if e.Snapshots = e.Rule.Expired(snapshots, now); len(e.Snapshots) == 0 {
			continue
		}
		kept := make([]int64, 0, len(snapshots))
		for _, n := range snapshots {
			if !slices.Contains(e.Snapshots, n.Seq) {
				kept = append(kept, n.Seq)
			}
		}
		slices.Sort(kept)
		e.Kept = len(kept)
		if e.Messages, e.Bytes, err = s.onlyIn(ctx, org, e.Mailbox, kept); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b backup.Expiry) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return out, nil
}

// endedEntry is an entry that does not hold for the newest snapshot.
type endedEntry struct {
	item, record, from, to, bytes int64
	itemLives, recordLives        bool // in the newest snapshot
}

// onlyIn counts the messages of a mailbox that none of the kept snapshots has,
// and the bytes of the contents that none has.
func (s *Store) onlyIn(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, kept []int64) (messages, bytes int64, err error) {
	list, err := collect(ctx, s.read, func(row scanner) (endedEntry, error) {
		var e endedEntry
		err := row.Scan(&e.item, &e.record, &e.from, &e.to, &e.bytes, &e.itemLives, &e.recordLives)
		return e, err
	}, `
		SELECT e.item, e.record, e.from_seq, e.to_seq, r.size_bytes,
			EXISTS (SELECT 1 FROM catalog_entries n WHERE n.source = e.source AND n.item = e.item AND n.to_seq = `+untilNow+`),
			EXISTS (SELECT 1 FROM catalog_entries n WHERE n.source = e.source AND n.item = e.item AND n.record = e.record AND n.to_seq = `+untilNow+`)
		FROM catalog_sources c JOIN catalog_entries e ON e.source = c.number JOIN catalog_records r ON r.source = e.source AND r.number = e.record
		WHERE c.org_id = $1 AND c.mailbox_id = $2 AND e.to_seq <> `+untilNow, org, mailbox)
	if err != nil {
		return 0, 0, fmt.Errorf("read what is no longer in the newest snapshot: %w", err)
	}
	items, records := map[int64]bool{}, map[int64]bool{} // whether they are in a kept one
	sizes := map[int64]int64{}
	for _, e := range list {
		n, _ := slices.BinarySearch(kept, e.from)
		in := n < len(kept) && kept[n] < e.to
		items[e.item] = items[e.item] || in || e.itemLives
		records[e.record] = records[e.record] || in || e.recordLives
		sizes[e.record] = e.bytes
	}
	for _, lives := range items {
		if !lives {
			messages++
		}
	}
	for record, lives := range records {
		if !lives {
			bytes += sizes[record]
		}
	}
	return messages, bytes, nil
}

// RecordExpired notes what expired of an organization, by Holdfast itself: by
// its rule, and by those that some mailboxes have of their own.
func (s *Store) RecordExpired(ctx context.Context, org backup.Organization, r backup.Retention, expired []backup.Expiry) error {
	snapshots, messages, own := 0, int64(0), 0
	for _, e := range expired {
		snapshots += len(e.Snapshots)
		messages += e.Messages
		if e.Rule != r {
			own++
		}
	}
	detail := r.String()
	if own > 0 {
		detail += fmt.Sprintf("; %d of the mailboxes by rules of their own", own)
	}
	by := backup.Actor{Org: org}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		return s.record(ctx, tx, by, org.ID, "retention.expire", fmt.Sprintf("%d snapshots of %d mailboxes", snapshots, len(expired)),
			fmt.Sprintf("%s; %d messages were in no snapshot that is kept", detail, messages))
	})
}
