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
