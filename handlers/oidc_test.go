package handlers_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/oauth2-proxy/mockoidc"

	"holdfast/backup"
	"holdfast/handlers"
	"holdfast/store"
)

// issuer is a real OpenID provider on loopback. forge, if set, changes the
// claims of the ID tokens that it gives; sign, if set, signs them instead.
type issuer struct {
	t     *testing.T
	mock  *mockoidc.MockOIDC
	forge func(jwt.MapClaims)
	sign  *mockoidc.Keypair
	// forged counts the tokens that were exchanged.
	forged int
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	m, err := mockoidc.NewServer(nil)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, mock: m}
	if err := m.AddMiddleware(i.tamper); err != nil {
		t.Fatal(err)
	}
	ln := httptest.NewUnstartedServer(nil).Listener
	if err := m.Start(ln, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Shutdown() })
	return i
}

// tamper exchanges the ID token in the answer of the token endpoint.
func (i *issuer) tamper(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.forge == nil && i.sign == nil || r.URL.Path != mockoidc.TokenEndpoint {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		var answer map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
			i.t.Errorf("token endpoint: %v", err)
			return
		}
		given, ok := answer["id_token"].(string)
		if !ok { // an error: the client's first guess of how to name itself
			w.WriteHeader(rec.Code)
			_, _ = w.Write(rec.Body.Bytes())
			return
		}
		i.forged++
		claims := jwt.MapClaims{}
		if _, _, err := new(jwt.Parser).ParseUnverified(given, claims); err != nil {
			i.t.Errorf("ID token: %v", err)
			return
		}
		if i.forge != nil {
			i.forge(claims)
		}
		key := i.mock.Keypair
		if i.sign != nil {
			key = i.sign
		}
		token, err := key.SignJWT(claims)
		if err != nil {
			i.t.Error(err)
		}
		answer["id_token"] = token
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// go through the issuer's pages as a user, and come back to the portal.
func (i *issuer) through(b *browser, start string, user *mockoidc.MockUser) (*http.Response, string) {
	i.t.Helper()
	res, doc := b.get(start)
	leave := res.Header.Get("Location")
	if !strings.HasPrefix(leave, i.mock.Issuer()) {
		i.t.Fatalf("%s = %d %s, want to leave for the issuer: %s", start, res.StatusCode, leave, doc.Text())
	}
	i.mock.QueueUser(user)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, leave, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	there, err := client.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer there.Body.Close()
	if body, _ := io.ReadAll(there.Body); there.StatusCode != http.StatusFound {
		i.t.Fatalf("the issuer answered %d %s", there.StatusCode, body)
	}
	back, err := url.Parse(there.Header.Get("Location"))
	if err != nil {
		i.t.Fatal(err)
	}
	res, doc = b.get(back.RequestURI())
	return res, doc.Text()
}

// withIssuer is a portal with one issuer of Contoso, which Adele has connected.
func withIssuer(t *testing.T, options ...func(*handlers.Server)) (*portal, *issuer, string) {
	t.Helper()
	p, i := newPortal(t, options...), newIssuer(t)
	admin := p.as(adeleMail)
	res, doc := admin.post("/settings/sign-in", url.Values{"name": {"Contoso ID"}, "issuer": {i.mock.Issuer()}, "client_id": {i.mock.ClientID}, "client_secret": {i.mock.ClientSecret}})
	if res.StatusCode != http.StatusSeeOther {
		t.Fatalf("adding the issuer = %d %s", res.StatusCode, doc.Text())
	}
	list, err := p.store.SignInProviders(t.Context(), p.owner.Partner.ID, p.orgs["Contoso Dental"].ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if res, _ := i.through(admin, "/account/providers/"+string(list[0].ID), adeleThere); res.Header.Get("Location") != "/account" {
		t.Fatalf("connecting = %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	if _, doc := admin.get("/account"); !strings.Contains(doc.Text(), "You sign in as adele@idp.example") {
		t.Fatalf("the account is not connected: %s", doc.Text())
	}
	return p, i, "/sign-in/oidc/" + string(list[0].ID)
}

var adeleThere = &mockoidc.MockUser{Subject: "adele-0001", Email: "adele@idp.example", PreferredUsername: "adele@idp.example"}

func TestSignInWithAnIssuer(t *testing.T) {
	p, i, start := withIssuer(t)
	b := p.browser()
	if res, text := i.through(b, start+"?next=/status", adeleThere); res.Header.Get("Location") != "/status" {
		t.Fatalf("sign-in = %d %s %s", res.StatusCode, res.Header.Get("Location"), text)
	}
	if res, _ := b.get("/status"); res.StatusCode != http.StatusOK {
		t.Errorf("/status = %d", res.StatusCode)
	}
	// An organization that needs a second factor takes the issuer's word for it.
	p.as(adeleMail).post("/settings/factor", url.Values{"require_factor": {"on"}})
	if res, _ := b.get("/dashboard"); res.StatusCode != http.StatusOK {
		t.Errorf("/dashboard = %d, want the issuer's sign-in to be enough", res.StatusCode)
	}
	// No open redirect.
	if res, _ := i.through(p.browser(), start+"?next=https://evil.example/", adeleThere); res.Header.Get("Location") != "/" {
		t.Errorf("next to another site leads to %s", res.Header.Get("Location"))
	}
}

func TestNobodyComesInByAnEMailAddress(t *testing.T) {
	p, i, start := withIssuer(t)
	// Somebody else at the issuer, who calls himself by the addresses of Adele.
	impostor := &mockoidc.MockUser{Subject: "impostor", Email: adeleMail, PreferredUsername: adeleMail, EmailVerified: true}
	b := p.browser()
	if res, text := i.through(b, start, impostor); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text, "Nobody here has connected") {
		t.Errorf("impostor = %d %s", res.StatusCode, text)
	}
	if res, _ := b.get("/dashboard"); !strings.HasPrefix(res.Header.Get("Location"), "/sign-in") {
		t.Errorf("/dashboard for the impostor = %d", res.StatusCode)
	}
	// Nor does he take over what is connected.
	nestor := p.as(nestorMail)
	list, err := p.store.SignInProviders(t.Context(), p.owner.Partner.ID, p.orgs["Contoso Dental"].ID)
	if err != nil {
		t.Fatal(err)
	}
	if res, _ := nestor.get("/account/providers/" + string(list[0].ID)); res.StatusCode != http.StatusNotFound {
		t.Errorf("another organization's issuer = %d, want 404", res.StatusCode)
	}
	lee := p.as(leeMail)
	if _, text := i.through(lee, "/account/providers/"+string(list[0].ID), adeleThere); strings.Contains(text, "You can sign in") {
		t.Error("Lee connected Adele's account")
	}
	_, doc := lee.get("/account")
	warns(t, doc, "Not connected: ")
	says(t, doc, "belongs to somebody else here")
}

func TestForgedTokensAreRefused(t *testing.T) {
	p, i, start := withIssuer(t)
	other, err := mockoidc.RandomKeypair(2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, forge := range map[string]func(jwt.MapClaims){
		"issuer":   func(c jwt.MapClaims) { c["iss"] = "https://evil.example" },
		"audience": func(c jwt.MapClaims) { c["aud"] = "another-client" },
		"party":    func(c jwt.MapClaims) { c["aud"] = []string{i.mock.ClientID, "another"}; c["azp"] = "another" },
		"nonce":    func(c jwt.MapClaims) { c["nonce"] = "of another sign-in" },
		"no nonce": func(c jwt.MapClaims) { delete(c, "nonce") },
		"expired":  func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"nobody":   func(c jwt.MapClaims) { c["sub"] = "" },
	} {
		i.forge = forge
		if res, text := i.through(p.browser(), start, adeleThere); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text, "could not be trusted") {
			t.Errorf("%s = %d %s", name, res.StatusCode, text)
		}
	}
	if i.forged != 7 {
		t.Errorf("%d forged tokens were looked at, want 7", i.forged)
	}
	i.forge, i.sign = nil, other
	if res, _ := i.through(p.browser(), start, adeleThere); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("signature of another key = %d", res.StatusCode)
	}
	i.sign = nil
	if res, _ := i.through(p.browser(), start, adeleThere); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the issuer's own token = %d, want signed in", res.StatusCode)
	}
}

