package handlers_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
)

const inContoso = "/tenants/contosodental.onmicrosoft.com"

// connected is an office whose first organization is connected and whose custom
// role works.
func connected(t *testing.T) (*office, *visitor) {
	t.Helper()
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.consent(contosoAdmin, contosoPass).applications()
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	id := v.doc.Find("#accounts tr:contains('New Starter') input").AttrOr("value", "")
	v.press("Back up the selected accounts", "account", id).says("Microsoft 365 is connected")
	return o, v
}

// apps are the sub-applications of the first organization by workload.
func (o *office) apps() map[backup.Workload]backup.SubApplication {
	o.t.Helper()
	list, err := o.store.SubApplications(o.t.Context(), o.org(adminMail), o.conn().ID)
	if err != nil {
		o.t.Fatal(err)
	}
	apps := map[backup.Workload]backup.SubApplication{}
	for _, a := range list {
		apps[a.Workload] = a
	}
	return apps
}

func (o *office) conn() backup.Connection {
	o.t.Helper()
	list, err := o.store.Connections(o.t.Context(), o.org(adminMail))
	if err != nil || len(list) != 1 {
		o.t.Fatalf("connections: %d %v", len(list), err)
	}
	return list[0]
}

// checked asks for a check and waits for its answer.
func (v *visitor) checked() *visitor {
	v.t.Helper()
	v.until("/settings/permissions", func() bool { return v.doc.Find("button:contains('Check now')").Length() > 0 })
	v.press("Check now")
	return v.until("/settings/permissions/live", func() bool { return !strings.Contains(v.body, "Reading from the tenant") })
}

// finished goes through an authorization that needs one sign-in, to Credentials.
func (v *visitor) finished() *visitor {
	v.t.Helper()
	v.press("Sign in at Microsoft").microsoft(contosoAdmin, contosoPass)
	return v.until("/setup", func() bool {
		return v.at.Path == "/settings/credentials" || v.doc.Find("#device, .problem").Length() > 0
	})
}

func TestPermissionsAreReadFromTheTenant(t *testing.T) {
	o, v := connected(t)
	v.checked().get("/settings/permissions")
	v.says("Read from the tenant").says("known only while an administrator is signed in").says("By itself it may do nothing in the tenant").says(contosoAdmin).says("Mail.Read").says("Get-Mailbox")
	if text := v.text(); strings.Contains(text, "Beyond") || strings.Contains(text, "Not granted") {
		t.Errorf("something differs in a fresh tenant: %s", text)
	}
	o.change(http.MethodPost, inContoso+"/servicePrincipals/"+o.apps()[backup.WorkloadMail].AppID+"/roles/Mail.ReadWrite", "")
	v.checked().get("/settings/permissions").says("The tenant grants more than Holdfast asked for").says("Holdfast Backup Mail: Mail.ReadWrite")
	v.get("/dashboard").says("The tenant grants more than Holdfast asked for:")

	v.get("/settings/permissions").follow("Proof for an auditor")
	hash := strings.TrimSpace(v.doc.Find("code.long").Last().Text())
	v.says(simulator.MainClientID).says(o.conn().TenantID).says(o.apps()[backup.WorkloadMail].ObjectID)
	v.do(http.MethodGet, v.at.Path+".json", nil)
	sum := sha256.Sum256([]byte(v.body))
	if v.status != http.StatusOK || hex.EncodeToString(sum[:]) != hash {
		t.Errorf("status %d, SHA-256 %x, the page says %s", v.status, sum, hash)
	}
	for _, wanted := range []string{`"Mail.ReadWrite"`, `"beyond"`, `"certificate_sha256"`, `"tenant_id"`} {
		if !strings.Contains(v.body, wanted) {
			t.Errorf("the proof lacks %s", wanted)
		}
	}
	if strings.Contains(v.body, "PRIVATE") || strings.Contains(v.body, "token\"") {
		t.Error("the proof has a secret")
	}
}

