package m365_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
)

// control calls a control path of the simulated Microsoft.
func (w *world) control(method, path, body string) {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.sim.ServeHTTP(rec, httptest.NewRequest(method, "http://127.0.0.1/_simulator"+path, strings.NewReader(body)))
	if rec.Code >= 300 {
		w.t.Fatalf("%s %s = %d %s", method, path, rec.Code, rec.Body)
	}
}

const contosoPath = "/tenants/contosodental.onmicrosoft.com"

// ready makes an application and returns its row.
func (w *world) ready(workload backup.Workload) *row {
	w.t.Helper()
	g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
	r := newRow(workload)
	if err := w.ensure(w.t.Context(), g, r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// repair is what Repair does once an administrator has signed in.
func (w *world) repair(r *row) error {
	w.t.Helper()
	g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
	r.app.State = backup.ApplicationBroken
	return w.ensure(w.t.Context(), g, r)
}

// damages are all that can happen to an application in the tenant.
var damages = []struct {
	name    string
	kind    backup.ProblemKind
	remains bool // the application stays the same one, with its principal
	do      func(w *world, r *row)
}{
	{"application deleted", backup.ProblemApplicationGone, false, func(w *world, r *row) { w.control("DELETE", contosoPath+"/applications/"+r.app.AppID, "") }},
	{"principal deleted", backup.ProblemApplicationGone, false, func(w *world, r *row) { w.control("DELETE", contosoPath+"/servicePrincipals/"+r.app.AppID, "") }},
	{"disabled", backup.ProblemApplicationOff, true, func(w *world, r *row) {
		w.control("PATCH", contosoPath+"/servicePrincipals/"+r.app.AppID, `{"enabled":false}`)
	}},
	{"certificate removed", backup.ProblemCredential, true, func(w *world, r *row) {
		w.control("DELETE", contosoPath+"/applications/"+r.app.AppID+"/credentials", "")
	}},
	{"certificate expired", backup.ProblemCredential, true, func(*world, *row) { time.Sleep(366 * 24 * time.Hour) }},
	{"permission withdrawn", backup.ProblemPermission, true, func(w *world, r *row) {
		name := backup.WorkloadPermissions(r.app.Workload)[0].Name
		w.control("DELETE", contosoPath+"/servicePrincipals/"+r.app.AppID+"/roles/"+name, "")
	}},
	{"nothing", "", true, func(*world, *row) {}},
}

func TestRepairBringsAnApplicationWholeFromAnyState(t *testing.T) {
	for _, workload := range []backup.Workload{backup.WorkloadMail, backup.WorkloadExchange} {
		for _, d := range damages {
			inBubble(t, string(workload)+" "+d.name, func(t *testing.T) {
				w := newWorld(t, nil)
				r := w.ready(workload)
				before := r.app
				d.do(w, r)
				time.Sleep(time.Hour) // old tokens end
				check, err := w.client.Granted(t.Context(), contoso, "contosodental.onmicrosoft.com", r.app)
				if err != nil {
					t.Fatal(err)
				}
				if kind := problemKind(check); kind != d.kind {
					t.Errorf("seen as %q, want %q", kind, d.kind)
				}
				if err := w.repair(r); err != nil {
					t.Fatal(err)
				}
				if r.app.State != backup.ApplicationReady || !r.app.Problem.IsZero() {
					t.Errorf("row: %+v", r.app)
				}
				if same := before.AppID == r.app.AppID && before.PrincipalID == r.app.PrincipalID; same != d.remains {
					t.Errorf("the application stays the same: %t, want %t", same, d.remains)
				}
				if workload == backup.WorkloadExchange && before.PrincipalID != r.app.PrincipalID && before.AppID == r.app.AppID {
					t.Error("a new principal of the same client id collides with Exchange's pointer to the old one")
				}
				after, err := w.client.Granted(t.Context(), contoso, "contosodental.onmicrosoft.com", r.app)
				if err != nil || !after.Read || len(after.Missing()) > 0 {
					t.Errorf("after the repair: %v %+v", err, after)
				}
				if n := len(w.living(r.app.DisplayName)); n != 1 {
					t.Errorf("%d applications in the tenant, want one", n)
				}
			})
		}
	}
}

func problemKind(c backup.ApplicationCheck) backup.ProblemKind {
	if c.Problem == nil {
		return ""
	}
	return c.Problem.Kind
}

// registered is an application as the simulated Microsoft keeps it.
type registered struct {
	DisplayName     string
	AppID           string
	DeletedDateTime *string
	KeyCredentials  []struct{ KeyID string }
}

// registrations lists the applications of Contoso that are not deleted.
func (w *world) registrations() []registered {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.sim.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/_simulator"+contosoPath+"/applications", nil))
	var list []registered
	if err := json.Unmarshal(rec.Body.Bytes(), &list); err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(a registered) bool { return a.DeletedDateTime != nil && *a.DeletedDateTime != "" })
}

// living lists the client ids of the applications of a name.
func (w *world) living(name string) []string {
	var ids []string
	for _, a := range w.registrations() {
		if a.DisplayName == name {
			ids = append(ids, a.AppID)
		}
	}
	return ids
}

func TestRepairSurvivesACrashAfterEachSave(t *testing.T) {
	for _, d := range []int{0, 1, 3, 5} {
		d := damages[d]
		for fail := 1; fail <= 5; fail++ {
			inBubble(t, d.name, func(t *testing.T) {
				w := newWorld(t, nil)
				r := w.ready(backup.WorkloadMail)
				d.do(w, r)
				time.Sleep(time.Hour)
				r.saves, r.fail = nil, fail
				if err := w.repair(r); err != nil && !errors.Is(err, errDisk) {
					t.Fatalf("save %d fails: %v", fail, err)
				}
				g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
				if err := w.ensure(t.Context(), g, r); err != nil {
					t.Fatalf("resumed after save %d: %v", fail, err)
				}
				if r.app.State != backup.ApplicationReady || len(w.living(r.app.DisplayName)) != 1 {
					t.Errorf("after save %d: %s, applications %v", fail, r.app.State, w.living(r.app.DisplayName))
				}
			})
		}
	}
}

func TestGrantedShowsDrift(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		r := w.ready(backup.WorkloadMail)
		w.control("POST", contosoPath+"/servicePrincipals/"+r.app.AppID+"/roles/Mail.ReadWrite", "")
		w.control("POST", contosoPath+"/servicePrincipals/"+r.app.AppID+"/roles/Exchange.ManageAsApp", "")
		check, err := w.client.Granted(t.Context(), contoso, "contosodental.onmicrosoft.com", r.app)
		if err != nil || check.Problem != nil {
			t.Fatalf("%v %+v", err, check.Problem)
		}
		drift := backup.PermissionCheck{Applications: []backup.ApplicationCheck{check}}.Drift()
		if want := []string{r.app.DisplayName + ": Exchange.ManageAsApp", r.app.DisplayName + ": Mail.ReadWrite"}; !slices.Equal(drift, want) {
			t.Errorf("drift %v, want %v", drift, want)
		}
		for _, q := range w.sim.Requests() {
			if q.Method == http.MethodGet && strings.Contains(q.Path, "appRoleAssignments") {
				t.Errorf("asked %s, which needs a permission that the application does not have", q.Path)
			}
		}
	})
}