func TestComingBackNeedsTheSameBrowserAndState(t *testing.T) {
	p, _, start := withIssuer(t)
	b := p.browser()
	res, _ := b.get(start)
	leave, err := url.Parse(res.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	q := leave.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("nonce") == "" || len(q.Get("state")) < 20 {
		t.Errorf("left with %v, want PKCE, nonce and state", q)
	}
	back := "/sign-in/oidc/callback?code=x&state=" + q.Get("state")
	for _, c := range []struct {
		who  *browser
		path string
	}{{p.browser(), back}, {b, "/sign-in/oidc/callback?code=x&state=other"}, {b, back}} {
		if res, doc := c.who.get(c.path); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), "not started in this browser") {
			t.Errorf("%s = %d %s", c.path, res.StatusCode, doc.Text())
		}
	}
	// The issuer's refusal is told.
	res, _ = b.get(start)
	leave, err = url.Parse(res.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if _, doc := b.get("/sign-in/oidc/callback?error=access_denied&state=" + leave.Query().Get("state")); !strings.Contains(doc.Text(), "did not sign you in") {
		t.Errorf("refusal = %s", doc.Text())
	}
}

func TestAnInvitationMayUseAnIssuer(t *testing.T) {
	for _, purpose := range []string{store.SetUpPassword, store.SetUpMailed} {
		t.Run(purpose, func(t *testing.T) { invitationByIssuer(t, purpose) })
	}
}

