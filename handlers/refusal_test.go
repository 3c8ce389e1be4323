package handlers_test

import (
	"database/sql"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/store"
)

// entries are what a log has, the newest first, one line each.
func (p *portal) entries(org backup.OrgID, kind string) []string {
	p.t.Helper()
	list, _, err := p.store.Activity(p.t.Context(), p.owner.Partner.ID, org, store.ActivityQuery{Kind: kind, Page: 1, Size: 100})
	if err != nil {
		p.t.Fatal(err)
	}
	var lines []string
	for _, e := range list {
		lines = append(lines, strings.Join([]string{e.Person, e.ForPerson, e.Address, e.Subject, e.Detail}, "|"))
	}
	return lines
}

// Somebody who is refused stands in the log of whom it concerns, and whoever
// tries on does not fill it.
func TestRefusalsAreRecorded(t *testing.T) {
	p := newPortal(t)
	contoso, adele := p.orgs["Contoso Dental"].ID, p.as(adeleMail)
	for range 9 {
		p.browser().post("/sign-in", url.Values{"email": {adeleMail}, "password": {"not the password"}})
		p.browser().post("/sign-in", url.Values{"email": {"secret typed here"}, "password": {"not the password"}})
	}
	got := p.entries(contoso, "sign_in.refused")
	if len(got) != 5 || !strings.HasPrefix(got[4], "Adele Vance <adele@contoso.example>||192.0.2.1|adele@contoso.example|wrong password") || !strings.Contains(got[0], "held back") || strings.Contains(got[1], "held back") {
		t.Errorf("Contoso's refusals: %q", got)
	}
	unknown := p.entries("", "sign_in.refused")
	if len(unknown) != 5 || !strings.HasPrefix(unknown[0], "||192.0.2.1|an address that nobody here has|wrong password") || strings.Contains(strings.Join(unknown, ""), "secret") {
		t.Errorf("the partner's refusals: %q", unknown)
	}

	lee := p.as(leeMail)
	lee.post("/settings", url.Values{"name": {"Mine"}})
	lee.headers["Sec-Fetch-Site"] = "cross-site"
	lee.post("/account/sessions/end", nil)
	if got := p.entries(contoso, "refused"); len(got) != 2 || !strings.Contains(got[1], "Lee Gu <lee@contoso.example>||192.0.2.1|POST /settings|not allowed to viewer") || !strings.Contains(got[0], "another website") {
		t.Errorf("refusals of a viewer: %q", got)
	}
	p.as(samMail).get("/partner/settings")
	if got := p.entries("", "refused"); len(got) != 1 || !strings.Contains(got[0], "GET /partner/settings|not allowed to support") {
		t.Errorf("refusals of support: %q", got)
	}
	if err := p.store.SetSuspended(t.Context(), p.owner.Partner.ID, contoso, true, "not paid", p.owner); err != nil {
		t.Fatal(err)
	}
	adele.get("/dashboard")
	if got := p.entries(contoso, "refused"); !strings.Contains(got[0], "Adele Vance") || !strings.Contains(got[0], "suspended") {
		t.Errorf("refusals of a suspended organization: %q", got)
	}
}

func TestRefusedTokensAreRecordedNowAndThen(t *testing.T) {
	p := newPortal(t)
	api := p.program(backup.ScopeRuns)
	for range 30 {
		api.want(http.StatusForbidden, "GET", "/api/v1/organizations", "")
	}
	got := p.entries("", "token.refused")
	if len(got) == 0 || len(got) > 10 || !strings.Contains(got[0], "API token Monitoring (Northwind MSP)") || !strings.Contains(got[0], "GET /api/v1/organizations|needs the scope organizations.read") {
		t.Errorf("%d refusals of a token: %q", len(got), got)
	}
}

