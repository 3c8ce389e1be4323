package handlers_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
)

// shelf is a mailbox with messages of our choice.
type shelf struct {
	folders []engine.Folder
	items   []engine.ItemState
	content map[string]string
}

func (s *shelf) Folders(context.Context, string) (engine.FolderChanges, error) {
	return engine.FolderChanges{Full: true, Folders: s.folders}, nil
}

func (s *shelf) Changes(_ context.Context, folder, _ string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		page := engine.Page{Full: true}
		for _, i := range s.items {
			if i.FolderID == folder {
				page.Items = append(page.Items, i)
			}
		}
		yield(page, nil)
	}
}

func (s *shelf) Content(_ context.Context, id string) (io.ReadCloser, error) {
	text, ok := s.content[id]
	if !ok {
		return nil, &backup.Problem{Kind: backup.ProblemUnavailable, Text: "Microsoft could not deliver it.", Err: errors.New("500")}
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

// put adds a message.
func (s *shelf) put(folder, id, subject, content string) {
	at := time.Date(2026, 11, 2, 10, len(s.items), 0, 0, time.UTC)
	s.items = append(s.items, engine.ItemState{
		ID: id, Version: "1", FolderID: folder, Subject: subject, From: "Ada Lovelace <ada@example.org>", Received: at, Sent: at, Size: int64(len(content)),
	})
	s.content[id] = content
}

const (
	inbox = "in/bo+x=" // an identifier with what addresses have to escape
	odd   = "o"
)

const hostileMail = "Subject: =?utf-8?Q?Hello_=3Cb=3E?=\r\nFrom: Eve <eve@evil.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" +
	`<p onclick="alert(1)">Dear reader</p><script>alert(1)</script><img src="https://evil.example/open.gif"><form action="https://evil.example"><button>x</button></form>`

// newShelf is a mailbox with odd folders, hostile mail and one message that the
// provider can't deliver.
func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{content: map[string]string{}, folders: []engine.Folder{
		{ID: inbox, Name: "Inbox", WellKnown: "inbox"},
		{ID: odd, ParentID: inbox, Name: "../<b>Projects</b>: 100%"},
		{ID: "empty", Name: ""},
	}}
	s.put(inbox, "hostile", "Hello <b>", hostileMail)
	s.put(inbox, "plain", "From the start", "Subject: From the start\r\n\r\nFrom here on\r\n.\r\nno end of line")
	s.put(inbox, "nothing", "", "")
	s.put(inbox, "lost", "Lost contract", "")
	delete(s.content, "lost")
	for _, name := range []string{"mail/attachments_basic_email.eml", "mail/emails_attachment_emails_attachment_message_rfc822.eml"} {
		b, err := os.ReadFile("../backup/m365/simulator/testdata/mail/" + name)
		if err != nil {
			t.Fatal(err)
		}
		s.put(odd, name, "Same subject/..\\x", string(b))
	}
	return s
}

// backUp makes a mailbox of Contoso and backs the shelf up.
func (o *office) backUp(s *shelf) backup.Mailbox {
	t, ctx, org := o.t, o.t.Context(), o.org(adminMail)
	t.Helper()
	conn := backup.Connection{
		ID: "CONNECTION", OrgID: org, Provider: backup.ProviderMicrosoft365, Method: backup.MethodServicePrincipal, Workloads: []backup.Workload{backup.WorkloadMail},
		TenantID: "11111111-2222-3333-4444-555555555555", TenantName: "Contoso", TenantDomain: "contoso.onmicrosoft.com", CreatedAt: time.Now(), ReadyAt: time.Now(),
	}
	if err := o.store.SaveConnection(ctx, conn, backup.Actor{}); err != nil {
		t.Fatal(err)
	}
	seen := []backup.Mailbox{{ProviderID: "u1", Address: "megan@contoso.example", Name: "Megan O'Neil", Kind: backup.KindUser, Licence: backup.LicenceValid, Enabled: true}}
	if err := o.store.UpsertMailboxes(ctx, org, conn.ID, seen); err != nil {
		t.Fatal(err)
	}
	m := o.mailbox()
	if _, err := o.engine.Backup(ctx, engine.Job{Org: org, Mailbox: m.ID, Source: s}); err != nil && backup.KindOf(err) != backup.ProblemItems {
		t.Fatalf("Backup: %v", err)
	}
	return m
}

func (v *visitor) download(path string) ([]byte, string) {
	v.t.Helper()
	v.get(path)
	if v.status != http.StatusOK {
		v.t.Fatalf("GET %s = %d: %s", path, v.status, v.text())
	}
	if got := v.header.Get("X-Content-Type-Options"); got != "nosniff" {
		v.t.Errorf("X-Content-Type-Options = %q", got)
	}
	disposition := v.header.Get("Content-Disposition")
	if !strings.HasPrefix(disposition, "attachment;") {
		v.t.Errorf("Content-Disposition = %q", disposition)
	}
	return []byte(v.body), disposition
}

func TestBrowseShowsFoldersAndMessages(t *testing.T) {
	o := newOffice(t)
	m := o.backUp(newShelf(t))
	v := o.signIn(adminMail)
	page := "/browse/" + string(m.ID)

	v.get(page).says("Inbox").says("../<b>Projects</b>: 100%").says("Folder without a name").says("Hello <b>").says("No subject").says("Not read yet")
	if n := v.doc.Find(".messages-table tbody tr").Length(); n != 4 {
		t.Errorf("%d messages in the inbox, want 4", n)
	}
	v.follow("../<b>Projects</b>").says("Same subject")
	v.get(page + "?q=contract").says("Lost contract")
	if n := v.doc.Find(".messages-table tbody tr").Length(); n != 1 {
		t.Errorf("%d messages found, want 1", n)
	}
	v.get(page + "?q=nowhere").says("No message here matches")
	v.get(page + "?at=yesterday").says("That is not a time")
	v.get(page + "?at=2020-01-01T00:00:00Z").says("There is no backup from that time or before it")
	v.get(page + "?at=" + url.QueryEscape(time.Now().Add(time.Hour).Format(time.RFC3339))).says("Hello <b>")
	for _, missing := range []string{page + "?at=99", page + "?folder=nowhere", "/browse/NOBODY", page + "/items/NOTHING", page + "/items/NOTHING/preview", page + "/items/NOTHING/download", page + "/folders/x/download?format=zip"} {
		if v.get(missing); v.status != http.StatusNotFound {
			t.Errorf("GET %s = %d, want 404", missing, v.status)
		}
	}
}

func TestPreviewOfHostileMail(t *testing.T) {
	o := newOffice(t)
	m := o.backUp(newShelf(t))
	v := o.signIn(adminMail)
	v.get("/browse/" + string(m.ID)).follow("Hello <b>")
	v.says("Eve <eve@evil.example>").says("not loaded")
	frame := v.doc.Find("iframe")
	if sandbox, ok := frame.Attr("sandbox"); !ok || sandbox != "" {
		t.Errorf("sandbox = %q, %t; want one that allows nothing", sandbox, ok)
	}
	v.get(frame.AttrOr("src", ""))
	policy := v.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "style-src 'unsafe-inline'", "img-src data:", "sandbox", "frame-ancestors 'self'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	for _, bad := range []string{"<script", "onclick", "evil.example", "<form", "<button"} {
		if strings.Contains(v.body, bad) {
			t.Errorf("the preview has %q", bad)
		}
	}
	v.says("Dear reader")
	if got := v.header.Get("X-Frame-Options"); got != "SAMEORIGIN" {
		t.Errorf("X-Frame-Options = %q", got)
	}
}

