package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// ErrNotNext says that a commit does not follow the one that the catalog is at.
var ErrNotNext = errors.New("commit does not follow the catalog's")

// ErrBusy says that another run backs up the same mailbox. What it commits is
// whole; the caller's run has changed nothing since. It wraps backup.ErrConflict.
var ErrBusy = fmt.Errorf("another run backs up this mailbox: %w", backup.ErrConflict)

// Engine backs mailboxes up and reads them back. It is safe for concurrent use.
type Engine struct {
	Repo    *repo.Repository
	Catalog Catalog
	Log     *slog.Logger // nil for none
	// Checkpoint says when a long run commits what it has; see Checkpoint.
	Checkpoint Checkpoint

	mu      sync.Mutex
	running map[backup.MailboxID]bool
}

// Checkpoint says after how much work a run commits what it has, so that it can
// be resumed there. A zero field has the value in brackets.
type Checkpoint struct {
	Bytes int64         // content read (2 GiB)
	Items int           // items changed (10,000); bounds the memory of a run
	Every time.Duration // since the last commit (5 minutes)
}

func (c Checkpoint) orDefaults() Checkpoint {
	if c.Bytes == 0 {
		c.Bytes = 2 << 30
	}
	if c.Items == 0 {
		c.Items = 10_000
	}
	if c.Every == 0 {
		c.Every = 5 * time.Minute
	}
	return c
}

// Job is one backup of one mailbox.
type Job struct {
	Org         backup.OrgID
	Mailbox     backup.MailboxID
	Source      Source
	Concurrency int              // contents read at the same time, besides as many small ones that are being stored; 0 is 4
	Progress    func(backup.Run) // gets the counters, a few times a second at most; nil for none
	// Pace is told of each part of a content in bytes when it was read, and holds the
	// next one up; its error ends the reading. Nil for none.
	Pace func(ctx context.Context, bytes int) error
}

// defaultConcurrency is what Microsoft allows per application and mailbox
// (https://learn.microsoft.com/graph/throttling-limits).
const defaultConcurrency = 4

// Result is what a run did and how the mailbox stands after it.
type Result struct {
	Snapshot     int64 // the snapshot that the run made, 0 if nothing changed
	Items        int64 // in the newest snapshot
	SizeBytes    int64 // of their content
	DamagedItems int64 // of them, those whose content could not be read in its newest form
	Run          backup.Run
}

// Fill sets the counters of a run.
func (r Result) Fill(run *backup.Run) {
	c := r.Run
	run.Snapshot = r.Snapshot
	run.FoldersDone, run.FoldersTotal, run.ItemsDone, run.ItemsTotal = c.FoldersDone, c.FoldersTotal, c.ItemsDone, c.ItemsTotal
	run.NewItems, run.MovedItems, run.ChangedItems, run.RemovedItems, run.FailedItems = c.NewItems, c.MovedItems, c.ChangedItems, c.RemovedItems, c.FailedItems
	run.ReadBytes, run.StoredBytes = c.ReadBytes, c.StoredBytes
}

// Backup brings the newest snapshot of a mailbox up to what its Source says. A
// run that finds no change writes nothing to the repository. If it ends with an
// error, what it had read is committed as a partial snapshot where that is
// possible, and the next run goes on from there; the Result has what was done.
func (e *Engine) Backup(ctx context.Context, job Job) (Result, error) {
	release, err := e.acquire(job.Mailbox)
	if err != nil {
		return Result{}, e.problem(ctx, err)
	}
	defer release()
	if err := e.recoverMailbox(ctx, job.Org, job.Mailbox); err != nil {
		return Result{}, e.problem(ctx, err)
	}
	if gone, err := e.Repo.Expired(ctx, string(job.Org), string(job.Mailbox)); err == nil && gone.Erased {
		return Result{}, errErased
	}
	r, err := e.newRun(ctx, job)
	if err != nil {
		return Result{}, e.problem(ctx, err)
	}
	defer close(r.idle)
	err = r.do(ctx)
	if err != nil {
		err = e.problem(ctx, r.rescue(ctx, err))
	}
	r.progress.flush()
	return r.result(), err
}

// acquire keeps two runs of this process off the same mailbox. Runs of two
// processes meet at the exclusive creation of their commit.
func (e *Engine) acquire(mailbox backup.MailboxID) (release func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running[mailbox] {
		return nil, ErrBusy
	}
	if e.running == nil {
		e.running = map[backup.MailboxID]bool{}
	}
	e.running[mailbox] = true
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.running, mailbox)
	}, nil
}

func (e *Engine) log() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}
