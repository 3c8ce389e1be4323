package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/handlers"
)

// fillPath puts identifiers of Contoso into a path.
func (p *portal) fillPath(path string, m backup.Mailbox) string {
	id := string(m.ID)
	if strings.HasPrefix(path, "/partner/") {
		id = string(p.orgs["Contoso Dental"].ID)
	}
	return strings.NewReplacer("{id}", id, "{mailbox}", string(m.ID), "{connection}", string(m.ConnectionID), "{person}", string(p.people[leeMail].ID),
		"{token}", "none", "{export}", "none", "{item}", "none", "{folder}", "none", "{restore}", "none", "{$}", "").Replace(path)
}

// TestEveryRouteLetsInWhoTheTableSays walks the table of routes as everybody.
func TestEveryRouteLetsInWhoTheTableSays(t *testing.T) {
	p := newPortal(t)
	mailbox := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	visitors := []struct {
		name    string
		open    func() *browser
		allowed []string
	}{
		{"nobody", func() *browser { return p.as("") }, []string{"public"}},
		{"owner", func() *browser { return p.as(danaMail) }, []string{"public", "person", "partner", "owner"}},
		{"support", func() *browser { return p.as(samMail) }, []string{"public", "person", "partner"}},
		{"support acting", func() *browser { return p.acting(samMail, "Contoso Dental") }, []string{"public", "person", "partner", "viewer", "admin"}},
		{"admin", func() *browser { return p.as(adeleMail) }, []string{"public", "person", "viewer", "admin"}},
		{"viewer", func() *browser { return p.as(leeMail) }, []string{"public", "person", "viewer"}},
	}
	for _, v := range visitors {
		t.Run(v.name, func(t *testing.T) {
			b := v.open()
			for _, route := range p.server.Routes() {
				if route.Path == "/setup/device" && route.Method == http.MethodPost {
					continue // asks Microsoft
				}
				res, _ := b.do(route.Method, p.fillPath(route.Path, mailbox), url.Values{})
				got := !refused(route, res)
				want := false
				for _, who := range v.allowed {
					want = want || who == route.Who
				}
				if got != want {
					t.Errorf("%s %s for %s = %d %s, allowed %v, want %v", route.Method, route.Path, route.Who, res.StatusCode, res.Header.Get("Location"), got, want)
				}
				if route.Path == "/sign-out" || route.Path == "/stop-acting" {
					b = v.open()
				}
			}
		})
	}
}

// refused says whether an answer turns away whoever asked: with a refusal, to
// the sign-in page, or to where a partner's person chooses whom to act for.
func refused(route handlers.Route, res *http.Response) bool {
	location := res.Header.Get("Location")
	switch {
	case res.StatusCode == http.StatusForbidden:
		return true
	case route.Who == "public":
		return false
	case location == "/sign-in", strings.HasPrefix(location, "/sign-in?next="):
		return true
	}
	return (route.Who == "viewer" || route.Who == "admin") && location == "/partner/organizations"
}

// TestOthersNeverReachAnOrganization walks what an organization has as an
// admin of another one.
func TestOthersNeverReachAnOrganization(t *testing.T) {
	p := newPortal(t)
	mailbox := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	for _, b := range []*browser{p.as(nestorMail), p.acting(danaMail, "Fabrikam Legal")} {
		for _, route := range p.server.Routes() {
			if route.Who == "public" || route.Who == "person" || strings.HasPrefix(route.Path, "/partner/") || !strings.Contains(route.Path, "{") {
				continue
			}
			res, doc := b.do(route.Method, p.fillPath(route.Path, mailbox), url.Values{})
			if res.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s = %d, want 404", route.Method, route.Path, res.StatusCode)
			}
			if strings.Contains(doc.Text(), "Megan") {
				t.Errorf("%s %s names the mailbox", route.Method, route.Path)
			}
		}
		for _, path := range []string{"/dashboard", "/dashboard?q=Megan", "/browse", "/status", "/activity", "/settings/credentials"} {
			if _, doc := b.get(path); strings.Contains(doc.Find("table").Text(), "Megan") || strings.Contains(doc.Text(), "contoso") {
				t.Errorf("%s shows another organization", path)
			}
		}
	}
	m, err := p.store.Mailbox(t.Context(), mailbox.OrgID, mailbox.ID)
	if err != nil || m.Status != backup.StatusProtected {
		t.Errorf("mailbox afterwards is %q, %v; want untouched", m.Status, err)
	}
}

func TestAPersonsLinkIsMadeForTheirOrganizationOnly(t *testing.T) {
	p := newPortal(t)
	path := "/partner/organizations/" + string(p.orgs["Fabrikam Legal"].ID) + "/users/" + string(p.people[leeMail].ID) + "/link"
	if res, _ := p.as(danaMail).post(path, nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("link for a person of another organization = %d, want 404", res.StatusCode)
	}
	if res, _ := p.as(danaMail).get("/partner/organizations/none"); res.StatusCode != http.StatusNotFound {
		t.Errorf("an organization that is not there = %d, want 404", res.StatusCode)
	}
}

func TestViewerChangesNothing(t *testing.T) {
	p := newPortal(t)
	mailbox := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	b := p.as(leeMail)
	for _, path := range []string{"/mailboxes/" + string(mailbox.ID) + "/deactivate", "/mailboxes/" + string(mailbox.ID) + "/back-up", "/settings"} {
		if res, _ := b.post(path, url.Values{"name": {"Mine"}}); res.StatusCode != http.StatusForbidden {
			t.Errorf("POST %s = %d, want 403", path, res.StatusCode)
		}
	}
	_, doc := b.get("/dashboard")
	if n := doc.Find("main form[method=post], main a[href^='/add-backup'], main a[data-dialog]").Length(); n != 0 {
		t.Errorf("the viewer's dashboard offers %d changes", n)
	}
	if m, err := p.store.Mailbox(t.Context(), mailbox.OrgID, mailbox.ID); err != nil || m.Deactivated != backup.NotDeactivated {
		t.Errorf("mailbox afterwards is deactivated %q, %v", m.Deactivated, err)
	}
}
