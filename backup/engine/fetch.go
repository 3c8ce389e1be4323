package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// storeAfter is the size from which on a content keeps its place at the provider
// until it is stored. Smaller ones give it back when they are read, so that the
// next is on its way while they are compressed; larger ones would need too much
// memory for that.
const storeAfter = 1 << 20

// fetch reads the content of an item in the background, waiting for a free
// slot first.
func (r *run) fetch(ctx context.Context, item Item, s ItemState) error {
	if err := r.checkStreak(ctx); err != nil {
		return err
	}
	if err := r.maybeCheckpoint(ctx); err != nil {
		return err
	}
	done, err := r.enter(ctx)
	if err != nil {
		return err
	}
	r.attempted.set(item.Number)
	r.mu.Lock()
	r.inFlight[s.ID] = true
	r.mu.Unlock()
	r.background(func() {
		defer func() {
			r.mu.Lock()
			delete(r.inFlight, s.ID)
			r.mu.Unlock()
			done.all()
		}()
		if err := r.fetchOne(ctx, item, s, done); err != nil {
			r.leave(s.FolderID)
			r.fail(err)
		}
		r.progress.item()
	})
	return nil
}

// background runs task in one of the run's goroutines, which are kept: a new one
// would have to grow its stack for every content. There are as many as enter lets
// in at a time.
func (r *run) background(task func()) {
	r.tasks.Add(1)
	select {
	case r.idle <- task:
	default:
		go func() {
			for ; task != nil; task = <-r.idle {
				task()
				r.tasks.Done()
			}
		}()
	}
}

// slot is the right to work on a content.
type slot struct {
	read func() // gives the place at the provider back; the second time it does nothing
	all  func() // ends the work
}

// enter waits until a content may be asked for: as many are read at a time as
// the job says, and as many again are stored.
func (r *run) enter(ctx context.Context) (slot, error) {
	for _, places := range []chan struct{}{r.work, r.slots} {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			if places == r.slots {
				<-r.work
			}
			return slot{}, ctx.Err()
		}
	}
	read := sync.OnceFunc(func() { <-r.slots })
	done := slot{read: read, all: func() { read(); <-r.work }}
	// A place may have been free when the run had ended already.
	if err := cmp.Or(r.failed(), ctx.Err()); err != nil {
		done.all()
		return slot{}, err
	}
	return done, nil
}

// fetchOne reads and stages one content. Its error ends the run.
func (r *run) fetchOne(ctx context.Context, item Item, s ItemState, done slot) error {
	content, err := r.readContent(ctx, s.ID, done)
	var repository *repositoryError
	switch {
	case err == nil:
		return r.stageContent(ctx, item, s, content)
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrItemGone):
		if item.FolderID != "" {
			r.stageRemoval(item)
		}
		return nil
	case errors.As(err, &repository), stopsRun(err):
		return err
	}
	return r.stageFailure(ctx, item, s, err)
}

// readContent moves a content from the provider to the repository.
func (r *run) readContent(ctx context.Context, id string, done slot) (repo.Content, error) {
	body, err := r.job.Source.Content(ctx, id)
	if err != nil {
		return repo.Content{}, err
	}
	defer body.Close()
	w, err := r.openWriter(ctx)
	if err != nil {
		return repo.Content{}, err
	}
	src := &sourceReader{ctx: ctx, reader: body, run: r, end: done.read}
	content, err := w.PutContent(ctx, src)
	switch {
	case err == nil:
		return content, nil
	case src.err != nil:
		return content, src.err
	case errors.Is(err, repo.ErrTooLarge):
		return content, &backup.Problem{Kind: backup.ProblemItems, At: time.Now(), Err: err,
			Text: fmt.Sprintf("This message is larger than %d MiB, more than Holdfast can keep. Save a copy of it yourself.", repo.MaxContent>>20)}
	}
	return content, fromRepository(err)
}

// sourceReader counts what is read and tells errors of the provider from those
// of the repository.
type sourceReader struct {
	ctx    context.Context //nolint:containedctx // of the one reading that it is made for
	reader io.Reader
	run    *run
	read   int64
	end    func() // called when all of a small content was read
	err    error
}

