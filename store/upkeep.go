package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
)

const upkeepColumns = `u.org_id, u.kind, u.state, u.asked_at, u.started_at, u.beat_at, u.ended_at, u.ok_at, u.next_at, u.done, u.total,
	u.mailbox_id, u.counted, u.counted_bytes, u.damaged, u.problem, u.step, u.retained, u.retained_until`

func scanUpkeep(row scanner) (backup.Upkeep, error) {
	var u backup.Upkeep
	var asked, started, beat, ended, ok, next, until int64
	var problem string
	err := row.Scan(&u.OrgID, &u.Kind, &u.State, &asked, &started, &beat, &ended, &ok, &next, &u.Done, &u.Total,
		&u.MailboxID, &u.Counted, &u.Bytes, &u.Damaged, &problem, &u.Step, &u.Retained, &until)
	u.AskedAt, u.StartedAt, u.BeatAt, u.EndedAt, u.OKAt, u.NextAt = moment(asked), moment(started), moment(beat), moment(ended), moment(ok), moment(next)
	u.RetainedUntil, u.Problem = moment(until), problemOf(problem)
	return u, err
}

// Upkeeps returns the work on an organization's repository by kind. Kinds that
// were never due are not in it.
func (s *Store) Upkeeps(ctx context.Context, org backup.OrgID) (map[backup.UpkeepKind]backup.Upkeep, error) {
	list, err := collect(ctx, s.read, scanUpkeep, `SELECT `+upkeepColumns+` FROM upkeep u WHERE u.org_id = $1`, org)
	if err != nil {
		return nil, fmt.Errorf("read upkeep: %w", err)
	}
	kinds := make(map[backup.UpkeepKind]backup.Upkeep, len(list))
	for _, u := range list {
		kinds[u.Kind] = u
	}
	return kinds, nil
}

// AllUpkeeps returns the work on the repositories of all organizations of a
// partner.
func (s *Store) AllUpkeeps(ctx context.Context, partner backup.PartnerID) (map[backup.OrgID]map[backup.UpkeepKind]backup.Upkeep, error) {
	list, err := collect(ctx, s.read, scanUpkeep, `SELECT `+upkeepColumns+` FROM upkeep u JOIN organizations o ON o.id = u.org_id WHERE o.partner_id = $1`, partner)
	if err != nil {
		return nil, fmt.Errorf("read upkeep: %w", err)
	}
	all := map[backup.OrgID]map[backup.UpkeepKind]backup.Upkeep{}
	for _, u := range list {
		if all[u.OrgID] == nil {
			all[u.OrgID] = map[backup.UpkeepKind]backup.Upkeep{}
		}
		all[u.OrgID][u.Kind] = u
	}
	return all, nil
}

// DueUpkeep returns the organizations whose planned work of a kind is due: those
// that have a snapshot and are not suspended.
func (s *Store) DueUpkeep(ctx context.Context, kind backup.UpkeepKind, now time.Time) ([]backup.OrgID, error) {
	list, err := collect(ctx, s.read, scanValue[backup.OrgID], `
		SELECT o.id FROM organizations o
		WHERE o.suspended_at = 0 AND EXISTS (SELECT 1 FROM catalog_sources c WHERE c.org_id = o.id)
			AND NOT EXISTS (SELECT 1 FROM upkeep u WHERE u.org_id = o.id AND u.kind = $1 AND u.next_at > $2)`, kind, millis(now))
	if err != nil {
		return nil, fmt.Errorf("find due upkeep: %w", err)
	}
	return list, nil
}

// DueAgain returns work that is not planned and whose time has come to go on, or to
// be tried again.
func (s *Store) DueAgain(ctx context.Context, now time.Time) ([]backup.UpkeepJob, error) {
	list, err := collect(ctx, s.read, func(row scanner) (backup.UpkeepJob, error) {
		var j backup.UpkeepJob
		err := row.Scan(&j.OrgID, &j.Work)
		return j, err
	}, `SELECT u.org_id, u.kind FROM upkeep u JOIN organizations o ON o.id = u.org_id
		WHERE u.kind IN ($1, $2) AND u.state NOT IN ('waiting', 'running') AND u.next_at > 0 AND u.next_at <= $3 ORDER BY u.org_id, u.kind`,
		backup.UpkeepRekey, backup.UpkeepRepair, millis(now))
	if err != nil {
		return nil, fmt.Errorf("find upkeep that goes on: %w", err)
	}
	return list, nil
}

