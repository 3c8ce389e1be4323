package handlers_test

import (
	"errors"
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
	"holdfast/backup/m365/simulator"
)

// answers are what Microsoft may say instead of what it should.
var answers = []simulator.Fault{
	{Host: "graph", Status: http.StatusServiceUnavailable, RetryAfter: "0", Times: 1},
	{Host: "graph", Method: http.MethodPost, Status: http.StatusForbidden, Code: "Authorization_RequestDenied", Message: "Insufficient privileges to complete the operation.", Times: 1},
	{Host: "graph", Method: http.MethodPost, Path: "/addKey|/applications", Status: http.StatusBadRequest, Code: "Request_BadRequest", Message: "Something is wrong.", Times: 1},
	{Host: "graph", Method: http.MethodPost, Path: "/applications", Cut: new(40), Times: 1}, // made, and the answer lost
	{Host: "graph", Method: http.MethodPost, Path: "/servicePrincipals", Reset: true, Times: 1},
	{Host: "graph", Method: http.MethodPost, Path: "/applications", Delay: simulator.Duration(500 * time.Millisecond), Times: 1},
	{Host: "graph", Method: http.MethodDelete, Path: "/applications", Status: http.StatusServiceUnavailable, RetryAfter: "0", Times: 5},
	{Host: "graph", Body: "<html>hello</html>", Status: http.StatusOK, Times: 1},
	{Host: "login", Method: http.MethodPost, Path: "/token$", Status: http.StatusInternalServerError, Times: 1},
	{Host: "login", Method: http.MethodPost, Path: "/token$", Body: "{}", Status: http.StatusOK, Times: 1},
	{Host: "exchange", Status: http.StatusForbidden, Times: 1},
	{Host: "exchange", Status: http.StatusTooManyRequests, RetryAfter: "0", Times: 2},
	{Host: "exchange", Body: "nothing", Status: http.StatusOK, Times: 1},
}

// seeds are those of the random walks: the first few, HOLDFAST_TEST_SEEDS more,
// or the one that HOLDFAST_TEST_SEED names, to walk it again.
func seeds(t *testing.T, few int) []int {
	t.Helper()
	if one, err := strconv.Atoi(os.Getenv("HOLDFAST_TEST_SEED")); err == nil {
		return []int{one}
	}
	if more, err := strconv.Atoi(os.Getenv("HOLDFAST_TEST_SEEDS")); err == nil {
		few += more
	}
	list := make([]int, few)
	for i := range list {
		list[i] = i
	}
	return list
}

// walk is a person in the wizard, with a Microsoft that answers as chance has it.
type walk struct {
	*visitor
	o      *office
	chance *rand.Rand // nil: Microsoft and the person do what they should
	begin  func()     // goes to where this wizard begins
}

// walks runs a walk for every seed.
func walks(t *testing.T, few int, f func(t *testing.T, seed int, chance *rand.Rand)) {
	for _, seed := range seeds(t, few) {
		t.Run("seed "+strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			f(t, seed, rand.New(rand.NewPCG(uint64(seed), 7))) //nolint:gosec // a replayable sequence is wanted
		})
	}
}

// wander takes steps while answers are lost, wrong or refused and the process
// ends, and checks after each what always holds.
func (w *walk) wander(steps int, act func() bool, holds func()) {
	w.t.Helper()
	for range steps {
		if w.chance.IntN(3) > 0 {
			if err := w.o.microsoft.AddFault(answers[w.chance.IntN(len(answers))]); err != nil {
				w.t.Fatal(err)
			}
		}
		act()
		if w.chance.IntN(3) == 0 {
			w.o.stop()
			w.o.work()
		}
		w.o.oneApplicationEach()
		holds()
	}
	w.o.microsoft.ClearFaults()
	w.chance = nil
}

// Whatever Microsoft answers and whenever the process ends, the wizard waits for
// a person, failed with a way on and Undo, or is done, by code or by script; no
// workload ever has two applications in the tenant, and giving up leaves none
// that is not named.
func TestWizardUnderAnyAnswers(t *testing.T) {
	walks(t, 2, func(t *testing.T, seed int, chance *rand.Rand) {
		o := newOffice(t)
		v := o.signIn(adminMail)
		w := &walk{visitor: v, o: o, chance: chance, begin: func() { v.get(o.portal + "/add-backup/microsoft365") }}
		w.wander(12, w.step, func() {})
		if seed%2 == 1 {
			v.undone(o)
			return
		}
		for range 12 {
			if v.get("/dashboard"); !strings.Contains(v.text(), "Add Backup") && o.role().State == backup.RoleConnected {
				break
			}
			if w.step() {
				break
			}
		}
		o.oneApplicationEach()
		a, err := o.store.LatestAuthorization(t.Context(), o.org(adminMail))
		if err != nil || a.Step != backup.StepChooseAccounts && a.Step != backup.StepDone {
			t.Errorf("with a Microsoft that answers the wizard stands at %s: %v: %s", a.Step, err, a.Problem.Text)
		}
	})
}

