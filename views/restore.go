package views

import (
	"net/url"
	"time"

	"holdfast/backup"
)

// RestoreForm is where a message, a folder or a mailbox is to be restored.
type RestoreForm struct {
	Browse        Browse // with the chosen folder
	Scope         backup.RestoreScope
	Item          backup.Item // with backup.RestoreMessage
	Items, Bytes  int64       // that are restored; Bytes is 0 if it is not known
	Target        string      // address, as typed
	TargetMailbox backup.Mailbox
	// TargetProvider is where TargetMailbox lives.
	TargetProvider backup.Provider
	Place          string
	FolderName     string
	Copies         bool
	// NeedsPermission says that an administrator of the tenant is asked first.
	NeedsPermission bool
	Fields          backup.FieldErrors
	Now             time.Time
}

// what names what is restored.
func (v RestoreForm) what() string {
	switch v.Scope {
	case backup.RestoreMessage:
		return "the message “" + orNothing(v.Item.Subject, "No subject") + "”"
	case backup.RestoreFolder:
		return "the folder “" + v.Browse.folderName() + "” with the folders below it"
	}
	return "the whole mailbox"
}

// back leads to where the form was opened.
func (v RestoreForm) back() string {
	if v.Scope == backup.RestoreMessage {
		return v.Browse.itemLink(v.Item)
	}
	return v.Browse.folderLink(orNothing(v.Browse.Folder.ID, All))
}

func (v RestoreForm) sameMailbox() bool { return v.TargetMailbox.ID == v.Browse.Mailbox.ID }

func (v RestoreForm) toIMAP() bool { return v.TargetProvider == backup.ProviderIMAP }

// place says where the messages go.
func (v RestoreForm) place() string {
	if v.Place == string(backup.PlaceFolder) {
		return "the folder “" + v.FolderName + "”, which is made if it is not there"
	}
	return "the folders that they were in; folders that are gone are made again"
}

// atLeast is how long Microsoft's limits make a restore take: 10,000 calls in 10
// minutes and 150 MB in 5 minutes per mailbox
// (https://learn.microsoft.com/graph/throttling-limits).
func (v RestoreForm) atLeast() string {
	if v.toIMAP() {
		return ""
	}
	took := max(time.Duration(v.Items)*60*time.Millisecond, time.Duration(v.Bytes/(500<<10))*time.Second)
	switch {
	case took < 2*time.Minute:
		return ""
	case took < 2*time.Hour:
		return plural(int(took/time.Minute), "minute", "minutes")
	}
	return plural(int(took/time.Hour), "hour", "hours")
}

// restoreLink opens the form for what is chosen.
func (v Browse) restoreLink() string {
	q := url.Values{"at": {v.at()}}
	if v.Folder.ID != "" {
		q.Set("folder", v.Folder.ID)
	}
	return v.path() + "/restore?" + q.Encode()
}

func (v ItemView) restoreLink() string {
	return v.Browse.path() + "/restore?" + url.Values{"at": {v.Browse.at()}, "item": {string(v.Item.ID)}}.Encode()
}

// RestoreLink is the page of a restore.
func RestoreLink(id backup.RestoreID) string { return "/restores/" + url.PathEscape(string(id)) }

// Restore is a restore with the mailboxes that it is about.
type Restore struct {
	backup.Restore
	From, FromAddress string
	To, ToAddress     string
	SnapshotAt        time.Time
}

// RestoreProgress is the page of one restore.
type RestoreProgress struct {
	Restore
	Notes     []backup.RestoreNote
	MayChange bool
	Now       time.Time
}

func (v RestoreProgress) live() bool { return !v.State.Ended() }

// mayRetry says whether trying again can do more.
func (v RestoreProgress) mayRetry() bool {
	return v.State == backup.RestoreFailed || v.State == backup.RestoreCancelled || v.State == backup.RestoreDone && v.Failed > 0
}

func (r Restore) title() string {
	switch r.Scope {
	case backup.RestoreMessage:
		return "One message of " + orNothing(r.From, r.FromAddress)
	case backup.RestoreFolder:
		return "A folder of " + orNothing(r.From, r.FromAddress)
	}
	return "The mailbox " + orNothing(r.From, r.FromAddress)
}

func (r Restore) destination() string {
	if r.Place == backup.PlaceFolder {
		return r.ToAddress + ", folder “" + r.FolderName + "”"
	}
	return r.ToAddress + ", original folders"
}

func (r Restore) stateName() string {
	switch r.State {
	case backup.RestoreWaiting:
		return "Waiting for permission"
	case backup.RestoreQueued:
		if !r.NextTryAt.IsZero() {
			return "Paused"
		}
		return "Queued"
	case backup.RestoreRunning:
		if r.CancelAsked {
			return "Cancelling"
		}
		return "Running"
	case backup.RestoreCancelled:
		return "Cancelled"
	case backup.RestoreFailed:
		return "Failed"
	}
	if r.Failed > 0 {
		return "Done, with gaps"
	}
	return "Done"
}

func (r Restore) tone() string {
	switch r.State {
	case backup.RestoreDone:
		if r.Failed > 0 {
			return "inactive"
		}
		return "protected"
	case backup.RestoreFailed:
		return "failing"
	case backup.RestoreCancelled:
		return "empty"
	}
	return "pending"
}

// counts is one line on how far it is.
func (r Restore) counts() string {
	text := thousands(r.ItemsDone) + " of " + thousands(max(r.ItemsTotal, r.ItemsDone)) + " messages · " + thousands(r.Restored) + " restored"
	if r.Skipped > 0 {
		text += " · " + thousands(r.Skipped) + " there already"
	}
	if r.Failed > 0 {
		text += " · " + thousands(r.Failed) + " not restored"
	}
	if r.Bytes > 0 {
		text += " · " + bytesText(r.Bytes)
	}
	return text
}
