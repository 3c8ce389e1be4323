package backup_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"holdfast/backup"
)

// daily are snapshots made at 23:00 UTC of each day of 2026 from 1 January, numbered by their day.
func daily(until int) []backup.Snapshot {
	var list []backup.Snapshot
	for day := 1; day <= until; day++ {
		list = append(list, backup.Snapshot{Seq: int64(day), At: time.Date(2026, 1, day, 23, 0, 0, 0, time.UTC)})
	}
	return list
}

func kept(list []backup.Snapshot, gone []int64) []int64 {
	var out []int64
	for _, s := range list {
		if !slices.Contains(gone, s.Seq) {
			out = append(out, s.Seq)
		}
	}
	return out
}

func TestRetentionKeepsWhatShowsTheTimesThatAreToBeKept(t *testing.T) {
	// Saturday, 28 February 2026, noon: day 59, whose snapshot is yet to come.
	now := time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)
	list := daily(58)
	for name, c := range map[string]struct {
		rule backup.Retention
		want []int64
	}{
		"all":         {backup.Retention{Mode: backup.RetainAll}, kept(list, nil)},
		"unknown":     {backup.Retention{Mode: "?"}, kept(list, nil)},
		"three days":  {backup.Retention{Mode: backup.RetainDays, Days: 3}, []int64{55, 56, 57, 58}}, // 55 is how it was three days ago
		"one day":     {backup.Retention{Mode: backup.RetainDays, Days: 1}, []int64{57, 58}},
		"two dailies": {backup.Retention{Mode: backup.RetainPeriods, Daily: 2}, []int64{58}}, // today and yesterday end with the same
		"dailies":     {backup.Retention{Mode: backup.RetainPeriods, Daily: 4}, []int64{56, 57, 58}},
		"weeklies":    {backup.Retention{Mode: backup.RetainPeriods, Weekly: 3}, []int64{46, 53, 58}}, // Sundays 15 and 22 February
		"monthlies":   {backup.Retention{Mode: backup.RetainPeriods, Monthly: 2}, []int64{31, 58}},
		"yearlies":    {backup.Retention{Mode: backup.RetainPeriods, Yearly: 5}, []int64{58}},
		"mixed":       {backup.Retention{Mode: backup.RetainPeriods, Daily: 3, Weekly: 2, Monthly: 2}, []int64{31, 53, 57, 58}},
	} {
		if got := kept(list, c.rule.Expired(list, now)); !slices.Equal(got, c.want) {
			t.Errorf("%s (%s) keeps %v, want %v", name, c.rule, got, c.want)
		}
	}
}

func TestTheNewestSnapshotNeverExpires(t *testing.T) {
	old := []backup.Snapshot{{Seq: 1, At: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}, {Seq: 2, At: time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)},
		{Seq: 3, At: time.Date(2020, 1, 3, 0, 0, 0, 0, time.UTC), Partial: true}}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, rule := range []backup.Retention{{Mode: backup.RetainDays, Days: 1}, {Mode: backup.RetainPeriods, Daily: 1}} {
		if got := rule.Expired(old, now); !slices.Equal(got, []int64{1}) {
			t.Errorf("%s: %v expire, want 1 only: 3 is the newest, and 2 the newest that is whole", rule, got)
		}
		if got := rule.Expired(nil, now); len(got) != 0 {
			t.Errorf("%s: %v of nothing expire", rule, got)
		}
	}
}

// TestRetentionGoesOnFromItself applies a rule every day: what it keeps must be
// what it would have kept of all snapshots.
func TestRetentionGoesOnFromItself(t *testing.T) {
	for _, rule := range []backup.Retention{{Mode: backup.RetainDays, Days: 10}, {Mode: backup.RetainPeriods, Daily: 7, Weekly: 4, Monthly: 3, Yearly: 1}} {
		all, left := daily(400), []backup.Snapshot(nil)
		for day, s := range all {
			now := s.At.Add(2 * time.Hour)
			left = append(left, s)
			gone := rule.Expired(left, now)
			left = slices.DeleteFunc(left, func(s backup.Snapshot) bool { return slices.Contains(gone, s.Seq) })
			want := kept(all[:day+1], rule.Expired(all[:day+1], now))
			if got := kept(left, nil); !slices.Equal(got, want) {
				t.Fatalf("%s: on day %d %v are left, want %v", rule, day+1, got, want)
			}
		}
	}
}

func TestRetentionIsChecked(t *testing.T) {
	for field, rule := range map[string]backup.Retention{
		"mode": {}, "days": {Mode: backup.RetainDays}, "daily": {Mode: backup.RetainPeriods}, "weekly": {Mode: backup.RetainPeriods, Weekly: -1},
		"monthly": {Mode: backup.RetainPeriods, Monthly: 241}, "yearly": {Mode: backup.RetainPeriods, Yearly: 101},
	} {
		if fields, ok := errors.AsType[backup.FieldErrors](rule.Validate()); !ok || fields[field] == "" {
			t.Errorf("%+v: no error at %s", rule, field)
		}
	}
	for _, rule := range []backup.Retention{{Mode: backup.RetainAll}, {Mode: backup.RetainDays, Days: 30}, {Mode: backup.RetainPeriods, Yearly: 7}} {
		if err := rule.Validate(); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
}
