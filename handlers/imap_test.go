package handlers_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
)

const imapSecret = "s3cret-of-ada"

func imapForm(accounts string) url.Values {
	return url.Values{"host": {"IMAP.Contoso.example"}, "port": {"993"}, "security": {"tls"}, "sign_in": {"password"}, "accounts": {accounts}}
}

func TestAddIMAPServer(t *testing.T) {
	p := newPortal(t)
	b := p.as(adeleMail)
	if _, doc := b.get("/add-backup"); doc.Find("a[href='/add-backup/imap']").Length() != 1 {
		t.Error("Add Backup does not offer an IMAP server")
	}
	// What is wrong is named, line by line, and what was typed comes back.
	form := imapForm("ada@contoso.example," + imapSecret + "\nbob@contoso.example\n")
	form.Set("port", "no")
	res, doc := b.post("/add-backup/imap", form)
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#port-error").Length() != 1 || doc.Find("#accounts-error").Length() != 1 {
		t.Errorf("a wrong form = %d: %s", res.StatusCode, doc.Find("main").Text())
	}
	if text := doc.Find(".problem").Text(); !strings.Contains(text, "Line 2:") || strings.Contains(text, "Line 1:") {
		t.Errorf("wrong lines: %q", text)
	}
	if !strings.Contains(doc.Find("#accounts").Text(), "bob@contoso.example") || doc.Find("#host").AttrOr("value", "") != "imap.contoso.example" {
		t.Error("what was typed is lost")
	}
	form = url.Values{"host": {"x"}, "port": {"no"}, "security": {"tls"}, "sign_in": {"master"}, "master_user": {"root"}, "master_password": {"of all"}, "accounts": {"ada@x.example"}}
	if _, doc = b.post("/add-backup/imap", form); doc.Find("#master_password").AttrOr("value", "") != "of all" {
		t.Error("the master user's password is lost")
	}
	if list, err := p.store.Connections(t.Context(), p.orgs["Contoso Dental"].ID); err != nil || len(list) != 0 {
		t.Errorf("%d connections after a wrong form, %v", len(list), err)
	}

	res, _ = b.post("/add-backup/imap", imapForm("ada@contoso.example,"+imapSecret+"\nbob@contoso.example,bob,x\n"))
	page := res.Header.Get("Location")
	if res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(page, "/imap/") {
		t.Fatalf("POST = %d %s", res.StatusCode, page)
	}
	if _, doc = b.get(page); !strings.Contains(doc.Text(), "0 of 2 accounts tested") || doc.Find("input[name=account]").Length() != 0 || doc.Find("[hx-get='"+page+"/live']").Length() != 1 {
		t.Errorf("while it is tested: %s", doc.Find("main").Text())
	}
	conn := p.imapTested(page)
	_, doc = b.get(page)
	if !strings.Contains(doc.Text(), "1 account of 2 can't be opened") || !strings.Contains(doc.Text(), "refuses user name or password") || doc.Find("input[name=account][checked]").Length() != 1 {
		t.Errorf("after the tests: %s", doc.Find("main").Text())
	}
	if res, _ := b.post(page, url.Values{}); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("no account chosen = %d, want 422", res.StatusCode)
	}
	id := doc.Find("input[name=account][checked]").AttrOr("value", "")
	if res, _ := b.post(page, url.Values{"account": {id}}); res.Header.Get("Location") != "/dashboard" {
		t.Errorf("start = %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	if m, err := p.store.Mailbox(t.Context(), conn.OrgID, backup.MailboxID(id)); err != nil || !m.Selected || m.NextRunAt.IsZero() {
		t.Errorf("mailbox = %+v, %v; want it to be backed up", m, err)
	}
	for _, path := range []string{"/dashboard", "/browse", "/status", "/settings/retention/mailboxes"} { // it has no name, so its address stands once
		_, doc := b.get(path)
		if row := text(doc.Find("main tr:contains('ada@contoso.example')").First()); strings.Count(row, "ada@contoso.example") != 1 {
			t.Errorf("%s: %q", path, row)
		}
	}
	for path, says := range map[string]string{"/dashboard": "imap.contoso.example", "/settings/credentials": "Accounts and passwords", "/settings/permissions": "IMAP knows no permissions", "/status": "", page + "/server": "imap.contoso.example"} {
		res, doc := b.get(path)
		if res.StatusCode != http.StatusOK || !strings.Contains(doc.Find("main").Text()+doc.Find("#host").AttrOr("value", ""), says) {
			t.Errorf("%s = %d: %s", path, res.StatusCode, doc.Find("main").Text())
		}
		html, _ := doc.Html()
		if strings.Contains(html, imapSecret) || strings.Contains(doc.Find("main").Text(), "Tenant id") {
			t.Errorf("%s shows the password, or a tenant", path)
		}
	}
	p.othersNeverReachIMAP(page, id)
}

