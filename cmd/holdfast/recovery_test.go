package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/store"
	"holdfast/store/storetest"
)

// letters is a Source of a mailbox with one folder that never changes.
type letters []string

func (l letters) Folders(context.Context, string) (engine.FolderChanges, error) {
	return engine.FolderChanges{Full: true, Folders: []engine.Folder{{ID: "inbox", Name: "Inbox", WellKnown: "inbox"}}, Cursor: "1"}, nil
}

func (l letters) Changes(context.Context, string, string) iter.Seq2[engine.Page, error] {
	p := engine.Page{Cursor: "1", Full: true}
	for i := range l {
		p.Items = append(p.Items, engine.ItemState{ID: fmt.Sprint(i), Version: "1", FolderID: "inbox", Subject: fmt.Sprintf("Letter %d", i), Received: time.UnixMilli(1e12)})
	}
	return func(yield func(engine.Page, error) bool) { yield(p, nil) }
}

func (l letters) Content(_ context.Context, id string) (io.ReadCloser, error) {
	var i int
	if _, err := fmt.Sscan(id, &i); err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader(l[i])), nil
}

// ran runs a command and returns what it printed.
func ran(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), args, func(string) string { return "" }, &out, io.Discard)
	return out.String(), err
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := ran(t, args...)
	if err != nil {
		t.Fatalf("holdfast %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// openAt opens the data in a folder.
func openAt(t *testing.T, data string) (*store.Store, *engine.Engine) {
	t.Helper()
	c := config{Data: data}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	st, eng, _, err := openData(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return st, eng
}

// TestDisaster loses database and root key, and gets everything back from the
// repository, the recovery kit and the offline recovery key, as
// docs/recovery.md says.
func TestDisaster(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	mail := letters{"Subject: one\r\n\r\nfirst\r\n", "Subject: two\r\n\r\n" + strings.Repeat("second ", 20_000), ""}
	st, eng := openAt(t, data)
	w := storetest.Fill(t, st)
	_, accounts := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
	mailbox := accounts["a"].ID
	if _, err := eng.Backup(t.Context(), engine.Job{Org: w.Contoso.ID, Mailbox: mailbox, Source: mail}); err != nil {
		t.Fatal(err)
	}
	before := contents(t, st, eng, w.Contoso.ID, mailbox)
	if len(before) != len(mail) {
		t.Fatalf("%d of %d letters are backed up", len(before), len(mail))
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}

	away := t.TempDir()
	identity, kit := filepath.Join(away, "recovery.key"), filepath.Join(away, "kit.age")
	printed := mustRun(t, "key", "generate")
	if err := os.WriteFile(identity, []byte(printed), 0o600); err != nil {
		t.Fatal(err)
	}
	_, recipient, _ := strings.Cut(printed, "public key: ")
	recipient, _, _ = strings.Cut(recipient, "\n")
	mustRun(t, "key", "export", "-data", data, "-kit", kit, "-recipient", recipient)
	if out := mustRun(t, "key", "check", "-kit", kit, "-identity-file", identity); !strings.Contains(out, "2 organizations, 1 mailboxes") {
		t.Errorf("key check says %q", out)
	}
	stranger := filepath.Join(away, "other.key")
	if err := os.WriteFile(stranger, []byte(mustRun(t, "key", "generate")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ran(t, "key", "check", "-kit", kit, "-identity-file", stranger); err == nil {
		t.Error("another recovery key opens the kit")
	}

	lose := func() {
		for _, name := range []string{"holdfast.db", "holdfast.db-wal", "holdfast.db-shm", "root.key"} {
			if err := os.Remove(filepath.Join(data, name)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	lose()
	if _, err := ran(t, "rebuild", "-data", data); err == nil || !strings.Contains(err.Error(), "key import") {
		t.Errorf("rebuild without a database says %v", err)
	}
	empty, _ := openAt(t, data)
	if err := empty.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ran(t, "rebuild", "-data", data); err == nil || !strings.Contains(err.Error(), "knows none of them nor their keys") {
		t.Errorf("rebuild into an empty database says %v", err)
	}
	lose()
	if out := mustRun(t, "key", "import", "-data", data, "-kit", kit, "-identity-file", identity); !strings.Contains(out, "1 mailboxes") {
		t.Errorf("key import says %q", out)
	}
	mustRun(t, "rebuild", "-data", data)
	mustRun(t, "verify", "-data", data, "-all")
	if out := mustRun(t, "gc", "-data", data); !strings.Contains(out, "0 deleted (0 bytes), 0 not needed") {
		t.Errorf("gc after the recovery says %q", out)
	}

	st, eng = openAt(t, data)
	defer st.Close()
	after := contents(t, st, eng, w.Contoso.ID, mailbox)
	for subject, text := range before {
		if after[subject] != text {
			t.Errorf("%s: %d bytes came back instead of %d", subject, len(after[subject]), len(text))
		}
	}
	result, err := eng.Backup(t.Context(), engine.Job{Org: w.Contoso.ID, Mailbox: mailbox, Source: mail})
	if err != nil || result.Snapshot != 0 {
		t.Errorf("the next run made snapshot %d of an unchanged mailbox (%v)", result.Snapshot, err)
	}
}

// contents reads all items of the newest snapshot by subject.
func contents(t *testing.T, st *store.Store, eng *engine.Engine, org backup.OrgID, mailbox backup.MailboxID) map[string]string {
	t.Helper()
	seq, err := st.SnapshotAt(t.Context(), org, mailbox, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	items, _, err := st.Items(t.Context(), org, mailbox, seq, store.ItemQuery{FolderID: "inbox"})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, item := range items {
		var b strings.Builder
		if err := eng.WriteItem(t.Context(), org, mailbox, item.ID, &b); err != nil {
			t.Fatal(err)
		}
		all[item.Subject] = b.String()
	}
	return all
}

// TestPortalCopyBringsEverythingBack loses database and root key, and gets
// everything back from the repository alone with the offline recovery key, or
// with a kit that is older than a mailbox.
func TestPortalCopyBringsEverythingBack(t *testing.T) {
	data, away := filepath.Join(t.TempDir(), "data"), t.TempDir()
	mail := letters{"Subject: one\r\n\r\nfirst\r\n", "Subject: two\r\n\r\nsecond"}
	identity, kit, phrase := filepath.Join(away, "recovery.key"), filepath.Join(away, "kit.age"), filepath.Join(away, "phrase")
	printed := mustRun(t, "key", "generate")
	_, recipient, _ := strings.Cut(printed, "public key: ")
	recipient, _, _ = strings.Cut(recipient, "\n")
	for name, text := range map[string]string{identity: printed, phrase: "a long enough passphrase"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st, _ := openAt(t, data)
	w := storetest.Fill(t, st)
	if err := st.SetRecoveryRecipient(t.Context(), "AGE-SECRET-KEY-1", w.Owner); err == nil {
		t.Error("a secret key is taken as a recipient")
	}
	if err := st.SetRecoveryRecipient(t.Context(), recipient, w.Owner); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "key", "export", "-data", data, "-kit", kit, "-passphrase-file", phrase)

	// A mailbox that the kit does not know, and a copy that does.
	st, eng := openAt(t, data)
	if r, err := st.Recovery(t.Context()); err != nil || !r.Recoverable() || r.KitAt.IsZero() {
		t.Errorf("Recovery = %+v, %v; want the kit to be known", r, err)
	}
	_, accounts := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
	mailbox := accounts["a"].ID
	if _, err := eng.Backup(t.Context(), engine.Job{Org: w.Contoso.ID, Mailbox: mailbox, Source: mail}); err != nil {
		t.Fatal(err)
	}
	before := contents(t, st, eng, w.Contoso.ID, mailbox)
	log, _, err := st.Activity(t.Context(), "", w.Contoso.ID, store.ActivityQuery{Page: 1, Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	copyPortal(t, data)

	for name, with := range map[string][]string{"recovery key": {"-identity-file", identity}, "older kit": {"-kit", kit, "-passphrase-file", phrase}} {
		t.Run(name, func(t *testing.T) {
			fresh := filepath.Join(t.TempDir(), "fresh")
			place := []string{"-data", fresh, "-repository", filepath.Join(data, "repository")}
			if out := mustRun(t, append(append([]string{"key", "import", "-from-repository"}, place...), with...)...); !strings.Contains(out, "1 mailboxes") {
				t.Errorf("key import says %q", out)
			}
			mustRun(t, append([]string{"rebuild"}, place...)...)
			mustRun(t, append([]string{"audit", "verify"}, place...)...)
			c := config{Data: fresh, Repository: filepath.Join(data, "repository")}
			if err := c.complete(); err != nil {
				t.Fatal(err)
			}
			st, eng, _, err := openData(t.Context(), c, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			after := contents(t, st, eng, w.Contoso.ID, mailbox)
			for subject, text := range before {
				if after[subject] != text {
					t.Errorf("%s: %d bytes came back instead of %d", subject, len(after[subject]), len(text))
				}
			}
			if again, _, err := st.Activity(t.Context(), "", w.Contoso.ID, store.ActivityQuery{Page: 1, Size: 100}); err != nil || len(again) < len(log) {
				t.Errorf("%d entries of activity came back instead of %d (%v)", len(again), len(log), err)
			}
		})
	}
	stranger := filepath.Join(away, "other.key")
	if err := os.WriteFile(stranger, []byte(mustRun(t, "key", "generate")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ran(t, "key", "import", "-from-repository", "-data", filepath.Join(away, "x"), "-repository", filepath.Join(data, "repository"), "-identity-file", stranger); err == nil {
		t.Error("another recovery key opens the copy")
	}
}

// copyPortal lets a worker run until it has copied the database.
func copyPortal(t *testing.T, data string) {
	t.Helper()
	st, eng := openAt(t, data)
	defer st.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	runner := &jobs.Runner{Store: st, Engine: eng, Every: time.Hour, Workers: 1, Log: slog.New(slog.DiscardHandler)}
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	for {
		r, err := st.Recovery(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !r.CopiedAt.IsZero() {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