func TestPermissionsBelongToTheOrganization(t *testing.T) {
	o, _ := connected(t)
	other, id := o.signIn(otherMail), string(o.conn().ID)
	for _, path := range []string{"/proof", "/proof.json"} {
		if other.get("/settings/permissions/" + id + path); other.status != http.StatusNotFound {
			t.Errorf("another organization GET %s = %d", path, other.status)
		}
	}
	for _, path := range []string{"/settings/permissions/" + id + "/check", "/settings/credentials/" + id + "/repair", "/settings/credentials/" + id + "/renew", "/settings/credentials/" + id + "/exchange"} {
		if other.do(http.MethodPost, path, url.Values{}); other.status != http.StatusNotFound {
			t.Errorf("another organization POST %s = %d", path, other.status)
		}
	}
	viewer := o.signIn(viewerMail)
	viewer.until("/settings/permissions", func() bool { return strings.Contains(viewer.text(), "Mail.Read") })
	if viewer.doc.Find("button:contains('Check now')").Length() > 0 {
		t.Error("a viewer is offered a check")
	}
	for _, path := range []string{"/settings/permissions/" + id + "/check", "/settings/credentials/" + id + "/repair", "/settings/credentials/" + id + "/renew", "/settings/credentials/" + id + "/exchange"} {
		if viewer.do(http.MethodPost, path, url.Values{}); viewer.status != http.StatusForbidden {
			t.Errorf("viewer POST %s = %d", path, viewer.status)
		}
	}
}

func TestRepairIsShortAndTouchesNothingElse(t *testing.T) {
	for _, test := range []struct {
		name, says string
		workload   backup.Workload
		damage     func(o *office, app string)
		roleAgain  bool
	}{
		{"mail disabled", "Disabled", backup.WorkloadMail, func(o *office, app string) {
			o.change(http.MethodPatch, inContoso+"/servicePrincipals/"+app, `{"enabled":false}`)
		}, false},
		{"exchange permission withdrawn", "Permission withdrawn", backup.WorkloadExchange, func(o *office, app string) {
			o.change(http.MethodDelete, inContoso+"/servicePrincipals/"+app+"/roles/Exchange.ManageAsApp", "")
		}, false},
		{"exchange certificate removed", "Certificate refused", backup.WorkloadExchange, func(o *office, app string) {
			o.change(http.MethodDelete, inContoso+"/applications/"+app+"/credentials", "")
		}, false},
		{"exchange principal deleted", "Deleted", backup.WorkloadExchange, func(o *office, app string) {
			o.change(http.MethodDelete, inContoso+"/servicePrincipals/"+app, "")
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, v := connected(t)
			before := o.apps()
			test.damage(o, before[test.workload].AppID)
			v.checked().get("/settings/credentials").says("1 application needs a repair").says(test.says)
			v.press("Repair " + before[test.workload].DisplayName)
			v.says("Nothing else in the tenant is touched").finished()
			if asked := v.doc.Find("#device").Length() > 0; asked != test.roleAgain {
				t.Fatalf("asked for step 2: %t, want %t: %s", asked, test.roleAgain, v.text())
			}
			if test.roleAgain {
				v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
				v.until("/setup", func() bool { return v.at.Path == "/settings/credentials" })
			}
			v.says("Repaired").says("Custom Role StatusConnected")
			if strings.Contains(v.text(), "needs a repair") {
				t.Errorf("still broken: %s", v.text())
			}
			v.checked().get("/settings/credentials")
			if strings.Contains(v.text(), "needs a repair") {
				t.Errorf("broken again after a check: %s", v.text())
			}
			for workload, app := range o.apps() {
				b := before[workload]
				if workload != test.workload && (app.AppID != b.AppID || app.PrincipalID != b.PrincipalID || !app.NotAfter.Equal(b.NotAfter)) {
					t.Errorf("the %s application was touched", workload)
				}
			}
			o.noTokensLeft(v)
		})
	}
}

func TestRepairGivenUpDeletesNothing(t *testing.T) {
	o, v := connected(t)
	app := o.apps()[backup.WorkloadMail].AppID
	o.change(http.MethodPatch, inContoso+"/servicePrincipals/"+app, `{"enabled":false}`)
	v.checked().get("/settings/credentials").press("Repair Holdfast Backup Mail")
	v.follow("Give up").says("Nothing is deleted in the tenant").press("Give up").says("The connection keeps all that it has")
	v.get("/settings/credentials").press("Repair Holdfast Backup Mail").finished().says("Repaired")
	if o.apps()[backup.WorkloadMail].AppID != app {
		t.Error("the application is another one")
	}
}

