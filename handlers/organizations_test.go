package handlers_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/handlers"
	"holdfast/store/storetest"
)

// many gives the partner organizations without a backup.
func (p *portal) many(n int) {
	p.t.Helper()
	for i := range n {
		name := fmt.Sprintf("Client %03d", i)
		org, err := p.store.CreateOrganization(context.WithoutCancel(p.t.Context()), backup.Organization{PartnerID: p.owner.Partner.ID, Name: name}, p.owner)
		if err != nil {
			p.t.Fatal(err)
		}
		p.orgs[name] = org
	}
}

// Among five hundred organizations those that need somebody are found at once,
// and order, group and search go together.
func TestFiveHundredOrganizations(t *testing.T) {
	p := newPortal(t)
	p.many(500)
	p.connect("Client 123", account{name: "A", status: backup.StatusFailing}, account{name: "B", status: backup.StatusProtected})
	p.connect("Client 456", account{name: "C", status: backup.StatusFailing})
	p.connect("Contoso Dental", account{name: "D", status: backup.StatusInactive})
	if err := p.store.SetSuspended(t.Context(), p.owner.Partner.ID, p.orgs["Client 007"].ID, true, "not paid", p.owner); err != nil {
		t.Fatal(err)
	}
	b := p.as(danaMail)
	_, doc := b.get("/partner/organizations")
	if n := doc.Find("tbody tr").Length(); n != 50 {
		t.Errorf("%d organizations on a page, want 50", n)
	}
	says(t, doc, "1–50 of 502")
	if got := text(doc.Find("nav.chips")); got != "All 502 Backups fail 2 Inactive mailboxes 1 No mailboxes 498 Suspended 1" {
		t.Errorf("groups: %s", got)
	}
	_, doc = b.get(doc.Find(".chip:contains('Backups fail')").AttrOr("href", ""))
	if got := text(doc.Find("tbody .name")); got != "Client 123 client.onmicrosoft.com Client 456 client.onmicrosoft.com" {
		t.Errorf("where backups fail: %s", got)
	}
	// The search keeps the group, and the order of a column too.
	form := url.Values{"q": {"456"}}
	doc.Find("form[role=search] input[type=hidden]").Each(func(_ int, s *goquery.Selection) { form.Set(s.AttrOr("name", ""), s.AttrOr("value", "")) })
	_, doc = b.get("/partner/organizations?" + form.Encode())
	if got := text(doc.Find("tbody .name")); got != "Client 456 client.onmicrosoft.com" || form.Get("only") != "failing" {
		t.Errorf("searched among them with %v: %s", form, got)
	}
	if to := doc.Find("th a").First().AttrOr("href", ""); !strings.Contains(to, "only=failing") || !strings.Contains(to, "q=456") {
		t.Errorf("the order of names leads to %s", to)
	}
	_, doc = b.get("/partner/organizations?only=suspended")
	if rows := doc.Find("tbody tr"); rows.Length() != 1 || !strings.Contains(text(rows), "Client 007") || !strings.Contains(text(rows), "Suspended") {
		t.Errorf("suspended: %s", text(rows))
	}
	_, doc = b.get("/partner/organizations?only=inactive&q=client")
	says(t, doc, "No organization matches “client”")
	_, doc = b.get("/partner/organizations?only=nonsense&page=11")
	if n := doc.Find("tbody tr").Length(); n != 2 {
		t.Errorf("%d organizations on the last page, want 2", n)
	}
}

// BenchmarkOrganizationsPage answers with the page of a partner of 500
// organizations, each with 20 mailboxes.
func BenchmarkOrganizationsPage(b *testing.B) {
	st := storetest.Open(b)
	w := storetest.Fill(b, st)
	for i := range 500 {
		org, err := st.CreateOrganization(b.Context(), backup.Organization{PartnerID: w.Owner.Partner.ID, Name: fmt.Sprintf("Client %03d", i)}, w.Owner)
		if err != nil {
			b.Fatal(err)
		}
		by, accounts := w.Owner, make([]backup.Mailbox, 20)
		by.Org = org
		for j := range accounts {
			accounts[j] = storetest.Account(fmt.Sprintf("person%02d", j))
		}
		storetest.Connect(b, st, by, fmt.Sprintf("tenant-%d", i), accounts...)
	}
	hash, err := handlers.HashPassword(b.Context(), portalPassword)
	if err != nil {
		b.Fatal(err)
	}
	if err := st.SetPassword(b.Context(), w.Owner.Person.ID, hash, ""); err != nil {
		b.Fatal(err)
	}
	s := &handlers.Server{Store: st, SessionKey: []byte(strings.Repeat("s", 32)), PublicURL: "http://127.0.0.1", FactorOptional: true, Log: slog.New(slog.DiscardHandler)}
	handler, cookies := s.Handler(), map[string]string{}
	ask := func(method, path string, form url.Values) int {
		r := httptest.NewRequestWithContext(b.Context(), method, path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for name, value := range cookies {
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		for _, c := range rec.Result().Cookies() {
			cookies[c.Name] = c.Value
		}
		return rec.Code
	}
	if code := ask(http.MethodPost, "/sign-in", url.Values{"email": {w.Owner.Person.Email}, "password": {portalPassword}}); code != http.StatusSeeOther {
		b.Fatalf("sign-in = %d", code)
	}
	for b.Loop() {
		if code := ask(http.MethodGet, "/partner/organizations?sort=health&desc=1", nil); code != http.StatusOK {
			b.Fatalf("the page = %d", code)
		}
	}
}
