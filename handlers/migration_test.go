package handlers_test

import (
	"database/sql"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
	"holdfast/store"
)

// legacy is an office whose first organization is connected by a backup
// administrator and backs one mailbox up.
func legacy(t *testing.T) (*office, *visitor) {
	t.Helper()
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.byAdministrator()
	id := v.doc.Find("#accounts tr:contains('Jürgen') input").AttrOr("value", "")
	v.press("Back up the selected accounts", "account", id).says("Microsoft 365 is connected")
	o.backedUp(1)
	return o, v
}

// byAdministrator goes through the wizard of the legacy method up to the accounts.
func (v *visitor) byAdministrator() *visitor {
	v.t.Helper()
	v.get("/add-backup/microsoft365").press("Continue to Microsoft", "method", string(backup.MethodBackupAdministrator), "understood", "on")
	v.microsoft(contosoAdmin, contosoPass)
	return v.until("/setup", func() bool { return v.doc.Find("#accounts, .problem").Length() > 0 })
}

// backedUp waits until the mailboxes have so many runs in all, and returns what is stored.
func (o *office) backedUp(runs int) (items, bytes int64) {
	o.t.Helper()
	waitFor(o.t, "a backup", func() bool {
		page, err := o.store.Mailboxes(o.t.Context(), o.org(adminMail), store.MailboxQuery{PageSize: 100})
		if err != nil {
			o.t.Fatal(err)
		}
		items, bytes = 0, 0
		done := 0
		for _, m := range page.Mailboxes {
			items, bytes = items+m.Items, bytes+m.SizeBytes
			list, err := o.store.MailboxRuns(o.t.Context(), m.OrgID, m.ID, 50)
			if err != nil {
				o.t.Fatal(err)
			}
			for _, r := range list {
				if r.State == backup.RunSucceeded {
					done++
				}
			}
		}
		return done >= runs
	})
	return items, bytes
}

// backupAdmins are the accounts of Contoso with such a name and a role, and not deleted.
func (o *office) backupAdmins() (upns []string) {
	o.t.Helper()
	res, err := http.Get(o.control + inContoso + "/users")
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	var all []struct {
		UPN   string `json:"userPrincipalName"`
		Roles []string
		Gone  *string `json:"deletedDateTime"`
	}
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		o.t.Fatal(err)
	}
	for _, u := range all {
		if u.Gone == nil && len(u.Roles) > 0 && strings.HasPrefix(u.UPN, "backupadmin") {
			upns = append(upns, u.UPN+" "+strings.Join(u.Roles, ","))
		}
	}
	return upns
}

// migrating starts a migration and goes through consent to the device code.
func (v *visitor) migrating() *visitor {
	v.t.Helper()
	v.get("/settings/credentials").follow("Migrate Now").says("Backups go on meanwhile")
	v.follow("Yes, Continue").says("Which administrator").says(contosoAdmin)
	v.press("Continue").microsoft(contosoAdmin, contosoPass)
	return v.applications()
}

// migrated goes on from there to the last page.
func (v *visitor) migrated() *visitor {
	v.t.Helper()
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	return v.until("/setup", func() bool { return v.at.Path == "/migration/done" || v.doc.Find(".problem").Length() > 0 })
}

