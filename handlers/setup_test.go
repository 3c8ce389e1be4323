package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/backup"
)

const (
	contosoAdmin = "admin@contosodental.onmicrosoft.com"
	contosoPass  = "Contoso-2026"
)

// consent starts the wizard and goes through Microsoft's sign-in as a person.
func (v *visitor) consent(upn, password string) *visitor {
	v.t.Helper()
	v.get("/add-backup/microsoft365").press("Continue to Microsoft")
	return v.microsoft(upn, password)
}

// microsoft signs in on the simulated page and accepts what is asked.
func (v *visitor) microsoft(upn, password string) *visitor {
	v.t.Helper()
	if strings.Contains(v.text(), "Pick an account") {
		v.press("Use another account")
	}
	if v.doc.Find("input[name=passwd]").Length() > 0 {
		v.press("Sign in", "login", upn, "passwd", password)
	}
	if strings.Contains(v.text(), "Permissions requested") {
		v.press("Accept")
	}
	return v
}

// applications waits until step 1 is done.
func (v *visitor) applications() *visitor {
	v.t.Helper()
	v.says("Create Backup Application")
	return v.until("/setup", func() bool { return v.doc.Find("#device").Length() > 0 })
}

// enterCode enters the device code in another window.
func (o *office) enterCode(code, page, upn, password string) *visitor {
	o.t.Helper()
	w := newVisitor(o.t).get(page)
	w.press("Next", "otc", code)
	w.press("Sign in", "login", upn, "passwd", password)
	if strings.Contains(w.text(), "Are you trying to sign in") {
		w.press("Continue")
	}
	if strings.Contains(w.text(), "Permissions requested") {
		w.press("Accept")
	}
	return w
}

// roleIs fails the test unless the page says so of the custom role.
func (v *visitor) roleIs(want string) *visitor {
	v.t.Helper()
	if got := words(v.doc.Find(".steps li:nth-child(3) .status")); !strings.HasPrefix(got, want) {
		v.t.Fatalf("custom role is %q, want %q: %s", got, want, v.text())
	}
	return v
}

// code is the device code on the page, and where it is entered.
func (v *visitor) code() (code, page string) {
	v.t.Helper()
	code = strings.TrimSpace(v.doc.Find("#user-code").Text())
	page = v.doc.Find("#device a").AttrOr("href", "")
	if code == "" || page == "" {
		v.t.Fatalf("no code on the page: %s", v.text())
	}
	return code, page
}

func TestWizardFromProviderToFirstBackup(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)

	v.get("/add-backup").says("IMAP").follow("Sign in with Microsoft 365")
	v.says("Exchange.ManageAsApp").says("Mail.Read").says("Authorize with a backup administrator").says("An account with all rights stays in your tenant")
	if n := v.doc.Find(".for-spa .permissions tbody tr").Length(); n != len(backup.Permissions([]backup.Workload{backup.WorkloadMail, backup.WorkloadExchange})) {
		t.Errorf("%d permissions are shown", n)
	}
	v.consent(contosoAdmin, contosoPass)
	v.says("M365 AUTHORIZATION").says("Consent granted").says(contosoAdmin)
	v.applications().says("2 applications created in your tenant")

	v.press("Get a code")
	code, page := v.code()
	v.press("Verify").says("Too early").says(code)
	o.enterCode(code, page, contosoAdmin, contosoPass).says("You have signed in")
	o.passInterval()
	v.until("/setup/device", func() bool { return strings.Contains(v.body, "Authorized by") })
	v.get("/setup").press("Verify")
	v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	v.roleIs("Connected").says("Front Desk").says("Shared mailbox").says("No mailbox licence")

	v.press("Back up the selected accounts")
	if v.status != http.StatusUnprocessableEntity {
		t.Errorf("selecting nothing = %d", v.status)
	}
	v.says("Select at least one account")
	id := v.doc.Find("#accounts tr:contains('New Starter') input").AttrOr("value", "")
	v.press("Back up the selected accounts", "account", id).says("Microsoft 365 is connected")
	if v.at.Path != "/dashboard" {
		t.Errorf("at %s, want the dashboard", v.at)
	}
	o.noTokensLeft(v)
}

