package m365_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

// row is a sub-application as the store keeps it.
type row struct {
	app   backup.SubApplication
	saves []backup.ApplicationState
	fail  int // the save of this number fails, counted from 1; 0 none
}

var errDisk = errors.New("disk is on fire")

// save keeps what it is given only if it succeeds, like a transaction.
func (r *row) save(app backup.SubApplication) error {
	r.saves = append(r.saves, app.State)
	if len(r.saves) == r.fail {
		return errDisk
	}
	r.app = app
	return nil
}

func newRow(w backup.Workload) *row {
	return &row{app: backup.SubApplication{ID: backup.NewID[backup.SubApplicationID](), ConnectionID: "c", Workload: w, State: backup.ApplicationPlanned}}
}

// ensure is one job: it reads the row, and what it did not save is lost.
func (w *world) ensure(ctx context.Context, g m365.Grant, r *row) error {
	app := r.app
	return w.client.EnsureApplication(ctx, g.TenantID, g.AccessToken, &app, r.save)
}

// calls counts what was asked of the simulator.
func (w *world) calls(method, path string, status int) int {
	n := 0
	for _, r := range w.sim.Requests() {
		if r.Method == method && strings.Contains(r.Path, path) && (status == 0 || r.Status == status) {
			n++
		}
	}
	return n
}

func TestEnsureApplicationMakesOneWithEveryPermission(t *testing.T) {
	for _, workload := range []backup.Workload{backup.WorkloadMail, backup.WorkloadExchange} {
		inBubble(t, string(workload), func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
			r := newRow(workload)
			if err := w.ensure(t.Context(), g, r); err != nil {
				t.Fatal(err)
			}
			a := r.app
			if a.State != backup.ApplicationReady || a.ObjectID == "" || a.AppID == "" || a.PrincipalID == "" || len(a.PrivateKey) == 0 || a.DisplayName == "" || !a.Problem.IsZero() {
				t.Errorf("row: %+v", a)
			}
			if left := time.Until(a.NotAfter); left < 300*24*time.Hour {
				t.Errorf("certificate ends in %s", left)
			}
			want := []backup.ApplicationState{backup.ApplicationPlanned, backup.ApplicationCreated, backup.ApplicationPrincipal, backup.ApplicationGranted, backup.ApplicationReady}
			if len(r.saves) != len(want) {
				t.Errorf("saved %v, want %v", r.saves, want)
			}
			if n := w.calls("POST", "/applications", 201); n != 1 {
				t.Errorf("%d applications made", n)
			}
			if n := w.calls("POST", "/appRoleAssignedTo", 201); n != len(backup.WorkloadPermissions(workload)) {
				t.Errorf("%d permissions granted, want %d", n, len(backup.WorkloadPermissions(workload)))
			}
			before := len(w.sim.Requests())
			if err := w.ensure(t.Context(), g, r); err != nil || len(w.sim.Requests()) != before {
				t.Errorf("a ready application: %v, %d further requests", err, len(w.sim.Requests())-before)
			}
		})
	}
}

func TestEnsureApplicationSurvivesACrashAfterEachCall(t *testing.T) {
	for fail := 1; fail <= 5; fail++ {
		inBubble(t, "", func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
			r := newRow(backup.WorkloadMail)
			r.fail = fail
			if err := w.ensure(t.Context(), g, r); !errors.Is(err, errDisk) {
				t.Fatalf("save %d fails: %v", fail, err)
			}
			if err := w.ensure(t.Context(), g, r); err != nil {
				t.Fatalf("resumed after save %d: %v", fail, err)
			}
			w.onlyOne(r)
		})
	}
}

