package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
)

// place is a mailbox in memory that messages are restored to.
type place struct {
	mu      sync.Mutex
	known   map[string]string // well-known name to folder
	folders map[string]string // folder to path of names
	items   []placed
	refuse  func(engine.Restored) error
	notes   func(engine.Restored) []string
	during  func()
	busy    int
	most    int
}

type placed struct {
	folder, key, text string
	by                backup.RestoreID
	engine.ItemState
}

func newPlace() *place {
	return &place{known: map[string]string{"inbox": "INBOX"}, folders: map[string]string{"INBOX": "Inbox"}}
}

func (p *place) WellKnown(_ context.Context, name string) (string, error) {
	if id, ok := p.known[name]; ok {
		return id, nil
	}
	return "", engine.ErrNoSuchFolder
}

func (p *place) Folder(_ context.Context, parent, name string) (string, error) {
	path := strings.TrimPrefix(p.folders[parent]+"/"+name, "/")
	for id, have := range p.folders {
		if have == path {
			return id, nil
		}
	}
	id := fmt.Sprintf("F%d", len(p.folders))
	p.folders[id] = path
	return id, nil
}

func (p *place) Present(_ context.Context, folder string) (func(engine.Restored) engine.Presence, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	there := map[string]backup.RestoreID{}
	for _, i := range p.items {
		if i.folder == folder {
			there[i.key] = i.by
		}
	}
	return func(m engine.Restored) engine.Presence {
		switch by, ok := there[m.Key]; {
		case !ok:
			return engine.Absent
		case by == m.Restore:
			return engine.Mine
		}
		return engine.There
	}, nil
}

func (p *place) Create(ctx context.Context, folder string, m engine.Restored) ([]string, error) {
	p.mu.Lock()
	p.busy++
	p.most = max(p.most, p.busy)
	p.mu.Unlock()
	defer func() { p.mu.Lock(); p.busy--; p.mu.Unlock() }()
	if p.during != nil {
		p.during()
	}
	if p.refuse != nil {
		if err := p.refuse(m); err != nil {
			return nil, err
		}
	}
	r := m.Open(ctx)
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.items = append(p.items, placed{folder: folder, key: m.Key, by: m.Restore, text: string(text), ItemState: m.ItemState})
	if p.notes != nil {
		return p.notes(m), nil
	}
	return nil, nil
}

// image is what a person finds: path, subject and text.
func (p *place) image() []string {
	var list []string
	for _, i := range p.items {
		list = append(list, p.folders[i.folder]+": "+i.Subject+": "+i.text)
	}
	slices.Sort(list)
	return list
}

func (b *bench) restore(r backup.Restore, target engine.Target) (backup.Restore, []backup.RestoreNote, error) {
	b.t.Helper()
	var notes []backup.RestoreNote
	r.OrgID, r.MailboxID = org, mailbox
	if r.Snapshot == 0 {
		r.Snapshot = b.newest()
	}
	if r.ID == "" {
		r.ID = backup.NewID[backup.RestoreID]()
	}
	got, err := b.Restore(b.t.Context(), engine.RestoreJob{Restore: r, Target: target,
		Note: func(_ context.Context, n backup.RestoreNote) error { notes = append(notes, n); return nil }})
	return got, notes, err
}

// restorable is a mailbox with a nested folder.
func restorable(t *testing.T) (*bench, *provider) {
	b, p := newBench(t), newProvider()
	p.folders["inbox"].WellKnown = "inbox"
	p.addFolder("projects", "", "Projects/2026")
	p.addFolder("deep", "projects", "Größe")
	for i := range 3 {
		p.add("inbox", fmt.Sprintf("in %d", i), fmt.Appendf(nil, "text %d", i))
	}
	p.add("projects", "plan", []byte("the plan"))
	p.add("deep", "detail", []byte("the detail"))
	b.run(p)
	return b, p
}

func TestRestoreToOriginalPlaces(t *testing.T) {
	b, p := restorable(t)
	p.change(p.add("inbox", "marked", []byte("m")), func(m *message) { m.Read, m.Flagged, m.Categories, m.Importance = true, true, []string{"Red"}, "high" })
	b.run(p)
	target := newPlace()
	got, notes, err := b.restore(backup.Restore{Scope: backup.RestoreMailbox, Place: backup.PlaceOriginal}, target)
	if err != nil || len(notes) > 0 || got.Restored != 6 || got.ItemsTotal != 6 || got.ItemsDone != 6 || got.Bytes != 6*3+8+10+1 {
		t.Fatalf("restore = %+v, %v, %v", got, notes, err)
	}
	want := []string{"Inbox: in 0: text 0", "Inbox: in 1: text 1", "Inbox: in 2: text 2", "Inbox: marked: m",
		"Projects/2026/Größe: detail: the detail", "Projects/2026: plan: the plan"}
	if !slices.Equal(target.image(), want) {
		t.Errorf("restored\n%s\nwant\n%s", strings.Join(target.image(), "\n"), strings.Join(want, "\n"))
	}
	for _, i := range target.items {
		if i.Subject == "marked" && (!i.Read || !i.Flagged || i.Importance != "high" || !slices.Equal(i.Categories, []string{"Red"}) || i.Received.IsZero() || len(i.Properties) == 0) {
			t.Errorf("state of the marked message = %+v", i.ItemState)
		}
	}
	if paths := slices.Sorted(maps.Values(target.folders)); !slices.Contains(paths, "The sentitems") {
		t.Errorf("folders = %v, want the empty ones too", paths)
	}
	if target.most > 4 {
		t.Errorf("%d messages were made at a time, want 4 at most", target.most)
	}
}

