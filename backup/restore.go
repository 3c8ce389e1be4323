package backup

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// RestoreScope is what of a snapshot is restored.
type RestoreScope string

// The scopes.
const (
	RestoreMessage RestoreScope = "message"
	RestoreFolder  RestoreScope = "folder" // with the folders below it
	RestoreMailbox RestoreScope = "mailbox"
)

// RestorePlace is where in the target mailbox messages go.
type RestorePlace string

// The places.
const (
	PlaceOriginal RestorePlace = "original" // the folders that they were in
	PlaceFolder   RestorePlace = "folder"   // the same tree, below one folder of a given name
)

// RestoreState is how a restore stands.
type RestoreState string

// The states. A restore of the last three has ended.
const (
	RestoreWaiting   RestoreState = "waiting_for_permission" // an administrator has to give the restore permission
	RestoreQueued    RestoreState = "queued"
	RestoreRunning   RestoreState = "running"
	RestoreDone      RestoreState = "done" // some items may have failed
	RestoreCancelled RestoreState = "cancelled"
	RestoreFailed    RestoreState = "failed" // it could not go on
)

// Ended says that nothing more happens by itself.
func (s RestoreState) Ended() bool {
	return s == RestoreDone || s == RestoreCancelled || s == RestoreFailed
}

// Restore puts messages of a snapshot back into a mailbox.
type Restore struct {
	ID        RestoreID
	OrgID     OrgID
	MailboxID MailboxID // whose snapshot it is
	Snapshot  int64
	Scope     RestoreScope
	FolderID  string // with RestoreFolder and RestoreMessage
	ItemID    ItemID // with RestoreMessage
	What      string // the subject, or the folder's name; "" for a mailbox

	TargetID   MailboxID // may be MailboxID
	Place      RestorePlace
	FolderName string // with PlaceFolder; 1 to 100 characters
	// Copies says to restore also what is in its place already.
	Copies bool

	State      RestoreState
	ItemsTotal int64 // to go through
	ItemsDone  int64
	Restored   int64
	Skipped    int64 // in their place already
	Failed     int64 // not restored; each has a RestoreNote
	Altered    int64 // restored with a difference; each has a RestoreNote
	Bytes      int64 // of the restored messages
	Problem    Problem

	StartedBy   PersonID
	StartedName string // as it was then
	CancelAsked bool
	Tries       int // how often it was put off since the target did not answer
	CreatedAt   time.Time
	StartedAt   time.Time // zero while it waits
	BeatAt      time.Time // last sign of life
	NextTryAt   time.Time // when it goes on after a pause, zero if it is not paused
	EndedAt     time.Time
}

// Validate returns FieldErrors naming what breaks a rule, or nil.
func (r Restore) Validate() error {
	fields := FieldErrors{}
	if !slices.Contains([]RestoreScope{RestoreMessage, RestoreFolder, RestoreMailbox}, r.Scope) {
		fields["scope"] = "Choose what to restore."
	}
	if r.TargetID == "" {
		fields["target"] = "Choose the mailbox to restore to."
	}
	switch r.Place {
	case PlaceOriginal:
	case PlaceFolder:
		if msg := folderNameError(r.FolderName); msg != "" {
			fields["folder"] = msg
		}
	default:
		fields["place"] = "Choose where in the mailbox the messages go."
	}
	return fields.OrNil()
}

// folderNameError says what is wrong with the name of a new folder, or "".
func folderNameError(name string) string {
	n := utf8.RuneCountInString(strings.TrimSpace(name))
	switch {
	case n == 0:
		return "Enter a name for the folder."
	case n > 100:
		return "Enter a name of at most 100 characters."
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '/' || r == '\\' || r == 0x7f }):
		return `Enter a name without / and \ and line breaks.`
	}
	return ""
}

// RestoreFolderName is what a folder of restored messages is called if nobody
// says otherwise. It has no time, so that restoring again on the same day finds
// what is there and makes no second copy.
func RestoreFolderName(now time.Time) string { return "Restored " + now.UTC().Format(time.DateOnly) }

// RestoreNote says of one message why it was not restored, or what of it could
// not be kept.
type RestoreNote struct {
	ItemID     ItemID
	Subject    string
	From       string
	Folder     string // path of names in the snapshot
	ReceivedAt time.Time
	Altered    bool // restored all the same
	Reason     string
}

// RestoreGrant is the restore permission of a connection.
type RestoreGrant struct {
	OrgID        OrgID
	ConnectionID ConnectionID
	AdminUPN     string // who gave it
	GrantedAt    time.Time
	EndsAt       time.Time // given back by then, whatever still runs
	// Token and RefreshToken are the administrator's, sealed: with them the
	// application is removed from the tenant at the end, and they are erased.
	Token          Secret
	TokenExpiresAt time.Time
	RefreshToken   Secret
	Problem        Problem // why it could not be given back
}

// RestoreGrantLife is how long a restore permission lasts at most. The
// certificate of its application ends soon after.
const RestoreGrantLife = 24 * time.Hour

// restoreTries is how often a restore is put off before it fails.
const restoreTries = 30

// NextRestoreTry returns when a restore goes on whose target did not answer, and
// false if it has to be given up: pauses of 1, 2, 4 … 30 minutes, never sooner
// than the provider asked.
func NextRestoreTry(now time.Time, tries int, retryAfter time.Duration) (time.Time, bool) {
	if tries >= restoreTries {
		return time.Time{}, false
	}
	return now.Add(max(retryAfter, min(time.Minute<<min(tries, 10), 30*time.Minute))), true
}
