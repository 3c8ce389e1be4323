package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/handlers"
	"holdfast/static"
)

func TestRequestsFromOtherSitesAreRefused(t *testing.T) {
	p := newPortal(t, func(s *handlers.Server) { s.PublicURL = "https://backup.example.org" })
	for _, c := range []struct {
		name    string
		headers map[string]string
		want    int
	}{
		{"cross-site", map[string]string{"Sec-Fetch-Site": "cross-site"}, http.StatusForbidden},
		{"same-site", map[string]string{"Sec-Fetch-Site": "same-site"}, http.StatusForbidden},
		{"foreign origin", map[string]string{"Origin": "https://evil.example"}, http.StatusForbidden},
		{"origin null", map[string]string{"Origin": "null"}, http.StatusForbidden},
		{"same-origin", map[string]string{"Sec-Fetch-Site": "same-origin"}, http.StatusSeeOther},
		{"typed address", map[string]string{"Sec-Fetch-Site": "none"}, http.StatusSeeOther},
		{"own origin behind a proxy", map[string]string{"Origin": "https://backup.example.org"}, http.StatusSeeOther},
		{"no browser", nil, http.StatusSeeOther},
	} {
		b := p.as(adeleMail)
		b.headers = c.headers
		res, doc := b.post("/settings", url.Values{"name": {"Contoso " + c.name}})
		if res.StatusCode != c.want {
			t.Errorf("%s: POST = %d, want %d", c.name, res.StatusCode, c.want)
		}
		if c.want == http.StatusForbidden {
			says(t, doc, "This request came from another website")
		}
		org, err := p.store.OrganizationByID(t.Context(), p.orgs["Contoso Dental"].ID)
		if saved := org.Name == "Contoso "+c.name; err != nil || saved != (c.want == http.StatusSeeOther) {
			t.Errorf("%s: saved %v, %v", c.name, saved, err)
		}
	}
}

// pages are addresses that an acting owner can open.
func (p *portal) pages(m backup.Mailbox) []string {
	org := "/partner/organizations/" + string(p.orgs["Contoso Dental"].ID)
	return []string{"/dashboard", "/dashboard/live", "/status", "/activity", "/settings", "/settings/credentials", "/browse", "/browse/" + string(m.ID), "/add-backup",
		"/add-backup/microsoft365", "/mailboxes/" + string(m.ID) + "/deactivate", "/partner/organizations", "/partner/organizations/new", org, org + "/activity", "/partner/activity", "/nowhere"}
}

func TestPagesForbidWhatTheyDoNotNeed(t *testing.T) {
	p := newPortal(t)
	m := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusFailing})["Megan"]
	b := p.acting(danaMail, "Contoso Dental")
	want := map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
		"Cross-Origin-Opener-Policy": "same-origin",
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
			"frame-src 'self'; form-action 'self' http://127.0.0.1:1; base-uri 'none'; frame-ancestors 'none'",
	}
	for _, page := range append(p.pages(m), "/sign-in", "/set-up/none") {
		res, doc := b.get(page)
		for name, value := range want {
			if got := res.Header.Get(name); got != value {
				t.Errorf("%s: %s = %q, want %q", page, name, got, value)
			}
		}
		if n := doc.Find("script:not([src]), style, [style], [hx-on], base, iframe:not([sandbox])").Length(); n != 0 {
			t.Errorf("%s has %d inline scripts or styles", page, n)
		}
		for _, attribute := range []string{"onclick", "onload", "onerror", "onsubmit", "onchange"} {
			if doc.Find("["+attribute+"]").Length() != 0 {
				t.Errorf("%s has %s", page, attribute)
			}
		}
		if strings.Contains(page, "live") {
			continue
		}
		if got := doc.Find("h1").Length(); got != 1 && page != "/sign-in" {
			t.Errorf("%s has %d headings of the first level, want 1", page, got)
		}
		if title := doc.Find("head > title").Text(); !strings.HasSuffix(title, " · Holdfast") && page != "/sign-in" {
			t.Errorf("%s has the title %q", page, title)
		}
	}
}

