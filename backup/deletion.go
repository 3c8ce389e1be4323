package backup

import (
	"fmt"
	"strings"
	"time"
)

// DeletionStep is how far the deletion of an organization is.
type DeletionStep string

// The steps, in order. Each can be done again, and then does what is left of it.
const (
	DeletionStop     DeletionStep = "stop"     // what works for the organization ends
	DeletionTenant   DeletionStep = "tenant"   // what Holdfast made in the tenant is removed
	DeletionKeys     DeletionStep = "keys"     // the keys are destroyed: nothing can be read any more
	DeletionObjects  DeletionStep = "objects"  // what the keys opened is deleted
	DeletionCopy     DeletionStep = "copy"     // and its copy
	DeletionRows     DeletionStep = "rows"     // the portal forgets the organization
	DeletionRetained DeletionStep = "retained" // object locks have to end before the rest is deleted
	DeletionDone     DeletionStep = "done"
)

// DeletionSteps lists the steps that a page shows, in order.
var DeletionSteps = []DeletionStep{DeletionStop, DeletionTenant, DeletionKeys, DeletionObjects, DeletionCopy, DeletionRows}

// DeletionWish is what a person enters to have an organization deleted.
type DeletionWish struct {
	Name   string // of the organization, once more
	Reason string // 3 to 500 characters
	Leaves bool   // something will stay in the tenant
	Anyway bool   // the person knows that
}

// Deletion is the deletion of an organization. It outlives it.
type Deletion struct {
	OrgID     OrgID
	PartnerID PartnerID
	Name      string // of the organization
	By        string // name and address of who began it
	Reason    string // 3 to 500 characters
	Step      DeletionStep
	Done      int64 // objects that the step under way has deleted
	// What the organization had when it began.
	Mailboxes, Messages, Bytes, Exports int64
	Removed                             []string  // what was removed from the tenant
	Left                                []Remnant // what stays elsewhere, for a person to remove
	Objects                             int64     // deleted from the repository, its copy included
	Retained                            int64     // objects that are locked
	RetainedUntil                       time.Time // when the last of those locks ends, zero if none is known
	Problem                             Problem   // why the last try failed, zero if it did not
	Tries                               int       // that failed, of the step under way
	StartedAt                           time.Time
	StepAt                              time.Time // when the step under way began
	NextTryAt                           time.Time // zero once it is done
	EndedAt                             time.Time // when the portal forgot the organization
	SettledAt                           time.Time // when somebody noted that what stayed is removed
	SettledBy                           string
}

// Remnant is something of Holdfast's that stays in a tenant, or of an organization
// in a copy of the repository.
type Remnant struct {
	Place string `json:"tenant"` // the tenant's domain, or the copy's folder or bucket
	What  string `json:"what"`
	How   string `json:"how"` // to remove it by hand
}

// DeletionGiveUp is how long what Microsoft holds up is tried again before it
// counts as left in the tenant.
const DeletionGiveUp = time.Hour

// Open says that there is something to do still.
func (d Deletion) Open() bool { return d.Step != DeletionDone }

// Move goes on to a step.
func (d *Deletion) Move(step DeletionStep, now time.Time) {
	d.Step, d.StepAt, d.Done, d.Tries, d.Problem = step, now, 0, 0, Problem{}
	if d.NextTryAt = now; step == DeletionDone {
		d.NextTryAt = time.Time{}
	}
}

// Unlocks is when what is locked is tried again: when the last lock ends, or a day
// later if that is not known.
func (d Deletion) Unlocks(now time.Time) time.Time {
	if d.RetainedUntil.After(now) {
		return d.RetainedUntil
	}
	return now.Add(24 * time.Hour)
}

// DeletionRetry is when a step is tried again that failed for the tries-th time.
func DeletionRetry(now time.Time, tries int) time.Time {
	return now.Add(min(10*time.Second<<min(tries, 10), 30*time.Minute))
}

// Summary says in one line what was deleted, for the activity.
func (d Deletion) Summary() string {
	parts := []string{"why: " + d.Reason, "begun by " + d.By,
		fmt.Sprintf("removed: %d mailboxes with %d messages (%d bytes), %d exports, %d objects of the repository", d.Mailboxes, d.Messages, d.Bytes, d.Exports, d.Objects)}
	if len(d.Removed) > 0 {
		parts = append(parts, "removed from the tenant: "+strings.Join(d.Removed, ", "))
	}
	for _, r := range d.Left {
		parts = append(parts, "left in "+r.Place+": "+r.What)
	}
	if d.Retained > 0 {
		parts = append(parts, fmt.Sprintf("%d locked objects, unreadable, stay until %s", d.Retained, d.RetainedUntil.UTC().Format(time.RFC3339)))
	}
	return strings.Join(parts, "; ")
}