// AskUpkeep has work of a kind done as soon as a worker is free. It returns
// backup.ErrConflict if it waits or runs already.
func (s *Store) AskUpkeep(ctx context.Context, partner backup.PartnerID, org backup.OrgID, kind backup.UpkeepKind, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		name, err := one(ctx, tx, scanValue[string], `SELECT name FROM organizations WHERE partner_id = $1 AND id = $2`, partner, org)
		if err != nil {
			return err
		}
		now := millis(time.Now())
		err = execOne(ctx, tx, `
			INSERT INTO upkeep (org_id, kind, state, asked_at) VALUES ($1, $2, 'waiting', $3)
			ON CONFLICT (org_id, kind) DO UPDATE SET state = 'waiting', asked_at = excluded.asked_at, done = 0, total = 0, step = ''
			WHERE upkeep.state <> 'running' AND (upkeep.state <> 'waiting' OR upkeep.asked_at = 0)`, org, kind, now)
		if errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("%s of organization %s is under way: %w", kind, org, backup.ErrConflict)
		}
		if err != nil {
			return fmt.Errorf("ask for upkeep: %w", err)
		}
		if err := s.enqueueTx(ctx, tx, backup.UpkeepJob{OrgID: org, Work: kind}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "upkeep.ask", name, string(kind))
	})
}

// StartUpkeep notes that work of a kind begins.
func (s *Store) StartUpkeep(ctx context.Context, org backup.OrgID, kind backup.UpkeepKind) error {
	now := millis(time.Now())
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO upkeep (org_id, kind, state, started_at, beat_at) VALUES ($1, $2, 'running', $3, $3)
		ON CONFLICT (org_id, kind) DO UPDATE SET state = 'running', started_at = excluded.started_at, beat_at = excluded.beat_at, done = 0, total = 0`, org, kind, now)
	if err != nil {
		return fmt.Errorf("start upkeep: %w", err)
	}
	return nil
}

// BeatUpkeep writes the progress of work under way and that it lives.
func (s *Store) BeatUpkeep(ctx context.Context, org backup.OrgID, kind backup.UpkeepKind, done, total int64) error {
	return execOne(ctx, s.db, `UPDATE upkeep SET beat_at = $1, done = $2, total = $3 WHERE org_id = $4 AND kind = $5 AND state = 'running'`,
		millis(time.Now()), done, total, org, kind)
}

// StepUpkeep writes that work came to a step, from which it goes on after an
// interruption.
func (s *Store) StepUpkeep(ctx context.Context, org backup.OrgID, kind backup.UpkeepKind, step string) error {
	if err := execOne(ctx, s.db, `UPDATE upkeep SET step = $1 WHERE org_id = $2 AND kind = $3 AND state = 'running'`, step, org, kind); err != nil {
		return fmt.Errorf("keep the step of upkeep: %w", err)
	}
	return nil
}

// FinishUpkeep writes how work ended: state, counters, problem and when it is
// due next. A repair that ended has told of the snapshots that it lost.
func (s *Store) FinishUpkeep(ctx context.Context, u backup.Upkeep) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := finishUpkeep(ctx, tx, u); err != nil || u.Kind != backup.UpkeepRepair || u.State == backup.UpkeepFailed {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE damages SET fate = '' WHERE org_id = $1 AND fate = $2`, u.OrgID, backup.DamageTold); err != nil {
			return fmt.Errorf("note what the repair told: %w", err)
		}
		return nil
	})
}

func finishUpkeep(ctx context.Context, tx *sql.Tx, u backup.Upkeep) error {
	ok := int64(0)
	if u.State == backup.UpkeepOK && u.Counted > 0 { // looking at nothing proves nothing
		ok = millis(u.EndedAt)
	}
	err := execOne(ctx, tx, `
		UPDATE upkeep SET state = $1, asked_at = 0, ended_at = $2, ok_at = CASE WHEN CAST($3 AS BIGINT) > 0 THEN $3 ELSE ok_at END, next_at = $4,
			mailbox_id = $5, counted = $6, counted_bytes = $7, damaged = $8, problem = $9, step = '', retained = $10, retained_until = $11
		WHERE org_id = $12 AND kind = $13`,
		u.State, millis(u.EndedAt), ok, millis(u.NextAt), u.MailboxID, u.Counted, u.Bytes, u.Damaged, problemText(u.Problem), u.Retained, millis(u.RetainedUntil), u.OrgID, u.Kind)
	if err != nil {
		return fmt.Errorf("finish upkeep: %w", err)
	}
	return nil
}