// noTokensLeft checks that no administrator's token is kept.
func (o *office) noTokensLeft(v *visitor) {
	org := o.org(adminMail)
	a, err := o.store.LatestAuthorization(o.t.Context(), org)
	if err != nil {
		o.t.Fatal(err)
	}
	if len(a.SetupToken)+len(a.RoleToken)+len(a.RoleRefreshToken)+len(a.Device.DeviceCode) > 0 {
		o.t.Error("the authorization still holds a token")
	}
	role, err := o.store.CustomRole(o.t.Context(), org, a.ConnectionID)
	if err != nil {
		o.t.Fatal(err)
	}
	if role.State != backup.RoleConnected || len(role.Token)+len(role.RefreshToken) > 0 {
		o.t.Errorf("custom role is %s with a token of %d bytes", role.State, len(role.Token)+len(role.RefreshToken))
	}
}

func (o *office) org(mail string) backup.OrgID {
	o.t.Helper()
	p, err := o.store.PersonByEmail(o.t.Context(), mail)
	if err != nil {
		o.t.Fatal(err)
	}
	m, err := o.store.Memberships(o.t.Context(), p.ID)
	if err != nil || len(m) == 0 {
		o.t.Fatalf("memberships: %v", err)
	}
	return m[0].OrgID
}

func TestWizardInTheBrowserWithoutACode(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.consent(contosoAdmin, contosoPass).applications()
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
	v.roleIs("Connected")
}

func TestConsentRefusals(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)

	t.Run("declined", func(t *testing.T) {
		v.t = t
		v.get("/add-backup/microsoft365").press("Continue to Microsoft")
		v.press("Sign in", "login", contosoAdmin, "passwd", contosoPass)
		v.press("Cancel").says("Consent was declined").says("Try again at Microsoft")
	})
	t.Run("tenant without Exchange", func(t *testing.T) {
		fresh := o.signIn(adminMail)
		fresh.get("/setup").press("Try again").microsoft("admin@tailspinsites.onmicrosoft.com", "Tailspin-2026")
		fresh.says("no Exchange Online").says("Try again")
	})
	t.Run("foreign state", func(t *testing.T) {
		v.t = t
		v.get("/setup/callback?code=x&state=guessed").says("was not started in this browser")
	})
	t.Run("another session's state", func(t *testing.T) {
		v.t = t
		second := o.signIn(secondMail)
		second.get("/setup").press("Try again")
		a, err := o.store.ActiveAuthorization(t.Context(), o.org(adminMail))
		if err != nil {
			t.Fatal(err)
		}
		v.get(o.portal + "/setup/callback?code=x&state=" + url.QueryEscape(a.SignIn.State)).says("was not started in this browser")
	})
	t.Run("tenant of another organization", func(t *testing.T) {
		other := o.signIn(otherMail)
		other.consent(contosoAdmin, contosoPass).says("Create Backup Application")
		mine := o.signIn(adminMail)
		mine.get("/setup").press("Try again").microsoft(contosoAdmin, contosoPass)
		mine.says("already backed up by another organization").says("Try again")
	})
}