// imapTested brings the tests of a server's accounts to their end: the first can
// be opened, the others can't.
func (p *portal) imapTested(page string) backup.Connection {
	t, ctx := p.t, p.t.Context()
	t.Helper()
	conn, err := p.store.Connection(ctx, p.orgs["Contoso Dental"].ID, backup.ConnectionID(strings.TrimPrefix(page, "/imap/")))
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := p.store.IMAPAccounts(ctx, conn.OrgID, conn.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range accounts {
		a.TestedAt, a.Folders, a.Messages = time.Now(), 4, 1200
		if i > 0 {
			a.Problem = backup.Problem{Kind: backup.ProblemPassword, Text: "imap.contoso.example refuses user name or password."}
		}
		if err := p.store.SetIMAPTested(ctx, conn.OrgID, a); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

func (p *portal) othersNeverReachIMAP(page, mailbox string) {
	p.t.Helper()
	for _, b := range []*browser{p.as(nestorMail), p.acting(danaMail, "Fabrikam Legal")} {
		for _, path := range []string{page, page + "/live", page + "/server", page + "/accounts", page + "/accounts/" + mailbox, page + "/discard"} {
			if res, _ := b.get(path); res.StatusCode != http.StatusNotFound {
				p.t.Errorf("GET %s of another organization = %d, want 404", path, res.StatusCode)
			}
		}
		for _, path := range []string{page, page + "/test", page + "/server", page + "/accounts", page + "/accounts/" + mailbox, page + "/discard"} {
			if res, _ := b.post(path, imapForm("eve@x.example,1")); res.StatusCode != http.StatusNotFound {
				p.t.Errorf("POST %s of another organization = %d, want 404", path, res.StatusCode)
			}
		}
	}
}

func TestChangeIMAPServer(t *testing.T) {
	p := newPortal(t)
	b := p.as(adeleMail)
	res, _ := b.post("/add-backup/imap", imapForm("ada@contoso.example,"+imapSecret))
	page := res.Header.Get("Location")
	conn := p.imapTested(page)
	accounts, err := p.store.IMAPAccounts(t.Context(), conn.OrgID, conn.ID)
	if err != nil {
		t.Fatal(err)
	}
	// Passwords don't go to another server unless somebody says so.
	form := imapForm("")
	form.Set("host", "imap.evil.example")
	if res, doc := b.post(page+"/server", form); res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#same_server-error").Length() != 1 {
		t.Errorf("another server = %d, want a question", res.StatusCode)
	}
	form.Set("same_server", "on")
	if res, _ := b.post(page+"/server", form); res.StatusCode != http.StatusSeeOther {
		t.Errorf("another server, confirmed = %d", res.StatusCode)
	}
	path := page + "/accounts/" + string(accounts[0].MailboxID)
	if res, _ := b.post(path, url.Values{"user": {""}}); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("an empty user name = %d, want 422", res.StatusCode)
	}
	if res, _ := b.post(path, url.Values{"user": {"ada"}, "password": {"another"}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("a new password = %d", res.StatusCode)
	}
	if res, doc := b.post(page+"/accounts", url.Values{"accounts": {"cy@contoso.example"}}); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), "Line 1:") {
		t.Errorf("a further account without a password = %d", res.StatusCode)
	}
	if res, _ := b.post(page+"/accounts", url.Values{"accounts": {"cy@contoso.example,1"}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("a further account = %d", res.StatusCode)
	}
	got, err := p.store.IMAPAccounts(t.Context(), conn.OrgID, conn.ID)
	if err != nil || len(got) != 2 || got[0].User != "ada" || got[0].Secret.Reveal() != "another" || !got[0].TestedAt.IsZero() {
		t.Errorf("accounts = %+v, %v", got, err)
	}
	if res, _ := b.post(page+"/discard", nil); res.StatusCode != http.StatusSeeOther {
		t.Errorf("discard = %d", res.StatusCode)
	}
	if res, _ := b.get(page); res.StatusCode != http.StatusNotFound {
		t.Errorf("a discarded server = %d, want 404", res.StatusCode)
	}
}
