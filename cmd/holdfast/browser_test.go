package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"holdfast/backup/porttest"
)

//go:embed testdata/axe-4.14.1.min.js
var axeScript string

// page is a tab of a real browser.
type page struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // chromedp's tab lives in it
	base string

	mu     sync.Mutex
	faults []string // what the console complained about
}

// newPage opens a tab, or skips the test where no browser is installed; with
// HOLDFAST_TEST_BROWSER=1 that fails instead.
func newPage(t *testing.T, base string) *page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if os.Getenv("HOLDFAST_TEST_BROWSER") == "" {
		t.Skip("HOLDFAST_TEST_BROWSER is not set")
	}
	if err != nil {
		t.Fatal("chromium is not installed: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(ctx, chromedp.WithAllocatorOptions(options...))
	t.Cleanup(stop)
	p := &page{t: t, ctx: ctx, base: base}
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatal(err)
	}
	p.size(1280, 860)
	return p
}

// hear notes what a page does wrong: exceptions and refused resources.
func (p *page) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.faults = append(p.faults, "exception: "+e.ExceptionDetails.Text)
	case *cdplog.EventEntryAdded:
		// A form that comes back with an error is a 422, and no fault.
		if e.Entry.Level == "error" && !strings.Contains(e.Entry.Text, "422") {
			p.faults = append(p.faults, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

func (p *page) size(width, height int64) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height)); err != nil {
		p.t.Fatal(err)
	}
}

// scheme sets light or dark.
func (p *page) scheme(name string) {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *page) open(path string) *page {
	p.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = p.base + path
	}
	if err := chromedp.Do(p.ctx, chromedp.Navigate(path)); err != nil {
		p.t.Fatalf("open %s: %v", path, err)
	}
	return p
}

