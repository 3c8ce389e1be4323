package engine_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

func (b *bench) failed() []engine.Item {
	b.t.Helper()
	return must[[]engine.Item](b.t)(b.store.FailedItems(b.t.Context(), org, mailbox, 0, 100))
}

func TestFailingItemIsANamedGapAndIsTriedAgain(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "broken there", []byte("text"))
	p.add("inbox", "fine", []byte("fine"))
	p.failing[id] = errCorrupt
	result := b.run(p)
	if result.DamagedItems != 1 || result.Run.FailedItems != 1 || result.Items != 2 {
		t.Errorf("result = %+v, want 2 items, 1 of them damaged", result)
	}
	if item := b.item(id); !item.Damaged || item.Subject != "broken there" {
		t.Errorf("item = %+v, want it by name and damaged", item)
	}
	if err := b.WriteItem(t.Context(), org, mailbox, b.item(id).ID, io.Discard); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("WriteItem of a gap: %v, want ErrNotFound", err)
	}
	list := b.failed()
	if len(list) != 1 || list[0].Problem.Kind != backup.ProblemItems || list[0].Problem.Text != errCorrupt.Text || list[0].Problem.At.IsZero() {
		t.Fatalf("failed items = %+v, want one with its reason and time", list)
	}
	p.calm()
	b.storage.created = 0
	result = b.run(p)
	if p.fetched[id] != 1 || b.storage.created != 0 || result.DamagedItems != 1 || result.Run.FailedItems != 1 {
		t.Errorf("the next run tried %d times and created %d objects: %+v; want one try, nothing written, still damaged", p.fetched[id], b.storage.created, result)
	}
	if again := b.failed(); len(again) != 1 || !again[0].Problem.At.Equal(list[0].Problem.At) {
		t.Errorf("failed items after another try = %+v, want the time of the first", again)
	}
	before := b.image(1)
	delete(p.failing, id)
	if result = b.run(p); result.DamagedItems != 0 || len(b.failed()) != 0 {
		t.Errorf("result once it can be read = %+v and %v, want nothing damaged", result, b.failed())
	}
	b.check(1, before)
}

func TestFailedRereadKeepsTheEarlierText(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "readable", []byte("text"))
	b.run(p)
	p.change(id, func(m *message) { m.Subject, m.text = "readable no more", []byte("new text") })
	p.failing[id] = errCorrupt
	result, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if err != nil || result.DamagedItems != 1 {
		t.Fatalf("Backup = %+v, %v; want one damaged item", result, err)
	}
	if item := b.item(id); item.Damaged || item.Subject != "readable no more" || b.read(item.ID) != "text" {
		t.Errorf("item = %+v, want the new subject with the text as it was", item)
	}
	delete(p.failing, id)
	b.run(p)
	if len(b.failed()) != 0 {
		t.Errorf("failed items = %v, want none", b.failed())
	}
}

func TestFailingItemThatMovesOrIsDeleted(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "broken", []byte("text"))
	gone := p.add("inbox", "broken and gone", []byte("text"))
	p.failing[id], p.failing[gone] = errCorrupt, errCorrupt
	b.run(p)
	p.move(id, "deleteditems")
	p.remove(gone)
	delete(p.failing, gone)
	if result := b.run(p); result.DamagedItems != 1 || result.Run.RemovedItems != 1 {
		t.Errorf("result = %+v, want one damaged and one removed", result)
	}
}

func TestItemDeletedInFlightIsNoFailure(t *testing.T) {
	b, p := newBench(t), newProvider()
	fresh := p.add("inbox", "gone before it was read", []byte("text"))
	known := p.add("inbox", "known", []byte("text"))
	p.failing[fresh] = engine.ErrItemGone
	result, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if err != nil || result.Run.FailedItems != 0 || result.Items != 1 {
		t.Fatalf("Backup = %+v, %v; want one item and no failure", result, err)
	}
	p.change(known, func(m *message) { m.Subject = "changed, then deleted" })
	p.failing[known] = engine.ErrItemGone
	result, err = b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if err != nil || result.Run.FailedItems != 0 || result.Items != 0 || result.Run.RemovedItems != 1 {
		t.Fatalf("Backup = %+v, %v; want it removed and no failure", result, err)
	}
}

