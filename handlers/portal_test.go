package handlers_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"golang.org/x/net/html"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/handlers"
	"holdfast/store"
)

// The people of a portal; all have portalPassword.
const (
	portalPassword = "correct horse battery"
	danaMail       = "dana@northwind.example" // owner of the partner
	samMail        = "sam@northwind.example"  // support of the partner
	adeleMail      = "adele@contoso.example"  // admin of Contoso
	leeMail        = "lee@contoso.example"    // viewer of Contoso
	nestorMail     = "nestor@fabrikam.example"
)

// portal is the portal alone, with rows but without background work: a partner
// with the organizations Contoso and Fabrikam, and another partner's one.
type portal struct {
	t       testing.TB
	file    string // of the database
	store   *store.Store
	handler http.Handler
	server  *handlers.Server
	owner   backup.Actor
	orgs    map[string]backup.Organization
	people  map[string]backup.Person
}

// passwordHash is made once for all tests, since it is slow on purpose.
var passwordHash = sync.OnceValues(func() (string, error) {
	return handlers.HashPassword(context.Background(), portalPassword)
})

// newPortal makes a portal. The options change its server before it starts.
func newPortal(t testing.TB, options ...func(*handlers.Server)) *portal {
	t.Helper()
	hash, err := passwordHash()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "holdfast.db")
	st, err := store.Open(t.Context(), store.Config{URL: file, RootKey: []byte(strings.Repeat("k", 32))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	client, err := m365.New(m365.Config{ClientID: "11111111-2222-3333-4444-555555555555", Secret: backup.Secret("x"), RedirectURL: "http://127.0.0.1/setup/callback",
		LoginURL: "http://127.0.0.1:1/login", GraphURL: "http://127.0.0.1:1/graph", ExchangeURL: "http://127.0.0.1:1/exchange", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	p := &portal{t: t, file: file, store: st, orgs: map[string]backup.Organization{}, people: map[string]backup.Person{}}
	p.server = &handlers.Server{Store: st, FactorOptional: true, Microsoft: client, Content: noContent{}, SessionKey: []byte(strings.Repeat("s", 32)), PublicURL: "http://127.0.0.1", Log: log}
	for _, o := range options {
		o(p.server)
	}
	p.handler = p.server.Handler()
	p.fill(hash)
	return p
}

// noContent is a repository without any item.
type noContent struct{}

func (noContent) WriteItem(context.Context, backup.OrgID, backup.MailboxID, backup.ItemID, io.Writer) error {
	return backup.ErrNotFound
}

func (p *portal) fill(hash string) {
	t, ctx := p.t, p.t.Context()
	t.Helper()
	var err error
	dana := backup.Person{ID: backup.NewID[backup.PersonID](), Name: "Dana Ruiz", Email: danaMail, PasswordHash: hash}
	if p.owner, err = p.store.SetUpPartner(ctx, "Northwind MSP", dana); err != nil {
		t.Fatal(err)
	}
	p.people[danaMail] = dana
	for _, name := range []string{"Contoso Dental", "Fabrikam Legal"} {
		org, err := p.store.CreateOrganization(ctx, backup.Organization{PartnerID: p.owner.Partner.ID, Name: name}, p.owner)
		if err != nil {
			t.Fatal(err)
		}
		p.orgs[name] = org
	}
	for _, n := range []struct {
		name, mail, org string
		role            backup.Role
	}{
		{"Sam Okafor", samMail, "", backup.RoleSupport}, {"Adele Vance", adeleMail, "Contoso Dental", backup.RoleAdmin},
		{"Lee Gu", leeMail, "Contoso Dental", backup.RoleViewer}, {"Nestor Wilke", nestorMail, "Fabrikam Legal", backup.RoleAdmin},
	} {
		person := backup.Person{ID: backup.NewID[backup.PersonID](), Name: n.name, Email: n.mail, PasswordHash: hash}
		m := backup.Membership{OrgID: p.orgs[n.org].ID, Role: n.role}
		if n.org == "" {
			m.PartnerID = p.owner.Partner.ID
		}
		if err := p.store.CreatePerson(ctx, person, m, p.owner); err != nil {
			t.Fatal(err)
		}
		p.people[n.mail] = person
	}
}

// browser keeps the cookies of one person and does not follow redirects.
type browser struct {
	p       *portal
	cookies map[string]string
	headers map[string]string
	from    string // remote address
}

func (p *portal) browser() *browser {
	return &browser{p: p, cookies: map[string]string{}, headers: map[string]string{}, from: "192.0.2.1:1234"}
}

// as is a browser in which a person is signed in. An empty address is a visitor.
func (p *portal) as(mail string) *browser {
	p.t.Helper()
	b := p.browser()
	if mail == "" {
		return b
	}
	res, doc := b.post("/sign-in", url.Values{"email": {mail}, "password": {portalPassword}})
	if res.StatusCode != http.StatusSeeOther {
		p.t.Fatalf("sign in as %s = %d: %s", mail, res.StatusCode, doc.Text())
	}
	return b
}

// acting is a partner's person who acts for an organization.
func (p *portal) acting(mail, org string) *browser {
	p.t.Helper()
	b := p.as(mail)
	res, doc := b.post("/partner/organizations/"+string(p.orgs[org].ID)+"/act", url.Values{"reason": {"a ticket of theirs"}})
	if res.StatusCode != http.StatusSeeOther {
		p.t.Fatalf("act for %s = %d: %s", org, res.StatusCode, doc.Text())
	}
	return b
}

func (b *browser) get(path string) (*http.Response, *goquery.Document) {
	b.p.t.Helper()
	return b.do(http.MethodGet, path, nil)
}

func (b *browser) post(path string, form url.Values) (*http.Response, *goquery.Document) {
	b.p.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	return b.do(http.MethodPost, path, form)
}

func (b *browser) do(method, path string, form url.Values) (*http.Response, *goquery.Document) {
	t := b.p.t
	t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, body)
	r.RemoteAddr = b.from
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range b.headers {
		r.Header.Set(k, v)
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.p.handler.ServeHTTP(w, r)
	res := w.Result()
	for _, c := range res.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	doc, err := goquery.NewDocumentFromReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, doc
}

// follow gets the page that a redirect leads to.
func (b *browser) follow(res *http.Response) (*http.Response, *goquery.Document) {
	b.p.t.Helper()
	if res.StatusCode != http.StatusSeeOther {
		b.p.t.Fatalf("answer is %d, want a redirect", res.StatusCode)
	}
	return b.get(res.Header.Get("Location"))
}

// account is a mailbox as a test wants it.
type account struct {
	name   string
	status backup.Status
	change func(*backup.Mailbox)
}

// connect gives an organization a connection with accounts in the wanted
// statuses, and returns their mailboxes by name.
func (p *portal) connect(org string, accounts ...account) map[string]backup.Mailbox {
	t, ctx := p.t, p.t.Context()
	t.Helper()
	id := p.orgs[org].ID
	by := p.owner
	by.Org = p.orgs[org]
	conn := backup.Connection{ID: backup.NewID[backup.ConnectionID](), OrgID: id, Provider: backup.ProviderMicrosoft365, Method: backup.MethodServicePrincipal,
		TenantID: strings.ToLower(string(backup.NewID[backup.ConnectionID]())), TenantName: org, TenantDomain: strings.ToLower(strings.Fields(org)[0]) + ".onmicrosoft.com",
		Workloads: []backup.Workload{backup.WorkloadMail, backup.WorkloadExchange}, CreatedAt: time.Now()}
	if err := p.store.SaveConnection(ctx, conn, by); err != nil {
		t.Fatal(err)
	}
	auth, err := p.store.StartAuthorization(ctx, backup.Authorization{ID: backup.NewID[backup.AuthorizationID](), OrgID: id, ConnectionID: conn.ID, StartedBy: by.Person.ID,
		Provider: conn.Provider, Method: conn.Method, Flow: backup.FlowAutomated, Workloads: conn.Workloads, Step: backup.StepChooseAccounts, CreatedAt: time.Now()}, by)
	if err != nil {
		t.Fatal(err)
	}
	var seen []backup.Mailbox
	for i, a := range accounts {
		seen = append(seen, backup.Mailbox{ID: backup.NewID[backup.MailboxID](), ProviderID: fmt.Sprintf("user-%d", i), Name: a.name, Kind: backup.KindUser,
			Address: strings.ToLower(strings.NewReplacer(" ", ".", "<", "", ">", "").Replace(a.name)) + "@" + conn.TenantDomain, Licence: backup.LicenceValid, Enabled: true})
	}
	if err := p.store.UpsertMailboxes(ctx, id, conn.ID, seen); err != nil {
		t.Fatal(err)
	}
	var ids []backup.MailboxID
	for _, m := range seen {
		ids = append(ids, m.ID)
	}
	if err := p.store.SelectMailboxes(ctx, &auth, ids, by); err != nil {
		t.Fatal(err)
	}
	list := map[string]backup.Mailbox{}
	for i, a := range accounts {
		p.bring(id, seen[i].ID, a)
		if list[a.name], err = p.store.Mailbox(ctx, id, seen[i].ID); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// bring gives a mailbox the wanted status by a run that ends so.
func (p *portal) bring(org backup.OrgID, mailbox backup.MailboxID, a account) {
	t, ctx := p.t, p.t.Context()
	t.Helper()
	if a.status == backup.StatusPending && a.change == nil {
		return
	}
	now := time.Now()
	run := backup.Run{ID: backup.NewID[backup.RunID](), OrgID: org, MailboxID: mailbox, State: backup.RunRunning, Trigger: "first", StartedAt: now.Add(-4 * time.Minute), BeatAt: now}
	if err := p.store.StartRun(ctx, run); err != nil {
		t.Fatal(err)
	}
	run.State, run.EndedAt, run.NewItems, run.ReadBytes = backup.RunSucceeded, now.Add(-time.Minute), 1204, 312_400_000
	problem := backup.Problem{}
	if a.status == backup.StatusFailing {
		problem = backup.Problem{Kind: backup.ProblemUnavailable, Text: "Microsoft did not answer. Holdfast tries again by itself.", Status: 503, At: now}
		run.State, run.Problem, run.NewItems, run.ReadBytes = backup.RunFailed, problem, 0, 0
	}
	if a.status == backup.StatusEmpty {
		run.NewItems, run.ReadBytes = 0, 0
	}
	err := p.store.FinishRun(ctx, run, func(m *backup.Mailbox) {
		m.LastRunAt, m.NextRunAt, m.Items, m.SizeBytes, m.Problem = now.Add(-time.Minute), now.Add(56*time.Minute), 48_211, 6_200_000_000, problem
		switch a.status {
		case backup.StatusFailing:
			m.Failures, m.NextRunAt = 3, now.Add(20*time.Minute)
		case backup.StatusEmpty:
			m.Items, m.SizeBytes, m.NextRunAt = 0, 0, now.Add(23*time.Hour)
		case backup.StatusInactive:
			m.Licence, m.NextRunAt = backup.LicenceNone, time.Time{}
		case backup.StatusDeactivated:
			m.Deactivated, m.DeactivatedBy, m.NextRunAt = backup.DeactivatedManual, "Dana Ruiz", time.Time{}
		}
		if a.change != nil {
			a.change(m)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// text is what an element says, with one space between words and elements.
func text(s *goquery.Selection) string {
	var parts []string
	var collect func(*html.Node)
	collect = func(n *html.Node) {
		if n.Type == html.TextNode {
			parts = append(parts, strings.Fields(n.Data)...)
		}
		for c := range n.ChildNodes() {
			collect(c)
		}
	}
	for _, n := range s.Nodes {
		collect(n)
	}
	return strings.Join(parts, " ")
}

// says fails the test unless the page has the words.
// warns fails the test unless the page warns, and says nothing else above itself.
func warns(t *testing.T, doc *goquery.Document, want string) {
	t.Helper()
	if got := text(doc.Find(".flash.warning")); !strings.Contains(got, want) || doc.Find(".flash").Length() != 1 {
		t.Errorf("page does not warn %q alone, but has %q", want, text(doc.Find(".flash")))
	}
}

func says(t *testing.T, doc *goquery.Document, want string) {
	t.Helper()
	if got := text(doc.Selection); !strings.Contains(got, want) {
		t.Errorf("page does not say %q:\n%s", want, cmp.Or(text(doc.Find("main")), got))
	}
}
