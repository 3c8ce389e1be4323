package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// run is one backup under way. Its methods are called from one goroutine; what
// fetches share stands below mu.
type run struct {
	*Engine
	job        Job
	checkpoint Checkpoint
	progress   *progress

	head         Head
	next         int64 // for the next item or record
	folders      []*folder
	byID         map[string]*folder
	folderCursor string // to keep with the final commit

	seen      bitset            // items that some folder reported in this run
	elsewhere map[int64][]place // other folders that reported an item in this run
	pending   map[int64]string  // items that their folder reported as gone, with the folder
	attempted bitset            // items whose content was asked for in this run

	cancel func()         // ends the run's context
	slots  chan struct{}  // bounds the contents that are read at a time
	work   chan struct{}  // bounds the fetches under way: read, or read and not yet stored
	tasks  sync.WaitGroup // fetches under way
	idle   chan func()    // to the goroutines that wait for a fetch; closed at the end

	mu        sync.Mutex
	writer    *repo.Writer                // nil until something is written
	last      *repo.Writer                // made the newest commit of this run, nil before it
	staged    map[int64]*staged           // changes since the last commit, by item
	stagedID  map[string]int64            // provider id to item, of staged
	inFlight  map[string]bool             // provider ids that are being fetched
	readSince int64                       // bytes of content since the last commit
	since     time.Time                   // the last commit, or later if nothing changed since
	failure   error                       // the first error that ends the run
	undone    map[string]bool             // folders with an item that was neither staged nor marked as failed
	streak    []streakItem                // failed items without a success between them
	records   map[repo.MetaID]*itemRecord // written since the last commit, without properties
	snapshot  int64                       // the newest commit of this run
	spoiled   error                       // why a commit failed, with whose writer everything is gone that staged refers to
}

// folder is a folder in a run.
type folder struct {
	FolderState        // Cursor is what the next commit may keep
	next        string // cursor after this run's changes
	gone        bool   // deleted at the provider
	dirty       bool   // its node has to be written
	done        bool   // its changes were read
	pending     bool   // it reported items as gone whose fate is open
	doubt       bool   // its changes contradict themselves
}

// place is an item as one folder reported it.
type place struct {
	folder string
	state  ItemState
}

// staged is a change that the next commit will hold.
type staged struct {
	old     Item // as the last commit has it; FolderID "" if it has not
	now     ItemChange
	removed bool
}

func (e *Engine) newRun(ctx context.Context, job Job) (*run, error) {
	head, err := e.Catalog.Head(ctx, job.Org, job.Mailbox)
	if err != nil {
		return nil, fmt.Errorf("read the newest snapshot: %w", err)
	}
	if job.Concurrency <= 0 {
		job.Concurrency = defaultConcurrency
	}
	r := &run{
		Engine: e, job: job, checkpoint: e.Checkpoint.orDefaults(), progress: newProgress(job.Progress),
		head: head, next: max(head.NextNumber, 1), folderCursor: head.FolderCursor, byID: map[string]*folder{},
		elsewhere: map[int64][]place{}, pending: map[int64]string{}, slots: make(chan struct{}, job.Concurrency), work: make(chan struct{}, 2*job.Concurrency),
		staged: map[int64]*staged{}, stagedID: map[string]int64{}, inFlight: map[string]bool{}, undone: map[string]bool{}, records: map[repo.MetaID]*itemRecord{}, since: time.Now(),
		cancel: func() {}, idle: make(chan func()),
	}
	for _, f := range head.Folders {
		r.addFolder(&folder{FolderState: f})
	}
	return r, nil
}

func (r *run) addFolder(f *folder) {
	r.folders = append(r.folders, f)
	r.byID[f.ID] = f
}

// do is the run: folders, their changes, the items that failed before, and only
// then what is gone.
func (r *run) do(ctx context.Context) error {
	ctx, r.cancel = context.WithCancel(ctx)
	defer r.cancel()
	if source, ok := r.job.Source.(Beginner); ok && r.head.Seq == 0 {
		source.ExpectAll()
	}
	if err := r.listFolders(ctx); err != nil {
		return err
	}
	if err := r.readFolders(ctx); err != nil {
		return err
	}
	if err := r.retryFailed(ctx); err != nil {
		return err
	}
	if err := r.wait(); err != nil {
		return err
	}
	if err := r.concludeRemovals(ctx); err != nil {
		return err
	}
	return r.finish(ctx)
}

