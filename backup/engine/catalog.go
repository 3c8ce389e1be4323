package engine

import (
	"context"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// Catalog is the cache of the repository that answers what is where. It is
// never ahead of the commits; *store.Store implements it. Methods on a mailbox
// that has no commit yet answer with zero values.
type Catalog interface {
	// Head returns the newest snapshot as the next run needs it.
	Head(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) (Head, error)
	// KnownItems returns the items with these provider ids that were ever seen,
	// those that are deleted meanwhile (FolderID "") included.
	KnownItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, ids []string) ([]Item, error)
	// ItemsByNumber returns the same by number.
	ItemsByNumber(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, numbers []int64) ([]Item, error)
	// FolderItems returns the numbers of the items in a folder of the newest
	// snapshot, in no order.
	FolderItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, folderID string) ([]int64, error)
	// FailedItems returns the items of the newest snapshot that have a Problem,
	// in order of their numbers, at most limit that are greater than after.
	FailedItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, after int64, limit int) ([]Item, error)
	// ItemRecord returns the record that id names, and backup.ErrNotFound if the
	// mailbox has none.
	ItemRecord(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, id backup.ItemID) (Record, error)

	// SaveCursors keeps newer cursors of a snapshot that did not change. It does
	// nothing if seq is no longer the newest snapshot.
	SaveCursors(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64, c Cursors) error
	// ApplyCommit makes a commit's changes visible, in one transaction. Applying
	// the newest commit again does nothing; one that does not follow it is
	// ErrNotNext.
	ApplyCommit(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, d Delta) error
	// AddObjects makes known what the packs of a commit hold, so that its
	// metadata can be read. Packs that are known already are left as they are.
	AddObjects(ctx context.Context, org backup.OrgID, objects []repo.Object) error
	// Heads returns every mailbox with its newest snapshot in the catalog, 0 for
	// none.
	Heads(ctx context.Context) ([]MailboxHead, error)
	// KnownHeads returns the mailboxes of an organization with the newest snapshot
	// that was ever known of each, also if the catalog was cleared since.
	KnownHeads(ctx context.Context, org backup.OrgID) ([]MailboxHead, error)
	// SetHead says that KnownHeads is to know no later snapshot than seq, or the
	// catalog's: those after it are lost.
	SetHead(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64) error
	// ClearCatalog forgets everything about an organization, but KnownHeads.
	ClearCatalog(ctx context.Context, org backup.OrgID) error

	// ForgetSnapshots forgets the snapshots of a mailbox that expired, and what
	// only they have. It may be called again for the same.
	ForgetSnapshots(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, spans []repo.Span) error
	// ForgetMailbox forgets all snapshots of a mailbox.
	ForgetMailbox(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) error
	// EraseMailbox destroys the keys of a mailbox whose data is erased, and forgets
	// everything of it for good: nothing of it is taken in again, and no key is
	// made. It may be called again.
	EraseMailbox(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) error
	// CatalogMailboxes returns the mailboxes of an organization that have a snapshot.
	CatalogMailboxes(ctx context.Context, org backup.OrgID) ([]backup.MailboxID, error)
	// GoneSnapshots returns, for each mailbox of an organization, the snapshots up to
	// its newest that the catalog has not, and the mailboxes that are erased.
	GoneSnapshots(ctx context.Context, org backup.OrgID) ([]repo.Expired, error)
	// SnapshotNumbers returns the snapshots of a mailbox, in order.
	SnapshotNumbers(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) ([]int64, error)
	// SnapshotTree returns a snapshot with its folders. Only those of the newest
	// have Cursor and Node, and only it has NextNumber and FolderCursor.
	SnapshotTree(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64) (Delta, error)
	// SnapshotItems returns the items in a folder of a snapshot as they were in it,
	// in order of their numbers, at most limit that are greater than after.
	SnapshotItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64, folderID string, after int64, limit int) ([]Item, error)
	// RecordItems returns the records of a mailbox, each as the item that has it, in
	// order of the records' numbers, at most limit that are greater than after.
	RecordItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, after int64, limit int) ([]Item, error)
	// SnapshotsOfRecord returns the snapshots in which a record is.
	SnapshotsOfRecord(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, record int64) ([]int64, error)
	// NoteLost keeps that a repair found a snapshot lost, or not what it was, until the
	// repair, or the one that goes on after it was killed, has ended and told of it.
	NoteLost(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64, how string) error
	// Restate notes what a mailbox has now that was lost.
	Restate(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, r Restated) error
	// SupersedeRecord puts another record of the same item in the place of one, in
	// all snapshots, and forgets that.
	SupersedeRecord(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, old, by int64) error

	// MissingPacks returns those of the packs that AddObjects has not seen.
	MissingPacks(ctx context.Context, org backup.OrgID, packs []repo.PackID) ([]repo.PackID, error)
	// KnownPacks returns the packs that AddObjects has seen, with their kinds.
	KnownPacks(ctx context.Context, org backup.OrgID) ([]repo.Pack, error)
	// ForgetPacks forgets what packs hold, before they are deleted.
	ForgetPacks(ctx context.Context, org backup.OrgID, packs []repo.PackID) error
}

