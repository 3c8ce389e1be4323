package main

import (
	"path/filepath"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store/storetest"
)

// TestExpireAndCollectSayWhatTheyWouldDo asks both commands what they would do,
// and then has it done.
func TestExpireAndCollectSayWhatTheyWouldDo(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	st, eng := openAt(t, data)
	w := storetest.Fill(t, st)
	_, accounts := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
	mailbox := accounts["a"].ID
	for _, mail := range []letters{{strings.Repeat("an old letter ", 9000)}, {strings.Repeat("an old letter ", 9000), "a new one"}} {
		if _, err := eng.Backup(t.Context(), engine.Job{Org: w.Contoso.ID, Mailbox: mailbox, Source: mail}); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.SaveRetention(t.Context(), w.Contoso.ID, backup.Retention{Mode: backup.RetainPeriods, Daily: 1}, w.Ada); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	says := func(want string, args ...string) {
		t.Helper()
		if out := mustRun(t, append(args, "-data", data, "-organization", string(w.Contoso.ID))...); !strings.Contains(out, want) {
			t.Errorf("holdfast %s says %q, want %q in it", strings.Join(args, " "), out, want)
		}
	}
	for range 2 { // asking changes nothing
		says("1 snapshots would expire and 1 stay (keep the end of each of the last 1 day)", "expire", "-dry-run")
		says("snapshot 1 of ", "expire", "-dry-run")
		says("would condemn 0 packs", "gc", "-dry-run")
	}
	says("1 snapshots expired and 1 stay", "expire")
	says("no snapshot expires", "expire", "-dry-run")
	for range 2 {
		says("would condemn 1 packs", "gc", "-dry-run") // the metadata that only the first had
	}
	says("0 deleted (0 bytes), 1 not needed", "gc")
	says("would condemn 0 packs; 1 (", "gc", "-dry-run")
	mustRun(t, "verify", "-data", data, "-all")
}
