package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

const (
	org     = backup.OrgID("ORG1")
	mailbox = backup.MailboxID("MAILBOX1")
)

// bench is an engine on a real store and repository.
type bench struct {
	*engine.Engine
	t       testing.TB
	store   *store.Store
	storage *watched
	engine  *engine.Engine
}

// watched is a storage that counts what is written, and may refuse it.
type watched struct {
	repo.Storage
	created int
	refuse  error
}

func (w *watched) Create(ctx context.Context, key string) (repo.Upload, error) {
	if w.refuse != nil {
		return nil, w.refuse
	}
	w.created++
	return w.Storage.Create(ctx, key)
}

func newBench(t testing.TB) *bench {
	t.Helper()
	return openBench(t, openStore(t), repo.NewMemory())
}

func openBench(t testing.TB, st *store.Store, storage repo.Storage) *bench {
	t.Helper()
	w := &watched{Storage: storage}
	r := must[*repo.Repository](t)(repo.Open(t.Context(), w, st, st, repo.Options{}))
	e := &engine.Engine{Repo: r, Catalog: st}
	return &bench{Engine: e, t: t, store: st, storage: w, engine: e}
}

// openStore opens an empty database: SQLite, or PostgreSQL if TEST_POSTGRES
// names a server.
func openStore(t testing.TB) *store.Store {
	t.Helper()
	if os.Getenv("TEST_POSTGRES") != "" {
		return storetest.At(t, storetest.Postgres(t))
	}
	return storetest.Open(t)
}

