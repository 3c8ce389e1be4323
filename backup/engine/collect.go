package engine

import (
	"context"
	"errors"
	"fmt"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Collect deletes from the repository what no snapshot of an organization needs:
// what killed runs left, and what only expired snapshots had. See
// repo.Repository.Collect. It refuses to while a snapshot that the catalog knows
// is missing in the repository, since then a part of the repository is not
// there.
func (e *Engine) Collect(ctx context.Context, org backup.OrgID) (repo.Collection, error) {
	return e.CollectReporting(ctx, org, nil)
}

// CollectReporting is Collect. It tells report, if that is not nil, of each mailbox
// whose snapshots it walks through, where it has to.
func (e *Engine) CollectReporting(ctx context.Context, org backup.OrgID, report func()) (repo.Collection, error) {
	if err := e.checkHeads(ctx, org); err != nil {
		return repo.Collection{}, err
	}
	c, err := e.Repo.Collect(ctx, string(org), owner{e, org, report})
	if errors.Is(err, repo.ErrCollecting) {
		return c, fmt.Errorf("%w: %w", backup.ErrConflict, err)
	}
	if err != nil {
		return c, e.problem(ctx, fromRepository(err))
	}
	return c, nil
}

// PlanCollection says what Collect would do now, and changes nothing in the
// repository.
func (e *Engine) PlanCollection(ctx context.Context, org backup.OrgID) (repo.Collection, error) {
	if err := e.checkHeads(ctx, org); err != nil {
		return repo.Collection{}, err
	}
	c, err := e.Repo.PlanCollection(ctx, string(org), owner{e, org, nil})
	return c, e.problem(ctx, fromRepository(err))
}

// checkHeads looks for the newest snapshot of every mailbox in the repository.
func (e *Engine) checkHeads(ctx context.Context, org backup.OrgID) error {
	lost, err := e.missingHeads(ctx, org)
	if err == nil && len(lost) > 0 {
		err = e.problem(ctx, fromRepository(fmt.Errorf("nothing was collected: %s: %w", lost[0], repo.ErrDamaged)))
	}
	return err
}

// Expire lets snapshots of a mailbox expire: they are no longer shown, and
// collections free what only they needed. The newest one is repo.ErrNewest.
func (e *Engine) Expire(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seqs []int64) error {
	spans := repo.SpansOf(seqs)
	err := e.Repo.Expire(ctx, string(org), string(mailbox), spans)
	if errors.Is(err, repo.ErrNewest) {
		return err
	}
	if err != nil {
		return e.problem(ctx, fromRepository(fmt.Errorf("let snapshots of mailbox %s expire: %w", mailbox, err)))
	}
	return e.Catalog.ForgetSnapshots(ctx, org, mailbox, spans)
}

// owner is an organization whose part of the repository is collected.
type owner struct {
	*Engine
	org    backup.OrgID
	report func() // of each mailbox; nil for nobody
}

// Follow implements repo.Owner.
func (o owner) Follow(ctx context.Context, gone []repo.Expired) error {
	for _, g := range gone {
		mailbox := backup.MailboxID(g.Source)
		var err error
		if g.Erased {
			err = o.shred(ctx, o.org, mailbox)
		} else {
			err = o.Catalog.ForgetSnapshots(ctx, o.org, mailbox, g.Spans)
		}
		if err != nil {
			return fmt.Errorf("mailbox %s: %w", mailbox, err)
		}
	}
	return nil
}

// Missing implements repo.Owner.
func (o owner) Missing(ctx context.Context, packs []repo.PackID) ([]repo.PackID, error) {
	return o.Catalog.MissingPacks(ctx, o.org, packs)
}

// Add implements repo.Owner.
func (o owner) Add(ctx context.Context, objects []repo.Object) error {
	return o.Catalog.AddObjects(ctx, o.org, objects)
}

// Forget implements repo.Owner.
func (o owner) Forget(ctx context.Context, packs []repo.PackID) error {
	return o.Catalog.ForgetPacks(ctx, o.org, packs)
}

// Live implements repo.Owner. It walks through the trees of the snapshots,
// through what they share once.
func (o owner) Live(ctx context.Context, source string, roots []repo.MetaID, live func(repo.PieceID)) error {
	if o.report != nil {
		o.report()
	}
	w := liveWalk{Engine: o.Engine, org: o.org, mailbox: backup.MailboxID(source), live: live, seen: map[[16]byte]bool{}}
	w.meta = o.blobs(w.org, w.mailbox)
	if err := o.addNewest(ctx, source); err != nil {
		return err
	}
	for _, id := range roots {
		if !w.first(id) {
			continue
		}
		var top root
		if err := decode(ctx, w.meta, kindRoot, id, &top); err != nil {
			return err
		}
		for _, folder := range top.Folders {
			if err := w.folder(ctx, folder); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// addNewest makes known what commits brought that the catalog has not taken in
// yet: their runs are about to, or were killed before.
func (o owner) addNewest(ctx context.Context, source string) error {
	head, err := o.Catalog.Head(ctx, o.org, backup.MailboxID(source))
	if err != nil {
		return fmt.Errorf("read the newest snapshot: %w", err)
	}
	seqs, err := o.Repo.Kept(ctx, string(o.org), source, head.Seq)
	if err != nil {
		return err
	}
	for _, seq := range seqs {
		c, err := o.Repo.Commit(ctx, string(o.org), source, seq)
		if err != nil {
			return fmt.Errorf("commit %d: %w", seq, err)
		}
		objects, err := o.Repo.Objects(ctx, string(o.org), c.Packs)
		if err != nil {
			return err
		}
		if err := o.Catalog.AddObjects(ctx, o.org, objects); err != nil {
			return fmt.Errorf("add objects: %w", err)
		}
	}
	return nil
}

// liveWalk walks through snapshots of a mailbox.
type liveWalk struct {
	*Engine
	org     backup.OrgID
	mailbox backup.MailboxID
	meta    metadata
	live    func(repo.PieceID)
	seen    map[[16]byte]bool // beginnings of identifiers
}

// first says that a metadata blob was not seen before.
func (w *liveWalk) first(id repo.MetaID) bool {
	short := [16]byte(id[:16])
	if w.seen[short] {
		return false
	}
	w.seen[short] = true
	w.live(repo.PieceID(id))
	return true
}

func (w *liveWalk) folder(ctx context.Context, id repo.MetaID) error {
	if !w.first(id) {
		return nil
	}
	n, err := readNode(ctx, w.meta, id)
	if err != nil {
		return err
	}
	for _, p := range n.Pages {
		if !w.first(p.ID) {
			continue
		}
		entries, err := readPage(ctx, w.meta, p)
		if err != nil {
			return fmt.Errorf("folder %s: %w", n.FolderID, err)
		}
		if err := w.entries(ctx, entries); err != nil {
			return fmt.Errorf("folder %s: %w", n.FolderID, err)
		}
	}
	return nil
}

// entries reads the records of a page that were not seen before.
func (w *liveWalk) entries(ctx context.Context, entries []pageEntry) error {
	var ids []repo.MetaID
	for _, e := range entries {
		if e.Properties != nil {
			w.first(*e.Properties)
		}
		if w.first(e.Record) {
			ids = append(ids, e.Record)
		}
	}
	list, err := w.Repo.ReadMetas(ctx, string(w.org), string(w.mailbox), kindRecord, ids)
	if err != nil {
		return err
	}
	for i, data := range list {
		var rec itemRecord
		if err := decoding.Unmarshal(data, &rec); err != nil {
			return fmt.Errorf("record %s: %w: %w", ids[i], err, repo.ErrDamaged)
		}
		if rec.Content != nil {
			rec.Content.Pieces(w.live)
		}
	}
	return nil
}
