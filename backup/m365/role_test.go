package m365_test

import (
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

// exchangeApp makes the Exchange sub-application of a tenant.
func (w *world) exchangeApp(upn string) backup.SubApplication {
	w.t.Helper()
	r := newRow(backup.WorkloadExchange)
	if err := w.ensure(w.t.Context(), w.signIn("", upn, backup.SignInConsent), r); err != nil {
		w.t.Fatal(err)
	}
	return r.app
}

// changes counts the cmdlets that made something.
func (w *world) changes() int {
	n := 0
	for _, r := range w.sim.Requests() {
		if r.Status < 300 && (strings.HasPrefix(r.Cmdlet, "New-") || strings.HasPrefix(r.Cmdlet, "Add-")) {
			n++
		}
	}
	return n
}

// untilConnected checks the role as the job does, for at most two hours.
func (w *world) untilConnected(domain string, app backup.SubApplication) {
	w.t.Helper()
	for start := time.Now(); ; {
		err := w.client.CheckRole(w.t.Context(), domain, app)
		if err == nil {
			return
		}
		if p := backup.AsProblem(err); !p.Temporary || p.Kind != backup.ProblemRolePending && p.Kind != backup.ProblemPermission || time.Since(start) > 2*time.Hour {
			w.t.Fatalf("after %s: %v", time.Since(start), err)
		}
		time.Sleep(time.Minute)
	}
}

func TestEnsureRoleInATenantThatIsReady(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		app := w.exchangeApp("admin@contosodental.onmicrosoft.com")
		g := w.signIn(contoso, "admin@contosodental.onmicrosoft.com", backup.SignInRole)
		wantKind(t, "before", w.client.CheckRole(t.Context(), "contosodental.onmicrosoft.com", app), backup.ProblemRolePending)

		names, err := w.client.Cmdlets(t.Context(), contoso, g.UPN, g.AccessToken)
		if err != nil || len(names) < len(backup.RequiredCmdlets) {
			t.Fatalf("cmdlets: %v, %v", names, err)
		}
		if _, err := w.client.EnsureRole(t.Context(), "contosodental.onmicrosoft.com", g.UPN, g.AccessToken, app); err != nil {
			t.Fatal(err)
		}
		made := w.changes()
		if made < 4 {
			t.Errorf("%d things made, want pointer, role, group and member", made)
		}
		if _, err := w.client.EnsureRole(t.Context(), contoso, g.UPN, g.AccessToken, app); err != nil {
			t.Fatalf("again: %v", err)
		}
		if w.changes() != made {
			t.Errorf("the second time made %d further things", w.changes()-made)
		}
		w.untilConnected("contosodental.onmicrosoft.com", app)
	})
}

func TestEnsureRoleInATenantThatWasNeverCustomized(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, func(o *simulator.Options) {
			for i := range o.World.Tenants {
				if e := o.World.Tenants[i].Exchange; e != nil {
					e.HydrateFor = simulator.Duration(20 * time.Minute)
				}
			}
		})
		app := w.exchangeApp("admin@litware.onmicrosoft.com")
		g := w.signIn(litware, "admin@litware.onmicrosoft.com", backup.SignInRole)
		start := time.Now()
		for {
			_, err := w.client.EnsureRole(t.Context(), "litware.onmicrosoft.com", g.UPN, g.AccessToken, app)
			if err == nil {
				break
			}
			if p := wantKind(t, "EnsureRole", err, backup.ProblemRolePending); !p.Temporary || time.Since(start) > time.Hour {
				t.Fatalf("after %s: %v", time.Since(start), err)
			}
			time.Sleep(5 * time.Minute)
		}
		if took := time.Since(start); took < 20*time.Minute {
			t.Errorf("made after %s although creates are refused for 20m", took)
		}
		w.untilConnected("litware.onmicrosoft.com", app)
	})
}

func TestEnsureRoleRefusals(t *testing.T) {
	for _, test := range []struct {
		name, upn string
		edit      func(*simulator.Options)
		fault     simulator.Fault
		kind      backup.ProblemKind
	}{
		{"a person without the cmdlets", "app.admin@contosodental.onmicrosoft.com", nil, simulator.Fault{}, backup.ProblemMissingCmdlets},
		{"an Exchange administrator", "exchange.admin@contosodental.onmicrosoft.com", nil, simulator.Fault{}, ""},
		{"token revoked", "admin@contosodental.onmicrosoft.com", nil, simulator.Fault{Host: "exchange", Status: 401}, backup.ProblemSignInExpired},
		{"Exchange is down", "admin@contosodental.onmicrosoft.com", nil, simulator.Fault{Host: "exchange", Status: 503}, backup.ProblemUnavailable},
		{"Exchange answers garbage", "admin@contosodental.onmicrosoft.com", nil, simulator.Fault{Host: "exchange", Status: 200, Body: "hello"}, backup.ProblemUnavailable},
		{"throttled for long", "admin@contosodental.onmicrosoft.com", nil, simulator.Fault{Host: "exchange", Status: 429, RetryAfter: "7200"}, backup.ProblemThrottled},
		{"throttled for a moment", "admin@contosodental.onmicrosoft.com", nil, simulator.Fault{Host: "exchange", Status: 429, RetryAfter: "2.5", Times: 3}, ""},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			w := newWorld(t, test.edit)
			app := w.exchangeApp("admin@contosodental.onmicrosoft.com")
			code, err := w.client.StartDevice(t.Context(), contoso)
			if err != nil {
				t.Fatal(err)
			}
			w.press(code, "admin@contosodental.onmicrosoft.com", "Contoso-2026", "continue") // consents for all
			g, err := w.trySignIn(contoso, test.upn, backup.SignInRole)
			if err != nil {
				t.Fatal(err)
			}
			if test.fault.Status != 0 {
				w.fault(test.fault)
			}
			_, err = w.client.EnsureRole(t.Context(), contoso, g.UPN, g.AccessToken, app)
			if backup.KindOf(err) != test.kind {
				t.Errorf("EnsureRole: %v, want kind %q", err, test.kind)
			}
		})
	}
}

func TestCheckRoleAfterTheApplicationIsGone(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		const domain, upn = "contosodental.onmicrosoft.com", "admin@contosodental.onmicrosoft.com"
		app := w.exchangeApp(upn)
		g := w.signIn(contoso, upn, backup.SignInRole)
		if _, err := w.client.EnsureRole(t.Context(), domain, g.UPN, g.AccessToken, app); err != nil {
			t.Fatal(err)
		}
		w.untilConnected(domain, app)
		setup := w.signIn("", upn, backup.SignInConsent)
		if err := w.client.RemoveApplication(t.Context(), setup.AccessToken, app); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour) // the token in memory ends
		fresh := w.newClient(m365.Config{Secret: []byte("holdfast-demo-secret")})
		wantKind(t, "CheckRole", fresh.CheckRole(t.Context(), domain, app), backup.ProblemApplicationGone)
	})
}
