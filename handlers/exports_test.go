package handlers_test

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"holdfast/backup"
	"holdfast/store"
)

// exported waits for the newest export and returns the path of its file.
func (v *visitor) exported() string {
	v.t.Helper()
	v.until("/exports", func() bool { return v.doc.Find("#live[hx-get]").Length() == 0 })
	path, ok := v.doc.Find("tbody tr").First().Find("a[download]").Attr("href")
	if !ok {
		v.t.Fatalf("no file: %s", v.text())
	}
	return path
}

func TestAMailboxIsExportedInTheBackground(t *testing.T) {
	o := newOffice(t)
	s := newShelf(t)
	m := o.backUp(s)
	v := o.signIn(adminMail)
	v.get("/exports").says("No export yet")
	v.get("/browse/" + string(m.ID) + "?folder=*").follow("Export").says("As it was on").says("6 messages")
	v.press("Start the export").says("The file is being made")
	path := v.exported()
	v.says("megan@contoso.example").says("Ready").says("1 message is missing")

	b, disposition := v.download(path)
	if !strings.Contains(disposition, `filename="megan@contoso.example`) || !strings.Contains(disposition, `.zip"`) {
		t.Errorf("Content-Disposition = %q", disposition)
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string]bool{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
		contents[string(text)] = true
	}
	for id, want := range s.content {
		if !contents[want] {
			t.Errorf("message %s is not in the archive", id)
		}
	}
	o.noPlainMail(t)

	// A download that was interrupted goes on where it was.
	for _, from := range []string{"100-", "0-99", "-50"} {
		got := v.part(path, "bytes="+from, "")
		want := map[string][]byte{"100-": b[100:], "0-99": b[:100], "-50": b[len(b)-50:]}[from]
		if v.status != http.StatusPartialContent || !bytes.Equal(got, want) {
			t.Errorf("Range %s = %d, %d bytes, want %d", from, v.status, len(got), len(want))
		}
	}
	if got := v.part(path, "bytes=100-", `"another file"`); v.status != http.StatusOK || !bytes.Equal(got, b) {
		t.Errorf("If-Range of another file = %d, %d bytes; want the whole", v.status, len(got))
	}
	kinds := map[string]int{}
	entries, _, err := o.store.Activity(t.Context(), "", m.OrgID, store.ActivityQuery{Page: 1, Size: 50})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		kinds[e.Kind]++
	}
	if kinds["export.start"] != 1 || kinds["export.done"] != 1 || kinds["export.download"] != 1 {
		t.Errorf("activity = %v; want one start, one end and one download", kinds)
	}

	// Nobody else reaches it.
	if x := o.signIn(viewerMail).get(path); x.status != http.StatusForbidden {
		t.Errorf("a viewer gets %d", x.status)
	}
	other := o.signIn(otherMail)
	for _, p := range []string{path, strings.Replace(path, "download", "delete", 1)} {
		if other.get(p); other.status != http.StatusNotFound {
			t.Errorf("another organization gets %d for %s", other.status, p)
		}
	}
	if other.get("/exports").says("No export yet"); strings.Contains(other.body, "megan") {
		t.Error("another organization sees the export")
	}
	if x := newVisitor(t).get(o.portal + path); !strings.HasPrefix(x.at.Path, "/sign-in") {
		t.Errorf("a visitor ends at %s", x.at)
	}

	// Deleted: gone at once, and soon from the disk.
	v.get("/exports").follow("Delete").press("Delete").says("The export was deleted")
	if v.get(path); v.status != http.StatusNotFound {
		t.Errorf("a deleted export = %d, want 404", v.status)
	}
}

// part asks for a part of a file, as a browser does that was interrupted.
func (v *visitor) part(path, span, ifRange string) []byte {
	v.t.Helper()
	u := v.at.ResolveReference(&url.URL{Path: path})
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, u.String(), nil)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Range", span)
	if ifRange != "" {
		req.Header.Set("If-Range", ifRange)
	}
	res, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	v.status = res.StatusCode
	return b
}

