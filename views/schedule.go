package views

import (
	"strconv"
	"time"

	"holdfast/backup"
)

// ScheduleForm is what was typed about a schedule.
type ScheduleForm struct {
	Zone     string
	Windowed bool // whether backups run in windows only
	Days     []ScheduleDay
	Every    string // minutes, "0" for the installation's
	Limit    string // Mbit/s
}

// ScheduleDay is the window of a weekday, as it was typed.
type ScheduleDay struct {
	Day      time.Weekday
	On       bool
	From, To string
}

// field is the name of one of the day's inputs.
func (d ScheduleDay) field(name string) string { return name + "_" + strconv.Itoa(int(d.Day)) }

// Schedule is when the automatic backups of an organization run.
type Schedule struct {
	Saved     backup.Schedule
	Default   time.Duration // how often the installation is set to
	Form      ScheduleForm
	Reason    string // of a pause that was not made
	Fields    backup.FieldErrors
	MayChange bool
	Now       time.Time
}

// commonZones are offered while a time zone is typed.
var commonZones = []string{
	"UTC", "Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Berlin", "Europe/Zurich", "Europe/Vienna", "Europe/Paris", "Europe/Madrid", "Europe/Rome",
	"Europe/Amsterdam", "Europe/Brussels", "Europe/Copenhagen", "Europe/Stockholm", "Europe/Oslo", "Europe/Helsinki", "Europe/Warsaw", "Europe/Prague", "Europe/Athens",
	"Europe/Bucharest", "Europe/Kyiv", "Europe/Istanbul", "America/New_York", "America/Chicago", "America/Denver", "America/Phoenix", "America/Los_Angeles",
	"America/Toronto", "America/Vancouver", "America/Mexico_City", "America/Bogota", "America/Sao_Paulo", "America/Argentina/Buenos_Aires", "Africa/Cairo",
	"Africa/Johannesburg", "Africa/Lagos", "Africa/Nairobi", "Asia/Dubai", "Asia/Jerusalem", "Asia/Kolkata", "Asia/Bangkok", "Asia/Singapore", "Asia/Hong_Kong",
	"Asia/Shanghai", "Asia/Seoul", "Asia/Tokyo", "Australia/Perth", "Australia/Sydney", "Pacific/Auckland",
}

// everyName is one of the choices of how often backups run.
func (v Schedule) everyName(d time.Duration) string {
	if d > 0 {
		return "Every " + backup.EveryText(d)
	}
	if v.Default > 0 {
		return "As this installation is set to (every " + backup.EveryText(v.Default) + ")"
	}
	return "As this installation is set to"
}

func minutesText(d time.Duration) string { return strconv.Itoa(int(d.Minutes())) }

// heldText says what a run that is due at at waits for, "" if it begins then.
func heldText(plan backup.Schedule, at, now time.Time) string {
	if !plan.Pause.IsZero() {
		return "waits until automatic backups are resumed"
	}
	if at.IsZero() {
		return ""
	}
	if opens := plan.Begins(at, now); opens.After(at) && opens.After(now) {
		return "waits for its window at " + localText(plan, opens)
	}
	return ""
}

// localText is a time in the zone of a schedule's windows.
func localText(plan backup.Schedule, at time.Time) string {
	return plan.Local(at).Format("Mon 2 Jan 15:04") + " (" + plan.ZoneName() + ")"
}

// windowLine says whether a window is open now, and until or from when.
func (v Schedule) windowLine() string {
	opens, closes := v.Saved.Span(v.Now)
	switch {
	case len(v.Saved.Windows) == 0:
		return "Automatic backups run at any time."
	case opens.After(v.Now):
		return "No window is open now. The next one opens " + localText(v.Saved, opens) + "."
	case closes.Sub(v.Now) > 13*24*time.Hour:
		return "A window is open now."
	}
	return "A window is open now, until " + localText(v.Saved, closes) + "."
}
