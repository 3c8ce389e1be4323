package handlers_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/golang-jwt/jwt/v5"

	"holdfast/backup"
	"holdfast/handlers"
)

// raw is the portal's database as whoever has the file sees it.
func (p *portal) raw() *sql.DB {
	p.t.Helper()
	db, err := sql.Open("sqlite", p.file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { db.Close() })
	return db
}

// age makes all that was proved an hour older.
func (p *portal) age() {
	p.t.Helper()
	if _, err := p.raw().ExecContext(p.t.Context(), `UPDATE web_sessions SET confirmed_at = confirmed_at - 3600000`); err != nil {
		p.t.Fatal(err)
	}
}

// waysIn is all by which people and programs get in.
func (p *portal) waysIn() string {
	p.t.Helper()
	var all string
	err := p.raw().QueryRowContext(p.t.Context(), `SELECT
		(SELECT count(*) FROM api_tokens) || ' ' || (SELECT count(*) FROM passkeys) || ' ' || (SELECT count(*) FROM identities) || ' ' || (SELECT count(*) FROM set_up_links) || ' ' ||
		(SELECT coalesce(group_concat(hex(code_hash)), '') FROM (SELECT code_hash FROM recovery_codes ORDER BY code_hash)) || ' ' ||
		(SELECT group_concat(factors || hex(coalesce(totp_sealed, '')) || password_hash) FROM (SELECT * FROM people ORDER BY id)) || ' ' || (SELECT sum(require_factor) FROM organizations)`).Scan(&all)
	if err != nil {
		p.t.Fatal(err)
	}
	return all
}

// confirmWith sends a form of the page that asks who it is.
func (b *browser) confirmWith(form url.Values) (*http.Response, *goquery.Document) {
	b.p.t.Helper()
	_, doc := b.get("/account/confirm")
	form.Set("pending", doc.Find("input[name=pending]").AttrOr("value", ""))
	return b.post("/account/confirm", form)
}

// Whoever has the cookie of a session, and not the password, changes nothing of
// how people get in.
func TestAStolenSessionChangesNoWayIn(t *testing.T) {
	p := newPortal(t)
	dana, adele, lee := p.as(danaMail), p.as(adeleMail), p.as(leeMail)
	for _, b := range []*browser{dana, adele, lee} {
		appOf(t, b)
	}
	p.age()
	before := p.waysIn()
	routes := map[string]bool{}
	for _, r := range p.server.Routes() {
		routes[r.Method+" "+r.Path] = true
	}
	form := url.Values{"name": {"Thief"}, "scopes": {string(backup.ScopeRuns)}, "life": {"90"}, "reason": {"because I can"}, "require_factor": {"on"}, "credential": {"{}"}, "code": {"000000"}}
	for _, pattern := range handlers.Guarded() {
		t.Run(pattern, func(t *testing.T) {
			if !routes[pattern] {
				t.Fatal("there is no such route")
			}
			method, path, _ := strings.Cut(pattern, " ")
			if strings.HasPrefix(path, "/partner/staff") {
				path = strings.Replace(path, "{person}", string(p.people[samMail].ID), 1)
			}
			thief := p.browser()
			thief.cookies["holdfast"] = dana.cookies["holdfast"]
			if strings.HasPrefix(path, "/settings") {
				thief.cookies["holdfast"] = adele.cookies["holdfast"]
			}
			path = strings.NewReplacer("{passkey}", "none", "{provider}", "none").Replace(p.fillPath(path, backup.Mailbox{}))
			sent := form
			if method == http.MethodGet {
				sent = nil
			}
			res, _ := thief.do(method, path, sent)
			if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/account/confirm" {
				t.Errorf("%s = %d %s, want to be asked who it is", pattern, res.StatusCode, res.Header.Get("Location"))
			}
			for _, wrong := range []url.Values{{"current": {"not the password"}}, {"code": {"000000"}}, {"current": {""}}} {
				if res, _ := thief.confirmWith(wrong); res.StatusCode != http.StatusUnprocessableEntity && res.StatusCode != http.StatusTooManyRequests {
					t.Errorf("confirmed with %v = %d", wrong, res.StatusCode)
				}
			}
			thief.headers["Accept"] = "application/json"
			if res, _ := thief.do(method, path, sent); res.StatusCode != http.StatusForbidden {
				t.Errorf("a script gets %d, want 403", res.StatusCode)
			}
		})
	}
	if after := p.waysIn(); after != before {
		t.Errorf("something was changed:\n%s\n%s", before, after)
	}
	// And is slowed down as on the sign-in page, without holding the person back.
	thief := p.browser()
	thief.cookies["holdfast"] = dana.cookies["holdfast"]
	thief.post("/account/codes", nil)
	if res, _ := thief.confirmWith(url.Values{"current": {portalPassword}}); res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("after many wrong tries = %d, want 429", res.StatusCode)
	}
	dana.post("/account/codes", nil)
	if res, _ := dana.confirmWith(url.Values{"current": {portalPassword}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the person's own browser = %d, want 303", res.StatusCode)
	}
}