func TestRestoreOfAnOlderSnapshot(t *testing.T) {
	b, p := restorable(t)
	for id, m := range p.items {
		if m.FolderID == "inbox" {
			p.remove(id)
		}
	}
	b.run(p)
	target := newPlace()
	if got, _, err := b.restore(backup.Restore{Scope: backup.RestoreFolder, FolderID: "inbox", Snapshot: 1, Place: backup.PlaceOriginal}, target); err != nil || got.Restored != 3 {
		t.Errorf("restore of the first snapshot = %+v, %v, want 3", got, err)
	}
	target = newPlace()
	if got, _, err := b.restore(backup.Restore{Scope: backup.RestoreFolder, FolderID: "inbox", Place: backup.PlaceOriginal}, target); err != nil || got.Restored != 0 {
		t.Errorf("restore of the newest snapshot = %+v, %v, want nothing", got, err)
	}
	if _, _, err := b.restore(backup.Restore{Scope: backup.RestoreMailbox, Snapshot: 99, Place: backup.PlaceOriginal}, target); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("restore of no snapshot = %v, want not found", err)
	}
	if _, _, err := b.restore(backup.Restore{Scope: backup.RestoreFolder, FolderID: "nowhere", Place: backup.PlaceOriginal}, target); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("restore of no folder = %v, want not found", err)
	}
}

func TestRestoreBelowOneFolder(t *testing.T) {
	b, p := restorable(t)
	target := newPlace()
	into := backup.Restore{Scope: backup.RestoreFolder, FolderID: "projects", Place: backup.PlaceFolder, FolderName: "Restored 2026-11-29"}
	if _, _, err := b.restore(into, target); err != nil {
		t.Fatal(err)
	}
	want := []string{"Restored 2026-11-29/Projects/2026/Größe: detail: the detail", "Restored 2026-11-29/Projects/2026: plan: the plan"}
	if !slices.Equal(target.image(), want) {
		t.Errorf("restored %q, want %q", target.image(), want)
	}
	target = newPlace()
	var item string
	for id, m := range p.items {
		if m.Subject == "in 1" {
			item = id
		}
	}
	into.Scope, into.FolderID, into.ItemID = backup.RestoreMessage, "inbox", b.item(item).ID
	got, _, err := b.restore(into, target)
	if err != nil || got.ItemsTotal != 1 || !slices.Equal(target.image(), []string{"Restored 2026-11-29: in 1: text 1"}) {
		t.Errorf("restore of one message = %+v, %v: %q", got, err, target.image())
	}
	into.FolderID = "projects"
	if _, _, err := b.restore(into, target); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("restore of a message from another folder = %v, want not found", err)
	}
}

func TestRestoringTwiceMakesNoDuplicates(t *testing.T) {
	b, _ := restorable(t)
	target, all := newPlace(), backup.Restore{Scope: backup.RestoreMailbox, Place: backup.PlaceOriginal}
	for i, want := range []struct{ restored, skipped int64 }{{5, 0}, {0, 5}} {
		got, _, err := b.restore(all, target)
		if err != nil || got.Restored != want.restored || got.Skipped != want.skipped || got.ItemsDone != 5 {
			t.Errorf("restore %d = %+v, %v, want %+v", i+1, got, err, want)
		}
	}
	all.Copies, all.ID = true, "AGAIN"
	for range 2 { // the second time it was interrupted and goes on
		if got, _, err := b.restore(all, target); err != nil || got.Restored != 5 || got.Skipped != 0 {
			t.Errorf("restore of copies = %+v, %v, want 5", got, err)
		}
	}
	if len(target.items) != 10 {
		t.Errorf("the target has %d messages, want 10", len(target.items))
	}
}