// Read implements io.Reader.
func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.reader.Read(p)
	s.run.addRead(int64(n))
	s.read += int64(n)
	if pace := s.run.job.Pace; pace != nil && n > 0 {
		if held := pace(s.ctx, n); held != nil {
			s.err = held
			return n, held
		}
	}
	switch {
	case err == nil:
	case err != io.EOF:
		s.err = err
	case s.read < storeAfter:
		s.end()
	}
	return n, err
}

func (r *run) addRead(n int64) {
	r.mu.Lock()
	r.readSince += n
	r.mu.Unlock()
	r.progress.read(n)
}

// stageContent stages an item whose content was read.
func (r *run) stageContent(ctx context.Context, item Item, s ItemState, content repo.Content) error {
	r.mu.Lock()
	r.streak = nil
	r.mu.Unlock()
	now := ItemChange{Item: withState(item, s), NewItem: item.ID == ""}
	now.Problem = backup.Problem{}
	old, err := r.oldRecord(ctx, item)
	if err != nil {
		return err
	}
	if s.Properties == nil && old != nil {
		// Read again without a new word from the provider: what it said stays.
		if s.Properties, err = r.properties(ctx, item, old); err != nil {
			return err
		}
	}
	if old != nil && old.Content != nil && sameContent(*old.Content, content) && sameHeader(item.ItemState, s) {
		return r.stageSame(ctx, item, now, s)
	}
	if err := r.newRecord(ctx, &now, s, &content); err != nil {
		return err
	}
	now.Properties = repo.MetaID{} // the record has the newest
	r.stage(item, now)
	return nil
}

// stageSame stages an item whose content turned out to be what is kept already.
func (r *run) stageSame(ctx context.Context, item Item, now ItemChange, s ItemState) error {
	if len(s.Properties) > 0 && item.Version != s.Version {
		id, err := r.putMeta(ctx, kindProperties, s.Properties)
		if err != nil {
			return err
		}
		now.Properties = id
	}
	r.stage(item, now)
	return nil
}

// newRecord writes a record for now and names it there. A new item's first
// record has the number of the item.
func (r *run) newRecord(ctx context.Context, now *ItemChange, s ItemState, content *repo.Content) error {
	number := now.Number
	if !now.NewItem {
		number = r.number()
	}
	rec := recordOf(number, now.Number, s, content)
	data, err := encoding.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record %d: %w", number, err)
	}
	id, err := r.putMeta(ctx, kindRecord, data)
	if err != nil {
		return err
	}
	rec.Properties = nil
	r.mu.Lock()
	r.records[id] = &rec // can't be read from the repository before the commit
	r.mu.Unlock()
	folder := now.FolderID
	s.Properties = nil
	now.ItemState, now.FolderID = s, folder
	now.Record, now.NewRecord = Record{Number: number, Meta: id}, true
	if content != nil {
		now.Record.Bytes, now.Record.HasContent = content.Size, true
	}
	return nil
}

// oldRecord reads an item's record, nil for a new item.
func (r *run) oldRecord(ctx context.Context, item Item) (*itemRecord, error) {
	if item.ID == "" {
		return nil, nil
	}
	r.mu.Lock()
	rec := r.records[item.Record.Meta]
	r.mu.Unlock()
	if rec != nil {
		return rec, nil
	}
	return readRecord(ctx, r.reader(), item.Record.Meta)
}

// properties returns what the provider said last about an item.
func (r *run) properties(ctx context.Context, item Item, old *itemRecord) ([]byte, error) {
	if item.Properties.IsZero() {
		return old.Properties, nil
	}
	return r.reader().read(ctx, kindProperties, item.Properties)
}

func sameContent(a, b repo.Content) bool { return a.Size == b.Size && bytes.Equal(a.SHA256, b.SHA256) }

// wait waits for all fetches under way and returns the error that ends the run,
// if there is one.
func (r *run) wait() error {
	r.tasks.Wait()
	return r.failed()
}

// leave notes that a change in a folder was not worked off, so that its cursor
// must not be kept.
func (r *run) leave(folder string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.undone[folder] = true
}

// fail ends the run with err, if nothing else ended it already.
func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
		r.cancel()
	}
}

func (r *run) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}
