package handlers_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/handlers"
	"holdfast/store"
)

func TestHashIsArgon2idInPHCForm(t *testing.T) {
	hash, err := handlers.HashPassword(t.Context(), "a few unrelated words")
	if err != nil {
		t.Fatal(err)
	}
	if want := "$argon2id$v=19$m=19456,t=2,p=1$"; !strings.HasPrefix(hash, want) {
		t.Errorf("hash = %s, want prefix %s", hash, want)
	}
	for password, want := range map[string]bool{"a few unrelated words": true, "a few unrelated word": false, "": false} {
		if got, err := handlers.VerifyPassword(t.Context(), hash, password); got != want || err != nil {
			t.Errorf("verify %q = %v, %v; want %v", password, got, err, want)
		}
	}
	for _, broken := range []string{"x", "$argon2i$v=19$m=19456,t=2,p=1$AAAA$AAAA", "$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAA", "$argon2id$v=19$m=19456,t=2,p=1$AAAA$"} {
		if ok, err := handlers.VerifyPassword(t.Context(), broken, ""); ok || err == nil {
			t.Errorf("verify with hash %q = %v, %v; want an error", broken, ok, err)
		}
	}
	if ok, err := handlers.VerifyPassword(t.Context(), "", ""); ok || err != nil {
		t.Errorf("nobody's password = %v, %v; want false", ok, err)
	}
}

func TestWrongSignInsLookAlike(t *testing.T) {
	p := newPortal(t)
	var pages []string
	for _, form := range []url.Values{
		{"email": {"someone@example.org"}, "password": {"whatever it may be"}},
		{"email": {"someone@example.org"}, "password": {portalPassword}},
	} {
		res, doc := p.browser().post("/sign-in", form)
		if res.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("unknown address = %d, want 422", res.StatusCode)
		}
		if got := doc.Find("#email").AttrOr("value", ""); got != form.Get("email") {
			t.Errorf("e-mail field = %q, want what was typed", got)
		}
		if _, ok := doc.Find("#password").Attr("value"); ok {
			t.Error("the password came back")
		}
		pages = append(pages, text(doc.Find("main")))
	}
	_, doc := p.browser().post("/sign-in", url.Values{"email": {adeleMail}, "password": {"not the password"}})
	pages = append(pages, text(doc.Find("main")))
	if pages[0] != pages[2] || pages[1] != pages[2] {
		t.Errorf("the pages tell who has an account:\n%s\n%s", pages[0], pages[2])
	}
}

// TestWrongSignInsTakeTheSameWork counts the hashes of a sign-in, which are
// nearly all of its time: one, whether somebody has the address or nobody, and
// whether there is a password to compare with.
func TestWrongSignInsTakeTheSameWork(t *testing.T) {
	p := newPortal(t)
	for name, mail := range map[string]string{"without a password": "issuer@contoso.example", "of a suspended organization": "asleep@fabrikam.example"} {
		person := backup.Person{ID: backup.NewID[backup.PersonID](), Name: name, Email: mail}
		org := p.orgs["Contoso Dental"].ID
		if strings.HasPrefix(mail, "asleep") {
			person.PasswordHash, org = p.people[nestorMail].PasswordHash, p.orgs["Fabrikam Legal"].ID
		}
		if err := p.store.CreatePerson(t.Context(), person, backup.Membership{OrgID: org, Role: backup.RoleViewer}, p.owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.store.SetSuspended(t.Context(), p.owner.Partner.ID, p.orgs["Fabrikam Legal"].ID, true, "a test", p.owner); err != nil {
		t.Fatal(err)
	}
	appOf(t, p.as(leeMail))
	b := p.as(adeleMail)
	if res, _ := b.post("/settings/users", url.Values{"name": {"Quinn"}, "email": {"invited@contoso.example"}, "role": {"viewer"}}); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("invite = %d", res.StatusCode)
	}
	answers := map[string]string{}
	for _, mail := range []string{"nobody@contoso.example", adeleMail, leeMail, danaMail, "issuer@contoso.example", "asleep@fabrikam.example", "invited@contoso.example"} {
		for _, password := range []string{"not the password", "x", strings.Repeat("x", 300)} {
			n := handlers.CountHashes(func() {
				res, doc := p.browser().post("/sign-in", url.Values{"email": {mail}, "password": {password}})
				page, err := doc.Html()
				if err != nil {
					t.Fatal(err)
				}
				got := strings.ReplaceAll(fmt.Sprint(res.StatusCode, res.Header, page), mail, "ADDRESS")
				if first, ok := answers[password]; ok && got != first {
					t.Errorf("the answer to %s differs:\n%s\n%s", mail, got, first)
				}
				answers[password] = got
			})
			if n != 1 {
				t.Errorf("a sign-in as %s with %d characters made %d hashes, want 1", mail, len(password), n)
			}
		}
	}
}

func TestTooManyFailedSignInsHaveToWait(t *testing.T) {
	p := newPortal(t)
	attacker := p.browser()
	wrong := url.Values{"email": {adeleMail}, "password": {"not the password"}}
	for i := range 5 {
		if res, _ := attacker.post("/sign-in", wrong); res.StatusCode != http.StatusUnprocessableEntity {
			t.Fatalf("try %d = %d, want 422", i+1, res.StatusCode)
		}
	}
	right := url.Values{"email": {strings.ToUpper(adeleMail)}, "password": {portalPassword}}
	res, doc := attacker.post("/sign-in", right)
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("sixth try = %d, Retry-After %q; want 429 with a time", res.StatusCode, res.Header.Get("Retry-After"))
	}
	says(t, doc, "Too many failed sign-ins. Wait 15 minutes")
	// The person is somewhere else, and is not locked out.
	other := p.browser()
	other.from = "198.51.100.7:999"
	if res, _ := other.post("/sign-in", right); res.StatusCode != http.StatusSeeOther {
		t.Errorf("sign-in from another address = %d, want 303", res.StatusCode)
	}
	// Two more addresses of the attacker's network do not help.
	attacker.from = "[2001:db8::1]:1"
	for range 5 {
		attacker.post("/sign-in", wrong)
	}
	attacker.from = "[2001:db8::2]:1"
	if res, _ := attacker.post("/sign-in", right); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("try from the same network = %d, want 429", res.StatusCode)
	}
}

