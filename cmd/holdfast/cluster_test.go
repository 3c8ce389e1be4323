package main

import (
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/store"
	"holdfast/store/storetest"
)

// TestTwoWebsAndThreeWorkersOnPostgreSQLAndS3 runs five processes, each with a
// data folder of its own, that share a database, a bucket and the root key, and
// kills all of them at random moments while an admin goes through the wizard
// and while the first backup runs. Nothing is made twice in the tenant, no
// message is lost and none is there twice.
func TestTwoWebsAndThreeWorkersOnPostgreSQLAndS3(t *testing.T) {
	database, bucket := storetest.Postgres(t), s3test.Real(t).Bucket(t)
	c := config{Data: t.TempDir(), Database: database, Repository: s3test.Address(bucket), S3: s3Keys{s3test.AccessKey, s3test.SecretKey}}
	seedConfig(t, c)
	webs := []string{freeAddr(t), freeAddr(t)}
	portal := balance(t, webs)
	there := startSimulator(t, portal)
	env := append(append(microsoftEnv(there), s3test.Env()...), "HOLDFAST_DATABASE="+database, "HOLDFAST_REPOSITORY="+c.Repository)
	machine := func(args ...string) *server {
		data := t.TempDir()
		copyFile(t, filepath.Join(c.Data, "root.key"), filepath.Join(data, "root.key"))
		s := &server{t: t, env: env, args: append([]string{"serve", "-data", data, "-public-url", "http://" + portal, "-second-factor", "optional"}, args...)}
		s.start()
		return s
	}
	var all []*server
	var kills []<-chan struct{}
	for _, addr := range webs {
		s := machine("-role", "web", "-addr", addr)
		all, kills = append(all, s), append(kills, s.killEvery(3, time.Second, 4*time.Second))
	}
	for range 3 {
		s := machine("-role", "worker", "-workers", "1")
		all, kills = append(all, s), append(kills, s.killEvery(2, 2*time.Second, 6*time.Second))
	}
	walk(t, portal, kills...)
	for _, s := range all {
		s.now.kill()
	}
	applicationsOnce(t, there)
	everyMessageOnceIn(t, there, c)
	runsShared(t, c)
	moved := c
	moved.Repository = filepath.Join(t.TempDir(), "moved")
	keys := map[string]string{"HOLDFAST_S3_ACCESS_KEY": s3test.AccessKey, "HOLDFAST_S3_SECRET_KEY": s3test.SecretKey}
	if err := run(t.Context(), []string{"move", "-data", c.Data, "-database", database, "-from", c.Repository, "-to", moved.Repository},
		func(name string) string { return keys[name] }, t.Output(), t.Output()); err != nil {
		t.Fatal(err)
	}
	everyMessageOnceIn(t, there, moved)
}

// balance is a proxy before several portals that takes another one when the
// first does not answer, like those that people put before Holdfast.
func balance(t *testing.T, addrs []string) string {
	t.Helper()
	var turn atomic.Uint64
	proxy := &httputil.ReverseProxy{
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			var body []byte
			var err error
			if r.Body != nil {
				if body, err = io.ReadAll(r.Body); err != nil {
					return nil, err
				}
			}
			first := turn.Add(1)
			var res *http.Response
			for i := range uint64(len(addrs)) {
				try := r.Clone(r.Context())
				try.URL.Scheme, try.URL.Host, try.Body = "http", addrs[(first+i)%uint64(len(addrs))], io.NopCloser(strings.NewReader(string(body)))
				// Only who did not even take the connection is passed over.
				if res, err = http.DefaultTransport.RoundTrip(try); err == nil || !strings.Contains(err.Error(), "connection refused") {
					return res, err
				}
			}
			return nil, err
		}),
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.Host = r.In.Host; r.SetXForwarded() },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // the robot asks again
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// runsShared checks that every mailbox has one whole snapshot, and that several
// workers made them.
func runsShared(t *testing.T, c config) {
	t.Helper()
	st, _ := openConfig(t, c)
	orgs, err := st.AllOrganizations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page, err := st.Mailboxes(t.Context(), orgs[0].ID, store.MailboxQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range page.Mailboxes {
		snapshots, err := st.Snapshots(context.WithoutCancel(t.Context()), m.OrgID, m.ID)
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for _, s := range snapshots {
			if !s.Partial {
				whole++
			}
		}
		if whole != 1 || m.Status != backup.StatusProtected {
			t.Errorf("%s has %d whole snapshots and is %s, want one and protected", m.Name, whole, m.Status)
		}
	}
	db, err := sql.Open("pgx", c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	workers := 0
	if err := db.QueryRowContext(t.Context(), `SELECT count(DISTINCT w) FROM river_job, unnest(attempted_by) AS w WHERE kind = $1`,
		backup.BackupJob{}.Kind()).Scan(&workers); err != nil || workers < 2 {
		t.Errorf("%d workers had backups, %v; want several", workers, err)
	}
}
