package handlers_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/pquerna/otp/totp"

	"holdfast/backup"
	"holdfast/handlers"
	"holdfast/store"
)

// appOf sets an authenticator app up and returns its key and the recovery codes.
func appOf(t *testing.T, b *browser) (key string, codes []string) {
	t.Helper()
	_, doc := b.get("/account/app")
	key = strings.ReplaceAll(doc.Find("#app-key").Text(), " ", "")
	_, again := b.get("/account/app")
	if other := strings.ReplaceAll(again.Find("#app-key").Text(), " ", ""); other != key || len(key) != 32 {
		t.Fatalf("keys %q and %q, want one of 160 bits", key, other)
	}
	if !strings.HasPrefix(doc.Find("img.qr").AttrOr("src", ""), "data:image/png;base64,") {
		t.Error("no QR code")
	}
	res, doc := b.post("/account/app", url.Values{"code": {"000000"}})
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("wrong code = %d %s", res.StatusCode, doc.Text())
	}
	// This code is good for half a minute at least, however slow the machine is, and
	// so is the next one, which signs in.
	res, _ = b.post("/account/app", url.Values{"code": {codeAt(t, key, time.Now())}})
	if res.StatusCode != http.StatusSeeOther {
		t.Fatalf("right code = %d", res.StatusCode)
	}
	_, doc = b.get("/account")
	doc.Find("#recovery-codes code").Each(func(_ int, c *goquery.Selection) { codes = append(codes, c.Text()) })
	if len(codes) != backup.RecoveryCodes {
		t.Fatalf("%d recovery codes", len(codes))
	}
	if _, doc = b.get("/account"); doc.Find("#recovery-codes").Length() > 0 {
		t.Error("the recovery codes are shown twice")
	}
	return key, codes
}

func codeAt(t *testing.T, key string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(key, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func passwordStep(b *browser, mail, next string) *http.Response {
	res, _ := b.post("/sign-in", url.Values{"email": {mail}, "password": {portalPassword}, "next": {next}})
	return res
}

func TestSecondFactorStandsBeforeTheSession(t *testing.T) {
	p := newPortal(t)
	key, codes := appOf(t, p.as(adeleMail))
	b := p.browser()
	if res := passwordStep(b, adeleMail, "/status"); res.Header.Get("Location") != "/sign-in/factor" {
		t.Fatalf("password alone leads to %s", res.Header.Get("Location"))
	}
	// Half a session is none.
	for _, path := range []string{"/dashboard", "/account", "/settings"} {
		if res, _ := b.get(path); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
			t.Errorf("%s with half a session = %d %s", path, res.StatusCode, res.Header.Get("Location"))
		}
	}
	if res, doc := b.post("/sign-in/factor", url.Values{"code": {"123456"}}); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), "not right") {
		t.Errorf("wrong code = %d", res.StatusCode)
	}
	code := codeAt(t, key, time.Now().Add(30*time.Second))
	if res, _ := b.post("/sign-in/factor", url.Values{"code": {code[:3] + " " + code[3:]}}); res.Header.Get("Location") != "/status" {
		t.Fatalf("right code = %d %s, want on to /status", res.StatusCode, res.Header.Get("Location"))
	}
	if res, _ := b.get("/status"); res.StatusCode != http.StatusOK {
		t.Errorf("/status after both = %d", res.StatusCode)
	}
	// A code works once, for anybody.
	other := p.browser()
	passwordStep(other, adeleMail, "")
	if res, _ := other.post("/sign-in/factor", url.Values{"code": {code}}); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("the same code again = %d, want refused", res.StatusCode)
	}
	// So does a recovery code, however it is typed.
	typed := strings.ToLower(strings.ReplaceAll(codes[3], "-", " "))
	if res, _ := other.post("/sign-in/factor", url.Values{"recovery": {typed}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("recovery code = %d, want signed in", res.StatusCode)
	}
	third := p.browser()
	passwordStep(third, adeleMail, "")
	if res, _ := third.post("/sign-in/factor", url.Values{"recovery": {codes[3]}}); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("the same recovery code again = %d, want refused", res.StatusCode)
	}
}