// run backs the mailbox up and checks that the newest snapshot is what the
// provider has.
func (b *bench) run(p *provider) engine.Result {
	b.t.Helper()
	result, err := b.Backup(b.t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if err != nil {
		b.t.Fatalf("Backup: %v", err)
	}
	b.check(b.newest(), p.image())
	return result
}

func (b *bench) newest() int64 {
	b.t.Helper()
	list := must[[]backup.Snapshot](b.t)(b.store.Snapshots(b.t.Context(), org, mailbox))
	if len(list) == 0 {
		b.t.Fatal("there is no snapshot")
	}
	return list[0].Seq
}

// check compares a snapshot with what it has to show.
func (b *bench) check(seq int64, want map[string]string) {
	b.t.Helper()
	diff(b.t, seq, b.image(seq), want)
}

func diff(t testing.TB, seq int64, got, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got[key] != value {
			t.Errorf("snapshot %d: %s = %s, want %s", seq, key, got[key], value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			t.Errorf("snapshot %d has %s = %s, want none", seq, key, got[key])
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// image reads a snapshot through the catalog, and every content.
func (b *bench) image(seq int64) map[string]string {
	b.t.Helper()
	out := map[string]string{}
	for _, f := range must[[]backup.Folder](b.t)(b.store.Folders(b.t.Context(), org, mailbox, seq)) {
		out["folder "+f.ID] = folderImage(f)
	}
	for page := 1; ; page++ {
		items, total, err := b.store.Items(b.t.Context(), org, mailbox, seq, store.ItemQuery{Page: page, PageSize: 7})
		if err != nil {
			b.t.Fatal(err)
		}
		for _, i := range items {
			text := "?"
			if !i.Damaged {
				text = b.read(i.ID)
			}
			out["item "+i.ProviderID] = imageOf(i.FolderID, i.Subject, i.From, i.To, i.ReceivedAt, i.SentAt, i.Read, i.Draft, i.Flagged, i.Importance, i.Categories, text)
		}
		if int64(page*7) >= total {
			return out
		}
	}
}

func (b *bench) read(id backup.ItemID) string {
	b.t.Helper()
	var text bytes.Buffer
	if err := b.WriteItem(b.t.Context(), org, mailbox, id, &text); err != nil {
		b.t.Fatalf("WriteItem(%s): %v", id, err)
	}
	return text.String()
}

// item finds an item of the newest snapshot by its provider's id.
func (b *bench) item(providerID string) backup.Item {
	b.t.Helper()
	items, _, err := b.store.Items(b.t.Context(), org, mailbox, b.newest(), store.ItemQuery{PageSize: 10_000})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, i := range items {
		if i.ProviderID == providerID {
			return i
		}
	}
	b.t.Fatalf("item %s is not in the newest snapshot", providerID)
	return backup.Item{}
}

func TestUnchangedRunWritesNothing(t *testing.T) {
	b, p := newBench(t), newProvider()
	for range 25 {
		p.add("inbox", "hello", []byte("text"))
	}
	first := b.run(p)
	if first.Snapshot != 1 || first.Items != 25 || first.Run.NewItems != 25 || first.SizeBytes != 100 {
		t.Errorf("first run = %+v, want snapshot 1 with 25 new items", first)
	}
	p.calm()
	b.storage.created = 0
	second := b.run(p)
	if second.Snapshot != 0 || second.Items != 25 {
		t.Errorf("second run = %+v, want no snapshot and 25 items", second)
	}
	if b.storage.created != 0 {
		t.Errorf("unchanged run created %d objects, want none", b.storage.created)
	}
	want := map[string]int{"Folders": 1, "Changes inbox": 1, "Changes sentitems": 1, "Changes deleteditems": 1}
	if !maps.Equal(p.calls, want) {
		t.Errorf("calls of an unchanged run = %v, want %v", p.calls, want)
	}
}

func TestUnchangedRunKeepsTheNewestCursor(t *testing.T) {
	b, p := newBench(t), newProvider()
	p.add("inbox", "hello", []byte("text"))
	b.run(p)
	p.add("sentitems", "elsewhere", []byte("text"))
	b.run(p)
	b.run(p)
	p.expired = len(p.events) + 1 // only cursors given just now are still known
	p.calm()
	b.run(p)
	for call, n := range p.calls {
		if n != 1 {
			t.Errorf("%s was called %d times, want once: the newest cursor was not kept", call, n)
		}
	}
}

func TestMoveIsNoCopy(t *testing.T) {
	for _, order := range [][2]string{{"inbox", "sentitems"}, {"sentitems", "inbox"}, {"deleteditems", "inbox"}, {"inbox", "deleteditems"}} {
		b, p := newBench(t), newProvider()
		id := p.add(order[0], "moving", []byte("text"))
		p.add(order[0], "staying", []byte("other"))
		b.run(p)
		before := b.item(id)
		p.calm()
		p.move(id, order[1])
		result := b.run(p)
		if p.contents != 0 {
			t.Errorf("a move from %s to %s fetched %d contents, want none", order[0], order[1], p.contents)
		}
		if c := result.Run; c.MovedItems != 1 || c.NewItems != 0 || c.RemovedItems != 0 || c.ChangedItems != 0 {
			t.Errorf("a move from %s to %s counted as %+v, want one moved", order[0], order[1], c)
		}
		if after := b.item(id); after.ID != before.ID {
			t.Errorf("a move gave the item the id %s, want %s as before", after.ID, before.ID)
		}
	}
}

func TestFlagsDoNotFetchContent(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "flags", []byte("text"))
	b.run(p)
	for name, change := range map[string]func(*message){
		"read": func(m *message) { m.Read = true }, "flag": func(m *message) { m.Flagged = true },
		"categories": func(m *message) { m.Categories = []string{"Red", "Grün"} }, "importance": func(m *message) { m.Importance = "high" },
	} {
		p.calm()
		p.change(id, change)
		if result := b.run(p); p.contents != 0 || result.Run.ChangedItems != 1 {
			t.Errorf("%s: %d contents fetched, %d items changed; want none and 1", name, p.contents, result.Run.ChangedItems)
		}
	}
}

func TestContentIsReadAgainWhenItMayHaveChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*message)
		newItem bool
	}{
		"unseen change with the same text": {func(*message) {}, false},
		"unseen change of the text":        {func(m *message) { m.text = []byte("changed") }, true},
		"subject":                          {func(m *message) { m.Subject, m.text = "new", []byte("new text") }, true},
		"size":                             {func(m *message) { m.Size, m.text = 99, []byte("longer text") }, true},
	} {
		b, p := newBench(t), newProvider()
		id := p.add("inbox", "old", []byte("text"))
		p.change(id, func(m *message) { m.Size = 50 })
		b.run(p)
		before, seq := b.item(id), b.newest()
		old := b.image(seq)
		p.calm()
		p.change(id, c.change)
		b.run(p)
		if p.fetched[id] != 1 {
			t.Errorf("%s: content fetched %d times, want once", name, p.fetched[id])
		}
		if after := b.item(id); (after.ID != before.ID) != c.newItem {
			t.Errorf("%s: id %s after %s, want a new one: %v", name, after.ID, before.ID, c.newItem)
		}
		b.check(seq, old)
	}
}

func TestDraftIsReadAgainAtEveryChange(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "draft", []byte("first words"))
	p.change(id, func(m *message) { m.Draft = true })
	b.run(p)
	p.change(id, func(m *message) { m.text, m.Read = []byte("first words and more"), true })
	b.run(p)
	p.change(id, func(m *message) { m.text, m.Draft, m.FolderID = []byte("what was sent"), false, "inbox" })
	b.run(p)
	if p.fetched[id] != 3 {
		t.Errorf("draft fetched %d times, want 3", p.fetched[id])
	}
}