func TestUnreachableProviderIsNotTheItemsFault(t *testing.T) {
	b, p := newBench(t), newProvider()
	down := &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, Text: "Microsoft does not answer."}
	good := p.add("inbox", "good", []byte("text"))
	b.run(p)
	for range 40 {
		p.failing[p.add("inbox", "not reachable", []byte("text"))] = down
	}
	p.during = func(call string) {
		if call == "Content" {
			p.do(func() { p.failing["Folders"] = down })
		}
	}
	_, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if backup.KindOf(err) != backup.ProblemUnavailable {
		t.Fatalf("Backup = %v, want problem unavailable", err)
	}
	if list := b.failed(); len(list) != 0 {
		t.Errorf("%d items are marked as failed, want none", len(list))
	}
	p.during, p.failing = nil, map[string]error{}
	b.run(p)
	if p.fetched[good] != 1 {
		t.Errorf("an item of before was fetched %d times, want once", p.fetched[good])
	}
}

func TestManyFailingItemsOfALivingProvider(t *testing.T) {
	b, p := newBench(t), newProvider()
	for range 40 {
		p.failing[p.add("inbox", "500 for ever", []byte("text"))] = &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, Text: "no"}
	}
	p.add("inbox", "fine", []byte("text"))
	if result := b.run(p); result.DamagedItems != 40 || result.Items != 41 {
		t.Errorf("result = %+v, want 40 of 41 damaged", result)
	}
}

func TestFolderThatFailsDoesNotKeepOthersFromBeingBackedUp(t *testing.T) {
	b, p := newBench(t), newProvider()
	moved := p.add("deleteditems", "moved into the failing folder", []byte("text"))
	p.add("inbox", "a", []byte("text"))
	b.run(p)
	fresh := p.add("sentitems", "b", []byte("text"))
	p.move(moved, "inbox")
	p.failing["inbox"] = &backup.Problem{Kind: backup.ProblemUnavailable, Text: "no"}
	_, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if backup.KindOf(err) != backup.ProblemUnavailable {
		t.Fatalf("Backup = %v, want the folder's problem", err)
	}
	if b.item(fresh).Damaged || b.item(moved).FolderID != "deleteditems" {
		t.Errorf("after the failure: %+v and %+v, want the new item kept and nothing concluded to be deleted", b.item(fresh), b.item(moved))
	}
	delete(p.failing, "inbox")
	if result := b.run(p); result.Run.MovedItems != 1 || p.fetched[moved] != 1 || p.fetched[fresh] != 1 {
		t.Errorf("result = %+v, want one moved, nothing fetched twice", result.Run)
	}
}

func TestErrorOfTheWholeMailboxEndsTheRun(t *testing.T) {
	b, p := newBench(t), newProvider()
	for range 30 {
		p.failing[p.add("inbox", "x", []byte("text"))] = &backup.Problem{Kind: backup.ProblemMailboxInactive, Text: "no licence"}
	}
	_, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if backup.KindOf(err) != backup.ProblemMailboxInactive || p.contents > 10 {
		t.Errorf("Backup = %v after %d contents, want an early end", err, p.contents)
	}
}

func TestRepositoryErrorsHaveASentence(t *testing.T) {
	for want, cause := range map[backup.ProblemKind]error{
		backup.ProblemDiskFull: syscall.ENOSPC, backup.ProblemRepository: errors.New("permission denied"),
	} {
		b, p := newBench(t), newProvider()
		p.add("inbox", "x", []byte("text"))
		b.storage.refuse = cause
		_, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
		problem := backup.AsProblem(err)
		if problem.Kind != want || problem.Text == "" || !errors.Is(err, cause) {
			t.Errorf("Backup = %v, want problem %s with a sentence", err, want)
		}
		b.storage.refuse = nil
		b.run(p)
	}
}

func TestProgressReportsWhatIsDone(t *testing.T) {
	b, p := newBench(t), newProvider()
	for range 30 {
		p.add("inbox", "x", []byte("text"))
	}
	var last backup.Run
	result, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p, Progress: func(r backup.Run) { last = r }})
	if err != nil {
		t.Fatal(err)
	}
	var filled backup.Run
	result.Fill(&filled)
	if last.FoldersDone != 3 || last.FoldersTotal != 3 || last.ItemsDone != 30 || last.ItemsTotal != 30 || last.NewItems != 30 || last.ReadBytes != 120 || last.StoredBytes == 0 {
		t.Errorf("last report = %+v, want all 3 folders and 30 items", last)
	}
	if filled.NewItems != 30 || filled.Snapshot != 1 || filled.ReadBytes != 120 {
		t.Errorf("filled run = %+v, want what was done", filled)
	}
}

