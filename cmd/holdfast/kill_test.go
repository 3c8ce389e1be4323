package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/m365/simulator"
	"holdfast/handlers"
	"holdfast/store"
	"holdfast/store/storetest"
)

const (
	killTenant   = "contosodental.onmicrosoft.com"
	killPassword = "a few unrelated words"
)

// server is "holdfast serve" that is killed and started again.
type server struct {
	t    *testing.T
	env  []string
	args []string
	now  *process
}

func (s *server) start() { s.now = start(s.t, s.env, nil, s.args...) }

// killEvery kills and restarts the server at n random moments, and closes the
// channel after them.
func (s *server) killEvery(n int, least, most time.Duration) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range n {
			time.Sleep(least + rand.N(most-least)) // the moments are random on purpose
			s.now.kill()
			s.start()
		}
	}()
	return done
}

// seedPerson makes a partner, one organization and its admin.
func seedPerson(t *testing.T, st *store.Store) error {
	ctx := t.Context()
	hash, err := handlers.HashPassword(ctx, killPassword)
	if err != nil {
		return err
	}
	owner, err := st.SetUpPartner(ctx, "Northwind", backup.Person{Name: "Dana Ruiz", Email: "dana@northwind.example", PasswordHash: hash})
	if err != nil {
		return err
	}
	org, err := st.CreateOrganization(ctx, backup.Organization{PartnerID: owner.Partner.ID, Name: "Contoso"}, owner)
	if err != nil {
		return err
	}
	return st.CreatePerson(ctx, backup.Person{ID: backup.NewID[backup.PersonID](), Name: "Ada Lovelace", Email: "ada@contoso.example", PasswordHash: hash},
		backup.Membership{OrgID: org.ID, Role: backup.RoleAdmin}, owner)
}

// step does what the page asks for next, and says whether the wizard is done.
// Where there is nothing to press it looks again where the wizard stands.
func (r *robot) step(names ...string) bool {
	for _, button := range []string{"Accept", "Continue to Microsoft", "Authorize in this browser", "Try again", "Sign in at Microsoft"} {
		if r.has(button) {
			r.press(button, nil)
			return false
		}
	}
	switch {
	case r.doc.Find("input[name=passwd]").Length() > 0:
		r.press("Sign in", url.Values{"login": {"admin@" + killTenant}, "passwd": {"Contoso-2026"}})
	case strings.Contains(r.text(), "Pick an account"):
		r.press("Use another account", nil)
	case strings.HasSuffix(r.at.Path, "/sign-in"):
		r.signIn()
	case r.has("Back up the selected accounts"):
		r.press("Back up the selected accounts", r.choice(names))
	case strings.HasPrefix(r.at.Path, "/add-backup"):
		r.get(r.base + "/dashboard")
		if !strings.Contains(r.text(), "Nothing is backed up yet") {
			return true
		}
		r.get(r.base + "/add-backup/microsoft365")
	case strings.HasPrefix(r.at.Path, "/dashboard") && !strings.Contains(r.text(), "Nothing is backed up yet"):
		return true
	default:
		r.get(r.base + "/setup")
	}
	return false
}

func (r *robot) signIn() {
	r.press("Sign in", url.Values{"email": {"ada@contoso.example"}, "password": {killPassword}})
}

// choice is the accounts with the given names.
func (r *robot) choice(names []string) url.Values {
	chosen := url.Values{}
	r.doc.Find("#accounts tbody tr").Each(func(_ int, row *goquery.Selection) {
		for _, name := range names {
			if strings.Contains(row.Text(), name) {
				chosen.Add("account", row.Find("input").AttrOr("value", ""))
			}
		}
	})
	return chosen
}

// killCount is how often a server is killed: HOLDFAST_TEST_KILLS, or usual.
func killCount(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_TEST_KILLS")); err == nil {
		return n
	}
	return usual
}

