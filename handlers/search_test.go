package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
)

// fill gives Contoso mailboxes "Box 01" and so on, each with messages of its own and
// one, "Gone", that the newest backup has no more.
func (o *office) fill(boxes, messages int) {
	t, org := o.t, o.org(adminMail)
	t.Helper()
	conn := backup.Connection{ID: "CONNECTION", OrgID: org, Provider: backup.ProviderMicrosoft365, CreatedAt: time.Now(), ReadyAt: time.Now()}
	if err := o.store.SaveConnection(t.Context(), conn, backup.Actor{}); err != nil {
		t.Fatal(err)
	}
	var seen []backup.Mailbox
	for n := range boxes {
		seen = append(seen, backup.Mailbox{ProviderID: fmt.Sprint(n), Address: fmt.Sprintf("box%02d@contoso.example", n), Name: fmt.Sprintf("Box %02d", n), Kind: backup.KindUser, Licence: backup.LicenceValid})
	}
	if err := o.store.UpsertMailboxes(t.Context(), org, conn.ID, seen); err != nil {
		t.Fatal(err)
	}
	page, err := o.store.Mailboxes(t.Context(), org, store.MailboxQuery{AllAccounts: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Mailboxes {
		s := &shelf{content: map[string]string{}, folders: []engine.Folder{{ID: inbox, Name: "Inbox", WellKnown: "inbox"}}}
		for i := range messages {
			s.put(inbox, fmt.Sprint(i), fmt.Sprintf("%s message %d", m.Name, i), "Subject: x\r\n\r\n")
		}
		s.put(inbox, "gone", "Gone from "+m.Name, "Subject: gone\r\n\r\n")
		for range 2 {
			if _, err := o.engine.Backup(t.Context(), engine.Job{Org: org, Mailbox: m.ID, Source: s}); err != nil {
				t.Fatal(err)
			}
			s.items = s.items[:messages]
		}
	}
}

func TestSearchOfAllMailboxes(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.get("/browse").follow("Search all mailboxes").says("Search all mailboxes")
	if strings.Contains(v.text(), "Searched") {
		t.Error("a search for nothing ran")
	}
	v.press("Search", "q", "gone").says("Nothing is backed up yet")
	o.fill(3, 7)

	v.get("/search").press("Search", "q", "  box 01  MESSAGE ").says("Box 01 message 6").says("More in this mailbox").says("Searched 3 mailboxes.")
	if strings.Contains(v.text(), "Box 01 message 1") || strings.Contains(v.text(), "Box 02 message") {
		t.Error("more than five of a mailbox, or messages without one of the words, are shown")
	}
	v.follow("More in this mailbox").says("Box 01 message 0").follow("Search all mailboxes for the same").says("Searched 3 mailboxes.")

	v.get("/search").press("Search", "gone", "yes").says("Gone from Box 00").says("Gone from Box 02").says("Gone; in the backup of")
	if strings.Contains(v.text(), "Box 00 message") {
		t.Error("what is still there is shown among what is gone")
	}
	v.follow("Gone from Box 02").says("As it was on").says("Download .eml")

	v.get("/search").press("Search", "q", "nowhere").says("No message matches")
	v.get("/search").press("Search", "q", "message", "from", "2026-11-03", "to", "2026-11-02").says("The last day is before the first one.")
	if v.status != http.StatusUnprocessableEntity || v.doc.Find("#words").AttrOr("value", "") != "message" {
		t.Errorf("an impossible search is answered with %d and %q", v.status, v.doc.Find("#words").AttrOr("value", ""))
	}
	v.get("/search").press("Search", "to", "2026-11-01").says("No message matches")
	v.get("/search").press("Search", "from", "2026-11-02", "to", "2026-11-02").says("Box 00 message 6")
}

func TestSearchGoesOnWithTheNextMailboxes(t *testing.T) {
	o := newOffice(t)
	o.server.SearchSpan = time.Nanosecond // one mailbox at a time
	o.fill(3, 1)
	v := o.signIn(adminMail)
	v.get("/search?q=gone").says("Gone from Box 00").says("Searched 1 of 3 mailboxes.")
	live := v.doc.Find("[hx-get]").AttrOr("hx-get", "")
	v.follow("Search the others").says("Gone from Box 01").says("Searched 2 of 3 mailboxes.").follow("Search the others").says("Gone from Box 02").says("Searched 3 mailboxes.")
	for _, want := range []string{"Gone from Box 01", "Gone from Box 02"} {
		if v.get(live); !strings.Contains(v.body, want) || strings.Contains(v.body, "<html") {
			t.Errorf("the next part at %s lacks %q, or is a whole page", live, want)
		}
		live = v.doc.Find("[hx-get]").AttrOr("hx-get", "")
	}
	if live != "" {
		t.Errorf("after the last mailbox it goes on with %s", live)
	}
	if v.get("/search?q=box+00+gone").follow("Search the others").follow("Search the others"); strings.Contains(v.text(), "No message matches") {
		t.Error("what was found before is forgotten")
	}

	o.server.SearchSpan = time.Hour
	v.get("/search?q=nowhere").says("No message matches")
	if v.get("/search/live"); v.status != http.StatusNotFound {
		t.Errorf("part of no search = %d, want 404", v.status)
	}
}

func TestSearchEndsWithAFullPage(t *testing.T) {
	o := newOffice(t)
	o.server.SearchSpan = time.Hour
	o.fill(11, 6)
	v := o.signIn(adminMail).get("/search?q=message").says("Box 09 message").says("Searched 10 of 11 mailboxes.")
	if v.doc.Find("[hx-get]").Length() > 0 {
		t.Error("a full page asks for more by itself")
	}
	v.follow("Search the others").says("Box 10 message").says("Searched 11 mailboxes.")
}

func TestSearchIsForAdministratorsAndWrittenDown(t *testing.T) {
	o := newOffice(t)
	o.fill(1, 1)
	ada := o.signIn(adminMail).get("/search?q=gone&attachments=yes&from=2026-11-01").get("/search?q=gone").get("/search?q=gone&done=1&found=yes")
	entries, _, err := o.store.Activity(t.Context(), "", o.org(adminMail), store.ActivityQuery{Page: 1, Size: 50, Kind: "mail.search"})
	if err != nil || len(entries) != 2 || entries[1].Subject != "gone" || entries[1].Detail != "from 2026-11-01, with attachments" {
		t.Errorf("written down is %+v, %v; want the two searches", entries, err)
	}
	ada.get("/activity").says("Searched all mailboxes")

	if viewer := o.signIn(viewerMail).get("/search?q=gone"); viewer.status != http.StatusForbidden {
		t.Errorf("a viewer's search = %d, want 403", viewer.status)
	}
	if v := o.signIn(viewerMail).get("/browse"); strings.Contains(v.text(), "Search all mailboxes") {
		t.Error("a viewer is offered the search")
	}
	other := o.signIn(otherMail).get("/search?q=gone").says("Nothing is backed up yet")
	m := o.mailbox()
	if other.get("/search?q=gone&mailbox=" + url.QueryEscape(string(m.ID))); other.status != http.StatusNotFound {
		t.Errorf("the mailbox of another organization = %d, want 404", other.status)
	}
}
