package backup_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
)

func TestValidateRestore(t *testing.T) {
	good := backup.Restore{Scope: backup.RestoreFolder, TargetID: "T", Place: backup.PlaceFolder, FolderName: "Restored 2026-11-29"}
	for _, c := range []struct {
		field  string
		change func(*backup.Restore)
	}{
		{"", func(*backup.Restore) {}},
		{"", func(r *backup.Restore) { r.Place, r.FolderName = backup.PlaceOriginal, "" }},
		{"scope", func(r *backup.Restore) { r.Scope = "everything" }},
		{"target", func(r *backup.Restore) { r.TargetID = "" }},
		{"place", func(r *backup.Restore) { r.Place = "" }},
		{"folder", func(r *backup.Restore) { r.FolderName = "  " }},
		{"folder", func(r *backup.Restore) { r.FolderName = "a/b" }},
		{"folder", func(r *backup.Restore) { r.FolderName = "a\nb" }},
		{"folder", func(r *backup.Restore) { r.FolderName = strings.Repeat("ä", 101) }},
	} {
		r := good
		c.change(&r)
		fields, _ := errors.AsType[backup.FieldErrors](r.Validate())
		if c.field == "" && len(fields) > 0 || c.field != "" && (len(fields) != 1 || fields[c.field] == "") {
			t.Errorf("%+v: %v, want an error of %q only", r, fields, c.field)
		}
	}
}

func TestNextRestoreTry(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		tries int
		after time.Duration
		want  time.Duration
	}{{0, 0, time.Minute}, {1, 0, 2 * time.Minute}, {4, 0, 16 * time.Minute}, {5, 0, 30 * time.Minute}, {29, 0, 30 * time.Minute}, {0, time.Hour, time.Hour}} {
		if at, ok := backup.NextRestoreTry(now, c.tries, c.after); !ok || at.Sub(now) != c.want {
			t.Errorf("after %d tries and %v: %v, %v, want %v", c.tries, c.after, at.Sub(now), ok, c.want)
		}
	}
	if _, ok := backup.NextRestoreTry(now, 30, 0); ok {
		t.Error("the 31st try was planned, want it given up")
	}
}