// Tokens that do not work are tried from outside: the log says from where and
// how often, and is not filled.
func TestTokensThatDoNotWorkAreRecorded(t *testing.T) {
	p := newPortal(t)
	api := p.program(backup.ScopeOrganizations)
	revoked := api.token
	list, err := p.store.APITokens(t.Context(), p.owner.Partner.ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d tokens, %v", len(list), err)
	}
	if err := p.store.RevokeAPIToken(t.Context(), list[0].ID, p.owner); err != nil {
		t.Fatal(err)
	}
	for range 120 {
		api.want(http.StatusUnauthorized, "GET", "/api/v1/organizations", "")
	}
	got := p.entries("", "token.refused")
	if len(got) != 3 || !strings.HasPrefix(got[2], "||192.0.2.1|a token that nobody here has|GET /api/v1/organizations") || !strings.HasSuffix(got[0], "; 100 such tries within the hour") {
		t.Errorf("refusals of a revoked token: %q", got)
	}
	if strings.Contains(strings.Join(got, ""), revoked) || strings.Contains(strings.Join(got, ""), "holdfast_") {
		t.Error("the token is in the log")
	}
	old := p.program(backup.ScopeOrganizations)
	raw, err := sql.Open("sqlite", p.file)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.ExecContext(t.Context(), `UPDATE api_tokens SET expires_at = 1000`); err != nil {
		t.Fatal(err)
	}
	elsewhere := p.browser()
	elsewhere.from, elsewhere.headers["Authorization"] = "203.0.113.9:1", "Bearer "+old.token
	if res, _ := elsewhere.get("/api/v1/organizations"); res.StatusCode != http.StatusUnauthorized {
		t.Fatalf("an expired token = %d", res.StatusCode)
	}
	if got := p.entries("", "token.refused"); len(got) != 4 || !strings.HasPrefix(got[0], "||203.0.113.9|Monitoring, expired 1970-01-01|GET") {
		t.Errorf("the refusal of an expired token: %q", got)
	}
}

// Somebody who tries the identifiers of others stands in their own log, in the
// same words whether there is such a thing or not.
func TestAskingForWhatIsSomebodyElsesIsRecorded(t *testing.T) {
	p := newPortal(t)
	mailbox := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	nestor, fabrikam := p.as(nestorMail), p.orgs["Fabrikam Legal"].ID
	before := len(p.entries(p.orgs["Contoso Dental"].ID, "refused"))
	nestor.get("/browse/" + string(mailbox.ID))
	other := p.acting(danaMail, "Fabrikam Legal")
	other.get("/browse/" + string(backup.NewID[backup.MailboxID]()))
	got := p.entries(fabrikam, "refused")
	if len(got) != 2 || !strings.HasPrefix(got[1], "Nestor Wilke <nestor@fabrikam.example>||192.0.2.1|GET /browse/"+string(mailbox.ID)+"|") {
		t.Fatalf("refusals of Fabrikam: %q", got)
	}
	if why := func(line string) string { return line[strings.LastIndex(line, "|"):] }; why(got[0]) != why(got[1]) {
		t.Errorf("the log tells which of them exists: %q", got)
	}
	for range 30 {
		nestor.post("/mailboxes/"+string(mailbox.ID)+"/back-up", nil)
	}
	if got := p.entries(fabrikam, "refused"); len(got) != 3 || !strings.Contains(got[0], "10 such tries within the hour") {
		t.Errorf("many tries: %q", got)
	}
	if after := len(p.entries(p.orgs["Contoso Dental"].ID, "refused")); after != before {
		t.Error("the other organization reads who tried")
	}
	api := p.program(backup.ScopeOrganizations)
	api.want(http.StatusNotFound, "GET", "/api/v1/organizations/NONE", "")
	if got := p.entries("", "token.refused"); len(got) != 1 || !strings.Contains(got[0], "API token Monitoring") || !strings.Contains(got[0], "GET /api/v1/organizations/NONE") {
		t.Errorf("a program's: %q", got)
	}
}

// An attacker with many addresses uses up all that an account allows: the
// person's own browser is not held back, and another one is.
func TestAnAttackerDoesNotLockThePersonOut(t *testing.T) {
	p := newPortal(t)
	own := p.as(adeleMail)
	own.post("/sign-out", nil)
	for i := range 12 {
		attacker := p.browser()
		attacker.from = "203.0.113." + string(rune('0'+i%10)) + ":1"
		if i > 9 {
			attacker.from = own.from // in the same office
		}
		for range 5 {
			attacker.post("/sign-in", url.Values{"email": {adeleMail}, "password": {"not the password"}})
		}
	}
	right := url.Values{"email": {adeleMail}, "password": {portalPassword}}
	for _, from := range []string{"198.51.100.7:9", "203.0.113.1:1"} {
		other := p.browser()
		other.from = from
		if res, _ := other.post("/sign-in", right); res.StatusCode != http.StatusTooManyRequests {
			t.Errorf("a new browser at %s = %d, want 429", from, res.StatusCode)
		}
	}
	if res, _ := own.post("/sign-in", right); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the person's own browser = %d, want signed in", res.StatusCode)
	}
	// It has no more tries than anybody, and knows one person only.
	own.post("/sign-out", nil)
	for range 5 {
		own.post("/sign-in", url.Values{"email": {adeleMail}, "password": {"not the password"}})
	}
	if res, _ := own.post("/sign-in", right); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the sixth try of a known browser = %d, want 429", res.StatusCode)
	}
	forged := p.browser()
	forged.from, forged.cookies["holdfast-browser"] = "198.51.100.7:9", own.cookies["holdfast-browser"][:20]+"AAAA"
	if res, _ := forged.post("/sign-in", right); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a forged cookie = %d, want 429", res.StatusCode)
	}
}