func TestSwitchingAWorkloadOffRemovesItsApplication(t *testing.T) {
	o, v := connected(t)
	before := o.apps()
	v.get("/settings/credentials").follow("Switch off").says("Holdfast Backup Exchange").says(before[backup.WorkloadExchange].AppID).says("Exchange.ManageAsApp")
	v.press("Delete Holdfast Backup Exchange").finished().says("Removed").says("Public folders and journalingOff")
	if apps, conn := o.apps(), o.conn(); len(apps) != 1 || slices.Contains(conn.Workloads, backup.WorkloadExchange) {
		t.Errorf("%d applications, workloads %v", len(apps), conn.Workloads)
	}
	if strings.Contains(v.text(), "Custom Role Status") {
		t.Error("the page still speaks of a custom role")
	}
	v.checked().get("/settings/permissions")
	if strings.Contains(v.text(), "Exchange.ManageAsApp") {
		t.Error("Exchange.ManageAsApp is still asked for")
	}
	v.get("/settings/credentials").press("Switch on").finished()
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.at.Path == "/settings/credentials" })
	v.says("Custom Role StatusConnected").says("Public folders and journalingOn")
	after, conn := o.apps(), o.conn()
	if !slices.Contains(conn.Workloads, backup.WorkloadExchange) || after[backup.WorkloadExchange].AppID == before[backup.WorkloadExchange].AppID || after[backup.WorkloadMail].AppID != before[backup.WorkloadMail].AppID {
		t.Errorf("after switching on: %+v", conn.Workloads)
	}
}

// Somebody deletes the main application's enterprise application: that is seen,
// and Re-authenticate brings it back.
func TestTheMainApplicationIsMissed(t *testing.T) {
	o, v := connected(t)
	o.change(http.MethodDelete, inContoso+"/servicePrincipals/"+simulator.MainClientID, "")
	v.checked().get("/settings/permissions").says("does not know Holdfast's main application any more")
	v.get("/settings/credentials")
	if v.doc.Find(".attention button:contains('Re-authenticate')").Length() != 1 {
		t.Errorf("nobody is asked to re-authenticate: %s", v.text())
	}
	v.press("Re-authenticate").press("Sign in at Microsoft").microsoft(contosoAdmin, contosoPass).says("The consent is in place again")
	v.checked().get("/settings/permissions")
	if strings.Contains(v.text(), "any more") {
		t.Errorf("still missed: %s", v.text())
	}
}

func TestReauthenticateIsForTheTenant(t *testing.T) {
	o, v := connected(t)
	o.change(http.MethodPost, inContoso+"/revoke-consent", `{"app":"`+simulator.MainClientID+`"}`)
	v.get("/settings/credentials").press("Re-authenticate").press("Sign in at Microsoft")
	v.microsoft("admin@fabrikamlegal.onmicrosoft.com", "Fabrikam-2026")
	if v.at.Path == "/settings/credentials" {
		t.Fatal("a person of another tenant re-authenticated")
	}
	v.get(o.portal+"/setup").press("Sign in at Microsoft").microsoft(contosoAdmin, contosoPass).says("The consent is in place again")
	if auth, err := o.store.LatestAuthorization(t.Context(), o.org(adminMail)); err != nil || auth.Step != backup.StepDone || len(auth.SetupToken) > 0 {
		t.Errorf("%v %s, token of %d bytes", err, auth.Step, len(auth.SetupToken))
	}
}

func TestCertificatesChangeByThemselves(t *testing.T) {
	o, v := connected(t)
	app := o.apps()[backup.WorkloadMail]
	first := app.NotAfter
	app.NotAfter = time.Now().Add(20 * 24 * time.Hour) // the row says that it ends soon
	if err := o.store.SaveSubApplication(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	v.until("/settings/credentials", func() bool { return o.apps()[backup.WorkloadMail].OldKeyID != "" })
	if after := o.apps()[backup.WorkloadMail]; after.AppID != app.AppID || after.NotAfter.Before(first) || after.RollAt.IsZero() {
		t.Errorf("row: ends %s, next step %s", after.NotAfter, after.RollAt)
	}
	v.get("/activity").says("Changed a certificate by itself")
	v.checked()
}
