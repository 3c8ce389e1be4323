package handlers_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/handlers"
)

// hostile are texts that people and Microsoft can put into names.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `javascript:alert(1)`, "a\r\nSet-Cookie: x=1", "=HYPERLINK(\"http://evil.example\")", "../../../etc/passwd",
	"{{.}}", "${7*7}", "\u202egnp.exe", strings.Repeat("a", 99),
}

// fieldNames are the names under which the handlers read forms and queries, as
// their source has them, so that no field is left out.
func fieldNames(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := regexp.MustCompile(`(?:FormValue|Query\(\)\.Get|q\.Get|form\.Get|FormFile|number)\("([a-z_]+)"|PostForm\["([a-z_]+)"\]`)
	names := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range read.FindAllStringSubmatch(string(data), -1) {
			names[m[1]+m[2]] = true
		}
	}
	for _, must := range []string{"email", "password", "admin_name", "account", "scopes", "at", "code"} {
		if !names[must] {
			t.Fatalf("the field %q was not found in the handlers: %v", must, slices.Sorted(maps.Keys(names)))
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Every form of the portal takes every hostile text in every field: no page
// breaks, no text becomes markup, a header, or an address elsewhere.
func TestFormsTakeHostileTexts(t *testing.T) {
	p := newPortal(t)
	mailbox := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	fields := fieldNames(t)
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

// FuzzForms gives any body, of any kind, to every form of the table of routes of
// one portal, as whoever may send it: none panics, none answers with an error of
// the server, and nothing that was sent becomes markup.
func FuzzForms(f *testing.F) {
	for i, body := range []string{"email=a&password=b", "email=%00&password=%ff", "name=&name=&name", "a=%zz", "email[]=x&next=//evil.example", strings.Repeat("a=b&", 500), "page=-1&sort=;drop", "%",
		"name=<script>alert(1)</script>&reason=<img src=x onerror=alert(1)>", "--x\r\nContent-Disposition: form-data; name=\"logo\"; filename=\"../x\"\r\n\r\n\x89PNG\r\n--x--", `{"enabled":`,
		"credential=" + url.QueryEscape(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"AA","attestationObject":"oA"}}`)} {
		for kind := range uint8(3) {
			f.Add(uint16(i*11), kind, body) //nolint:gosec // a dozen seeds
		}
	}
	kinds := []string{"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"}
	p := newPages(f)
	posts := slices.DeleteFunc(p.server.Routes(), func(r handlers.Route) bool { return r.Method != http.MethodPost || r.Path == "/sign-out" })
	f.Fuzz(func(t *testing.T, which uint16, kind uint8, body string) {
		p.t = t
		route := posts[int(which)%len(posts)]
		b := p.visitors[route.Who]
		res, doc := b.send(p.fillPath(route.Path, p.mailbox), kinds[int(kind)%len(kinds)], body)
		// Where Microsoft or a mail server is asked, there is none.
		if res.StatusCode >= http.StatusInternalServerError && res.StatusCode != http.StatusBadGateway {
			t.Errorf("POST %s with %q = %d", route.Path, body, res.StatusCode)
		}
		if n := doc.Find("script:not([src]), [onerror], a[href^='javascript:']").Length(); n != 0 {
			t.Errorf("POST %s with %q shows %d things of whoever sent it", route.Path, body, n)
		}
		if to := res.Header.Get("Location"); strings.HasPrefix(to, "//") || strings.Contains(to, "evil.example") {
			t.Errorf("POST %s with %q leads to %s", route.Path, body, to)
		}
	})
}

// send posts a body as it is.
func (b *browser) send(path, contentType, body string) (*http.Response, *goquery.Document) {
	b.p.t.Helper()
	r := httptest.NewRequestWithContext(b.p.t.Context(), http.MethodPost, path, strings.NewReader(body))
	r.RemoteAddr = b.from
	r.Header.Set("Content-Type", contentType)
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.p.handler.ServeHTTP(w, r)
	doc, err := goquery.NewDocumentFromReader(w.Result().Body)
	if err != nil {
		b.p.t.Fatal(err)
	}
	return w.Result(), doc
}

// Where no file is expected nothing larger than a form is read, by whatever way
// it comes.
func TestNothingLargeIsReadWhereNoFileIsExpected(t *testing.T) {
	p := newPortal(t)
	mailbox := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	large := strings.Repeat("x", 1<<20)
	visitors := map[string]*browser{"public": p.as(""), "person": p.as(leeMail), "partner": p.as(samMail), "owner": p.as(danaMail), "viewer": p.as(leeMail), "admin": p.as(adeleMail)}
	for _, route := range p.server.Routes() {
		if route.Method != http.MethodPost {
			continue
		}
		for kind, body := range map[string]string{"application/x-www-form-urlencoded": "name=" + large,
			"multipart/form-data; boundary=x": "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n" + large + "\r\n--x--"} {
			if res, _ := visitors[route.Who].send(p.fillPath(route.Path, mailbox), kind, body); res.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("POST %s with 1 MiB as %s = %d, want 413", route.Path, kind, res.StatusCode)
			}
		}
	}
	api := p.program(backup.Scopes...)
	api.want(http.StatusRequestEntityTooLarge, "PUT", "/api/v1/organizations/"+string(p.orgs["Contoso Dental"].ID)+"/features/manual-custom-role", `{"enabled":`+strings.Repeat(" ", 1<<20)+"true}")
}

// TestTheDatabaseGivesNothingAway has people use every secret that there is, and
// looks for each in what a thief of the database would have.
func TestTheDatabaseGivesNothingAway(t *testing.T) {
	p := newPortal(t)
	dana, adele := p.as(danaMail), p.as(adeleMail)
	key, codes := appOf(t, adele)
	secrets := map[string]string{"a password": portalPassword, "an app's key": key, "a session cookie": dana.cookies["holdfast"], "a browser's cookie": dana.cookies["holdfast-browser"]}
	for i, c := range codes {
		secrets[fmt.Sprintf("recovery code %d", i)] = c
		secrets[fmt.Sprintf("recovery code %d as it is compared", i)] = backup.FoldRecoveryCode(c)
	}
	dana.post("/partner/staff", url.Values{"name": {"Nora Quist"}, "email": {"nora@northwind.example"}, "role": {"support"}})
	_, doc := dana.get("/partner/staff")
	link := setUpLink(doc)
	_, secrets["a set-up link"], _ = strings.Cut(link, "/set-up/")
	dana.post("/partner/tokens", url.Values{"name": {"RMM"}, "scopes": {"organizations.read"}, "life": {"30"}})
	_, doc = dana.get("/partner/tokens")
	secrets["an API token"] = strings.TrimSpace(doc.Find("#api-token").AttrOr("value", doc.Find("#api-token").Text()))
	secrets["a mail server's password"] = "the mail server's own words"
	mail := backup.MailSettings{Host: "mail.example", Port: 587, TLS: backup.MailSTARTTLS, User: "holdfast", Password: backup.Secret(secrets["a mail server's password"]), From: "backup@northwind.example"}
	if err := p.store.SaveMailSettings(t.Context(), mail, p.owner); err != nil {
		t.Fatal(err)
	}
	secrets["an issuer's client secret"] = "what the issuer gave us"
	if _, err := p.store.AddSignInProvider(t.Context(), backup.SignInProvider{Name: "Example ID", Issuer: "https://id.example", ClientID: "holdfast", Secret: backup.Secret(secrets["an issuer's client secret"])}, p.owner); err != nil {
		t.Fatal(err)
	}
	tenantKey, err := p.store.TenantKey(t.Context(), string(p.orgs["Contoso Dental"].ID), 0)
	if err != nil {
		t.Fatal(err)
	}
	secrets["a repository key"] = string(tenantKey)
	var stolen []byte
	for _, file := range []string{p.file, p.file + "-wal"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stolen = append(stolen, data...)
	}
	if !bytes.Contains(stolen, []byte("nora@northwind.example")) {
		t.Fatal("the files do not hold what was just written")
	}
	for name, secret := range secrets {
		if len(secret) < 10 {
			t.Errorf("%s is %q", name, secret)
		}
		for form, text := range map[string]string{"as it is": secret, "in hex": hex.EncodeToString([]byte(secret)), "in base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "="),
			"without case": strings.ToLower(secret)} {
			if bytes.Contains(stolen, []byte(text)) {
				t.Errorf("the database holds %s %s", name, form)
			}
		}
	}
}