func TestDeviceCodeRefusals(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.consent(contosoAdmin, contosoPass).applications()
	v.press("Verify").says("Nobody has authorized this step yet")

	t.Run("declined", func(t *testing.T) {
		v.t = t
		v.press("Get a code")
		code, page := v.code()
		w := newVisitor(t).get(page)
		w.press("Next", "otc", code).press("Sign in", "login", contosoAdmin, "passwd", contosoPass)
		w.press("Cancel")
		o.passInterval()
		v.get("/setup").press("Verify").says("declined at Microsoft's page").says("Get a code")
	})
	t.Run("person without the cmdlets", func(t *testing.T) {
		v.t = t
		v.get("/setup").press("Get a code")
		code, page := v.code()
		o.enterCode(code, page, "app.admin@contosodental.onmicrosoft.com", contosoPass)
		o.passInterval()
		v.get("/setup").press("Verify")
		v.until("/setup", func() bool { return v.doc.Find(".problem").Length() > 0 })
		v.says("Get a code")
		if !strings.Contains(v.text(), "New-RoleGroup") && !strings.Contains(v.text(), "cmdlets") {
			t.Errorf("the page does not name what is missing: %s", v.text())
		}
	})
	t.Run("blocked", func(t *testing.T) {
		v.t = t
		o.change(http.MethodPatch, "/tenants/contosodental.onmicrosoft.com", `{"blockDeviceCode":"poll"}`)
		defer o.change(http.MethodPatch, "/tenants/contosodental.onmicrosoft.com", `{"blockDeviceCode":""}`)
		v.get("/setup").press("Get a code")
		code, page := v.code()
		o.enterCode(code, page, contosoAdmin, contosoPass)
		o.passInterval()
		v.get("/setup").press("Verify").says("Authorize in this browser").says("Leave the policy as it is").says("AADSTS53003")

		// The script is the way that no policy blocks, and there is a way back.
		v.press("Run the script instead").says("Download the PowerShell script")
		if _, err := o.microsoft.RunScript(v.get("/setup/script").body, ""); err != nil {
			t.Fatal(err)
		}
		v.get(o.portal + "/setup").press("Authorize with a sign-in instead").says("Get a code")
		if v.do(http.MethodPost, "/setup/flow", url.Values{"step": {"device_authorization"}, "flow": {"manual"}}); v.doc.Find("a[href='/setup/script']").Length() != 1 {
			t.Errorf("no script: %s", v.text())
		}
		o.manual(true)
		v.get("/setup")
		if strings.Contains(v.text(), "Authorize with a sign-in instead") {
			t.Error("a way is offered that the organization's toggle closes")
		}
		v.do(http.MethodPost, "/setup/flow", url.Values{"step": {"run_script"}, "flow": {"automated"}}).says("Download the PowerShell script")
		o.manual(false)
		v.get("/setup").press("Authorize with a sign-in instead").says("Get a code")
		v.get("/activity").says("Chose who makes the custom role")
	})
	t.Run("seen in another browser", func(t *testing.T) {
		v.t = t
		v.get("/setup").press("Get a code")
		code, _ := v.code()
		second := o.signIn(secondMail)
		second.get("/setup").says("shown only there")
		if strings.Contains(second.body, code) {
			t.Error("another session sees the code")
		}
		second.press("Get a code")
		other, _ := second.code()
		v.get("/setup").says("shown only there")
		if strings.Contains(v.body, other) || strings.Contains(v.body, code) {
			t.Error("the first session still sees a code")
		}
	})
}

func TestTwoAdministratorsInTheSameWizard(t *testing.T) {
	o := newOffice(t)
	ada, ben := o.signIn(adminMail), o.signIn(secondMail)
	ada.consent(contosoAdmin, contosoPass).applications()
	ben.get("/setup").says("Device Authorization")
	ada.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	ben.press("Verify").says("Ada Lovelace went on with this authorization")

	ada.until("/setup", func() bool { return ada.doc.Find("#accounts").Length() > 0 })
	ben.get("/setup")
	id := ada.doc.Find("#accounts tr:contains('New Starter') input").AttrOr("value", "")
	ada.press("Back up the selected accounts", "account", id)
	ben.press("Back up the selected accounts", "account", id).says("completed or given up in the meantime")
}

func TestAbandonRemovesWhatWasMade(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.consent(contosoAdmin, contosoPass).applications()
	v.follow("Give up").says("Holdfast Backup Mail").says("Holdfast Backup Exchange")
	v.press("Give up and delete 2 applications").says("was given up")
	v.until("/dashboard", func() bool {
		c, err := o.store.Connections(t.Context(), o.org(adminMail))
		return err == nil && len(c) == 0
	})
	v.consent(contosoAdmin, contosoPass).applications().says("2 applications created")
}

func TestWizardIsForAdministratorsOfItsOrganization(t *testing.T) {
	o := newOffice(t)
	o.signIn(adminMail).consent(contosoAdmin, contosoPass)
	viewer := o.signIn(viewerMail)
	for _, path := range []string{"/add-backup", "/add-backup/microsoft365", "/setup", "/setup/progress", "/setup/device", "/setup/abandon", "/setup/callback?state=x"} {
		if viewer.get(path); viewer.status != http.StatusForbidden {
			t.Errorf("viewer GET %s = %d, want 403", path, viewer.status)
		}
	}
	for _, path := range []string{"/add-backup/microsoft365", "/setup/sign-in", "/setup/applications", "/setup/device", "/setup/browser", "/setup/verify", "/setup/accounts", "/setup/list", "/setup/flow", "/setup/abandon"} {
		if viewer.do(http.MethodPost, path, url.Values{}); viewer.status != http.StatusForbidden {
			t.Errorf("viewer POST %s = %d, want 403", path, viewer.status)
		}
	}
	other := o.signIn(otherMail)
	if other.get("/setup"); other.at.Path != "/add-backup" || strings.Contains(other.text(), "contosodental") {
		t.Errorf("another organization's admin is at %s: %s", other.at, other.text())
	}
}