// onlyOne checks that the tenant has what the row says, once.
func (w *world) onlyOne(r *row) {
	w.t.Helper()
	if r.app.State != backup.ApplicationReady {
		w.t.Errorf("state %s", r.app.State)
	}
	if n := w.calls("POST", "/v1.0/applications", 201); n != 1 {
		w.t.Errorf("%d applications made, want 1", n)
	}
	if n := w.calls("POST", "/v1.0/servicePrincipals", 201) - w.calls("POST", "/appRoleAssignedTo", 201); n != 1 {
		w.t.Errorf("%d service principals made, want 1", n)
	}
	if n := w.calls("POST", "/appRoleAssignedTo", 201); n != len(backup.WorkloadPermissions(r.app.Workload)) {
		w.t.Errorf("%d permissions granted, want %d", n, len(backup.WorkloadPermissions(r.app.Workload)))
	}
}

func TestEnsureApplicationWhoseAnswerIsLost(t *testing.T) {
	for _, path := range []string{"/applications$", "/servicePrincipals$", "/appRoleAssignedTo$"} {
		inBubble(t, strings.Trim(path, "/$"), func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
			r := newRow(backup.WorkloadMail)
			w.fault(simulator.Fault{Name: "answer_lost", Method: "POST", Path: path, Times: 1})
			if err := w.ensure(t.Context(), g, r); err != nil {
				t.Fatal(err)
			}
			if r.app.State != backup.ApplicationReady {
				t.Errorf("state %s", r.app.State)
			}
			if n := w.calls("POST", "/v1.0/applications", 0); n != 1 {
				t.Errorf("POST /applications was sent %d times, want once", n)
			}
		})
	}
}

// The answer to the creation is lost, nobody can look whether it was made, and
// the program ends.
func TestEnsureApplicationWhoseAnswerIsLostInACrash(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
		r := newRow(backup.WorkloadMail)
		w.fault(simulator.Fault{Name: "answer_lost", Method: "POST", Path: "/applications$", Times: 1})
		w.fault(simulator.Fault{Method: "GET", Path: "/applications$", Reset: true})
		p := wantKind(t, "EnsureApplication", w.ensure(t.Context(), g, r), backup.ProblemUnavailable)
		if !p.Temporary || r.app.State != backup.ApplicationPlanned || len(r.app.PrivateKey) == 0 {
			t.Errorf("%+v, row %s", p, r.app.State)
		}
		w.sim.ClearFaults()
		if err := w.ensure(t.Context(), g, r); err != nil {
			t.Fatal(err)
		}
		if n := w.calls("POST", "/v1.0/applications", 0); n != 1 || r.app.State != backup.ApplicationReady {
			t.Errorf("POST /applications was sent %d times, want once; state %s", n, r.app.State)
		}
	})
}

func TestEnsureApplicationWaitsForReplication(t *testing.T) {
	for _, name := range []string{"sp_app_not_replicated", "sp_backing_application", "assignment_not_replicated", "assignment_principal_missing",
		"assignment_permission_missing", "roles_missing", "AADSTS700016", "AADSTS7000229", "AADSTS700027", "AADSTS7000215"} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil)
			g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
			r := newRow(backup.WorkloadMail)
			w.fault(simulator.Fault{Name: name, Times: 2})
			err := w.ensure(t.Context(), g, r)
			if err != nil {
				t.Fatal(err)
			}
			w.onlyOne(r)
		})
	}
}

func TestEnsureApplicationInALaggingTenant(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, func(o *simulator.Options) {
			for i := range o.World.Tenants {
				o.World.Tenants[i].ReplicationDelay = simulator.Duration(45 * time.Second)
				o.World.Tenants[i].Flap = true
			}
		})
		g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
		r := newRow(backup.WorkloadMail)
		if err := w.ensure(t.Context(), g, r); err != nil {
			t.Fatal(err)
		}
		w.onlyOne(r)
	})
}

