package main

import (
	"testing"
)

// TestBrowserPeople invites somebody, who comes in by the link, sets up an
// authenticator app, and is refused where the role ends.
func TestBrowserPeople(t *testing.T) {
	p := newPage(t, "")
	addr, sim := freeAddr(t), freeAddr(t)
	base := "http://" + addr
	startDemoAt(t, addr, sim, "-second-factor", "optional")
	p.base = base
	defer p.quiet()
	p.open("/sign-in").fill("input[name=email]", "dana@northwind.example").fill("input[name=password]", demoPassword).press("Sign in").says("Organizations").see("organizations")
	p.open("/partner/organizations").press("Contoso Dental").says("New data, last 30 days").see("organization")
	p.open("/partner/staff").says("Sam Okafor").press("Invite a person").fill("input[name=name]", "Nora Quist").fill("input[name=email]", "nora@northwind.example").see("staff-invite")
	p.press("Invite this person").says("Set-up link for Nora Quist").see("staff")
	link, err := eval[string](p, `(document.querySelector("#set-up-link").value || document.querySelector("#set-up-link").textContent).trim()`)
	if err != nil {
		t.Fatal(err)
	}
	person, err := eval[string](p, `document.querySelector("[aria-label='Change Sam Okafor']").getAttribute("href")`)
	if err != nil {
		t.Fatal(err)
	}
	p.open(person).says("Save the role").see("person")
	p.press("Sign out").says("Sign in")
	p.open("/forgot").says("Forgot your password?").see("forgot")
	p.open(link[len(base):]).says("Choose a password").fill("input[name=password]", "password1234").fill("input[name=again]", "password1234").press("Set password").says("among the first").see("set-up-refused")
}