// roll is one job that changes a certificate.
func (w *world) roll(r *row) error {
	app := r.app
	return w.client.RollCertificate(w.t.Context(), contoso, &app, r.save)
}

func TestRollCertificateNeedsNobody(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		r := w.ready(backup.WorkloadMail)
		before := r.app
		if before.RollDue(time.Now()) || !before.RollDue(before.NotAfter.Add(-29*24*time.Hour)) {
			t.Error("due at the wrong time")
		}
		time.Sleep(time.Until(before.NotAfter.Add(-30 * 24 * time.Hour)))
		start := len(w.sim.Requests())
		if err := w.roll(r); err != nil {
			t.Fatal(err)
		}
		if w.keys(r) != 2 || r.app.RollDue(time.Now()) || !r.app.RollDue(time.Now().Add(8*24*time.Hour)) {
			t.Errorf("the old certificate has to stay for a week: %d at Microsoft", w.keys(r))
		}
		time.Sleep(8 * 24 * time.Hour)
		if err := w.roll(r); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(r.app.NotAfter); left < 300*24*time.Hour {
			t.Errorf("the new certificate ends in %s", left)
		}
		if r.app.AppID != before.AppID || len(r.app.Next.PrivateKey) > 0 || r.app.OldKeyID != "" || r.app.KeyID == before.KeyID || r.app.KeyID == "" {
			t.Errorf("row: %+v", r.app)
		}
		if w.keys(r) != 1 {
			t.Errorf("%d certificates at Microsoft, want one", w.keys(r))
		}
		for _, q := range w.sim.Requests()[start:] {
			if q.User != "" {
				t.Errorf("%s %s was made for a person", q.Method, q.Path)
			}
		}
		if r.app.RollDue(time.Now()) {
			t.Error("due again at once")
		}
	})
}

