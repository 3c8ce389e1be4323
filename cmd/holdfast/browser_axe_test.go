package main

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/oauth2-proxy/mockoidc"
)

// seenElsewhere are the routes that the crawl below cannot reach or that are no
// pages, and why.
var seenElsewhere = map[string]string{
	"GET /{$}":                                  "leads on",
	"GET /healthz":                              "text",
	"GET /readyz":                               "text",
	"GET /api/v1/openapi.yaml":                  "a file",
	"GET /branding/{version}/{file}":            "a file",
	"GET /sign-in/factor":                       "TestBrowserSecondFactors",
	"GET /sign-in/oidc/{provider}":              "leads to an issuer",
	"GET /sign-in/oidc/callback":                "leads on",
	"GET /set-up/{token}/oidc/{provider}":       "leads to an issuer",
	"GET /account/providers/{provider}":         "leads to an issuer",
	"GET /account/confirm":                      "TestBrowserSecondFactors",
	"GET /account/confirm/providers/{provider}": "leads to an issuer",
	"GET /setup":                                "TestBrowserWalksTheWholePath",
	"GET /setup/callback":                       "leads on",
	"GET /setup/progress":                       "part of a page",
	"GET /setup/device":                         "part of a page",
	"GET /setup/script":                         "a file",
	"GET /setup/abandon":                        "TestBrowserManualFlow",
	"GET /partner/organizations/{id}/connections/{connection}/revert": "TestBrowserMigrates",
	"GET /settings/credentials/{connection}/migrate":                  "TestBrowserMigrates",
	"GET /browse/{mailbox}/items/{item}":                              "TestBrowserWalksTheWholePath",
	"GET /migration/done":                                             "TestBrowserMigrates",
	"GET /settings/credentials/{connection}/migrate/account":          "TestBrowserMigrates",
	"GET /settings/credentials/{connection}/clean-up":                 "TestBrowserMigrates",
	"GET /browse/{mailbox}/items/{item}/preview":                      "a frame without scripts, part of a page",
	"GET /settings/permissions/live":                                  "part of a page",
	"GET /dashboard/live":                                             "part of a page",
	"GET /status/live":                                                "part of a page",
	"GET /partner/settings/storage/{id}/live":                         "part of a page",
	"GET /partner/settings/storage/checks":                            "part of a page",
	"GET /imap/{connection}":                                          "TestBrowserIMAP",
	"GET /imap/{connection}/server":                                   "TestBrowserIMAP",
	"GET /imap/{connection}/accounts":                                 "TestBrowserIMAP",
	"GET /imap/{connection}/accounts/{mailbox}":                       "TestBrowserIMAP",
	"GET /imap/{connection}/discard":                                  "TestBrowserIMAP",
	"GET /browse/{mailbox}/restore/confirm":                           "TestBrowserRestores",
	"GET /restores/{restore}":                                         "TestBrowserRestores",
	"GET /restores/{restore}/report.csv":                              "a file",
	"GET /exports/{export}/delete":                                    "TestBrowserRestores",
}

// noPage are addresses that answer with a file or lead out of the portal.
var noPage = regexp.MustCompile(`/(download|export|script|proof\.json|certificate\.json|damages\.csv|live|preview|openapi\.yaml)$|/oidc/|^/account/providers/|^/account/confirm/providers/|^/branding/|^/static/|^/setup`)

// crawl visits every kind of page that links lead to, once for all crawls.
type crawl struct {
	*page
	routes *http.ServeMux
	seen   map[string]bool // by route
}