// listFolders brings the list of folders up to date.
func (r *run) listFolders(ctx context.Context) error {
	changes, err := r.job.Source.Folders(ctx, r.head.FolderCursor)
	if errors.Is(err, ErrCursorExpired) && r.head.FolderCursor != "" {
		changes, err = r.job.Source.Folders(ctx, "")
		changes.Full = true
	}
	if err != nil {
		return fmt.Errorf("list folders: %w", err)
	}
	if err := r.mergeFolders(changes); err != nil {
		return err
	}
	r.folderCursor = changes.Cursor
	r.progress.folders(len(r.folders))
	return nil
}

// mergeFolders applies changes to the folders of the last snapshot.
func (r *run) mergeFolders(changes FolderChanges) error {
	full := changes.Full || r.head.FolderCursor == ""
	if full && len(changes.Folders) == 0 && len(r.head.Folders) > 0 {
		// Every mailbox has folders: a list without any is an error of the
		// provider, and not a reason to conclude that everything is deleted.
		return &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(), Err: errors.New("full list of folders is empty"),
			Text: "The provider lists no folder of this mailbox, although there were some. Nothing was changed in the backup; Holdfast tries again by itself."}
	}
	listed := map[string]bool{}
	for _, f := range changes.Folders {
		listed[f.ID] = true
		r.mergeFolder(f)
	}
	for _, id := range changes.Removed {
		if f := r.byID[id]; f != nil && !listed[id] {
			f.gone = true
		}
	}
	if full {
		for _, f := range r.folders {
			f.gone = !listed[f.ID]
		}
	}
	return nil
}

func (r *run) mergeFolder(f Folder) {
	old := r.byID[f.ID]
	if old == nil {
		r.progress.expect(f.Items)
		f.Items = 0
		r.addFolder(&folder{FolderState: FolderState{Folder: f}, dirty: true})
		return
	}
	old.gone = false
	if old.Cursor == "" {
		r.progress.expect(f.Items)
	}
	f.Items = old.Items // what the snapshot has, not what the provider counts
	if old.Folder != f {
		old.Folder, old.dirty = f, true
	}
}

// folderTries is how many folders in a row may fail before a run gives up.
const folderTries = 3

// readFolders reads the changes of all folders. One that can't be read does not
// keep the others from being backed up; but then nothing is concluded to be
// deleted, and the run ends with its error.
func (r *run) readFolders(ctx context.Context) error {
	var first error
	failed := 0
	for _, f := range slices.Clone(r.folders) {
		if f.gone {
			if err := r.allPending(ctx, f, nil); err != nil {
				return err
			}
			continue
		}
		err := r.readFolder(ctx, f)
		if errors.Is(err, ErrItemGone) {
			err = r.folderVanished(ctx, f)
		}
		if err == nil {
			failed = 0
			continue
		}
		err = fmt.Errorf("folder %s: %w", f.ID, err)
		if failed++; r.failed() != nil || stopsRun(err) || failed >= folderTries || ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return cmp.Or(r.wait(), first)
	}
	return nil
}

// folderVanished asks for all folders anew after one was gone between the list
// and its changes.
func (r *run) folderVanished(ctx context.Context, f *folder) error {
	changes, err := r.job.Source.Folders(ctx, "")
	if err != nil {
		return fmt.Errorf("list folders: %w", err)
	}
	if len(changes.Folders) == 0 || slices.ContainsFunc(changes.Folders, func(l Folder) bool { return l.ID == f.ID }) {
		return &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(), Err: errors.New("folder is listed, but not found"),
			Text: "The provider lists a folder of this mailbox, but says that it does not exist. Everything else is backed up; Holdfast tries again by itself."}
	}
	f.gone = true
	return r.allPending(ctx, f, nil)
}

// stopsRun says that an error concerns the whole mailbox, so that going on
// would only repeat it.
func stopsRun(err error) bool {
	switch backup.KindOf(err) {
	case backup.ProblemMailboxInactive, backup.ProblemMailboxDeleted, backup.ProblemCredential, backup.ProblemConsentMissing,
		backup.ProblemApplicationGone, backup.ProblemApplicationOff, backup.ProblemSignInExpired, backup.ProblemThrottled,
		backup.ProblemPassword, backup.ProblemCertificate,
		backup.ProblemDiskFull, backup.ProblemRepository:
		return true
	}
	var broken *repositoryError // whose kind is found when the run has ended
	return errors.As(err, &broken) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