func TestDownloadsAreExact(t *testing.T) {
	o := newOffice(t)
	s := newShelf(t)
	m := o.backUp(s)
	v := o.signIn(adminMail)
	page := "/browse/" + string(m.ID)

	for subject, id := range map[string]string{"Hello <b>": "hostile", "From the start": "plain", "No subject": "nothing"} {
		v.get(page).follow(subject).follow("Download .eml")
		got, disposition := []byte(v.body), v.header.Get("Content-Disposition")
		if string(got) != s.content[id] {
			t.Errorf("%s: %d bytes, want %d", subject, len(got), len(s.content[id]))
		}
		if !strings.Contains(disposition, ".eml") || strings.ContainsAny(disposition, "<>") {
			t.Errorf("%s: Content-Disposition = %q", subject, disposition)
		}
	}
	v.get(page).follow("Lost contract").says("could not deliver")

	b, _ := v.download(page + "/folders/" + url.PathEscape(odd) + "/download?format=zip")
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if len(z.File) != 2 {
		t.Fatalf("%d files in the archive", len(z.File))
	}
	for _, f := range z.File {
		if strings.Contains(f.Name, "..") && strings.Contains(f.Name, "../") || strings.HasPrefix(f.Name, "/") || strings.Contains(f.Name, "\\") {
			t.Errorf("name %q leaves the folder", f.Name)
		}
	}
	b, _ = v.download(page + "/folders/" + url.PathEscape(inbox) + "/download?format=zip&at=1")
	if z, err = zip.NewReader(bytes.NewReader(b), int64(len(b))); err != nil || len(z.File) != 4 {
		t.Errorf("archive of the inbox: %v", err)
	}
	b, disposition := v.download(page + "/folders/" + url.PathEscape(inbox) + "/download?format=mbox")
	if !strings.Contains(string(b), "\n>From here on\r\n") || !strings.Contains(string(b), "Lost contract") || !strings.Contains(disposition, ".mbox") {
		t.Errorf("mbox %s: %q", disposition, b)
	}
	b, _ = v.download(page + "/download?format=mbox")
	if n := strings.Count(string(b), "\nFrom ") + 1; n != 6 {
		t.Errorf("%d messages in the mailbox's mbox, want 5 and the notice", n)
	}
	if v.get(page + "/download?format=exe"); v.status != http.StatusNotFound {
		t.Errorf("unknown format = %d", v.status)
	}
}