func TestManyTriesAtOnceDoNotSlipThrough(t *testing.T) {
	p := newPortal(t)
	answers := make(chan int)
	for range 20 {
		go func() {
			res, _ := p.browser().post("/sign-in", url.Values{"email": {adeleMail}, "password": {"not the password"}})
			answers <- res.StatusCode
		}()
	}
	compared := 0
	for range 20 {
		if <-answers == http.StatusUnprocessableEntity {
			compared++
		}
	}
	if compared > 5 {
		t.Errorf("%d of 20 passwords were compared, want at most 5", compared)
	}
}

func TestSignInMakesANewSession(t *testing.T) {
	p := newPortal(t)
	b := p.as(leeMail)
	before := b.cookies["holdfast"]
	if before == "" {
		t.Fatal("no session cookie")
	}
	res, _ := b.post("/sign-in", url.Values{"email": {adeleMail}, "password": {portalPassword}})
	after := b.cookies["holdfast"]
	if res.StatusCode != http.StatusSeeOther || after == before {
		t.Fatalf("second sign-in = %d, cookie changed: %v", res.StatusCode, after != before)
	}
	old := p.browser()
	old.cookies["holdfast"] = before
	if res, _ := old.get("/dashboard"); res.Header.Get("Location") != "/sign-in?next=%2Fdashboard" {
		t.Errorf("the session before = %d %s, want to be sent to sign in", res.StatusCode, res.Header.Get("Location"))
	}
	// A cookie that somebody else put there is nobody's.
	planted := p.browser()
	planted.cookies["holdfast"] = "planted"
	planted.post("/sign-in", url.Values{"email": {adeleMail}, "password": {portalPassword}})
	if planted.cookies["holdfast"] == "planted" {
		t.Error("the planted cookie was kept")
	}
}

func TestSignOutEndsTheSession(t *testing.T) {
	p := newPortal(t)
	b := p.acting(danaMail, "Contoso Dental")
	cookie := b.cookies["holdfast"]
	res, _ := b.post("/sign-out", nil)
	_, doc := b.follow(res)
	says(t, doc, "You are signed out.")
	if _, ok := b.cookies["holdfast"]; ok {
		t.Error("the cookie stayed")
	}
	b.cookies["holdfast"] = cookie
	if res, _ := b.get("/partner/organizations"); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
		t.Errorf("the old cookie = %d, want to be sent to sign in", res.StatusCode)
	}
}

func TestCookieKeepsToItself(t *testing.T) {
	for _, secure := range []bool{false, true} {
		p := newPortal(t, func(s *handlers.Server) { s.Secure = secure })
		res, _ := p.browser().post("/sign-in", url.Values{"email": {adeleMail}, "password": {portalPassword}})
		name := "holdfast"
		if secure {
			name = "__Host-holdfast"
		}
		for _, c := range res.Cookies() {
			if c.Name != name && c.Name != name+"-browser" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.Secure != secure {
				t.Errorf("cookie with TLS %v = %s", secure, c)
			}
		}
		if len(res.Cookies()) != 2 {
			t.Errorf("%d cookies, want the session and the browser", len(res.Cookies()))
		}
		if got := res.Header.Get("Strict-Transport-Security") != ""; got != secure {
			t.Errorf("Strict-Transport-Security with TLS %v: %v", secure, got)
		}
	}
}

