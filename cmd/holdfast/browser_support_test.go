package main

import (
	"net/http"
	"testing"
)

// TestBrowserDisconnectedRole has somebody delete the role group in Exchange
// Online and looks at where that shows: to the organization and to its provider,
// until it is repaired.
func TestBrowserDisconnectedRole(t *testing.T) {
	p := newPage(t, "")
	base, sim := startDemo(t)
	p.base = base
	defer p.quiet()
	p.connectContoso()
	tamper(t, http.MethodDelete, sim+"/_simulator/tenants/contosodental.onmicrosoft.com/exchange/groups/Holdfast%20Exchange", "")
	p.open("/settings/credentials").press("Check now").says("being checked")
	for shown := false; !shown; {
		p.open("/settings/credentials")
		shown, _ = eval[bool](p, `document.body.innerText.includes("should be allowed, and is not")`)
	}
	p.see("credentials-disconnected")
	p.open("/accounts").says("Choose mailboxes").see("accounts")
	p.open("/status").says("Custom role").see("status-disconnected")
	p.open("/settings/notifications").says("E-mail to the admins").see("notifications")
	p.press("Sign out").says("Sign in")

	p.open("/sign-in").fill("input[name=email]", "dana@northwind.example").fill("input[name=password]", demoPassword).press("Sign in").says("Organizations")
	p.open("/partner/support").says("Contoso Dental").see("support")
	p.open("/partner/settings").says("Outgoing mail").fill("input[name=host]", "localhost").fill("input[name=port]", "1").
		fill("input[name=from]", "backup@northwind.example").press("Send a test message").says("Nothing answers").see("outgoing-mail")
}