func TestDeletedMailStaysInEarlierSnapshots(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "to be deleted", []byte("precious"))
	p.add("inbox", "kept", []byte("also"))
	b.run(p)
	before := p.image()
	item := b.item(id)
	p.remove(id)
	if result := b.run(p); result.Run.RemovedItems != 1 || result.Items != 1 {
		t.Errorf("result = %+v, want 1 removed and 1 left", result)
	}
	b.check(1, before)
	if got := b.read(item.ID); got != "precious" {
		t.Errorf("deleted item reads %q, want its text", got)
	}
	if _, err := b.store.Item(t.Context(), org, mailbox, 2, item.ID); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("Item in the snapshot after its deletion: %v, want ErrNotFound", err)
	}
	if got, err := b.store.Item(t.Context(), org, mailbox, 1, item.ID); err != nil || got.Subject != "to be deleted" {
		t.Errorf("Item in the snapshot before its deletion = %+v, %v", got, err)
	}
}

func TestItemThatComesBackIsNotFetchedAgain(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "boomerang", []byte("text"))
	b.run(p)
	kept := p.items[id]
	p.remove(id)
	b.run(p)
	p.items[id] = kept
	p.touch(id)
	b.run(p)
	if p.fetched[id] != 1 {
		t.Errorf("content fetched %d times, want once", p.fetched[id])
	}
}

func TestExpiredCursorListsWithoutCopiesOrFalseDeletions(t *testing.T) {
	b, p := newBench(t), newProvider()
	var ids []string
	for range 35 {
		ids = append(ids, p.add("inbox", "hello", randomText(random(t))))
	}
	b.run(p)
	p.calm()
	p.expire()
	b.storage.created = 0
	b.run(p)
	if p.contents != 0 || b.storage.created != 0 {
		t.Errorf("expired cursors without a change fetched %d contents and created %d objects, want none", p.contents, b.storage.created)
	}
	p.remove(ids[3])
	p.move(ids[4], "deleteditems")
	fresh := p.add("inbox", "new", []byte("new"))
	p.change(ids[5], func(m *message) { m.Read = true })
	p.expire()
	result := b.run(p)
	if c := result.Run; c.NewItems != 1 || c.MovedItems != 1 || c.RemovedItems != 1 || c.ChangedItems != 1 || p.contents != 1 || p.fetched[fresh] != 1 {
		t.Errorf("after an expired cursor: %+v and %d contents, want one of each and one content", c, p.contents)
	}
}

func TestFolderWithoutTrackingIsListedEachTime(t *testing.T) {
	b, p := newBench(t), newProvider()
	p.noTracking = true
	id := p.add("inbox", "hello", []byte("text"))
	gone := p.add("inbox", "bye", []byte("text"))
	b.run(p)
	b.storage.created = 0
	b.run(p)
	if b.storage.created != 0 || p.fetched[id] != 1 {
		t.Errorf("unchanged listing created %d objects and fetched %d times, want 0 and once", b.storage.created, p.fetched[id])
	}
	p.remove(gone)
	b.run(p)
}

func TestPagesMayBeEmptyAndRepeat(t *testing.T) {
	b, p := newBench(t), newProvider()
	p.emptyPages, p.repeat, p.pageSize = true, true, 3
	var ids []string
	for range 20 {
		ids = append(ids, p.add("inbox", "hello", []byte("text")))
	}
	if result := b.run(p); result.Run.NewItems != 20 || p.contents != 20 {
		t.Errorf("%d new items and %d contents, want 20 of each", result.Run.NewItems, p.contents)
	}
	for i, id := range ids {
		switch i % 3 {
		case 0:
			p.remove(id)
		case 1:
			p.move(id, "deleteditems")
		}
	}
	result := b.run(p)
	if c := result.Run; c.RemovedItems != 7 || c.MovedItems != 7 || p.contents != 20 {
		t.Errorf("%+v and %d contents, want 7 removed, 7 moved, 20 contents", c, p.contents)
	}
}

