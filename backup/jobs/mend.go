package jobs

import (
	"context"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// mend does what can be done about damage that a copy, nil for none, can't put back:
// see engine.Engine.Mend.
// It names the messages that are damaged after it, and has those read again that
// the provider may still have. It returns how many packs and snapshots were
// written anew.
func (t *task) mend(ctx context.Context, from repo.Storage) (mended int64, err error) {
	keys, err := t.damagedObjects(ctx, map[string]bool{})
	if err != nil {
		return 0, err
	}
	messages, _, err := t.Store.CountDamages(ctx, t.u.OrgID)
	if err != nil || messages == 0 {
		return 0, err // nothing is damaged
	}
	m, err := t.Engine.Mend(ctx, t.u.OrgID, keys, from, func(done, total int) error { return t.progress(ctx, int64(done), int64(total)) })
	if err != nil {
		return 0, err
	}
	t.Log.Info("repository mended without a copy", "organization", t.u.OrgID, "packs", m.Packs, "pieces", m.Pieces, "bytes", m.Bytes, "snapshots", m.Snapshots, "lost_records", len(m.Lost), "lost_snapshots", len(m.LostSnapshots))
	if err := t.noteLost(ctx, m.Lost); err != nil {
		return 0, err
	}
	if err := t.checkStructure(ctx); err != nil { // commits and the log
		return 0, err
	}
	if err := t.nameDamaged(ctx); err != nil {
		return 0, err
	}
	// Last: while they are named, an interrupted repair knows what it was at.
	if _, err := t.Store.MendDamage(ctx, t.u.OrgID, m.Done...); err != nil {
		return 0, err
	}
	return int64(m.Packs + m.Snapshots), t.readAgain(ctx)
}

// noteLost names the messages whose records are lost.
func (t *task) noteLost(ctx context.Context, lost []engine.LostItem) error {
	for _, l := range lost {
		if _, err := t.Store.MendDamage(ctx, t.u.OrgID, itemObject(l.Mailbox, l.Was)); err != nil { // it has another name now
			return err
		}
		if err := t.Store.NoteDamage(ctx, backup.Damage{OrgID: t.u.OrgID, Object: itemObject(l.Mailbox, l.Record.ID()), MailboxID: l.Mailbox,
			Record: l.Record.Number, How: "its record is lost"}); err != nil {
			return err
		}
	}
	return nil
}

// nameDamaged restores the messages to nowhere that need what is not there any
// more, and those that were damaged before.
func (t *task) nameDamaged(ctx context.Context) error {
	known, err := t.Store.Damages(ctx, t.u.OrgID, knownDamages)
	if err != nil {
		return err
	}
	suspect := map[string]bool{}
	for _, d := range known {
		suspect[d.Object] = d.Record > 0
	}
	return t.eachRecord(ctx, func(mailbox backup.MailboxID, r engine.Record) error {
		touches, err := t.reader.Touches(ctx, t.u.OrgID, mailbox, r, map[repo.PackID]bool{})
		if err != nil || !touches && !suspect[itemObject(mailbox, r.ID())] {
			return err
		}
		return t.compare(ctx, mailbox, r)
	})
}

// readAgain has the next run of each mailbox read what is damaged, and notes what
// no run can bring back.
func (t *task) readAgain(ctx context.Context) error {
	known, err := t.Store.Damages(ctx, t.u.OrgID, knownDamages)
	if err != nil {
		return err
	}
	wanted := map[backup.MailboxID][]int64{}
	for _, d := range known {
		if d.Record == 0 {
			continue
		}
		fate, err := t.settleDamage(ctx, d)
		if err != nil {
			return err
		}
		if fate == backup.DamageWanted {
			wanted[d.MailboxID] = append(wanted[d.MailboxID], d.Record)
		}
	}
	problem := backup.Problem{Kind: backup.ProblemDamaged, Text: engine.ProblemLost, At: time.Now()}
	for mailbox, records := range wanted {
		if err := t.Store.ReadAgain(ctx, t.u.OrgID, mailbox, records, problem); err != nil {
			return err
		}
	}
	return nil
}

// settleDamage finds out what became of a damaged message, and keeps it.
func (r *Runner) settleDamage(ctx context.Context, d backup.Damage) (backup.DamageFate, error) {
	fate, err := r.Engine.Settle(ctx, d.OrgID, d.MailboxID, d.Record)
	if err != nil {
		return "", err
	}
	if fate == backup.DamageMended {
		_, err = r.Store.MendDamage(ctx, d.OrgID, d.Object)
		return fate, err
	}
	return fate, r.Store.SaveFate(ctx, d.OrgID, d.Object, fate)
}

// settleDamages does so for a mailbox after a run of it. What can't be done now is
// done after the next.
func (r *Runner) settleDamages(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) {
	list, err := r.Store.MailboxDamages(ctx, org, mailbox)
	for _, d := range list {
		if err == nil && d.Fate != "" {
			_, err = r.settleDamage(ctx, d)
		}
	}
	if err != nil && ctx.Err() == nil {
		r.Log.Error("damaged messages not settled after a run", "organization", org, "mailbox", mailbox, "error", err)
	}
}
