package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"strings"

	"golang.org/x/time/rate"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Unhurried returns the engine for checks: see repo.Repository.Unhurried.
func (e *Engine) Unhurried(limit *rate.Limiter) *Engine {
	return &Engine{Repo: e.Repo.Unhurried(limit), Catalog: e.Catalog, Log: e.Log}
}

// Prove restores an item as WriteItem does, to nowhere, and compares its length
// and hash with those of its record. It returns the length. Damaged says what
// is wrong with the item; the error is for what kept it from being read.
func (e *Engine) Prove(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, item backup.ItemID) (size int64, damaged string, err error) {
	out := &hashed{sum: sha256.New()}
	err = e.proveItem(ctx, org, mailbox, item, out)
	if isDamage(err) {
		return out.n, causeOf(err), nil
	}
	return out.n, "", err
}

func (e *Engine) proveItem(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, item backup.ItemID, out *hashed) error {
	r, err := e.Catalog.ItemRecord(ctx, org, mailbox, item)
	if err != nil {
		return err
	}
	rec, err := readRecord(ctx, e.blobs(org, mailbox), r.Meta)
	if err != nil {
		return e.problem(ctx, err)
	}
	if rec.Content == nil {
		return fmt.Errorf("content of item %s: %w", item, backup.ErrNotFound)
	}
	if err := e.WriteItem(ctx, org, mailbox, item, out); err != nil {
		return err
	}
	if out.n != rec.Content.Size || [sha256.Size]byte(out.sum.Sum(nil)) != [sha256.Size]byte(rec.Content.SHA256) {
		return fmt.Errorf("what was restored is not what was backed up: %w", repo.ErrDamaged)
	}
	return nil
}

// causeOf is the text of an error of the repository without what it was marked
// with for those who act on it.
func causeOf(err error) string {
	if p, ok := errors.AsType[*backup.Problem](err); ok && p.Err != nil {
		err = p.Err
	}
	return strings.TrimPrefix(err.Error(), "repository: ")
}

// isDamage says that an error tells of damage, and not of a storage that could
// not be asked.
func isDamage(err error) bool {
	return errors.Is(err, repo.ErrDamaged) || errors.Is(err, repo.ErrNotExist)
}

// hashed counts and hashes what is written to it.
type hashed struct {
	sum hash.Hash
	n   int64
}

// Write implements io.Writer.
func (h *hashed) Write(p []byte) (int, error) {
	n, err := h.sum.Write(p)
	h.n += int64(n)
	return n, err
}
