// Package storetest opens databases for tests: SQLite in a temporary folder,
// and PostgreSQL on a server of its own that it starts.
package storetest

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
)

// RootKey is the root key of every test store.
var RootKey = []byte(strings.Repeat("k", 32))

// Open returns an empty SQLite store that closes with the test.
func Open(t testing.TB) *store.Store {
	t.Helper()
	return At(t, empty(t))
}

// template is an empty database; making it takes longer than most tests.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "holdfast-template")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "holdfast.db")
	st, err := store.Open(context.Background(), store.Config{URL: path, RootKey: RootKey})
	if err != nil {
		return nil, err
	}
	if err := st.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path) //nolint:gosec // our own file
})

// empty returns the path of a database without rows.
func empty(t testing.TB) string {
	t.Helper()
	data, err := template()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "holdfast.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// At opens the store at a URL; it closes with the test.
func At(t testing.TB, url string) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{URL: url, RootKey: RootKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// Each runs a test on SQLite and, if HOLDFAST_TEST_POSTGRES or TEST_POSTGRES
// is set, on PostgreSQL.
func Each(t *testing.T, test func(t *testing.T, st *store.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, Open(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, At(t, cloned(t))) })
}

// EachRaw is Each with a second, raw connection to the same database, for
// tests that tamper with it or look behind the store's back.
func EachRaw(t *testing.T, test func(t *testing.T, st *store.Store, raw *sql.DB)) {
	t.Helper()
	open := func(t *testing.T, driver, address string) *sql.DB {
		db, err := sql.Open(driver, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	t.Run("sqlite", func(t *testing.T) {
		path := empty(t)
		test(t, At(t, path), open(t, "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)"))
	})
	t.Run("postgres", func(t *testing.T) {
		address := cloned(t)
		test(t, At(t, address), open(t, "pgx", address))
	})
}

// World is a partner with an owner and two organizations, each with an admin.
type World struct {
	Owner    backup.Actor
	Contoso  backup.Organization
	Fabrikam backup.Organization
	Ada      backup.Actor // admin of Contoso
	Otto     backup.Actor // admin of Fabrikam
}

// Fill makes the World.
func Fill(t testing.TB, st *store.Store) World {
	t.Helper()
	ctx := t.Context()
	var w World
	var err error
	if w.Owner, err = st.SetUpPartner(ctx, "Northwind", backup.Person{Name: "Dana Ruiz", Email: "dana@northwind.example"}); err != nil {
		t.Fatal(err)
	}
	admin := func(name, email string, org backup.Organization) backup.Actor {
		p := backup.Person{ID: backup.NewID[backup.PersonID](), Name: name, Email: email}
		if err := st.CreatePerson(ctx, p, backup.Membership{PersonID: p.ID, OrgID: org.ID, Role: backup.RoleAdmin}, w.Owner); err != nil {
			t.Fatal(err)
		}
		return backup.Actor{Person: p, Partner: w.Owner.Partner, Org: org, Role: backup.RoleAdmin}
	}
	for _, o := range []struct {
		to   *backup.Organization
		name string
	}{{&w.Contoso, "Contoso"}, {&w.Fabrikam, "Fabrikam"}} {
		if *o.to, err = st.CreateOrganization(ctx, backup.Organization{PartnerID: w.Owner.Partner.ID, Name: o.name}, w.Owner); err != nil {
			t.Fatal(err)
		}
	}
	w.Ada, w.Otto = admin("Ada Lovelace", "ada@contoso.example", w.Contoso), admin("Otto Other", "otto@fabrikam.example", w.Fabrikam)
	return w
}

// Connect makes a completed connection of an organization with accounts that
// are all selected, and returns it and its mailboxes by provider id.
func Connect(t testing.TB, st *store.Store, by backup.Actor, tenant string, accounts ...backup.Mailbox) (backup.Connection, map[string]backup.Mailbox) {
	t.Helper()
	ctx := t.Context()
	c := backup.Connection{ID: backup.NewID[backup.ConnectionID](), OrgID: by.Org.ID, Provider: backup.ProviderMicrosoft365, Method: backup.MethodServicePrincipal,
		TenantID: tenant, TenantName: "Tenant", TenantDomain: tenant + ".example", Workloads: []backup.Workload{backup.WorkloadMail}, CreatedAt: time.Now()}
	auth, err := st.StartAuthorization(ctx, backup.Authorization{OrgID: by.Org.ID, Provider: c.Provider, Method: c.Method, Flow: backup.FlowAutomated, Step: backup.StepChooseAccounts, Workloads: c.Workloads}, by)
	if err != nil {
		t.Fatal(err)
	}
	auth.ConnectionID, auth.TenantID, auth.TenantDomain = c.ID, c.TenantID, c.TenantDomain
	if err := st.ConsentGranted(ctx, &auth, c, nil, by); err != nil {
		t.Fatal(err)
	}
	if err := st.UpsertMailboxes(ctx, by.Org.ID, c.ID, accounts); err != nil {
		t.Fatal(err)
	}
	page, err := st.Mailboxes(ctx, by.Org.ID, store.MailboxQuery{AllAccounts: true, Connection: c.ID, PageSize: 10000})
	if err != nil {
		t.Fatal(err)
	}
	ids, list := []backup.MailboxID{}, map[string]backup.Mailbox{}
	for _, m := range page.Mailboxes {
		ids = append(ids, m.ID)
	}
	if err := st.SelectMailboxes(ctx, &auth, ids, by); err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Mailboxes {
		if list[m.ProviderID], err = st.Mailbox(ctx, by.Org.ID, m.ID); err != nil {
			t.Fatal(err)
		}
	}
	return c, list
}

// Account is a licensed account for Connect.
func Account(id string) backup.Mailbox {
	return backup.Mailbox{ProviderID: id, Address: id + "@contoso.example", Name: "Name of " + id, Kind: backup.KindUser, Licence: backup.LicenceValid, Enabled: true}
}
