package simulator_test

import (
	"net/url"
	"strings"
	"testing"

	"holdfast/backup/m365/simulator"
)

func adminConsentURL(version string, more url.Values) string {
	q := url.Values{"client_id": {simulator.MainClientID}, "redirect_uri": {redirect}, "state": {"7"}}
	for k, v := range more {
		q[k] = v
	}
	return loginURL + "/" + contoso + version + "/adminconsent?" + q.Encode()
}

func TestAdminConsentOfBothVersions(t *testing.T) {
	w := newWorld(t)
	sign := func(address, upn string) (string, reply) {
		w.client = browserOf(w.sim)
		return w.submit(address, w.want(w.get(address, ""), 200, "page"), "next", "true", url.Values{"login": {upn}, "passwd": {password}})
	}
	at, r := sign(adminConsentURL("", nil), admin)
	_, cancelled := w.submit(at, r, "consent", "cancel", nil)
	if back := w.returned(cancelled); back.Get("error") != "access_denied" || back.Get("error_subcode") != "cancel" || back.Has("admin_consent") {
		t.Errorf("v1 cancelled: %v", back)
	}
	_, accepted := w.submit(at, r, "consent", "accept", nil)
	if back := w.returned(accepted); back.Get("admin_consent") != "True" || back.Get("tenant") != "3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02" || back.Get("state") != "7" {
		t.Errorf("v1 accepted: %v", back)
	}
	at, r = sign(adminConsentURL("/v2.0", url.Values{"scope": {"https://outlook.office365.com/.default"}}), admin)
	_, cancelled = w.submit(at, r, "consent", "cancel", nil)
	if back := w.returned(cancelled); back.Get("admin_consent") != "True" || back.Get("error") != "consent_required" || !strings.HasPrefix(back.Get("error_description"), "AADSTS65004") {
		t.Errorf("v2 cancelled: %v", back)
	}
	if _, r := sign(adminConsentURL("", nil), "priya@"+contoso); title(r) != "Need admin approval" {
		t.Errorf("plain person: %q", title(r))
	}
	// A plain person may use what was consented for all.
	if back := w.signIn(authorizeURL(nil), "priya@"+contoso, password); back.Get("code") == "" {
		t.Errorf("plain person after consent for all: %v", back)
	}
	grants := w.want(w.control("GET", "/tenants/"+contoso+"/applications", nil), 200, "applications")
	if string(grants.Body) != "[]\n" {
		t.Errorf("consent made registrations in the customer's tenant: %s", grants.Body)
	}
}

func TestIDTokensCanBeWrongOnPurpose(t *testing.T) {
	w := newWorld(t)
	for fault, check := range map[string]func(claims map[string]any) bool{
		"personal_account": func(c map[string]any) bool { return c["tid"] == "9188040d-6c67-4c5b-b112-36a304b66dad" },
		"wrong_issuer":     func(c map[string]any) bool { return !strings.Contains(c["iss"].(string), c["tid"].(string)) },
		"wrong_nonce":      func(c map[string]any) bool { return c["nonce"] != "n" },
	} {
		code := w.signIn(authorizeURL(url.Values{"nonce": {"n"}}), admin, password).Get("code")
		w.fault(simulator.Fault{Name: fault, Times: 1})
		r := w.want(w.token("organizations", url.Values{"grant_type": {"authorization_code"}, "client_id": {simulator.MainClientID}, "client_secret": {secret}, "code": {code}, "redirect_uri": {redirect}}), 200, fault)
		if claims := payload(t, r.json(t)["id_token"].(string)); !check(claims) {
			t.Errorf("%s: claims = %v", fault, claims)
		}
	}
}

// What a request brings is shown as text, never as HTML.
func TestPagesEscapeWhatTheyShow(t *testing.T) {
	w := newWorld(t)
	evil := `"><script>alert(1)</script>`
	for _, address := range []string{authorizeURL(url.Values{"login_hint": {evil}, "state": {evil}}), authorizeURL(url.Values{"redirect_uri": {evil}}), authorizeURL(url.Values{"client_id": {evil}})} {
		if r := w.get(address, ""); strings.Contains(string(r.Body), "<script") {
			t.Errorf("%s: %s", address, r.Body)
		}
	}
	back := w.want(w.get(authorizeURL(url.Values{"prompt": {"none"}, "response_mode": {"form_post"}, "state": {evil}}), ""), 200, "form_post")
	if strings.Contains(string(back.Body), "<script") || !strings.Contains(string(back.Body), "login_required") {
		t.Errorf("form_post: %s", back.Body)
	}
}
