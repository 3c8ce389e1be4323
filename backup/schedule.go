package backup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Schedule says when the automatic backups of an organization run and how fast
// they read. The zero value: at any time, as often as the installation is set
// to, without a limit.
type Schedule struct {
	Zone           string        // time zone of the windows, like Europe/Berlin; "" is UTC
	Windows        []Window      // in which backups run, at most one for each day of the week; none: at any time
	Every          time.Duration // pause between two runs of a mailbox, one of ScheduleEvery; 0: as the installation is set to
	BytesPerSecond int64         // of content that all runs together read at most; 0: no limit
	Pause          Pause         // zero unless automatic backups are paused
}

// Window is a time of a weekday in which automatic backups run.
type Window struct {
	Day  time.Weekday // on which it begins
	From int          // minutes after midnight; 0 to 1439
	To   int          // minutes after midnight; not after From: on the next day
}

// Pause says that somebody paused the automatic backups.
type Pause struct {
	At     time.Time
	By     string // name and address of who did
	Reason string // why; 3 to 500 characters
}

// IsZero says that nothing is paused.
func (p Pause) IsZero() bool { return p.At.IsZero() }

// Validate returns FieldErrors if the reason is missing or too long.
func (p Pause) Validate() error { return LegalHold{Reason: p.Reason}.Validate() }

// ScheduleEvery are the pauses between two runs of a mailbox that an
// organization can choose; 0 is the installation's.
var ScheduleEvery = []time.Duration{0, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour}

// Mbit is one Mbit/s in bytes a second; a limit is a tenth of it to 100,000.
const Mbit = 1_000_000 / 8

// Never is later than everything: what begins then does not begin.
var Never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Validate returns FieldErrors naming every field that breaks a rule, or nil.
func (s Schedule) Validate() error {
	fields := FieldErrors{}
	if _, err := s.location(); err != nil {
		fields["zone"] = "Enter a time zone by its name, like Europe/Berlin or America/New_York."
	}
	seen := map[time.Weekday]bool{}
	for _, w := range s.Windows {
		if w.Day < time.Sunday || w.Day > time.Saturday || seen[w.Day] || w.From < 0 || w.From > lastMinute || w.To < 0 || w.To > lastMinute {
			fields["windows"] = "Enter the times of each day as hours and minutes, like 18:00."
		}
		seen[w.Day] = true
	}
	if !slices.Contains(ScheduleEvery, s.Every) {
		fields["every"] = "Choose how often backups run."
	}
	if n := s.BytesPerSecond; n != 0 && (n < Mbit/10 || n > 100_000*Mbit) {
		fields["limit"] = "Enter a number from 0.1 to 100000, or leave it empty for no limit."
	}
	return fields.OrNil()
}

const lastMinute = 24*60 - 1

// location is the time zone of the windows. The machine's own is no name.
func (s Schedule) location() (*time.Location, error) {
	if s.Zone == "Local" {
		return nil, fmt.Errorf("time zone %q is not a place", s.Zone)
	}
	return time.LoadLocation(s.Zone)
}

// Span returns the time in which automatic backups run: the one that at is in,
// else the next one. They run from opens on, and no more from closes on. While
// they are paused, opens is Never.
func (s Schedule) Span(at time.Time) (opens, closes time.Time) {
	if !s.Pause.IsZero() {
		return Never, Never
	}
	if len(s.Windows) == 0 {
		return time.Time{}, Never
	}
	for _, span := range s.spans(at) {
		if span.closes.After(at) {
			return span.opens, span.closes
		}
	}
	return Never, Never // no time zone: Validate does not let this be saved
}

type span struct{ opens, closes time.Time }

// spans are the windows from two days before at to two weeks after, in order;
// those that meet are one. A day on which the clocks change makes a window
// longer or shorter, but never makes it disappear.
func (s Schedule) spans(at time.Time) []span {
	zone, err := s.location()
	if err != nil {
		return nil
	}
	var list []span
	year, month, day := at.In(zone).Date()
	for d := day - 2; d <= day+14; d++ {
		weekday := time.Date(year, month, d, 12, 0, 0, 0, zone).Weekday()
		for _, w := range s.Windows {
			if w.Day != weekday {
				continue
			}
			length := w.To - w.From
			if length <= 0 {
				length += 24 * 60
			}
			opens := time.Date(year, month, d, 0, w.From, 0, 0, zone)
			closes := time.Date(year, month, d, 0, w.From+length, 0, 0, zone)
			if !closes.After(opens) {
				closes = opens.Add(time.Duration(length) * time.Minute)
			}
			if n := len(list); n > 0 && !opens.After(list[n-1].closes) {
				if closes.After(list[n-1].closes) {
					list[n-1].closes = closes
				}
				continue
			}
			list = append(list, span{opens, closes})
		}
	}
	return list
}

// Begins returns when what is due at at begins by itself, seen at now: then, or
// when the next window opens. It is Never while the backups are paused.
func (s Schedule) Begins(at, now time.Time) time.Time {
	from := at
	if from.Before(now) {
		from = now
	}
	if opens, _ := s.Span(from); opens.After(from) {
		return opens
	}
	return at
}

// ZoneName is the time zone of the windows, to be shown.
func (s Schedule) ZoneName() string {
	if s.Zone == "" {
		return "UTC"
	}
	return s.Zone
}

// Local is at in the time zone of the windows.
func (s Schedule) Local(at time.Time) time.Time {
	zone, err := s.location()
	if err != nil {
		return at.UTC()
	}
	return at.In(zone)
}

// Open says whether automatic backups may run at now.
func (s Schedule) Open(now time.Time) bool {
	opens, _ := s.Span(now)
	return !opens.After(now)
}

// String says it in words; a pause, which is a change of its own, is left out.
func (s Schedule) String() string {
	var parts []string
	if s.Every == 0 {
		parts = append(parts, "as often as the installation is set to")
	} else {
		parts = append(parts, "every "+EveryText(s.Every))
	}
	if len(s.Windows) == 0 {
		parts = append(parts, "at any time")
	} else {
		var days []string
		for _, w := range s.Windows {
			days = append(days, w.String())
		}
		parts = append(parts, strings.Join(days, ", ")+" ("+s.ZoneName()+")")
	}
	if s.BytesPerSecond > 0 {
		parts = append(parts, "at most "+MbitText(s.BytesPerSecond)+" Mbit/s")
	}
	return strings.Join(parts, "; ")
}

// String says it in words, like "Monday 18:00 to 06:00".
func (w Window) String() string {
	return fmt.Sprintf("%s %s to %s", w.Day, Clock(w.From), Clock(w.To))
}

// Clock is a time of day, given in minutes after midnight, like "18:00".
func Clock(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }

// MbitText is a number of bytes a second as a number of Mbit/s.
func MbitText(bytesPerSecond int64) string {
	return strconv.FormatFloat(float64(bytesPerSecond)/Mbit, 'f', -1, 64)
}

// EveryText is a pause in words, like "hour" or "30 minutes", to stand after
// "every".
func EveryText(d time.Duration) string {
	switch {
	case d == time.Hour:
		return "hour"
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d == time.Minute:
		return "minute"
	}
	return fmt.Sprintf("%d minutes", d/time.Minute)
}
