package handlers_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
)

// row is the row of a mailbox in the dashboard's table.
func row(doc *goquery.Document, m backup.Mailbox) *goquery.Selection {
	return doc.Find("#m-" + string(m.ID))
}

func TestDashboardSaysWhyForEachStatus(t *testing.T) {
	p := newPortal(t)
	boxes := p.connect("Contoso Dental",
		account{name: "Adele", status: backup.StatusProtected}, account{name: "Front desk", status: backup.StatusFailing},
		account{name: "Lee", status: backup.StatusDeactivated}, account{name: "Scanner", status: backup.StatusEmpty},
		account{name: "Intern", status: backup.StatusInactive}, account{name: "New", status: backup.StatusPending},
		account{name: "Gone", status: backup.StatusDeactivated, change: func(m *backup.Mailbox) {
			m.Deactivated, m.DeactivatedBy = backup.DeactivatedDeleted, ""
		}})
	_, doc := p.as(adeleMail).get("/dashboard")
	for name, want := range map[string][2]string{
		"Adele":      {"Protected", "Licensed and active, and the last backup succeeded, since"},
		"Front desk": {"Failing: retry in 19 min", "Microsoft did not answer."},
		"Lee":        {"Deactivated by Dana Ruiz", "Deactivated by Dana Ruiz, since"},
		"Scanner":    {"Empty: checked daily, no licence used", "It uses no licence, is checked daily"},
		"Intern":     {"Inactive: no mailbox licence", "No valid e-mail licence at Microsoft, since"},
		"New":        {"Pending: waits for its first backup", "Waiting for its first backup, since"},
		"Gone":       {"Deactivated: deleted at Microsoft", "The account was deleted at Microsoft, since"},
	} {
		button := row(doc, boxes[name]).Find("button.status")
		if got := text(button); got != want[0] {
			t.Errorf("%s: status = %q, want %q", name, got, want[0])
		}
		if !button.HasClass(string(boxes[name].Status)) {
			t.Errorf("%s: class %q, want %s", name, button.AttrOr("class", ""), boxes[name].Status)
		}
		tip := doc.Find("#" + button.AttrOr("aria-describedby", "none"))
		if got := text(tip); !strings.Contains(got, want[1]) || tip.AttrOr("role", "") != "tooltip" {
			t.Errorf("%s: tooltip = %q, want %q", name, got, want[1])
		}
	}
	says(t, doc, "Protected mailboxes 1 of 7")
	says(t, doc, "contoso.onmicrosoft.com · connected by service principal")
}

func TestDashboardWithoutBackupLeadsToAddBackup(t *testing.T) {
	p := newPortal(t)
	_, doc := p.as(nestorMail).get("/dashboard")
	says(t, doc, "Nothing is backed up yet")
	buttons := doc.Find("a.button.primary")
	if buttons.Length() != 1 || text(buttons) != "+ Add Backup" || buttons.AttrOr("href", "") != "/add-backup" {
		t.Errorf("primary buttons: %q", text(buttons))
	}
}

