package export_test

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"holdfast/backup"
	"holdfast/backup/export"
)

var at = time.Date(2026, 11, 2, 10, 30, 0, 0, time.UTC)

func write(t testing.TB, format export.Format, missing []export.Missing, mails ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, ok := export.New(format, &buf)
	if !ok {
		t.Fatalf("no format %q", format)
	}
	for _, m := range mails {
		item := backup.Item{Subject: "Invoice", From: "Ada Lovelace <ada@example.org>", ReceivedAt: at}
		err := w.Add("Inbox", item, func(w io.Writer) error {
			_, err := io.Copy(w, iotest.OneByteReader(strings.NewReader(m)))
			return err
		})
		if err != nil {
			t.Fatalf("Add: %v", err)
		}
	}
	if err := w.Close(missing); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return buf.Bytes()
}

// split reads an mbox file the mboxrd way.
func split(mbox []byte) []string {
	parts := regexp.MustCompile(`(?m)^From .*\n`).Split(string(mbox), -1)
	var mails []string
	for _, p := range parts[1:] {
		p = strings.TrimSuffix(p, "\n")
		mails = append(mails, regexp.MustCompile(`(?m)^>(>*From )`).ReplaceAllString(p, "$1"))
	}
	return mails
}

func TestMboxGivesBackEveryByte(t *testing.T) {
	mails := []string{
		"Subject: a\r\n\r\nFrom here on\r\n>From there\r\n>>From\r\n>>From x\r\nfrom\r\n",
		"From the first line on\n",
		"", "\n", ">\n", ">>>>From \n", ">>>> From \n", "Fro\n", "x\n\n\n",
	}
	got := split(write(t, export.Mbox, nil, mails...))
	if len(got) != len(mails) {
		t.Fatalf("%d messages, want %d: %q", len(got), len(mails), got)
	}
	for i := range mails {
		want := mails[i]
		if want == "" {
			want = "\n"
		}
		if got[i] != want {
			t.Errorf("message %d = %q, want %q", i, got[i], want)
		}
	}
}

func TestMboxEndsALineThatHasNoEnd(t *testing.T) {
	got := string(write(t, export.Mbox, nil, "Subject: a\n\nFro", "Subject: b\n\n>"))
	want := "From ada@example.org Mon Nov  2 10:30:00 2026\nSubject: a\n\nFro\n\nFrom ada@example.org Mon Nov  2 10:30:00 2026\nSubject: b\n\n>\n\n"
	if got != want {
		t.Errorf("mbox = %q, want %q", got, want)
	}
}

func TestMboxOfSampleMail(t *testing.T) {
	var mails []string
	root := os.DirFS("../../backup/m365/simulator/testdata/mail")
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".eml") {
			return err
		}
		b, err := fs.ReadFile(root, name)
		if !bytes.HasSuffix(b, []byte("\n")) {
			b = append(b, '\n')
		}
		mails = append(mails, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := split(write(t, export.Mbox, nil, mails...))
	if len(got) != len(mails) {
		t.Fatalf("%d messages, want %d", len(got), len(mails))
	}
	for i := range mails {
		if got[i] != mails[i] {
			t.Errorf("message %d differs", i)
		}
	}
}

func FuzzMbox(f *testing.F) {
	f.Add("a\nFrom b\n", ">From c\n")
	f.Add(">>>>", "From ")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, b = a+"\n", b+"\n"
		got := split(write(t, export.Mbox, nil, a, b))
		if len(got) != 2 || got[0] != a || got[1] != b {
			t.Errorf("got %q, want %q and %q", got, a, b)
		}
	})
}

