package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// RestoreJob is one restore.
type RestoreJob struct {
	backup.Restore
	Target   Target
	Progress func(backup.Restore)                            // gets the counters, a few times a second at most; nil for none
	Note     func(context.Context, backup.RestoreNote) error // is told of each message that failed or differs; not at the same time
}

// Restore walks through the snapshot of job and puts what it selects into its
// target. It may be called again after it was interrupted: what it put there is
// found again. The counters of the answer are those of this call. The error says
// why the restore could not go on; what kept single messages from it is in Note.
func (e *Engine) Restore(ctx context.Context, job RestoreJob) (backup.Restore, error) {
	r := &restorer{Engine: e, job: job, meta: e.blobs(job.OrgID, job.MailboxID), made: map[string]string{}}
	r.counts.Restore = job.Restore
	r.counts.change(func(c *backup.Restore) {
		c.ItemsTotal, c.ItemsDone, c.Restored, c.Skipped, c.Failed, c.Altered, c.Bytes = 0, 0, 0, 0, 0, 0, 0
	})
	r.counts.report = job.Progress
	err := r.do(ctx)
	return r.counts.now(), e.problem(ctx, err)
}

// restorer is a restore under way.
type restorer struct {
	*Engine
	job    RestoreJob
	meta   metadata
	nodes  []node
	made   map[string]string // folder in the snapshot to folder in the target
	top    string            // with backup.PlaceFolder: the folder above all
	counts restoreCounts
	noting sync.Mutex
}

