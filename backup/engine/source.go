package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"time"
)

// Errors of a Source that the engine acts on, told by errors.Is.
var (
	// ErrCursorExpired says that the provider no longer knows a cursor. The
	// engine asks again with the cursor "" and compares the full listing with
	// what is stored.
	ErrCursorExpired = errors.New("the provider no longer knows the cursor")
	// ErrItemGone says that an item, or a folder, was deleted meanwhile. That is
	// no failure: it counts as deleted.
	ErrItemGone = errors.New("deleted at the provider meanwhile")
)

// Source is one mailbox at its provider. Any other error than those above
// carries a *backup.Problem, if the provider gave a reason that a person can
// act on. Content is called from several goroutines at a time. The pages of
// Changes are asked for from another goroutine than Folders, but only one folder's
// at a time.
type Source interface {
	// Folders returns the folders that changed since cursor, or all of them if
	// cursor is "".
	Folders(ctx context.Context, cursor string) (FolderChanges, error)
	// Changes yields what changed in a folder since cursor, or all of its items
	// if cursor is "". A page may be empty, and an item may come several times;
	// its last time counts. A folder that is gone is ErrItemGone.
	Changes(ctx context.Context, folderID, cursor string) iter.Seq2[Page, error]
	// Content opens the MIME text of an item. The caller closes it.
	Content(ctx context.Context, id string) (io.ReadCloser, error)
}

// Expecter is a Source that can read contents ahead.
type Expecter interface {
	Source
	// Expect names items whose Content will be asked for next, in about this
	// order. ctx ends with the run.
	Expect(ctx context.Context, items []ItemState)
}

// Beginner is a Source that lists a mailbox in another way when nothing of it is
// kept as yet.
type Beginner interface {
	Source
	// ExpectAll says so: the Content of all items that Changes lists will be asked
	// for, in about that order. It is called before the others.
	ExpectAll()
}

// FolderChanges is what Folders returns.
type FolderChanges struct {
	// Full says that Folders lists all folders: one that is not there is deleted.
	Full    bool
	Folders []Folder
	Removed []string // ids of deleted folders
	Cursor  string   // for the next run
}

// Folder is a folder of a mailbox.
type Folder struct {
	ID        string // stays when the folder is renamed or moved
	ParentID  string // "" for a top folder
	Name      string // as the provider shows it; may hold any character
	WellKnown string // inbox, sentitems, drafts …, or ""
	Hidden    bool
	Items     int64 // the provider's count of messages directly in it; an estimate
}

// Page is a part of the changes in a folder.
type Page struct {
	Items   []ItemState
	Removed []string // ids of items that are no longer in this folder
	// Cursor is set on the last page only: for the next run. A Source that can't
	// tell changes of a folder leaves it ""; the folder is then listed each time.
	Cursor string
	// Full says that the pages list all items of the folder: one that is not
	// there is no longer in it.
	Full bool
}

// ItemState is an item as the provider describes it now. One of a Version that
// the engine knows may leave out what has not changed then: subject, addresses,
// dates, size, attachments, importance and message id.
type ItemState struct {
	ID       string // stays when the item is moved to another folder
	Version  string // changes with every change of the item, its place and its flags included
	FolderID string

	Subject           string
	From              string // "Ada Lovelace <ada@example.org>"
	To                string // the recipients, comma separated
	Received, Sent    time.Time
	Size              int64 // bytes as the provider counts them, 0 if it does not say
	Read              bool
	Draft             bool
	Flagged           bool
	HasAttachments    bool
	Importance        string // low, normal or high
	Categories        []string
	InternetMessageID string
	Properties        json.RawMessage // all that the provider says, kept beside the content
}
