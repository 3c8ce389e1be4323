package engine_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"maps"
	"testing"

	"holdfast/backup"
	"holdfast/store"
)

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
