package jobs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store/storetest"
)

// mortal is a storage that fails from its nth change on, as for a process that is
// killed there.
type mortal struct {
	repo.Storage
	left int
}

var errDied = errors.New("killed")

func (d *mortal) die() error {
	if d.left--; d.left < 0 {
		return errDied
	}
	return nil
}

// Create implements repo.Storage.
func (d *mortal) Create(ctx context.Context, key string) (repo.Upload, error) {
	if err := d.die(); err != nil {
		return nil, err
	}
	return d.Storage.Create(ctx, key)
}

// Delete implements repo.Storage.
func (d *mortal) Delete(ctx context.Context, key string) error {
	if err := d.die(); err != nil {
		return err
	}
	return d.Storage.Delete(ctx, key)
}

// on is a runner of another process, whose storage is s.
func (k kept) on(t *testing.T, s repo.Storage) *jobs.Runner {
	t.Helper()
	r, err := repo.Open(t.Context(), s, k.Store, k.Store, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &jobs.Runner{Store: k.Store, Engine: &engine.Engine{Repo: r, Catalog: k.Store}, Log: slog.New(slog.DiscardHandler), Spool: t.TempDir()}
}

// ask asks for the erasure of the mailbox.
func (k kept) ask(t *testing.T) backup.Erasure {
	t.Helper()
	e, err := k.Store.AskErasure(t.Context(), backup.Erasure{OrgID: k.w.Contoso.ID, MailboxID: k.mailbox.ID, Reason: "She has left", RequestedBy: "Case 4711"}, " "+strings.ToUpper(k.mailbox.Address), k.w.Ada)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestErasureEndsWhereverItWasKilled kills an erasure at every change of the
// storage, and has the next process end it.
func TestErasureEndsWhereverItWasKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, ctx := keep(t, storetest.Open(t), someLetters(5)), t.Context()
		org := k.w.Contoso.ID
		if err := k.on(t, k.storage).PortalCopyForTest(ctx); err != nil {
			t.Fatal(err)
		}
		before := k.objects(t, "portal/")
		key, err := k.Store.SourceKey(ctx, string(org), string(k.mailbox.ID), 0)
		if err != nil {
			t.Fatal(err)
		}
		e := k.ask(t)
		kills := 0
		for {
			time.Sleep(2 * time.Second)
			err := k.on(t, &mortal{k.storage, kills}).Erase(ctx, org, e.ID)
			if err == nil {
				break
			}
			if !errors.Is(err, errDied) {
				t.Fatalf("after %d changes: %v", kills, err)
			}
			if kills++; kills > 100 {
				t.Fatal("it never ends")
			}
		}
		if kills < 3 {
			t.Errorf("it was killed %d times, want at each change", kills)
		}
		e, err = k.Store.Erasure(ctx, org, e.ID)
		if err != nil || e.State != backup.ErasureDone {
			t.Fatalf("erasure = %+v, %v; want it done", e, err)
		}
		var c backup.ErasureCertificate
		if err := json.Unmarshal(e.Certificate, &c); err != nil {
			t.Fatal(err)
		}
		if len(c.Keys) != 1 || c.Keys[0].Fingerprint != backup.KeyFingerprint(key) || c.Found.Messages != 5 || c.Found.Snapshots != 1 || c.Found.Packs == 0 || c.RequestedBy != "Case 4711" || c.Organization != k.w.Contoso.Name {
			t.Errorf("certificate = %+v", c)
		}
		if _, err := k.Store.CertificateSeal(ctx, e); err != nil {
			t.Errorf("its seal: %v", err)
		}
		now := k.objects(t, "portal/")
		for _, key := range before {
			if slices.Contains(now, key) {
				t.Errorf("%s is left of a copy of the database with the key", key)
			}
		}
		if whole, err := k.Engine.Repo.Files().Names(ctx, "portal/"); err != nil || len(whole) == 0 || len(now) != 2*len(whole) {
			t.Errorf("copies %v, %v, and objects %v; want whole copies only", whole, err, now)
		}
		if n := k.entries(t, "erasure.done"); n != 1 {
			t.Errorf("%d entries say that it is erased, want 1", n)
		}
		if _, err := k.Store.Mailbox(ctx, org, k.mailbox.ID); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("the mailbox: %v, want ErrNotFound", err)
		}
		report, err := k.Engine.Verify(ctx, org, true)
		if err != nil || len(report.Damaged) > 0 {
			t.Errorf("Verify = %+v, %v", report, err)
		}
	})
}

func TestALegalHoldStopsAnErasureThatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, ctx := keep(t, storetest.Open(t), someLetters(2)), t.Context()
		org := k.w.Contoso.ID
		hold := func(set bool) {
			t.Helper()
			err := k.Store.LiftMailboxHold(ctx, org, k.mailbox.ID, k.w.Ada)
			if set {
				err = k.Store.SetMailboxHold(ctx, org, k.mailbox.ID, "Case 4711", k.w.Ada)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		hold(true)
		_, err := k.Store.AskErasure(ctx, backup.Erasure{OrgID: org, MailboxID: k.mailbox.ID, Reason: "She has left", RequestedBy: "her"}, k.mailbox.Address, k.w.Ada)
		if fields, ok := errors.AsType[backup.FieldErrors](err); !ok || fields["hold"] == "" {
			t.Errorf("AskErasure under a hold = %v", err)
		}
		hold(false)
		e := k.ask(t)
		if _, err := k.Store.AskErasure(ctx, backup.Erasure{OrgID: org, MailboxID: k.mailbox.ID, Reason: "again", RequestedBy: "her"}, k.mailbox.Address, k.w.Ada); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("asked twice: %v, want ErrConflict", err)
		}
		hold(true)
		if err := k.Erase(ctx, org, e.ID); err != nil {
			t.Fatal(err)
		}
		if e, err = k.Store.Erasure(ctx, org, e.ID); err != nil || e.State != backup.ErasureStopped || len(k.snapshots(t)) != 1 {
			t.Errorf("erasure = %+v, %v; want it stopped, and the snapshot there", e, err)
		}
		hold(false)
		run := backup.Run{ID: "RUN", OrgID: org, MailboxID: k.mailbox.ID, State: backup.RunRunning, Trigger: "first", StartedAt: time.Now(), BeatAt: time.Now()}
		if err := k.Store.StartRun(ctx, run); err != nil {
			t.Fatal(err)
		}
		e = k.ask(t)
		if err := k.Erase(ctx, org, e.ID); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("while a run is at it: %v, want ErrConflict", err)
		}
		run.State, run.EndedAt = backup.RunSucceeded, time.Now()
		if err := k.Store.FinishRun(ctx, run, func(*backup.Mailbox) {}); err != nil {
			t.Fatal(err)
		}
		if err := k.Erase(ctx, org, e.ID); err != nil {
			t.Errorf("after the run: %v", err)
		}
	})
}

// TestAnOlderDatabaseDoesNotBringAnErasedMailboxBack imports a kit from before an
// erasure, as after the loss of the database, and rebuilds.
func TestAnOlderDatabaseDoesNotBringAnErasedMailboxBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, ctx := keep(t, storetest.Open(t), someLetters(3)), t.Context()
		org := k.w.Contoso.ID
		var kit bytes.Buffer
		if _, err := k.Store.WriteKit(ctx, &kit); err != nil {
			t.Fatal(err)
		}
		if err := k.Erase(ctx, org, k.ask(t).ID); err != nil {
			t.Fatal(err)
		}
		old := k
		old.Runner = &jobs.Runner{Store: storetest.Open(t), Log: k.Log, Spool: t.TempDir()}
		if _, err := old.Store.ReadKit(ctx, storetest.RootKey, &kit); err != nil {
			t.Fatal(err)
		}
		if _, err := old.Store.Mailbox(ctx, org, k.mailbox.ID); err != nil {
			t.Fatalf("the old database does not know the mailbox: %v; this test would see nothing", err)
		}
		old.Runner = old.on(t, k.storage)
		if err := old.Engine.Rebuild(ctx, org); err != nil {
			t.Fatal(err)
		}
		if _, err := old.Store.Mailbox(ctx, org, k.mailbox.ID); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("the mailbox: %v, want ErrNotFound", err)
		}
		if _, err := old.Store.SourceKey(ctx, string(org), string(k.mailbox.ID), 0); !errors.Is(err, repo.ErrNoKey) {
			t.Errorf("its key: %v, want ErrNoKey", err)
		}
		if got := old.snapshots(t); len(got) != 0 {
			t.Errorf("snapshots %v are back", got)
		}
	})
}
