package handlers_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
)

// applicationsMade counts the applications that were created at Microsoft.
func (o *office) applicationsMade() int {
	n := 0
	for _, r := range o.microsoft.Requests() {
		if r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/applications") && r.Status == http.StatusCreated {
			n++
		}
	}
	return n
}

// idle waits until no job waits for a worker or runs.
func (o *office) idle() {
	o.t.Helper()
	client, err := o.store.River(&river.Config{})
	if err != nil {
		o.t.Fatal(err)
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		jobs, err := client.JobList(o.t.Context(), river.NewJobListParams().States(rivertype.JobStateAvailable, rivertype.JobStateRunning))
		if err != nil {
			o.t.Fatal(err)
		}
		if len(jobs.Jobs) == 0 {
			return
		}
		<-ticker.C
	}
}

func TestPolicyAgainstCertificatesIsNamedAndCanBeRetried(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	o.change(http.MethodPatch, "/tenants/contosodental.onmicrosoft.com", `{"policy":"noCertificates"}`)
	v.consent(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.doc.Find(".problem").Length() > 0 })
	v.says("policy").says("Failed: ").says("Nothing is created twice")
	o.change(http.MethodPatch, "/tenants/contosodental.onmicrosoft.com", `{"policy":""}`)
	o.idle()
	v.press("Try again").applications().says("2 applications created")
	if n := o.applicationsMade(); n != 2 {
		t.Errorf("%d applications were created, want 2", n)
	}
}

func TestGarbageFromMicrosoftLosesNothing(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	if err := o.microsoft.AddFault(simulator.Fault{Host: "login", Method: http.MethodPost, Path: "/token$", Status: http.StatusOK, Body: "<html>hello</html>", Times: 1}); err != nil {
		t.Fatal(err)
	}
	v.consent(contosoAdmin, contosoPass)
	if v.at.Path != "/setup" || v.doc.Find(".problem").Length() != 1 {
		t.Fatalf("at %s: %s", v.at, v.text())
	}
	v.press("Try again at Microsoft").microsoft(contosoAdmin, contosoPass).says("Consent granted")
}

func TestSignInThatMicrosoftFailsIsForThePersonToRepeat(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	for _, fault := range []struct {
		simulator.Fault
		says string
	}{
		{simulator.Fault{Host: "graph", Path: "/organization$", Status: http.StatusOK, Body: "<html>hello</html>"}, "could not be understood. Try again in a few minutes"},
		{simulator.Fault{Host: "graph", Path: "/organization$", Status: http.StatusServiceUnavailable, RetryAfter: "16"}, "asks Holdfast to wait until "},
		{simulator.Fault{Status: http.StatusInternalServerError}, "failed for the moment. Try again in a few minutes"},
		{simulator.Fault{Status: http.StatusOK, Body: "<html>hello</html>"}, "could not be understood. Try again in a few minutes"},
		{simulator.Fault{Reset: true}, "; try again in a few minutes."},
		{simulator.Fault{Status: http.StatusTooManyRequests, RetryAfter: "300"}, "asks Holdfast to wait until "},
	} {
		if fault.Times = 1; fault.Host == "" {
			fault.Host, fault.Method, fault.Path = "login", http.MethodPost, "/token$"
		}
		if err := o.microsoft.AddFault(fault.Fault); err != nil {
			t.Fatal(err)
		}
		if v.at.Path == "/setup" {
			v.press("Try again at Microsoft").microsoft(contosoAdmin, contosoPass)
		} else {
			v.consent(contosoAdmin, contosoPass)
		}
		problem := v.doc.Find(".problem").Text()
		if !strings.Contains(problem, fault.says) || strings.Contains(problem, "by itself") || strings.Contains(problem, "· request") && !strings.Contains(problem, "status") {
			t.Errorf("after %+v the page says %q", fault.Fault, problem)
		}
	}
}

// TestMicrosoftThatCantSayWhetherTheCodeWasEntered fails while the page waits for
// the code: it says so, also to who selects Verify, and goes on by itself.
func TestMicrosoftThatCantSayWhetherTheCodeWasEntered(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.consent(contosoAdmin, contosoPass).applications().press("Get a code")
	code, page := v.code()
	for _, fault := range []struct {
		simulator.Fault
		says string
	}{
		{simulator.Fault{Status: http.StatusServiceUnavailable}, "failed for the moment. Holdfast tries again by itself"},
		{simulator.Fault{Status: http.StatusOK, Body: "<html>hello</html>"}, "could not be understood. Holdfast tries again by itself"},
		{simulator.Fault{Status: http.StatusBadRequest, Body: `{"error":"server_error","error_codes":[]}`}, "This page asks again by itself"},
	} {
		fault.Host, fault.Method, fault.Path, fault.Times = "login", http.MethodPost, "/token$", 1
		if err := o.microsoft.AddFault(fault.Fault); err != nil {
			t.Fatal(err)
		}
		o.passInterval()
		v.get("/setup/device").says("Waiting for Microsoft").says(fault.says).says("The code can be entered meanwhile").says(code)
		v.get("/setup").press("Verify").says(fault.says)
		if strings.Contains(v.body, "Too early") {
			t.Errorf("after %+v the page says that it is too early", fault.Fault)
		}
		o.passInterval()
		v.get("/setup/device").says("Waiting for you").says(code)
		if problem := v.doc.Find(".problem"); problem.Length() > 0 {
			t.Errorf("after an answer the page still says %q", problem.Text())
		}
	}
	v.get("/setup").press("Verify").says("Too early")
	o.enterCode(code, page, contosoAdmin, contosoPass).says("You have signed in")
	o.passInterval()
	v.until("/setup/device", func() bool { return strings.Contains(v.body, "Authorized by") })
}

func TestCodeEnteredTooLate(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.consent(contosoAdmin, contosoPass).applications().press("Get a code")
	code, _ := v.code()
	o.microsoft.Advance(20 * time.Minute)
	o.passInterval()
	v.get("/setup").press("Verify").says("expired")
	if strings.Contains(v.body, code) {
		t.Error("the page still shows the code")
	}
	v.press("Get a code")
	if fresh, _ := v.code(); fresh == code {
		t.Error("the same code again")
	}
}

func TestARowSavedInBetweenDoesNotLoseWhatAPersonDid(t *testing.T) {
	o := newOffice(t)
	v := o.signIn(adminMail)
	v.consent(contosoAdmin, contosoPass).applications().press("Get a code")
	a, err := o.store.ActiveAuthorization(t.Context(), o.org(adminMail))
	if err != nil {
		t.Fatal(err)
	}
	stale := a
	o.passInterval()
	if err := o.store.SaveAuthorization(t.Context(), &stale); !errors.Is(err, backup.ErrStale) {
		t.Errorf("SaveAuthorization of what was read before = %v, want ErrStale", err)
	}
	v.press("Authorize in this browser").microsoft(contosoAdmin, contosoPass)
	v.until("/setup", func() bool { return v.doc.Find("#accounts").Length() > 0 })
}