func TestSignInLeadsOnWithinThePortalOnly(t *testing.T) {
	p := newPortal(t)
	for next, want := range map[string]string{
		"/browse?q=a": "/browse?q=a", "https://evil.example": "/", "//evil.example": "/", `/\evil.example`: "/", "javascript:alert(1)": "/", "": "/",
	} {
		res, _ := p.browser().post("/sign-in", url.Values{"email": {adeleMail}, "password": {portalPassword}, "next": {next}})
		if got := res.Header.Get("Location"); got != want {
			t.Errorf("next %q leads to %q, want %q", next, got, want)
		}
	}
}

func TestFirstLinkSetsUpOnce(t *testing.T) {
	p := newPortal(t)
	empty, err := store.Open(t.Context(), store.Config{URL: t.TempDir() + "/new.db", RootKey: []byte(strings.Repeat("k", 32))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { empty.Close() })
	p.server = &handlers.Server{Store: empty, FactorOptional: true, SessionKey: []byte(strings.Repeat("s", 32)), PublicURL: "http://127.0.0.1", Log: p.server.Log}
	p.handler = p.server.Handler()
	token, err := empty.NewSetUpLink(t.Context(), store.SetUpLink{Purpose: store.SetUpFirst, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	path := "/set-up/" + token.Reveal()
	b := p.browser()
	form := url.Values{"partner": {"Northwind"}, "name": {"Dana"}, "email": {"dana@"}, "password": {"short"}, "again": {"shorter"}}
	res, doc := b.post(path, form)
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#email-error").Length() != 1 || doc.Find("#password-error").Length() != 1 {
		t.Fatalf("wrong form = %d: %s", res.StatusCode, text(doc.Find("main")))
	}
	if got := doc.Find("#partner").AttrOr("value", ""); got != "Northwind" {
		t.Errorf("company = %q, want what was typed", got)
	}
	form.Set("email", "dana@northwind.example")
	form.Set("password", "a few unrelated words")
	if _, doc := b.post(path, form); doc.Find("#again-error").Length() != 1 {
		t.Error("two different passwords were taken")
	}
	form.Set("again", "a few unrelated words")
	res, _ = b.post(path, form)
	res, _ = b.follow(res)
	_, doc = b.follow(res)
	says(t, doc, "Holdfast is set up. Create your first organization.")
	for _, again := range []*browser{p.browser(), b} {
		if res, doc := again.get(path); res.StatusCode != http.StatusNotFound {
			t.Errorf("the link again = %d: %s", res.StatusCode, text(doc.Find("main")))
		}
		if res, _ := again.post(path, form); res.StatusCode != http.StatusNotFound {
			t.Errorf("the link used again = %d, want 404", res.StatusCode)
		}
	}
}

func TestPasswordLinkEndsTheOtherSessions(t *testing.T) {
	p := newPortal(t)
	before := p.as(leeMail)
	token, err := p.store.NewSetUpLink(t.Context(), store.SetUpLink{Purpose: store.SetUpPassword, PersonID: p.people[leeMail].ID, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	b := p.browser()
	_, doc := b.get("/set-up/" + token.Reveal())
	says(t, doc, "For Lee Gu, lee@contoso.example.")
	res, _ := b.post("/set-up/"+token.Reveal(), url.Values{"password": {"quite another password"}, "again": {"quite another password"}})
	if res.StatusCode != http.StatusSeeOther {
		t.Fatalf("choose a password = %d", res.StatusCode)
	}
	if res, _ := before.get("/dashboard"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the session before = %d, want to be sent to sign in", res.StatusCode)
	}
	if res, _ := b.get("/dashboard"); res.StatusCode != http.StatusOK {
		t.Errorf("the new session = %d, want 200", res.StatusCode)
	}
	for password, want := range map[string]int{portalPassword: http.StatusUnprocessableEntity, "quite another password": http.StatusSeeOther} {
		if res, _ := p.browser().post("/sign-in", url.Values{"email": {leeMail}, "password": {password}}); res.StatusCode != want {
			t.Errorf("sign in with %q = %d, want %d", password, res.StatusCode, want)
		}
	}
}

func TestTimeEndsActingSessionsAndLinks(t *testing.T) {
	if _, err := passwordHash(); err != nil { // made outside, where the limit of hashes lives
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPortal(t)
		token, err := p.store.NewSetUpLink(t.Context(), store.SetUpLink{Purpose: store.SetUpPassword, PersonID: p.people[leeMail].ID, ExpiresAt: time.Now().Add(24 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		b := p.acting(samMail, "Contoso Dental")
		time.Sleep(59 * time.Minute)
		_, doc := b.get("/dashboard")
		says(t, doc, "Sam Okafor (Northwind MSP) is acting for Contoso Dental · ends in 1 min")
		time.Sleep(time.Minute)
		res, _ := b.post("/settings", url.Values{"name": {"Changed"}})
		if res.StatusCode != http.StatusSeeOther {
			t.Fatalf("after 60 minutes = %d, want a redirect", res.StatusCode)
		}
		_, doc = b.follow(res)
		warns(t, doc, "Acting has ended: it lasts 60 minutes at most.")
		says(t, doc, "What you sent last was not done.")
		if org, err := p.store.OrganizationByID(t.Context(), p.orgs["Contoso Dental"].ID); err != nil || org.Name != "Contoso Dental" {
			t.Errorf("organization = %q, %v; want its name as before", org.Name, err)
		}
		time.Sleep(13 * time.Hour)
		if res, _ := b.get("/partner/organizations"); res.StatusCode != http.StatusSeeOther {
			t.Errorf("after 13 hours = %d, want to be sent to sign in", res.StatusCode)
		}
		time.Sleep(12 * time.Hour)
		if res, _ := p.browser().get("/set-up/" + token.Reveal()); res.StatusCode != http.StatusNotFound {
			t.Errorf("an old link = %d, want 404", res.StatusCode)
		}
	})
}

func TestActingNamesBothAndStops(t *testing.T) {
	p := newPortal(t)
	b := p.as(samMail)
	path := "/partner/organizations/" + string(p.orgs["Contoso Dental"].ID) + "/act"
	res, doc := b.post(path, url.Values{"reason": {" a"}})
	if res.StatusCode != http.StatusUnprocessableEntity || doc.Find("#reason-error").Length() != 1 {
		t.Errorf("without a reason = %d: %s", res.StatusCode, text(doc.Find("#act").Parent()))
	}
	b.post(path, url.Values{"reason": {"ticket 4711"}})
	b.post("/settings", url.Values{"name": {"Contoso Dentists"}})
	for _, page := range []string{"/dashboard", "/browse", "/status", "/activity", "/settings", "/settings/credentials", "/add-backup", "/partner/organizations", "/nowhere"} {
		if _, doc := b.get(page); doc.Find(".acting button").Text() != "Stop acting" {
			t.Errorf("%s has no band of acting", page)
		}
	}
	_, doc = b.get("/activity")
	says(t, doc, "Sam Okafor (Northwind MSP) <sam@northwind.example> acting for Contoso Dental Renamed the organization")
	says(t, doc, "reason: ticket 4711")
	res, _ = b.post("/stop-acting", nil)
	_, doc = b.follow(res)
	says(t, doc, "You stopped acting for Contoso Dentists.")
	if doc.Find(".acting").Length() != 0 {
		t.Error("the band stayed")
	}
	if res, _ := b.get("/dashboard"); res.Header.Get("Location") != "/partner/organizations" {
		t.Errorf("dashboard afterwards = %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	_, doc = p.as(adeleMail).get("/activity")
	says(t, doc, "Stopped acting for the organization")
}

func TestClientAddressIsBelievedFromTrustedProxiesOnly(t *testing.T) {
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:1", "203.0.113.9", "192.0.2.1"},
		{"10.0.0.1:1", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:1", "198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"},
		{"10.0.0.1:1", "made up, 10.0.0.2", "10.0.0.2"},
		{"10.0.0.1:1", "", "10.0.0.1"},
	} {
		t.Run(fmt.Sprint(c.remote, c.forwarded), func(t *testing.T) {
			p := newPortal(t, func(s *handlers.Server) { s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
			b := p.browser()
			b.from, b.headers["X-Forwarded-For"] = c.remote, c.forwarded
			b.post("/sign-in", url.Values{"email": {adeleMail}, "password": {portalPassword}})
			list, _, err := p.store.Activity(t.Context(), "", p.orgs["Contoso Dental"].ID, store.ActivityQuery{Page: 1, Size: 1})
			if err != nil || len(list) != 1 || list[0].Address != c.want {
				t.Errorf("recorded %+v, %v; want address %s", list, err, c.want)
			}
		})
	}
}

func TestWithoutAPasswordNobodySignsIn(t *testing.T) {
	p := newPortal(t)
	person := backup.Person{ID: backup.NewID[backup.PersonID](), Name: "Nobody", Email: "nobody@example.org"}
	if err := p.store.CreatePerson(t.Context(), person, backup.Membership{OrgID: p.orgs["Contoso Dental"].ID, Role: backup.RoleAdmin}, p.owner); err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{" ", "a", strings.Repeat("x", 300)} {
		if res, _ := p.browser().post("/sign-in", url.Values{"email": {person.Email}, "password": {password}}); res.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("sign in with %q = %d, want 422", password, res.StatusCode)
		}
	}
}
