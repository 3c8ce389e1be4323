package jobs_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// doomed is a storage that ends the process at the nth call of it or of its catalog.
type doomed struct {
	repo.Storage
	left  atomic.Int64 // calls until then
	end   func() error
	ended atomic.Bool
}

func (d *doomed) call() error {
	switch n := d.left.Add(-1); {
	case n == -1:
		d.ended.Store(true)
		return d.end()
	case n < -1 && d.ended.Load():
		return errKilled
	}
	return nil
}

func (d *doomed) Create(ctx context.Context, key string) (repo.Upload, error) {
	if err := d.call(); err != nil {
		return nil, err
	}
	return d.Storage.Create(ctx, key)
}

func (d *doomed) Delete(ctx context.Context, key string) error {
	if err := d.call(); err != nil {
		return err
	}
	return d.Storage.Delete(ctx, key)
}

func (d *doomed) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := d.call(); err != nil {
		return nil, err
	}
	return d.Storage.Open(ctx, key, offset, length)
}

func (d *doomed) List(ctx context.Context, prefix string) iter.Seq2[repo.Entry, error] {
	return func(yield func(repo.Entry, error) bool) {
		if err := d.call(); err != nil {
			yield(repo.Entry{}, err)
			return
		}
		d.Storage.List(ctx, prefix)(yield)
	}
}

// doomedCatalog is the catalog of a process with a doomed storage.
type doomedCatalog struct {
	*store.Store
	d *doomed
}

func (c doomedCatalog) ApplyCommit(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, d engine.Delta) error {
	if err := c.d.call(); err != nil {
		return err
	}
	if err := c.Store.ApplyCommit(ctx, org, mailbox, d); err != nil {
		return err
	}
	return c.d.call()
}

func (c doomedCatalog) AddObjects(ctx context.Context, org backup.OrgID, objects []repo.Object) error {
	if err := c.d.call(); err != nil {
		return err
	}
	return c.Store.AddObjects(ctx, org, objects)
}

func (c doomedCatalog) Restate(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, r engine.Restated) error {
	if err := c.d.call(); err != nil {
		return err
	}
	return c.Store.Restate(ctx, org, mailbox, r)
}

// TestARepairThatIsInterruptedIsEndedByItself stops a repair of a mailbox whose newest
// snapshot the storage damaged before the catalog had it, at calls of the storage and
// the catalog, each at one time or another: the process is killed, or told to end, or
// the storage fails. Nobody asks for another repair: the same one is done again, after
// which everything is whole, and it says what the snapshot lost as if nothing had been.
func TestARepairThatIsInterruptedIsEndedByItself(t *testing.T) {
	const step = 47 // all of them take four minutes
	first := rand.Int64N(step)
	t.Logf("interrupted at calls %d, %d, %d …", first, first+step, first+2*step)
	for _, folder := range []string{"m", "c"} {
		for _, how := range []string{"killed", "told to end", "failed"} {
			t.Run(folder+" "+how, func(t *testing.T) {
				t.Parallel()
				for at := first; interruptRepair(t, folder, how, at); at += step {
					if t.Failed() {
						t.Fatalf("interrupted at call %d", at)
					}
				}
			})
		}
	}
}

