package main

import (
	"database/sql"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo/s3/s3test"
	"holdfast/store/storetest"
)

// cluster are workers on machines of their own, which share a database, a bucket
// and the root key.
type cluster struct {
	t        *testing.T
	config   config
	db       *sql.DB
	known    map[string]bool // ids under which workers have worked
	machines []*machine
}

// machine is a worker, and the id under which it works jobs.
type machine struct {
	*server
	id string
}

// newCluster starts n workers.
func newCluster(t *testing.T, c config, n int) *cluster {
	t.Helper()
	db, err := sql.Open("pgx", c.Database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	all := &cluster{t: t, config: c, db: db, known: map[string]bool{}}
	env := append(s3test.Env(), "HOLDFAST_DATABASE="+c.Database, "HOLDFAST_REPOSITORY="+c.Repository)
	for range n {
		data := t.TempDir()
		copyFile(t, filepath.Join(c.Data, "root.key"), filepath.Join(data, "root.key"))
		m := &machine{server: &server{t: t, env: env, args: []string{"serve", "-role", "worker", "-workers", "1", "-data", data}}}
		all.machines = append(all.machines, m)
		all.start(m)
	}
	return all
}

// start starts a worker and waits until it says under which id it works.
func (c *cluster) start(m *machine) {
	c.t.Helper()
	m.start()
	m.id = ""
	c.until("at work", func() bool {
		for _, id := range c.names(`SELECT id FROM workers`) {
			if !c.known[id] {
				c.known[id], m.id = true, id
			}
		}
		return m.id != ""
	})
}

func (c *cluster) names(query string, args ...any) []string {
	c.t.Helper()
	rows, err := c.db.QueryContext(c.t.Context(), query, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			c.t.Fatal(err)
		}
		list = append(list, name)
	}
	if err := rows.Err(); err != nil {
		c.t.Fatal(err)
	}
	return list
}

// holder returns the machine that holds a job of a kind, or nil if none does.
func (c *cluster) holder(kind string) *machine {
	c.t.Helper()
	ids := c.names(`SELECT attempted_by[array_length(attempted_by, 1)] FROM river_job WHERE state = 'running' AND kind = $1`, kind)
	for _, m := range c.machines {
		if slices.Contains(ids, m.id) {
			return m
		}
	}
	return nil
}

// until waits for something that other processes do.
func (c *cluster) until(what string, is func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !is(); time.Sleep(5 * time.Millisecond) { // other processes work
		if time.Now().After(deadline) {
			for _, m := range c.machines {
				c.t.Log(m.now.logged())
			}
			c.t.Fatalf("not %s after three minutes", what)
		}
	}
}

// fate is what befalls a machine that holds a job.
type fate func(c *cluster, m *machine, over func() bool)

// killed kills the machine at a random moment, and starts it again.
func killed(c *cluster, m *machine, _ func() bool) {
	time.Sleep(rand.N(900 * time.Millisecond)) // the moment is random on purpose
	m.now.kill()
	c.start(m)
}

// asleep lets the machine sleep at a random moment, and wakes it when the other one
// has done all. It then goes on where it was.
func asleep(c *cluster, m *machine, over func() bool) {
	time.Sleep(rand.N(900 * time.Millisecond)) // the moment is random on purpose
	m.signal(syscall.SIGSTOP)
	c.until("over without the machine that sleeps", over)
	m.signal(syscall.SIGCONT)
	woke := c.alive(m)
	for range 2 { // the first word of a beat that is overdue comes at once, the second four seconds later
		c.until("awake", func() bool { return c.alive(m) > woke })
		woke = c.alive(m)
	}
}

// alive is until when a machine said last that it is alive.
func (c *cluster) alive(m *machine) string {
	c.t.Helper()
	return strings.Join(c.names(`SELECT alive_until::text FROM workers WHERE id = $1`, m.id), "")
}

func (m *machine) signal(s syscall.Signal) {
	if err := m.now.cmd.Process.Signal(s); err != nil {
		m.t.Error(err)
	}
}

// TestHolderFailsWhileErasingAndDeleting has workers on two machines. The one that
// holds the erasure of a mailbox, or the deletion of an organization, is killed
// with SIGKILL, or falls asleep and wakes when the other one has done all. Both
// end, once; of them nothing is left, and of others nothing is missing.
func TestHolderFailsWhileErasingAndDeleting(t *testing.T) {
	for name, befall := range map[string]fate{"killed": killed, "asleep": asleep} {
		for _, kind := range []string{backup.EraseJob{}.Kind(), backup.DeleteOrganizationJob{}.Kind()} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				c := slowConfig(t)
				d := newCondemned(t, c)
				st, eng := openConfig(t, c)
				all := newCluster(t, c, 2)
				over := func() bool { return d.over(t, st) }
				for range killCount(1) {
					var m *machine
					all.until("begun", func() bool { m = all.holder(kind); return m != nil || over() })
					if m != nil {
						befall(all, m, over)
					}
				}
				all.until("over", over)
				for _, m := range all.machines {
					m.now.kill()
				}
				d.once(t, st)
				d.nothingLeft(t, st, eng)
			})
		}
	}
}

// slowConfig is a fresh database and bucket for several machines. The bucket
// answers as one that is far away, so that jobs take a while.
func slowConfig(t *testing.T) config {
	t.Helper()
	there := s3test.Real(t)
	bucket := there.Bucket(t)
	bucket.Endpoint = there.Before(t, func(http.ResponseWriter, *http.Request, http.Handler) bool {
		time.Sleep(20 * time.Millisecond)
		return false
	}).Endpoint
	return config{Data: t.TempDir(), Database: storetest.Postgres(t), Repository: s3test.Address(bucket), S3: s3Keys{s3test.AccessKey, s3test.SecretKey}}
}
