package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/backup"
)

func TestNewOrganizationsAdminGetsALinkShownOnce(t *testing.T) {
	p := newPortal(t)
	b := p.as(danaMail)
	form := url.Values{"name": {"contoso dental"}, "admin_name": {" "}, "email": {leeMail}}
	res, doc := b.post("/partner/organizations", form)
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#admin_name-error").Length() != 1 {
		t.Errorf("wrong form = %d: %s", res.StatusCode, text(doc.Find("form.card")))
	}
	if strings.Contains(doc.Text(), "already signs in") {
		t.Error("the page tells who has an account")
	}
	form.Set("admin_name", "Isaiah Langer")
	form.Set("email", "isaiah@litware.example")
	res, doc = b.post("/partner/organizations", form)
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#name-error").Length() != 1 {
		t.Errorf("taken name = %d: %s", res.StatusCode, text(doc.Find("form.card")))
	}
	if got := doc.Find("#admin_name").AttrOr("value", ""); got != "Isaiah Langer" {
		t.Errorf("admin's name = %q, want what was typed", got)
	}
	form.Set("name", "Litware")
	res, _ = b.post("/partner/organizations", form)
	page := res.Header.Get("Location")
	_, doc = b.follow(res)
	link := text(doc.Find("#set-up-link"))
	if !strings.HasPrefix(link, "http://127.0.0.1/set-up/") {
		t.Fatalf("link = %q: %s", link, text(doc.Find("main")))
	}
	says(t, doc, "Set-up link for Isaiah Langer")
	if _, doc := b.get(page); doc.Find("#set-up-link").Length() != 0 {
		t.Error("the link is shown again")
	}
	visitor := p.browser()
	res, _ = visitor.post(strings.TrimPrefix(link, "http://127.0.0.1"), url.Values{"password": {"a few unrelated words"}, "again": {"a few unrelated words"}})
	res, _ = visitor.follow(res)
	_, doc = visitor.follow(res)
	says(t, doc, "Your password is set. You are signed in.")
	says(t, doc, "Organization Litware")
}

func TestPeopleOfAnOrganizationAreAddedWithTheirRole(t *testing.T) {
	p := newPortal(t)
	b := p.as(danaMail)
	path := "/partner/organizations/" + string(p.orgs["Fabrikam Legal"].ID)
	if res, _ := b.post(path+"/users", url.Values{"name": {"Eve"}, "email": {"eve@fabrikam.example"}, "role": {"owner"}}); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("an owner in an organization = %d, want 422", res.StatusCode)
	}
	res, _ := b.post(path+"/users", url.Values{"name": {"Eve"}, "email": {"eve@fabrikam.example"}, "role": {"viewer"}})
	_, doc := b.follow(res)
	says(t, doc, "Eve was invited.")
	says(t, doc, "Eve eve@fabrikam.example Viewer Invited")
	first := text(doc.Find("#set-up-link"))
	res, _ = b.post(doc.Find("a[aria-label='Change Eve']").AttrOr("href", "")+"/link", nil)
	_, doc = b.follow(res)
	if second := text(doc.Find("#set-up-link")); second == first || second == "" {
		t.Errorf("second link = %q, first %q", second, first)
	}
	if res, _ := p.browser().get(strings.TrimPrefix(first, "http://127.0.0.1")); res.StatusCode != http.StatusNotFound {
		t.Errorf("the first link afterwards = %d, want 404", res.StatusCode)
	}
}

func TestOrganizationsAreListedWithTheirHealthAndFound(t *testing.T) {
	p := newPortal(t)
	p.connect("Contoso Dental", account{name: "A", status: backup.StatusFailing}, account{name: "B", status: backup.StatusProtected})
	b := p.as(samMail)
	_, doc := b.get("/partner/organizations")
	says(t, doc, "Contoso Dental contoso.onmicrosoft.com 1 failing 2")
	says(t, doc, "Fabrikam Legal Nothing connected yet No mailboxes 0 Never")
	if doc.Find("a[href='/partner/organizations/new']").Length() != 0 {
		t.Error("support is offered to create organizations")
	}
	_, doc = b.get("/partner/organizations?q=ONMICROSOFT")
	if rows := doc.Find("tbody tr"); rows.Length() != 1 || !strings.Contains(text(rows), "Contoso") {
		t.Errorf("found %q", text(rows))
	}
	_, doc = b.get("/partner/organizations?q=nothing")
	says(t, doc, "No organization matches “nothing”")
	for query, want := range map[string]string{"": "Contoso", "?desc=1&sort=name": "Fabrikam", "?sort=mailboxes": "Fabrikam", "?sort=mailboxes&desc=1": "Contoso",
		"?sort=health&desc=1": "Contoso", "?sort=health": "Fabrikam", "?sort=nonsense": "Contoso"} {
		if _, doc := b.get("/partner/organizations" + query); !strings.HasPrefix(text(doc.Find("tbody tr").First()), want) {
			t.Errorf("%s begins with %s", query, text(doc.Find("tbody tr").First()))
		}
	}
	_, doc = b.get("/partner/organizations?page=99")
	if got := doc.Find("main h1"); text(got) != "Organizations" {
		t.Errorf("a page beyond the last: %s", text(doc.Find("main")))
	}
}
