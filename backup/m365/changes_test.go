package m365_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

const frank = "frank@fabrikamlegal.onmicrosoft.com"

// frankBox is a small mailbox that was read once.
func frankBox(t *testing.T) (*world, *m365.Mailbox, listing) {
	t.Helper()
	w := newWorld(t, func(o *simulator.Options) { o.Mail = simulator.SampleMail() })
	app := w.mailApp("admin@fabrikamlegal.onmicrosoft.com")
	box := app.Mailbox(accountID(t, app, "frank@"))
	return w, box, read(t, box)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// since reads what changed after a listing: what came, what left, by folder.
func since(t *testing.T, box *m365.Mailbox, l listing) (engine.FolderChanges, map[string][]engine.ItemState, map[string][]string) {
	t.Helper()
	folders, err := box.Folders(t.Context(), l.folders.Cursor)
	must(t, err)
	came, left := map[string][]engine.ItemState{}, map[string][]string{}
	for _, f := range l.folders.Folders {
		for page, err := range box.Changes(t.Context(), f.ID, l.cursors[f.ID]) {
			must(t, err)
			if page.Full {
				t.Errorf("folder %s was listed in full", f.Name)
			}
			came[f.ID] = append(came[f.ID], page.Items...)
			left[f.ID] = append(left[f.ID], page.Removed...)
		}
	}
	return folders, came, left
}

func folderOf(t *testing.T, l listing, wellKnown string) string {
	t.Helper()
	for _, f := range l.folders.Folders {
		if f.WellKnown == wellKnown {
			return f.ID
		}
	}
	t.Fatalf("no folder %s in %+v", wellKnown, l.folders.Folders)
	return ""
}

func TestListingHasTheFoldersAndStates(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w, _, l := frankBox(t)
		served, err := w.sim.Messages(fabrikam, frank)
		must(t, err)
		if len(l.items) != len(served) || !l.folders.Full {
			t.Errorf("%d messages listed, %d served", len(l.items), len(served))
		}
		ids := map[string]bool{}
		for _, f := range l.folders.Folders {
			ids[f.ID] = true
		}
		nested := 0
		for _, f := range l.folders.Folders {
			if f.ParentID != "" && !ids[f.ParentID] {
				t.Errorf("folder %q lies in an unknown one", f.Name)
			}
			if f.ParentID != "" {
				nested++
			}
			if f.WellKnown == "searchfolders" {
				t.Error("the search folders are listed")
			}
		}
		if nested == 0 {
			t.Error("no nested folder")
		}
		for _, m := range served {
			item := l.items[m.ID]
			if item.ID != m.ID || item.FolderID != m.Folder || item.Subject != m.Subject || item.Read != m.Read || item.Version == "" || len(item.Properties) == 0 {
				t.Errorf("message %q: %+v", m.Subject, item)
			}
		}
	})
}

func TestARunWithoutChangesIsOneRequestPerFolder(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w, box, l := frankBox(t)
		before := len(w.sim.Requests())
		folders, came, left := since(t, box, l)
		if len(folders.Folders)+len(folders.Removed) != 0 || folders.Full || folders.Cursor == "" {
			t.Errorf("folders: %+v", folders)
		}
		for id := range came {
			if len(came[id])+len(left[id]) > 0 {
				t.Errorf("folder %s: %v, %v", id, came[id], left[id])
			}
		}
		if n, want := len(w.sim.Requests())-before, 1+len(l.folders.Folders); n != want {
			t.Errorf("%d requests, want %d", n, want)
		}
	})
}