func TestEnsureApplicationRefusals(t *testing.T) {
	for _, test := range []struct {
		name, upn, policy string
		fault             simulator.Fault
		kind              backup.ProblemKind
	}{
		{"policy against certificates", "admin", "noCertificates", simulator.Fault{}, backup.ProblemPolicy},
		{"certificates never short enough", "admin", "", simulator.Fault{Name: "credential_invalid_lifetime"}, backup.ProblemPolicy},
		{"policy against the audience", "admin", "", simulator.Fault{Name: "audience_not_allowed"}, backup.ProblemPolicy},
		{"a role that may not grant Graph's permissions", "app.admin", "", simulator.Fault{}, backup.ProblemNotAdministrator},
		{"token ended", "admin", "", simulator.Fault{Host: "graph", Path: "/applications", Status: 401, Code: "InvalidAuthenticationToken", Message: "Lifetime validation failed, the token is expired."}, backup.ProblemSignInExpired},
		{"Graph is down", "admin", "", simulator.Fault{Host: "graph", Path: "/applications", Status: 503}, backup.ProblemUnavailable},
		{"Graph answers garbage", "admin", "", simulator.Fault{Host: "graph", Method: "POST", Path: "/applications", Status: 500, Body: "<html>"}, backup.ProblemUnavailable},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			w := newWorld(t, func(o *simulator.Options) {
				for i := range o.World.Tenants {
					o.World.Tenants[i].Policy = test.policy
				}
			})
			g, err := w.trySignIn(contoso, test.upn+"@contosodental.onmicrosoft.com", backup.SignInConsent)
			if err != nil {
				wantKind(t, "sign-in", err, test.kind)
				return
			}
			if test.fault.Name != "" || test.fault.Status != 0 {
				w.fault(test.fault)
			}
			r := newRow(backup.WorkloadMail)
			p := wantKind(t, "EnsureApplication", w.ensure(t.Context(), g, r), test.kind)
			if r.app.Problem.Kind != test.kind || r.app.Problem.Text != p.Text {
				t.Errorf("the row says %+v", r.app.Problem)
			}
			// It is repaired, and the next try ends well without a double.
			w.sim.ClearFaults()
			if test.policy == "" && test.upn == "admin" {
				if err := w.ensure(t.Context(), g, r); err != nil {
					t.Fatalf("afterwards: %v", err)
				}
				w.onlyOne(r)
			}
		})
	}
}

func TestEnsureApplicationShortensTheCertificate(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, func(o *simulator.Options) {
			for i := range o.World.Tenants {
				o.World.Tenants[i].Policy = "shortCertificates"
			}
		})
		g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
		r := newRow(backup.WorkloadMail)
		if err := w.ensure(t.Context(), g, r); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(r.app.NotAfter); left > 31*24*time.Hour {
			t.Errorf("certificate ends in %s, the policy allows 30 days", left)
		}
		w.onlyOne(r)
	})
}

func TestRemoveApplication(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
		r := newRow(backup.WorkloadMail)
		if err := w.ensure(t.Context(), g, r); err != nil {
			t.Fatal(err)
		}
		if err := w.client.RemoveApplication(t.Context(), g.AccessToken, r.app); err != nil {
			t.Fatal(err)
		}
		if n := w.calls("DELETE", "/applications/", 204); n != 1 {
			t.Errorf("%d applications deleted", n)
		}
		if err := w.client.RemoveApplication(t.Context(), g.AccessToken, r.app); err != nil {
			t.Errorf("gone already: %v", err)
		}
		planned := newRow(backup.WorkloadMail)
		if err := w.client.RemoveApplication(t.Context(), g.AccessToken, planned.app); err != nil {
			t.Errorf("never made: %v", err)
		}
	})
}

func TestTenant(t *testing.T) {
	w := newWorld(t, nil)
	for upn, want := range map[string]m365.TenantInfo{
		"admin@contosodental.onmicrosoft.com": {ID: contoso, Name: "Contoso Dental", InitialDomain: "contosodental.onmicrosoft.com", HasExchange: true},
		"admin@tailspinsites.onmicrosoft.com": {ID: tailspin, Name: "Tailspin Sites", InitialDomain: "tailspinsites.onmicrosoft.com"},
	} {
		g := w.signIn("", upn, backup.SignInConsent)
		got, err := w.client.Tenant(t.Context(), g.AccessToken)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != want.ID || got.Name != want.Name || got.InitialDomain != want.InitialDomain || got.HasExchange != want.HasExchange || len(got.Domains) == 0 {
			t.Errorf("%s: %+v, want %+v", upn, got, want)
		}
	}
}
