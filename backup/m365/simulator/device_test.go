package simulator_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/backup/m365/simulator"
)

const roleScope = "openid profile offline_access https://outlook.office365.com/Exchange.Manage"

// startDevice asks for a device code for Contoso.
func (w *world) startDevice() (device, user, page string) {
	w.Helper()
	r := w.want(w.do("POST", loginURL+"/"+contoso+"/oauth2/v2.0/devicecode", "", url.Values{"client_id": {simulator.MainClientID}, "scope": {roleScope}}), 200, "devicecode").json(w)
	if r["expires_in"] != 900.0 || r["interval"] != 5.0 || !strings.Contains(r["message"].(string), r["user_code"].(string)) {
		w.Errorf("device code = %v", r)
	}
	return r["device_code"].(string), r["user_code"].(string), r["verification_uri"].(string)
}

// poll asks for the token as a waiting application, in the short spelling of
// Microsoft's libraries.
func (w *world) poll(code string) reply {
	w.Helper()
	return w.token(contoso, url.Values{"grant_type": {"device_code"}, "client_id": {simulator.MainClientID}, "client_secret": {secret}, "device_code": {code}})
}

// enter types a device code and signs in.
func (w *world) enter(page, code, upn string) (string, reply) {
	w.Helper()
	at, r := w.submit(page, w.want(w.get(page, ""), 200, "device page"), "next", "true", url.Values{"otc": {strings.ToLower(code)}})
	return w.submit(at, r, "next", "true", url.Values{"login": {upn}, "passwd": {password}})
}

func TestDeviceCode(t *testing.T) {
	w := newWorld(t)
	device, code, page := w.startDevice()
	if r := w.poll(device); r.Status != 400 || r.code(t) != "authorization_pending" || r.aadsts(t) != 70016 {
		t.Errorf("before = %d %s", r.Status, r.Body)
	}
	_, r := w.submit(page, w.get(page, ""), "next", "true", url.Values{"otc": {"WRONGCODE"}})
	if !strings.Contains(string(r.Body), "didn’t work") {
		t.Errorf("wrong code: %q", title(r))
	}
	at, r := w.enter(page, code, admin)
	if title(r) != "Are you trying to sign in to Holdfast?" {
		t.Fatalf("after sign-in: %q", title(r))
	}
	at, r = w.submit(at, r, "confirm", "continue", nil)
	if title(r) != "Permissions requested" || !strings.Contains(string(r.Body), "Exchange.Manage") {
		t.Fatalf("after Continue: %q", title(r))
	}
	if r := w.poll(device); r.code(t) != "authorization_pending" {
		t.Errorf("before consent = %s", r.code(t))
	}
	if _, r = w.submit(at, r, "consent", "accept", nil); !strings.Contains(string(r.Body), "You have signed in to the Holdfast application") {
		t.Errorf("after consent: %q", title(r))
	}
	got := w.want(w.poll(device), 200, "poll").json(t)
	if got["refresh_token"] == nil || got["id_token"] == nil {
		t.Errorf("tokens = %v", got)
	}
	if claims := payload(t, got["access_token"].(string)); claims["aud"] != "https://outlook.office365.com" || claims["scp"] != "Exchange.Manage" {
		t.Errorf("aud %v, scp %v", claims["aud"], claims["scp"])
	}
	if r := w.poll(device); r.code(t) != "invalid_request" || r.aadsts(t) != 90120 {
		t.Errorf("second = %s", r.Body)
	}
}

