package backup

import (
	"slices"
	"time"
)

// MailboxKind is what an account is at the provider.
type MailboxKind string

// The kinds.
const (
	KindUser      MailboxKind = "user"
	KindShared    MailboxKind = "shared"
	KindRoom      MailboxKind = "room"
	KindEquipment MailboxKind = "equipment"
	KindGroup     MailboxKind = "group"
	KindSite      MailboxKind = "site"
	KindUnknown   MailboxKind = "unknown"
)

// LicenceState is whether the provider gives the account a mailbox.
type LicenceState string

// The states. A shared mailbox, room or equipment needs no licence.
const (
	LicenceValid     LicenceState = "valid"      // a mailbox plan is enabled
	LicenceGrace     LicenceState = "grace"      // ended, but still served (capabilityStatus Warning)
	LicenceNone      LicenceState = "none"       // no plan with a mailbox
	LicenceNotNeeded LicenceState = "not_needed" // shared, room, equipment
)

// Status is what the portal shows for a mailbox; see product.md, "Mailboxes".
type Status string

// The statuses.
const (
	StatusProtected   Status = "protected"   // green
	StatusPending     Status = "pending"     // blue
	StatusFailing     Status = "failing"     // red
	StatusInactive    Status = "inactive"    // orange
	StatusDeactivated Status = "deactivated" // orange
	StatusEmpty       Status = "empty"       // gray
)

// Statuses lists all of them in the order in which pages show them.
var Statuses = []Status{StatusProtected, StatusPending, StatusFailing, StatusInactive, StatusDeactivated, StatusEmpty}

// Valid says whether s is one of the statuses.
func (s Status) Valid() bool { return slices.Contains(Statuses, s) }

// Deactivation says why a mailbox is deactivated.
type Deactivation string

// The reasons.
const (
	NotDeactivated     Deactivation = ""
	DeactivatedManual  Deactivation = "manual"  // by a person; survives all automatic changes
	DeactivatedDeleted Deactivation = "deleted" // gone at the provider
	DeactivatedGroup   Deactivation = "group"   // left the directory group in use
)

// Mailbox is an account of a connection. Protected (selected) ones are backed up.
type Mailbox struct {
	ID           MailboxID
	OrgID        OrgID
	ConnectionID ConnectionID
	ProviderID   string // the user's object id at the provider
	Address      string // primary SMTP address or UPN
	Name         string // display name
	Kind         MailboxKind
	Licence      LicenceState
	Enabled      bool // sign-in allowed; says nothing about the mailbox

	Selected      bool // chosen for backup; only these count and show on the dashboard
	Deactivated   Deactivation
	DeactivatedBy string // name of the person, "" if by itself
	StatusSince   time.Time

	Status    Status    // as MailboxStatus computed it at the last change
	Problem   Problem   // why it is failing or inactive
	Failures  int       // runs failed in a row
	Running   bool      // a run is under way
	LastRunAt time.Time // end of the last successful run, zero if never
	NextRunAt time.Time // zero if none is planned
	// AskedAt is when a person asked for the run that is due or under way, zero
	// if the schedule did. Neither window nor pause holds it up.
	AskedAt time.Time

	Items     int64 // messages in the newest snapshot
	SizeBytes int64 // their size
	// DamagedItems counts items of the newest snapshot that could not be read
	// at the provider and are tried again.
	DamagedItems int64

	CreatedAt time.Time
}

// MailboxStatus is the rule that gives a mailbox its status from its other
// fields (product.md, "Mailboxes"). A person's or the provider's deactivation
// comes first, then a missing licence, then failures, then emptiness.
func MailboxStatus(m Mailbox) Status {
	switch {
	case m.Deactivated != NotDeactivated:
		return StatusDeactivated
	case m.Licence == LicenceNone || m.Problem.Kind == ProblemMailboxInactive:
		return StatusInactive
	case m.Running:
		return StatusPending
	case m.Failures > 0:
		return StatusFailing
	case m.LastRunAt.IsZero():
		return StatusPending
	case m.Items == 0:
		return StatusEmpty
	}
	return StatusProtected
}

// StatusCounts counts selected mailboxes by status.
type StatusCounts map[Status]int

// Total returns the sum over all statuses.
func (c StatusCounts) Total() int {
	n := 0
	for _, k := range c {
		n += k
	}
	return n
}

// NextRun returns when a mailbox is due after a run that ended at now: every
// after a success, daily for an empty mailbox, and growing pauses (5, 10, 20,
// 40 minutes … at most every) after failures in a row, never sooner than the
// provider asked. The zero time means not before something changes (inactive,
// deactivated).
func NextRun(now time.Time, every time.Duration, s Status, failures int, retryAfter time.Duration) time.Time {
	pause := every
	switch {
	case s == StatusInactive || s == StatusDeactivated:
		return time.Time{}
	case failures > 0:
		pause = min(every, 5*time.Minute<<min(failures-1, 10))
	case s == StatusEmpty:
		pause = 24 * time.Hour
	}
	return now.Add(max(pause, retryAfter))
}

// RunState is how a run stands.
type RunState string

// The states.
const (
	RunRunning     RunState = "running"
	RunSucceeded   RunState = "succeeded"
	RunPartial     RunState = "partial" // done, but some items could not be read
	RunFailed      RunState = "failed"
	RunInterrupted RunState = "interrupted" // the program ended, or backups may not run any more; the next run carries on
)

// Run is one attempt to back up a mailbox.
type Run struct {
	ID                        RunID
	OrgID                     OrgID
	MailboxID                 MailboxID
	State                     RunState
	Trigger                   string // schedule, manual or first
	StartedAt                 time.Time
	BeatAt                    time.Time // last sign of life
	EndedAt                   time.Time
	Snapshot                  int64 // sequence number of the snapshot it made, 0 if nothing changed
	FoldersDone, FoldersTotal int
	ItemsDone, ItemsTotal     int64 // ItemsTotal is the provider's estimate
	NewItems                  int64
	MovedItems                int64
	ChangedItems              int64
	RemovedItems              int64
	FailedItems               int64
	ReadBytes                 int64 // content read from the provider
	StoredBytes               int64 // written to the repository
	Problem                   Problem
}

// DayFigure is the new data of one day, for the chart.
type DayFigure struct {
	Day        time.Time // midnight UTC
	NewItems   int64
	ReadBytes  int64
	FailedRuns int64
}