// Recovery codes are slowed as the app's are, from all addresses together, and
// the person's own browser still takes the right one.
func TestRecoveryCodesCannotBeGuessed(t *testing.T) {
	p := newPortal(t)
	own := p.as(adeleMail)
	_, codes := appOf(t, own)
	own.post("/sign-out", nil)
	tried := 0
	for i := range 8 {
		thief := p.browser()
		thief.from = "203.0.113." + string(rune('0'+i)) + ":1"
		if res := passwordStep(thief, adeleMail, ""); res.Header.Get("Location") != "/sign-in/factor" {
			t.Fatalf("the password alone = %d", res.StatusCode)
		}
		for range 10 {
			if res, _ := thief.post("/sign-in/factor", url.Values{"recovery": {"AAAA-BBBB-CCCC-DDDD"}}); res.StatusCode == http.StatusUnprocessableEntity {
				tried++
			}
		}
	}
	if tried != 20 {
		t.Errorf("%d recovery codes were compared in an hour, want 20", tried)
	}
	passwordStep(own, adeleMail, "")
	if res, _ := own.post("/sign-in/factor", url.Values{"recovery": {codes[0]}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the person's own browser = %d, want signed in", res.StatusCode)
	}
	if got := p.entries(p.orgs["Contoso Dental"].ID, "sign_in"); !strings.Contains(got[0], "by password and recovery code") {
		t.Errorf("sign-ins: %q", got)
	}
}

// A whole office behind one address signs in, and nobody is held back for it.
func TestSignInsThatWorkHoldNobodyBack(t *testing.T) {
	p := newPortal(t)
	for range 65 {
		if res, _ := p.browser().post("/sign-in", url.Values{"email": {adeleMail}, "password": {portalPassword}}); res.StatusCode != http.StatusSeeOther {
			t.Fatalf("sign-in = %d", res.StatusCode)
		}
	}
}

// Each change of something that was there before says what it was and what it is.
func TestEntriesSayBeforeAndAfter(t *testing.T) {
	p := newPortal(t)
	mailbox := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	contoso := p.orgs["Contoso Dental"].ID
	dana, adele := p.as(danaMail), p.as(adeleMail)
	lee := string(p.people[leeMail].ID)
	for _, c := range []struct {
		b    *browser
		path string
		form url.Values
		org  backup.OrgID
		kind string
		want string
	}{
		{adele, "/settings", url.Values{"name": {"Contoso Smiles"}}, contoso, "organization.rename", "before: Contoso Dental, after: Contoso Smiles"},
		{adele, "/settings/acting", url.Values{"forbid_acting": {"on"}}, contoso, "organization.acting", "before: with a reason, at any time, after: only with leave"},
		{adele, "/settings/users/" + lee + "/role", url.Values{"role": {"admin"}}, contoso, "person.role", "before: viewer, after: admin"},
		{adele, "/settings/users/" + lee + "/remove", url.Values{"confirm": {"yes"}}, contoso, "person.remove", "before: admin, after: removed"},
		{adele, "/mailboxes/" + string(mailbox.ID) + "/deactivate", nil, contoso, "mailbox.deactivate", "before: protected, after: deactivated"},
		{adele, "/mailboxes/" + string(mailbox.ID) + "/reactivate", nil, contoso, "mailbox.reactivate", "before: deactivated, after: active"},
		{adele, "/settings/factor", url.Values{"require_factor": {"on"}}, contoso, "organization.require_factor", "before: optional, after: required"},
		{dana, "/partner/organizations/" + string(contoso) + "/features", url.Values{"manual_role": {"on"}}, contoso, "organization.manual_role", "before: automated, after: manual"},
		{dana, "/partner/settings/branding", url.Values{"name": {"Vault"}, "color": {"#1a3fa0"}}, "", "branding.save", "name before: nothing, after: Vault; colour before: nothing, after: #1a3fa0"},
	} {
		res, doc := c.b.post(c.path, c.form)
		if res.StatusCode != http.StatusSeeOther {
			t.Fatalf("POST %s = %d: %s", c.path, res.StatusCode, text(doc.Find("main")))
		}
		if got := p.entries(c.org, c.kind); len(got) == 0 || !strings.Contains(got[0], c.want) {
			t.Errorf("%s: %q, want %q", c.kind, got, c.want)
		}
	}
}