func (r *restorer) do(ctx context.Context) error {
	commit, err := r.Repo.Commit(ctx, string(r.job.OrgID), string(r.job.MailboxID), r.job.Snapshot)
	if errors.Is(err, repo.ErrNotExist) {
		return fmt.Errorf("snapshot %d: %w", r.job.Snapshot, backup.ErrNotFound)
	}
	if err != nil {
		return fromRepository(fmt.Errorf("snapshot %d: %w", r.job.Snapshot, err))
	}
	var top root
	if err := decode(ctx, r.meta, kindRoot, commit.Root, &top); err != nil {
		return err
	}
	for _, id := range top.Folders {
		n, err := readNode(ctx, r.meta, id)
		if err != nil {
			return err
		}
		r.nodes = append(r.nodes, n)
	}
	chosen := r.chosen()
	if len(chosen) == 0 {
		return fmt.Errorf("folder %s: %w", r.job.FolderID, backup.ErrNotFound)
	}
	r.counts.change(func(c *backup.Restore) { c.ItemsTotal = r.total(chosen) })
	for _, n := range chosen {
		if err := r.folder(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// chosen are the folders that messages are taken from, parents first.
func (r *restorer) chosen() []node {
	var list []node
	for _, n := range r.nodes {
		if r.job.Scope == backup.RestoreMailbox || r.within(n) {
			list = append(list, n)
		}
	}
	slices.SortStableFunc(list, func(a, b node) int { return len(r.path(a)) - len(r.path(b)) })
	return list
}

// within says whether n is the chosen folder, or below it if all of that is
// restored.
func (r *restorer) within(n node) bool {
	for _, p := range r.path(n) {
		if p.FolderID == r.job.FolderID {
			return r.job.Scope == backup.RestoreFolder || n.FolderID == p.FolderID
		}
	}
	return false
}

// path are the folders from the top down to n; what is above a circle, or
// missing, is left out.
func (r *restorer) path(n node) []node {
	path := []node{n}
	for len(path) <= len(r.nodes) {
		parent := slices.IndexFunc(r.nodes, func(p node) bool { return p.FolderID == path[0].ParentID && p.FolderID != "" })
		if parent < 0 || slices.ContainsFunc(path, func(p node) bool { return p.FolderID == r.nodes[parent].FolderID }) {
			break
		}
		path = append([]node{r.nodes[parent]}, path...)
	}
	return path
}

func (r *restorer) total(chosen []node) int64 {
	if r.job.Scope == backup.RestoreMessage {
		return 1
	}
	total := int64(0)
	for _, n := range chosen {
		for _, p := range n.Pages {
			total += int64(p.Count)
		}
	}
	return total
}

// names is the path of n as a person reads it.
func (r *restorer) names(n node) string {
	var names []string
	for _, p := range r.path(n) {
		names = append(names, p.Name)
	}
	return strings.Join(names, " / ")
}

// place finds or makes the folder of the target for a folder of the snapshot.
func (r *restorer) place(ctx context.Context, n node) (string, error) {
	if id, ok := r.made[n.FolderID]; ok {
		return id, nil
	}
	if r.job.Place == backup.PlaceFolder && r.top == "" {
		top, err := r.job.Target.Folder(ctx, "", r.job.FolderName)
		if err != nil {
			return "", fmt.Errorf("folder %q: %w", r.job.FolderName, err)
		}
		r.top = top
	}
	id, err := r.placeOf(ctx, n)
	if err != nil {
		return "", fmt.Errorf("folder %q: %w", n.Name, err)
	}
	r.made[n.FolderID] = id
	return id, nil
}

func (r *restorer) placeOf(ctx context.Context, n node) (string, error) {
	path := r.path(n)
	if r.job.Place == backup.PlaceFolder {
		// A single message lies directly in the folder; a folder is its first level.
		if r.job.Scope == backup.RestoreMessage {
			return r.top, nil
		}
		if len(path) == 1 || n.FolderID == r.job.FolderID {
			return r.job.Target.Folder(ctx, r.top, n.Name)
		}
	} else if n.WellKnown != "" {
		id, err := r.job.Target.WellKnown(ctx, n.WellKnown)
		if !errors.Is(err, ErrNoSuchFolder) {
			return id, err
		}
	}
	parent := ""
	if len(path) > 1 {
		var err error
		if parent, err = r.place(ctx, path[len(path)-2]); err != nil {
			return "", err
		}
	}
	return r.job.Target.Folder(ctx, parent, n.Name)
}

// restoreParallel is how many messages are made at a time.
const restoreParallel = 4

// folder restores the messages of one folder. An empty one is made too.
func (r *restorer) folder(ctx context.Context, n node) error {
	target, err := r.place(ctx, n)
	if err != nil {
		return err
	}
	if len(n.Pages) == 0 {
		return nil
	}
	present, err := r.job.Target.Present(ctx, target)
	if err != nil {
		return fmt.Errorf("read folder %q of the target: %w", n.Name, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(restoreParallel)
	err = r.entries(ctx, n, func(e entry) error {
		m, rec, err := r.message(ctx, n, e)
		if err != nil {
			return err
		}
		there := Absent
		if rec.Content != nil {
			there = present(m)
		}
		group.Go(func() error { return r.item(ctx, n, target, m, rec, there) })
		return ctx.Err()
	})
	if waited := group.Wait(); waited != nil {
		return waited // it is why the walk was cancelled, if it was
	}
	return err
}

// entries calls each with the entries of a folder that are to be restored.
func (r *restorer) entries(ctx context.Context, n node, each func(entry) error) error {
	for _, p := range n.Pages {
		list, err := readPage(ctx, r.meta, p)
		if err != nil {
			return err
		}
		for _, e := range list {
			if r.job.Scope == backup.RestoreMessage && !e.isItem(r.job.ItemID) {
				continue
			}
			if err := each(e.entry); err != nil {
				return err
			}
			if r.job.Scope == backup.RestoreMessage {
				return nil
			}
		}
	}
	if r.job.Scope == backup.RestoreMessage {
		return fmt.Errorf("item %s: %w", r.job.ItemID, backup.ErrNotFound)
	}
	return nil
}

// isItem says whether an identifier names the entry's record.
func (e entry) isItem(id backup.ItemID) bool {
	n, ok := RecordNumber(id)
	return ok && itemID(n, e.Record) == id
}

// message makes what a Target gets of an entry.
func (r *restorer) message(ctx context.Context, n node, e entry) (Restored, *itemRecord, error) {
	rec, err := readRecord(ctx, r.meta, e.Record)
	if err != nil {
		return Restored{}, nil, err
	}
	var item Item
	rec.fill(&item.ItemState)
	e.fill(&item)
	m := Restored{
		item: itemID(rec.Number, e.Record), Restore: r.job.ID,
		ItemState: item.ItemState, FromMe: n.WellKnown == "sentitems",
	}
	m.Properties = rec.Properties
	m.Key = string(r.job.MailboxID) + "." + string(m.item)
	if e.Properties != nil {
		if m.Properties, err = r.meta.read(ctx, kindProperties, *e.Properties); err != nil {
			return m, rec, err
		}
	}
	if rec.Content != nil {
		m.Bytes, m.Open = rec.Content.Size, r.content(*rec.Content)
	}
	return m, rec, nil
}

// content opens a content as a stream.
func (r *restorer) content(c repo.Content) func(context.Context) io.ReadCloser {
	return func(ctx context.Context) io.ReadCloser {
		out, in := io.Pipe()
		go func() {
			err := r.Repo.ReadContent(ctx, string(r.job.OrgID), string(r.job.MailboxID), c, in)
			if err != nil && !errors.Is(err, io.ErrClosedPipe) {
				err = fromRepository(err)
			}
			in.CloseWithError(err)
		}()
		return out
	}
}

// item restores one message. Only what ends the whole restore is an error.
func (r *restorer) item(ctx context.Context, n node, target string, m Restored, rec *itemRecord, there Presence) error {
	if there == There && !r.job.Copies || there == Mine {
		r.counts.change(func(c *backup.Restore) {
			c.ItemsDone++
			if there == Mine {
				c.Restored++
				c.Bytes += m.Bytes
			} else {
				c.Skipped++
			}
		})
		return nil
	}
	var notes []string
	var err error = errNoContent
	if rec.Content != nil {
		notes, err = r.job.Target.Create(ctx, target, m)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, ErrTargetClosed) {
		return err
	}
	note := backup.RestoreNote{ItemID: m.item, Subject: m.Subject, From: m.From, Folder: r.names(n), ReceivedAt: m.Received}
	switch {
	case err != nil:
		note.Reason = reason(r.problem(ctx, err))
		r.log().Warn("message not restored", "restore", r.job.ID, "item", note.ItemID, "error", err)
	case len(notes) > 0:
		note.Altered, note.Reason = true, strings.Join(notes, " ")
	}
	if note.Reason != "" {
		if err := r.note(ctx, note); err != nil {
			return err
		}
	}
	r.counts.change(func(c *backup.Restore) {
		c.ItemsDone++
		switch {
		case err != nil:
			c.Failed++
			return
		case note.Altered:
			c.Altered++
		}
		c.Restored++
		c.Bytes += m.Bytes
	})
	return nil
}

var errNoContent = &backup.Problem{Kind: backup.ProblemItems,
	Text: "The text of this message could not be read at the provider when it was backed up, so there is nothing to restore. A later snapshot may have it."}

// reason is what a person reads of why a message was not restored.
func reason(err error) string {
	if errors.Is(err, repo.ErrDamaged) || errors.Is(err, repo.ErrNotExist) {
		return "The text of this message is damaged or missing in the backup storage. Whoever runs this Holdfast finds the cause in the log and should run holdfast verify. An earlier or later snapshot may have it."
	}
	return backup.AsProblem(err).Text
}

func (r *restorer) note(ctx context.Context, n backup.RestoreNote) error {
	if r.job.Note == nil {
		return nil
	}
	r.noting.Lock()
	defer r.noting.Unlock()
	return r.job.Note(ctx, n)
}

// restoreCounts counts and reports at a modest rate.
type restoreCounts struct {
	mu     sync.Mutex
	report func(backup.Restore)
	last   time.Time
	backup.Restore
}

func (c *restoreCounts) change(f func(*backup.Restore)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.Restore)
	if now := time.Now(); c.report != nil && now.Sub(c.last) >= progressEvery {
		c.last = now
		c.report(c.Restore)
	}
}

func (c *restoreCounts) now() backup.Restore {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Restore
}
