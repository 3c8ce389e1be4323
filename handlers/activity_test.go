package handlers_test

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/store"
)

func TestActivityIsFilteredByPersonKindAndDay(t *testing.T) {
	begin := time.Now().UTC().Format(time.DateOnly) // yesterday's by the end, at midnight
	p := newPortal(t)
	p.as(leeMail)
	b := p.as(adeleMail)
	b.post("/settings", map[string][]string{"name": {"Contoso Dental Group"}})
	rows := func(query string) int {
		t.Helper()
		res, doc := b.get("/activity" + query)
		if res.StatusCode != http.StatusOK {
			t.Fatalf("/activity%s = %d", query, res.StatusCode)
		}
		return doc.Find("tbody tr").Length()
	}
	all := rows("")
	if n := rows("?person=LEE"); n != 1 {
		t.Errorf("%d entries of Lee, want 1 sign-in", n)
	}
	if n := rows("?kind=organization.rename"); n != 1 {
		t.Errorf("%d renames, want 1", n)
	}
	if n := rows("?person=%25"); n != 0 {
		t.Errorf("%d entries of %%, want none", n)
	}
	today := time.Now().UTC().Format(time.DateOnly)
	if n := rows("?from=" + begin + "&to=" + today); n != all {
		t.Errorf("%d entries today, want all %d", n, all)
	}
	if n := rows("?to=2020-01-01"); n != 0 {
		t.Errorf("%d entries before 2020", n)
	}
	for query, says := range map[string]string{"?from=soon": "Enter a day", "?from=2026-02-02&to=2026-01-01": "before the first"} {
		if res, doc := b.get("/activity" + query); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), says) {
			t.Errorf("%s = %d, want %q", query, res.StatusCode, says)
		}
	}
}

func TestActivityIsExported(t *testing.T) {
	p := newPortal(t)
	b := p.as(adeleMail)
	b.post("/settings", map[string][]string{"name": {`=HYPERLINK("https://evil.example")`}})
	body := func(path string) (string, string) {
		t.Helper()
		res, doc := b.get(path)
		if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Disposition"), "attachment") {
			t.Fatalf("%s = %d %s", path, res.StatusCode, res.Header.Get("Content-Disposition"))
		}
		return doc.Text(), res.Header.Get("Content-Type")
	}
	text, kind := body("/activity/export?format=csv&kind=organization.rename")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 2 || !strings.HasPrefix(kind, "text/csv") {
		t.Fatalf("csv = %q (%s), %v", text, kind, err)
	}
	for _, cell := range rows[1] {
		if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
			t.Errorf("a spreadsheet takes %q for a formula", cell)
		}
	}
	text, _ = body("/activity/export?format=jsonl")
	_, total, err := p.store.Activity(t.Context(), "", p.orgs["Contoso Dental"].ID, store.ActivityQuery{Page: 1, Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		var e struct {
			Seq    int
			SHA256 string `json:"sha256"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Seq != i+1 || len(e.SHA256) != 64 {
			t.Fatalf("line %d = %s, %v", i+1, line, err)
		}
	}
	if len(lines) != total || !strings.Contains(text, "activity.export") {
		t.Errorf("%d lines of %d entries, want all, this export included", len(lines), total)
	}
	for _, path := range []string{"/activity/export", "/activity/export?format=exe", "/activity/export?format=csv&from=x"} {
		if res, _ := b.get(path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s = %d, want 404", path, res.StatusCode)
		}
	}
	// Another organization's log is not in it.
	other, _ := p.as(nestorMail).get("/activity/export?format=jsonl")
	if other.StatusCode != http.StatusOK {
		t.Errorf("another organization's own export = %d", other.StatusCode)
	}
	if res, _ := p.as(samMail).get("/partner/activity/export?format=csv"); res.StatusCode != http.StatusOK {
		t.Errorf("the partner's export = %d", res.StatusCode)
	}
}
