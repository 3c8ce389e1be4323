package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/backup/imap/imaptest"
)

// TestBrowserIMAP adds an IMAP server with two accounts, one of which is refused,
// and follows the first backup of the other to the messages.
func TestBrowserIMAP(t *testing.T) {
	server := imaptest.StartFake(t, 25)
	server.Fault = func(c *imaptest.FakeConn, verb, line string) bool {
		if verb != "AUTHENTICATE" || !strings.Contains(line, imaptest.PlainResponse("bob@contoso.example", "wrong")) {
			return false
		}
		c.Say("%s NO [AUTHENTICATIONFAILED] Authentication failed.", strings.Fields(line)[0])
		return true
	}
	p := newPage(t, "")
	base, _ := startDemo(t)
	p.base = base
	defer p.quiet()
	p.open("/sign-in").fill("input[name=email]", "adele@contoso.example").fill("input[name=password]", demoPassword).press("Sign in").says("Dashboard")
	p.open("/add-backup").says("IMAP server").see("add-backup-imap")
	p.press("IMAP server").says("How Holdfast signs in").see("imap-form")
	settings := server.Server()
	p.fill("#host", settings.Host).fill("#port", "993").fill("#accounts", "ada@contoso.example,right\nbob@contoso.example").press("Test connection").
		says("1 line can't be used").see("imap-wrong-line")
	if _, err := eval[chromedp.Void](p, `document.querySelector("details").open = true`); err != nil {
		t.Fatal(err)
	}
	p.fill("#port", strconv.Itoa(settings.Port)).fill("#certificates", settings.Certificates).
		fill("#accounts", "ada@contoso.example,right\nbob@contoso.example,wrong").press("Test connection")
	p.until("the tests", `document.body.innerText.includes("1 account of 2 can't be opened")`).see("imap-tested")
	p.press("Back up the selected accounts").says("the first backup of one mailbox has started")
	p.until("the first backup", `[...document.querySelectorAll(".status")].some(e => e.innerText.startsWith("Protected"))`).see("imap-dashboard")
	p.open("/settings/credentials").says("IMAP server localhost").see("imap-credentials")
	p.press("Accounts and passwords").says("Backed up").see("imap-accounts")
	p.press("Server settings").says("Save and test").see("imap-server")
	p.open("/settings/permissions").says("IMAP knows no permissions").see("imap-permissions")
	p.open("/browse").press("ada@contoso.example").says("Letter").see("imap-browse")
}