func TestEachLookAtAMessageIsRecorded(t *testing.T) {
	o := newOffice(t)
	m := o.backUp(newShelf(t))
	v := o.signIn(adminMail)
	v.get("/browse/" + string(m.ID)).follow("Hello <b>")
	item := v.at.Path
	v.get(item + "/preview")
	v.get(item + "/download")
	v.get("/browse/" + string(m.ID) + "/download?format=zip")
	entries, _, err := o.store.Activity(t.Context(), "", m.OrgID, store.ActivityQuery{Page: 1, Size: 50})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, e := range entries {
		kinds[e.Kind] = e.Person + " " + e.Subject
	}
	for _, kind := range []string{"item.preview", "item.download", "folder.download"} {
		if !strings.Contains(kinds[kind], "Ada") || !strings.Contains(kinds[kind], "megan@contoso.example") {
			t.Errorf("%s: %q", kind, kinds[kind])
		}
	}
}

func TestMessagesAreForAdministratorsOfTheirOrganization(t *testing.T) {
	o := newOffice(t)
	m := o.backUp(newShelf(t))
	page := "/browse/" + string(m.ID)
	ada := o.signIn(adminMail)
	item := ada.get(page).follow("Hello <b>").at.Path

	viewer := o.signIn(viewerMail)
	viewer.get(page).says("Inbox").says("administrators of the organization only")
	if strings.Contains(viewer.body, "Hello") || strings.Contains(viewer.body, "Ada Lovelace") {
		t.Error("a viewer sees subjects or senders")
	}
	other := o.signIn(otherMail)
	for _, path := range []string{item, item + "/preview", item + "/download", page + "/download?format=zip", page + "/folders/" + url.PathEscape(inbox) + "/download?format=mbox"} {
		if viewer.get(path); viewer.status != http.StatusForbidden {
			t.Errorf("viewer GET %s = %d, want 403", path, viewer.status)
		}
		if other.get(path); other.status != http.StatusNotFound {
			t.Errorf("another organization GET %s = %d, want 404", path, other.status)
		}
	}
	if other.get(page); other.status != http.StatusNotFound {
		t.Errorf("another organization GET %s = %d, want 404", page, other.status)
	}
}

func TestMessagesArePaged(t *testing.T) {
	o := newOffice(t)
	s := &shelf{content: map[string]string{}, folders: []engine.Folder{{ID: inbox, Name: "Inbox", WellKnown: "inbox"}}}
	for i := range 120 {
		s.put(inbox, fmt.Sprint(i), fmt.Sprintf("Message %03d", i), fmt.Sprintf("Subject: %d\r\n\r\n", i))
	}
	m := o.backUp(s)
	v := o.signIn(adminMail).get("/browse/" + string(m.ID))
	v.says("1–50 of 120").says("Message 119").follow("Next").says("51–100 of 120").follow("Next").says("Message 000").follow("Previous").says("51–100 of 120")
}
