package engine

import (
	"context"
	"errors"
	"io"

	"holdfast/backup"
)

// Errors of a Target that the engine acts on, told by errors.Is.
var (
	// ErrTargetClosed says that the target takes nothing at all: a permission is
	// missing, the mailbox is full or gone, the provider does not answer. The
	// restore ends there; other errors concern one message.
	ErrTargetClosed = errors.New("the target takes no messages")
	// ErrNoSuchFolder says that the target has no folder of a well-known name.
	ErrNoSuchFolder = errors.New("the target has no such folder")
)

// Target is a mailbox that messages are put into. Every error carries a
// *backup.Problem, if the provider gave a reason that a person can act on; one
// that wraps ErrTargetClosed ends the restore. Create is called from several
// goroutines at a time, the others from one.
type Target interface {
	// WellKnown returns the id of the folder that every mailbox has under a
	// well-known name (inbox, sentitems …), or ErrNoSuchFolder.
	WellKnown(ctx context.Context, name string) (string, error)
	// Folder returns the id of the folder of a name below parent, which is "" for
	// the top; if there is none, it is made.
	Folder(ctx context.Context, parent, name string) (string, error)
	// Present reads what a folder has, and returns a function that tells whether a
	// message is in it. The function is called from one goroutine.
	Present(ctx context.Context, folder string) (func(Restored) Presence, error)
	// Create puts a message into a folder, whole or not at all. How what is there
	// differs from what was kept is in notes, a sentence each. It goes on with one
	// that Present called Unfinished.
	Create(ctx context.Context, folder string, m Restored) (notes []string, err error)
}

// Presence is whether a message is in a folder of a Target.
type Presence int

// The presences.
const (
	Absent     Presence = iota
	There               // it was not deleted, or an earlier restore put it there
	Mine                // this restore put it there, before it was interrupted
	Unfinished          // this restore, or an earlier one, had begun to put it there
)

// Restored is a message on its way to a Target.
type Restored struct {
	// Key names the message as it was kept, and Restore the restore; a Target
	// marks what it makes with both, if it can, to find it again.
	Key     string
	Restore backup.RestoreID
	ItemState
	FromMe bool  // it was in the folder of sent messages
	Bytes  int64 // of the MIME text
	// Open returns the MIME text, anew each time. The caller closes it.
	Open func(ctx context.Context) io.ReadCloser

	item backup.ItemID
}