func TestRestoreTellsWhatItCouldNot(t *testing.T) {
	b, p := restorable(t)
	p.failing[p.add("inbox", "unreadable", nil)] = &backup.Problem{Kind: backup.ProblemItems, Text: "damaged"}
	if _, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p}); err != nil {
		t.Fatal(err)
	}
	target := newPlace()
	target.refuse = func(m engine.Restored) error {
		if m.Subject == "plan" {
			return &backup.Problem{Kind: backup.ProblemItems, Text: "Too large."}
		}
		return nil
	}
	target.notes = func(m engine.Restored) []string {
		if m.Subject == "detail" {
			return []string{"One thing.", "Another."}
		}
		return nil
	}
	got, notes, err := b.restore(backup.Restore{Scope: backup.RestoreMailbox, Place: backup.PlaceOriginal}, target)
	if err != nil || got.Restored != 4 || got.Failed != 2 || got.Altered != 1 || got.ItemsDone != 6 {
		t.Errorf("restore = %+v, %v", got, err)
	}
	said := map[string]string{}
	for _, n := range notes {
		said[n.Folder+": "+n.Subject] = fmt.Sprint(n.Altered, " ", n.Reason)
	}
	if said["Projects/2026: plan"] != "false Too large." || said["Projects/2026 / Größe: detail"] != "true One thing. Another." || !strings.Contains(said["The inbox: unreadable"], "nothing to restore") {
		t.Errorf("notes = %q", said)
	}
}

func TestRestoreEndsWithItsTarget(t *testing.T) {
	b, _ := restorable(t)
	target := newPlace()
	full := &backup.Problem{Kind: backup.ProblemUnavailable, Text: "The mailbox is full."}
	target.refuse = func(engine.Restored) error { return fmt.Errorf("%w: %w", engine.ErrTargetClosed, full) }
	_, _, err := b.restore(backup.Restore{Scope: backup.RestoreMailbox, Place: backup.PlaceOriginal}, target)
	if backup.AsProblem(err) != full || len(target.items) != 0 {
		t.Errorf("restore to a full mailbox = %v with %d messages", err, len(target.items))
	}
}

func TestInterruptedRestoreGoesOn(t *testing.T) {
	b, p := newBench(t), newProvider()
	for i := range 600 { // more than a page
		p.add("inbox", fmt.Sprint(i), fmt.Append(nil, "text ", i))
	}
	b.run(p)
	target, once := newPlace(), sync.Once{}
	stopped := errors.New("stopped by a person")
	ctx, cancel := context.WithCancelCause(t.Context())
	made := 0
	target.notes = func(engine.Restored) []string {
		if made++; made == 250 {
			once.Do(func() { cancel(stopped) })
		}
		return nil
	}
	job := engine.RestoreJob{Restore: backup.Restore{ID: "R1", OrgID: org, MailboxID: mailbox, Snapshot: 1, Scope: backup.RestoreMailbox, Place: backup.PlaceOriginal}, Target: target}
	first, err := b.Restore(ctx, job)
	if !errors.Is(err, context.Canceled) && !errors.Is(err, stopped) {
		t.Fatalf("cancelled restore = %v, want the context's error", err)
	}
	if n := len(target.items); n < 250 || n > 260 || first.Restored > int64(n) {
		t.Fatalf("cancelled after %d messages with %d counted, want about 250", n, first.Restored)
	}
	second, err := b.Restore(t.Context(), job)
	if err != nil || second.Restored != 600 || second.Skipped != 0 {
		t.Errorf("second part = %+v, %v, want all 600 counted as restored", second, err)
	}
	if len(target.items) != 600 {
		t.Errorf("the target has %d messages, want 600", len(target.items))
	}
}

// missing is a storage that has lost its first pack of content.
type missing struct {
	repo.Storage
	lost string
}

func (m missing) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if key == m.lost {
		return nil, repo.ErrNotExist
	}
	return m.Storage.Open(ctx, key, offset, length)
}

func TestDamageIsToldAndTheRestIsRestored(t *testing.T) {
	b, p := restorable(t)
	first := map[string]bool{}
	for e, err := range b.storage.List(t.Context(), "t/"+string(org)+"/d/") {
		if err != nil {
			t.Fatal(err)
		}
		first[e.Key] = true
	}
	p.add("deep", "later", []byte("in another pack"))
	b.run(p)
	if len(first) != 1 {
		t.Fatalf("packs = %v, want one", first)
	}
	for lost := range first {
		b.Repo = must[*repo.Repository](t)(repo.Open(t.Context(), missing{b.storage.Storage, lost}, b.store, b.store, repo.Options{}))
	}
	target := newPlace()
	got, notes, err := b.restore(backup.Restore{Scope: backup.RestoreMailbox, Place: backup.PlaceOriginal}, target)
	if err != nil || got.Failed != 5 || got.Restored != 1 || len(notes) != 5 {
		t.Errorf("restore from a damaged repository = %+v, %v with %d notes, want 5 failed and 1 restored", got, err, len(notes))
	}
	if want := []string{"Projects/2026/Größe: later: in another pack"}; !slices.Equal(target.image(), want) {
		t.Errorf("restored %q, want %q", target.image(), want)
	}
	for _, n := range notes {
		if n.Subject == "" || !strings.Contains(n.Reason, "backup storage") {
			t.Errorf("note = %+v, want the subject and that the storage is damaged", n)
		}
	}
}