// undone gives the wizard up, wherever it stands, and makes sure that the tenant
// has nothing of it that the portal does not name.
func (v *visitor) undone(o *office) {
	v.t.Helper()
	a, err := o.store.ActiveAuthorization(v.t.Context(), o.org(adminMail))
	if err != nil {
		if n := len(o.holdfastApplications()); n > 0 && !errors.Is(err, backup.ErrNotFound) {
			v.t.Errorf("%d applications, and no wizard: %v", n, err)
		}
		return
	}
	if v.get(o.portal + "/setup/abandon"); strings.Contains(v.text(), "Sign in at Microsoft") {
		v.press("Sign in at Microsoft").microsoft(contosoAdmin, contosoPass)
		v.get(o.portal + "/setup/abandon")
	}
	v.press("Give up")
	waitFor(v.t, "the undo", func() bool {
		if a, err = o.store.Authorization(v.t.Context(), a.OrgID, a.ID); err != nil {
			v.t.Fatal(err)
		}
		return a.Step == backup.StepAbandoned && len(a.SetupToken) == 0 && (!a.Problem.IsZero() || len(o.holdfastApplications()) == 0)
	})
	if left := o.holdfastApplications(); len(left) > 0 {
		if v.get("/status"); a.Problem.Kind == backup.ProblemRoleLeft || !strings.Contains(v.text(), left[0]) {
			v.t.Errorf("%v is in the tenant and not named: %s", left, a.Problem.Text)
		}
	}
}

// step does what a person does next in the wizard, chance deciding where there
// are several ways, and waits until the background has done its part. It says
// whether the accounts are there.
func (w *walk) step() bool {
	w.t.Helper()
	v, o := w.visitor, w.o
	if v.get(o.portal + "/setup"); v.at.Path != "/setup" {
		w.begin()
	}
	if v.doc.Find("#accounts").Length() > 0 {
		return true
	}
	w.forward()
	v.until(o.portal+"/setup", func() bool {
		a, err := o.store.LatestAuthorization(v.t.Context(), o.org(adminMail))
		return err != nil || !a.Step.InBackground() && (a.Step != backup.StepChooseAccounts || v.doc.Find("#accounts, .problem").Length() > 0)
	})
	v.get(o.portal + "/setup") // the page before was older than what settled
	if v.at.Path == "/setup" && v.doc.Find("#accounts").Length() == 0 && (v.doc.Find("main button").Length() == 0 || v.doc.Find("a[href='/setup/abandon']").Length() == 0) {
		v.t.Errorf("no way on, or none back: %s", v.text())
	}
	return v.doc.Find("#accounts").Length() > 0
}

// forward presses what leads on from the page, if anything does.
func (w *walk) forward() {
	w.t.Helper()
	v, o := w.visitor, w.o
	buttons := []string{"Try again at Microsoft", "Sign in at Microsoft", "Try again", "Authorize in this browser", "Continue to Microsoft", "Continue"}
	if w.chance != nil && w.chance.IntN(8) == 0 {
		buttons = append([]string{"Get a code"}, buttons...)
	}
	if w.chance != nil && w.chance.IntN(6) == 0 && v.doc.Find("#device").Length() > 0 {
		v.do(http.MethodPost, "/setup/flow", url.Values{"step": {"device_authorization"}, "flow": {"manual"}})
	}
	if v.doc.Find("a[href='/setup/script']").Length() > 0 {
		if _, err := o.microsoft.RunScript(v.get("/setup/script").body, ""); err != nil {
			v.t.Fatal(err)
		}
		buttons = append([]string{"Verify"}, buttons...)
		v.get(o.portal + "/setup")
	}
	for _, button := range buttons {
		has := v.doc.Find("main button").FilterFunction(func(_ int, s *goquery.Selection) bool {
			_, disabled := s.Attr("disabled")
			return strings.HasPrefix(words(s), button) && !disabled
		}).Length() > 0
		if !has {
			continue
		}
		v.press(button)
		if strings.Contains(v.at.Path, simulator.HostLogin) || strings.Contains(v.text(), "Pick an account") || v.doc.Find("input[name=passwd]").Length() > 0 {
			v.microsoft(contosoAdmin, contosoPass)
		}
		return
	}
}

// oneApplicationEach fails the test if a workload has two applications in the
// tenant, or if one is there that the portal does not know.
func (o *office) oneApplicationEach() {
	o.t.Helper()
	before, names := o.inTenant(), map[any]bool{}
	for _, app := range before {
		if names[app["displayName"]] {
			o.t.Errorf("two applications %q in the tenant", app["displayName"])
		}
		names[app["displayName"]] = true
	}
	known := o.markers()
	after := map[any]bool{} // an Undo under way may have removed it meanwhile
	for _, app := range o.inTenant() {
		after[app["id"]] = true
	}
	for _, app := range before {
		if tags := app["tags"].([]any); after[app["id"]] && !known[tags[1].(string)] {
			o.t.Errorf("%v is in the tenant, and the portal does not know it", app["displayName"])
		}
	}
}

// markers are those of the applications that the portal knows of.
func (o *office) markers() map[string]bool {
	o.t.Helper()
	list, err := o.store.Connections(o.t.Context(), o.org(adminMail))
	if err != nil {
		o.t.Fatal(err)
	}
	known := map[string]bool{}
	for _, conn := range list {
		apps, err := o.store.SubApplications(o.t.Context(), conn.OrgID, conn.ID)
		if err != nil {
			o.t.Fatal(err)
		}
		for _, app := range apps {
			if app.State != backup.ApplicationRemoved {
				known[app.Marker()] = true
			}
		}
	}
	return known
}
