package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
)

// held lists the mailbox of an account of Contoso at Microsoft: folder, subject,
// read state.
func (o *office) held(upn string) []string {
	o.t.Helper()
	list, err := o.microsoft.Messages(contosoTenant, upn)
	if err != nil {
		o.t.Fatal(err)
	}
	var out []string
	for _, m := range list {
		out = append(out, fmt.Sprintf("%s: %s: %v", m.Name, m.Subject, m.Read))
	}
	slices.Sort(out)
	return out
}

// restoreIs opens the newest restore and waits for a state.
func (v *visitor) restoreIs(state string) *visitor {
	v.t.Helper()
	v.get("/restores")
	link := v.doc.Find("td.name a").First().AttrOr("href", "")
	return v.until(link, func() bool { return strings.HasPrefix(words(v.doc.Find("#restore-live .status").First()), state) })
}

// restore goes through the form of a mailbox to the confirmation.
func (v *visitor) restore(m backup.Mailbox, fill ...string) *visitor {
	v.t.Helper()
	v.get("/browse/" + string(m.ID) + "?folder=*").follow("Restore mailbox")
	return v.press("Continue", fill...)
}

// permit is the administrator's sign-in that a restore asks for.
func (v *visitor) permit() *visitor {
	v.t.Helper()
	v.press("Sign in at Microsoft").microsoft(contosoAdmin, contosoPass)
	return v.until("/setup", func() bool { return v.at.Path == "/restores" })
}