func TestEveryWayInIsGuarded(t *testing.T) {
	p := newPortal(t)
	// What a person does with their account, and why it is not asked for again.
	free := []string{"POST /account/password", // asks for the present one
		"POST /account/confirm", "POST /account/confirm/passkey/begin", "POST /account/confirm/passkey", // this is where it is asked for
		"POST /account/sessions/end", "POST /account/sessions/{session}/end"} // take rights away
	for _, r := range p.server.Routes() {
		pattern := r.Method + " " + r.Path
		if r.Method == http.MethodPost && strings.HasPrefix(r.Path, "/account/") && !slices.Contains(free, pattern) && !slices.Contains(handlers.Guarded(), pattern) {
			t.Errorf("%s asks for no confirmation", pattern)
		}
	}
}

// What was asked for is done after the confirmation, with all that was typed.
func TestConfirmingGoesOnWithWhatWasTyped(t *testing.T) {
	p := newPortal(t)
	b := p.as(danaMail)
	key, _ := appOf(t, b)
	p.age()
	thief := p.browser()
	thief.cookies["holdfast"] = b.cookies["holdfast"]
	b.headers["Referer"] = "http://example.com/partner/tokens" // where httptest says that requests go
	res, _ := b.post("/partner/tokens", url.Values{"name": {"Monitoring & more"}, "scopes": {string(backup.ScopeRuns), string(backup.ScopeMailboxes)}, "life": {"30"}})
	_, doc := b.follow(res)
	says(t, doc, "You are about to make an API token.")
	if doc.Find("a[href='/partner/tokens']:contains(Cancel)").Length() != 1 {
		t.Errorf("there is no way back: %s", text(doc.Find("main")))
	}
	wrong, doc := b.confirmWith(url.Values{"current": {"wrong"}})
	if wrong.StatusCode != http.StatusUnprocessableEntity || doc.Find("#current-error").Length() != 1 {
		t.Errorf("a wrong password = %d", wrong.StatusCode)
	}
	res, _ = b.confirmWith(url.Values{"current": {portalPassword}})
	_, doc = b.follow(res)
	says(t, doc, "The token was made.")
	list, err := p.store.APITokens(t.Context(), p.owner.Partner.ID)
	if err != nil || len(list) != 1 || list[0].Name != "Monitoring & more" || len(list[0].Scopes) != 2 {
		t.Fatalf("tokens: %+v, %v", list, err)
	}
	// Whoever had a copy of the session is out.
	if res, _ := thief.get("/partner/organizations"); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
		t.Errorf("the copied session goes on: %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	// For some minutes nobody asks again; what is wrong with a form comes back.
	if res, doc := b.post("/partner/tokens", url.Values{"name": {"Half"}, "life": {"30"}}); res.StatusCode != http.StatusUnprocessableEntity || doc.Find("input[name=name]").AttrOr("value", "") != "Half" {
		t.Errorf("a second token = %d", res.StatusCode)
	}
	p.age()
	b.post("/partner/tokens", url.Values{"name": {"Half"}, "life": {"30"}})
	code := codeAt(t, key, time.Now().Add(30*time.Second))
	res, doc = b.confirmWith(url.Values{"code": {code}})
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("input[name=name]").AttrOr("value", "") != "Half" {
		t.Errorf("a form with a mistake after a confirmation by code = %d: %s", res.StatusCode, text(doc.Find("main")))
	}
	if got := p.entries("", "session.confirm"); len(got) != 2 || !strings.HasSuffix(got[0], "by authenticator app") || !strings.HasSuffix(got[1], "by password") {
		t.Errorf("confirmations in the activity: %q", got)
	}
	// A code works once, here too.
	p.age()
	b.post("/account/codes", nil)
	if res, _ := b.confirmWith(url.Values{"code": {code}}); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("the same code again = %d", res.StatusCode)
	}
}