func TestLegacyMethodFromProviderToBackup(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.get("/add-backup/microsoft365").press("Continue to Microsoft", "method", string(backup.MethodBackupAdministrator))
	if v.status != http.StatusUnprocessableEntity {
		t.Errorf("without the confirmation = %d", v.status)
	}
	v.says("Confirm that a Global Administrator account is to be created")
	if n := v.doc.Find(".for-legacy .permissions tbody tr").Length(); n != len(backup.LegacyPermissions()) {
		t.Errorf("%d permissions are shown, want %d", n, len(backup.LegacyPermissions()))
	}

	v.byAdministrator().says("backupadmin@contosodental.onmicrosoft.com").says("Show the password once")
	if got := o.backupAdmins(); len(got) != 1 || got[0] != "backupadmin@contosodental.onmicrosoft.com Global Administrator" {
		t.Errorf("in the tenant: %v", got)
	}
	v.press("Show the password once").says("Holdfast has erased it")
	password := strings.TrimSpace(v.doc.Find("#administrator-password").Text())
	if len(password) < 20 || v.header.Get("Cache-Control") != "no-store" {
		t.Errorf("password of %d letters, Cache-Control %q", len(password), v.header.Get("Cache-Control"))
	}
	v.do(http.MethodPost, "/settings/credentials/"+string(o.conn().ID)+"/administrator-password", url.Values{}).says("was shown before")

	v.get("/setup")
	id := v.doc.Find("#accounts tr:contains('Jürgen') input").AttrOr("value", "")
	v.press("Back up the selected accounts", "account", id).says("Microsoft 365 is connected")
	if items, _ := o.backedUp(1); items == 0 {
		t.Error("nothing was backed up")
	}
	if len(o.apps()) != 0 {
		t.Error("the legacy method made sub-applications")
	}
	for _, path := range []string{"/dashboard", "/browse", "/status", "/activity", "/settings", "/settings/credentials", "/add-backup"} {
		v.get(path).says("Learn More")
	}
	v.get("/activity").says("Saw the backup administrator's password")
	a, err := o.store.LatestAuthorization(t.Context(), o.conn().OrgID)
	if err != nil || len(a.SetupToken) > 0 {
		t.Errorf("a token is left: %v", err)
	}
	// The new account can do what the legacy method is for.
	w := o.signIn(secondMail)
	w.get("/settings/credentials").press("Authorize again").press("Sign in at Microsoft").microsoft("backupadmin@contosodental.onmicrosoft.com", password)
	w.until("/setup", func() bool { return w.at.Path == "/settings/credentials" || w.doc.Find(".problem").Length() > 0 })
	w.says("Authorized.")
	if got := o.backupAdmins(); len(got) != 1 {
		t.Errorf("after authorizing again: %v", got)
	}
}

func TestMigrationStoresNothingTwice(t *testing.T) {
	for _, refused := range []bool{false, true} {
		o, v := legacy(t)
		items, bytes := o.backedUp(1)
		before := o.stored()
		v.get("/dashboard").follow("Learn More").says("Backups go on all the time").follow("Go to Credentials")
		v.migrating().says("Migrate to least privilege")
		if c := o.conn(); !c.ByMainApplication() {
			t.Fatal("the connection changed before the migration was done")
		}
		v.migrated().says("The migration is complete").says("Do not delete the sub-applications").says("backupadmin@contosodental.onmicrosoft.com").says("Jürgen Groß")
		if c := o.conn(); c.Method != backup.MethodServicePrincipal || len(c.Workloads) != 2 || c.ReadyAt.IsZero() {
			t.Errorf("the connection is %+v", c)
		}
		if refused {
			// The other application's delta links count for nothing.
			o.change(http.MethodPost, "/faults", `{"path":"/messages/delta","status":410,"code":"SyncStateNotFound","times":1}`)
		}
		page, err := o.store.Mailboxes(t.Context(), o.org(adminMail), store.MailboxQuery{PageSize: 100})
		if err != nil || len(page.Mailboxes) != 1 {
			t.Fatalf("mailboxes: %v", err)
		}
		v.do(http.MethodPost, "/mailboxes/"+string(page.Mailboxes[0].ID)+"/back-up", url.Values{})
		againItems, againBytes := o.backedUp(2)
		if againItems != items || againBytes != bytes {
			t.Errorf("delta refused %v: %d items of %d bytes after the migration, %d of %d before", refused, againItems, againBytes, items, bytes)
		}
		if after := o.stored(); after > before+64<<10 {
			t.Errorf("delta refused %v: the repository grew from %d to %d bytes", refused, before, after)
		}
		o.noTokensLeft(v)
		v.get("/dashboard")
		if strings.Contains(v.text(), "Learn More") {
			t.Error("the banner is still there")
		}
		o.stop()
	}
}