// keys counts the certificates of an application at Microsoft.
func (w *world) keys(r *row) int {
	for _, a := range w.registrations() {
		if a.AppID == r.app.AppID {
			return len(a.KeyCredentials)
		}
	}
	return 0
}

func TestRollCertificateSurvivesACrashAtEachCall(t *testing.T) {
	crash := func(name string, prepare func(w *world, r *row)) {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, nil)
			r := w.ready(backup.WorkloadMail)
			time.Sleep(time.Until(r.app.NotAfter.Add(-30 * 24 * time.Hour)))
			r.saves = nil
			prepare(w, r)
			first := w.roll(r)
			if first == nil {
				first = w.roll(r)
			}
			if check, err := w.client.Granted(t.Context(), contoso, "contosodental.onmicrosoft.com", r.app); err != nil || !check.Read {
				t.Fatalf("after the crash (%v) no credential works: %v %+v", first, err, check.Problem)
			}
			w.sim.ClearFaults()
			if err := w.roll(r); err != nil {
				t.Fatalf("the next try: %v", err)
			}
			for r.app.OldKeyID != "" {
				if err := w.roll(r); err != nil {
					t.Fatalf("removing the old one: %v", err)
				}
			}
			if time.Until(r.app.NotAfter) < 300*24*time.Hour || len(r.app.Next.PrivateKey) > 0 || w.keys(r) > 2 {
				t.Errorf("row: %+v, %d certificates", r.app, w.keys(r))
			}
		})
	}
	for fail := 1; fail <= 4; fail++ {
		crash("save", func(_ *world, r *row) { r.fail = fail })
	}
	for _, f := range []simulator.Fault{
		{Name: "answer_lost", Method: "POST", Path: "/addKey$", Times: 1},
		{Name: "answer_lost", Method: "POST", Path: "/removeKey$", Times: 1},
		{Method: "POST", Path: "/addKey$", Status: 503},
		{Method: "POST", Path: "/removeKey$", Status: 503},
		{Method: "POST", Path: "/addKey$", Status: 403, Code: "Authorization_RequestDenied"},
	} {
		crash(f.Name+f.Path, func(w *world, _ *row) { w.fault(f) })
	}
}

func TestRollCertificateIsStrict(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		mail, exchange := w.ready(backup.WorkloadMail), w.ready(backup.WorkloadExchange)
		// An application can't add a key to another one.
		mixed := &row{app: mail.app}
		mixed.app.ObjectID = exchange.app.ObjectID
		if err := w.roll(mixed); err == nil {
			t.Error("an application added a certificate to another one")
		}
		// One whose certificate was removed can't prove anything.
		w.control("DELETE", contosoPath+"/applications/"+mail.app.AppID+"/credentials", "")
		wantKind(t, "RollCertificate", w.roll(mail), backup.ProblemCredential)
	})
}