// eval runs an expression in the page.
func eval[T any](p *page, js string) (T, error) {
	return chromedp.Run(p.ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
}

// until waits for a condition of the page, over navigations.
func (p *page) until(what, js string) *page {
	p.t.Helper()
	patience := time.After(2 * time.Minute) // the machine may be busy with other packages
	for {
		ok, err := eval[bool](p, "!!("+js+")")
		if err == nil && ok {
			return p
		}
		select {
		case <-patience:
			where, _ := eval[string](p, "location.href + '\\n' + document.body.innerText")
			p.t.Fatalf("waited in vain for %s (%v) at %s", what, err, where)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// says waits until the page has the words.
func (p *page) says(text string) *page {
	p.t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.until(text, "document.body && document.body.innerText.includes("+string(quoted)+")")
}

// find is an expression for the first visible control with the words.
func find(text string) string {
	quoted, _ := json.Marshal(text) // a string always encodes
	return `[...document.querySelectorAll("button, a, summary, input[type=submit]")].find(e => (e.innerText || e.value || "").trim().startsWith(` + string(quoted) + `) && e.checkVisibility() && !e.disabled)`
}

// press clicks the control with the words. It is found and clicked at once, since
// the page may change at any time by itself; the answer comes before the click, or
// a new page could swallow it, and the control would be clicked twice.
func (p *page) press(text string) *page {
	p.t.Helper()
	p.until("the control "+text, "(() => { const e = "+find(text)+"; if (e) setTimeout(() => e.click()); return e })()")
	_, _ = eval[bool](p, "new Promise(done => setTimeout(() => done(true)))") // until it was clicked, or the page gone with it
	return p
}

// fill types into a field.
func (p *page) fill(selector, value string) *page {
	p.t.Helper()
	p.until(selector, "document.querySelector("+fmt.Sprintf("%q", selector)+")")
	if err := chromedp.Do(p.ctx, chromedp.SetValue(chromedp.CSS(selector), value)); err != nil {
		p.t.Fatalf("fill %s: %v", selector, err)
	}
	return p
}

// see checks the page in light and dark with axe, looks for overflow at 360 px,
// and keeps pictures if HOLDFAST_SCREENSHOTS names a folder.
func (p *page) see(name string) *page {
	p.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		p.axe(name + " " + scheme)
		p.picture(name + "-" + scheme)
	}
	p.scheme("light")
	p.size(360, 740)
	wide, err := eval[int](p, "document.documentElement.scrollWidth")
	if err != nil || wide > 360 {
		where, _ := eval[[]string](p, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > 360).map(e => e.tagName + "." + e.className).slice(-4)`)
		p.t.Errorf("%s: %d px wide at 360 px (%v): %v", name, wide, err, where)
	}
	p.axe(name + " narrow")
	p.picture(name + "-360")
	p.size(1280, 860)
	return p
}

// axe fails the test for each serious violation of WCAG 2.2 A and AA.
func (p *page) axe(name string) {
	p.t.Helper()
	if _, err := eval[chromedp.Void](p, "if (!window.axe) {"+axeScript+"}"); err != nil {
		p.t.Fatalf("load axe: %v", err)
	}
	found, err := eval[[]string](p, `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], iframes: false}).then(r => r.violations
		.filter(v => v.impact === "serious" || v.impact === "critical").map(v => v.id + ": " + v.nodes.map(n => n.target.join(" ") + " " + n.failureSummary).slice(0, 3).join("; ")))`)
	if err != nil {
		p.t.Fatalf("axe on %s: %v", name, err)
	}
	for _, f := range found {
		p.t.Errorf("%s: %s", name, f)
	}
}

func (p *page) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("HOLDFAST_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		p.t.Errorf("picture %s: %v", name, err)
	}
}

// quiet fails the test for what the console complained about.
func (p *page) quiet() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		p.t.Errorf("console: %s", f)
	}
}

// freeAddr is an address on loopback that nothing listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(porttest.Free(t)))
}

// startDemo runs "holdfast demo" in this process until the test ends.
func startDemo(t *testing.T) (base, simulator string) {
	t.Helper()
	addr, sim := freeAddr(t), freeAddr(t)
	startDemoAt(t, addr, sim)
	return "http://" + addr, "http://" + sim
}

// startDemoAt is startDemo at addresses of loopback, with more arguments.
func startDemoAt(t *testing.T, addr, sim string, more ...string) {
	t.Helper()
	ready, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var log bytes.Buffer
	go func() {
		done <- run(ctx, append([]string{"demo", "-addr", addr, "-simulator-addr", sim, "-data", filepath.Join(t.TempDir(), "demo")}, more...), func(string) string { return "" }, out, &log)
		out.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("demo: %v", err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	line := make([]byte, 100)
	if _, err := io.ReadFull(ready, line); err != nil {
		t.Fatalf("demo did not start: %v", <-done)
	}
	go io.Copy(io.Discard, ready) //nolint:errcheck // the rest of what it prints
}

func TestBrowserWalksTheWholePath(t *testing.T) {
	p := newPage(t, "")
	base, sim := startDemo(t)
	p.base = base
	defer p.quiet()

	p.open("/sign-in").says("Sign in").see("sign-in")
	p.fill("input[name=email]", "dana@northwind.example").fill("input[name=password]", "wrong password").press("Sign in").says("is not right")
	p.fill("input[name=email]", "dana@northwind.example").fill("input[name=password]", demoPassword).press("Sign in")
	p.says("Contoso Dental").see("organizations")
	p.press("Contoso Dental").says("Act for").see("organization")
	p.fill("[name=reason]", "Set up the first backup").press("Act for").says("is acting for").says("Dashboard").see("dashboard-empty")
	p.press("Stop acting").says("Organizations")
	p.press("Sign out").says("Sign in")

	p.fill("input[name=email]", "adele@contoso.example").fill("input[name=password]", demoPassword).press("Sign in").says("Dashboard")
	p.press("+ Add Backup").says("IMAP server").see("add-backup")
	p.press("Sign in with Microsoft 365").says("Authorize with Least Privilege Permissions").see("microsoft365")
	p.press("Continue to Microsoft").says("simulated")
	p.fill("input[name=login]", "admin@contosodental.onmicrosoft.com").fill("input[name=passwd]", "Contoso-2026").press("Sign in")
	p.press("Accept").says("M365 AUTHORIZATION").picture("applications-light")
	p.until("step 2", `document.querySelector("#device")`)
	p.until("the code", `document.querySelector("#user-code")?.textContent.trim().length > 5`).see("device")
	code, err := eval[string](p, `document.querySelector("#user-code").innerText.trim()`)
	if err != nil {
		t.Fatal(err)
	}
	p.press("Verify").says("Too early")
	page2, err := eval[string](p, `document.querySelector("#device a").href`)
	if err != nil {
		t.Fatal(err)
	}
	p.open(page2).fill("input[name=otc]", code).press("Next")
	p.until("the account choice", `document.body.innerText.includes("Are you trying") || document.body.innerText.includes("Pick an account") || document.querySelector("[name=passwd]")`)
	if pick, _ := eval[bool](p, `document.body.innerText.includes("Pick an account")`); pick {
		p.press("admin@contosodental")
	} else if form, _ := eval[bool](p, `!!document.querySelector("[name=passwd]")`); form {
		p.fill("input[name=login]", "admin@contosodental.onmicrosoft.com").fill("input[name=passwd]", "Contoso-2026").press("Sign in")
	}
	p.press("Continue")
	p.until("consent or the end", `document.body.innerText.includes("Permissions requested") || document.body.innerText.includes("You have signed in")`)
	if ask, _ := eval[bool](p, `document.body.innerText.includes("Permissions requested")`); ask {
		p.press("Accept").says("You have signed in")
	}
	p.open("/setup").says("Authorized by").press("Verify")
	p.until("the accounts", `document.querySelectorAll("#accounts tbody tr").length > 10`).see("accounts")
	for _, name := range []string{"Megan O'Neil", "Front Desk", "New Starter", "Uma Unlicensed"} {
		if _, err := eval[chromedp.Void](p, fmt.Sprintf(`[...document.querySelectorAll("#accounts tbody tr")].find(r => r.innerText.includes(%q)).querySelector("input").click()`, name)); err != nil {
			t.Fatalf("select %s: %v", name, err)
		}
	}
	p.press("Back up the selected accounts").says("Microsoft 365 is connected").picture("dashboard-running")
	p.until("both mailboxes protected", `[...document.querySelectorAll(".status")].filter(e => e.innerText.trim() === "Protected" || e.innerText.startsWith("Protected")).length >= 2 && document.body.innerText.includes("Empty") && document.body.innerText.includes("Inactive") && !document.body.innerText.includes("backing up now")`)
	p.open("/dashboard").says("Megan O'Neil").see("dashboard")

	p.press("Browse & Restore").says("Front Desk").see("browse")
	p.press("Front Desk").says("🦷 Patients").see("mailbox")
	if _, err := eval[chromedp.Void](p, `document.querySelector(".messages-table .subject a").click()`); err != nil {
		t.Fatal(err)
	}
	p.says("Download .eml").see("message")
	p.press("System Status").says("System Status").see("status")
	p.press("Activity").says("Set up the first backup").see("activity")
	p.press("Account Settings").see("settings")
	p.open("/settings/credentials").says("Connected").see("credentials")
	p.open("/no-such-page").says("not").see("not-found")
	p.mu.Lock()
	p.faults = nil // that page is a 404
	p.mu.Unlock()
	_ = sim
}
