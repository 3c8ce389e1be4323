package views

import (
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views/ui"
)

// statusName is a status as pages show it.
func statusName(s backup.Status) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(string(s[:1])) + string(s[1:])
}

// shares are the counts of mailboxes for a meter and its legend.
func shares(counts backup.StatusCounts) []ui.Share {
	list := make([]ui.Share, len(backup.Statuses))
	for i, s := range backup.Statuses {
		list[i] = ui.Share{Class: string(s), Name: statusName(s), Count: counts[s]}
	}
	return list
}

// planOf is the schedule that holds for a mailbox: none, if a person asked for
// its run.
func planOf(m backup.Mailbox, plan backup.Schedule) backup.Schedule {
	if !m.AskedAt.IsZero() {
		return backup.Schedule{}
	}
	return plan
}

// statusLine is the status of a mailbox with the one thing to know about it.
func statusLine(m backup.Mailbox, plan backup.Schedule, now time.Time) string {
	name := statusName(m.Status)
	switch m.Status {
	case backup.StatusPending:
		if m.Running {
			return name + ": backing up now"
		}
		if held := heldText(planOf(m, plan), m.NextRunAt, now); held != "" {
			return name + ": " + held
		}
		return name + ": waits for its first backup"
	case backup.StatusFailing:
		if !m.NextRunAt.IsZero() {
			if held := heldText(planOf(m, plan), m.NextRunAt, now); held != "" {
				return name + ": " + held
			}
			return name + ": retry " + in(m.NextRunAt, now)
		}
	case backup.StatusDeactivated:
		switch {
		case m.Deactivated == backup.DeactivatedManual && m.DeactivatedBy != "":
			return name + " by " + m.DeactivatedBy
		case m.Deactivated == backup.DeactivatedDeleted:
			return name + ": deleted at Microsoft"
		case m.Deactivated == backup.DeactivatedGroup:
			return name + ": left the directory group"
		}
	case backup.StatusInactive:
		return name + ": no mailbox licence"
	case backup.StatusEmpty:
		return name + ": checked daily, no licence used"
	case backup.StatusProtected:
		if m.DamagedItems > 0 {
			return name + ": " + plural(m.DamagedItems, "message", "messages") + " not readable yet"
		}
	}
	return name
}

// statusWhy is the tooltip of a status: why, by whom, since when, and what
// that means for the backups.
func statusWhy(m backup.Mailbox, plan backup.Schedule, now time.Time) string {
	var says []string
	say := func(format string, args ...any) { says = append(says, fmt.Sprintf(format, args...)) }
	since := ""
	if !m.StatusSince.IsZero() {
		since = ", since " + moment(m.StatusSince)
	}
	switch m.Status {
	case backup.StatusProtected:
		if m.Licence == backup.LicenceNotNeeded {
			say("The last backup succeeded%s.", since)
		} else {
			say("Licensed and active, and the last backup succeeded%s.", since)
		}
		if m.DamagedItems > 0 {
			say("%s could not be read at the provider; each run tries again. Everything else is safe.", plural(m.DamagedItems, "message", "messages"))
		}
	case backup.StatusPending:
		if m.Running {
			say("A backup is under way%s.", since)
		} else {
			say("Waiting for its first backup%s.", since)
		}
	case backup.StatusFailing:
		say("The last backup failed%s.", since)
		say("%s", m.Problem.Text)
		say("It is tried again by itself with growing pauses, and never given up.")
	case backup.StatusInactive:
		say("No valid e-mail licence at Microsoft%s.", since)
		say("Backups have stopped and resume by themselves when a licence returns. What is backed up stays.")
	case backup.StatusDeactivated:
		say("%s", deactivatedWhy(m)+since+".")
		say("Backups have stopped. What is backed up stays.")
	case backup.StatusEmpty:
		say("No messages there%s.", since)
		say("It uses no licence, is checked daily, and becomes active by itself as soon as there is mail.")
	}
	if !m.NextRunAt.IsZero() && !m.Running {
		if held := heldText(planOf(m, plan), m.NextRunAt, now); held != "" {
			say("It %s.", held)
		} else {
			say("Next try %s.", in(m.NextRunAt, now))
		}
	}
	return strings.Join(says, " ")
}

func deactivatedWhy(m backup.Mailbox) string {
	switch m.Deactivated {
	case backup.DeactivatedDeleted:
		return "The account was deleted at Microsoft"
	case backup.DeactivatedGroup:
		return "The account left the directory group in use"
	}
	return "Deactivated by " + orNothing(m.DeactivatedBy, "a person")
}

// progressText says how far a run is.
func progressText(r backup.Run) string {
	if r.ItemsTotal == 0 {
		return "Looking for changes"
	}
	done := min(r.ItemsDone, r.ItemsTotal)
	return thousands(done) + " of " + thousands(max(r.ItemsTotal, r.ItemsDone)) + " messages"
}

// runName is how a run ended, in words.
func runName(r backup.Run) string {
	if r.Problem.Kind == backup.ProblemHeld {
		return "Stopped for now"
	}
	return stateName(r.State)
}

// stateName is how a run ended, in words.
func stateName(s backup.RunState) string {
	switch s {
	case backup.RunRunning:
		return "Running"
	case backup.RunSucceeded:
		return "Succeeded"
	case backup.RunPartial:
		return "Succeeded, some messages not read"
	case backup.RunFailed:
		return "Failed"
	case backup.RunInterrupted:
		return "Interrupted"
	}
	return string(s)
}

// stateTone is the class of the dot beside it.
func stateTone(s backup.RunState) string {
	switch s {
	case backup.RunRunning:
		return "pending"
	case backup.RunSucceeded:
		return "protected"
	case backup.RunPartial, backup.RunInterrupted:
		return "deactivated"
	case backup.RunFailed:
		return "failing"
	}
	return "empty"
}

// broughtText says what a run brought.
func broughtText(r backup.Run) string {
	var parts []string
	for _, p := range []struct {
		n    int64
		what string
	}{{r.NewItems, "new"}, {r.ChangedItems, "changed"}, {r.MovedItems, "moved"}, {r.RemovedItems, "removed"}, {r.FailedItems, "not read"}} {
		if p.n > 0 {
			parts = append(parts, thousands(p.n)+" "+p.what)
		}
	}
	if len(parts) == 0 {
		return "No changes"
	}
	return strings.Join(parts, ", ")
}

// tookText is how long a run took.
func tookText(r backup.Run) string {
	if r.EndedAt.IsZero() {
		return ""
	}
	switch d := r.EndedAt.Sub(r.StartedAt); {
	case d < time.Second:
		return "under 1 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
}