// TestKilledAtAnyMoment kills the server with SIGKILL again and again while an
// admin goes through the wizard and while the first backup runs. Nothing is
// made twice in the tenant, no message is lost and none is there twice.
func TestKilledAtAnyMoment(t *testing.T) {
	addr, data := freeAddr(t), t.TempDir()
	there := startSimulator(t, addr)
	s := &server{t: t, env: microsoftEnv(there), args: []string{"serve", "-addr", addr, "-data", data, "-workers", "2", "-second-factor", "optional"}}
	seedPeople(t, data, "")
	s.start()
	kills := s.killEvery(killCount(20), 200*time.Millisecond, 1500*time.Millisecond)
	walk(t, addr, kills)
	s.now.kill()
	applicationsOnce(t, there)
	everyMessageOnce(t, there, data, "")
}

// TestWebAndWorkerOnPostgreSQL does the same with two processes on PostgreSQL,
// both of which are killed.
func TestWebAndWorkerOnPostgreSQL(t *testing.T) {
	database := storetest.Postgres(t)
	addr, data := freeAddr(t), t.TempDir()
	there := startSimulator(t, addr)
	env := append(microsoftEnv(there), "HOLDFAST_DATABASE="+database)
	seedPeople(t, data, database)
	web := &server{t: t, env: env, args: []string{"serve", "-role", "web", "-addr", addr, "-data", data, "-second-factor", "optional"}}
	worker := &server{t: t, env: env, args: []string{"serve", "-role", "worker", "-addr", addr, "-data", data, "-workers", "2", "-second-factor", "optional"}}
	web.start()
	worker.start()
	webKills, workerKills := web.killEvery(5, 500*time.Millisecond, 3*time.Second), worker.killEvery(2, 2*time.Second, 4*time.Second)
	walk(t, addr, webKills, workerKills)
	web.now.kill()
	worker.now.kill()
	applicationsOnce(t, there)
	everyMessageOnce(t, there, data, database)
}

// names are the accounts that are backed up.
var names = []string{"Megan O'Neil", "Front Desk", "Jürgen Groß"}

// walk is an admin who goes through the wizard and waits, when the kills are
// over, until every mailbox is protected.
func walk(t *testing.T, addr string, kills ...<-chan struct{}) {
	t.Helper()
	base := "http://" + addr
	r := newRobot(t, base)
	r.get(base + "/add-backup/microsoft365")
	deadline := time.Now().Add(10 * time.Minute)
	for !r.step(names...) {
		if time.Now().After(deadline) {
			t.Fatalf("the wizard did not end: %s %s", r.at, r.text())
		}
	}
	for _, k := range kills {
		<-k // the rest of the kills meet the first backup
	}
	deadline = time.Now().Add(10 * time.Minute)
	for r.protected() < len(names) {
		if time.Now().After(deadline) {
			t.Fatalf("not all mailboxes are protected: %s", r.text())
		}
		time.Sleep(100 * time.Millisecond) // the backup runs in another process
	}
}

// protected counts the mailboxes that the dashboard shows as protected.
func (r *robot) protected() int {
	r.get(r.base + "/dashboard")
	if strings.HasSuffix(r.at.Path, "/sign-in") {
		r.signIn()
		r.get(r.base + "/dashboard")
	}
	n := 0
	r.doc.Find("tbody .status").Each(func(_ int, st *goquery.Selection) {
		if strings.HasPrefix(strings.TrimSpace(st.Text()), "Protected") {
			n++
		}
	})
	return n
}

