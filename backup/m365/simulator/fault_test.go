package simulator_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/backup/m365/simulator"
)

// The answers of auth.md 2.3 and 2.4 that clients have to tell apart.
func TestNamedFaultsOfTheDirectory(t *testing.T) {
	w := newWorld(t)
	token := w.adminToken(admin)
	a := w.newApplication(token)
	other := w.want(w.post("/applications", token, map[string]any{"displayName": "other", "signInAudience": "AzureADMyOrg"}), 201, "application").json(t)
	createApp := func() reply {
		return w.post("/applications", token, map[string]any{"displayName": "x", "signInAudience": "AzureADMyOrg"})
	}
	createPrincipal := func() reply {
		return w.post("/servicePrincipals", token, map[string]any{"appId": other["appId"]})
	}
	assign := func() reply { return w.assign(token, a, "Mail.Read") }
	secret := func() reply { return w.post("/applications/"+a.ID+"/addPassword", token, map[string]any{}) }
	for _, x := range []struct {
		fault  string
		call   func() reply
		status int
		text   string
	}{
		{"sp_app_not_replicated", createPrincipal, 400, "does not reference a valid application object"},
		{"sp_backing_application", createPrincipal, 403, "the backing application of the service principal being created must in the local tenant"},
		{"sp_exists", createPrincipal, 409, "Request_MultipleObjectsWithSameKeyValue"},
		{"app_not_replicated", func() reply { return w.get("/applications/"+a.ID, token) }, 404, "Request_ResourceNotFound"},
		{"app_conflict", func() reply {
			return w.do("PATCH", graphURL+"/applications/"+a.ID, token, map[string]any{"notes": "n"})
		}, 409, "Directory_ConcurrencyViolation"},
		{"assignment_not_replicated", assign, 400, "Not a valid reference update"},
		{"assignment_principal_missing", assign, 404, "Request_ResourceNotFound"},
		{"assignment_permission_missing", assign, 400, "Permission being assigned was not found on application"},
		{"assignment_exists", assign, 400, "Permission being assigned already exists on the object"},
		{"credential_type_not_allowed", secret, 400, "CredentialTypeNotAllowedAsPerAppPolicy"},
		{"credential_invalid_lifetime", secret, 400, "CredentialInvalidLifetimeAsPerAppPolicy"},
		{"audience_not_allowed", createApp, 400, "SignInAudienceNotAllowedAsPerAppPolicy"},
		{"host_not_verified", createApp, 400, "HostNameNotOnVerifiedDomain"},
		{"credential_not_listed", func() reply { return w.get("/applications/"+a.ID, token) }, 200, `"keyCredentials":[]`},
	} {
		w.fault(simulator.Fault{Name: x.fault, Times: 1})
		if r := x.call(); r.Status != x.status || !strings.Contains(string(r.Body), x.text) {
			t.Errorf("%s = %d %.300s, want %d with %q", x.fault, r.Status, r.Body, x.status, x.text)
		}
	}
	if r := createPrincipal(); r.Status != 201 {
		t.Errorf("after the faults = %d %s", r.Status, r.Body)
	}
}

// Every number that auth.md lists for tokens can be switched on, with the
// status that Entra gives it: invalid_client 401, the rest 400.
func TestEveryNumberOfEntraIsASwitch(t *testing.T) {
	w := newWorld(t)
	numbers := []int{50173, 700082, 70008, 700084, 70043, 50076, 50079, 50074, 50078, 53000, 53001, 53003, 530032, 530034, 530035, 50057, 65001, 50158,
		700016, 7000229, 7000112, 7000215, 7000222, 700027, 700030, 90002, 5000224, 500011, 650057, 90093, 90094, 90095, 65002, 90055, 90024, 50020, 50177, 90072,
		70016, 70018, 70019, 70020, 90120, 7000218}
	for _, n := range numbers {
		w.fault(simulator.Fault{Name: "AADSTS" + strconv.Itoa(n), App: "Holdfast", Tenant: contoso, Times: 1})
		r := w.token(contoso, url.Values{"grant_type": {"client_credentials"}, "client_id": {simulator.MainClientID}})
		want := map[bool]int{true: 401, false: 400}[r.code(t) == "invalid_client"]
		switch n {
		case 90055:
			want = 429
		case 90024:
			want = 503
		}
		description, _ := r.json(t)["error_description"].(string)
		if r.aadsts(t) != n || r.Status != want || !strings.HasPrefix(description, "AADSTS"+strconv.Itoa(n)+": ") || strings.Contains(description, "{app}") {
			t.Errorf("AADSTS%d = %d %s", n, r.Status, r.Body)
		}
	}
	w.fault(simulator.Fault{Name: "AADSTS7000222", Tenant: "fabrikamlegal.onmicrosoft.com"})
	if r := w.token(contoso, url.Values{"grant_type": {"client_credentials"}, "client_id": {simulator.MainClientID}}); r.aadsts(t) == 7000222 {
		t.Error("a fault of another tenant was played")
	}
}

func TestOverTLSTheHostHeaderDecides(t *testing.T) {
	// httptest knows a certificate; the simulator is served with it.
	borrowed := httptest.NewTLSServer(http.NotFoundHandler())
	defer borrowed.Close()
	pair := borrowed.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	w := newWorld(t)
	addr, wait, err := w.sim.Start(ctx, "127.0.0.1:0", certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	w.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the certificate is not for Microsoft's names
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}}
	doc := w.want(w.do("GET", loginURL+"/common/v2.0/.well-known/openid-configuration?", "", nil), 200, "discovery").json(t)
	if doc["token_endpoint"] != loginURL+"/common/oauth2/v2.0/token" {
		t.Errorf("token endpoint = %v", doc["token_endpoint"])
	}
	instance := w.want(w.do("GET", loginURL+"/common/discovery/instance?api-version=1.1&authorization_endpoint=x", "", nil), 200, "instance discovery").json(t)
	if instance["tenant_discovery_endpoint"] == nil || instance["metadata"] == nil {
		t.Errorf("instance discovery = %v", instance)
	}
	w.want(w.get("/organization", ""), 401, "Graph without a token")
	w.want(w.do("GET", "https://nowhere.example/", "", nil), 404, "unknown host")
	stop()
	if err := wait(); err != nil {
		t.Error(err)
	}
}