// unfold opens what a page keeps folded.
func (p *page) unfold() *page {
	p.t.Helper()
	if _, err := eval[chromedp.Void](p, `document.querySelectorAll("details").forEach(d => { d.open = true })`); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// newCrawl reads the table of routes as it is documented, which is tested.
func newCrawl(t *testing.T) (*crawl, []string) {
	t.Helper()
	data, err := os.ReadFile("../../docs/roles.md")
	if err != nil {
		t.Fatal(err)
	}
	c := &crawl{routes: http.NewServeMux(), seen: map[string]bool{}}
	var all []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(GET [^`]+)`").FindAllStringSubmatch(string(data), -1) {
		c.routes.Handle(m[1], http.NotFoundHandler())
		all = append(all, m[1])
	}
	if len(all) < 50 {
		t.Fatalf("docs/roles.md names %d pages", len(all))
	}
	return c, all
}

// from visits what can be reached from an address.
func (c *crawl) from(starts ...string) {
	c.t.Helper()
	for queue := starts; len(queue) > 0; queue = queue[1:] {
		path, _, _ := strings.Cut(queue[0], "#")
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://portal"+path, nil)
		if err != nil || noPage.MatchString(req.URL.Path) {
			continue
		}
		_, route := c.routes.Handler(req)
		if route == "" || c.seen[route] {
			continue
		}
		c.seen[route] = true
		c.open(path)
		c.look("page-" + strings.Trim(regexp.MustCompile(`[^a-z]+`).ReplaceAllString(route[4:], "-"), "-"))
		links, err := eval[[]string](c.page, `[...document.querySelectorAll("a[href]")].filter(a => a.origin === location.origin).map(a => a.pathname + a.search)`)
		if err != nil {
			c.t.Fatal(err)
		}
		queue = append(queue, links...)
	}
}

// look is see in fewer looks: wide and light, then narrow and dark.
func (c *crawl) look(name string) {
	c.t.Helper()
	c.scheme("light")
	c.axe(name + " light")
	c.picture(name + "-light")
	c.scheme("dark")
	c.size(360, 740)
	if wide, err := eval[int](c.page, "document.documentElement.scrollWidth"); err != nil || wide > 360 {
		c.t.Errorf("%s: %d px wide at 360 px (%v)", name, wide, err)
	}
	c.axe(name + " narrow and dark")
	c.picture(name + "-360")
	c.size(1280, 860)
}

// path is where the page is.
func (p *page) path() string {
	p.t.Helper()
	path, err := eval[string](p, "location.pathname")
	if err != nil {
		p.t.Fatal(err)
	}
	return path
}

// first is the path of the first link whose address matches.
func (p *page) first(address string) string {
	p.t.Helper()
	found := `[...document.querySelectorAll("a[href]")].map(a => a.pathname).find(a => /` + address + `/.test(a))`
	path, err := eval[string](p.until("a link to "+address, found), found)
	if err != nil {
		p.t.Fatal(err)
	}
	return path
}

// longReason is what nobody thinks of who lays out a page.
var longReason = "Because of " + strings.Repeat("y", 400)

// hold sets a legal hold on a mailbox.
func (p *page) hold(mailbox, reason string) {
	p.t.Helper()
	p.open(mailbox).unfold().fill("#reason", reason).press("Set a legal hold").says("Nothing of this mailbox expires")
}

// tick sets a check box, if there is one.
func (p *page) tick(selector string) *page {
	p.t.Helper()
	if _, err := eval[chromedp.Void](p, `document.querySelectorAll("`+selector+`").forEach(e => { e.checked = true })`); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// erase has the first mailbox of the dashboard erased, and returns where the
// certificate is.
func (p *page) erase() string {
	p.t.Helper()
	address, err := eval[string](p.open(p.first("^\\/mailboxes\\/[^/]+$")+"/erase"), `document.querySelector("main a[href^='/mailboxes/']").innerText`)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.fill("#requested_by", "Data protection office, case 7").fill("#reason", "Left the company").fill("#address", address).
		press("Erase for good").says("Certificate of erasure").path()
}

// suspend suspends an organization and returns where it is.
func (p *page) suspend(name string) string {
	p.t.Helper()
	place := p.open("/partner/organizations?q=" + url.QueryEscape(name)).press(name).says("Suspend this organization").path()
	p.open(place+"/suspend").fill("#reason", "They left").press("Suspend").says("Suspended")
	return place
}

// TestBrowserEveryPageIsAccessible looks at every page of the table of routes,
// in both schemes and on a narrow screen, as whoever may see it.
func TestBrowserEveryPageIsAccessible(t *testing.T) {
	if os.Getenv("HOLDFAST_TEST_BROWSER") == "" {
		t.Skip("HOLDFAST_TEST_BROWSER is not set")
	}
	addr, sim := freeAddr(t), freeAddr(t)
	startDemoAt(t, addr, sim, "-second-factor", "optional")
	c, all := newCrawl(t)
	as := func(name, mail string, walk func(p *page)) {
		t.Run(name, func(t *testing.T) {
			c.page = newPage(t, "http://"+addr)
			defer c.quiet()
			if mail != "" {
				c.open("/sign-in").fill("input[name=email]", mail).fill("input[name=password]", demoPassword).press("Sign in").says("Sign out")
			}
			walk(c.page)
		})
	}
	issuer, err := mockoidc.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = issuer.Shutdown() })
	addIssuer := func(p *page, path string) {
		p.open(path).unfold().fill("#name", "Example ID").fill("input[name=issuer]", issuer.Issuer()).
			fill("input[name=client_id]", issuer.ClientID).fill("input[name=client_secret]", issuer.ClientSecret).press("Add provider").says("Example ID")
	}
	link := ""
	as("organization", "", func(p *page) {
		p.connectContoso()
		p.until("the first backup", `[...document.querySelectorAll(".status")].some(e => e.innerText.startsWith("Protected") || e.innerText.startsWith("Empty"))`)
		addIssuer(p, "/settings/sign-in")
		p.hold(p.open("/dashboard").first("^\\/mailboxes\\/[^/]+$"), longReason)
		p.open("/settings/schedule").fill("#reason", longReason).press("Pause").says("Automatic backups are paused")
		c.from("/dashboard", "/add-backup", "/add-backup/microsoft365")
	})
	as("legacy", "ines@adatum.example", func(p *page) {
		p.until("the first backups", `[...document.querySelectorAll(".status")].filter(e => e.innerText.startsWith("Protected")).length >= 2`)
		c.from("/dashboard", "/browse", "/migration", "/settings/credentials")
		c.from(p.open("/dashboard").erase())
	})
	as("partner", "dana@northwind.example", func(p *page) {
		addIssuer(p, "/partner/sign-in")
		p.open("/partner/tokens").unfold().fill("#name", "Monitoring")
		if _, err := eval[chromedp.Void](p, `document.querySelector("[name=scopes]").click()`); err != nil {
			p.t.Fatal(err)
		}
		p.press("Make token").says("holdfast_")
		c.from("/partner/organizations", "/partner/staff", "/partner/tokens")
		c.from(p.suspend("Adatum Builders") + "/delete")
		c.from(p.fill("#name", "Adatum Builders").fill("#reason", "They left").tick("#anyway").press("Delete Adatum Builders").says("Begun by").path())
		p.open("/partner/staff").press("Invite a person").fill("input[name=name]", "Nora Quist").fill("input[name=email]", "nora@northwind.example").press("Invite this person").says("Set-up link for Nora Quist")
		if link, err = eval[string](p, `(document.querySelector("#set-up-link").value || document.querySelector("#set-up-link").textContent).trim()`); err != nil {
			p.t.Fatal(err)
		}
	})
	as("everybody", "", func(p *page) { c.from("/sign-in", "/forgot", strings.TrimPrefix(link, p.base)) })
	for _, route := range all {
		if !c.seen[route] && seenElsewhere[route] == "" && !noPage.MatchString(route) {
			t.Errorf("%s was not looked at: no link leads to it, or it needs a walk of its own", route)
		}
	}
}