func TestDashboardFiltersFindsSortsAndPages(t *testing.T) {
	p := newPortal(t)
	var list []account
	for i := range 60 {
		list = append(list, account{name: fmt.Sprintf("Person %02d", i), status: backup.StatusProtected, change: func(m *backup.Mailbox) { m.Items = int64(i + 1) }})
	}
	list = append(list, account{name: "Broken", status: backup.StatusFailing})
	p.connect("Contoso Dental", list...)
	b := p.as(adeleMail)
	names := func(path string) (string, int, *goquery.Document) {
		_, doc := b.get(path)
		rows := doc.Find("#mailbox-table tbody tr")
		return text(rows.First().Find("strong")), rows.Length(), doc
	}
	for path, want := range map[string]struct {
		first string
		rows  int
	}{
		"/dashboard":                               {"Broken", 50},
		"/dashboard?page=2":                        {"Person 49", 11},
		"/dashboard?status=failing":                {"Broken", 1},
		"/dashboard?q=PERSON+4":                    {"Person 40", 10},
		"/dashboard?q=person&sort=name&desc=1":     {"Person 59", 50},
		"/dashboard?q=person&sort=items":           {"Person 00", 50},
		"/dashboard?q=person&sort=items&desc=1":    {"Person 59", 50},
		"/dashboard?sort=nonsense&page=-1&status=": {"Broken", 50},
		"/dashboard?q=%25":                         {"", 0},
	} {
		if first, rows, doc := names(path); first != want.first || rows != want.rows {
			t.Errorf("%s: first %q of %d rows, want %q of %d: %s", path, first, rows, want.first, want.rows, text(doc.Find("main h3")))
		}
	}
	_, _, doc := names("/dashboard?status=protected&q=person&sort=size&desc=1")
	if got := doc.Find("a[rel=next]").AttrOr("href", ""); got != "/dashboard?desc=1&page=2&q=person&sort=size&status=protected" {
		t.Errorf("next page = %q, want to keep what was chosen", got)
	}
	if got := doc.Find("#search input[name=q]").AttrOr("value", ""); got != "person" {
		t.Errorf("search field = %q, want what was typed", got)
	}
	if got := doc.Find("th[aria-sort=descending]"); text(got) != "Size" {
		t.Errorf("sorted column = %q, want Size", text(got))
	}
	_, _, doc = names("/dashboard?q=nobody")
	says(t, doc, "No mailbox matches “nobody”")
}

func TestDashboardAsksOnlyWhileSomethingRuns(t *testing.T) {
	p := newPortal(t)
	m := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})["Adele"]
	b := p.as(leeMail)
	_, doc := b.get("/dashboard?sort=size&desc=1")
	if _, ok := doc.Find("#live").Attr("hx-trigger"); ok {
		t.Error("the page asks though nothing runs")
	}
	run := backup.Run{ID: backup.NewID[backup.RunID](), OrgID: m.OrgID, MailboxID: m.ID, State: backup.RunRunning, Trigger: "manual", StartedAt: time.Now(), BeatAt: time.Now()}
	if err := p.store.StartRun(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	run.ItemsDone, run.ItemsTotal = 312, 1204
	if err := p.store.BeatRun(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	_, doc = b.get("/dashboard?sort=size&desc=1")
	live := doc.Find("#live")
	if live.AttrOr("hx-trigger", "") != "every 2s" || live.AttrOr("hx-get", "") != "/dashboard/live?desc=1&sort=size" || live.AttrOr("hx-swap", "") != "outerMorph" {
		t.Errorf("live part: %v", live.Nodes[0].Attr)
	}
	_, doc = b.get("/dashboard/live?desc=1&sort=size")
	says(t, doc, "312 of 1,204 messages")
	if doc.Find("html > head > title").Length() != 0 || doc.Find("#live").Length() != 1 {
		t.Error("the part is a whole page")
	}
	run.State, run.EndedAt = backup.RunSucceeded, time.Now()
	if err := p.store.FinishRun(t.Context(), run, func(m *backup.Mailbox) { m.NextRunAt = time.Now().Add(time.Hour) }); err != nil {
		t.Fatal(err)
	}
	_, doc = b.get("/dashboard/live")
	if _, ok := doc.Find("#live").Attr("hx-trigger"); ok {
		t.Error("the part asks on though the run has ended")
	}
}

func TestPageAsksUntilABackupThatWasAskedForStarts(t *testing.T) {
	p := newPortal(t)
	m := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})["Adele"]
	b := p.as(adeleMail)
	res, _ := b.post("/mailboxes/"+string(m.ID)+"/back-up", nil)
	_, doc := b.follow(res)
	says(t, doc, "The backup of Adele starts now.")
	if _, ok := doc.Find("#live").Attr("hx-trigger"); !ok {
		t.Error("the page does not ask how the backup does")
	}
}

