package backup

import "time"

// UpkeepKind is a kind of work on an organization's repository.
type UpkeepKind string

// The kinds.
const (
	UpkeepProveItem    UpkeepKind = "prove_item"    // restore a random message and compare it with its hash
	UpkeepProveMailbox UpkeepKind = "prove_mailbox" // the same with all messages of a random mailbox
	UpkeepStructure    UpkeepKind = "structure"     // everything that the snapshots name is there with its length
	UpkeepData         UpkeepKind = "data"          // packs are hashed and opened, each when it is its turn
	UpkeepAll          UpkeepKind = "all"           // every pack is opened and every message restored, on demand
	UpkeepRepair       UpkeepKind = "repair"        // damaged objects are put back from the copy of the repository, or mended without, on demand
	UpkeepRekey        UpkeepKind = "rekey"         // everything is moved to new keys, and the old ones are destroyed, on demand; it takes days
	UpkeepRebuild      UpkeepKind = "rebuild"       // the catalog is made anew from the repository, on demand
	UpkeepCollect      UpkeepKind = "collect"       // snapshots expire, and what none needs is deleted; daily, and on demand
)

// UpkeepKinds lists all of them in the order in which pages show them.
var UpkeepKinds = []UpkeepKind{UpkeepProveItem, UpkeepProveMailbox, UpkeepStructure, UpkeepData, UpkeepCollect, UpkeepAll, UpkeepRepair, UpkeepRekey, UpkeepRebuild}

// UpkeepPlanned are the kinds that are done by themselves, with the time
// between two of them.
var UpkeepPlanned = map[UpkeepKind]time.Duration{
	UpkeepProveItem:    24 * time.Hour,
	UpkeepProveMailbox: 7 * 24 * time.Hour,
	UpkeepStructure:    24 * time.Hour,
	UpkeepData:         24 * time.Hour,
}

// UpkeepState is how the newest work of a kind stands.
type UpkeepState string

// The states. What was interrupted waits.
const (
	UpkeepWaiting UpkeepState = "waiting"
	UpkeepRunning UpkeepState = "running"
	UpkeepOK      UpkeepState = "ok"
	UpkeepDamaged UpkeepState = "damaged" // it went through and found damage
	UpkeepFailed  UpkeepState = "failed"  // it could not be done; Problem says why
)

// Upkeep is work of one kind on an organization's repository: what is under
// way, and how the last one ended.
type Upkeep struct {
	OrgID     OrgID
	Kind      UpkeepKind
	State     UpkeepState
	AskedAt   time.Time // by a person; zero if it was planned
	StartedAt time.Time
	BeatAt    time.Time // last sign of life
	EndedAt   time.Time // of the last one that ended
	OKAt      time.Time // of the last one that ended well
	NextAt    time.Time // zero if none is planned
	Done      int64     // of Total, while it runs
	Total     int64     // 0 if not known yet
	MailboxID MailboxID // what was restored
	Counted   int64     // messages or packs that the last one looked at
	Bytes     int64     // of them
	Damaged   int64     // of them
	Problem   Problem   // why it could not be done
	// Retained is how many objects a collection or a move to new keys left that a lock keeps from being
	// deleted, and RetainedUntil when the last of their locks ends, zero if that is not known.
	Retained      int64
	RetainedUntil time.Time
	Step          string // how far it came, for work that goes on there after an interruption
}

// Busy says that it waits for a worker or runs.
func (u Upkeep) Busy() bool {
	return u.State == UpkeepRunning || u.State == UpkeepWaiting && !u.AskedAt.IsZero()
}

// Open says that it has begun and not ended: it waits, runs, or goes on by itself
// at NextAt.
func (u Upkeep) Open() bool { return u.Busy() || !u.NextAt.IsZero() }

// DamageFate is what can be done about a damaged message without a copy of the
// storage.
type DamageFate string

// The fates. The zero one is that nobody has asked for a repair yet.
const (
	DamageWanted  DamageFate = "wanted"  // the next run reads it again from the provider
	DamageDiffers DamageFate = "differs" // the provider has another text now: what was is lost
	DamageGone    DamageFate = "gone"    // the provider has it no more: it is lost
	DamageMended  DamageFate = "mended"  // it is whole now
	DamageTold    DamageFate = "told"    // a snapshot that a repair lost: told when it ends, however often it was interrupted
)

// Damage is something in the repository that is not what was written.
type Damage struct {
	OrgID     OrgID
	Object    string    // its key in the repository, or what names a message
	MailboxID MailboxID // "" if it is not known
	Record    int64     // number of the message's record in the catalog, 0 for an object
	How       string    // what is wrong with it, in words
	FoundAt   time.Time
	SeenAt    time.Time // by the last check
	MendedAt  time.Time // zero while it is damaged
	Fate      DamageFate

	MailboxName string // for pages, from the mailbox and the catalog
	Subject     string
	Folder      string
	ReceivedAt  time.Time // zero if it is not known
}

// ProblemDamage is what people read when a check found damage.
const ProblemDamage = "A check found damage in the backup storage. What is damaged is listed by name; everything else can be restored. " +
	"Whoever runs this Holdfast should check the disk or bucket, and then choose Repair on the Storage page: it puts damaged objects back from the copy of the storage; " +
	"without one it saves what is whole of them, and has lost messages read again from the provider."

// How often the data of a pack is looked at, at least. A check looks sooner at
// some of them, so that not all are due on the same day.
const (
	HashedWithin = 30 * 24 * time.Hour // the SHA-256 of its file
	OpenedWithin = 90 * 24 * time.Hour // every blob opened, every identifier computed anew
)

// PackCheck says when a pack of the repository was last looked at.
type PackCheck struct {
	Pack      string // its identifier
	MailboxID MailboxID
	Bytes     int64
	SeenAt    time.Time // that it is there with its length
	HashedAt  time.Time
	OpenedAt  time.Time
}

// CheckedShare is how many bytes of an organization's packs were looked at.
type CheckedShare struct {
	Bytes  int64 // of all packs that a check has seen
	Hashed int64
	Opened int64
}
