package engine_test

import (
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
)

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
