package main

import "testing"

// TestBrowserRekeys has the partner's owner move an organization to new keys, and
// looks at each state until what is old waits for its deletion.
func TestBrowserRekeys(t *testing.T) {
	p := newPage(t, "")
	p.base, _ = startDemo(t)
	defer p.quiet()
	p.open("/sign-in").fill("input[name=email]", "ines@adatum.example").fill("input[name=password]", demoPassword).press("Sign in").says("Dashboard")
	p.until("the first backups", `[...document.querySelectorAll(".status")].filter(e => e.innerText.startsWith("Protected")).length >= 2`)
	p.press("Sign out").says("Sign in")

	p.open("/sign-in").fill("input[name=email]", "dana@northwind.example").fill("input[name=password]", demoPassword).press("Sign in").says("Organizations")
	p.open("/partner/settings/storage").press("Adatum Builders").says("Check now").unfold().says("destroy the older ones").see("rekey")
	p.press("Move to new keys").says("has new keys, and everything is moved to them now").see("rekey-begun")
	p.until("the end of the first part", `document.body.innerText.includes("under the new keys alone") && document.body.innerText.includes("goes on by itself")`)
	p.unfold().says("Go on now").see("rekey-waits")
	p.press("Go on now").says("to new keys goes on now")
	p.until("the end of the second part", `document.body.innerText.includes("goes on by itself")`)
}