func TestChangesAreIncremental(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w, box, l := frankBox(t)
		inbox, sent, trash := folderOf(t, l, "inbox"), folderOf(t, l, "sentitems"), folderOf(t, l, "deleteditems")
		var inInbox []string
		for _, id := range slices.Sorted(maps.Keys(l.items)) {
			if l.items[id].FolderID == inbox {
				inInbox = append(inInbox, id)
			}
		}
		moved, removed, marked := inInbox[0], inInbox[1], inInbox[2]
		read := !l.items[marked].Read
		added, err := w.sim.Deliver(fabrikam, frank, "inbox", []byte("Subject: new\r\nFrom: a@b\r\n\r\nhello\r\n"))
		must(t, err)
		must(t, w.sim.Move(fabrikam, frank, moved, "sentitems"))
		must(t, w.sim.Remove(fabrikam, frank, removed))
		must(t, w.sim.Mark(fabrikam, frank, marked, simulator.Marks{Read: &read}))
		folder, err := w.sim.CreateFolder(fabrikam, frank, "inbox", "A/B 🦷 ")
		must(t, err)
		must(t, w.sim.RenameFolder(fabrikam, frank, trash, "Papierkorb"))

		folders, came, left := since(t, box, l)
		var names []string
		for _, f := range folders.Folders {
			names = append(names, f.Name+"|"+f.WellKnown)
			if f.ID == folder && f.ParentID != inbox {
				t.Errorf("the new folder lies in %q", f.ParentID)
			}
		}
		if !slices.Contains(names, "A/B 🦷 |") || !slices.Contains(names, "Papierkorb|deleteditems") {
			t.Errorf("folders changed: %q", names)
		}
		state := map[string]engine.ItemState{}
		for _, item := range came[inbox] {
			state[item.ID] = item
		}
		if state[added].Subject != "new" || state[marked].Read != read || state[marked].Version == l.items[marked].Version || state[marked].Subject != l.items[marked].Subject {
			t.Errorf("inbox: %+v", state)
		}
		if len(came[sent]) != 1 || came[sent][0].ID != moved || came[sent][0].FolderID != sent {
			t.Errorf("sent items: %+v, want the moved message under its id", came[sent])
		}
		if !slices.Contains(left[inbox], moved) || !slices.Contains(left[inbox], removed) || slices.Contains(left[inbox], marked) {
			t.Errorf("left the inbox: %v", left[inbox])
		}
		if got, err := content(t, box, added); err != nil || !strings.HasSuffix(string(got), "hello\r\n") {
			t.Errorf("new message: %q, %v", got, err)
		}
		if _, err := content(t, box, removed); !errors.Is(err, engine.ErrItemGone) {
			t.Errorf("removed message: %v", err)
		}
	})
}

func TestExpiredCursorsAskForANewListing(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w, box, l := frankBox(t)
		must(t, w.sim.ExpireDelta(fabrikam, frank))
		if _, err := box.Folders(t.Context(), l.folders.Cursor); !errors.Is(err, engine.ErrCursorExpired) {
			t.Errorf("folders: %v", err)
		}
		inbox := folderOf(t, l, "inbox")
		for _, err := range box.Changes(t.Context(), inbox, l.cursors[inbox]) {
			if !errors.Is(err, engine.ErrCursorExpired) {
				t.Errorf("inbox: %v", err)
			}
		}
		if again := read(t, box); len(again.items) != len(l.items) {
			t.Errorf("%d messages in the new listing, %d before", len(again.items), len(l.items))
		}
	})
}

func TestOddDeltas(t *testing.T) {
	for _, name := range []string{"delta_empty_page", "delta_replay", "delta_unsupported", "delta_quota"} {
		inBubble(t, name, func(t *testing.T) {
			w, box, l := frankBox(t)
			w.fault(simulator.Fault{Name: name, Times: 3})
			if again := read(t, box); len(again.items) != len(l.items) {
				t.Errorf("%d messages, %d before", len(again.items), len(l.items))
			}
		})
	}
}

func TestPagesWithoutEndAreAProblem(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w, box, l := frankBox(t)
		w.fault(simulator.Fault{Name: "delta_empty_page"})
		var err error
		for _, err = range box.Changes(t.Context(), folderOf(t, l, "inbox"), "") {
			if err != nil {
				break
			}
		}
		wantKind(t, "Changes", err, backup.ProblemUnavailable)
	})
}

func TestFolderDeletedInTheMiddle(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w, box, _ := frankBox(t)
		id, err := w.sim.CreateFolder(fabrikam, frank, "inbox", "Short-lived")
		must(t, err)
		l := read(t, box)
		must(t, w.sim.DeleteFolder(fabrikam, frank, id))
		for _, err := range box.Changes(t.Context(), id, l.cursors[id]) {
			if !errors.Is(err, engine.ErrItemGone) {
				t.Errorf("changes: %v", err)
			}
		}
		folders, err := box.Folders(t.Context(), l.folders.Cursor)
		must(t, err)
		if !slices.Contains(folders.Removed, id) {
			t.Errorf("removed folders: %v", folders.Removed)
		}
	})
}