// PutBackUpkeep has interrupted work done again.
func (s *Store) PutBackUpkeep(ctx context.Context, org backup.OrgID, kind backup.UpkeepKind) error {
	_, err := s.db.ExecContext(ctx, `UPDATE upkeep SET state = 'waiting' WHERE org_id = $1 AND kind = $2 AND state = 'running'`, org, kind)
	if err != nil {
		return fmt.Errorf("put upkeep back: %w", err)
	}
	return nil
}

// LostUpkeep returns work that was asked for, or was under way in a process that
// died, and that nothing works at since before.
func (s *Store) LostUpkeep(ctx context.Context, before time.Time) ([]backup.Upkeep, error) {
	list, err := collect(ctx, s.read, scanUpkeep, `SELECT `+upkeepColumns+` FROM upkeep u
		WHERE u.state = 'waiting' OR u.state = 'running' AND u.beat_at < $1`, millis(before))
	if err != nil {
		return nil, fmt.Errorf("find lost upkeep: %w", err)
	}
	return list, nil
}

// RandomMailbox returns a mailbox of an organization and its newest snapshot,
// those with more messages more often if byItems; backup.ErrNotFound if none has
// a message.
func (s *Store) RandomMailbox(ctx context.Context, org backup.OrgID, byItems bool) (backup.MailboxID, int64, error) {
	type box struct {
		id         backup.MailboxID
		seq, items int64
	}
	list, err := collect(ctx, s.read, func(row scanner) (box, error) {
		var b box
		err := row.Scan(&b.id, &b.seq, &b.items)
		return b, err
	}, `SELECT mailbox_id, seq, items - damaged FROM catalog_sources WHERE org_id = $1 AND items > damaged ORDER BY number`, org)
	if err != nil {
		return "", 0, fmt.Errorf("read mailboxes with messages: %w", err)
	}
	if len(list) == 0 {
		return "", 0, fmt.Errorf("organization %s has no message: %w", org, backup.ErrNotFound)
	}
	total := int64(0)
	for i := range list {
		if !byItems {
			list[i].items = 1
		}
		total += list[i].items
	}
	n := rand.Int64N(total) //nolint:gosec // a sample, not a secret
	for _, b := range list {
		if n -= b.items; n < 0 {
			return b.id, b.seq, nil
		}
	}
	return list[0].id, list[0].seq, nil
}

// RandomItem returns a message of the newest snapshot of a mailbox that has
// content.
func (s *Store) RandomItem(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) (backup.ItemID, error) {
	c, err := s.source(ctx, s.read, org, mailbox, "")
	if err != nil {
		return "", err
	}
	from := int64(0)
	if c.nextNumber > 1 {
		from = rand.Int64N(c.nextNumber) //nolint:gosec // a sample, not a secret
	}
	for _, start := range []int64{from, 0} {
		r, err := one(ctx, s.read, func(row scanner) (engine.Record, error) {
			var r engine.Record
			var meta []byte
			err := row.Scan(&r.Number, &meta)
			copy(r.Meta[:], meta)
			return r, err
		}, `SELECT r.number, r.meta FROM catalog_entries e JOIN catalog_records r ON r.source = e.source AND r.number = e.record
			WHERE e.source = $1 AND e.item >= $2 AND e.to_seq = `+untilNow+` AND r.has_content = TRUE ORDER BY e.item LIMIT 1`, c.number, start)
		if err == nil {
			return r.ID(), nil
		}
		if !errors.Is(err, backup.ErrNotFound) {
			return "", fmt.Errorf("choose a message: %w", err)
		}
	}
	return "", fmt.Errorf("mailbox %s has no message: %w", mailbox, backup.ErrNotFound)
}