// openConfig opens the data of a server that is not running.
func openConfig(t *testing.T, c config) (*store.Store, *engine.Engine) {
	t.Helper()
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	st, eng, _, err := openData(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st, eng
}

// seedPeople makes a partner, one organization and its admin.
func seedPeople(t *testing.T, data, database string) {
	t.Helper()
	seedConfig(t, config{Data: data, Database: database})
}

func seedConfig(t *testing.T, c config) {
	t.Helper()
	st, _ := openConfig(t, c)
	defer st.Close()
	if err := seedPerson(t, st); err != nil {
		t.Fatal(err)
	}
}

// applicationsOnce checks that the tenant has each application once.
func applicationsOnce(t *testing.T, there simulator.Description) {
	t.Helper()
	var list []struct{ Name, DisplayName string }
	control(t, there, "/tenants/"+killTenant+"/applications", &list)
	count := map[string]int{}
	for _, a := range list {
		if name := a.Name + a.DisplayName; strings.HasPrefix(name, "Holdfast Backup") {
			count[name]++
		}
	}
	if len(count) != 2 {
		t.Errorf("the tenant has the applications %v, want two", count)
	}
	for name, n := range count {
		if n != 1 {
			t.Errorf("%s was made %d times", name, n)
		}
	}
}

func control(t *testing.T, there simulator.Description, path string, into any) {
	t.Helper()
	root := strings.TrimSuffix(there.Login, "/"+simulator.HostLogin)
	res, err := http.Get(root + "/_simulator" + path) //nolint:noctx // a test on loopback
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s = %d %s %v", path, res.StatusCode, body, err)
	}
	if into, ok := into.(*[]byte); ok {
		*into = body
		return
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
}

// everyMessageOnce compares the newest snapshots with what the simulated
// mailboxes hold, byte for byte.
func everyMessageOnce(t *testing.T, there simulator.Description, data, database string) {
	t.Helper()
	everyMessageOnceIn(t, there, config{Data: data, Database: database})
}

func everyMessageOnceIn(t *testing.T, there simulator.Description, c config) {
	t.Helper()
	st, eng := openConfig(t, c)
	orgs, err := st.AllOrganizations(t.Context())
	if err != nil || len(orgs) != 1 {
		t.Fatalf("organizations: %v, %v", orgs, err)
	}
	page, err := st.Mailboxes(t.Context(), orgs[0].ID, store.MailboxQuery{})
	if err != nil || len(page.Mailboxes) != 3 {
		t.Fatalf("%d mailboxes, %v; want 3", len(page.Mailboxes), err)
	}
	for _, m := range page.Mailboxes {
		compareMailbox(t, there, st, eng, m)
	}
	report, err := eng.Verify(t.Context(), orgs[0].ID, true)
	if err != nil || len(report.Damaged) > 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

func compareMailbox(t *testing.T, there simulator.Description, st *store.Store, eng *engine.Engine, m backup.Mailbox) {
	t.Helper()
	ctx, box := t.Context(), "/tenants/"+killTenant+"/mailboxes/"+url.PathEscape(m.ProviderID)
	var want []simulator.StoredMessage
	control(t, there, box+"/messages", &want)
	snapshots, err := st.Snapshots(ctx, m.OrgID, m.ID)
	if err != nil || len(snapshots) == 0 {
		t.Fatalf("%s: %d snapshots, %v", m.Name, len(snapshots), err)
	}
	items, total, err := st.Items(ctx, m.OrgID, m.ID, snapshots[0].Seq, store.ItemQuery{PageSize: 10000})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, i := range items {
		seen[i.ProviderID]++
	}
	if int(total) != len(want) || len(seen) != len(items) {
		t.Errorf("%s: %d messages in the snapshot, %d different, want %d", m.Name, total, len(seen), len(want))
	}
	byID := map[string]backup.Item{}
	for _, i := range items {
		byID[i.ProviderID] = i
	}
	for _, w := range want {
		var raw []byte
		control(t, there, box+"/messages/"+w.ID+"/raw", &raw)
		var got bytes.Buffer
		if err := eng.WriteItem(ctx, m.OrgID, m.ID, byID[w.ID].ID, &got); err != nil || !bytes.Equal(got.Bytes(), raw) {
			t.Errorf("%s, %s: %d bytes came back, want %d (%v)", m.Name, w.Subject, got.Len(), len(raw), err)
		}
	}
}