// noPlainMail looks for mail that anybody with the disk could read.
func (o *office) noPlainMail(t *testing.T) {
	t.Helper()
	files := 0
	err := fs.WalkDir(os.DirFS(filepath.Join(o.folder, "exports")), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(filepath.Join(o.folder, "exports", name))
		for _, word := range []string{"Hello", "Subject:", "PK\x03\x04", ".eml"} {
			if bytes.Contains(data, []byte(word)) {
				t.Errorf("%s holds %q in the clear", name, word)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files of exports, %v", files, err)
	}
}

func TestAnExportIsEncryptedForItsReader(t *testing.T) {
	o := newOffice(t)
	s := newShelf(t)
	m := o.backUp(s)
	v := o.signIn(adminMail)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	scrypt, err := age.NewScryptIdentity("nobody guesses this")
	if err != nil {
		t.Fatal(err)
	}
	form := "/exports/new?mailbox=" + string(m.ID) + "&at=1&folder=" + url.QueryEscape(inbox)
	v.get(form).press("Start the export", "encryption", "passphrase", "passphrase", "short").says("at least 12 characters")
	if v.status != http.StatusUnprocessableEntity || strings.Contains(v.body, `value="short"`) {
		t.Errorf("a short passphrase = %d", v.status)
	}
	v.get(form).press("Start the export", "encryption", "recipient", "recipient", "ssh-rsa x").says("not a public key of age")
	if got := v.doc.Find("#recipient").AttrOr("value", ""); got != "ssh-rsa x" {
		t.Errorf("the field has %q, want what was typed", got)
	}
	for name, c := range map[string]struct {
		fill []string
		with age.Identity
	}{
		"passphrase": {[]string{"format", "mbox", "encryption", "passphrase", "passphrase", "nobody guesses this"}, scrypt},
		"recipient":  {[]string{"format", "mbox", "encryption", "recipient", "recipient", identity.Recipient().String()}, identity},
	} {
		v.get(form).press("Start the export", c.fill...)
		b, disposition := v.download(v.exported())
		if !strings.Contains(disposition, ".mbox.age") {
			t.Errorf("%s: Content-Disposition = %q", name, disposition)
		}
		plain, err := age.Decrypt(bytes.NewReader(b), c.with)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := io.ReadAll(plain)
		if err != nil || !strings.Contains(string(text), "\n>From here on\r\n") || strings.Contains(string(text), "Same subject") {
			t.Errorf("%s: %v, %q", name, err, text)
		}
		for file, data := range o.databaseFiles() {
			if bytes.Contains(data, []byte("nobody guesses this")) {
				t.Errorf("%s holds the passphrase", file)
			}
		}
	}
}

func TestAnOrganizationIsExported(t *testing.T) {
	o := newOffice(t)
	m := o.backUp(newShelf(t))
	v := o.signIn(adminMail)
	v.get("/exports/new").press("Start the export", "when", "soon").says("Enter a time like")
	v.get("/exports/new").press("Start the export", "format", "mbox")
	b, disposition := v.download(v.exported())
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(z.File) != 1 || z.File[0].Name != m.Address+".mbox" || !strings.Contains(disposition, "All mailboxes") {
		t.Fatalf("%s: %v, %v", disposition, err, z.File)
	}
	v.get("/exports/new").press("Start the export", "when", "2020-01-01")
	v.until("/exports", func() bool { return strings.Contains(v.body, "Failed") }).says("There is no backup from that time")
	if v.doc.Find("[role=tooltip]").Length() != 0 {
		t.Error("why it failed is hidden in a tooltip")
	}
	v.get("/exports/new?mailbox=" + string(m.ID) + "&at=99")
	if v.status != http.StatusNotFound {
		t.Errorf("a snapshot that is not there = %d", v.status)
	}
}

func TestAnExportIsMadeAnewAfterItsWorkerWasKilled(t *testing.T) {
	o := newOffice(t)
	m := o.backUp(newShelf(t))
	o.stop()
	e, err := o.store.StartExport(t.Context(), backup.Export{OrgID: m.OrgID, MailboxID: m.ID, Name: m.Address, Format: "zip"}, backup.Actor{Org: backup.Organization{ID: m.OrgID}})
	if err != nil {
		t.Fatal(err)
	}
	// A worker took it, wrote a part of a file and was killed long ago.
	if _, err := o.store.TakeExport(t.Context(), e.OrgID, e.ID, backup.Secret("lost"), time.Now()); err != nil {
		t.Fatal(err)
	}
	left, err := o.engine.Repo.Files().Storage.Create(t.Context(), "exports/"+string(e.ID)+"/1/00000000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := left.Write([]byte("torn")); err != nil {
		t.Fatal(err)
	}
	if err := left.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.store.ReleaseExport(t.Context(), backup.Export{OrgID: e.OrgID, ID: e.ID, Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	o.work()
	v := o.signIn(adminMail)
	b, _ := v.download(v.exported())
	if _, err := zip.NewReader(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Error(err)
	}
	if _, err := o.engine.Repo.Files().Storage.Stat(t.Context(), "exports/"+string(e.ID)+"/1/00000000"); err == nil {
		t.Error("what the killed try left is still there")
	}
}

func TestACancelledExportEnds(t *testing.T) {
	o := newOffice(t)
	m := o.backUp(newShelf(t))
	o.stop() // nobody takes it: it waits
	v := o.signIn(adminMail)
	v.get("/exports/new?mailbox=" + string(m.ID) + "&at=1").press("Start the export")
	v.says("Waiting").press("Cancel").says("The export was cancelled").says("Cancelled")
	e, err := o.store.Exports(t.Context(), m.OrgID)
	if err != nil || len(e) != 1 || e[0].State != backup.ExportCancelled || len(e[0].Key) != 0 {
		t.Errorf("exports = %+v, %v", e, err)
	}
}
