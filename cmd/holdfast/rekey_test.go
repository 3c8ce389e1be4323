package main

import (
	"path/filepath"
	"strings"
	"testing"

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