// stored is how many bytes the repository has.
func (o *office) stored() (size int64) {
	o.t.Helper()
	err := filepath.WalkDir(o.folder, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return size
}

// waitFor looks again and again until ready says so.
func waitFor(t testing.TB, what string, ready func() bool) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.NewTimer(5 * time.Minute)
	defer timeout.Stop()
	for !ready() {
		select {
		case <-ticker.C:
		case <-timeout.C:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

func TestCleaningUpAfterAMigration(t *testing.T) {
	o, v := legacy(t)
	v.do(http.MethodPost, "/settings/credentials/"+string(o.conn().ID)+"/clean-up", url.Values{}).says("Migrate first")
	v.migrating().migrated()
	v.follow("Delete them for me").says("Global Administrator").says("Mail.Read").says("nothing else")
	v.press("Sign in and delete")

	// The account that goes can't be the one that signs in.
	o.change(http.MethodPatch, inContoso+"/users/backupadmin@contosodental.onmicrosoft.com", `{"password":"Known-here-26"}`)
	v.press("Sign in at Microsoft").microsoft("backupadmin@contosodental.onmicrosoft.com", "Known-here-26").says("the account that is to be deleted")
	fresh := o.signIn(secondMail)
	fresh.get("/setup").press("Try again at Microsoft").microsoft(contosoAdmin, contosoPass)
	fresh.until("/setup", func() bool {
		return fresh.at.Path == "/settings/credentials" || fresh.doc.Find(".problem").Length() > 0
	})
	fresh.says("no longer in the tenant")
	if got := o.backupAdmins(); len(got) != 0 {
		t.Errorf("in the tenant: %v", got)
	}
	if c := o.conn(); !c.Administrator.IsZero() || c.Method != backup.MethodServicePrincipal {
		t.Errorf("the connection is %+v", c)
	}
	if apps := o.apps(); apps[backup.WorkloadMail].State != backup.ApplicationReady || apps[backup.WorkloadExchange].State != backup.ApplicationReady {
		t.Errorf("sub-applications: %+v", apps)
	}
	fresh.get("/settings/credentials")
	if strings.Contains(fresh.text(), "still in the tenant") {
		t.Error("the offer is still there")
	}
	fresh.do(http.MethodPost, "/settings/credentials/"+string(o.conn().ID)+"/clean-up", url.Values{}).says("gone already")
}

func TestAMigrationThatIsGivenUpLeavesTheLegacyConnection(t *testing.T) {
	o, v := legacy(t)
	steps := map[string]func(){
		"before consent": func() {
			v.get("/settings/credentials").follow("Migrate Now").follow("Yes, Continue").press("Continue")
		},
		"after the applications": func() { v.migrating() },
		"when an application fails": func() {
			o.change(http.MethodPost, "/faults", `{"name":"credential_type_not_allowed"}`)
			v.get("/settings/credentials").follow("Migrate Now").follow("Yes, Continue").press("Continue").microsoft(contosoAdmin, contosoPass)
			v.until("/setup", func() bool { return v.doc.Find(".problem").Length() > 0 })
			o.change(http.MethodDelete, "/faults", "")
		},
		"while the role is made": func() {
			v.migrating()
			v.press("Get a code")
		},
	}
	runs := 1
	for name, goThere := range steps {
		t.Run(name, func(t *testing.T) {
			v.get(o.portal + "/dashboard")
			goThere()
			v.get(o.portal + "/setup/abandon").says("Backups go on with the backup administrator")
			v.press("Give up").says("was given up")
			waitFor(t, "the undo", func() bool {
				a, err := o.store.LatestAuthorization(t.Context(), o.org(adminMail))
				if err != nil {
					t.Fatal(err)
				}
				return a.Step == backup.StepAbandoned && len(a.SetupToken) == 0 && len(o.apps()) == 0
			})
			if c := o.conn(); !c.ByMainApplication() || c.ReadyAt.IsZero() || !c.Problem.IsZero() || len(c.Workloads) != 1 {
				t.Errorf("the connection is %+v", c)
			}
			if n := o.applicationsInTenant(); n != 0 {
				t.Errorf("%d applications are left in the tenant", n)
			}
			if _, err := o.store.CustomRole(t.Context(), o.org(adminMail), o.conn().ID); err == nil {
				t.Error("the custom role is still known")
			}
			runs++
			v.do(http.MethodPost, "/mailboxes/"+string(o.selected().ID)+"/back-up", url.Values{})
			o.backedUp(runs)
		})
	}
	v.migrating().migrated().says("The migration is complete")
}

// applicationsInTenant counts Holdfast's applications that exist in Contoso.
func (o *office) applicationsInTenant() int { return len(o.holdfastApplications()) }

// holdfastApplications are the names of Holdfast's applications in the tenant.
func (o *office) holdfastApplications() (names []string) {
	o.t.Helper()
	for _, a := range o.inTenant() {
		names = append(names, a["displayName"].(string))
	}
	return names
}

// inTenant are Holdfast's applications in the tenant, as Microsoft describes them.
func (o *office) inTenant() (list []map[string]any) {
	o.t.Helper()
	res, err := http.Get(o.control + inContoso + "/applications")
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	var all []map[string]any
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		o.t.Fatal(err)
	}
	for _, a := range all {
		if tags, _ := a["tags"].([]any); a["deletedDateTime"] == nil && len(tags) > 0 && tags[0] == "holdfast" {
			list = append(list, a)
		}
	}
	return list
}

func (o *office) selected() backup.Mailbox {
	o.t.Helper()
	page, err := o.store.Mailboxes(o.t.Context(), o.org(adminMail), store.MailboxQuery{PageSize: 100})
	if err != nil || len(page.Mailboxes) == 0 {
		o.t.Fatalf("mailboxes: %v", err)
	}
	return page.Mailboxes[0]
}

func TestTwoAdministratorsMigrateAtOnce(t *testing.T) {
	o, ada := legacy(t)
	ben := o.signIn(secondMail)
	ada.get("/settings/credentials").follow("Migrate Now").follow("Yes, Continue")
	ben.get("/settings/credentials").follow("Migrate Now").follow("Yes, Continue")
	ada.press("Continue")
	ben.press("Continue").says("under way already").says("Sign in and consent")
	ada.microsoft(contosoAdmin, contosoPass)
	ada.applications()
	ben.do(http.MethodPost, "/setup/sign-in", url.Values{"step": {"consent"}}).says("Ada Lovelace went on")
	ada.migrated().says("The migration is complete")
	if n := o.applicationsInTenant(); n != 2 {
		t.Errorf("%d applications in the tenant, want 2", n)
	}
	ben.get("/settings/credentials/" + string(o.conn().ID) + "/migrate").says("works with least privilege permissions already")
}

func TestTheFlowOfAMigrationIsFixedAtItsStart(t *testing.T) {
	o, v := legacy(t)
	v.get("/settings/credentials").follow("Migrate Now").follow("Yes, Continue").press("Continue")
	o.manual(true)
	v.microsoft(contosoAdmin, contosoPass).applications().says("Get a code")
	a, err := o.store.ActiveAuthorization(t.Context(), o.conn().OrgID)
	if err != nil || a.Flow != backup.FlowAutomated {
		t.Errorf("flow %s: %v", a.Flow, err)
	}
	v.migrated().says("The migration is complete")
}

func TestMigrationBadInput(t *testing.T) {
	o, v := legacy(t)
	path := "/settings/credentials/" + string(o.conn().ID) + "/migrate"
	for name, form := range map[string]url.Values{
		"nothing":            {},
		"somebody unknown":   {"account": {"x@y.example"}},
		"no address":         {"account": {"other"}, "other": {""}},
		"a bad address":      {"account": {"other"}, "other": {"admin at contoso"}},
		"one without domain": {"account": {"other"}, "other": {"admin@"}},
	} {
		if v.do(http.MethodPost, path, form); v.status != http.StatusUnprocessableEntity {
			t.Errorf("%s = %d", name, v.status)
		}
		if other := form.Get("other"); other != "" && v.doc.Find("#other").AttrOr("value", "") != other {
			t.Errorf("%s: what was entered is lost", name)
		}
	}
	other, viewer := o.signIn(otherMail), o.signIn(viewerMail)
	viewer.get("/migration").says("From the backup administrator")
	for _, p := range []string{"/migrate", "/clean-up", "/administrator-password", "/renew"} {
		target := "/settings/credentials/" + string(o.conn().ID) + p
		if other.do(http.MethodPost, target, url.Values{}); other.status != http.StatusNotFound {
			t.Errorf("another organization POST %s = %d", p, other.status)
		}
		if viewer.do(http.MethodPost, target, url.Values{}); viewer.status != http.StatusForbidden {
			t.Errorf("viewer POST %s = %d", p, viewer.status)
		}
	}
	other.get("/migration").says("Nothing has to be migrated")
	if other.get("/dashboard"); strings.Contains(other.text(), "Learn More") {
		t.Error("another organization sees the banner")
	}

	// Another tenant's administrator is refused, and the right one goes on.
	v.do(http.MethodPost, path, url.Values{"account": {"other"}, "other": {"admin@fabrikamlegal.onmicrosoft.com"}})
	v.microsoft("admin@fabrikamlegal.onmicrosoft.com", "Fabrikam-2026")
	if !strings.Contains(v.text(), "another tenant") && !strings.Contains(v.text(), "does not exist in tenant") && !strings.Contains(v.text(), "50020") {
		t.Errorf("another tenant's administrator: %s", v.text())
	}
	fresh := o.signIn(adminMail)
	fresh.get("/setup").press("Sign in at Microsoft").microsoft(contosoAdmin, contosoPass)
	fresh.applications().migrated().says("The migration is complete")
}

func TestATenantThatChangedItsDomainIsMigrated(t *testing.T) {
	o, v := legacy(t)
	o.change(http.MethodPatch, inContoso, `{"domain":"contosonew.onmicrosoft.com"}`)
	v.migrating().migrated().says("The migration is complete")
	if c := o.conn(); c.TenantDomain != "contosonew.onmicrosoft.com" {
		t.Errorf("domain %s", c.TenantDomain)
	}
}

func TestAPartnerRevertsToTheLegacyMethod(t *testing.T) {
	o, v := legacy(t)
	v.migrating().migrated()
	dana := o.signIn("dana@northwind.example")
	page := "/partner/organizations/" + string(o.conn().OrgID)
	dana.get(page).follow("Send contosodental.onmicrosoft.com back").says("Until then backups go on")
	dana.press("Go back")
	if dana.status != http.StatusUnprocessableEntity {
		t.Errorf("without a reason = %d", dana.status)
	}
	dana.says("Say why").press("Go back", "reason", "The custom role never connects").says("Sent back")
	dana.get(page + "/activity").says("The custom role never connects")
	if c := o.conn(); !c.Legacy() || c.ByMainApplication() {
		t.Errorf("the connection is %+v", c)
	}
	v.get("/dashboard").says("has to authorize again")
	v.do(http.MethodPost, "/mailboxes/"+string(o.selected().ID)+"/back-up", url.Values{})
	o.backedUp(2) // by the sub-applications, until somebody authorizes

	v.get("/settings/credentials").press("Authorize the backup administrator").press("Sign in at Microsoft").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.at.Path == "/settings/credentials" || v.doc.Find(".problem").Length() > 0 })
	v.says("Authorized.").says("Migrate Now").says("Holdfast Backup Mail")
	if c := o.conn(); !c.ByMainApplication() {
		t.Errorf("the connection is %+v", c)
	}
	v.do(http.MethodPost, "/mailboxes/"+string(o.selected().ID)+"/back-up", url.Values{})
	o.backedUp(3)
	other := o.signIn(otherMail)
	if other.do(http.MethodPost, page+"/connections/"+string(o.conn().ID)+"/revert", url.Values{"reason": {"x"}}); other.status != http.StatusForbidden {
		t.Errorf("an organization's admin reverts = %d", other.status)
	}
}

