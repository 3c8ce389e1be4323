package simulator_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"holdfast/backup/m365/simulator"
)

func (w *world) token(tenant string, form url.Values) reply {
	w.Helper()
	return w.do("POST", loginURL+"/"+tenant+"/oauth2/v2.0/token", "", form)
}

func authorizeURL(q url.Values) string {
	base := url.Values{"client_id": {simulator.MainClientID}, "response_type": {"code"}, "redirect_uri": {redirect}, "scope": {setup}, "state": {"s"}, "prompt": {"login"}}
	for k, v := range q {
		base[k] = v
	}
	return loginURL + "/organizations/oauth2/v2.0/authorize?" + base.Encode()
}

func TestAuthorizeRefusesWhatItCanNotTrustWithAPage(t *testing.T) {
	w := newWorld(t)
	for name, q := range map[string]url.Values{
		"other redirect":    {"redirect_uri": {redirect + "/"}},
		"unknown client":    {"client_id": {"11111111-2222-3333-4444-555555555555"}},
		"no redirect":       {"redirect_uri": {""}},
		"redirect of other": {"redirect_uri": {"https://evil.example/"}},
	} {
		r := w.get(authorizeURL(q), "")
		if r.Status != 400 || r.Header.Get("Location") != "" || !strings.Contains(string(r.Body), "AADSTS") {
			t.Errorf("%s: %d, Location %q", name, r.Status, r.Header.Get("Location"))
		}
	}
	for name, q := range map[string]url.Values{
		"response type":     {"response_type": {"token"}},
		"unknown scope":     {"scope": {"openid Nonsense.Read"}},
		"unknown resource":  {"scope": {"https://example.com/.default"}},
		".default and more": {"scope": {"https://graph.microsoft.com/.default https://graph.microsoft.com/User.Read"}},
		"nobody signed in":  {"prompt": {"none"}},
	} {
		if back := w.returned(w.get(authorizeURL(q), "")); back.Get("error") == "" || back.Get("state") != "s" {
			t.Errorf("%s: came back with %v", name, back)
		}
	}
	unknown := w.get(loginURL+"/nowhere.onmicrosoft.com/oauth2/v2.0/authorize?client_id="+simulator.MainClientID, "")
	if unknown.Status != 400 || !strings.Contains(string(unknown.Body), "AADSTS90002") {
		t.Errorf("unknown tenant: %d", unknown.Status)
	}
}

func TestSignInPages(t *testing.T) {
	w := newWorld(t)
	start := authorizeURL(nil)
	r := w.want(w.get(start, ""), 200, "page")
	if csp := r.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("CSP = %q", csp)
	}
	_, r2 := w.submit(start, r, "next", "true", url.Values{"login": {admin}, "passwd": {"wrong"}})
	if title(r2) != "Sign in" || !strings.Contains(string(r2.Body), "incorrect") {
		t.Errorf("wrong password: %q", title(r2))
	}
	at, consent := w.submit(start, r, "next", "true", url.Values{"login": {admin}, "passwd": {password}})
	if title(consent) != "Permissions requested" {
		t.Fatalf("after sign-in: %q", title(consent))
	}
	for _, name := range []string{"Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All", "Organization.Read.All", "Northwind MSP"} {
		if !strings.Contains(string(consent.Body), name) {
			t.Errorf("consent page does not name %s", name)
		}
	}
	_, cancelled := w.submit(at, consent, "consent", "cancel", nil)
	if back := w.returned(cancelled); back.Get("error") != "access_denied" || back.Get("error_subcode") != "cancel" || back.Get("state") != "s" {
		t.Errorf("cancelled: %v", back)
	}
	if back := w.signIn(start, admin, password); back.Get("code") == "" {
		t.Errorf("accepted: %v", back)
	}
	// The second time nobody is asked, but for the account.
	pick := w.want(w.get(authorizeURL(url.Values{"prompt": {"select_account"}}), ""), 200, "pick")
	if title(pick) != "Pick an account" {
		t.Errorf("select_account: %q", title(pick))
	}
	if back := w.returned(w.get(authorizeURL(url.Values{"prompt": {"none"}}), "")); back.Get("code") == "" {
		t.Errorf("prompt=none when signed in: %v", back)
	}
	// People without a role can't consent.
	plain := authorizeURL(nil)
	_, need := w.submit(plain, w.get(plain, ""), "next", "true", url.Values{"login": {"priya@" + contoso}, "passwd": {password}})
	if title(need) != "Need admin approval" || !strings.Contains(string(need.Body), "AADSTS90094") {
		t.Errorf("plain user: %q", title(need))
	}
	// Nobody gets into another tenant.
	other := strings.Replace(plain, "/organizations/", "/fabrikamlegal.onmicrosoft.com/", 1)
	_, wrong := w.submit(other, w.get(other, ""), "next", "true", url.Values{"login": {admin}, "passwd": {password}})
	if !strings.Contains(string(wrong.Body), "AADSTS50020") {
		t.Errorf("other tenant: %q", title(wrong))
	}
}

