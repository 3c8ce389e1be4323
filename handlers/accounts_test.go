package handlers_test

import (
	"net/http"
	"net/url"
	"testing"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
	"holdfast/store"
)

func TestMailboxesAreAddedLater(t *testing.T) {
	o, v := connected(t)
	o.backedUp(1)
	v.get("/dashboard").follow("Choose mailboxes").says("1 mailbox is chosen for backup")
	if v.doc.Find("tr:contains('New Starter')").Length() > 0 {
		t.Error("a mailbox that is backed up is offered")
	}
	if v.press("Back up the selected accounts"); v.status != http.StatusUnprocessableEntity {
		t.Errorf("selecting nothing = %d", v.status)
	}
	v.says("Select at least one account")
	v.press("Back up the selected accounts", "account", "nobody").says("no longer there")
	id := v.doc.Find("tr:contains('Front Desk') input").AttrOr("value", "")
	other := o.signIn(otherMail)
	if other.do(http.MethodPost, "/accounts", url.Values{"connection": {string(o.conn().ID)}, "account": {id}}); other.status != http.StatusNotFound {
		t.Errorf("another organization adds it: %d", other.status)
	}
	v.press("Back up the selected accounts", "account", id).says("One mailbox is added")
	o.backedUp(2)
	page, err := o.store.Mailboxes(t.Context(), o.org(adminMail), store.MailboxQuery{})
	if err != nil || page.Total != 2 {
		t.Errorf("%d mailboxes are backed up, %v", page.Total, err)
	}
	v.get("/activity").says("Added a backup")
}

// The ten cmdlets make a role and can't remove it, so it is named when the
// authorization is given up, and again the portal's own when there is another.
func TestARoleThatStaysIsNamed(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail).consent(contosoAdmin, contosoPass).applications()
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	v.get(o.portal + "/setup/abandon").says("The custom role in Exchange Online stays").press("Give up")
	v.until("/add-backup", func() bool { return v.doc.Find(".attention").Length() > 0 })
	v.says("its applications are deleted").says("Remove-RoleGroup -Identity 'Holdfast Exchange'").says("Remove-ManagementRole")
	if n := o.applicationsInTenant(); n != 0 {
		t.Errorf("%d applications are left", n)
	}
	v.consent(contosoAdmin, contosoPass).applications()
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	v.roleIs("Connected").get("/setup/abandon").press("Give up")
	v.until("/add-backup", func() bool { return v.doc.Find(".attention").Length() > 0 })
	v.press("I have deleted it").says("Noted.")
	if v.get("/status"); v.doc.Find(".attention").Length() > 0 {
		t.Error("it is still named")
	}
}

// What an authorization that was given up could not remove is named until
// somebody says that it is gone.
func TestWhatIsLeftBehindIsNamed(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail).consent(contosoAdmin, contosoPass).applications()
	fault := simulator.Fault{Host: "graph", Method: http.MethodDelete, Status: http.StatusForbidden, Code: "Authorization_RequestDenied", Message: "Insufficient privileges to complete the operation."}
	if err := o.microsoft.AddFault(fault); err != nil {
		t.Fatal(err)
	}
	v.follow("Give up").press("Give up")
	v.until("/settings/credentials", func() bool { return v.doc.Find(".attention").Length() > 0 })
	apps, err := o.store.SubApplications(t.Context(), o.org(adminMail), o.conn().ID)
	if err != nil || len(apps) == 0 {
		t.Fatalf("%d applications are known, %v", len(apps), err)
	}
	for _, path := range []string{"/settings/credentials", "/status", "/add-backup"} {
		v.get(path).says("Left behind in contosodental.onmicrosoft.com").says(apps[0].DisplayName).says(apps[0].AppID).says("Entra admin center")
	}
	auth, err := o.store.LatestAuthorization(t.Context(), o.org(adminMail))
	if err != nil || len(auth.SetupToken) > 0 || auth.Step != backup.StepAbandoned {
		t.Errorf("%s with a token of %d bytes, %v", auth.Step, len(auth.SetupToken), err)
	}
	path := "/setup/left-behind/" + string(auth.ID)
	if other := o.signIn(otherMail); other.do(http.MethodPost, path, url.Values{}).status != http.StatusNotFound {
		t.Errorf("another organization forgets it: %d", other.status)
	}
	v.press("I have deleted it").says("Noted.")
	if v.doc.Find(".attention").Length() > 0 {
		t.Error("it is still named")
	}
	if left, err := o.store.Connections(t.Context(), o.org(adminMail)); err != nil || len(left) != 0 {
		t.Errorf("%d connections are left, %v", len(left), err)
	}
	if v.do(http.MethodPost, path, url.Values{}); v.status != http.StatusNotFound {
		t.Errorf("a second time = %d", v.status)
	}
}
