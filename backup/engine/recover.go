package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Recover brings the catalog up to the repository: commits whose run was killed
// before the catalog heard of them are taken in. A mailbox whose commit can't
// be read does not keep the others from being recovered; its error is logged,
// and its next run fails with it.
func (e *Engine) Recover(ctx context.Context) error {
	heads, err := e.Catalog.Heads(ctx)
	if err != nil {
		return fmt.Errorf("read where the catalog stands: %w", err)
	}
	for _, h := range heads {
		if _, err := e.Repo.Commit(ctx, string(h.Org), string(h.Mailbox), h.Seq+1); errors.Is(err, repo.ErrNotExist) {
			continue
		}
		release, err := e.acquire(h.Mailbox)
		if err != nil {
			continue // a run is at it
		}
		err = e.recoverMailbox(ctx, h.Org, h.Mailbox)
		release()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			e.log().Error("catalog not recovered", "organization", h.Org, "mailbox", h.Mailbox, "error", err)
		}
	}
	return nil
}

// Rebuild makes the catalog of an organization anew from the repository: it is
// cleared and refilled.
func (e *Engine) Rebuild(ctx context.Context, org backup.OrgID) error {
	if err := e.Clear(ctx, org); err != nil {
		return err
	}
	return e.Refill(ctx, org, nil)
}

// Clear forgets everything about an organization in the catalog, once it is
// known that the repository can be asked. Refill has to follow.
func (e *Engine) Clear(ctx context.Context, org backup.OrgID) error {
	if _, err := e.Repo.Sources(ctx, string(org)); err != nil {
		return e.problem(ctx, fromRepository(err))
	}
	if err := e.Catalog.ClearCatalog(ctx, org); err != nil {
		return fmt.Errorf("clear the catalog: %w", err)
	}
	return nil
}

// Refill takes into the catalog what it lacks of an organization's snapshots.
// While it works, the organization's backups show only in part. It goes on past
// mailboxes that can't be read and returns their errors together; called again
// it goes on where it was ended. Progress, if it is not nil, is told after each
// mailbox, one after the other; an error of it ends the work.
func (e *Engine) Refill(ctx context.Context, org backup.OrgID, progress func(done, total int) error) error {
	sources, err := e.Repo.Sources(ctx, string(org))
	if err != nil {
		return e.problem(ctx, fromRepository(err))
	}
	var errs []error
	gone, err := e.Repo.AllExpired(ctx, string(org))
	if err != nil {
		errs = append(errs, fromRepository(err))
	}
	if err := e.shredErased(ctx, org, gone); err != nil {
		return err
	}
	for _, g := range gone {
		// What others share with an erased mailbox is all that is left of it.
		if g.Erased {
			errs = append(errs, e.addOtherPacks(ctx, org, g.Source))
		}
	}
	return e.problem(ctx, errors.Join(append(errs, e.recoverAll(ctx, org, sources, progress))...))
}

// recoverAll brings the catalog of several mailboxes up to the repository: some
// are read and decoded while another is written.
func (e *Engine) recoverAll(ctx context.Context, org backup.OrgID, sources []string, progress func(done, total int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	errs := make([]error, len(sources))
	var mu sync.Mutex
	done := 0
	for i, source := range sources {
		g.Go(func() error {
			mailbox := backup.MailboxID(source)
			if err := e.recoverOne(ctx, org, mailbox); err != nil {
				errs[i] = fmt.Errorf("mailbox %s: %w", mailbox, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if done++; progress != nil {
				return progress(done, len(sources))
			}
			return nil
		})
	}
	return errors.Join(g.Wait(), errors.Join(errs...))
}

func (e *Engine) recoverOne(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	release, err := e.await(ctx, mailbox)
	if err != nil {
		return err
	}
	defer release()
	return e.recoverMailbox(ctx, org, mailbox)
}

// await is acquire for who can wait. A run that is under way ends soon: what it
// commits next does not follow a catalog that was cleared.
func (e *Engine) await(ctx context.Context, mailbox backup.MailboxID) (release func(), err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if release, err = e.acquire(mailbox); err == nil {
			return release, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// recoverMailbox takes in the commits of a mailbox that follow the catalog's.
func (e *Engine) recoverMailbox(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) error {
	head, err := e.Catalog.Head(ctx, org, mailbox)
	if err != nil {
		return fmt.Errorf("read the newest snapshot: %w", err)
	}
	gone, err := e.Repo.Expired(ctx, string(org), string(mailbox))
	if err != nil && !errors.Is(err, repo.ErrDamaged) {
		return fromRepository(err)
	}
	if gone.Erased {
		return e.shred(ctx, org, mailbox)
	}
	if head.Seq > 0 && !gone.Has(head.Seq+1) {
		if _, err := e.Repo.Commit(ctx, string(org), string(mailbox), head.Seq+1); errors.Is(err, repo.ErrNotExist) {
			return nil
		}
	}
	if head.Seq > 0 && gone.Has(head.Seq) {
		// The catalog is older than what expired since: what it builds on may be gone.
		if err := e.Catalog.ForgetMailbox(ctx, org, mailbox); err != nil {
			return fmt.Errorf("forget an old catalog: %w", err)
		}
		head = Head{}
	}
	seqs, err := e.Repo.Kept(ctx, string(org), string(mailbox), head.Seq)
	if err != nil {
		return fromRepository(err)
	}
	if len(seqs) > 0 {
		if err := e.addOtherPacks(ctx, org, string(mailbox)); err != nil {
			return err
		}
	}
	ahead := &aheadIndex{catalog: e.Repo}
	reader := &Engine{Repo: e.Repo.WithIndex(ahead), Catalog: e.Catalog, Log: e.Log}
	for _, seq := range seqs {
		c, err := reader.Repo.Commit(ctx, string(org), string(mailbox), seq)
		if err != nil {
			return fromRepository(fmt.Errorf("commit %d of mailbox %s: %w", seq, mailbox, err))
		}
		if err := reader.ingest(ctx, org, mailbox, c, ahead); err != nil {
			return fmt.Errorf("commit %d of mailbox %s: %w", seq, mailbox, err)
		}
		e.log().Info("commit taken into the catalog", "organization", org, "mailbox", mailbox, "commit", seq)
	}
	return nil
}

// addOtherPacks makes known what kept snapshots of a source need from packs that
// none of them names.
func (e *Engine) addOtherPacks(ctx context.Context, org backup.OrgID, source string) error {
	packs, err := e.Repo.OtherPacks(ctx, string(org), source)
	if err != nil {
		return fromRepository(err)
	}
	objects, err := e.objects(ctx, org, source, packs)
	if err != nil {
		return err
	}
	if err := e.Catalog.AddObjects(ctx, org, objects); err != nil {
		return fmt.Errorf("add objects: %w", err)
	}
	return nil
}

// objects reads what packs of a source hold. Of damaged ones that is what is left
// of them: a catalog with all the rest is what a repair needs.
func (e *Engine) objects(ctx context.Context, org backup.OrgID, source string, packs []repo.Pack) ([]repo.Object, error) {
	list, harmed, err := e.Repo.ObjectsLeft(ctx, string(org), source, packs)
	if err != nil {
		return nil, fromRepository(err)
	}
	for _, key := range harmed {
		e.log().Warn("pack is damaged, what is left of it was taken into the catalog; a check names what is lost, and a repair mends what it can", "organization", org, "mailbox", source, "pack", key)
	}
	return list, nil
}