func TestCodesCannotBeGuessed(t *testing.T) {
	p := newPortal(t)
	key, codes := appOf(t, p.as(adeleMail))
	b := p.browser()
	passwordStep(b, adeleMail, "")
	for range 5 {
		b.post("/sign-in/factor", url.Values{"code": {"000000"}})
	}
	for _, form := range []url.Values{{"code": {codeAt(t, key, time.Now().Add(30*time.Second))}}, {"recovery": {codes[0]}}} {
		if res, _ := b.post("/sign-in/factor", form); res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
			t.Errorf("after five wrong codes = %d, want 429", res.StatusCode)
		}
	}
	// The person elsewhere is not locked out.
	other := p.browser()
	other.from = "198.51.100.7:999"
	passwordStep(other, adeleMail, "")
	if res, _ := other.post("/sign-in/factor", url.Values{"code": {codeAt(t, key, time.Now().Add(30*time.Second))}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("sign-in from elsewhere = %d, want 303", res.StatusCode)
	}
	_, doc := p.as(nestorMail).get("/activity")
	if strings.Contains(doc.Find("tbody").Text(), "second factor") {
		t.Error("another organization reads of it")
	}
	if _, doc = other.get("/activity"); !strings.Contains(doc.Find("tbody").Text(), "Sign-in refused") {
		t.Error("the refusals are not in the log")
	}
}

func TestPartnersNeedASecondFactor(t *testing.T) {
	p := newPortal(t, func(s *handlers.Server) { s.FactorOptional = false })
	b := p.as(danaMail)
	for _, path := range []string{"/partner/organizations", "/partner/tokens", "/partner/activity"} {
		if res, _ := b.get(path); res.Header.Get("Location") != "/account" {
			t.Errorf("%s without a second factor = %d %s, want to be sent to set one up", path, res.StatusCode, res.Header.Get("Location"))
		}
	}
	if _, doc := b.get("/account"); !strings.Contains(doc.Text(), "Set up a second factor first") {
		t.Error("the account page does not say why")
	}
	appOf(t, b)
	if res, _ := b.get("/partner/organizations"); res.StatusCode != http.StatusOK {
		t.Errorf("/partner/organizations with a second factor = %d", res.StatusCode)
	}
	// An organization chooses for its own people.
	adele := p.as(adeleMail)
	if res, _ := adele.get("/dashboard"); res.StatusCode != http.StatusOK {
		t.Fatalf("/dashboard = %d", res.StatusCode)
	}
	adele.post("/settings/factor", url.Values{"require_factor": {"on"}})
	for _, who := range []*browser{adele, p.as(leeMail)} {
		if res, _ := who.get("/dashboard"); res.Header.Get("Location") != "/account" {
			t.Errorf("/dashboard = %d %s, want to be sent to set a second factor up", res.StatusCode, res.Header.Get("Location"))
		}
	}
}

func TestPasswordChangeEndsOtherSessions(t *testing.T) {
	p := newPortal(t)
	b, elsewhere := p.as(adeleMail), p.as(adeleMail)
	change := func(current, fresh, again string) (*http.Response, string) {
		res, doc := b.post("/account/password", url.Values{"current": {current}, "password": {fresh}, "again": {again}})
		return res, doc.Text()
	}
	const fresh = "quite another phrase"
	for _, c := range []struct{ current, fresh, again, says string }{
		{"wrong", fresh, fresh, "This is not your password"}, {portalPassword, "short", "short", "at least 12"}, {portalPassword, fresh, "x", "differ"},
	} {
		if res, text := change(c.current, c.fresh, c.again); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text, c.says) {
			t.Errorf("change from %q to %q = %d, want %q", c.current, c.fresh, res.StatusCode, c.says)
		}
	}
	if res, _ := change(portalPassword, fresh, fresh); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("change = %d", res.StatusCode)
	}
	if res, _ := b.get("/dashboard"); res.StatusCode != http.StatusOK {
		t.Errorf("the browser that changed it = %d, want still signed in", res.StatusCode)
	}
	if res, _ := elsewhere.get("/dashboard"); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
		t.Errorf("the other browser = %d, want signed out", res.StatusCode)
	}
	if res, _ := p.browser().post("/sign-in", url.Values{"email": {adeleMail}, "password": {fresh}}); res.StatusCode != http.StatusSeeOther {
		t.Errorf("sign-in with the new password = %d", res.StatusCode)
	}
}

