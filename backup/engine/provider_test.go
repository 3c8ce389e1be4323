package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// provider is a mailbox at a provider that behaves as Exchange Online is
// documented to: immutable ids, a version that changes with every change,
// changes per folder since a cursor in pages that may be empty or repeat
// themselves, cursors that expire, items that can't be read.
type provider struct {
	mu      sync.Mutex
	folders map[string]*engine.Folder
	items   map[string]*message
	events  []event
	expired int // cursors before this position are no longer known
	next    int

	pageSize   int
	emptyPages bool // an empty page before each page
	repeat     bool // every page comes twice, and its last item once more in the next
	noTracking bool // no cursor at the end: the folder is listed each time

	failing map[string]error // content of these items
	during  func(call string)

	calls    map[string]int
	fetched  map[string]int
	contents int
}

type message struct {
	engine.ItemState
	text []byte
}

// event is something that happened to an item in a folder, or to a folder.
type event struct {
	folder string
	item   string // "" for the folder itself
}

func newProvider() *provider {
	p := &provider{folders: map[string]*engine.Folder{}, items: map[string]*message{}, failing: map[string]error{}, calls: map[string]int{}, fetched: map[string]int{}, pageSize: 10}
	for _, name := range []string{"inbox", "sentitems", "deleteditems"} {
		p.addFolder(name, "", "The "+name)
	}
	return p
}

func (p *provider) id(kind string) string {
	p.next++
	return fmt.Sprintf("%s-AAMkAGI2THVSAAA=%d", kind, p.next)
}

func (p *provider) addFolder(id, parent, name string) string {
	p.folders[id] = &engine.Folder{ID: id, ParentID: parent, Name: name}
	p.events = append(p.events, event{folder: id})
	return id
}

func (p *provider) renameFolder(id, name string) {
	p.folders[id].Name = name
	p.events = append(p.events, event{folder: id})
}

// removeFolder deletes a folder with everything in it.
func (p *provider) removeFolder(id string) {
	for item, m := range p.items {
		if m.FolderID == id {
			p.remove(item)
		}
	}
	for child, f := range p.folders {
		if f.ParentID == id {
			p.removeFolder(child)
		}
	}
	delete(p.folders, id)
	p.events = append(p.events, event{folder: id})
}

func (p *provider) add(folder, subject string, text []byte) string {
	id := p.id("item")
	at := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC).Add(time.Duration(p.next) * time.Minute)
	p.items[id] = &message{text: text, ItemState: engine.ItemState{ID: id, FolderID: folder, Subject: subject, From: "Ada Lovelace <ada@example.org>",
		To: "bob@example.org", Received: at, Sent: at.Add(-time.Second), Importance: "normal", InternetMessageID: "<" + id + "@example.org>"}}
	p.touch(id)
	return id
}

// touch gives an item a new version and tells its folder.
func (p *provider) touch(id string) {
	m := p.items[id]
	p.next++
	m.Version = "CQAAABYAAAD" + strconv.Itoa(p.next)
	m.Properties = fmt.Appendf(nil, `{"id":%q,"changeKey":%q,"isRead":%v}`, id, m.Version, m.Read)
	p.events = append(p.events, event{m.FolderID, id})
}

func (p *provider) move(id, folder string) {
	m := p.items[id]
	p.events = append(p.events, event{m.FolderID, id})
	m.FolderID = folder
	p.touch(id)
}

func (p *provider) change(id string, f func(*message)) {
	f(p.items[id])
	p.touch(id)
}

func (p *provider) remove(id string) {
	p.events = append(p.events, event{p.items[id].FolderID, id})
	delete(p.items, id)
}

func (p *provider) expire() { p.expired = len(p.events) + 1 }

// do makes changes under the lock.
func (p *provider) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *provider) called(call string) {
	p.mu.Lock()
	p.calls[call]++
	p.mu.Unlock()
	if p.during != nil {
		p.during(call)
	}
}

// Cursors are positions in events, counted from 1, so that none is "".
func (p *provider) position(cursor string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(cursor, "since-"))
	if err != nil || n < p.expired {
		return 0, fmt.Errorf("cursor %q: %w", cursor, engine.ErrCursorExpired)
	}
	return n - 1, nil
}

func (p *provider) cursor() string { return "since-" + strconv.Itoa(len(p.events)+1) }

func (p *provider) Folders(_ context.Context, cursor string) (engine.FolderChanges, error) {
	p.called("Folders")
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.failing["Folders"]; err != nil {
		return engine.FolderChanges{}, err
	}
	out := engine.FolderChanges{Full: cursor == "", Cursor: p.cursor()}
	names := slices.Sorted(maps.Keys(p.folders))
	if cursor != "" {
		from, err := p.position(cursor)
		if err != nil {
			return out, err
		}
		names = nil
		for _, e := range p.events[from:] {
			if e.item == "" && !slices.Contains(names, e.folder) {
				names = append(names, e.folder)
			}
		}
	}
	for _, id := range names {
		f, ok := p.folders[id]
		if !ok {
			out.Removed = append(out.Removed, id)
			continue
		}
		with := *f
		for _, m := range p.items {
			if m.FolderID == id {
				with.Items++
			}
		}
		out.Folders = append(out.Folders, with)
	}
	return out, nil
}