func TestNamesAreTextAndNothingElse(t *testing.T) {
	p := newPortal(t)
	const evil = `<script>alert(1)</script><img src=x onerror=alert(2)>"'`
	m := p.connect("Contoso Dental", account{name: evil, status: backup.StatusFailing, change: func(m *backup.Mailbox) {
		m.Problem.Text, m.DeactivatedBy = evil, evil
	}})[evil]
	person := backup.Person{ID: backup.NewID[backup.PersonID](), Name: evil, Email: "evil@example.org"}
	if err := p.store.CreatePerson(t.Context(), person, backup.Membership{OrgID: m.OrgID, Role: backup.RoleAdmin}, p.owner); err != nil {
		t.Fatal(err)
	}
	b := p.acting(danaMail, "Contoso Dental")
	res, _ := b.post("/settings", url.Values{"name": {evil}})
	b.follow(res)
	res, _ = b.post("/mailboxes/"+string(m.ID)+"/deactivate", url.Values{"back": {"/dashboard?q=" + url.QueryEscape(evil)}})
	_, doc := b.follow(res)
	says(t, doc, evil+" is deactivated. What is backed up stays.")
	for _, page := range append(p.pages(m), "/dashboard?q="+url.QueryEscape(evil), "/browse?q="+url.QueryEscape(evil), "/partner/organizations?q="+url.QueryEscape(evil)) {
		_, doc := b.get(page)
		if n := doc.Find("script:not([src]), img, [onerror]").Length(); n != 0 {
			t.Errorf("%s: a name became %d elements", page, n)
		}
	}
}

func TestErrorsTellNothingThatIsInTheLog(t *testing.T) {
	p := newPortal(t)
	b := p.as(adeleMail)
	p.store.Close()
	res, doc := b.get("/dashboard")
	if res.StatusCode != http.StatusInternalServerError {
		t.Errorf("without a database = %d, want 500", res.StatusCode)
	}
	says(t, doc, "Something went wrong")
	says(t, doc, "name request")
	if got := text(doc.Selection); strings.Contains(got, "sql") || strings.Contains(got, "database is closed") {
		t.Errorf("the page tells the error: %s", got)
	}
}

func TestFailedPartsLeaveThePageAsItIs(t *testing.T) {
	p := newPortal(t)
	b := p.as(adeleMail)
	b.headers = map[string]string{"HX-Request": "true", "HX-Request-Type": "partial"}
	if res, _ := b.get("/browse/none"); res.StatusCode != http.StatusNotFound || res.Header.Get("HX-Reswap") != "none" {
		t.Errorf("a part that is not there = %d, HX-Reswap %q; want 404 and none", res.StatusCode, res.Header.Get("HX-Reswap"))
	}
	visitor := p.browser()
	visitor.headers = map[string]string{"HX-Request": "true", "HX-Request-Type": "partial", "HX-Current-URL": "http://127.0.0.1/dashboard?page=2"}
	res, _ := visitor.get("/dashboard/live")
	if got := res.Header.Get("HX-Redirect"); got != "/sign-in?next=%2Fdashboard%3Fpage%3D2" {
		t.Errorf("a part without a session leads to %q", got)
	}
}

func TestTooLargeFormsAreRefused(t *testing.T) {
	p := newPortal(t)
	res, doc := p.as(adeleMail).post("/settings", url.Values{"name": {strings.Repeat("x", 2<<20)}})
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MiB = %d, want 413: %s", res.StatusCode, text(doc.Find("main")))
	}
}

func TestFilesOfPagesAreKeptForEver(t *testing.T) {
	p := newPortal(t)
	_, doc := p.browser().get("/sign-in")
	var found []string
	doc.Find("link[href], script[src]").Each(func(_ int, s *goquery.Selection) {
		found = append(found, s.AttrOr("href", s.AttrOr("src", "")))
	})
	for _, address := range append(found, static.URL("inter-latin-wght-normal.woff2")) {
		res, _ := p.browser().get(address)
		if res.StatusCode != http.StatusOK || res.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" || res.Header.Get("Content-Type") == "" {
			t.Errorf("%s = %d, %q, %q", address, res.StatusCode, res.Header.Get("Cache-Control"), res.Header.Get("Content-Type"))
		}
	}
	res, _ := p.browser().get("/static/0000000000000000/holdfast.css")
	if res.StatusCode != http.StatusOK || res.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("another version's file = %d, %q; want 200 and no-cache", res.StatusCode, res.Header.Get("Cache-Control"))
	}
	if res, _ := p.browser().get("/static/0/static.go"); res.StatusCode != http.StatusNotFound {
		t.Errorf("a file that is none of a page's = %d, want 404", res.StatusCode)
	}
}
