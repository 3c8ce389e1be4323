package main

import (
	"testing"

	"github.com/chromedp/chromedp"
)

// TestBrowserRestores walks from a mailbox through the permission to the report
// of a restore, and makes an export and deletes it.
func TestBrowserRestores(t *testing.T) {
	p := newPage(t, "")
	base, _ := startDemo(t)
	p.base = base
	defer p.quiet()
	p.connectContoso()
	p.open("/accounts").says("Front Desk")
	if _, err := eval[chromedp.Void](p, `[...document.querySelectorAll("tbody tr")].find(r => r.innerText.includes("Front Desk")).querySelector("input").click()`); err != nil {
		t.Fatal(err)
	}
	p.press("Back up the selected accounts").says("Dashboard")
	p.until("the first backup", `[...document.querySelectorAll("tr")].some(r => r.innerText.includes("Front Desk") && r.innerText.includes("Protected"))`)

	p.open("/browse").press("Search all mailboxes").says("Each search is written down").see("search-form")
	p.fill("#words", "a").fill("#from", "2001-01-01").press("Search").says("More in this mailbox").see("search")
	p.press("More in this mailbox").says("Search all mailboxes for the same").see("search-mailbox")
	p.open("/search?q=nowhere+to+be+found&from=soon").says("Enter a day like").see("search-error")
	p.open("/search?q=nowhere+to+be+found").says("No message matches").see("search-nothing")

	p.open("/browse").press("Front Desk").press("Restore folder").says("Where in the mailbox").see("restore-form")
	p.fill("#target", "nobody@contosodental.onmicrosoft.com").press("Continue").until("the error", `document.querySelector("#target-error")`).see("restore-form-error")
	p.fill("#target", "frontdesk@contosodental.onmicrosoft.com")
	if _, err := eval[chromedp.Void](p, `document.querySelector("[name=place][value=folder]").click()`); err != nil {
		t.Fatal(err)
	}
	p.press("Continue").says("Nothing in the mailbox is changed or deleted").see("restore-confirm")
	p.press("Restore, and ask for permission").says("Create the restore application").see("restore-permission")
	p.press("Sign in at Microsoft").says("simulated")
	p.signInAtMicrosoft()
	p.says("the permission is given back").press("A folder of Front Desk")
	p.until("the end of the restore", `location.pathname.startsWith("/restores/") && document.querySelector("#restore-live .status").innerText.startsWith("Done")`).see("restore-done")
	p.open("/restores").says("Done").see("restores")
	p.open("/settings/permissions").says("Restore permission")
	p.until("the permissions after the restore", `!document.body.innerText.includes("Holdfast Restore Mail")`).see("permissions-after-restore")

	p.open("/browse").press("Front Desk").says(".zip of .eml").press("Export").press("Start the export").says("Exports")
	p.until("the file", find("Download")).see("exports")
	question, err := eval[string](p, `document.querySelector("a[href$='/delete']").getAttribute("href")`)
	if err != nil {
		t.Fatal(err)
	}
	p.open(question).says("The file can't be downloaded any more").see("export-delete")
	p.press("Delete").says("No export yet")
}
