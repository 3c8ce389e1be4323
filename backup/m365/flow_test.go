package m365_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

const callback = "http://127.0.0.1:8080/setup/callback"

// Tenants of the simulator's default world.
const (
	contoso  = "3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02"
	fabrikam = "a4e7f0b3-91c6-4d28-b5e2-0d3c8a6f5b03"
	tailspin = "d95c2e17-6f3b-4b80-a1d4-58e7c0f92a04"
	litware  = "7be1d4c6-50a9-4e37-92f8-c3a6b5d80f05"
)

// world is a simulated Microsoft and Holdfast's client on it.
type world struct {
	t      *testing.T
	sim    *simulator.Simulator
	client *m365.Client
	wire   http.RoundTripper
}

// newWorld starts the default world, changed by edit. There is no network, so
// tests may run in a bubble.
func newWorld(t *testing.T, edit func(*simulator.Options)) *world {
	t.Helper()
	o := simulator.Options{Auto: true, RedirectURIs: []string{callback}, World: simulator.DefaultWorld()}
	if edit != nil {
		edit(&o)
	}
	sim, err := simulator.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, sim: sim, wire: newConform(t, sim.Transport())}
	w.client = w.newClient(m365.Config{Secret: []byte("holdfast-demo-secret")})
	return w
}

func (w *world) newClient(cfg m365.Config) *m365.Client {
	w.t.Helper()
	cfg.ClientID, cfg.RedirectURL, cfg.Transport = simulator.MainClientID, callback, w.wire
	c, err := m365.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) fault(f simulator.Fault) {
	w.t.Helper()
	if err := w.sim.AddFault(f); err != nil {
		w.t.Fatal(err)
	}
}

// visit is what a browser does: it goes to Microsoft's page and comes back.
func (w *world) visit(s m365.SignIn) url.Values {
	w.t.Helper()
	browser := &http.Client{Transport: w.sim.Transport(), CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	res, err := browser.Get(w.client.SignInURL(s))
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	to, err := res.Location()
	if err != nil {
		w.t.Fatalf("Microsoft's page did not send the browser back: status %d", res.StatusCode)
	}
	q := to.Query()
	if q.Get("state") != s.State {
		w.t.Fatalf("came back with state %q, want %q", q.Get("state"), s.State)
	}
	return q
}

func attempt(tenant, upn string, purpose backup.SignInPurpose) m365.SignIn {
	return m365.SignIn{Tenant: tenant, Purpose: purpose, State: backup.NewID[string](), Nonce: backup.NewID[string](), Verifier: oauth2.GenerateVerifier(), LoginHint: upn}
}

// signIn signs a person in and returns the grant.
func (w *world) signIn(tenant, upn string, purpose backup.SignInPurpose) m365.Grant {
	w.t.Helper()
	g, err := w.trySignIn(tenant, upn, purpose)
	if err != nil {
		w.t.Fatalf("sign in %s: %v", upn, err)
	}
	return g
}

// trySignIn signs a person in, or returns why Microsoft or Holdfast refused.
func (w *world) trySignIn(tenant, upn string, purpose backup.SignInPurpose) (m365.Grant, error) {
	w.t.Helper()
	s := attempt(tenant, upn, purpose)
	q := w.visit(s)
	if p := m365.CallbackProblem(q); p != nil {
		return m365.Grant{}, p
	}
	return w.client.Redeem(w.t.Context(), q.Get("code"), s)
}

func wantKind(t *testing.T, what string, err error, kind backup.ProblemKind) *backup.Problem {
	t.Helper()
	if backup.KindOf(err) != kind {
		t.Fatalf("%s: %v, want a problem of kind %s", what, err, kind)
	}
	return backup.AsProblem(err)
}

// inBubble runs a test in which waiting takes no time.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			// A bubble begins in the year 2000, before the simulated tenants were made.
			time.Sleep(time.Until(time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)))
			test(t)
		})
	})
}
