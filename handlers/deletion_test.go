package handlers_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/store"
)

const ownerMail = "dana@northwind.example" // of the partner

// contosoPath is the address of the first organization in the Partner Portal.
func (o *office) contosoPath() string {
	return "/partner/organizations/" + string(o.org(adminMail))
}

// deleteContoso suspends the first organization and begins its deletion.
func (o *office) deleteContoso() (partner *visitor, path string) {
	o.t.Helper()
	path = o.contosoPath()
	partner = o.signIn(ownerMail)
	partner.get(path+"/suspend").press("Suspend", "reason", "The contract ended")
	partner.get(path+"/delete").press("Delete Contoso", "name", "Contoso", "reason", "The contract ended", "anyway", "yes").says("Being deleted")
	return partner, path
}

// TestAnOrganizationIsDeletedHalfWayInTheWizard deletes one whose applications
// were just made, so that the administrator's sign-in still lasts: the tenant has
// nothing of Holdfast's applications any more. The workers end and begin again
// meanwhile.
func TestAnOrganizationIsDeletedHalfWayInTheWizard(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.consent(contosoAdmin, contosoPass).applications()
	if o.applicationsInTenant() == 0 {
		t.Fatal("there is no application in the tenant")
	}
	partner, path := o.deleteContoso()
	o.stop()
	o.work()
	partner.until(path+"/deletion", func() bool { return strings.Contains(partner.text(), "It is removed") })
	if names := o.holdfastApplications(); len(names) != 0 {
		t.Errorf("the tenant still has %v", names)
	}
	partner.says("Removed from the tenant").says("main application")
	if strings.Contains(partner.text(), "Global Administrator") {
		t.Error("something is named as left that was never made")
	}
	if _, err := os.Stat(filepath.Join(o.folder, "t")); err == nil {
		entries, _ := os.ReadDir(filepath.Join(o.folder, "t"))
		if len(entries) > 0 {
			t.Errorf("the repository still has %d organizations", len(entries))
		}
	}
	if v.get("/dashboard"); v.at.Path != "/sign-in" {
		t.Errorf("an admin of the deleted organization is at %s, want the sign-in", v.at)
	}
	partner.press("It is removed").says("Nothing of Contoso is left")
	if strings.Contains(partner.get("/partner/organizations").text(), "Contoso") {
		t.Error("the list still names the organization")
	}
}

// TestWhatIsLeftInTheTenantIsNamed deletes one that is connected and backed up:
// nobody's sign-in lasts, so its applications are named until a person has removed
// them.
func TestWhatIsLeftInTheTenantIsNamed(t *testing.T) {
	o, v := connected(t)
	v.until("/dashboard", func() bool { return strings.Contains(v.text(), "Protected") })
	names := o.holdfastApplications()
	path := o.contosoPath()
	partner := o.signIn(ownerMail)
	partner.get(path + "/delete")
	if warning := words(partner.doc.Find(".flash.warning")); !strings.HasPrefix(warning, "Only a suspended organization can be deleted") || partner.doc.Find(".flash").Length() != 1 {
		t.Errorf("the page warns %q: %s", warning, partner.text())
	}
	if partner.get(path); partner.doc.Find(".flash").Length() != 0 {
		t.Error("the page warns again")
	}
	partner.get(path+"/suspend").press("Suspend", "reason", "The contract ended")
	for _, name := range names {
		partner.get(path + "/delete").says(name)
	}
	partner.says("the role group Holdfast Exchange").says("Remove-RoleGroup")
	partner.press("Delete Contoso").says("exactly as it stands above").says("Say why").says("Confirm that this may stay in the tenant")
	partner.press("Delete Contoso", "name", "Contoso", "reason", "The contract ended").says("Confirm that this may stay in the tenant")
	partner.press("Delete Contoso", "name", "contoso", "anyway", "yes").says("exactly as it stands above")
	partner.press("Delete Contoso", "name", "Contoso").says("Being deleted")
	partner.until(path+"/deletion", func() bool { return strings.Contains(partner.text(), "It is removed") })
	for _, name := range names {
		partner.says(name)
	}
	partner.get("/partner/organizations").says("Something is left to remove")
	partner.get("/partner/activity").says("An organization was deleted")
	if _, err := os.Stat(filepath.Join(o.folder, "t")); err == nil {
		if entries, _ := os.ReadDir(filepath.Join(o.folder, "t")); len(entries) > 0 {
			t.Errorf("the repository still has %d organizations", len(entries))
		}
	}
}

// TestAnOrganizationThatIsDeletedIsLeftAlone walks its pages while nothing works
// for it, so that the deletion stands still.
func TestAnOrganizationThatIsDeletedIsLeftAlone(t *testing.T) {
	p := newPortal(t)
	org := p.orgs["Contoso Dental"]
	path := "/partner/organizations/" + string(org.ID)
	b := p.as(danaMail)
	if res, _ := b.post(path+"/suspend", url.Values{"reason": {"The contract ended"}}); res.StatusCode != http.StatusSeeOther {
		t.Fatal(res.Status)
	}
	if err := p.store.SetLegalHold(t.Context(), org.ID, "Case 4711", p.owner); err != nil {
		t.Fatal(err)
	}
	_, doc := b.get(path + "/delete")
	says(t, doc, "There is a legal hold")
	form := url.Values{"name": {org.Name}, "reason": {"The contract ended"}}
	if res, _ := b.post(path+"/delete", form); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("under a legal hold = %d, want 422", res.StatusCode)
	}
	if err := p.store.LiftLegalHold(t.Context(), org.ID, p.owner); err != nil {
		t.Fatal(err)
	}
	if res, _ := b.post(path+"/delete", form); res.StatusCode != http.StatusSeeOther {
		t.Fatal(res.Status)
	}
	for _, page := range []string{"/features", "/users", "/activity", "/suspend", "/delete"} {
		if res, _ := b.get(path + page); res.StatusCode != http.StatusConflict {
			t.Errorf("GET %s = %d, want 409", page, res.StatusCode)
		}
	}
	for _, page := range []string{"/resume", "/act", "/features", "/delete"} {
		if res, _ := b.post(path+page, form); res.StatusCode != http.StatusConflict {
			t.Errorf("POST %s = %d, want 409", page, res.StatusCode)
		}
	}
	if res, _ := b.get(path); res.StatusCode != http.StatusSeeOther || !strings.HasSuffix(res.Header.Get("Location"), "/deletion") {
		t.Errorf("its details = %d to %q, want its deletion", res.StatusCode, res.Header.Get("Location"))
	}
	_, doc = b.get("/partner/organizations")
	says(t, doc, "Being deleted")
	if res, _ := p.as(adeleMail).get("/dashboard"); res.StatusCode != http.StatusForbidden {
		t.Errorf("its admin's dashboard = %d, want 403", res.StatusCode)
	}
	if log, _, err := p.store.Activity(t.Context(), org.PartnerID, "", store.ActivityQuery{Kind: "organization.delete_begin", Page: 1, Size: 1}); err != nil || len(log) != 1 || log[0].Subject != org.Name {
		t.Errorf("the partner's activity has %+v, %v", log, err)
	}
	if d, err := p.store.Deletion(t.Context(), org.PartnerID, org.ID); err != nil || d.Step != backup.DeletionStop {
		t.Errorf("the deletion = %+v, %v", d, err)
	}
}
