package main

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"
)

// TestBrowserPeople invites somebody, who comes in by the link, sets up an
// authenticator app, signs in with it, acts for an organization, is refused
// where the role ends, and is read about and forbidden by the organization.
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
	p.fill("input[name=password]", "three unrelated words").fill("input[name=again]", "three unrelated words").press("Set password").says("Your password is set")

	// The first sign-in with an authenticator app.
	p.open("/account").press("Set up").says("Set up an authenticator app")
	key, err := eval[string](p, `document.querySelector("#app-key").textContent.replaceAll(" ", "")`)
	if err != nil {
		t.Fatal(err)
	}
	p.fill("#code", code(t, key, 0)).press("Turn on").says("Your recovery codes")
	p.press("Sign out").says("You are signed out")
	p.fill("input[name=email]", "nora@northwind.example").fill("input[name=password]", "three unrelated words").press("Sign in").says("Second step")
	p.fill("#code", code(t, key, 30*time.Second))
	if _, err := eval[chromedp.Void](p, `document.querySelector("#code").form.requestSubmit()`); err != nil && p.ctx.Err() != nil {
		t.Fatal(err)
	}
	p.says("Organizations")

	// Support acts for an organization, which says so, and is refused settings.
	p.press("Contoso Dental").fill("[name=reason]", "A ticket of theirs").press("Act for").says("is acting for").see("dashboard-acting")
	p.open("/partner/organizations").says("is acting for").see("organizations-acting")
	p.open("/partner/settings").says("Your role does not allow this").see("refused")
	p.mu.Lock()
	p.faults = nil // that page is a 403
	p.mu.Unlock()
	p.open("/dashboard").press("Stop acting").says("You stopped acting for Contoso Dental")
	p.press("Sign out").says("You are signed out")

	// The organization's admin reads it, and forbids it.
	p.fill("input[name=email]", "adele@contoso.example").fill("input[name=password]", demoPassword).press("Sign in").says("Dashboard")
	p.open("/activity").says("A ticket of theirs").says("Was refused").see("activity-acting")
	p.open("/settings")
	if _, err := eval[chromedp.Void](p, `(() => { const c = document.querySelector("[name=forbid_acting]"); c.checked = true; c.form.requestSubmit() })()`); err != nil && p.ctx.Err() != nil {
		t.Fatal(err)
	}
	p.says("Saved.").see("settings-forbidden")

	// Now the partner's people ask first, and an admin grants it for a day.
	signInAs := func(mail, lands string) {
		p.press("Sign out").says("You are signed out")
		p.fill("input[name=email]", mail).fill("input[name=password]", demoPassword).press("Sign in").says(lands)
	}
	signInAs("dana@northwind.example", "Organizations")
	p.press("Contoso Dental").says("lets nobody act for it without being asked").see("organization-forbidden")
	p.fill("[name=reason]", "Move a mailbox").press("Ask Contoso Dental").says("was asked").see("organization-asked")
	signInAs("adele@contoso.example", "Dashboard")
	p.open("/settings").says("Move a mailbox").see("settings-asked").press("Grant for a day").says("Granted for a day").see("settings-granted")
	signInAs("dana@northwind.example", "Organizations")
	p.press("Contoso Dental").fill("[name=reason]", "Move a mailbox").press("Act for").says("is acting for").press("Stop acting").says("You stopped acting")
}

// code is what an authenticator app shows, some time from now. The code of now and
// the next one are each taken for half a minute at least.
func code(t *testing.T, key string, shift time.Duration) string {
	t.Helper()
	c, err := totp.GenerateCode(key, time.Now().Add(shift))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