func TestSessionsAreListedAndEnded(t *testing.T) {
	p := newPortal(t)
	b, second, third := p.as(adeleMail), p.as(adeleMail), p.as(adeleMail)
	lee := p.as(leeMail)
	list := func() []backup.Session {
		sessions, err := p.store.Sessions(t.Context(), p.people[adeleMail].ID)
		if err != nil {
			t.Fatal(err)
		}
		return sessions
	}
	if n := len(list()); n != 3 {
		t.Fatalf("%d sessions, want 3", n)
	}
	_, doc := b.get("/account")
	if n := doc.Find("form[action^='/account/sessions/'][action$='/end']").Length(); n != 3 { // two, and all others
		t.Errorf("%d buttons to sign out, want 3", n)
	}
	// Nobody ends another person's session.
	for _, s := range list() {
		lee.post("/account/sessions/"+string(s.ID)+"/end", nil)
	}
	if n := len(list()); n != 3 {
		t.Fatalf("%d sessions after another person tried to end them", n)
	}
	_, doc = b.get("/account")
	action := doc.Find("form[action^='/account/sessions/']:not([action='/account/sessions/end'])").First().AttrOr("action", "")
	b.post(action, nil)
	if n := len(list()); n != 2 {
		t.Errorf("%d sessions after one was ended, want 2", n)
	}
	b.post("/account/sessions/end", nil)
	for _, other := range []*browser{second, third} {
		if res, _ := other.get("/dashboard"); res.StatusCode == http.StatusOK {
			t.Error("another browser is still signed in")
		}
	}
	if res, _ := b.get("/dashboard"); res.StatusCode != http.StatusOK {
		t.Errorf("this browser = %d, want signed in", res.StatusCode)
	}
}

func TestFactorsAreReplacedAndRemoved(t *testing.T) {
	p := newPortal(t)
	b := p.as(adeleMail)
	_, codes := appOf(t, b)
	b.post("/account/codes", nil)
	_, doc := b.get("/account")
	var fresh []string
	doc.Find("#recovery-codes code").Each(func(_ int, c *goquery.Selection) { fresh = append(fresh, c.Text()) })
	if len(fresh) != len(codes) || slices.Contains(fresh, codes[0]) {
		t.Errorf("new codes = %v", fresh)
	}
	if ok, err := p.store.UseRecoveryCode(t.Context(), p.people[adeleMail].ID, codes[0]); ok || err != nil {
		t.Errorf("an old code = %v, %v; want replaced", ok, err)
	}
	b.post("/account/app/remove", nil)
	f, err := p.store.Factors(t.Context(), p.people[adeleMail].ID)
	if err != nil || f.Any() || f.Recovery != 0 {
		t.Errorf("factors after removal = %+v, %v", f, err)
	}
	if res := passwordStep(p.browser(), adeleMail, ""); res.Header.Get("Location") == "/sign-in/factor" {
		t.Error("sign-in still asks for a factor")
	}
}

func TestHalfSessionsEndSoon(t *testing.T) {
	p := newPortal(t)
	appOf(t, p.as(adeleMail))
	b := p.browser()
	passwordStep(b, adeleMail, "")
	if err := p.store.DeleteExpiredSessions(t.Context(), time.Now().Add(11*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if res, _ := b.get("/sign-in/factor"); res.Header.Get("Location") != "/sign-in" {
		t.Errorf("half a session after 11 minutes = %d %s, want to start again", res.StatusCode, res.Header.Get("Location"))
	}
}

// A link that was sent by e-mail stands for the password: whoever reads the
// mailbox still lacks the second factor.
func TestALinkDoesNotReplaceTheSecondFactor(t *testing.T) {
	p := newPortal(t)
	key, _ := appOf(t, p.as(adeleMail))
	token, err := p.store.NewSetUpLink(t.Context(), store.SetUpLink{Purpose: store.SetUpMailed, PersonID: p.people[adeleMail].ID, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	b := p.browser()
	res, _ := b.post("/set-up/"+token.Reveal(), url.Values{"password": {"a thief's own words"}, "again": {"a thief's own words"}})
	if res.Header.Get("Location") != "/sign-in/factor" {
		t.Errorf("the link leads to %d %s, want the second step", res.StatusCode, res.Header.Get("Location"))
	}
	if res, _ := b.get("/dashboard"); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
		t.Errorf("/dashboard with the link alone = %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	if res, _ = b.post("/sign-in/factor", url.Values{"code": {codeAt(t, key, time.Now().Add(30*time.Second))}}); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("with the second factor = %d, want 303", res.StatusCode)
	}
	_, doc := b.get("/dashboard")
	says(t, doc, "Your password is set. You are signed in.")
	_, doc = b.get("/activity")
	says(t, doc, "Chose a password with a set-up link")
	says(t, doc, "by password and authenticator app")
}