// A page confirms what it shows, and not what a thief has put in its place.
func TestAConfirmationIsForWhatThePageSays(t *testing.T) {
	p := newPortal(t)
	b := p.as(danaMail)
	appOf(t, b)
	p.age()
	thief := p.browser()
	thief.cookies["holdfast"] = b.cookies["holdfast"]
	b.post("/account/codes", nil)
	_, doc := b.get("/account/confirm")
	form := url.Values{"current": {portalPassword}, "pending": {doc.Find("input[name=pending]").AttrOr("value", "")}}
	thief.post("/partner/tokens", url.Values{"name": {"Thief"}, "scopes": {string(backup.ScopeRuns)}, "life": {"90"}})
	res, doc := b.post("/account/confirm", form)
	if res.StatusCode != http.StatusConflict || !strings.Contains(doc.Text(), "make an API token") {
		t.Errorf("another thing was confirmed: %d %s", res.StatusCode, text(doc.Find("main")))
	}
	if list, err := p.store.APITokens(t.Context(), p.owner.Partner.ID); err != nil || len(list) != 0 {
		t.Errorf("%d tokens, %v", len(list), err)
	}
	if res, _ := p.as(leeMail).post("/account/confirm", form); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/account" {
		t.Errorf("confirming when nothing waits = %d %s", res.StatusCode, res.Header.Get("Location"))
	}
}

// Who signs in only at an issuer confirms there, as the same person and anew.
func TestConfirmingAtAnIssuer(t *testing.T) {
	p, i, signIn := withIssuer(t)
	if _, err := p.raw().ExecContext(t.Context(), `UPDATE people SET password_hash = '' WHERE email = $1`, adeleMail); err != nil {
		t.Fatal(err)
	}
	b := p.browser()
	i.through(b, signIn, adeleThere)
	p.age()
	start := strings.Replace(signIn, "/sign-in/oidc/", "/account/confirm/providers/", 1)
	if res, _ := b.get(start); res.StatusCode != http.StatusNotFound {
		t.Errorf("confirming when nothing waits = %d", res.StatusCode)
	}
	res, _ := b.post("/account/password", url.Values{"password": {"three unrelated words"}, "again": {"three unrelated words"}})
	_, doc := b.follow(res)
	says(t, doc, "You are about to choose a password.")
	if doc.Find("#current").Length() != 0 {
		t.Error("a password is asked for, and there is none")
	}
	leave, _ := b.get(start)
	if to, err := url.Parse(leave.Header.Get("Location")); err != nil || to.Query().Get("prompt") != "login" || to.Query().Get("max_age") != "0" {
		t.Errorf("the issuer is asked at %s, want for a new sign-in", leave.Header.Get("Location"))
	}
	for name, c := range map[string]struct {
		user  func()
		says  string
		forge func(jwt.MapClaims)
	}{
		"somebody else":        {says: "is not connected to your account", forge: func(c jwt.MapClaims) { c["sub"] = "somebody else" }},
		"an old session there": {says: "could not be trusted", forge: func(c jwt.MapClaims) { c["auth_time"] = time.Now().Add(-time.Hour).Unix() }},
	} {
		i.forge = c.forge
		res, _ := i.through(b, start, adeleThere)
		if res.Header.Get("Location") != "/account/confirm" {
			t.Errorf("%s = %d %s", name, res.StatusCode, res.Header.Get("Location"))
			continue
		}
		_, doc := b.follow(res)
		says(t, doc, c.says)
	}
	i.forge = func(c jwt.MapClaims) { c["auth_time"] = time.Now().Unix() }
	if res, _ := i.through(b, start, adeleThere); res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/account" {
		t.Fatalf("confirmed at the issuer = %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	if res, _ := p.browser().post("/sign-in", url.Values{"email": {adeleMail}, "password": {"three unrelated words"}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the password that was typed before = %d", res.StatusCode)
	}
	if got := p.entries(p.orgs["Contoso Dental"].ID, "session.confirm"); len(got) != 1 || !strings.Contains(got[0], fmt.Sprintf("by Contoso ID (%s)", i.mock.Issuer())) {
		t.Errorf("confirmations in the activity: %q", got)
	}
}