func TestCodesAreStrict(t *testing.T) {
	w := newWorld(t)
	verifier := oauth2.GenerateVerifier()
	code := func() string {
		return w.signIn(authorizeURL(url.Values{"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"}}), admin, password).Get("code")
	}
	form := func(code string, change ...string) url.Values {
		f := url.Values{"grant_type": {"authorization_code"}, "client_id": {simulator.MainClientID}, "client_secret": {secret}, "code": {code}, "redirect_uri": {redirect},
			"code_verifier": {verifier}, "x-client-SKU": {"test"}, "client_info": {"1"}}
		for i := 0; i+1 < len(change); i += 2 {
			f.Set(change[i], change[i+1])
		}
		return f
	}
	for name, x := range map[string]struct {
		form   url.Values
		status int
		number int
	}{
		"wrong verifier":     {form(code(), "code_verifier", "x"), 400, 501481},
		"no verifier":        {form(code(), "code_verifier", ""), 400, 501481},
		"wrong redirect":     {form(code(), "redirect_uri", "https://portal.example/"), 400, 500112},
		"wrong secret":       {form(code(), "client_secret", "x"), 401, 7000215},
		"no secret":          {form(code(), "client_secret", ""), 401, 7000218},
		"unknown code":       {form("nonsense"), 400, 70000},
		"two resources":      {form(code(), "scope", "https://graph.microsoft.com/.default https://outlook.office365.com/.default"), 400, 28000},
		"no consent":         {form(code(), "scope", "https://outlook.office365.com/Exchange.Manage"), 400, 65001},
		"unknown grant type": {form(code(), "grant_type", "password"), 400, 70003},
	} {
		r := w.token("organizations", x.form)
		if r.Status != x.status || r.aadsts(t) != x.number {
			t.Errorf("%s = %d AADSTS%d, want %d AADSTS%d", name, r.Status, r.aadsts(t), x.status, x.number)
		}
	}
	once := code()
	ok := w.want(w.token("organizations", form(once)), 200, "code").json(t)
	if ok["refresh_token"] != nil || ok["id_token"] == nil || ok["client_info"] == nil {
		t.Errorf("tokens: refresh %v, id %v, client_info %v; offline_access was not asked for", ok["refresh_token"], ok["id_token"] != nil, ok["client_info"])
	}
	if r := w.token("organizations", form(once)); r.aadsts(t) != 54005 {
		t.Errorf("second use = AADSTS%d", r.aadsts(t))
	}
	late := code()
	w.sim.Advance(11 * time.Minute)
	if r := w.token("organizations", form(late)); r.aadsts(t) != 70008 {
		t.Errorf("after 11 minutes = AADSTS%d", r.aadsts(t))
	}
}

