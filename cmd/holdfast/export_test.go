package main

import (
	"archive/zip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"holdfast/backup/engine"
	"holdfast/store/storetest"
)

func TestExportWritesAFolderAMailboxAndAnOrganization(t *testing.T) {
	data, away := filepath.Join(t.TempDir(), "data"), t.TempDir()
	mail := letters{"Subject: one\r\n\r\nFrom here\r\n", "Subject: two\r\n\r\n" + strings.Repeat("second ", 20_000), ""}
	st, eng := openAt(t, data)
	w := storetest.Fill(t, st)
	_, accounts := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
	if _, err := eng.Backup(t.Context(), engine.Job{Org: w.Contoso.ID, Mailbox: accounts["a"].ID, Source: mail}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(away, name) }
	say := func(args ...string) string {
		return mustRun(t, append([]string{"export", "-data", data, "-organization", "contoso"}, args...)...)
	}

	if out := say("-mailbox", "a@contoso.example", "-folder", "inbox", "-out", at("folder.zip")); !strings.Contains(out, "3 messages exported, 0 missing") {
		t.Errorf("export says %q", out)
	}
	z, err := zip.OpenReader(at("folder.zip"))
	if err != nil || len(z.File) != 3 {
		t.Fatalf("the archive: %v", err)
	}
	defer z.Close()
	if info, err := os.Stat(at("folder.zip")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v; want 0600", info.Mode(), err)
	}
	if mbox := say("-mailbox", string(accounts["a"].ID), "-format", "mbox", "-out", "-"); !strings.Contains(mbox, "\n>From here\r\n") || strings.Count(mbox, "\nFrom ") != 2 {
		t.Errorf("standard output has %d bytes, %q", len(mbox), mbox[:min(len(mbox), 200)])
	}

	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	say("-format", "mbox", "-recipient", identity.Recipient().String(), "-out", at("all.zip.age"))
	f, err := os.Open(at("all.zip.age"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := age.Decrypt(f, identity)
	if err != nil {
		t.Fatal(err)
	}
	if whole, err := io.ReadAll(plain); err != nil || !strings.HasPrefix(string(whole), "PK") {
		t.Errorf("decrypted: %d bytes, %v", len(whole), err)
	}

	for _, wrong := range [][]string{
		{"-out", at("x")}, {"-organization", "nobody", "-out", at("x")}, {"-organization", "Contoso", "-mailbox", "none", "-out", at("x")},
		{"-organization", "Contoso", "-at", "2020-01-01T00:00:00Z", "-out", at("x")}, {"-organization", "Fabrikam", "-mailbox", string(accounts["a"].ID), "-out", at("x")},
		{"-organization", "Contoso", "-format", "pst", "-out", at("x")}, {"-organization", "Contoso", "-recipient", "ssh-rsa", "-out", at("x")},
	} {
		if _, err := ran(t, append([]string{"export", "-data", data}, wrong...)...); err == nil {
			t.Errorf("export %v works", wrong)
		}
	}
	left, err := os.ReadDir(away)
	if err != nil || len(left) != 2 {
		t.Errorf("%d files are left, want the two that were made", len(left))
	}
}
