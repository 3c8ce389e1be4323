package simulator_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
)

// identity is a key with a self-signed certificate, shared by the tests.
var identity = sync.OnceValues(func() (*rsa.PrivateKey, []byte) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return key, der
})

// assertion makes a client assertion; change edits header and claims.
func assertion(t *testing.T, appID, tenant, alg string, change func(header, claims map[string]any)) string {
	t.Helper()
	key, der := identity()
	sum := sha256.Sum256(der)
	header := map[string]any{"alg": alg, "typ": "JWT", "x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}
	now := time.Now()
	claims := map[string]any{"aud": loginURL + "/" + tenant + "/oauth2/v2.0/token", "iss": appID, "sub": appID, "jti": rand.Text(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	if change != nil {
		change(header, claims)
	}
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	signed := part(header) + "." + part(claims)
	digest := sha256.Sum256([]byte(signed))
	var sig []byte
	var err error
	if alg == "PS256" {
		sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func credentials(appID, assertion, scope string) url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {appID}, "scope": {scope},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion}}
}

// subApplication is what the setup makes in a tenant.
type subApplication struct{ ID, AppID, Principal string }

// tokenFor asks for an app-only token.
func (w *world) tokenFor(a subApplication, scope string) reply {
	w.Helper()
	return w.do("POST", loginURL+"/"+contoso+"/oauth2/v2.0/token", "", credentials(a.AppID, assertion(w.T, a.AppID, contoso, "PS256", nil), scope))
}

// newApplication makes an application with a certificate, its principal and
// the roles, as the product does.
func (w *world) newApplication(token string, roles ...string) subApplication {
	w.Helper()
	_, der := identity()
	app := w.want(w.post("/applications", token, map[string]any{
		"displayName": "Holdfast backup: Mail", "signInAudience": "AzureADMyOrg", "tags": []string{"holdfast", "holdfast:1"},
		"keyCredentials": []any{map[string]any{"type": "AsymmetricX509Cert", "usage": "Verify", "key": der, "displayName": "holdfast"}},
	}), http.StatusCreated, "create application").json(w)
	sp := w.want(w.post("/servicePrincipals", token, map[string]any{"appId": app["appId"], "tags": []string{"HideApp"}}), http.StatusCreated, "create principal").json(w)
	a := subApplication{app["id"].(string), app["appId"].(string), sp["id"].(string)}
	for _, role := range roles {
		w.want(w.assign(token, a, role), http.StatusCreated, "assign "+role)
	}
	return a
}

// assign grants a role of Graph or Exchange by its name.
func (w *world) assign(token string, a subApplication, role string) reply {
	w.Helper()
	resource := backup.ResourceGraph
	if role == "Exchange.ManageAsApp" {
		resource = backup.ResourceExchange
	}
	sp := w.want(w.get("/servicePrincipals(appId='"+resource+"')?$select=id,appId,displayName,appRoles", token), http.StatusOK, "resource").json(w)
	for _, r := range sp["appRoles"].([]any) {
		if m := r.(map[string]any); m["value"] == role {
			return w.post("/servicePrincipals/"+sp["id"].(string)+"/appRoleAssignedTo", token, map[string]any{"principalId": a.Principal, "resourceId": sp["id"], "appRoleId": m["id"]})
		}
	}
	w.Fatalf("no role %s", role)
	return reply{}
}

func TestApplicationsArePreparedAndRemovedAsDescribed(t *testing.T) {
	w := newWorld(t)
	w.conforming()
	token := w.adminToken(admin)
	org := w.want(w.get("/organization", token), 200, "organization").json(t)["value"].([]any)[0].(map[string]any)
	if org["displayName"] != "Contoso Dental" {
		t.Errorf("organization = %v", org["displayName"])
	}
	a := w.newApplication(token, "User.Read.All", "Mail.Read", "Exchange.ManageAsApp")

	found := w.want(w.get("/applications?$filter="+url.QueryEscape("tags/any(t:t eq 'holdfast:1')")+"&$select=id,appId,tags", token), 200, "find by tag").json(t)["value"].([]any)
	if len(found) != 1 || found[0].(map[string]any)["appId"] != a.AppID {
		t.Errorf("found by tag: %v", found)
	}
	roles := w.want(w.get("/servicePrincipals/"+a.Principal+"/appRoleAssignments", token), 200, "assignments").json(t)["value"].([]any)
	if len(roles) != 3 {
		t.Errorf("%d assignments, want 3", len(roles))
	}
	app := w.want(w.get("/applications/"+a.ID, token), 200, "application").json(t)
	key := app["keyCredentials"].([]any)[0].(map[string]any)
	if key["key"] != nil || key["keyId"] == "" {
		t.Errorf("key credential = %v; the key itself is not shown", key)
	}
	if r := w.assign(token, a, "Mail.Read"); r.Status != 400 || !strings.Contains(string(r.Body), "already exists on the object") {
		t.Errorf("second assignment = %d %s", r.Status, r.Body)
	}
	pw := w.want(w.post("/applications/"+a.ID+"/addPassword", token, map[string]any{"passwordCredential": map[string]any{"displayName": "x"}}), 200, "addPassword").json(t)
	if pw["secretText"] == "" {
		t.Error("no secretText")
	}
	w.want(w.post("/applications/"+a.ID+"/removePassword", token, map[string]any{"keyId": pw["keyId"]}), 204, "removePassword")
	w.want(w.do("PATCH", graphURL+"/servicePrincipals/"+a.Principal, token, map[string]any{"accountEnabled": false}), 204, "disable")
	w.want(w.do("DELETE", graphURL+"/applications/"+a.ID, token, nil), 204, "delete")
	w.want(w.get("/servicePrincipals/"+a.Principal, token), 404, "principal of the deleted application")
	w.want(w.get("/directory/deletedItems/microsoft.graph.application", token), 200, "deleted applications")
	w.want(w.post("/directory/deletedItems/"+a.ID+"/restore", token, map[string]any{}), 200, "restore")
	w.want(w.get("/applications(appId='"+a.AppID+"')", token), 200, "restored application")
	w.want(w.get("/domains", token), 403, "domains without a domain permission")
	w.want(w.get("/subscribedSkus", token), 200, "licences")
}

func TestUsersArePagedFilteredAndTracked(t *testing.T) {
	w := newWorld(t)
	w.conforming()
	a := w.newApplication(w.adminToken(admin), "User.Read.All")
	token := w.want(w.tokenFor(a, "https://graph.microsoft.com/.default"), 200, "token").json(t)["access_token"].(string)

	names, next, pages := map[string]bool{}, "/users?$select=id,displayName,userPrincipalName,assignedPlans,accountEnabled,userType&$top=5", 0
	for next != "" {
		page := w.want(w.get(next, token), 200, "users").json(t)
		for _, u := range page["value"].([]any) {
			name := u.(map[string]any)["displayName"].(string)
			if names[name] {
				t.Errorf("%s came twice", name)
			}
			names[name] = true
		}
		next, _ = page["@odata.nextLink"].(string)
		pages++
	}
	if len(names) != 16 || pages != 4 || !names["נועה כהן"] || !names["Megan O'Neil"] {
		t.Errorf("%d users on %d pages: %v", len(names), pages, names)
	}
	w.want(w.get("/users/megan.o'neil@contosodental.onmicrosoft.com", token), 200, "by name with an apostrophe")
	w.want(w.do("GET", "https://graph.microsoft.com/v1.0/users('admin@contosodental.onmicrosoft.com')", token, nil), 200, "key in brackets")
	filter := url.QueryEscape("onPremisesSyncEnabled eq true OR userType ne 'Guest'")
	w.want(w.get("/users?$filter="+filter, token), 400, "advanced filter without ConsistencyLevel")
	got := w.want(w.get("/users?$count=true&$filter="+filter, token, "ConsistencyLevel", "eventual"), 200, "advanced filter").json(t)
	if n := len(got["value"].([]any)); n != 15 || got["@odata.count"] != 15.0 {
		t.Errorf("%d members, count %v, want 15", n, got["@odata.count"])
	}
	w.want(w.get("/users?$select=nonsense", token), 400, "unknown property")
	w.want(w.get("/users?$top=1000", token), 400, "$top over 999")

	first := w.want(w.get("/users/delta?$select=displayName,userPrincipalName", token, "Prefer", "odata.maxpagesize=9"), 200, "delta").json(t)
	if first["@odata.deltaLink"] != nil || len(first["value"].([]any)) != 9 {
		t.Fatalf("first delta page has %d users and deltaLink %v", len(first["value"].([]any)), first["@odata.deltaLink"])
	}
	last := w.want(w.get(first["@odata.nextLink"].(string), token), 200, "delta page 2").json(t)
	link := last["@odata.deltaLink"].(string)
	if n := len(w.get(link, token).json(t)["value"].([]any)); n != 0 {
		t.Errorf("%d changes without a change", n)
	}
	w.want(w.control("PATCH", "/tenants/"+contoso+"/users/priya@"+contoso, map[string]any{"deleted": true}), 200, "delete user")
	w.want(w.control("PATCH", "/tenants/"+contoso+"/users/uma@"+contoso, map[string]any{"licences": []string{"SPE_E3"}}), 200, "licence")
	changes := w.get(link, token).json(t)["value"].([]any)
	if len(changes) != 2 || changes[0].(map[string]any)["@removed"] == nil || changes[1].(map[string]any)["displayName"] != "Uma Unlicensed" {
		t.Errorf("changes = %v", changes)
	}
	gone := w.want(w.get("/directory/deletedItems/microsoft.graph.user?$select=id,displayName,deletedDateTime", token), 200, "deleted users").json(t)["value"].([]any)
	if len(gone) != 1 {
		t.Errorf("%d deleted users, want 1", len(gone))
	}
	w.sim.Advance(8 * 24 * time.Hour)
	token = w.want(w.tokenAt(a), 200, "token a week later").json(t)["access_token"].(string)
	if r := w.want(w.get(link, token), 410, "delta link after 8 days"); r.Header.Get("Location") == "" {
		t.Error("410 without Location")
	}
}

// tokenAt asks with an assertion of the simulator's time.
func (w *world) tokenAt(a subApplication) reply {
	w.Helper()
	var clock struct{ Now time.Time }
	if err := json.Unmarshal(w.control("GET", "/clock", nil).Body, &clock); err != nil {
		w.Fatal(err)
	}
	jwt := assertion(w.T, a.AppID, contoso, "RS256", func(_, c map[string]any) { c["nbf"], c["exp"] = clock.Now.Unix(), clock.Now.Add(9*time.Minute).Unix() })
	return w.do("POST", loginURL+"/"+contoso+"/oauth2/v2.0/token", "", credentials(a.AppID, jwt, "https://graph.microsoft.com/.default"))
}
