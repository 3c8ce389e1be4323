package main

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// TestBrowserMigrates walks from the banner of an organization on the legacy
// method to the deletion of its backup administrator.
func TestBrowserMigrates(t *testing.T) {
	p := newPage(t, "")
	base, _ := startDemo(t)
	p.base = base
	defer p.quiet()
	p.open("/sign-in").fill("input[name=email]", "ines@adatum.example").fill("input[name=password]", demoPassword).press("Sign in").says("Dashboard")
	p.until("the first backups", `[...document.querySelectorAll(".status")].filter(e => e.innerText.startsWith("Protected")).length >= 2`)
	p.open("/dashboard").says("Backups rely on a Global Administrator account").see("legacy-dashboard")
	p.press("Learn More").says("What happens").see("migration")
	p.press("Go to Credentials").says("backupadmin@adatumbuilders").see("legacy-credentials")
	p.press("Migrate Now").says("Yes, Continue").see("migrate-question")
	p.press("Yes, Continue").says("Which administrator").see("migrate-account")
	p.press("Continue").says("simulated")
	p.signInAsAdatum()
	p.until("step 2", `document.querySelector("#device")`).see("migrate-device")
	p.press("Authorize in this browser").says("simulated")
	p.signInAsAdatum()
	p.until("the end", `document.body.innerText.includes("The migration is complete")`).see("migration-done")
	p.press("Delete them for me").says("Sign in and delete").see("clean-up-question")
	p.press("Sign in and delete").says("Delete the backup administrator").see("clean-up")
	p.press("Sign in at Microsoft").says("simulated")
	p.signInAsAdatum()
	p.until("removed", `document.body.innerText.includes("no longer in the tenant")`).see("credentials-migrated")
	p.open("/add-backup/microsoft365")
	if _, err := eval[chromedp.Void](p, `document.querySelector("#method-legacy").click()`); err != nil {
		t.Fatal(err)
	}
	p.says("An account with all rights stays in your tenant").see("microsoft365-legacy")

	p.press("Sign out").says("Sign in")
	p.fill("input[name=email]", "dana@northwind.example").fill("input[name=password]", demoPassword).press("Sign in").says("Adatum Builders")
	p.press("Adatum Builders").press("Send adatumbuilders").says("Go back to the backup administrator?").see("revert-question")
	p.fill("#revert-reason", "The custom role never connects").press("Go back").says("Sent back").see("organization-reverted")
}

// signInAsAdatum answers whatever the simulated Microsoft asks until the browser
// is back in the portal.
func (p *page) signInAsAdatum() {
	p.t.Helper()
	p.signInAs("admin@adatumbuilders.onmicrosoft.com", "Adatum-2026")
}
