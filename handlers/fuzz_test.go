package handlers_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/handlers"
)

// pages are the pages of a portal with one mailbox, as those see them who may.
type pages struct {
	*portal
	mailbox  backup.Mailbox
	routes   []handlers.Route
	visitors map[string]*browser
}

func newPages(f *testing.F) *pages {
	f.Helper()
	p := &pages{portal: newPortal(f)}
	p.mailbox = p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	p.visitors = map[string]*browser{"person": p.as(leeMail), "partner": p.as(samMail), "owner": p.as(danaMail), "viewer": p.as(leeMail), "admin": p.as(adeleMail), "public": p.as("")}
	p.routes = slices.DeleteFunc(p.server.Routes(), func(r handlers.Route) bool {
		// Those that ask another server, or answer with nothing that a person reads.
		return r.Method != http.MethodGet || strings.Contains(r.Path, "oidc") || strings.Contains(r.Path, "providers") || strings.HasPrefix(r.Path, "/setup") || r.Path == "/readyz"
	})
	return p
}

// FuzzQueries gives any query to every page: searches, filters, orders, page
// numbers and times. None panics, none answers with an error of the server, and
// nothing that was sent becomes markup or leads elsewhere.
func FuzzQueries(f *testing.F) {
	p := newPages(f)
	for i, q := range []string{"q=Megan&page=2", "page=-1&page_size=9999999999999999999", "at=2026-11-23+14%3A30&folder=*&q=a", "at=2026-11-23T14:30:00Z", "status=failing&sort=name&dir=desc", "q=%00%ff&folder=%",
		"next=//evil.example", "q=<script>alert(1)</script>", "kind=a&from=2026-02-30&to=x", "a;b=c", "q=" + strings.Repeat("%25", 300), "at=9223372036854775807&page=0"} {
		f.Add(uint16(i*7), q) //nolint:gosec // a dozen seeds
	}
	f.Fuzz(func(t *testing.T, which uint16, query string) {
		p.t = t
		route := p.routes[int(which)%len(p.routes)]
		path, err := url.Parse(p.fillPath(route.Path, p.mailbox))
		if err != nil {
			t.Fatal(err)
		}
		path.RawQuery = strings.Map(printable, query)
		if _, err := url.ParseRequestURI(path.String()); err != nil {
			return // no request line has it
		}
		res, doc := p.visitors[route.Who].do(http.MethodGet, path.String(), nil)
		if res.StatusCode >= http.StatusInternalServerError && res.StatusCode != http.StatusBadGateway {
			t.Errorf("GET %s = %d", path, res.StatusCode)
		}
		if n := doc.Find("script:not([src]), [onerror], a[href^='javascript:'], form[action^='javascript:']").Length(); n != 0 {
			t.Errorf("GET %s shows %d things of whoever sent it", path, n)
		}
		if to := res.Header.Get("Location"); strings.HasPrefix(to, "//") || strings.HasPrefix(to, "http") {
			t.Errorf("GET %s leads to %s", path, to)
		}
	})
}

// printable leaves out what ends a request line.
func printable(c rune) rune {
	if c <= ' ' || c == 0x7f {
		return -1
	}
	return c
}

// FuzzAPI sends any query, body and token to every line of the API: the answer is
// JSON, and a refusal is never the server's fault.
func FuzzAPI(f *testing.F) {
	p := newPages(f)
	var token string
	asked := 0
	contoso := "/api/v1/organizations/" + string(p.orgs["Contoso Dental"].ID)
	paths := []string{"/api/v1/organizations", contoso, contoso + "/mailboxes", contoso + "/mailboxes/" + string(p.mailbox.ID), contoso + "/runs", contoso + "/features/manual-custom-role"}
	for i, c := range []struct{ query, body string }{
		{"page=2&page_size=10&q=con", ""}, {"status=failing&q=%00", ""}, {"state=failed&since=2026-11-23T14:30:00Z", ""}, {"page=-1", ""}, {"page_size=99999999999999999999", ""},
		{"", `{"enabled":true}`}, {"", `{"enabled":null}`}, {"", `{"enabled":true}{}`}, {"", `{"Enabled":"yes","x":1}`}, {"", "\xff"}, {"", strings.Repeat("[", 9999)},
	} {
		f.Add(uint8(i), i >= 5, c.query, c.body, "") //nolint:gosec // a dozen seeds
	}
	f.Add(uint8(0), false, "", "", "holdfast_x")
	f.Fuzz(func(t *testing.T, which uint8, change bool, query, body, other string) {
		path, method := paths[int(which)%len(paths)], http.MethodGet
		if change {
			path, method = paths[len(paths)-1], http.MethodPut
		}
		target := path + "?" + strings.Map(printable, query)
		if _, err := url.ParseRequestURI(target); err != nil {
			return
		}
		if asked++; asked%50 == 1 { // a token may not ask more at once
			secret, err := p.store.CreateAPIToken(t.Context(), backup.APIToken{Name: "Fuzz", Scopes: backup.Scopes}, backup.TokenLives[0], p.owner)
			if err != nil {
				t.Fatal(err)
			}
			token = secret.Reveal()
		}
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		if other != "" {
			r.Header.Set("Authorization", other)
		}
		w := httptest.NewRecorder()
		p.handler.ServeHTTP(w, r)
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("%s %s with %q = %d %s", method, target, body, w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s with %q = %d %s: not JSON", method, target, body, w.Code, w.Body)
		}
		if other != "" && w.Code == http.StatusOK && !strings.HasSuffix(other, token) {
			t.Errorf("%s %s with %q as its token was answered", method, target, other)
		}
	})
}