func invitationByIssuer(t *testing.T, purpose string) {
	p, i, start := withIssuer(t)
	token, err := p.store.NewSetUpLink(t.Context(), store.SetUpLink{Purpose: purpose, PersonID: p.people[leeMail].ID, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	link := "/set-up/" + token.Reveal()
	b := p.browser()
	_, doc := b.get(link)
	use := doc.Find("a[href*='/oidc/']").AttrOr("href", "")
	lee := &mockoidc.MockUser{Subject: "lee-0002", Email: "lee@idp.example"}
	// An account that is somebody else's keeps the link.
	if res, text := i.through(b, use, adeleThere); res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text, "belongs to somebody else") {
		t.Errorf("with Adele's account = %d %s", res.StatusCode, text)
	}
	if res, _ := i.through(b, use, lee); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("with an issuer = %d", res.StatusCode)
	}
	if res, _ := b.get("/dashboard"); res.StatusCode != http.StatusOK {
		t.Errorf("/dashboard = %d", res.StatusCode)
	}
	_, doc = p.as(adeleMail).get("/activity")
	says(t, doc, "with a set-up link")
	if res, _ := p.browser().get(link); res.StatusCode != http.StatusNotFound {
		t.Errorf("the link again = %d, want used up", res.StatusCode)
	}
	if res, _ := i.through(p.browser(), start, lee); res.StatusCode != http.StatusSeeOther {
		t.Errorf("sign-in afterwards = %d", res.StatusCode)
	}
}

func TestEntraOfManyTenantsTrustsOnlyNamedOnes(t *testing.T) {
	trusted, foreign := "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
	p := backup.SignInProvider{Issuer: "https://login.example/organizations/v2.0", Tenants: []string{strings.ToUpper(trusted)}}
	for _, c := range []struct {
		issuer, tenant string
		ok             bool
	}{
		{"https://login.example/" + trusted + "/v2.0", trusted, true},
		{"https://login.example/" + foreign + "/v2.0", foreign, false},
		{"https://login.example/" + foreign + "/v2.0", trusted, false},
		{"https://evil.example/" + trusted + "/v2.0", trusted, false},
		{"https://login.example//v2.0", "", false},
	} {
		if err := handlers.TrustedTenant(p, c.issuer, c.tenant); (err == nil) != c.ok {
			t.Errorf("issuer %s tenant %s = %v, want trusted %v", c.issuer, c.tenant, err, c.ok)
		}
	}
}

func TestIssuersAreCheckedBeforeTheyAreKept(t *testing.T) {
	p := newPortal(t)
	b := p.as(danaMail)
	nothing := httptest.NewServer(http.NotFoundHandler())
	defer nothing.Close()
	for name, c := range map[string]struct {
		form url.Values
		says string
	}{
		"empty":          {url.Values{}, "Enter a name."},
		"without TLS":    {url.Values{"name": {"X"}, "issuer": {"http://idp.example"}, "client_id": {"x"}}, "https://"},
		"not an issuer":  {url.Values{"name": {"X"}, "issuer": {nothing.URL}, "client_id": {"x"}}, "Nothing at this address"},
		"every tenant":   {url.Values{"name": {"X"}, "issuer": {backup.EntraIssuer}, "client_id": {"x"}}, "Name the directory (tenant) ids"},
		"without client": {url.Values{"name": {"X"}, "issuer": {nothing.URL}}, "Enter the client id"},
	} {
		res, doc := b.post("/partner/sign-in", c.form)
		if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), c.says) {
			t.Errorf("%s = %d, want %q", name, res.StatusCode, c.says)
		}
		if got := doc.Find("#issuer").AttrOr("value", ""); got != c.form.Get("issuer") {
			t.Errorf("%s: issuer came back as %q", name, got)
		}
	}
}

func TestRemovingAnIssuerEndsItsSessions(t *testing.T) {
	p, i, start := withIssuer(t)
	b := p.browser()
	i.through(b, start, adeleThere)
	id := strings.TrimPrefix(start, "/sign-in/oidc/")
	if res, _ := p.as(nestorMail).post("/settings/sign-in/"+id+"/remove", nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("removal by another organization = %d, want 404", res.StatusCode)
	}
	admin := p.as(adeleMail)
	admin.post("/settings/sign-in/"+id+"/remove", nil)
	if res, _ := b.get("/dashboard"); res.StatusCode == http.StatusOK {
		t.Error("the session that it signed in still works")
	}
	if res, _ := admin.get("/dashboard"); res.StatusCode != http.StatusOK {
		t.Error("a session by password was ended as well")
	}
}
