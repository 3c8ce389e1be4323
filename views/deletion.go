package views

import (
	"time"

	"holdfast/backup"
)

// Delete is the question before an organization is deleted.
type Delete struct {
	Organization backup.Organization
	Goes         backup.Deletion // what there is
	Tenant       []backup.Remnant
	Hold         backup.LegalHold // zero for none
	Replica      bool             // there is a copy of the repository elsewhere
	Name         string           // as it was typed
	Reason       string
	Anyway       bool
	Fields       backup.FieldErrors
}

// Deletion is how far the deletion of an organization is.
type Deletion struct {
	backup.Deletion
	MayManage bool
	Now       time.Time
}

// live says whether the page asks again by itself: locks last for days.
func (v Deletion) live() bool { return v.EndedAt.IsZero() }

// stepNames are the steps as the page shows them.
var stepNames = map[backup.DeletionStep]string{
	backup.DeletionStop:    "End what is under way: backups, restores, exports and wizards",
	backup.DeletionTenant:  "Remove Holdfast’s applications from the tenant, as far as an administrator’s sign-in lasts",
	backup.DeletionKeys:    "Destroy the keys. From here on nobody can read what is backed up",
	backup.DeletionObjects: "Delete what is backed up, and exports",
	backup.DeletionCopy:    "Delete its copy elsewhere, if there is one",
	backup.DeletionRows:    "Forget the organization and its people",
}

// stepTone is the class of a step's dot, with its state in words.
func (v Deletion) stepTone(step backup.DeletionStep) (tone, text string) {
	at, mine := -1, -1
	for i, s := range backup.DeletionSteps {
		if s == v.Step {
			at = i
		}
		if s == step {
			mine = i
		}
	}
	switch {
	case at < 0 || mine < at:
		return "protected", "Done"
	case mine > at:
		return "empty", "Not yet"
	case !v.Problem.IsZero():
		return "failing", "Tried again " + in(v.NextTryAt, v.Now)
	}
	return "pending", "Under way"
}

// goesText is what goes, in one line.
func goesText(d backup.Deletion) string {
	return plural(d.Mailboxes, "mailbox", "mailboxes") + " with " + plural(d.Messages, "message", "messages") + ", " + bytesText(d.Bytes)
}
