package backup_test

import (
	"testing"
	"time"

	"holdfast/backup"
)

// moment reads a time in a zone, unless it names its own.
func moment(t *testing.T, zone, text string) time.Time {
	t.Helper()
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation("2006-01-02 15:04", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func everyDay(from, to int) []backup.Window {
	var list []backup.Window
	for d := time.Sunday; d <= time.Saturday; d++ {
		list = append(list, backup.Window{Day: d, From: from, To: to})
	}
	return list
}

func TestScheduleSpan(t *testing.T) {
	const berlin, newYork = "Europe/Berlin", "America/New_York"
	weekdays := []backup.Window{{Day: time.Monday, From: 18 * 60, To: 6 * 60}, {Day: time.Friday, From: 18 * 60, To: 0}, {Day: time.Saturday}, {Day: time.Sunday}}
	for name, c := range map[string]struct {
		zone              string
		windows           []backup.Window
		at, opens, closes string
	}{
		"before the window":                       {berlin, weekdays, "2026-11-30 10:00", "2026-11-30 18:00", "2026-12-01 06:00"},
		"at the minute it opens":                  {berlin, weekdays, "2026-11-30 18:00", "2026-11-30 18:00", "2026-12-01 06:00"},
		"after midnight":                          {berlin, weekdays, "2026-12-01 05:59", "2026-11-30 18:00", "2026-12-01 06:00"},
		"at the minute it closes":                 {berlin, weekdays, "2026-12-01 06:00", "2026-12-04 18:00", "2026-12-07 00:00"},
		"whole days that meet are one":            {berlin, weekdays, "2026-12-06 12:00", "2026-12-04 18:00", "2026-12-07 00:00"},
		"once a week":                             {berlin, []backup.Window{{Day: time.Sunday, From: 60, To: 120}}, "2026-12-06 02:00", "2026-12-13 01:00", "2026-12-13 02:00"},
		"the night that has 23 hours":             {berlin, everyDay(22*60, 6*60), "2026-03-29 01:00", "2026-03-28T22:00:00+01:00", "2026-03-29T06:00:00+02:00"},
		"the night that has 25 hours":             {berlin, everyDay(22*60, 6*60), "2026-10-25 01:00", "2026-10-24T22:00:00+02:00", "2026-10-25T06:00:00+01:00"},
		"a window in the hour that is missing":    {newYork, everyDay(2*60, 3*60), "2026-03-08T05:30:00Z", "2026-03-08T06:00:00Z", "2026-03-08T07:00:00Z"},
		"UTC unless a zone is named":              {"", everyDay(60, 120), "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"},
		"from a day whose date is another in UTC": {"Pacific/Auckland", []backup.Window{{Day: time.Monday, From: 0, To: 60}}, "2026-11-29T10:30:00Z", "2026-11-29T11:00:00Z", "2026-11-29T12:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			s := backup.Schedule{Zone: c.zone, Windows: c.windows}
			if err := s.Validate(); err != nil {
				t.Fatal(err)
			}
			opens, closes := s.Span(moment(t, c.zone, c.at))
			if want := moment(t, c.zone, c.opens); !opens.Equal(want) {
				t.Errorf("opens %s, want %s", opens, want)
			}
			if want := moment(t, c.zone, c.closes); !closes.Equal(want) {
				t.Errorf("closes %s, want %s", closes, want)
			}
		})
	}
}

// TestScheduleIsOpenAllTheTimeOrNever has no window, one that is every day from
// midnight to midnight, and a pause.
func TestScheduleIsOpenAllTheTimeOrNever(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range 24 * 60 {
		at := start.Add(time.Duration(i) * 13 * time.Minute * 10)
		if !(backup.Schedule{}).Open(at) {
			t.Fatalf("no window: closed at %s", at)
		}
		if !(backup.Schedule{Zone: "Europe/London", Windows: everyDay(0, 0)}).Open(at) {
			t.Fatalf("whole days: closed at %s", at)
		}
		if (backup.Schedule{Pause: backup.Pause{At: start}}).Open(at) {
			t.Fatalf("paused: open at %s", at)
		}
	}
}

// TestScheduleNeverLosesAWindow goes through a year in steps and looks for each
// day's window, in zones whose clocks change in the window.
func TestScheduleNeverLosesAWindow(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut", "Africa/Cairo"} {
		s := backup.Schedule{Zone: zone, Windows: everyDay(0, 90)}
		at, n := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), 0
		end := at.AddDate(1, 0, 0)
		for at.Before(end) {
			opens, closes := s.Span(at)
			if !closes.After(opens) || !closes.After(at) || closes.Sub(opens) > 3*time.Hour {
				t.Fatalf("%s at %s: from %s to %s", zone, at, opens, closes)
			}
			at, n = closes, n+1
		}
		if n < 365 || n > 366 {
			t.Errorf("%s: %d windows in a year", zone, n)
		}
	}
}

func TestScheduleValidate(t *testing.T) {
	for field, s := range map[string]backup.Schedule{
		"zone":    {Zone: "Atlantis"},
		"windows": {Windows: []backup.Window{{Day: time.Monday, From: 24 * 60}}},
		"every":   {Every: 7 * time.Minute},
		"limit":   {BytesPerSecond: 100},
	} {
		if fields, ok := s.Validate().(backup.FieldErrors); !ok || fields[field] == "" || len(fields) != 1 { //nolint:errorlint // Validate returns the type itself
			t.Errorf("%s: %v", field, s.Validate())
		}
	}
	for _, zone := range []string{"Local", "../etc/passwd", "/etc/localtime"} {
		if (backup.Schedule{Zone: zone}).Validate() == nil {
			t.Errorf("time zone %q is accepted", zone)
		}
	}
	twice := backup.Schedule{Windows: []backup.Window{{Day: time.Monday}, {Day: time.Monday, From: 60}}}
	if twice.Validate() == nil {
		t.Error("two windows of a day are accepted")
	}
}
