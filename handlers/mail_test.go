package handlers_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/backup/outmail/outmailtest"
	"holdfast/handlers"
)

// mailForm is the form of outgoing mail, filled in.
func mailForm(m backup.MailSettings, port, action string) url.Values {
	return url.Values{"host": {m.Host}, "port": {port}, "tls": {string(m.TLS)}, "user": {m.User}, "password": {string(m.Password)},
		"from": {m.From}, "from_name": {m.FromName}, "action": {action}}
}

func TestOutgoingMailIsKeptAndTried(t *testing.T) {
	server := outmailtest.Start(t, backup.MailSTARTTLS)
	p := newPortal(t, func(s *handlers.Server) { s.MailRoots = server.Roots })
	b, m := p.as(danaMail), server.Settings(backup.MailSTARTTLS)

	_, doc := b.get("/partner/settings")
	says(t, doc, "Outgoing mail")
	bad := mailForm(m, "nought", "save")
	bad.Set("from", "not an address")
	bad.Set("tls", "none")
	bad.Set("host", "smtp.example.org")
	res, doc := b.post("/partner/settings", bad)
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("input[name=host]").AttrOr("value", "") != "smtp.example.org" || doc.Find("input[name=user]").AttrOr("value", "") != m.User {
		t.Errorf("bad settings = %d, and what was typed: %s", res.StatusCode, doc.Find("form.narrow").Text())
	}
	for _, want := range []string{"Enter the port", "only a server on this machine", "Enter the address that e-mail comes from"} {
		says(t, doc, want)
	}

	good := mailForm(m, strconv.Itoa(m.Port), "test")
	_, doc = b.post("/partner/settings", good)
	says(t, doc, "A test message is on its way to "+danaMail)
	if got := server.Messages(t, 1)[0]; got.To[0] != danaMail || !got.TLS {
		t.Errorf("the test message went to %v, TLS %t", got.To, got.TLS)
	}
	wrong := mailForm(m, strconv.Itoa(m.Port), "test")
	wrong.Set("password", "wrong")
	_, doc = b.post("/partner/settings", wrong)
	says(t, doc, "refused the user name or the password")

	good.Set("action", "save")
	if res, _ := b.post("/partner/settings", good); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("saved = %d", res.StatusCode)
	}
	_, doc = b.get("/partner/settings")
	if html, _ := doc.Html(); strings.Contains(html, outmailtest.Password) {
		t.Error("the page has the password")
	}
	says(t, doc, "One is kept")
	// The password is kept, but only for the same server.
	again := mailForm(m, strconv.Itoa(m.Port), "test")
	again.Set("password", "")
	_, doc = b.post("/partner/settings", again)
	says(t, doc, "A test message is on its way")
	again.Set("host", "127.0.0.1")
	_, doc = b.post("/partner/settings", again)
	if strings.Contains(doc.Text(), "is on its way") {
		t.Error("the kept password went to another server")
	}
	_, doc = b.get("/partner/activity")
	says(t, doc, "localhost")
}

func TestNotificationSwitches(t *testing.T) {
	p := newPortal(t)
	admin := p.as(adeleMail)
	_, doc := admin.get("/settings/notifications")
	if n := doc.Find("input[name=kind][checked]").Length(); n != len(backup.NotificationKinds) {
		t.Errorf("%d kinds are on at first, want all %d", n, len(backup.NotificationKinds))
	}
	admin.post("/settings/notifications", url.Values{"kind": {string(backup.NotifyBackupFailing)}})
	if _, doc := admin.get("/settings/notifications"); doc.Find("input[name=kind][checked]").Length() != 1 {
		t.Error("the switches were not kept")
	}
	if _, doc := p.as(nestorMail).get("/settings/notifications"); doc.Find("input[name=kind][checked]").Length() != len(backup.NotificationKinds) {
		t.Error("another organization's switches changed")
	}
	if _, doc := p.as(danaMail).get("/partner/settings"); doc.Find("input[name=kind][checked]").Length() != len(backup.NotificationKinds) {
		t.Error("the partner's switches changed")
	}
	if _, doc := p.as(leeMail).get("/settings/notifications"); doc.Find("main form").Length() > 0 && doc.Find("input[name=kind]:not([disabled])").Length() > 0 {
		t.Error("a viewer is offered the switches")
	}
}