func TestGivingUpTheLegacyMethodRemovesWhatItMade(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.byAdministrator()
	v.get("/setup/abandon").says("backupadmin@contosodental.onmicrosoft.com").says("Mail.Read")
	v.press("Give up and delete the account").says("was given up")
	waitFor(t, "the undo", func() bool {
		c, err := o.store.Connections(t.Context(), o.org(adminMail))
		return err == nil && len(c) == 0
	})
	if got := o.backupAdmins(); len(got) != 0 {
		t.Errorf("in the tenant: %v", got)
	}
}

func TestAnOrganizationIsSuspendedHalfWayThroughAMigration(t *testing.T) {
	o, v := legacy(t)
	v.migrating()
	o.suspend(time.Now())
	if v.get("/setup"); v.status != http.StatusForbidden {
		t.Errorf("the wizard of a suspended organization = %d", v.status)
	}
	if c := o.conn(); !c.ByMainApplication() || !c.Problem.IsZero() {
		t.Errorf("the connection is %+v", c)
	}
	o.suspend(time.Time{})
	v.get("/setup").says("2 applications created in your tenant")
	v.migrated().says("The migration is complete")
	if n := o.applicationsInTenant(); n != 2 {
		t.Errorf("%d applications in the tenant, want 2", n)
	}
}

