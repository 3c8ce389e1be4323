package handlers_test

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
)

func TestSettingsKeepWhatWasTypedWithItsError(t *testing.T) {
	p := newPortal(t)
	b := p.as(adeleMail)
	res, doc := b.post("/settings", url.Values{"name": {"fabrikam LEGAL"}})
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#name").AttrOr("value", "") != "fabrikam LEGAL" {
		t.Errorf("taken name = %d, field %q", res.StatusCode, doc.Find("#name").AttrOr("value", ""))
	}
	if got := doc.Find("#name").AttrOr("aria-describedby", ""); got != "name-hint name-error" {
		t.Errorf("the field is described by %q, want its hint and its error", got)
	}
	says(t, doc, "There is already an organization with this name.")
	res, _ = b.post("/settings", url.Values{"name": {"Contoso Dentists"}})
	_, doc = b.follow(res)
	says(t, doc, "Saved.")
	says(t, doc, "Organization Contoso Dentists")
}

func TestRoleIsCheckedOnDemand(t *testing.T) {
	p := newPortal(t)
	m := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})["Adele"]
	b := p.as(adeleMail)
	path := "/settings/credentials/" + string(m.ConnectionID) + "/check-role"
	if res, _ := b.post(path, nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("without a role = %d, want 404", res.StatusCode)
	}
	role := backup.CustomRole{OrgID: m.OrgID, ConnectionID: m.ConnectionID, State: backup.RoleDisconnected,
		Problem: backup.Problem{Kind: backup.ProblemRoleChanged, Text: "The role group has no member any more."}}
	if err := p.store.SaveCustomRole(t.Context(), &role); err != nil {
		t.Fatal(err)
	}
	_, doc := b.get("/settings/credentials")
	says(t, doc, "Custom Role Status Disconnected")
	says(t, doc, "The role group has no member any more.")
	res, _ := b.post(path, nil)
	_, doc = b.follow(res)
	says(t, doc, "The custom role is being checked.")
}

func TestPollingDoesNotKeepASessionAlive(t *testing.T) {
	if _, err := passwordHash(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPortal(t)
		b := p.as(adeleMail)
		for range 13 {
			time.Sleep(time.Hour)
			b.headers = map[string]string{"HX-Request": "true", "HX-Request-Type": "partial"}
			b.get("/dashboard/live")
		}
		b.headers = nil
		if res, _ := b.get("/dashboard"); res.StatusCode != http.StatusSeeOther {
			t.Errorf("after 13 hours of polling = %d, want to be sent to sign in", res.StatusCode)
		}
		b = p.as(adeleMail)
		for day := range 14 {
			for range 3 {
				time.Sleep(8 * time.Hour)
				if res, _ := b.get("/dashboard"); res.StatusCode == http.StatusSeeOther {
					if day < 6 {
						t.Errorf("a session in use ended on day %d", day+1)
					}
					return
				}
			}
		}
		t.Error("a session lasts longer than 7 days")
	})
}
