package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/export"
	"holdfast/backup/repo"
)

// exportsAtOnce is how many exports a process makes at a time: they compete
// with backups for the storage.
const exportsAtOnce = 2

// exportFile makes the file of an export.
type exportFile struct {
	river.WorkerDefaults[backup.ExportJob]
	*Runner
}

// Timeout implements river.Worker: an export takes as long as it takes.
func (*exportFile) Timeout(*river.Job[backup.ExportJob]) time.Duration { return -1 }

// Work implements river.Worker. A try that was killed left parts of a file that
// nobody reads; the next one begins anew, under another name and key.
func (w *exportFile) Work(ctx context.Context, job *river.Job[backup.ExportJob]) error {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	e, err := w.Store.TakeExport(ctx, job.Args.OrgID, job.Args.ExportID, backup.Secret(identity.String()), time.Now().Add(-runLife))
	if errors.Is(err, backup.ErrConflict) || errors.Is(err, backup.ErrNotFound) {
		return nil // cancelled, or another worker is at it
	}
	if err != nil {
		return fmt.Errorf("take export %s: %w", job.Args.ExportID, err)
	}
	files := w.Engine.Repo.Files()
	if _, err := files.Delete(ctx, export.Folder(e)); err != nil {
		w.Log.Warn("parts of an earlier try not deleted", "export", e.ID, "error", err)
	}
	err = w.make(ctx, files, &e, identity.Recipient())
	end := context.WithoutCancel(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return w.Store.ReleaseExport(end, e) // the program ends; another try follows
	case errors.Is(err, errCancelled):
		_, err := files.Delete(end, export.Folder(e))
		return err
	case err != nil:
		w.Log.Error("export failed", "export", e.ID, "organization", e.OrgID, "error", err)
		e.State, e.Problem = backup.ExportFailed, exportProblem(err)
	default:
		e.State = backup.ExportDone
	}
	e.EndedAt = time.Now()
	e.ExpiresAt = e.EndedAt.Add(backup.ExportLife)
	if err := w.Store.FinishExport(end, e); err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("record export %s: %w", e.ID, err)
	}
	return nil
}

// exportProblem is why an export failed, for the person who asked.
func exportProblem(err error) backup.Problem {
	if errors.Is(err, export.ErrNothing) {
		return backup.Problem{Kind: backup.ProblemItems, At: time.Now(), Text: "There is no backup from that time. Choose a later one."}
	}
	p := *backup.AsProblem(err)
	if p.Kind == backup.ProblemUnknown {
		p.Text = "The file could not be made. The log has the details. Start the export again; if it fails again, ask whoever runs this Holdfast."
	}
	return p
}

// errCancelled says that a person cancelled the export.
var errCancelled = errors.New("cancelled")

// make writes the file and tells the store how far it is.
func (w *exportFile) make(ctx context.Context, files repo.Files, e *backup.Export, stored age.Recipient) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	count := &exportCount{}
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		w.beatExport(ctx, *e, count, cancel)
	}()
	size, err := w.write(ctx, files, e, stored, count)
	cause := context.Cause(ctx)
	cancel(nil)
	<-beating
	count.fill(e)
	e.SizeBytes = size
	if errors.Is(cause, errCancelled) {
		return errCancelled
	}
	return err
}

// exportCount is how far an export is.
type exportCount struct{ done, total, missing, bytes atomic.Int64 }

func (c *exportCount) fill(e *backup.Export) {
	e.ItemsDone, e.ItemsTotal, e.MissingItems, e.ReadBytes = c.done.Load(), c.total.Load(), c.missing.Load(), c.bytes.Load()
}

// beatExport writes progress until ctx ends, and ends it when the export was
// cancelled.
func (w *exportFile) beatExport(ctx context.Context, e backup.Export, count *exportCount, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		count.fill(&e)
		err := w.Store.BeatExport(ctx, e)
		switch {
		case errors.Is(err, backup.ErrNotFound):
			cancel(errCancelled)
			return
		case err != nil && ctx.Err() == nil:
			w.Log.Warn("progress not written", "export", e.ID, "error", err)
		}
	}
}

// write writes the file: the messages, in their format, encrypted as the person
// asked, and all of it encrypted under the export's own key. It returns the
// bytes that the person gets.
func (w *exportFile) write(ctx context.Context, files repo.Files, e *backup.Export, stored age.Recipient, count *exportCount) (int64, error) {
	file := files.Create(ctx, export.File(*e))
	defer file.Abort()
	sealed, err := age.Encrypt(file, stored)
	if err != nil {
		return 0, fmt.Errorf("encrypt the file: %w", err)
	}
	size := &countingWriter{w: sealed}
	out, err := export.Encrypt(size, e.Recipient, e.Passphrase)
	if err != nil {
		return 0, fmt.Errorf("encrypt the file for its reader: %w", err)
	}
	reader := export.Reader{Store: w.Store, Content: w.Engine,
		Total:    func(items int64) { count.total.Add(items) },
		Progress: func(items, bytes int64) { count.done.Add(items); count.bytes.Add(bytes) },
		Missing:  func() { count.missing.Add(1) }}
	if err := reader.Export(ctx, *e, out); err != nil {
		return 0, err
	}
	for _, part := range []io.Closer{out, sealed, file} {
		if err := part.Close(); err != nil {
			return 0, fmt.Errorf("end the file: %w", err)
		}
	}
	return size.n, nil
}

// countingWriter counts what goes through it.
type countingWriter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// exports puts exports back into the queue whose worker is gone, and deletes
// those whose time is over.
func (w *schedule) exports(ctx context.Context, now time.Time) error {
	lost, err := w.Store.LostExports(ctx, now.Add(-runLife))
	if err != nil {
		return err
	}
	for _, e := range lost {
		if err := w.Store.Enqueue(ctx, backup.ExportJob{OrgID: e.OrgID, ExportID: e.ID}); err != nil {
			return fmt.Errorf("queue export %s: %w", e.ID, err)
		}
	}
	return w.deleteExports(ctx, now)
}
