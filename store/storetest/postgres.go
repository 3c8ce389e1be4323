package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that makes schemas

	"holdfast/backup/porttest"
	"holdfast/store"
)

// schemas numbers the schemas of this process.
var schemas atomic.Int64

// Postgres returns the address of a fresh schema, which is dropped with the
// test. With TEST_POSTGRES it is on that server; with HOLDFAST_TEST_POSTGRES=1
// on a server that this process starts on loopback and that ends with it;
// otherwise the test is skipped.
func Postgres(t testing.TB) string {
	t.Helper()
	base := os.Getenv("TEST_POSTGRES")
	if base == "" {
		if os.Getenv("HOLDFAST_TEST_POSTGRES") == "" {
			t.Skip("HOLDFAST_TEST_POSTGRES is not set")
		}
		var err error
		if base, err = server(); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t%d_%d", os.Getpid(), schemas.Add(1))
	execute(t, base, "CREATE SCHEMA "+name)
	t.Cleanup(func() { execute(t, base, "DROP SCHEMA "+name+" CASCADE") })
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

// cloned is Postgres with the store's tables made, which on a server of our own
// is much faster by a template.
func cloned(t testing.TB) string {
	t.Helper()
	if os.Getenv("TEST_POSTGRES") != "" || os.Getenv("HOLDFAST_TEST_POSTGRES") == "" {
		return Postgres(t)
	}
	base, err := templateServer()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("t%d", schemas.Add(1))
	execute(t, base, "CREATE DATABASE "+name+" TEMPLATE "+templateName)
	t.Cleanup(func() { execute(t, base, "DROP DATABASE "+name+" WITH (FORCE)") })
	return databaseOf(base, name)
}

const templateName = "holdfast_template"

// templateServer is server with a database that has the store's tables.
var templateServer = sync.OnceValues(func() (string, error) {
	base, err := server()
	if err != nil {
		return "", err
	}
	db, err := sql.Open("pgx", base)
	if err != nil {
		return "", err
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), "CREATE DATABASE "+templateName); err != nil {
		return "", err
	}
	st, err := store.Open(context.Background(), store.Config{URL: databaseOf(base, templateName), RootKey: RootKey})
	if err != nil {
		return "", err
	}
	return base, st.Close()
})

// databaseOf is the address of another database of the server.
func databaseOf(base, name string) string {
	return strings.Replace(base, "/postgres?", "/"+name+"?", 1)
}

// execute runs one statement on a connection of its own.
func execute(t testing.TB, address, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
		t.Errorf("%s: %v", statement, err)
	}
}

// server is the process's own PostgreSQL, started on first use.
var server = sync.OnceValues(startServer)

// held is the keeper's standard input; collected as garbage it would close.
var held io.WriteCloser //nolint:unused // only kept

// keeper runs a server until its own standard input ends, which happens when
// the process that holds the other end does, however it dies. Its arguments
// are the folder to remove and the server's command.
const keeper = `dir=$1; shift; "$@" & pid=$!; cat; kill -INT $pid; wait $pid; rm -rf "$dir"`

// startServer makes a cluster in a temporary folder and starts it. PostgreSQL
// refuses to run as root, so it then runs as the user postgres.
func startServer() (string, error) {
	dir, err := os.MkdirTemp("", "holdfast-postgres")
	if err != nil {
		return "", err
	}
	attr := &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the tests; the keeper ends in order
	if os.Getuid() == 0 {
		who, err := user.Lookup("postgres")
		if err != nil {
			return "", fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres: %w", err)
		}
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // ids are small
		if err := os.Chown(dir, uid, gid); err != nil {
			return "", err
		}
	}
	initdb, err := tool("initdb")
	if err != nil {
		return "", err
	}
	postgres, err := tool("postgres")
	if err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	cluster := exec.Command(initdb, "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
	cluster.SysProcAttr, cluster.Dir = attr, dir
	if out, err := cluster.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := porttest.Kept()
	if err != nil {
		return "", err
	}
	keep := exec.Command("sh", "-c", keeper, "keeper", dir, postgres, "-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200", "-c", "logging_collector=off")
	keep.SysProcAttr, keep.Dir = attr, "/"
	if held, err = keep.StdinPipe(); err != nil {
		return "", err
	}
	if err := keep.Start(); err != nil {
		return "", err
	}
	address := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
	return address, waitForServer(address)
}

// tool finds a program of PostgreSQL's, which Debian keeps out of the PATH.
func tool(name string) (string, error) {
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); err == nil && len(found) > 0 {
		return found[len(found)-1], nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: apt-get install postgresql: %w", name, err)
	}
	return path, nil
}

func waitForServer(address string) error {
	db, err := sql.Open("pgx", address)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL did not start: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