func TestDeviceCodeEndsInOtherWays(t *testing.T) {
	w := newWorld(t)
	common := w.do("POST", loginURL+"/common/oauth2/v2.0/devicecode", "", url.Values{"client_id": {simulator.MainClientID}, "scope": {roleScope}})
	if common.aadsts(t) != 9001023 {
		t.Errorf("common = AADSTS%d", common.aadsts(t))
	}
	device, code, page := w.startDevice()
	at, r := w.enter(page, code, admin)
	w.submit(at, r, "confirm", "cancel", nil)
	if r := w.poll(device); r.code(t) != "authorization_declined" {
		t.Errorf("declined = %s", r.Body)
	}
	device, _, _ = w.startDevice()
	w.sim.Advance(901 * time.Second)
	if r := w.poll(device); r.code(t) != "expired_token" {
		t.Errorf("expired = %s", r.Body)
	}
	w.want(w.control("PATCH", "/tenants/"+contoso, map[string]any{"expiredName": "code_expired"}), 200, "settings")
	if r := w.poll(device); r.code(t) != "code_expired" {
		t.Errorf("expired by its other name = %s", r.Body)
	}
	if r := w.poll("unknown"); r.code(t) != "bad_verification_code" {
		t.Errorf("unknown = %s", r.Body)
	}
	device, code, page = w.startDevice()
	if r := w.token("fabrikamlegal.onmicrosoft.com", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {simulator.MainClientID}, "client_secret": {secret}, "device_code": {device}}); r.code(t) != "bad_verification_code" {
		t.Errorf("other tenant = %s", r.Body)
	}
	if err := w.sim.Approve(code, "admin@fabrikamlegal.onmicrosoft.com"); err == nil {
		t.Error("a person of another tenant approved the code")
	}
	w.client = browserOf(w.sim)
	if _, r := w.enter(page, code, "priya@"+contoso); title(r) != "Are you trying to sign in to Holdfast?" {
		t.Errorf("plain person: %q", title(r))
	}
	w.want(w.control("POST", "/approve/"+code, nil), 204, "approve")
	w.want(w.poll(device), 200, "approved")

	w.fault(simulator.Fault{Name: "slow_down", Times: 1})
	device, code, page = w.startDevice()
	if r := w.poll(device); r.code(t) != "slow_down" {
		t.Errorf("slow_down = %s", r.Body)
	}
	w.want(w.control("PATCH", "/tenants/"+contoso, map[string]any{"blockDeviceCode": "poll"}), 200, "settings")
	w.client = browserOf(w.sim)
	at, r = w.enter(page, code, admin)
	if _, r = w.submit(at, r, "confirm", "continue", nil); title(r) != "You cannot access this right now" {
		t.Errorf("blocked page: %q", title(r))
	}
	if r := w.poll(device); r.aadsts(t) != 53003 || r.code(t) != "interaction_required" {
		t.Errorf("blocked = %s", r.Body)
	}
}

func TestRefreshTokensEnd(t *testing.T) {
	w := newWorld(t)
	device, code, _ := w.startDevice()
	w.want(w.control("POST", "/approve/"+code, map[string]any{"upn": admin}), 204, "approve")
	refresh := w.want(w.poll(device), 200, "poll").json(t)["refresh_token"].(string)
	ask := func(scope string) reply {
		return w.token(contoso, url.Values{"grant_type": {"refresh_token"}, "client_id": {simulator.MainClientID}, "client_secret": {secret}, "refresh_token": {refresh}, "scope": {scope}})
	}
	w.want(ask(roleScope), 200, "refresh")
	if r := ask("https://graph.microsoft.com/Application.ReadWrite.All"); r.aadsts(t) != 65001 {
		t.Errorf("other resource without consent = AADSTS%d", r.aadsts(t))
	}
	w.fault(simulator.Fault{Name: "scope_missing_silently", Times: 1})
	if r := ask("https://graph.microsoft.com/Application.ReadWrite.All"); r.Status != 200 || strings.Contains(string(r.Body), "Application.ReadWrite") {
		t.Errorf("silently missing = %d %s", r.Status, r.Body)
	}
	w.fault(simulator.Fault{Name: "AADSTS50076", Tenant: contoso, Times: 1})
	if r := ask(roleScope); r.aadsts(t) != 50076 || r.code(t) != "interaction_required" {
		t.Errorf("fault = %s", r.Body)
	}
	w.sim.Advance(91 * 24 * time.Hour)
	if r := ask(roleScope); r.aadsts(t) != 700082 {
		t.Errorf("after 91 days = AADSTS%d", r.aadsts(t))
	}
	device, code, _ = w.startDevice()
	w.want(w.control("POST", "/approve/"+code, nil), 204, "approve")
	refresh = w.want(w.poll(device), 200, "poll").json(t)["refresh_token"].(string)
	user := "/tenants/" + contoso + "/users/" + admin
	w.want(w.control("PATCH", user, map[string]any{"enabled": false}), 200, "disable")
	if r := ask(roleScope); r.aadsts(t) != 50057 {
		t.Errorf("disabled = AADSTS%d", r.aadsts(t))
	}
	w.sim.Advance(time.Second)
	w.want(w.control("PATCH", user, map[string]any{"enabled": true, "revokeSessions": true}), 200, "revoke sessions")
	if r := ask(roleScope); r.aadsts(t) != 50173 {
		t.Errorf("revoked = AADSTS%d", r.aadsts(t))
	}
	device, code, _ = w.startDevice()
	w.want(w.control("POST", "/approve/"+code, nil), 204, "approve")
	refresh = w.want(w.poll(device), 200, "poll").json(t)["refresh_token"].(string)
	w.want(w.control("POST", "/tenants/"+contoso+"/revoke-consent", map[string]any{"app": "Holdfast"}), 204, "revoke consent")
	if r := ask(roleScope); r.aadsts(t) != 65001 {
		t.Errorf("no consent = AADSTS%d", r.aadsts(t))
	}
}
