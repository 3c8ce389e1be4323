package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestBrowserRepairs walks from a deleted application and a permission too many
// to a connection that is whole, and looks at each page on the way.
func TestBrowserRepairs(t *testing.T) {
	p := newPage(t, "")
	base, sim := startDemo(t)
	p.base = base
	defer p.quiet()
	p.connectContoso()
	p.open("/settings/permissions").until("the first check", `document.body.innerText.includes("Read from the tenant")`).see("permissions")

	const tenant = "/_simulator/tenants/contosodental.onmicrosoft.com"
	tamper(t, http.MethodPost, sim+tenant+"/servicePrincipals/Holdfast%20Backup%20Mail/roles/Mail.ReadWrite", "")
	tamper(t, http.MethodPatch, sim+tenant+"/servicePrincipals/Holdfast%20Backup%20Exchange", `{"enabled":false}`)
	p.press("Check now").until("drift", `document.body.innerText.includes("Mail.ReadWrite") && document.body.innerText.includes("Check now")`).see("permissions-drift")
	p.open("/dashboard").says("The tenant grants more").see("dashboard-drift")

	p.open("/settings/permissions").press("Proof for an auditor").says("SHA-256").see("proof")
	p.print("proof")
	p.open("/settings/credentials").says("1 application needs a repair").see("credentials-broken")
	p.press("Switch off").says("Delete Holdfast Backup Exchange").picture("switch-off")
	p.open("/settings/credentials").press("Repair Holdfast Backup Exchange").says("Repair the application").see("repair")
	p.press("Sign in at Microsoft").says("simulated")
	p.signInAtMicrosoft()
	p.until("repaired", `document.body.innerText.includes("Repaired. ")`).see("credentials-repaired")
}

// connectContoso goes through the wizard with the sign-in in this browser.
func (p *page) connectContoso() {
	p.t.Helper()
	p.open("/sign-in").fill("input[name=email]", "adele@contoso.example").fill("input[name=password]", demoPassword).press("Sign in").says("Dashboard")
	p.open("/add-backup/microsoft365").press("Continue to Microsoft").says("simulated")
	p.signInAtMicrosoft()
	p.until("step 2", `document.querySelector("#device")`)
	p.press("Authorize in this browser").says("simulated")
	p.signInAtMicrosoft()
	p.until("the accounts", `document.querySelectorAll("#accounts tbody tr").length > 10`)
	if _, err := eval[chromedp.Void](p, `[...document.querySelectorAll("#accounts tbody tr")].find(r => r.innerText.includes("New Starter")).querySelector("input").click()`); err != nil {
		p.t.Fatal(err)
	}
	p.press("Back up the selected accounts").says("Microsoft 365 is connected")
}

// signInAtMicrosoft answers whatever the simulated Microsoft asks until the
// browser is back in the portal.
func (p *page) signInAtMicrosoft() {
	p.t.Helper()
	p.signInAs("admin@contosodental.onmicrosoft.com", "Contoso-2026")
}

// signInAs is signInAtMicrosoft as somebody else.
func (p *page) signInAs(upn, password string) {
	p.t.Helper()
	const asks = `document.body.innerText.includes("Pick an account") || !!document.querySelector("[name=passwd]") || document.body.innerText.includes("Permissions requested")`
	for range 4 {
		p.until("a question of Microsoft, or the portal", fmt.Sprintf(`document.readyState === "complete" && (%s || location.href.startsWith(%q))`, asks, p.base))
		if ask, _ := eval[bool](p, asks); !ask {
			return
		}
		// A slow page is not to be answered twice.
		if _, err := eval[chromedp.Void](p, `document.body.dataset.answered = "yes"`); err != nil {
			p.t.Fatal(err)
		}
		if pick, _ := eval[bool](p, `document.body.innerText.includes("Pick an account")`); pick {
			p.press(upn)
		} else if form, _ := eval[bool](p, `!!document.querySelector("[name=passwd]")`); form {
			p.fill("input[name=login]", upn).fill("input[name=passwd]", password).press("Sign in")
		} else {
			p.press("Accept")
		}
		p.until("the page after the answer", `!document.body.dataset.answered`)
	}
}

// tamper calls a control path of the simulated Microsoft.
func tamper(t *testing.T, method, address, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s = %d", method, address, res.StatusCode)
	}
}

// print makes the page as a printer gets it.
func (p *page) print(name string) {
	p.t.Helper()
	dir := os.Getenv("HOLDFAST_SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, media := range []string{"print", ""} {
		if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: media}); err != nil {
			p.t.Fatal(err)
		}
		if media != "" {
			p.picture(name + "-print")
		}
	}
}