// interruptRepair says whether the repair was interrupted at its nth call.
func interruptRepair(t *testing.T, folder, how string, at int64) bool {
	path := filepath.Join(t.TempDir(), "holdfast.db")
	k, run := stuck(t, storetest.At(t, path), folder, func(kept) {})
	org, ctx := k.w.Contoso.ID, t.Context()
	dying, end := context.WithCancel(ctx)
	defer end()
	d := &doomed{Storage: k.storage, end: func() error { return errKilled }}
	switch how {
	case "killed":
		d.end = func() error { return errors.Join(errKilled, k.Store.Close()) }
	case "told to end":
		d.end = func() error { end(); return dying.Err() }
	}
	d.left.Store(1 << 40)
	r, err := repo.Open(ctx, d, k.Store, k.Store, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &jobs.Runner{Store: k.Store, Engine: &engine.Engine{Repo: r, Catalog: doomedCatalog{k.Store, d}}, Log: slog.New(slog.DiscardHandler)}
	d.left.Store(at)
	_, err = p.Upkeep(dying, org, backup.UpkeepRepair, nil)
	if !d.ended.Load() {
		return false
	}
	if err == nil {
		return true // what failed is only logged, as where a check comes back to it
	}
	k.Store = storetest.At(t, path)
	k.Runner = k.on(t, k.storage) // the next process
	if !k.goesOn(t) {
		t.Error("the repair is not done again by itself")
	}
	u := k.do(t, backup.UpkeepRepair)
	list, err := k.Store.Damages(ctx, org, 10)
	if err != nil || u.State != backup.UpkeepDamaged || len(list) != 1 || list[0].MailboxName != k.mailbox.Address || !strings.Contains(list[0].How, "as the snapshot before") {
		t.Errorf("repair = %+v with %+v, %v; want the snapshot named", u, list, err)
	}
	if report, err := k.on(t, k.storage).Engine.Verify(ctx, org, true); err != nil || len(report.Damaged) > 0 {
		t.Errorf("after it Verify says %q, %v", report.Damaged, err)
	}
	if _, err := k.Engine.Backup(ctx, run); err != nil {
		t.Errorf("Backup after it: %v", err)
	}
	if u := k.do(t, backup.UpkeepAll); u.State != backup.UpkeepOK {
		t.Errorf("a check of everything = %+v, want that it was told once", u)
	}
	return true
}

// stuck is a mailbox whose newest snapshot the catalog has not, since its run was
// killed, and of which the storage damaged what is in a folder; before that do is called.
func stuck(t *testing.T, st *store.Store, folder string, do func(kept)) (kept, engine.Job) {
	t.Helper()
	letters := someLetters(5)
	k := keep(t, st, letters)
	org := k.w.Contoso.ID
	before := k.objects(t, "t/"+string(org)+"/")
	letters["later"] = "Subject: Letter later\r\n\r\nlater"
	k.Engine.Catalog = &stopped{k.Store, 0}
	run := engine.Job{Org: org, Mailbox: k.mailbox.ID, Source: letters}
	if _, err := k.Engine.Backup(t.Context(), run); !errors.Is(err, errKilled) {
		t.Fatalf("Backup = %v, want it killed", err)
	}
	k.Engine.Catalog = k.Store
	do(k)
	for _, key := range k.objects(t, "t/"+string(org)+"/"+folder+"/") {
		if !slices.Contains(before, key) {
			k.change(t, key, func(d []byte) []byte { d[len(d)/2] ^= 1; return d })
		}
	}
	return k, run
}

// goesOn says whether the schedule has the repair done again.
func (k kept) goesOn(t *testing.T) bool {
	t.Helper()
	soon := time.Now().Add(2 * time.Hour)
	lost, err := k.Store.LostUpkeep(t.Context(), soon)
	if err != nil {
		t.Fatal(err)
	}
	again, err := k.Store.DueAgain(t.Context(), soon)
	if err != nil {
		t.Fatal(err)
	}
	return len(lost)+len(again) == 1 && (len(lost) == 0 || lost[0].Kind == backup.UpkeepRepair) && (len(again) == 0 || again[0].Work == backup.UpkeepRepair)
}

// headless is a catalog whose process dies where it gives up the newest snapshot of a
// mailbox: before it, or right after.
type headless struct {
	*store.Store
	after bool
}

// SetHead implements engine.Catalog.
func (h headless) SetHead(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, seq int64) error {
	if h.after {
		return errors.Join(h.Store.SetHead(ctx, org, mailbox, seq), errKilled)
	}
	return errKilled
}

// TestTheNewestSnapshotIsNotGivenUpSilently loses the newest snapshot of a mailbox with
// the catalog, and interrupts the repair that gives it up: the one that goes on names it.
func TestTheNewestSnapshotIsNotGivenUpSilently(t *testing.T) {
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			letters := someLetters(3)
			k := keep(t, storetest.Open(t), letters)
			org, ctx := k.w.Contoso.ID, t.Context()
			letters["later"] = "Subject: Letter later\r\n\r\nlater"
			if _, err := k.Engine.Backup(ctx, engine.Job{Org: org, Mailbox: k.mailbox.ID, Source: letters}); err != nil {
				t.Fatal(err)
			}
			newest := repo.CommitName(string(org), string(k.mailbox.ID), 2)
			if err := errors.Join(k.storage.Delete(ctx, newest), k.Store.ClearCatalog(ctx, org)); err != nil {
				t.Fatal(err)
			}
			k.Runner = k.on(t, k.storage)
			k.do(t, backup.UpkeepRebuild)
			k.Engine.Catalog = headless{k.Store, after}
			if _, err := k.Upkeep(ctx, org, backup.UpkeepRepair, nil); !errors.Is(err, errKilled) {
				t.Fatalf("repair = %v, want it interrupted", err)
			}
			k.Engine.Catalog = k.Store
			u := k.do(t, backup.UpkeepRepair)
			list, err := k.Store.Damages(ctx, org, 10)
			if err != nil || u.State != backup.UpkeepDamaged || len(list) != 1 || list[0].Object != newest || !strings.Contains(list[0].How, "it was the newest snapshot of its mailbox and is lost") {
				t.Errorf("repair = %+v with %+v, %v; want the snapshot named", u, list, err)
			}
			if u := k.do(t, backup.UpkeepAll); u.State != backup.UpkeepOK {
				t.Errorf("a check of everything = %+v, want that it was told once", u)
			}
		})
	}
}