// slowSource reads nothing: the point is how many are asked for at a time.
func TestFourContentsAtATime(t *testing.T) {
	b, p := newBench(t), newProvider()
	for range 40 {
		p.add("inbox", "x", []byte("text"))
	}
	var mu sync.Mutex
	now, most := 0, 0
	gate := make(chan struct{})
	src := gated{p, func() {
		mu.Lock()
		now++
		most = max(most, now)
		if now == 4 {
			close(gate)
			gate = make(chan struct{})
			now = 0
			mu.Unlock()
			return
		}
		wait := gate
		mu.Unlock()
		<-wait
	}}
	if _, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: src}); err != nil {
		t.Fatal(err)
	}
	if most != 4 {
		t.Errorf("%d contents were asked for at a time, want 4", most)
	}
}

// gated lets contents through in fours.
type gated struct {
	*provider
	pass func()
}

func (g gated) Content(ctx context.Context, id string) (io.ReadCloser, error) {
	g.pass()
	return g.provider.Content(ctx, id)
}

func TestBrokenTransferIsTheItemsFailure(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "breaks off", []byte("text"))
	src := breaking{p}
	result, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: src})
	if err != nil || result.DamagedItems != 1 {
		t.Fatalf("Backup = %+v, %v; want one damaged item", result, err)
	}
	b.run(p)
	if b.item(id).Damaged {
		t.Error("the item is still damaged")
	}
}

type breaking struct{ *provider }

func (breaking) Content(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("half a mess"), broken{})), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestItemTooLargeIsTheItemsFailure(t *testing.T) {
	if testing.Short() {
		t.Skip("reads more than 256 MiB")
	}
	b, p := newBench(t), newProvider()
	p.add("inbox", "too large", nil)
	result, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: endless{p}})
	if err != nil || result.DamagedItems != 1 {
		t.Fatalf("Backup = %+v, %v; want one damaged item", result, err)
	}
	if list := b.failed(); len(list) != 1 || !strings.Contains(list[0].Problem.Text, "larger") {
		t.Errorf("failed items = %+v, want the reason", list)
	}
}

type endless struct{ *provider }

func (endless) Content(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, repo.MaxContent+1)), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// failOnce is a storage whose nth upload fails when it is to be made durable.
type failOnce struct {
	repo.Storage
	left int
}

type failedUpload struct{ repo.Upload }

var errOnce = errors.New("503 service unavailable")

func (f *failOnce) Create(ctx context.Context, key string) (repo.Upload, error) {
	u, err := f.Storage.Create(ctx, key)
	if f.left--; err == nil && f.left == 0 {
		return failedUpload{u}, nil
	}
	return u, err
}

func (failedUpload) Commit(context.Context) error { return errOnce }

// TestNothingIsCommittedAfterACommitThatFailed lets one upload of a run with
// checkpoints fail, each at one time: the messages whose records went with it must
// not be in a later checkpoint of the same run.
func TestNothingIsCommittedAfterACommitThatFailed(t *testing.T) {
	for at := 1; ; at++ {
		memory := repo.NewMemory()
		b, p := openBench(t, openStore(t), memory), newProvider()
		p.add("inbox", "first", []byte("text"))
		b.run(p)
		for _, folder := range []string{"inbox", "sentitems", "deleteditems"} {
			for range 3 {
				p.add(folder, "x", randomText(random(t)))
			}
		}
		storage := &failOnce{memory, at}
		failing := openBench(t, b.store, storage)
		failing.Checkpoint = engine.Checkpoint{Items: 1}
		_, err := failing.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p, Concurrency: 1})
		if err != nil && !errors.Is(err, errOnce) || (err == nil) != (storage.left > 0) {
			t.Fatalf("upload %d failed: Backup = %v", at, err)
		}
		if report, err := openBench(t, b.store, memory).Verify(t.Context(), org, true); err != nil || len(report.Damaged) > 0 {
			t.Fatalf("upload %d failed: Verify says %q, %v", at, report.Damaged, err)
		}
		openBench(t, b.store, memory).run(p)
		if storage.left > 0 {
			return
		}
	}
}