func (p *provider) Changes(_ context.Context, folder, cursor string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		p.called("Changes " + folder)
		p.mu.Lock()
		pages, err := p.changes(folder, cursor)
		p.mu.Unlock()
		for _, page := range pages {
			if !yield(page, nil) {
				return
			}
		}
		if err != nil {
			yield(engine.Page{}, err)
		}
	}
}

func (p *provider) changes(folder, cursor string) ([]engine.Page, error) {
	if err := p.failing[folder]; err != nil {
		return nil, err
	}
	if p.folders[folder] == nil {
		return nil, fmt.Errorf("folder %s: %w", folder, engine.ErrItemGone)
	}
	var ids []string
	if cursor == "" {
		for id, m := range p.items {
			if m.FolderID == folder {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
	} else {
		from, err := p.position(cursor)
		if err != nil {
			return nil, err
		}
		for _, e := range p.events[from:] {
			if e.folder == folder && e.item != "" && !slices.Contains(ids, e.item) {
				ids = append(ids, e.item)
			}
		}
	}
	return p.pages(folder, ids, cursor == ""), nil
}

func (p *provider) pages(folder string, ids []string, full bool) []engine.Page {
	var pages []engine.Page
	var last *engine.ItemState
	for part := range slices.Chunk(ids, p.pageSize) {
		page := engine.Page{Full: full}
		if last != nil && p.repeat {
			page.Items = append(page.Items, *last)
		}
		for _, id := range part {
			if m := p.items[id]; m != nil && m.FolderID == folder {
				page.Items = append(page.Items, m.ItemState)
				last = &page.Items[len(page.Items)-1]
			} else {
				page.Removed = append(page.Removed, id)
			}
		}
		if p.emptyPages {
			pages = append(pages, engine.Page{Full: full})
		}
		pages = append(pages, page)
		if p.repeat {
			page.Items = append(slices.Clone(page.Items), page.Items...)
			pages = append(pages, page)
		}
	}
	end := engine.Page{Full: full, Cursor: p.cursor()}
	if p.noTracking {
		end.Cursor, end.Full = "", true
	}
	return append(pages, end)
}

func (p *provider) Content(ctx context.Context, id string) (io.ReadCloser, error) {
	p.called("Content")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contents++
	p.fetched[id]++
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.failing[id]; err != nil {
		return nil, err
	}
	m := p.items[id]
	if m == nil {
		return nil, fmt.Errorf("message %s: %w", id, engine.ErrItemGone)
	}
	return io.NopCloser(bytes.NewReader(m.text)), nil
}

// calm resets what was counted.
func (p *provider) calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.calls)
	clear(p.fetched)
	p.contents = 0
}

// image is a mailbox as a snapshot has to show it: one line per folder and item.
func (p *provider) image() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]string{}
	for id, f := range p.folders {
		parent := f.ParentID
		if p.folders[parent] == nil {
			parent = ""
		}
		n := 0
		for _, m := range p.items {
			if m.FolderID == id {
				n++
			}
		}
		out["folder "+id] = fmt.Sprintf("%q in %q, %d items", f.Name, parent, n)
	}
	for id, m := range p.items {
		text := string(m.text)
		if p.failing[id] != nil {
			text = "?"
		}
		out["item "+id] = imageOf(m.FolderID, m.Subject, m.From, m.To, m.Received, m.Sent, m.Read, m.Draft, m.Flagged, m.Importance, m.Categories, text)
	}
	return out
}

func imageOf(folder, subject, from, to string, received, sent time.Time, read, draft, flagged bool, importance string, categories []string, text string) string {
	if len(text) > 40 {
		text = fmt.Sprintf("%s…%d bytes, sum %x", text[:20], len(text), sum(text))
	}
	return fmt.Sprintf("%s | %q | %q | %q | %d %d | %v %v %v %s %q | %q", folder, subject, from, to, received.UnixMilli(), sent.UnixMilli(), read, draft, flagged, importance, categories, text)
}

func sum(text string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return h
}

// randomText makes a message with a boundary of its own, like Exchange does.
func randomText(r *rand.Rand) []byte {
	n := r.IntN(600)
	if r.IntN(20) == 0 {
		n = 60_000 + r.IntN(100_000)
	}
	b := []byte("Subject: x\r\n\r\n")
	for range n {
		b = append(b, byte('a'+r.IntN(26)))
	}
	return b
}

var errCorrupt = &backup.Problem{Kind: backup.ProblemItems, Text: "Microsoft can't read this message.", Code: "ErrorCorruptData", Status: 500, Err: errors.New("corrupt")}

var _ engine.Source = (*provider)(nil)

// must fails the test on an error.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
