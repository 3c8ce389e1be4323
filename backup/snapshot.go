package backup

import "time"

// Snapshot is a mailbox as it was at one time: a commit of the repository.
type Snapshot struct {
	Seq     int64 // 1, 2, 3 … per mailbox
	At      time.Time
	Items   int64
	Bytes   int64
	Partial bool // a checkpoint of an unfinished run
}

// Folder is a folder of a snapshot.
type Folder struct {
	ID        string // the provider's identifier
	ParentID  string // "" for a top folder
	Name      string // as the provider shows it; may hold any character
	WellKnown string // inbox, sentitems, drafts, deleteditems, junkemail, archive, outbox …, or ""
	Hidden    bool
	Items     int64 // messages directly in it at that time
}

// Item is a message of a snapshot, as lists show it.
type Item struct {
	ID             ItemID
	ProviderID     string // immutable id at the provider
	FolderID       string
	Subject        string
	From           string // "Ada Lovelace <ada@example.org>"
	To             string // the recipients, comma separated
	ReceivedAt     time.Time
	SentAt         time.Time
	SizeBytes      int64 // of the MIME text
	HasAttachments bool
	Read           bool
	Draft          bool
	Flagged        bool
	Importance     string // low, normal or high
	Categories     []string
	Damaged        bool // the content could not be read at the provider yet
	Lost           bool // the content is damaged in the repository, as far as pages know
}

// FoundItem is a message that a search found, from the newest snapshot that has it.
type FoundItem struct {
	Item
	Folder string    // the name of its folder
	Seq    int64     // the snapshot
	At     time.Time // when that was made
	Gone   bool      // the newest snapshot of the mailbox has it no more
}