func TestRestoreAsksForPermissionAndGivesItBack(t *testing.T) {
	o := newOffice(t)
	v := o.connected(juergen)
	before := o.held(juergen)
	if len(before) < 10 {
		t.Fatalf("the mailbox has %d messages, want more", len(before))
	}
	if err := o.microsoft.Empty(contosoTenant, juergen); err != nil {
		t.Fatal(err)
	}
	v.get("/settings/permissions").says("Not held").says("Holdfast cannot write into mailboxes.")
	v.restore(o.account(juergen)).says("Restore?").says("is left alone").says("An administrator of the tenant is asked next.")
	v.press("Restore, and ask for permission").says("Restore permission").says("Mail.ReadWrite")
	if apps := o.apps(); apps[backup.WorkloadRestore].ID != "" {
		t.Error("the restore application was there before anybody gave permission")
	}
	v.permit().restoreIs("Done").says(fmt.Sprintf("%d restored", len(before)))
	if after := o.held(juergen); !slices.Equal(after, before) {
		t.Errorf("after the restore the mailbox has %d messages, want the %d that it had:\n%s\nwant\n%s", len(after), len(before), strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	o.givenBack(v)
	for _, r := range o.microsoft.Requests() {
		if r.Permission == "Mail.ReadWrite" && !strings.Contains(r.App, "Restore") {
			t.Errorf("%s %s used Mail.ReadWrite as %s", r.Method, r.Path, r.App)
		}
	}
	log := words(v.get("/activity").doc.Find("main"))
	for _, want := range []string{"Started a restore", "Gave the restore permission", "A restore ended", "The restore permission was given back"} {
		if !strings.Contains(log, want) {
			t.Errorf("the activity log does not say %q", want)
		}
	}

	// Restoring again makes no duplicates.
	v.restore(o.account(juergen)).press("Restore, and ask for permission").permit().restoreIs("Done").says("0 restored").says(fmt.Sprintf("%d there already", len(before)))
	if after := o.held(juergen); !slices.Equal(after, before) {
		t.Errorf("a second restore left %d messages, want %d", len(after), len(before))
	}
	o.givenBack(v)
}

// givenBack waits until the restore permission is gone: in the tenant, in the
// rows and on the page.
func (o *office) givenBack(v *visitor) {
	o.t.Helper()
	v.until("/settings/permissions", func() bool { return strings.Contains(v.text(), "Not held") })
	if app := o.apps()[backup.WorkloadRestore]; app.ID != "" {
		o.t.Errorf("the restore application is kept: %s", app.State)
	}
	deleted := 0
	for _, r := range o.microsoft.Requests() {
		if r.Method == http.MethodDelete && strings.Contains(r.Path, "/applications/") && r.Status == http.StatusNoContent {
			deleted++
		}
	}
	if deleted == 0 {
		o.t.Error("no application was deleted in the tenant")
	}
	o.noTokensLeft(v)
}

func TestOneMessageIntoAnotherMailbox(t *testing.T) {
	o := newOffice(t)
	v := o.connected(juergen)
	v.get("/browse/" + string(o.account(juergen).ID))
	subject := words(v.doc.Find("td.subject a").First())
	v.get(v.doc.Find("td.subject a").First().AttrOr("href", "")).follow("Restore")
	v.press("Continue", "target", "nobody@"+contosoTenant)
	if v.status != http.StatusUnprocessableEntity || v.doc.Find("#target").AttrOr("value", "") != "nobody@"+contosoTenant {
		t.Errorf("a mailbox that is not there = %d, want 422 with what was typed", v.status)
	}
	v.says("has no mailbox with this address")
	v.press("Continue", "target", "frank@fabrikamlegal.onmicrosoft.com").says("has no mailbox with this address")
	v.press("Continue", "target", priya, "place", "folder", "name", "a/b").says("Enter a name without /")
	v.press("Continue", "target", priya, "place", "folder", "name", "Back again").says("another mailbox than the one that was backed up")
	had := len(o.held(priya))
	v.press("Restore, and ask for permission").permit().restoreIs("Done")
	v.get("/restores").says("One message of ").says(subject)
	if viewer := o.signIn(viewerMail).get("/restores"); strings.Contains(viewer.text(), subject) || !strings.Contains(viewer.text(), "One message of ") {
		t.Errorf("a viewer is shown %s", viewer.text())
	}
	after := o.held(priya)
	if len(after) != had+1 || !slices.ContainsFunc(after, func(m string) bool { return strings.HasPrefix(m, "Back again: "+subject) }) {
		t.Errorf("the other mailbox has %d messages, had %d: %s", len(after), had, strings.Join(after, "\n"))
	}
	o.givenBack(v)
}

func TestPermissionRefused(t *testing.T) {
	o := newOffice(t)
	v := o.connected(juergen)
	v.restore(o.account(juergen), "copies", "true").says("is restored again, as a copy").press("Restore, and ask for permission")
	had := len(o.held(juergen))
	v.get("/setup").press("Sign in at Microsoft")
	v.microsoft("priya@"+contosoTenant, contosoPass)
	v.get(o.portal + "/setup").says("Sign in and consent") // a plain user can't give it
	v.follow("Give up").press("Give up")
	v.restoreIs("Waiting for permission").says("it waits for 24 hours")
	v.press("Give permission").says("Restore permission")
	v.get("/setup/abandon").press("Give up")
	v.restoreIs("Waiting for permission").press("Cancel").restoreIs("Cancelled")
	if len(o.held(juergen)) != had {
		t.Error("something was restored without permission")
	}
	for _, r := range o.microsoft.Requests() {
		if r.Permission == "Mail.ReadWrite" {
			t.Errorf("%s %s was allowed", r.Method, r.Path)
		}
	}
}

func TestCancelAndStopInTheMiddle(t *testing.T) {
	o := newOffice(t)
	v := o.connected(juergen)
	before := o.held(juergen)
	if err := o.microsoft.Empty(contosoTenant, juergen); err != nil {
		t.Fatal(err)
	}
	if err := o.microsoft.AddFault(simulator.Fault{Host: "graph", Method: http.MethodPost, Path: "/messages$", Delay: simulator.Duration(300 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	v.restore(o.account(juergen)).press("Restore, and ask for permission").permit().restoreIs("Running")
	v.until(v.at.Path, func() bool { return len(o.held(juergen)) > 3 })
	o.stop() // the process ends in the middle
	o.work()
	v.until(v.at.Path, func() bool { return len(o.held(juergen)) > 8 })
	v.get(v.at.Path).press("Cancel").restoreIs("Cancelled")
	part := len(o.held(juergen))
	if part >= len(before) {
		t.Fatalf("nothing was left to cancel: %d of %d", part, len(before))
	}
	o.givenBack(v)
	o.microsoft.ClearFaults()
	v.restoreIs("Cancelled").press("Try again").permit().restoreIs("Done")
	if after := o.held(juergen); !slices.Equal(after, before) {
		t.Errorf("after an end in the middle, a cancel and another try there are %d messages, want %d", len(after), len(before))
	}
	o.givenBack(v)
}

func TestReportNamesWhatCouldNotBeRestored(t *testing.T) {
	o := newOffice(t)
	v := o.connected(juergen)
	before := len(o.held(juergen))
	if err := o.microsoft.Empty(contosoTenant, juergen); err != nil {
		t.Fatal(err)
	}
	if err := o.microsoft.AddFault(simulator.Fault{Host: "graph", Method: http.MethodPost, Path: "/messages$", Status: http.StatusBadRequest, Code: "ErrorInvalidProperty", Times: 2}); err != nil {
		t.Fatal(err)
	}
	v.restore(o.account(juergen)).press("Restore, and ask for permission").permit().restoreIs("Done, with gaps").says("2 not restored").says("ErrorInvalidProperty")
	if got := len(o.held(juergen)); got != before-2 {
		t.Errorf("%d messages were restored, want %d", got, before-2)
	}
	page := v.at.Path
	report, disposition := v.download(page + "/report.csv")
	if lines := strings.Count(string(report), "not restored"); lines != 2 || !strings.Contains(disposition, "attachment") {
		t.Errorf("report has %d lines (%s):\n%s", lines, disposition, report)
	}
	w := o.signIn(viewerMail)
	w.get(page).says("Done, with gaps")
	if strings.Contains(w.body, "ErrorInvalidProperty") || w.doc.Find("main form[method=post]").Length() > 0 {
		t.Error("a viewer sees messages, or may change something")
	}
	for _, path := range []string{page + "/cancel", page + "/retry", "/browse/" + string(o.account(juergen).ID) + "/restore"} {
		if w.do(http.MethodPost, path, url.Values{}); w.status != http.StatusForbidden {
			t.Errorf("POST %s as a viewer = %d, want 403", path, w.status)
		}
	}
	for _, path := range []string{page, page + "/live", page + "/report.csv"} {
		if other := o.signIn(otherMail).get(path); other.status != http.StatusNotFound {
			t.Errorf("%s for another organization = %d, want 404", path, other.status)
		}
	}
}
