package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store/storetest"
)

// TestRekeyFromTheCommandLine begins a move to new keys, and goes on with it.
func TestRekeyFromTheCommandLine(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	st, eng := openAt(t, data)
	w := storetest.Fill(t, st)
	_, accounts := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
	if _, err := eng.Backup(t.Context(), engine.Job{Org: w.Contoso.ID, Mailbox: accounts["a"].ID, Source: letters{strings.Repeat("a letter ", 9000)}}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := ran(t, "rekey", "-data", data); err == nil || !strings.Contains(err.Error(), "say whose keys leaked") {
		t.Errorf("without an organization: %q, %v", out, err)
	}
	org := string(w.Contoso.ID)
	out := mustRun(t, "rekey", "-data", data, "-organization", org)
	for _, want := range []string{"new keys, epoch 1. Export a new recovery kit", "2 packs written anew", "deleted 48 hours after"} {
		if !strings.Contains(out, want) {
			t.Errorf("the first says %q, want %q in it", out, want)
		}
	}
	mustRun(t, "verify", "-data", data, "-all")
	out = mustRun(t, "rekey", "-data", data, "-organization", org)
	if !strings.Contains(out, "0 packs written anew") || strings.Contains(out, "epoch") {
		t.Errorf("the second says %q, want it to go on", out)
	}
	mustRun(t, "rebuild", "-data", data)
	mustRun(t, "verify", "-data", data, "-all")
}

// TestRekeySaysWhatIsLocked prints how a move to new keys stands that waits for locks.
func TestRekeySaysWhatIsLocked(t *testing.T) {
	t.Parallel()
	next := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	until := time.Date(2026, 12, 12, 9, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		u    backup.Upkeep
		want string
	}{
		{backup.Upkeep{Done: 7, Total: 7}, "They wait for the last runs that began before"},
		{backup.Upkeep{Done: 7, Total: 7, Retained: 3, RetainedUntil: until}, "Nothing needs the old keys any more.\n3 objects under them are locked until 2026-12-12 09:30 UTC at the latest. A server"},
		{backup.Upkeep{Done: 7, Total: 7, Retained: 3}, "3 objects under them are locked, and the storage does not say until when."},
		{backup.Upkeep{Done: 4, Total: 7, Retained: 3, RetainedUntil: until}, "3 objects under them are locked until 2026-12-12 09:30 UTC at the latest."},
	} {
		c.u.NextAt = next
		var out strings.Builder
		if err := printRekey(backup.Organization{Name: "Contoso"}, c.u, &out); err != nil || !strings.Contains(out.String(), c.want) {
			t.Errorf("%+v says %q, %v; want %q in it", c.u, out.String(), err, c.want)
		}
	}
}
