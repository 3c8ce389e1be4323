package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// fillErased gives Contoso a mailbox with everything that may tell what was in it.
func fillErased(t *testing.T, st *store.Store, secret string) (storetest.World, backup.Mailbox) {
	t.Helper()
	w, _, restore := restorable(t, st)
	ctx, org := t.Context(), w.Contoso.ID
	box, err := st.Mailbox(ctx, org, restore.MailboxID)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = st.SourceKey(ctx, string(org), string(box.ID), 0)
	must(err)
	d := deltaOf(2, mailOf(1, "in", secret, secret+"@example.org", time.Now()))
	d.Folders = append(d.Folders, folderOf("in", "Folder "+secret, 1))
	must(st.ApplyCommit(ctx, org, box.ID, d))
	restore.FolderID, restore.What = "F", "Inbox"
	r, err := st.StartRestore(ctx, restore, w.Ada)
	must(err)
	must(st.AddRestoreNote(ctx, org, r.ID, backup.RestoreNote{ItemID: "1", Subject: secret, From: secret, Reason: "refused"}))
	run := backup.Run{ID: "RUN-1", OrgID: org, MailboxID: box.ID, State: backup.RunRunning, Trigger: "first", StartedAt: time.Now(), BeatAt: time.Now()}
	must(st.StartRun(ctx, run))
	must(st.NoteDamage(ctx, backup.Damage{OrgID: org, Object: "item", MailboxID: box.ID, Record: 1, How: secret}))
	return w, box
}

func TestErasedMailboxIsForgottenAndGetsNoKeyAgain(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w, box := fillErased(t, st, "xyzzy")
		ctx, org := t.Context(), w.Contoso.ID
		if err := st.EraseMailbox(ctx, w.Fabrikam.ID, box.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Mailbox(ctx, org, box.ID); err != nil || len(seqsOf(t, st, org, box.ID)) != 2 {
			t.Fatalf("another organization erased the mailbox: %v", err)
		}
		for range 2 {
			if err := st.EraseMailbox(ctx, org, box.ID); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := st.Mailbox(ctx, org, box.ID); !isNotFound(err) {
			t.Errorf("Mailbox = %v, want ErrNotFound", err)
		}
		if got := seqsOf(t, st, org, box.ID); len(got) != 0 {
			t.Errorf("snapshots %v are left", got)
		}
		if list, err := st.Restores(ctx, org, 10); err != nil || len(list) != 0 {
			t.Errorf("restores %v are left, %v", list, err)
		}
		if n, _, err := st.CountDamages(ctx, org); err != nil || n != 0 {
			t.Errorf("%d damages are left, %v", n, err)
		}
		if _, err := st.SourceKey(ctx, string(org), string(box.ID), 0); !errors.Is(err, repo.ErrNoKey) {
			t.Errorf("SourceKey = %v, want ErrNoKey", err)
		}
		keys, err := st.DestroyedKeys(ctx, org, box.ID)
		if err != nil || len(keys) != 1 || keys[0].Epoch != 0 || len(keys[0].Fingerprint) != 32 || keys[0].MadeAt.IsZero() {
			t.Errorf("destroyed keys %+v, %v; want one with its fingerprint", keys, err)
		}
		if keys, err := st.DestroyedKeys(ctx, w.Fabrikam.ID, box.ID); err != nil || len(keys) != 0 {
			t.Errorf("another organization destroyed keys %+v, %v", keys, err)
		}
		if err := st.ApplyCommit(ctx, org, box.ID, deltaOf(1)); !errors.Is(err, repo.ErrNoKey) {
			t.Errorf("a run of another process commits to the erased mailbox: %v", err)
		}
	})
}

// TestScrubbedDatabaseHoldsNothingThatWasErased looks for a known text in the
// database's files.
func TestScrubbedDatabaseHoldsNothingThatWasErased(t *testing.T) {
	const secret = "a-very-unlikely-subject-4711"
	path := filepath.Join(t.TempDir(), "holdfast.db")
	st := storetest.At(t, path)
	w, box := fillErased(t, st, secret)
	holds := func() (n int) {
		t.Helper()
		for _, name := range []string{path, path + "-wal"} {
			data, err := os.ReadFile(name) //nolint:gosec // the test's own
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			n += bytes.Count(bytes.ToLower(data), []byte(secret))
		}
		return n
	}
	if holds() == 0 {
		t.Fatal("the text is in none of the files before: this test would see nothing")
	}
	if err := st.EraseMailbox(t.Context(), w.Contoso.ID, box.ID); err != nil {
		t.Fatal(err)
	}
	if err := st.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := holds(); n != 0 {
		t.Errorf("the text is still %d times in the files", n)
	}
	if list, err := st.Mailboxes(t.Context(), w.Contoso.ID, store.MailboxQuery{AllAccounts: true}); err != nil || len(list.Mailboxes) != 1 {
		t.Errorf("the other mailbox: %+v, %v", list, err)
	}
}

// deltaOf is a commit with new messages.
func deltaOf(seq int64, items ...engine.ItemChange) engine.Delta {
	return engine.Delta{Seq: seq, At: time.Now(), NextNumber: int64(len(items) + 1), Totals: engine.Totals{Items: int64(len(items))}, Items: items}
}

// TestMailboxErasedSeveralTimesAtOnce has several machines destroy the keys of a
// mailbox, as an erasure and a collection do, while a run asks for its key: what
// was destroyed is known, and no key is left.
func TestMailboxErasedSeveralTimesAtOnce(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		w, ctx := storetest.Fill(t, st), t.Context()
		var accounts []backup.Mailbox
		for n := range 12 {
			accounts = append(accounts, storetest.Account(fmt.Sprint("box", n)))
		}
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", accounts...)
		org := w.Contoso.ID
		for _, box := range boxes {
			if _, err := st.SourceKey(ctx, string(org), string(box.ID), 0); err != nil {
				t.Fatal(err)
			}
			var g errgroup.Group
			for range 4 {
				g.Go(func() error { return st.EraseMailbox(ctx, org, box.ID) })
				g.Go(func() error {
					if _, err := st.SourceKey(ctx, string(org), string(box.ID), 0); err != nil && !errors.Is(err, repo.ErrNoKey) && !isNotFound(err) {
						return err
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if keys, err := st.DestroyedKeys(ctx, org, box.ID); err != nil || len(keys) != 1 {
				t.Errorf("destroyed keys %+v, %v; want the one that there was", keys, err)
			}
		}
		var left int
		if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM repository_keys WHERE org_id = $1 AND source <> ''`, org).Scan(&left); err != nil || left > 0 {
			t.Errorf("%d keys are left, %v", left, err)
		}
	})
}
