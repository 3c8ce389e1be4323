package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// maybeCheckpoint commits what the run has so far if it is time to.
func (r *run) maybeCheckpoint(ctx context.Context) error {
	r.mu.Lock()
	due := len(r.staged) >= r.checkpoint.Items || r.readSince >= r.checkpoint.Bytes ||
		len(r.staged) > 0 && time.Since(r.since) >= r.checkpoint.Every
	if len(r.staged) == 0 && len(r.inFlight) == 0 {
		r.since = time.Now() // nothing that was looked up before waits to be committed
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	if err := r.wait(); err != nil {
		return err
	}
	return r.flush(ctx, false)
}

// finish commits the snapshot, or keeps the newer cursors if nothing changed.
func (r *run) finish(ctx context.Context) error {
	if r.changed() {
		return r.flush(ctx, true)
	}
	if err := r.keepCursors(ctx, true); err != nil {
		return err
	}
	r.abortWriter()
	return nil
}

// changed says whether the snapshot would differ from the last one.
func (r *run) changed() bool {
	if r.head.Seq == 0 || r.head.Partial {
		return true
	}
	for _, f := range r.folders {
		if f.gone && !f.Node.IsZero() || !f.gone && f.dirty {
			return true
		}
	}
	for _, s := range r.staged {
		if s.real() {
			return true
		}
	}
	return false
}

// real says that the item is not as the last commit has it.
func (s *staged) real() bool {
	if s.removed {
		return s.old.FolderID != ""
	}
	return !sameItem(s.old, s.now.Item)
}

func sameItem(a, b Item) bool {
	return a.Number == b.Number && a.FolderID == b.FolderID && a.Version == b.Version && sameState(a.ItemState, b.ItemState) && sameHeader(a.ItemState, b.ItemState) &&
		a.Record == b.Record && a.Properties == b.Properties &&
		a.Problem.Kind == b.Problem.Kind && a.Problem.Code == b.Problem.Code && a.Problem.Status == b.Problem.Status && a.Problem.Text == b.Problem.Text
}

// commitCursor is how far a commit may say that the folder's changes were read.
// While it is open what became of items that are gone from the folder, a later
// run must hear of them again.
func (r *run) commitCursor(f *folder, final bool) string {
	if f.done && !r.undone[f.ID] && (final || !f.pending) {
		return f.next
	}
	return f.Cursor
}

// keepCursors keeps the newer cursors of a snapshot that did not change.
func (r *run) keepCursors(ctx context.Context, final bool) error {
	c := Cursors{Folders: r.head.FolderCursor, Items: map[string]string{}}
	if final {
		c.Folders = r.folderCursor
	}
	for _, f := range r.folders {
		if next := r.commitCursor(f, final); next != f.Cursor && !f.Node.IsZero() {
			c.Items[f.ID] = next
		}
	}
	if len(c.Items) == 0 && c.Folders == r.head.FolderCursor {
		return nil
	}
	return r.Catalog.SaveCursors(ctx, r.job.Org, r.job.Mailbox, r.head.Seq, c)
}

// flush commits everything that is staged: first in the repository, then in the
// catalog. No fetch is under way. If the commit fails, nothing is committed after it.
func (r *run) flush(ctx context.Context, final bool) error {
	if r.spoiled != nil {
		return r.spoiled
	}
	w, err := r.openWriter(ctx)
	if err != nil {
		return err
	}
	d, perFolder := r.delta(final)
	if err := r.writeFolders(ctx, &d, perFolder, final); err != nil {
		return err
	}
	id, err := r.writeRoot(ctx, d, final)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.writer = nil // Commit ends it in any case
	r.mu.Unlock()
	done, err := w.Commit(ctx, repo.Commit{Seq: d.Seq, At: d.At, Root: id, Partial: d.Partial, Since: r.since.Round(0)})
	if err != nil {
		return r.spoil(err)
	}
	r.last = w
	d.At, d.Objects = done.At, done.Objects
	// From here on the commit stands; the catalog follows even if the run ends.
	if err := r.Catalog.ApplyCommit(context.WithoutCancel(ctx), r.job.Org, r.job.Mailbox, d); err != nil {
		return err
	}
	r.committed(d, done.Bytes, final)
	return nil
}

// spoil ends the run, whose commit failed.
func (r *run) spoil(err error) error {
	if errors.Is(err, repo.ErrCommitExists) {
		r.spoiled = fmt.Errorf("%w: %w", ErrBusy, err)
	} else {
		r.spoiled = fromRepository(err)
	}
	r.fail(r.spoiled)
	return r.spoiled
}

// delta sums up what is staged, and sorts it by folder.
func (r *run) delta(final bool) (Delta, map[string][]entryChange) {
	d := Delta{Seq: r.head.Seq + 1, At: time.Now(), Partial: !final, NextNumber: r.next, Totals: r.head.Totals, FolderCursor: r.head.FolderCursor}
	if final {
		d.FolderCursor = r.folderCursor
	}
	perFolder := map[string][]entryChange{}
	for _, s := range r.staged {
		if !s.real() {
			continue
		}
		if s.old.FolderID != "" {
			d.Totals.add(s.old, -1)
			if s.removed || s.now.FolderID != s.old.FolderID {
				perFolder[s.old.FolderID] = append(perFolder[s.old.FolderID], entryChange{item: s.now.Number})
			}
		}
		if s.removed {
			d.Removed = append(d.Removed, s.now.Number)
			continue
		}
		d.Totals.add(s.now.Item, 1)
		d.Items = append(d.Items, s.now)
		e := entryOf(s.now.Item)
		perFolder[s.now.FolderID] = append(perFolder[s.now.FolderID], entryChange{item: s.now.Number, entry: &e})
	}
	slices.SortFunc(d.Items, func(a, b ItemChange) int { return cmp.Compare(a.Number, b.Number) })
	slices.Sort(d.Removed)
	return d, perFolder
}

func (t *Totals) add(i Item, n int64) {
	t.Items += n
	t.Bytes += n * i.Record.Bytes
	if !i.Problem.IsZero() {
		t.Damaged += n
	}
}

// writeFolders writes the nodes of folders that changed, and notes them in d.
func (r *run) writeFolders(ctx context.Context, d *Delta, perFolder map[string][]entryChange, final bool) error {
	for _, f := range r.folders {
		changes := perFolder[f.ID]
		switch {
		case f.gone && final:
			if !f.Node.IsZero() {
				d.RemovedFolders = append(d.RemovedFolders, f.ID)
			}
			continue
		case f.gone && f.Node.IsZero():
			if len(changes) == 0 {
				continue
			}
		}
		cursor := r.commitCursor(f, final)
		if !f.dirty && !f.Node.IsZero() && len(changes) == 0 {
			if cursor != f.Cursor {
				d.Folders = append(d.Folders, FolderState{Folder: f.Folder, Node: f.Node, Cursor: cursor})
			}
			continue
		}
		state, err := r.writeNode(ctx, f, changes, cursor)
		if err != nil {
			return fmt.Errorf("folder %s: %w", f.ID, err)
		}
		d.Folders = append(d.Folders, state)
	}
	return nil
}

// writeNode writes a folder with its changes.
func (r *run) writeNode(ctx context.Context, f *folder, changes []entryChange, cursor string) (FolderState, error) {
	n := node{FolderID: f.ID, ParentID: f.ParentID, Name: f.Name, WellKnown: f.WellKnown, Hidden: f.Hidden, Cursor: cursor}
	if !f.Node.IsZero() {
		old, err := readNode(ctx, r.reader(), f.Node)
		if err != nil {
			return FolderState{}, err
		}
		n.Pages = old.Pages
	}
	var err error
	if len(changes) > 0 {
		if n.Pages, err = applyChanges(ctx, r.meta(), n.Pages, changes); err != nil {
			return FolderState{}, err
		}
	}
	data, err := encoding.Marshal(n)
	if err != nil {
		return FolderState{}, fmt.Errorf("encode folder: %w", err)
	}
	id, err := r.putMeta(ctx, kindNode, data)
	if err != nil {
		return FolderState{}, err
	}
	return n.state(id), nil
}

// writeRoot writes the root of the snapshot that d leads to.
func (r *run) writeRoot(ctx context.Context, d Delta, final bool) (repo.MetaID, error) {
	changed := make(map[string]FolderState, len(d.Folders))
	for _, f := range d.Folders {
		changed[f.ID] = f
	}
	top := root{FolderCursor: d.FolderCursor, NextNumber: d.NextNumber, Items: d.Totals.Items, Bytes: d.Totals.Bytes, Damaged: d.Totals.Damaged}
	for _, f := range r.folders {
		id := f.Node
		if c, ok := changed[f.ID]; ok {
			id = c.Node
		}
		if f.gone && final || id.IsZero() {
			continue
		}
		top.Folders = append(top.Folders, id)
	}
	data, err := encoding.Marshal(top)
	if err != nil {
		return repo.MetaID{}, fmt.Errorf("encode root: %w", err)
	}
	return r.putMeta(ctx, kindRoot, data)
}

// committed moves the run on to the commit that it made.
func (r *run) committed(d Delta, bytes int64, final bool) {
	counts := backup.Run{StoredBytes: bytes, RemovedItems: int64(len(d.Removed))}
	for _, s := range r.staged {
		switch {
		case s.removed || !s.real():
		case s.now.NewItem:
			counts.NewItems++
		case s.now.FolderID != s.old.FolderID:
			counts.MovedItems++
		default:
			counts.ChangedItems++
		}
	}
	r.progress.change(func(run *backup.Run) {
		run.StoredBytes += counts.StoredBytes
		run.NewItems += counts.NewItems
		run.MovedItems += counts.MovedItems
		run.ChangedItems += counts.ChangedItems
		run.RemovedItems += counts.RemovedItems
	})
	for _, state := range d.Folders {
		f := r.byID[state.ID]
		f.FolderState, f.dirty = state, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head.Seq, r.head.Totals, r.head.FolderCursor, r.head.Partial = d.Seq, d.Totals, d.FolderCursor, d.Partial
	r.snapshot = d.Seq
	clear(r.staged)
	clear(r.stagedID)
	clear(r.records)
	r.streak = nil
	r.readSince, r.since = 0, time.Now()
}

// rescueTime bounds the commit of a run that was told to stop.
const rescueTime = 15 * time.Second

// rescue commits what a run has that ends with err, so that the next one need
// not read it again. It returns the error that ended the run.
func (r *run) rescue(ctx context.Context, err error) error {
	r.fail(err)
	r.tasks.Wait()
	err = r.failed()
	defer r.abortWriter()
	r.dropStreak()
	var broken *repositoryError
	if errors.As(err, &broken) || errors.Is(err, ErrBusy) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rescueTime)
	defer cancel()
	commit := func() error { return r.keepCursors(ctx, false) }
	for _, s := range r.staged {
		if s.real() {
			commit = func() error { return r.flush(ctx, false) }
			break
		}
	}
	if failed := commit(); failed != nil {
		r.log().Warn("what the run had read was not kept", "mailbox", r.job.Mailbox, "error", failed)
	}
	return err
}

// openWriter returns the writer of the next commit.
func (r *run) openWriter(ctx context.Context) (*repo.Writer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writer != nil {
		return r.writer, nil
	}
	w, err := r.newWriter(ctx)
	if err != nil {
		return nil, fromRepository(err)
	}
	r.writer = w
	return w, nil
}

func (r *run) newWriter(ctx context.Context) (*repo.Writer, error) {
	if r.last != nil {
		return r.last.Next(ctx)
	}
	if err := r.isNewest(ctx); err != nil {
		return nil, err
	}
	return r.Repo.NewWriter(ctx, string(r.job.Org), string(r.job.Mailbox))
}

// isNewest looks that the repository has no snapshots after the run's whose
// predecessor is missing: they would seem to follow what the run commits. Those that
// another run makes meanwhile are met at the commit.
func (r *run) isNewest(ctx context.Context) error {
	later, err := r.Repo.Kept(ctx, string(r.job.Org), string(r.job.Mailbox), r.head.Seq)
	if err == nil && len(later) > 0 && later[0] > r.head.Seq+1 {
		err = fmt.Errorf("%s is missing, and there are later ones: %w", repo.CommitName(string(r.job.Org), string(r.job.Mailbox), r.head.Seq+1), repo.ErrDamaged)
	}
	return err
}

func (r *run) abortWriter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writer != nil {
		r.writer.Abort()
		r.writer = nil
	}
}

// result is what Backup returns.
func (r *run) result() Result {
	counts := r.progress.counters()
	counts.Snapshot = r.snapshot
	return Result{Snapshot: r.snapshot, Items: r.head.Totals.Items, SizeBytes: r.head.Totals.Bytes, DamagedItems: r.head.Totals.Damaged, Run: counts}
}