// The same trouble in many mailboxes of two organizations is one line.
func TestSupportGroupsByCause(t *testing.T) {
	p := newPortal(t)
	b := p.as(danaMail)
	_, doc := b.get("/partner/support")
	says(t, doc, "Nothing is wrong")

	problem := backup.Problem{Kind: backup.ProblemPermission, Text: "The permission Mail.Read was withdrawn. Repair it.", Code: "ErrorAccessDenied", At: time.Now()}
	p.connect("Contoso Dental", failing(30, problem)...)
	p.connect("Fabrikam Legal", append(failing(2, problem), failing(1, backup.Problem{Kind: backup.ProblemUnavailable, Text: "Microsoft fails for the moment.", At: time.Now()})...)...)
	_, doc = b.get("/partner/support")
	if n := doc.Find("main section.card").Length(); n != 2 {
		t.Fatalf("%d causes, want 2: %s", n, text(doc.Find("main")))
	}
	first := doc.Find("main section.card").FilterFunction(func(_ int, s *goquery.Selection) bool { return strings.Contains(s.Text(), "Mail.Read") })
	for _, want := range []string{"32 mailboxes", "2 organizations", "30 mailboxes", "ErrorAccessDenied", "Since"} {
		if !strings.Contains(text(first), want) {
			t.Errorf("the cause does not say %q: %s", want, text(first))
		}
	}
	if first.Find("a[href='/partner/organizations/"+string(p.orgs["Fabrikam Legal"].ID)+"']").Length() == 0 {
		t.Error("no link to the organization")
	}
	_, doc = b.get("/partner/support?q=contoso&area=backup")
	if n := doc.Find("main section.card").Length(); n != 1 {
		t.Errorf("%d causes of Contoso, want 1", n)
	}
	_, doc = b.get("/partner/support?q=nobody")
	says(t, doc, "Nothing matches")
	// And once on the organization's own page.
	_, doc = p.as(adeleMail).get("/status")
	if n := strings.Count(doc.Find("main").Text(), "The permission Mail.Read was withdrawn"); n != 1 {
		t.Errorf("System Status says it %d times", n)
	}
	if res, _ := p.as(adeleMail).get("/partner/support"); res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusNotFound {
		t.Errorf("an organization's admin sees Support: %d", res.StatusCode)
	}
}

// A code that Holdfast does not know comes with its time and request id in the
// sentence; it is one cause all the same. Applications have their line, too.
func TestTheSameCauseIsOneLine(t *testing.T) {
	p := newPortal(t)
	var accounts []account
	for i := range 200 {
		at := time.Now().Add(-time.Duration(i) * time.Minute)
		accounts = append(accounts, failing(1, backup.Problem{Kind: backup.ProblemUnknown, Code: "Teapot", Status: 418, RequestID: "request-" + strconv.Itoa(i), At: at,
			Text: "Microsoft refused with a code that Holdfast does not know: Teapot, at " + at.Format(time.DateTime) + ". Try again."})...)
		accounts[i].name = "mailbox" + strconv.Itoa(i)
	}
	gone := backup.Problem{Kind: backup.ProblemApplicationGone, Text: "Holdfast's application was deleted. Select Repair.", Code: "AADSTS700016", At: time.Now()}
	accounts = append(accounts, failing(3, gone)...)
	p.connect("Contoso Dental", accounts...)
	org := p.orgs["Contoso Dental"].ID
	connections, err := p.store.Connections(t.Context(), org)
	if err != nil {
		t.Fatal(err)
	}
	b := p.as(adeleMail)
	_, doc := b.get("/status")
	if n := doc.Find("#live > section:first-child > .card").Length(); n != 2 {
		t.Errorf("System Status has %d problems, want 2: %s", n, text(doc.Find("#live > section:first-child")))
	}
	says(t, doc, "200 mailboxes fail")
	for _, app := range []backup.SubApplication{
		{Workload: backup.WorkloadMail, DisplayName: "Holdfast Backup Mail", State: backup.ApplicationReady, Problem: gone},
		{Workload: backup.WorkloadExchange, DisplayName: "Holdfast Backup Exchange", State: backup.ApplicationReady,
			Problem: backup.Problem{Kind: backup.ProblemApplicationOff, Text: "Holdfast's application is disabled. Select Repair.", At: time.Now()}},
	} {
		app.ID, app.OrgID, app.ConnectionID = backup.NewID[backup.SubApplicationID](), org, connections[0].ID
		if err := p.store.SaveSubApplication(t.Context(), app); err != nil {
			t.Fatal(err)
		}
	}
	_, doc = b.get("/status")
	if n := doc.Find("#live > section:first-child > .card").Length(); n != 3 {
		t.Errorf("System Status has %d problems, want 3: %s", n, text(doc.Find("#live > section:first-child")))
	}
	says(t, doc, "3 mailboxes fail because of it")
	if strings.Contains(text(doc.Find("main")), "Everything works") || doc.Find("#live .card a[href='/settings/credentials']").Length() < 2 {
		t.Errorf("no link, or all is said to be well: %s", text(doc.Find("main")))
	}
	_, doc = p.as(danaMail).get("/partner/support")
	says(t, doc, "200 mailboxes in 1 organization")
	says(t, doc, "Holdfast's application is disabled. Select Repair.")
	_, doc = p.as(danaMail).get("/partner/support?area=connection")
	if n := doc.Find("main section.card").Length(); n != 2 {
		t.Errorf("%d credential problems, want 2: %s", n, text(doc.Find("main")))
	}
}

// failing are n accounts whose last run failed.
func failing(n int, problem backup.Problem) (list []account) {
	for i := range n {
		list = append(list, account{name: string(problem.Kind) + strconv.Itoa(i), status: backup.StatusFailing, change: func(m *backup.Mailbox) { m.Problem = problem }})
	}
	return list
}
