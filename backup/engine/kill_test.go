package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
)

func TestInterruptedRunResumesAtItsCheckpoint(t *testing.T) {
	b, p := newBench(t), newProvider()
	b.Checkpoint = engine.Checkpoint{Items: 20}
	for range 100 {
		p.add("inbox", "x", randomText(random(t)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	p.during = func(string) {
		p.mu.Lock()
		done := p.contents
		p.mu.Unlock()
		if done >= 70 {
			once.Do(cancel)
		}
	}
	const concurrency = 2
	_, err := b.Backup(ctx, engine.Job{Org: org, Mailbox: mailbox, Source: p, Concurrency: concurrency})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Backup = %v, want it cancelled", err)
	}
	snapshots := must[[]backup.Snapshot](t)(b.store.Snapshots(t.Context(), org, mailbox))
	if len(snapshots) < 3 || !snapshots[0].Partial || snapshots[0].Items < 60 {
		t.Fatalf("snapshots = %+v, want partial ones with what was read", snapshots)
	}
	p.during = nil
	b.run(p)
	for id, n := range p.fetched {
		if n > 2 {
			t.Errorf("%s was fetched %d times", id, n)
		}
	}
	// As many are read at a time, and as many again are stored.
	if p.contents > 100+2*concurrency {
		t.Errorf("%d contents were fetched for 100 items, want only those twice that were under way", p.contents)
	}
	if last := must[[]backup.Snapshot](t)(b.store.Snapshots(t.Context(), org, mailbox))[0]; last.Partial || last.Items != 100 {
		t.Errorf("last snapshot = %+v, want it whole", last)
	}
}

func TestCheckpointByBytes(t *testing.T) {
	b, p := newBench(t), newProvider()
	b.Checkpoint = engine.Checkpoint{Bytes: 1000}
	for range 50 {
		p.add("inbox", "x", []byte(strings.Repeat("x", 100)))
	}
	b.run(p)
	if n := len(must[[]backup.Snapshot](t)(b.store.Snapshots(t.Context(), org, mailbox))); n < 4 {
		t.Errorf("%d snapshots, want one for about each 1000 bytes", n)
	}
}

// killer is a catalog whose process dies between the commit and the catalog.
type killer struct {
	*store.Store
	kill func() bool
}

var errKilled = errors.New("killed")

func (k *killer) ApplyCommit(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, d engine.Delta) error {
	if k.kill() {
		return errKilled
	}
	return k.Store.ApplyCommit(ctx, org, mailbox, d)
}

// dead is a process that was killed: nothing it writes arrives any more.
var errDead = errors.New("process is dead")

func TestKilledBetweenCommitAndCatalog(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "a", []byte("text a"))
	gone := p.add("inbox", "b", []byte("text b"))
	b.run(p)
	p.move(id, "sentitems")
	p.remove(gone)
	p.change(p.add("inbox", "c", []byte("text c")), func(m *message) { m.Read = true })
	p.renameFolder("sentitems", "Gesendet")
	want := p.image()
	kills := 0
	b.Catalog = &killer{b.store, func() bool { kills++; b.storage.refuse = errDead; return true }}
	_, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if !errors.Is(err, errKilled) || kills != 1 {
		t.Fatalf("Backup = %v after %d kills, want it killed once", err, kills)
	}
	if got := b.newest(); got != 1 {
		t.Fatalf("newest snapshot in the catalog is %d, want 1 before the recovery", got)
	}
	again := openBench(t, b.store, b.storage.Storage)
	if err := again.recoverOne(); err != nil {
		t.Fatal(err)
	}
	again.check(2, want)
	p.calm()
	again.run(p)
	if p.contents != 0 || again.storage.created != 0 {
		t.Errorf("the run after the recovery fetched %d contents and created %d objects, want none", p.contents, again.storage.created)
	}
}

// recoverOne recovers as the next run of the mailbox would.
func (b *bench) recoverOne() error {
	p := newProvider()
	p.failing["Folders"] = errCorrupt // the run ends after its recovery
	_, err := b.Backup(b.t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if errors.Is(err, errCorrupt) {
		return nil
	}
	return err
}

func TestTwoRunsAtOnce(t *testing.T) {
	b, p := newBench(t), newProvider()
	for range 30 {
		p.add("inbox", "x", []byte("text"))
	}
	other := openBench(t, b.store, b.storage.Storage) // as another process would
	for _, pair := range [][2]*engine.Engine{{b.engine, b.engine}, {b.engine, other.engine}} {
		p.add("inbox", "one more", []byte("text"))
		errs := make([]error, 2)
		// Both have begun before either goes on.
		var ready sync.WaitGroup
		ready.Add(1)
		p.during = func(call string) {
			if strings.HasPrefix(call, "Changes") {
				ready.Wait()
			}
		}
		var runs sync.WaitGroup
		for i, e := range pair {
			runs.Go(func() {
				_, errs[i] = e.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
				if errors.Is(errs[i], engine.ErrBusy) {
					return
				}
			})
		}
		waitFor(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.calls["Folders"] > 0 })
		ready.Done()
		runs.Wait()
		p.during = nil
		won := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.Is(err, engine.ErrBusy) && errors.Is(err, backup.ErrConflict) })
		for _, err := range won {
			if err != nil {
				t.Errorf("Backup: %v", err)
			}
		}
		if len(won) == 0 {
			t.Error("both runs gave way")
		}
		b.run(p)
	}
}

// waitFor waits for a condition that other goroutines bring about.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}