// suspend suspends Contoso since a time, the zero one not.
func (o *office) suspend(since time.Time) {
	o.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(filepath.Dir(o.folder), "holdfast.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		o.t.Fatal(err)
	}
	defer db.Close()
	at := int64(0)
	if !since.IsZero() {
		at = since.UnixMilli()
	}
	if _, err := db.ExecContext(o.t.Context(), `UPDATE organizations SET suspended_at = ? WHERE id = ?`, at, o.org(adminMail)); err != nil {
		o.t.Fatal(err)
	}
}

func TestAbandoningWithoutASignInKeepsWhatIsInTheTenantKnown(t *testing.T) {
	o, v := legacy(t)
	v.migrating()
	a, err := o.store.ActiveAuthorization(t.Context(), o.org(adminMail))
	if err != nil {
		t.Fatal(err)
	}
	a.SetupToken, a.SetupTokenExpiresAt = nil, time.Time{} // as an hour later
	if err := o.store.SaveAuthorization(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	v.get("/setup/abandon").says("Your sign-in at Microsoft has ended").press("Give up")
	waitFor(t, "the undo", func() bool {
		a, err := o.store.LatestAuthorization(t.Context(), o.org(adminMail))
		return err == nil && a.Problem.Kind == backup.ProblemSignInExpired
	})
	if len(o.apps()) != 2 || o.applicationsInTenant() != 2 || !o.conn().ByMainApplication() {
		t.Errorf("%d applications are known, %d in the tenant", len(o.apps()), o.applicationsInTenant())
	}
	v.migrating().migrated().says("The migration is complete")
	if n := o.applicationsInTenant(); n != 2 {
		t.Errorf("%d applications in the tenant after all, want 2", n)
	}
	// What was left behind backs up now: nobody may be told to delete it.
	for _, path := range []string{"/settings/credentials", "/status", "/add-backup"} {
		if v.get(path); strings.Contains(v.text(), "Left behind") {
			t.Errorf("%s names applications that are in use", path)
		}
	}
	if v.do(http.MethodPost, "/setup/left-behind/"+string(a.ID), url.Values{}); v.status != http.StatusNotFound || len(o.apps()) != 2 {
		t.Errorf("forgetting it = %d, %d applications", v.status, len(o.apps()))
	}
}

func TestMigrationByScript(t *testing.T) {
	o, v := legacy(t)
	o.manual(true)
	v.get("/migration").says("runs a PowerShell script")
	v.get("/settings/credentials").follow("Migrate Now").follow("Yes, Continue").press("Continue").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return strings.Contains(v.text(), "Download the script") })
	o.manual(false)
	script := v.get("/setup/script").body
	if c := o.conn(); !c.ByMainApplication() {
		t.Fatal("the connection changed before the script was run")
	}
	if _, err := o.microsoft.RunScript(script, ""); err != nil {
		t.Fatal(err)
	}
	v.get("/setup").press("Verify").until("/setup", func() bool { return v.at.Path == "/migration/done" || v.doc.Find(".problem").Length() > 0 })
	v.says("The migration is complete")
}

