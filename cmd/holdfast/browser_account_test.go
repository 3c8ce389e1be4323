package main

import (
	"database/sql"
	"path/filepath"
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
	data := filepath.Join(t.TempDir(), "demo")
	startDemoAt(t, addr, sim, "-public-url", p.base, "-second-factor", "required", "-data", data)
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
	p.fill("#code", code(time.Now())).press("Turn on").says("Your recovery codes").see("account-codes")
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
	p.fill("#code", code(time.Now().Add(30*time.Second)))
	if _, err := eval[chromedp.Void](p, `document.querySelector("#code").form.requestSubmit()`); err != nil && p.ctx.Err() != nil {
		t.Fatal(err)
	}
	p.says("Organizations")
	p.press("Sign out").says("You are signed out")

	// The password, then the passkey.
	p.password().press("Use a passkey").says("Organizations")

	// Later, what changes how people get in asks who it is, and keeps what was typed.
	forgetConfirmations(t, data)
	p.open("/partner/tokens").fill("input[name=name]", "Monitoring")
	if _, err := eval[chromedp.Void](p, `(() => { const f = document.querySelector("main form[method=post] input[name=name]").form; f.querySelector("[name=scopes]").checked = true; f.requestSubmit() })()`); err != nil && p.ctx.Err() != nil {
		t.Fatal(err)
	}
	p.says("You are about to make an API token").see("confirm")
	p.fill("#current", "wrong password").press("Confirm and go on").says("This is not your password").see("confirm-refused")
	p.press("Use a passkey").says("The token was made").says("Monitoring")
	forgetConfirmations(t, data)
	p.open("/account").fill("input[name=name]", "Another laptop").press("Add a passkey").says("You are about to add a passkey")
	p.fill("#current", demoPassword).press("Confirm and go on").says("Choose Add a passkey once more").see("account-confirmed")
	if kept, err := eval[string](p, `document.querySelector("input[name=name]").value`); err != nil || kept != "Another laptop" {
		t.Errorf("the passkey's name is %q, %v; want what was typed", kept, err)
	}
	p.mu.Lock()
	p.faults = nil // the refused password, and the script that was told to ask first
	p.mu.Unlock()
}

// forgetConfirmations makes all sessions of a demo look as if their people had
// signed in an hour ago.
func forgetConfirmations(t *testing.T, data string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(data, "holdfast.db")+"?_pragma=busy_timeout(20000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `UPDATE web_sessions SET confirmed_at = confirmed_at - 3600000`); err != nil {
		t.Fatal(err)
	}
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
