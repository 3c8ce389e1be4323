package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/backup"
)

// hostile are texts that people and Microsoft can put into names.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `javascript:alert(1)`, "a\r\nSet-Cookie: x=1", "=HYPERLINK(\"http://evil.example\")", "../../../etc/passwd",
	"{{.}}", "${7*7}", "\u202egnp.exe", strings.Repeat("a", 99),
}

// Every form of the portal takes every hostile text in every field: no page
// breaks, no text becomes markup, a header, or an address elsewhere.
func TestFormsTakeHostileTexts(t *testing.T) {
	p := newPortal(t)
	mailbox := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	fields := []string{"name", "admin_name", "email", "password", "again", "role", "reason", "host", "port", "from", "from_name", "user", "q", "sort", "status", "page", "next", "back", "method",
		"account", "connection", "issuer", "client_id", "client_secret", "kind", "person", "from", "to", "code", "recovery", "scope", "expires", "color", "confirm", "manual_role", "on", "then", "at", "format"}
	visitors := map[string]*browser{"public": p.as(""), "person": p.as(leeMail), "partner": p.as(samMail), "owner": p.as(danaMail), "viewer": p.as(leeMail), "admin": p.as(adeleMail)}
	for i, route := range p.server.Routes() {
		if route.Path == "/setup/device" || strings.HasPrefix(route.Path, "/add-backup") && route.Method == http.MethodPost || strings.Contains(route.Path, "oidc") || strings.HasSuffix(route.Path, "/remove") {
			continue // these ask another server, or take somebody away whom the others need
		}
		form := url.Values{}
		for j, f := range fields {
			form.Add(f, hostile[(i+j)%len(hostile)])
		}
		b, path := visitors[route.Who], p.fillPath(route.Path, mailbox)
		if route.Method == http.MethodGet {
			path += "?" + form.Encode()
		}
		res, doc := b.do(route.Method, path, form)
		if res.StatusCode >= http.StatusInternalServerError && route.Path != "/readyz" {
			t.Errorf("%s %s = %d", route.Method, route.Path, res.StatusCode)
		}
		if res.Header.Get("Set-Cookie") == "x=1" || res.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s %s: headers %v", route.Method, route.Path, res.Header)
		}
		if to := res.Header.Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
			t.Errorf("%s %s leads to %s", route.Method, route.Path, to)
		}
		if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
			continue
		}
		if n := doc.Find("script:not([src]), [onerror], img:not(.logo):not([src^='data:image/png']), a[href^='javascript:'], form[action^='javascript:']").Length(); n != 0 {
			t.Errorf("%s %s has %d things of somebody else", route.Method, route.Path, n)
		}
	}
}

// FuzzForms gives any body to the forms that anybody reaches, and to some that
// need a person: none panics, none answers with an error of the server.
func FuzzForms(f *testing.F) {
	for _, seed := range []string{"email=a&password=b", "email=%00&password=%ff", "name=&name=&name", "a=%zz", "email[]=x&next=//evil.example", strings.Repeat("a=b&", 500), "page=-1&sort=;drop", "%"} {
		f.Add(seed)
	}
	var p *portal
	f.Fuzz(func(t *testing.T, body string) {
		if p == nil || p.t.Context().Err() != nil {
			p = newPortal(t)
		}
		p.t = t
		for mail, paths := range map[string][]string{
			"":        {"/sign-in", "/forgot", "/set-up/none", "/sign-in/factor", "/sign-in/passkey"},
			danaMail:  {"/partner/organizations", "/partner/staff", "/partner/settings/branding", "/partner/tokens"},
			adeleMail: {"/settings", "/settings/users", "/settings/notifications", "/accounts"},
		} {
			b := p.as(mail)
			for _, path := range paths {
				form, err := url.ParseQuery(body)
				if err != nil {
					form = url.Values{"raw": {body}}
				}
				if res, _ := b.post(path, form); res.StatusCode >= http.StatusInternalServerError {
					t.Errorf("POST %s with %q = %d", path, body, res.StatusCode)
				}
				if res, _ := b.get(path + "?" + form.Encode()); res.StatusCode >= http.StatusInternalServerError {
					t.Errorf("GET %s with %q = %d", path, body, res.StatusCode)
				}
			}
		}
	})
}