func TestAuthorizingAgainAfterThePermissionsWereWithdrawn(t *testing.T) {
	o, v := legacy(t)
	for _, p := range backup.MainPermissions() {
		o.change(http.MethodDelete, inContoso+"/servicePrincipals/"+simulator.MainClientID+"/roles/"+p.Name, "")
	}
	// As when the token from before has ended.
	o.change(http.MethodPost, "/faults", `{"host":"graph","path":"/mailFolders","status":403,"code":"ErrorAccessDenied"}`)
	v.do(http.MethodPost, "/mailboxes/"+string(o.selected().ID)+"/back-up", url.Values{})
	waitFor(t, "the failure", func() bool { return !o.conn().Problem.IsZero() })
	v.get("/settings/credentials").says("what the backup administrator allowed it in this tenant was withdrawn")
	v.press("Authorize again").press("Sign in at Microsoft").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.at.Path == "/settings/credentials" || v.doc.Find(".problem").Length() > 0 })
	v.says("Authorized.")
	o.change(http.MethodDelete, "/faults", "")
	if got := o.backupAdmins(); len(got) != 1 {
		t.Errorf("in the tenant: %v", got)
	}
	v.do(http.MethodPost, "/mailboxes/"+string(o.selected().ID)+"/back-up", url.Values{})
	o.backedUp(2)
	if c := o.conn(); !c.Problem.IsZero() {
		t.Errorf("the connection still has a problem: %+v", c.Problem)
	}
}