func TestFoldersChange(t *testing.T) {
	b, p := newBench(t), newProvider()
	parent := p.addFolder("projects", "inbox", "Projects / 2026 \x00")
	child := p.addFolder("alpha", parent, "Älpha")
	p.folders[parent].Name = "Projects / 2026"
	id := p.add(child, "in a folder", []byte("text"))
	lost := p.add(child, "deleted with it", []byte("text"))
	b.run(p)
	p.renameFolder(child, "Beta")
	p.addFolder("empty", "", "Empty")
	b.run(p)
	before := p.image()
	p.move(id, "inbox")
	p.removeFolder(parent)
	result := b.run(p)
	if c := result.Run; c.MovedItems != 1 || c.RemovedItems != 1 || p.fetched[id] != 1 {
		t.Errorf("%+v, want one moved and one removed with its folder", c)
	}
	b.check(2, before)
	p.addFolder(parent, "inbox", "Projects again")
	p.add(parent, "new in it", []byte("text"))
	b.run(p)
	_ = lost
}

func TestFolderThatVanishesDuringTheRun(t *testing.T) {
	b, p := newBench(t), newProvider()
	p.addFolder("zz", "", "Last")
	p.add("zz", "in it", []byte("text"))
	p.add("inbox", "stays", []byte("text"))
	b.run(p)
	p.during = func(call string) {
		if call == "Changes inbox" {
			p.do(func() { p.removeFolder("zz") })
		}
	}
	if result := b.run(p); result.Run.RemovedItems != 1 {
		t.Errorf("result = %+v, want one removed", result.Run)
	}
}

func TestListWithoutAnyFolderIsNotBelieved(t *testing.T) {
	b, p := newBench(t), newProvider()
	p.add("inbox", "hello", []byte("text"))
	b.run(p)
	before := p.image()
	p.expire()
	p.folders = map[string]*engine.Folder{}
	_, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if backup.KindOf(err) != backup.ProblemUnavailable {
		t.Errorf("Backup = %v, want problem unavailable", err)
	}
	b.check(b.newest(), before)
}

func TestMoveBetweenTwoReadingsIsNoDeletion(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("sentitems", "moving right now", []byte("text"))
	b.run(p)
	p.during = func(call string) {
		// deleteditems was read already when sentitems is asked.
		if call == "Changes sentitems" && p.items[id].FolderID == "sentitems" {
			p.do(func() { p.move(id, "deleteditems") })
		}
	}
	result := b.run(p)
	if c := result.Run; c.RemovedItems != 0 || c.MovedItems != 1 || p.fetched[id] != 1 {
		t.Errorf("%+v and %d fetches, want one moved and no other fetch", c, p.fetched[id])
	}
	p.during = nil
	b.run(p)
}

func TestHugeAndEmptyItems(t *testing.T) {
	b, p := newBench(t), newProvider()
	huge := make([]byte, 40<<20)
	for i := range huge {
		huge[i] = byte(i * i >> 7)
	}
	id := p.add("inbox", "huge", huge)
	p.add("inbox", "empty", nil)
	b.run(p)
	var hash = sha256.New()
	if err := b.WriteItem(t.Context(), org, mailbox, b.item(id).ID, hash); err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(huge); !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("the huge item reads other bytes than were stored")
	}
}

func TestEmptyMailbox(t *testing.T) {
	b, p := newBench(t), newProvider()
	if result := b.run(p); result.Snapshot != 1 || result.Items != 0 {
		t.Errorf("result = %+v, want an empty snapshot", result)
	}
	b.storage.created = 0
	if b.run(p); b.storage.created != 0 {
		t.Errorf("second run created %d objects, want none", b.storage.created)
	}
}

func TestAnotherOrganizationSeesNothing(t *testing.T) {
	b, p := newBench(t), newProvider()
	id := p.add("inbox", "secret", []byte("text"))
	b.run(p)
	item, ctx := b.item(id), t.Context()
	const other = backup.OrgID("ORG2")
	if err := b.WriteItem(ctx, other, mailbox, item.ID, &bytes.Buffer{}); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("WriteItem for another organization: %v, want ErrNotFound", err)
	}
	if err := b.WriteItem(ctx, org, "OTHER", item.ID, &bytes.Buffer{}); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("WriteItem for another mailbox: %v, want ErrNotFound", err)
	}
	if list, err := b.store.Snapshots(ctx, other, mailbox); err != nil || len(list) != 0 {
		t.Errorf("Snapshots for another organization = %v, %v, want none", list, err)
	}
	if _, err := b.store.Folders(ctx, other, mailbox, 1); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("Folders for another organization: %v, want ErrNotFound", err)
	}
	if _, _, err := b.store.Items(ctx, other, mailbox, 1, store.ItemQuery{}); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("Items for another organization: %v, want ErrNotFound", err)
	}
	if _, err := b.store.Item(ctx, other, mailbox, 1, item.ID); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("Item for another organization: %v, want ErrNotFound", err)
	}
}
