// Package storetest opens databases for tests: SQLite in a temporary folder,
// and PostgreSQL on a server of its own that it starts.
package storetest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"database/sql"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that makes schemas

	"holdfast/backup"
	"holdfast/store"
)

// RootKey is the root key of every test store.
var RootKey = []byte(strings.Repeat("k", 32))

// Open returns an empty SQLite store that closes with the test.
func Open(t testing.TB) *store.Store {
	t.Helper()
	return At(t, filepath.Join(t.TempDir(), "holdfast.db"))
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
	t.Run("postgres", func(t *testing.T) { test(t, At(t, Postgres(t))) })
}

// schemas numbers the schemas of this process.
var schemas atomic.Int64

// Postgres returns the address of a fresh schema. With TEST_POSTGRES it is on
// that server; with HOLDFAST_TEST_POSTGRES=1 on a server that this process
// starts on loopback and stops in the end; otherwise the test is skipped.
func Postgres(t testing.TB) string {
	t.Helper()
	base := os.Getenv("TEST_POSTGRES")
	if base == "" {
		if os.Getenv("HOLDFAST_TEST_POSTGRES") == "" {
			t.Skip("HOLDFAST_TEST_POSTGRES is not set")
		}
		base = startPostgres(t)
	}
	db, err := sql.Open("pgx", base)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := fmt.Sprintf("t%d_%d", os.Getpid(), schemas.Add(1))
	if _, err := db.ExecContext(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		again, err := sql.Open("pgx", base)
		if err != nil {
			t.Error(err)
			return
		}
		defer again.Close()
		if _, err := again.ExecContext(context.WithoutCancel(t.Context()), "DROP SCHEMA "+name+" CASCADE"); err != nil {
			t.Logf("drop schema: %v", err)
		}
	})
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// startPostgres starts a throw-away server for the test. PostgreSQL refuses to
// run as root, so it then runs as the user postgres.
func startPostgres(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var attr *syscall.SysProcAttr
	if os.Getuid() == 0 {
		who, err := user.Lookup("postgres")
		if err != nil {
			t.Fatalf("PostgreSQL does not run as root, and there is no user postgres: %v", err)
		}
		uid, _ := strconv.ParseUint(who.Uid, 10, 32)
		gid, _ := strconv.ParseUint(who.Gid, 10, 32)
		attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil { //nolint:gosec // ids are small
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), tool(t, name), args...)
		cmd.SysProcAttr, cmd.Dir = attr, dir
		return cmd
	}
	if out, err := command("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := freePort(t)
	server := command("postgres", "-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "max_connections=200", "-c", "logging_collector=off")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT) // fast shutdown; Wait says how it went
		_ = server.Wait()
	})
	address := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	waitForPostgres(t, address)
	return address
}

// tool finds a program of PostgreSQL's, which Debian keeps out of the PATH.
func tool(t testing.TB, name string) string {
	t.Helper()
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); err == nil && len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: apt-get install postgresql", name)
	}
	return path
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func waitForPostgres(t testing.TB, address string) {
	t.Helper()
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("PostgreSQL did not start: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
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
	if err := st.UpsertMailboxes(ctx, by.Org.ID, c.ID, accounts, nil); err != nil {
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