func TestGivingUpWhileTheAccountIsMadeLeavesNothing(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	o.change(http.MethodPost, "/faults", `{"host":"graph","method":"POST","path":"^/v1.0/users$","delay":"1500ms","times":1}`)
	v.get("/add-backup/microsoft365").press("Continue to Microsoft", "method", string(backup.MethodBackupAdministrator), "understood", "on")
	v.microsoft(contosoAdmin, contosoPass)
	waitFor(t, "the account to be begun", func() bool {
		list, err := o.store.Connections(t.Context(), o.org(adminMail))
		return err == nil && len(list) == 1 && !list[0].Administrator.IsZero()
	})
	v.get(o.portal + "/setup/abandon").press("Give up")
	waitFor(t, "the undo", func() bool {
		c, err := o.store.Connections(t.Context(), o.org(adminMail))
		made := 0
		for _, r := range o.microsoft.Requests() {
			if r.Method == http.MethodDelete && strings.Contains(r.Path, "/users/") && r.Status == http.StatusNoContent {
				made++
			}
		}
		return err == nil && len(c) == 0 && made == 1
	})
	if got := o.backupAdmins(); len(got) != 0 {
		t.Errorf("in the tenant: %v", got)
	}
}

// An Undo that Microsoft holds up is still under way when the next migration
// makes its applications: they are not its to delete.
func TestAnUndoThatComesLateLeavesTheNextMigration(t *testing.T) {
	for _, crash := range []bool{false, true} {
		o, v := legacy(t)
		v.migrating()
		o.change(http.MethodPost, "/faults", `{"host":"graph","method":"DELETE","path":"/applications","status":503,"retryAfter":"0"}`)
		first, err := o.store.ActiveAuthorization(t.Context(), o.org(adminMail))
		if err != nil {
			t.Fatal(err)
		}
		v.get("/setup/abandon").press("Give up")
		waitFor(t, "a refused deletion", func() bool {
			for _, r := range o.microsoft.Requests() {
				if r.Method == http.MethodDelete && strings.Contains(r.Path, "/applications") && r.Status == http.StatusServiceUnavailable {
					return true
				}
			}
			return false
		})
		if crash {
			o.stop()
		}
		v.get("/settings/credentials").follow("Migrate Now").follow("Yes, Continue").press("Continue").microsoft(contosoAdmin, contosoPass)
		o.change(http.MethodDelete, "/faults", "")
		if crash {
			o.work()
		}
		waitFor(t, "the undo", func() bool {
			a, err := o.store.Authorization(t.Context(), first.OrgID, first.ID)
			return err == nil && len(a.SetupToken) == 0
		})
		v.applications()
		if n := o.applicationsInTenant(); n != 2 || len(o.apps()) != 2 {
			t.Errorf("crash %v: %d applications in the tenant, %d known, want 2", crash, n, len(o.apps()))
		}
		v.migrated().says("The migration is complete")
		o.oneApplicationEach()
		o.legacyStands()
		v.do(http.MethodPost, "/mailboxes/"+string(o.selected().ID)+"/back-up", url.Values{})
		o.backedUp(2)
		o.stop()
	}
}

func TestGivingUpWhileAnApplicationIsMadeLeavesNothing(t *testing.T) {
	o, v := legacy(t)
	o.change(http.MethodPost, "/faults", `{"host":"graph","method":"POST","path":"/applications$","delay":"1500ms","times":1}`)
	v.get("/settings/credentials").follow("Migrate Now").follow("Yes, Continue").press("Continue").microsoft(contosoAdmin, contosoPass)
	waitFor(t, "the application to be begun", func() bool {
		return len(o.apps()[backup.WorkloadMail].PrivateKey)+len(o.apps()[backup.WorkloadExchange].PrivateKey) > 0
	})
	v.get(o.portal + "/setup/abandon").press("Give up")
	waitFor(t, "the undo", func() bool {
		a, err := o.store.LatestAuthorization(t.Context(), o.org(adminMail))
		return err == nil && len(a.SetupToken) == 0
	})
	o.idle()
	if n := o.applicationsMade(); n > 1 {
		t.Errorf("%d applications were made", n)
	}
	if n := o.applicationsInTenant(); n != 0 || len(o.apps()) != 0 {
		t.Errorf("%d applications in the tenant, %d known", n, len(o.apps()))
	}
	o.legacyStands()
}
