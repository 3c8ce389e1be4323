package main

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/pquerna/otp/totp"
)

// TestBrowserSecondFactors sets up an authenticator app and a passkey in a real
// browser, whose authenticator is Chromium's own, and signs in with each.
func TestBrowserSecondFactors(t *testing.T) {
	p := newPage(t, "")
	addr, sim := freeAddr(t), freeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	p.base = "http://localhost:" + port // passkeys need a name
	startDemoAt(t, addr, sim, "-public-url", p.base, "-second-factor", "required")
	defer p.quiet()
	p.authenticator()

	p.open("/sign-in").says("Sign in with a passkey").see("sign-in-passkey")
	p.password().says("Set up a second factor first").see("account-missing")
	p.open("/partner/organizations").says("Set up a second factor first")
	p.press("Set up").says("Set up an authenticator app").see("app")
	key, err := eval[string](p, `document.querySelector("#app-key").textContent.replaceAll(" ", "")`)
	if err != nil {
		t.Fatal(err)
	}
	code := func(at time.Time) string {
		c, err := totp.GenerateCode(key, at)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p.fill("#code", code(time.Now().Add(-30*time.Second))).press("Turn on").says("Your recovery codes").see("account-codes")
	p.fill("input[name=name]", "This laptop").press("Add a passkey").says("The passkey was added").see("account")
	p.press("Sign out").says("You are signed out")

	// The passkey alone, without a password.
	p.press("Sign in with a passkey").says("Organizations")
	p.press("Sign out").says("You are signed out")

	// The password, then the app's code.
	p.password().says("Second step").see("factor")
	p.fill("#code", "000000")
	if _, err := eval[chromedp.Void](p, `document.querySelector("#code").form.requestSubmit()`); err != nil && p.ctx.Err() != nil {
		t.Fatal(err)
	}
	p.says("not right")
	p.fill("#code", code(time.Now()))
	if _, err := eval[chromedp.Void](p, `document.querySelector("#code").form.requestSubmit()`); err != nil && p.ctx.Err() != nil {
		t.Fatal(err)
	}
	p.says("Organizations")
	p.press("Sign out").says("You are signed out")

	// The password, then the passkey.
	p.password().press("Use a passkey").says("Organizations")
}

// password signs the sample partner's owner in as far as a password does.
func (p *page) password() *page {
	p.t.Helper()
	return p.fill("input[name=email]", "dana@northwind.example").fill("input[name=password]", demoPassword).press("Sign in")
}

// authenticator gives the browser a device that makes passkeys and confirms by
// itself.
func (p *page) authenticator() {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		p.t.Fatal(err)
	}
	if _, err := chromedp.Call(p.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: "ctap2", Transport: "internal", HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}}); err != nil {
		p.t.Fatal(err)
	}
}