func TestZipHoldsExactBytesUnderUniqueNames(t *testing.T) {
	mails := []string{"Subject: a\r\n\r\nFrom x\r\n", "", "\x00\xff", "again"}
	b := write(t, export.Zip, nil, mails...)
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	wantNames := []string{"Inbox/2026-11-02 1030 Invoice.eml", "Inbox/2026-11-02 1030 Invoice (2).eml", "Inbox/2026-11-02 1030 Invoice (3).eml", "Inbox/2026-11-02 1030 Invoice (4).eml"}
	for i, f := range z.File {
		if f.Name != wantNames[i] {
			t.Errorf("name %d = %q, want %q", i, f.Name, wantNames[i])
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != mails[i] {
			t.Errorf("content %d = %q, %v; want %q", i, got, err, mails[i])
		}
	}
}

func TestMissingMessagesAreNamed(t *testing.T) {
	missing := []export.Missing{{Item: backup.Item{Subject: "Lost contract", From: "bob@example.org", ReceivedAt: at}}}
	b := write(t, export.Zip, missing, "x")
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := z.File[len(z.File)-1].Open()
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(r); !strings.Contains(string(got), "Lost contract") {
		t.Errorf("%s = %q", z.File[len(z.File)-1].Name, got)
	}
	if mbox := string(write(t, export.Mbox, missing, "x")); !strings.Contains(mbox, "Lost contract") || strings.Count(mbox, "\nFrom ") != 1 {
		t.Errorf("mbox = %q", mbox)
	}
}

func TestFileNamesAreSafe(t *testing.T) {
	for given, want := range map[string]string{
		"../../etc/passwd":         "_.._etc_passwd",
		"..":                       "x",
		"":                         "x",
		" . ":                      "x",
		`C:\evil`:                  "C__evil",
		"con.txt":                  "_con.txt",
		"Lpt1":                     "_Lpt1",
		"a\x00b\r\nc\u202ed":       "ab cd",
		"Über: 日本語?":               "Über_ 日本語_",
		"bad\xffutf8":              "bad_utf8",
		"ends with dot.":           "ends with dot",
		strings.Repeat("é", 200):   strings.Repeat("é", 60),
		"Folder/with\\separators|": "Folder_with_separators_",
	} {
		if got := export.FileName(given, "x"); got != want {
			t.Errorf("FileName(%q) = %q, want %q", given, got, want)
		}
	}
}

func FuzzFileName(f *testing.F) {
	f.Add("../x")
	f.Add("NUL")
	f.Add("0.\x11.0") // two dots within a name lead nowhere
	f.Fuzz(func(t *testing.T, s string) {
		got := export.FolderPath([]string{"top", s, "end"})
		if path.Clean("/"+got) != "/"+got || strings.Count(got, "/") != 2 || strings.ContainsAny(got, "\\\x00\r\n") {
			t.Errorf("FolderPath(%q) = %q", s, got)
		}
	})
}

func TestFolderPathsEnd(t *testing.T) {
	paths := export.FolderPaths([]backup.Folder{
		{ID: "x", ParentID: "y", Name: "x"}, {ID: "y", ParentID: "x", Name: "y"},
		{ID: "in", Name: "Inbox"}, {ID: "p", ParentID: "in", Name: "../Projects"},
	})
	if paths["p"] != "Inbox/_Projects" {
		t.Errorf("path = %q", paths["p"])
	}
	if len(paths["x"]) > 200 {
		t.Errorf("a circle gives a path of %d bytes", len(paths["x"]))
	}
}

func TestDisposition(t *testing.T) {
	for given, want := range map[string]string{
		"Offer.eml":              `attachment; filename="Offer.eml"; filename*=UTF-8''Offer.eml`,
		`a"b; filename="x.exe`:   `attachment; filename="a_b_ filename=_x.exe"; filename*=UTF-8''a_b%3B%20filename%3D_x.exe`,
		"Über 100%.eml":          `attachment; filename="_ber 100_.eml"; filename*=UTF-8''%C3%9Cber%20100%25.eml`,
		"x\r\nSet-Cookie: a.eml": `attachment; filename="x Set-Cookie_ a.eml"; filename*=UTF-8''x%20Set-Cookie_%20a.eml`,
	} {
		if got := export.Disposition(given); got != want {
			t.Errorf("Disposition(%q) =\n%s, want\n%s", given, got, want)
		}
	}
}

func TestArchiveKeepsMailboxesApart(t *testing.T) {
	for format, want := range map[export.Format][]string{
		export.Zip:  {"a@x.example/Inbox/2026-11-02 1030 Invoice.eml", "A@x.example (2)/Inbox/2026-11-02 1030 Invoice.eml", "A@x.example (2)/Messages that are missing here.txt", "_.._evil/Inbox/2026-11-02 1030 Invoice.eml"},
		export.Mbox: {"a@x.example.mbox", "A@x.example (2).mbox", "_.._evil.mbox"},
	} {
		var buf bytes.Buffer
		a, ok := export.NewArchive(format, &buf)
		if !ok {
			t.Fatal(format)
		}
		for i, name := range []string{"a@x.example", "A@x.example", "../../evil"} {
			w, err := a.Mailbox(name)
			if err != nil {
				t.Fatal(err)
			}
			item := backup.Item{Subject: "Invoice", From: "ada@example.org", ReceivedAt: at}
			if err := w.Add("Inbox", item, func(w io.Writer) error { _, err := io.WriteString(w, "From x\r\n"); return err }); err != nil {
				t.Fatal(err)
			}
			var missing []export.Missing
			if i == 1 {
				missing = []export.Missing{{Item: backup.Item{Subject: "Torn\nFake line"}, Damaged: true}}
			}
			if err := w.Close(missing); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		z, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range z.File {
			names = append(names, f.Name)
			if strings.HasSuffix(f.Name, ".mbox") || strings.HasSuffix(f.Name, ".txt") {
				r, err := f.Open()
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(r)
				if err != nil || strings.HasSuffix(f.Name, ".mbox") && !strings.Contains(string(text), "\n>From x\r\n") || strings.Contains(string(text), "\nFake line") {
					t.Errorf("%s = %q, %v", f.Name, text, err)
				}
			}
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: %q, want %q", format, names, want)
		}
	}
}

// TestZipOfMoreFilesThanOldArchivesHold writes the newer form of the archive's
// end (zip64), which begins at 65,535 files.
func TestZipOfMoreFilesThanOldArchivesHold(t *testing.T) {
	const files = 70_000
	var buf bytes.Buffer
	w, _ := export.New(export.Zip, &buf)
	for range files {
		if err := w.Add("Inbox", backup.Item{Subject: "Same", ReceivedAt: at}, func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err }); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(nil); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil || len(z.File) != files {
		t.Fatalf("%d files, %v; want %d", len(z.File), err, files)
	}
	if got := z.File[files-1].Name; got != "Inbox/2026-11-02 1030 Same (70000).eml" {
		t.Errorf("the last name is %q", got)
	}
}