// Head is the newest snapshot of a mailbox.
type Head struct {
	Seq          int64 // 0 before the first commit
	Partial      bool  // it is a checkpoint of an unfinished run
	NextNumber   int64 // for the next item or record
	Totals       Totals
	FolderCursor string
	Folders      []FolderState
}

// MailboxHead is where the catalog stands for a mailbox.
type MailboxHead struct {
	Org     backup.OrgID
	Mailbox backup.MailboxID
	Seq     int64
}

// Totals sums up a snapshot.
type Totals struct {
	Items   int64
	Bytes   int64 // of the content
	Damaged int64 // items without content
}

// Cursors says where the provider's changes have been read to.
type Cursors struct {
	Folders string            // of the list of folders
	Items   map[string]string // of items, by folder id; folders that are not in it stay as they are
}

// FolderState is a folder in a snapshot.
type FolderState struct {
	Folder             // Items is the number of items in the snapshot
	Node   repo.MetaID // its node in the repository
	Cursor string      // where its changes have been read to, "" for nowhere
}

// Item is an item as the catalog knows it.
type Item struct {
	// Number is the item's own in its mailbox: its key in pages.
	Number int64
	// ItemState has the state in the newest snapshot; Properties is left out. FolderID is
	// "" if the item is not in it.
	ItemState
	Record     Record
	Properties repo.MetaID    // the provider's properties, if they are newer than the record's
	Problem    backup.Problem // why the content, or its newest version, can't be read; At is when that was first seen
}

// Record names what was kept of an item's content.
type Record struct {
	Number     int64
	Meta       repo.MetaID
	Bytes      int64 // of the content
	HasContent bool
}

// ID is the identifier under which pages ask for the content.
func (r Record) ID() backup.ItemID { return itemID(r.Number, r.Meta) }

// Delta is the difference between a commit and the one before it that is kept.
type Delta struct {
	Seq            int64
	Gap            int64 // how many snapshots before it expired and were never in the catalog
	At             time.Time
	Partial        bool
	NextNumber     int64
	Totals         Totals
	FolderCursor   string
	Folders        []FolderState // new and changed ones
	RemovedFolders []string
	Items          []ItemChange
	Removed        []int64       // numbers of items that are no longer in the snapshot
	Objects        []repo.Object // what the commit's packs hold; none if they were added before
	Lost           string        // what a repair could not have back of it, for NoteLost; "" for nothing
}

// ItemChange is an item's state after a commit and what of it is new.
type ItemChange struct {
	Item
	NewItem   bool // seen for the first time
	NewRecord bool // the record is new
}

// Restated is what of a mailbox was written anew because it was lost.
type Restated struct {
	Seq        int64                  // the newest snapshot, whose nodes these are
	Nodes      map[string]repo.MetaID // of folders, by their ids
	Records    []Record               // by their numbers: their content is lost
	Properties []repo.MetaID          // that are lost, and not written anew
	Problem    backup.Problem         // of the items whose records are lost
}