func TestAccessTokensAreAsClientsReadThem(t *testing.T) {
	w := newWorld(t)
	token := w.adminToken(admin)
	claims := payload(t, token)
	for name, want := range map[string]any{
		"aud": "https://graph.microsoft.com", "iss": "https://sts.windows.net/3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02/", "ver": "1.0", "idtyp": "user",
		"app_displayname": "Holdfast", "upn": admin, "appid": simulator.MainClientID,
	} {
		if claims[name] != want {
			t.Errorf("%s = %v, want %v", name, claims[name], want)
		}
	}
	if !strings.Contains(claims["scp"].(string), "AppRoleAssignment.ReadWrite.All") {
		t.Errorf("scp = %v", claims["scp"])
	}
	parts := strings.Split(token, ".")
	forged := strings.Replace(token, parts[1], base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"https://graph.microsoft.com"}`)), 1)
	for name, bad := range map[string]string{"none": "", "garbage": "x.y.z", "forged": forged} {
		if r := w.get("/users", bad); r.Status != 401 || r.code(t) != "InvalidAuthenticationToken" {
			t.Errorf("%s token = %d", name, r.Status)
		}
	}
	w.sim.Advance(2 * time.Hour)
	if r := w.get("/organization", token); r.Status != 401 {
		t.Errorf("expired token = %d", r.Status)
	}
}

func payload(t *testing.T, token string) map[string]any {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(data, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestClientAssertions(t *testing.T) {
	w := newWorld(t)
	a := w.newApplication(w.adminToken(admin), "User.Read.All")
	ask := func(alg string, change func(h, c map[string]any)) reply {
		return w.token(contoso, credentials(a.AppID, assertion(t, a.AppID, contoso, alg, change), "https://graph.microsoft.com/.default"))
	}
	pad := func(h, _ map[string]any) { h["x5t#S256"] = h["x5t#S256"].(string) + "=" }
	for name, r := range map[string]reply{
		"PS256": ask("PS256", nil), "RS256": ask("RS256", nil), "padded": ask("PS256", pad),
		"padded, more scopes": w.token(contoso, credentials(a.AppID, assertion(t, a.AppID, contoso, "PS256", pad), "https://graph.microsoft.com/.default openid offline_access profile")),
	} {
		if r.Status != 200 {
			t.Errorf("%s = %d %s", name, r.Status, r.Body)
		}
	}
	claims := payload(t, ask("PS256", nil).json(t)["access_token"].(string))
	if fmt.Sprint(claims["roles"]) != "[User.Read.All]" || claims["idtyp"] != "app" || claims["appidacr"] != "2" {
		t.Errorf("claims = %v", claims)
	}
	set := func(name string, value any) func(h, c map[string]any) {
		return func(h, c map[string]any) { c[name] = value }
	}
	for name, x := range map[string]struct {
		change func(h, c map[string]any)
		number int
	}{
		"other audience":   {set("aud", graphURL), 700023},
		"other tenant":     {set("aud", loginURL+"/fabrikamlegal.onmicrosoft.com/oauth2/v2.0/token"), 700023},
		"expired":          {set("exp", time.Now().Add(-time.Minute).Unix()), 700024},
		"too long":         {set("exp", time.Now().Add(time.Hour).Unix()), 700024},
		"other issuer":     {set("iss", simulator.MainClientID), 700021},
		"no jti":           {set("jti", ""), 700027},
		"unknown key":      {func(h, _ map[string]any) { h["x5t#S256"] = "AAAA" }, 700027},
		"no key":           {func(h, _ map[string]any) { delete(h, "x5t#S256") }, 700027},
		"unsigned":         {func(h, _ map[string]any) { h["alg"] = "none" }, 700027},
		"jti used already": {set("jti", "same"), 700027},
	} {
		if name == "jti used already" {
			ask("PS256", x.change)
		}
		if r := ask("PS256", x.change); r.Status != 401 || r.aadsts(t) != x.number {
			t.Errorf("%s = %d AADSTS%d, want 401 AADSTS%d", name, r.Status, r.aadsts(t), x.number)
		}
	}
}

func TestApplicationErrorsAreToldApart(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(admin)
	a := w.newApplication(admin, "User.Read.All")
	check := func(name string, status, number int) {
		t.Helper()
		if r := w.tokenFor(a, "https://graph.microsoft.com/.default"); r.Status != status || r.aadsts(t) != number {
			t.Errorf("%s = %d AADSTS%d, want %d AADSTS%d", name, r.Status, r.aadsts(t), status, number)
		}
	}
	if r := w.token("organizations", credentials(a.AppID, assertion(t, a.AppID, "organizations", "PS256", nil), "https://graph.microsoft.com/.default")); r.aadsts(t) != 50059 {
		t.Errorf("organizations = AADSTS%d", r.aadsts(t))
	}
	if r := w.token("fabrikamlegal.onmicrosoft.com", credentials(a.AppID, assertion(t, a.AppID, "fabrikamlegal.onmicrosoft.com", "PS256", nil), "https://graph.microsoft.com/.default")); r.aadsts(t) != 700016 {
		t.Errorf("other tenant = AADSTS%d", r.aadsts(t))
	}
	main := url.Values{"grant_type": {"client_credentials"}, "client_id": {simulator.MainClientID}, "client_secret": {secret}, "scope": {"https://graph.microsoft.com/.default"}}
	if r := w.token("fabrikamlegal.onmicrosoft.com", main); r.Status != 401 || r.aadsts(t) != 7000229 {
		t.Errorf("multi-tenant application without principal = %d AADSTS%d", r.Status, r.aadsts(t))
	}
	if r := w.tokenFor(a, "https://graph.microsoft.com/User.Read.All"); r.aadsts(t) != 1002012 {
		t.Errorf("scope without .default = AADSTS%d", r.aadsts(t))
	}
	w.want(w.control("PATCH", "/tenants/"+contoso+"/servicePrincipals/"+a.AppID, map[string]any{"enabled": false}), 204, "disable")
	check("disabled", 400, 7000112)
	w.want(w.control("PATCH", "/tenants/"+contoso+"/servicePrincipals/"+a.AppID, map[string]any{"enabled": true}), 204, "enable")
	w.want(w.control("DELETE", "/tenants/"+contoso+"/applications/"+a.AppID+"/credentials", nil), 204, "remove credentials")
	check("no certificate", 401, 700027)
	_, der := identity()
	w.want(w.do("PATCH", graphURL+"/applications/"+a.ID, admin, map[string]any{"keyCredentials": []any{map[string]any{"type": "AsymmetricX509Cert", "usage": "Verify", "key": der}}}), 204, "certificate again")
	check("certificate again", 200, 0)
	w.want(w.control("DELETE", "/tenants/"+contoso+"/servicePrincipals/"+a.AppID, nil), 204, "delete principal")
	check("no principal", 401, 7000229)
	w.want(w.control("DELETE", "/tenants/"+contoso+"/applications/"+a.AppID, nil), 204, "delete application")
	check("no application", 400, 700016)
}

func TestGraphRefusesWhatTheTokenDoesNotAllow(t *testing.T) {
	w := newWorld(t)
	token := w.adminToken(admin)
	a := w.newApplication(token, "User.Read.All")
	app := w.tokenFor(a, "https://graph.microsoft.com/.default").json(t)["access_token"].(string)
	for _, path := range []string{"/applications", "/servicePrincipals", "/oauth2PermissionGrants", "/domains", "/subscribedSkus"} {
		if r := w.get(path, app); r.Status != 403 || r.code(t) != "Authorization_RequestDenied" {
			t.Errorf("GET %s = %d", path, r.Status)
		}
	}
	if r := w.post("/applications", app, map[string]any{"displayName": "x"}); r.Status != 403 {
		t.Errorf("POST /applications = %d", r.Status)
	}
	if r := w.get("/me", app); r.Status != 400 {
		t.Errorf("/me for an application = %d", r.Status)
	}
	// A token keeps the roles it was issued with; a withdrawn one is missing in the next.
	w.want(w.control("DELETE", "/tenants/"+contoso+"/servicePrincipals/"+a.AppID+"/roles/User.Read.All", nil), 204, "withdraw")
	w.want(w.get("/users", app), 200, "old token")
	next := w.tokenFor(a, "https://graph.microsoft.com/.default").json(t)["access_token"].(string)
	w.want(w.get("/users", next), 403, "new token")
	// Graph's token is not Exchange's, and the other way round.
	w.want(w.do("POST", "https://outlook.office365.com/adminapi/beta/"+contoso+"/InvokeCommand", app, map[string]any{}), 401, "Graph token at Exchange")
}

func TestDirectoryRolesCount(t *testing.T) {
	w := newWorld(t)
	a := w.newApplication(w.adminToken(admin), "User.Read.All")
	cloud := w.adminToken("app.admin@" + contoso)
	if r := w.assign(cloud, a, "Mail.Read"); r.Status != 403 {
		t.Errorf("Graph role by a Cloud Application Administrator = %d, want 403", r.Status)
	}
	if r := w.assign(cloud, a, "Exchange.ManageAsApp"); r.Status != 201 {
		t.Errorf("Exchange role by a Cloud Application Administrator = %d, want 201", r.Status)
	}
	// Once an administrator consented for all, a plain person gets a token, but may not use it.
	all := loginURL + "/" + contoso + "/v2.0/adminconsent?" + url.Values{"client_id": {simulator.MainClientID}, "scope": {"https://graph.microsoft.com/.default"}, "redirect_uri": {redirect}, "state": {"7"}}.Encode()
	r := w.want(w.get(all, ""), 200, "admin consent")
	at, r := w.submit(all, r, "another", "true", nil)
	at, r = w.submit(at, r, "next", "true", url.Values{"login": {admin}, "passwd": {password}})
	_, r = w.submit(at, r, "consent", "accept", nil)
	if back := w.returned(r); back.Get("admin_consent") != "True" || back.Get("tenant") == "" || back.Get("state") != "7" {
		t.Errorf("admin consent came back with %v", back)
	}
	plain := w.adminToken("priya@" + contoso)
	if r := w.assign(plain, a, "Mail.Read"); r.Status != 403 {
		t.Errorf("assignment by a plain person = %d, want 403", r.Status)
	}
	if r := w.do("DELETE", graphURL+"/applications/"+a.ID, plain, nil); r.Status != 403 {
		t.Errorf("deletion by a plain person = %d, want 403", r.Status)
	}
}
