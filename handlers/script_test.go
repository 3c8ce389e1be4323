package handlers_test

import (
	"net/http"
	"strings"
	"testing"

	"holdfast/backup"
)

// manual switches manual custom role creation on, as the partner's owner does.
func (o *office) manual(on bool) {
	o.t.Helper()
	org, err := o.store.OrganizationByID(o.t.Context(), o.org(adminMail))
	if err != nil {
		o.t.Fatal(err)
	}
	if err := o.store.SetManualRole(o.t.Context(), org.PartnerID, org.ID, on, backup.Actor{}); err != nil {
		o.t.Fatal(err)
	}
}

func TestManualFlowByScript(t *testing.T) {
	o := newOffice(t)
	o.manual(true)
	v := o.signIn(adminMail).consent(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return strings.Contains(v.text(), "Download the script") })
	// The toggle of the organization counts from the next time on.
	o.manual(false)
	v.get("/setup").says("Run it to its end").says("Unblock-File")

	v.get("/setup/script")
	script := v.body
	if v.status != http.StatusOK || !strings.HasPrefix(v.header.Get("Content-Disposition"), "attachment") || !strings.Contains(script, "New-RoleGroup") {
		t.Fatalf("script = %d %s", v.status, v.header.Get("Content-Disposition"))
	}
	v.get("/setup").press("Verify")
	v.until("/setup", func() bool { return v.doc.Find(".problem").Length() > 0 })
	v.says("has not run to its end").says("2.3")

	report, err := o.microsoft.RunScript(script, "")
	if err != nil || len(report) < 5 {
		t.Fatalf("the script did %v, %v", report, err)
	}
	if again, err := o.microsoft.RunScript(script, ""); err != nil || strings.Contains(strings.Join(again[1:], "\n"), "done  Create") {
		t.Errorf("the script run again did %v, %v; want nothing new", again, err)
	}
	v.press("Verify").until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	role, err := o.store.CustomRole(t.Context(), o.org(adminMail), o.conn().ID)
	if err != nil || role.State != backup.RoleConnected || role.AdminUPN != "" || len(role.Token) > 0 {
		t.Errorf("role = %+v, %v; want connected without anybody's token", role, err)
	}
	v.get("/activity").says("Downloaded the PowerShell script")
}

func TestManualFlowGoesOnWhileExchangeTakesItsTime(t *testing.T) {
	o := newOffice(t)
	o.manual(true)
	v := o.signIn(adminMail).consent(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return strings.Contains(v.text(), "Download the script") })
	v.press("Verify").until("/setup", func() bool { return v.doc.Find(".problem").Length() > 0 })
	v.press("Verify", "ended", "yes").until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	v.says("Pending").says("public folder backup and restore and journaling are paused")
}

func TestFeaturesTab(t *testing.T) {
	p := newPortal(t)
	path := "/partner/organizations/" + string(p.orgs["Contoso Dental"].ID) + "/features"
	if _, doc := p.as(samMail).get(path); doc.Find("input[name=manual_role][disabled]").Length() != 1 || !strings.Contains(doc.Text(), "A partner owner can change this") {
		t.Error("support can change the toggle, or does not see it")
	}
	if res, _ := p.as(samMail).post(path, map[string][]string{"manual_role": {"on"}}); res.StatusCode != http.StatusForbidden {
		t.Errorf("support changed it: %d", res.StatusCode)
	}
	b := p.as(danaMail)
	b.post(path, map[string][]string{"manual_role": {"on"}})
	if _, doc := b.get(path); doc.Find("input[name=manual_role][checked]").Length() != 1 {
		t.Error("the toggle is not on")
	}
	if _, doc := p.acting(danaMail, "Contoso Dental").get("/add-backup/microsoft365"); !strings.Contains(doc.Text(), "you download a PowerShell script") {
		t.Error("Add Backup does not say that the role is made by hand")
	}
	if _, doc := b.get(strings.TrimSuffix(path, "/features") + "/activity"); !strings.Contains(doc.Find("tbody").Text(), "manual") {
		t.Error("the change is not in the activity log")
	}
}