func TestMailboxIsDeactivatedAfterAskingAndReactivated(t *testing.T) {
	p := newPortal(t)
	m := p.connect("Contoso Dental", account{name: "Adele", status: backup.StatusProtected})["Adele"]
	b := p.as(adeleMail)
	_, doc := b.get("/dashboard?status=protected")
	question := row(doc, m).Find("a[data-dialog]").AttrOr("href", "")
	_, doc = b.get(question)
	says(t, doc, "Deactivate Adele?")
	says(t, doc, "Backups of adele@contoso.onmicrosoft.com stop")
	if got := doc.Find("[data-question] input[name=back]").AttrOr("value", ""); got != "/dashboard?status=protected" {
		t.Errorf("the question leads back to %q", got)
	}
	path := "/mailboxes/" + string(m.ID)
	res, _ := b.post(path+"/deactivate", url.Values{"back": {"/dashboard?status=protected"}})
	if res.Header.Get("Location") != "/dashboard?status=protected" {
		t.Errorf("leads to %q", res.Header.Get("Location"))
	}
	_, doc = b.get("/dashboard")
	says(t, doc, "Adele is deactivated. What is backed up stays.")
	says(t, doc, "Deactivated by Adele Vance")
	res, _ = b.post(path+"/back-up", nil)
	_, doc = b.follow(res)
	says(t, doc, "no backup was started")
	res, _ = b.post(path+"/reactivate", url.Values{"back": {"https://evil.example/dashboard"}})
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/dashboard" {
		t.Errorf("reactivate = %d to %q, want the dashboard", res.StatusCode, res.Header.Get("Location"))
	}
	_, doc = b.get("/dashboard")
	says(t, doc, "Adele is reactivated. Its backup starts now.")
	_, doc = b.get("/dashboard")
	if strings.Contains(text(doc.Selection), "Its backup starts now.") {
		t.Error("the message is shown twice")
	}
}

func TestStatusGroupsFailuresByCause(t *testing.T) {
	p := newPortal(t)
	other := func(m *backup.Mailbox) {
		m.Problem = backup.Problem{Kind: backup.ProblemDiskFull, Text: "The disk is full. Make room on it.", At: time.Now()}
	}
	p.connect("Contoso Dental", account{name: "A", status: backup.StatusFailing}, account{name: "B", status: backup.StatusFailing},
		account{name: "C", status: backup.StatusFailing, change: other}, account{name: "D", status: backup.StatusProtected})
	connections, err := p.store.Connections(t.Context(), p.orgs["Contoso Dental"].ID)
	if err != nil {
		t.Fatal(err)
	}
	role := backup.CustomRole{OrgID: connections[0].OrgID, ConnectionID: connections[0].ID, State: backup.RolePending, PendingSince: time.Now(), NextTryAt: time.Now().Add(30 * time.Minute),
		Problem: backup.Problem{Kind: backup.ProblemRolePending, Text: "Exchange is not ready.", At: time.Now()}}
	if err := p.store.SaveCustomRole(t.Context(), &role); err != nil {
		t.Fatal(err)
	}
	b := p.as(leeMail)
	_, doc := b.get("/status")
	says(t, doc, "2 mailboxes fail Failing Microsoft did not answer. Holdfast tries again by itself. Since")
	says(t, doc, "1 mailbox fails Failing The disk is full. Make room on it. Since")
	says(t, doc, "Custom role Pending, next try in 29 min Exchange is not ready.")
	says(t, doc, "Public folder backup and restore and journaling are paused until it is Connected.")
	says(t, doc, "1,204 new")
	_, doc = b.get("/settings/credentials")
	says(t, doc, "Custom Role Status Pending, next try in 29 min")
	says(t, doc, "Paused until it is Connected: public folder backup and restore, and journaling (Archiver plan).")
	says(t, doc, "What was asked, what the tenant grants, and what beyond")
	_, doc = p.as(nestorMail).get("/status")
	says(t, doc, "Nothing is connected yet.")
}
