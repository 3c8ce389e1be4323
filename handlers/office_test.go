package handlers_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
	"holdfast/backup/repo"
	"holdfast/handlers"
	"holdfast/store"
)

// office is a whole Holdfast of one process, with the simulated Microsoft and
// two organizations at one partner.
type office struct {
	t         *testing.T
	store     *store.Store
	engine    *engine.Engine
	microsoft *simulator.Simulator
	server    *handlers.Server
	portal    string // its address
	folder    string // of the repository
	control   string // address of the simulator's control paths
	stop      func() // ends the background work, and waits for it
	work      func() // starts it
}

const (
	officePassword = "a few unrelated words"
	adminMail      = "ada@contoso.example"   // admin of Contoso
	secondMail     = "ben@contoso.example"   // another one
	viewerMail     = "vera@contoso.example"  // viewer of Contoso
	otherMail      = "otto@fabrikam.example" // admin of Fabrikam
)

// world is two tenants with mail, one without Exchange, and one whose Exchange
// was never customised; nothing takes longer than needed.
func world() simulator.World {
	w := simulator.DefaultWorld()
	for i := range w.Tenants {
		w.Tenants[i].ReplicationDelay = 0
	}
	return w
}

func newOffice(t *testing.T) *office {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	st, err := store.Open(ctx, store.Config{URL: filepath.Join(dir, "holdfast.db"), RootKey: []byte(strings.Repeat("k", 32))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })

	var portal http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { portal.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	mail := os.DirFS("../backup/m365/simulator/testdata/mail")
	sim, err := simulator.New(simulator.Options{World: world(), Mail: mail, RedirectURIs: []string{server.URL + "/setup/callback"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	microsoft := httptest.NewServer(sim)
	t.Cleanup(microsoft.Close)
	secret, _, _ := sim.Client(simulator.MainClientID)
	client, err := m365.New(m365.Config{
		ClientID: simulator.MainClientID, Secret: backup.Secret(secret), RedirectURL: server.URL + "/setup/callback", Log: log,
		LoginURL: microsoft.URL + "/" + simulator.HostLogin, GraphURL: microsoft.URL + "/" + simulator.HostGraph, ExchangeURL: microsoft.URL + "/" + simulator.HostExchange,
	})
	if err != nil {
		t.Fatal(err)
	}
	folder, err := repo.OpenDir(filepath.Join(dir, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	repository, err := repo.Open(ctx, folder, st, st, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	eng := &engine.Engine{Repo: repository, Catalog: st, Log: log}
	web := &handlers.Server{Store: st, FactorOptional: true, Microsoft: client, Content: eng, Files: repository.Files(), SessionKey: []byte(strings.Repeat("s", 32)), PublicURL: server.URL, Log: log}
	portal = web.Handler()
	o := &office{t: t, store: st, engine: eng, microsoft: sim, server: web, folder: filepath.Join(dir, "repository"), portal: server.URL, control: microsoft.URL + "/_simulator"}
	o.people()
	o.work = func() {
		runner := &jobs.Runner{Store: st, Engine: eng, Microsoft: client, Every: time.Hour, Workers: 2, Log: log}
		work, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan error, 1)
		go func() { done <- runner.Run(work) }()
		ended := false
		o.stop = func() {
			if cancel(); !ended {
				ended = true
				if err := <-done; err != nil {
					t.Errorf("background work: %v", err)
				}
			}
		}
	}
	o.work()
	t.Cleanup(func() { o.stop() })
	return o
}

// databaseFiles are the contents of the database's files by their names.
func (o *office) databaseFiles() map[string][]byte {
	o.t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(o.folder), "holdfast.db*"))
	if err != nil || len(files) == 0 {
		o.t.Fatalf("no database: %v", err)
	}
	contents := map[string][]byte{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			o.t.Fatal(err)
		}
		contents[filepath.Base(name)] = data
	}
	return contents
}

// people makes the partner, the organizations and who works there.
func (o *office) people() {
	t, ctx := o.t, o.t.Context()
	hash, err := handlers.HashPassword(ctx, officePassword)
	if err != nil {
		t.Fatal(err)
	}
	owner, err := o.store.SetUpPartner(ctx, "Northwind", backup.Person{Name: "Dana Ruiz", Email: "dana@northwind.example", PasswordHash: hash})
	if err != nil {
		t.Fatal(err)
	}
	orgs := map[string]backup.OrgID{}
	for _, name := range []string{"Contoso", "Fabrikam"} {
		org, err := o.store.CreateOrganization(ctx, backup.Organization{PartnerID: owner.Partner.ID, Name: name}, owner)
		if err != nil {
			t.Fatal(err)
		}
		orgs[name] = org.ID
	}
	for _, p := range []struct {
		name, mail, org string
		role            backup.Role
	}{
		{"Ada Lovelace", adminMail, "Contoso", backup.RoleAdmin}, {"Ben Second", secondMail, "Contoso", backup.RoleAdmin},
		{"Vera Viewer", viewerMail, "Contoso", backup.RoleViewer}, {"Otto Other", otherMail, "Fabrikam", backup.RoleAdmin},
	} {
		person := backup.Person{ID: backup.NewID[backup.PersonID](), Name: p.name, Email: p.mail, PasswordHash: hash, CreatedAt: time.Now()}
		if err := o.store.CreatePerson(ctx, person, backup.Membership{PersonID: person.ID, OrgID: orgs[p.org], Role: p.role}, owner); err != nil {
			t.Fatal(err)
		}
	}
}

// signIn is a person who has signed in to the portal.
func (o *office) signIn(mail string) *visitor {
	o.t.Helper()
	v := newVisitor(o.t).get(o.portal + "/sign-in")
	v.press("Sign in", "email", mail, "password", officePassword)
	if v.status != http.StatusOK || strings.Contains(v.at.Path, "sign-in") {
		o.t.Fatalf("sign in as %s: %d at %s: %s", mail, v.status, v.at, v.text())
	}
	return v
}

// change asks the simulated Microsoft for a change: method, path and JSON.
func (o *office) change(method, path, body string) {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), method, o.control+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		text, _ := io.ReadAll(res.Body)
		o.t.Fatalf("%s %s = %d: %s", method, path, res.StatusCode, text)
	}
}

// passInterval lets Microsoft's pause between two questions for a device code
// be over.
func (o *office) passInterval() {
	o.t.Helper()
	for {
		a, err := o.store.ActiveAuthorization(o.t.Context(), o.org(adminMail))
		if err != nil {
			o.t.Fatal(err)
		}
		a.Device.PolledAt = a.Device.PolledAt.Add(-time.Minute)
		err = o.store.SaveAuthorization(o.t.Context(), &a)
		if err == nil {
			return
		}
		if !errors.Is(err, backup.ErrStale) {
			o.t.Fatal(err)
		}
	}
}

// mailbox is the first mailbox or account of Contoso.
func (o *office) mailbox() backup.Mailbox {
	o.t.Helper()
	page, err := o.store.Mailboxes(o.t.Context(), o.org(adminMail), store.MailboxQuery{AllAccounts: true})
	if err != nil || len(page.Mailboxes) == 0 {
		o.t.Fatalf("mailboxes: %v", err)
	}
	return page.Mailboxes[0]
}

// testWriter shows what is logged with the test that caused it.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

var _ io.Writer = testWriter{}
