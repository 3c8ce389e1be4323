package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestBrowserManualFlow switches the toggle in the Partner Portal and walks the
// manual flow, with the script run on the simulated PowerShell.
func TestBrowserManualFlow(t *testing.T) {
	p := newPage(t, "")
	base, sim := startDemo(t)
	p.base = base
	defer p.quiet()

	p.open("/sign-in").password().says("Contoso Dental")
	p.press("Contoso Dental").says("Act for").press("Features").says("Manual custom role creation").see("features")
	if _, err := eval[chromedp.Void](p, `document.querySelector("[name=manual_role]").click()`); err != nil {
		t.Fatal(err)
	}
	p.press("Save").says("made by hand, with a script")
	p.press("Users").says("Adele").see("organization-users")
	p.press("Sign out").says("Sign in")

	p.fill("input[name=email]", "adele@contoso.example").fill("input[name=password]", demoPassword).press("Sign in").says("Dashboard")
	p.open("/add-backup/microsoft365").says("you download a PowerShell script").press("Continue to Microsoft").says("simulated")
	p.fill("input[name=login]", "admin@contosodental.onmicrosoft.com").fill("input[name=passwd]", "Contoso-2026").press("Sign in")
	p.press("Accept").says("M365 AUTHORIZATION").says("Download the PowerShell script").see("script")
	p.press("Verify").says("does not show the custom role yet").see("script-too-early")
	script, err := eval[string](p, `fetch("/setup/script").then(r => r.text())`)
	if err != nil || len(script) < 2000 {
		t.Fatalf("script of %d bytes, %v", len(script), err)
	}
	p.open(sim + "/_simulator/powershell").says("Simulated PowerShell")
	if _, err := eval[chromedp.Void](p, fmt.Sprintf(`document.querySelector("#script").value = %q`, script)); err != nil {
		t.Fatal(err)
	}
	p.press("Run").says("Go back to Holdfast").picture("powershell-light")
	p.open("/setup").press("Verify").until("the accounts", `document.querySelectorAll("#accounts tbody tr").length > 10`)
	p.says("Connected")
}

// TestBrowserBlockedDeviceCodes looks at step 2 in a tenant that blocks device
// codes, and goes on with the script. Microsoft's own page answers with 403, of which
// the console complains.
func TestBrowserBlockedDeviceCodes(t *testing.T) {
	p := newPage(t, "")
	base, sim := startDemo(t)
	p.base = base
	tamper(t, http.MethodPatch, sim+"/_simulator/tenants/contosodental.onmicrosoft.com", `{"blockDeviceCode":"poll"}`)
	p.open("/sign-in").fill("input[name=email]", "adele@contoso.example").fill("input[name=password]", demoPassword).press("Sign in").says("Dashboard")
	p.open("/add-backup/microsoft365").press("Continue to Microsoft").says("simulated")
	p.signInAtMicrosoft()
	p.until("the code", `document.querySelector("#user-code")`).picture("device-code")
	address, err := eval[string](p, `document.querySelector("#device a").href`)
	if err != nil {
		t.Fatal(err)
	}
	code, err := eval[string](p, `document.querySelector("#user-code").innerText`)
	if err != nil {
		t.Fatal(err)
	}
	p.open(address).fill("input[name=otc]", code).press("Next").press("admin@contosodental.onmicrosoft.com")
	p.press("Continue").until("Microsoft's last page", `!document.body.innerText.includes("Are you trying")`)
	p.open("/setup").until("the refusal", `document.body.innerText.includes("AADSTS53003")`).see("device-blocked")
	p.press("Run the script instead").says("Download the PowerShell script").see("script-instead")
}