func TestFaultsWhileReading(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault simulator.Fault
		kind  backup.ProblemKind
	}{
		{"throttled with a fraction", simulator.Fault{Path: `\$value$`, Status: 429, RetryAfter: "2.128", Times: 3}, ""},
		{"throttled without a time", simulator.Fault{Path: `\$value$`, Status: 429, Times: 2}, ""},
		{"busy", simulator.Fault{Path: `\$value$`, Status: 503, RetryAfter: "20", Times: 1}, ""},
		{"busy with an empty body", simulator.Fault{Path: `\$value$`, Status: 503, Times: 2}, ""},
		{"failing for a moment", simulator.Fault{Path: `\$value$`, Status: 500, Code: "InternalServerError", Times: 2}, ""},
		{"connection reset", simulator.Fault{Path: `\$value$`, Reset: true, Times: 2}, ""},
		{"cut off", simulator.Fault{Path: `\$value$`, Cut: new(40), Times: 2}, ""},
		{"token refused once", simulator.Fault{Path: `\$value$`, Status: 401, Code: "InvalidAuthenticationToken", Times: 1}, ""},
		{"damaged", simulator.Fault{Path: `\$value$`, Status: 500, Code: "ErrorCorruptData"}, backup.ProblemItems},
		{"throttled for an hour", simulator.Fault{Path: `\$value$`, Status: 429, RetryAfter: "3600"}, backup.ProblemThrottled},
		{"down", simulator.Fault{Path: `\$value$`, Status: 502, Body: "<html>"}, backup.ProblemUnavailable},
		{"permission withdrawn", simulator.Fault{Path: `\$value$`, Status: 403, Code: "ErrorAccessDenied"}, backup.ProblemPermission},
		{"licence removed", simulator.Fault{Path: `\$value$`, Status: 404, Code: "MailboxNotEnabledForRESTAPI"}, backup.ProblemMailboxInactive},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			w, box, l := frankBox(t)
			test.fault.Host = "graph"
			w.fault(test.fault)
			id := slices.Sorted(maps.Keys(l.items))[0]
			got, err := content(t, box, id)
			if backup.KindOf(err) != test.kind {
				t.Fatalf("content: %v, want kind %q", err, test.kind)
			}
			if err != nil {
				if p := backup.AsProblem(err); test.kind == backup.ProblemThrottled && p.RetryAfter != time.Hour {
					t.Errorf("to wait: %s, want an hour", p.RetryAfter)
				}
				return
			}
			if want, err := w.sim.RawMessage(fabrikam, frank, id); err != nil || string(got) != string(want) {
				t.Errorf("%d bytes, want %d; %v", len(got), len(want), err)
			}
		})
	}
}

func TestNoMoreThanFourAtATimePerMailbox(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w, box, l := frankBox(t)
		w.fault(simulator.Fault{Host: "graph", Path: `\$value$`, Delay: simulator.Duration(time.Second), Times: 40})
		var g errgroup.Group
		var once sync.Mutex
		n := 0
		for id := range l.items {
			g.Go(func() error {
				_, err := content(t, box, id)
				once.Lock()
				defer once.Unlock()
				n++
				return err
			})
		}
		must(t, g.Wait())
		for _, r := range w.sim.Requests() {
			if r.Status == 429 {
				t.Fatalf("%s was throttled", r.Path)
			}
		}
	})
}

func TestProbe(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		app := w.mailApp("admin@contosodental.onmicrosoft.com")
		must(t, app.Probe(t.Context(), accountID(t, app, "priya@")))
		wantKind(t, "no licence", app.Probe(t.Context(), accountID(t, app, "uma@")), backup.ProblemMailboxInactive)
		wantKind(t, "no user", app.Probe(t.Context(), "00000000-0000-0000-0000-000000000001"), backup.ProblemMailboxDeleted)
	})
}
