package simulator_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup/m365/simulator"
)

func TestChangesReachOtherReplicasLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *simulator.Options) { o.World.Tenants[1].ReplicationDelay = simulator.Duration(3 * time.Second) })
		token := w.adminToken(admin)
		_, der := identity()
		app := w.want(w.post("/applications", token, map[string]any{"displayName": "x", "signInAudience": "AzureADMyOrg", "tags": []string{"t1"},
			"keyCredentials": []any{map[string]any{"type": "AsymmetricX509Cert", "usage": "Verify", "key": der}}}), 201, "application").json(t)
		id, appID := app["id"].(string), app["appId"].(string)
		w.want(w.get("/applications/"+id, token), 404, "application at once")
		if n := len(w.get("/applications?$filter="+url.QueryEscape("tags/any(t:t eq 't1')"), token).json(t)["value"].([]any)); n != 0 {
			t.Error("the new application is listed at once")
		}
		if r := w.post("/servicePrincipals", token, map[string]any{"appId": appID}); r.Status != 400 || !strings.Contains(string(r.Body), "does not reference a valid application object") {
			t.Errorf("principal at once = %d %s", r.Status, r.Body)
		}
		a := subApplication{ID: id, AppID: appID}
		ask := func() reply { return w.tokenFor(a, "https://graph.microsoft.com/.default") }
		if r := ask(); r.aadsts(t) != 700016 {
			t.Errorf("token at once = AADSTS%d", r.aadsts(t))
		}
		time.Sleep(3 * time.Second)
		sp := w.want(w.post("/servicePrincipals", token, map[string]any{"appId": appID}), 201, "principal").json(t)
		a.Principal = sp["id"].(string)
		if r := w.assign(token, a, "User.Read.All"); r.Status != 400 || !strings.Contains(string(r.Body), "Not a valid reference update") {
			t.Errorf("assignment at once = %d %s", r.Status, r.Body)
		}
		if r := ask(); r.aadsts(t) != 7000229 {
			t.Errorf("token without principal = AADSTS%d", r.aadsts(t))
		}
		time.Sleep(3 * time.Second)
		w.want(w.assign(token, a, "User.Read.All"), 201, "assignment")
		if n := len(w.get("/servicePrincipals/"+a.Principal+"/appRoleAssignments", token).json(t)["value"].([]any)); n != 0 {
			t.Error("the grant can be read back at once")
		}
		if claims := payload(t, w.want(ask(), 200, "token").json(t)["access_token"].(string)); claims["roles"] != nil {
			t.Errorf("roles at once = %v", claims["roles"])
		}
		time.Sleep(3 * time.Second)
		if claims := payload(t, w.want(ask(), 200, "token").json(t)["access_token"].(string)); len(claims["roles"].([]any)) != 1 {
			t.Errorf("roles = %v", claims["roles"])
		}
		w.want(w.control("PATCH", "/tenants/"+contoso, map[string]any{"flap": true}), 200, "flap")
		b := w.want(w.post("/applications", token, map[string]any{"displayName": "y", "signInAudience": "AzureADMyOrg"}), 201, "application").json(t)["id"].(string)
		time.Sleep(4 * time.Second)
		first, second := w.get("/applications/"+b, token).Status, w.get("/applications/"+b, token).Status
		if first == second {
			t.Errorf("flapping replicas said %d and %d", first, second)
		}
	})
}

func TestPoliciesForbidCredentials(t *testing.T) {
	w := newWorld(t)
	token := w.adminToken(admin)
	a := w.newApplication(token)
	_, der := identity()
	key := map[string]any{"keyCredentials": []any{map[string]any{"type": "AsymmetricX509Cert", "usage": "Verify", "key": der}}}
	for policy, want := range map[string]string{"noSecrets": "CredentialTypeNotAllowedAsPerAppPolicy", "shortSecrets": "CredentialInvalidLifetimeAsPerAppPolicy"} {
		w.want(w.control("PATCH", "/tenants/"+contoso, map[string]any{"policy": policy}), 200, policy)
		if r := w.post("/applications/"+a.ID+"/addPassword", token, map[string]any{}); r.Status != 400 || r.code(t) != want {
			t.Errorf("%s = %d %s", policy, r.Status, r.Body)
		}
	}
	for policy, want := range map[string]string{"noCertificates": "CredentialTypeNotAllowedAsPerAppPolicy", "shortCertificates": "CredentialInvalidLifetimeAsPerAppPolicy"} {
		w.want(w.control("PATCH", "/tenants/"+contoso, map[string]any{"policy": policy}), 200, policy)
		if r := w.do("PATCH", graphURL+"/applications/"+a.ID, token, key); r.Status != 400 || r.code(t) != want {
			t.Errorf("%s = %d %s", policy, r.Status, r.Body)
		}
	}
}

func TestFaults(t *testing.T) {
	w := newWorld(t)
	token := w.adminToken(admin)
	w.fault(simulator.Fault{Host: "graph", Path: "^/v1.0/organization", Status: 429, RetryAfter: "2.5", Times: 1, Skip: 1})
	w.want(w.get("/organization", token), 200, "before the fault")
	if r := w.want(w.get("/organization", token), 429, "fault"); r.Header.Get("Retry-After") != "2.5" || r.code(t) != "TooManyRequests" {
		t.Errorf("fault = %s %s", r.Header, r.Body)
	}
	w.want(w.get("/organization", token), 200, "after the fault")

	w.fault(simulator.Fault{Host: "graph", Reset: true, Times: 1})
	if r := w.get("/organization", token); r.Status != 0 {
		t.Errorf("reset = %d", r.Status)
	}
	five := 5
	w.fault(simulator.Fault{Host: "graph", Cut: &five, Times: 1})
	if r := w.get("/organization", token); !strings.Contains(string(r.Body), "unexpected EOF") {
		t.Errorf("cut = %d %s", r.Status, r.Body)
	}
	w.fault(simulator.Fault{Host: "graph", Status: 200, Body: "<html>garbage", Times: 1})
	if r := w.get("/organization", token); string(r.Body) != "<html>garbage" {
		t.Errorf("garbage = %s", r.Body)
	}
	w.fault(simulator.Fault{Name: "answer_lost", Times: 1})
	if r := w.post("/applications", token, map[string]any{"displayName": "lost", "signInAudience": "AzureADMyOrg"}); r.Status != 0 {
		t.Errorf("lost answer = %d", r.Status)
	}
	if n := len(w.get("/applications?$filter="+url.QueryEscape("displayName eq 'lost'"), token).json(t)["value"].([]any)); n != 1 {
		t.Errorf("%d applications made by the lost request, want 1", n)
	}
	for _, f := range []simulator.Fault{{Name: "nonsense"}, {}, {Status: 500, Path: "("}} {
		if err := w.sim.AddFault(f); err == nil {
			t.Errorf("fault %+v was taken", f)
		}
	}
	if r := w.control("POST", "/faults", map[string]any{"statos": 1}); r.Status != 400 {
		t.Errorf("misspelt fault = %d", r.Status)
	}
}

func TestBatch(t *testing.T) {
	w := newWorld(t)
	token := w.adminToken(admin)
	part := func(id, method, path string, more ...any) map[string]any {
		p := map[string]any{"id": id, "method": method, "url": path}
		for i := 0; i+1 < len(more); i += 2 {
			p[more[i].(string)] = more[i+1]
		}
		return p
	}
	r := w.want(w.post("/$batch", token, map[string]any{"requests": []any{
		part("1", "GET", "/organization?$select=id"), part("2", "GET", "/users/nobody"), part("3", "GET", "/domains"),
		part("4", "GET", "/organization", "dependsOn", []string{"2"}),
		part("5", "POST", "/applications", "body", map[string]any{"displayName": "b", "signInAudience": "AzureADMyOrg"}, "headers", map[string]any{"Content-Type": "application/json"}),
	}}), 200, "batch").json(t)
	status := map[string]float64{}
	for _, p := range r["responses"].([]any) {
		m := p.(map[string]any)
		status[m["id"].(string)] = m["status"].(float64)
	}
	for id, want := range map[string]float64{"1": 200, "2": 403, "3": 403, "4": 424, "5": 201} {
		if status[id] != want {
			t.Errorf("part %s = %v, want %v", id, status[id], want)
		}
	}
	var many []any
	for i := range 21 {
		many = append(many, part(string(rune('a'+i)), "GET", "/organization"))
	}
	w.want(w.post("/$batch", token, map[string]any{"requests": many}), 400, "21 parts")
	w.want(w.post("/$batch", token, map[string]any{"requests": []any{part("1", "GET", "/organization"), part("1", "GET", "/organization")}}), 400, "same id twice")
}

func TestRequestsAreLoggedWithThePermissionUsed(t *testing.T) {
	w := newWorld(t)
	token := w.adminToken(admin)
	w.sim.ClearRequests()
	w.get("/organization", token)
	w.get("/domains", token)
	log := w.sim.Requests()
	if len(log) != 2 || log[0].Template != "GET /organization" || log[0].Permission != "Organization.Read.All" || log[0].App != "Holdfast" || log[0].User != admin || log[1].Status != 403 {
		t.Errorf("log = %+v", log)
	}
	w.want(w.control("DELETE", "/requests", nil), 204, "clear")
	if len(w.sim.Requests()) != 0 {
		t.Error("the log was not emptied")
	}
}

func TestAutoSignsAKnownPersonIn(t *testing.T) {
	w := newWorld(t, func(o *simulator.Options) { o.Auto = true })
	if back := w.returned(w.get(authorizeURL(url.Values{"login_hint": {admin}}), "")); back.Get("code") == "" {
		t.Errorf("administrator: %v", back)
	}
	if back := w.returned(w.get(authorizeURL(url.Values{"login_hint": {"priya@" + contoso}}), "")); back.Get("error") != "access_denied" {
		t.Errorf("plain person: %v", back)
	}
	w.want(w.get(authorizeURL(nil), ""), 200, "without a hint")
}

func TestOnLoopbackAHostIsThePathsFirstSegment(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	w := newWorld(t, func(o *simulator.Options) { o.Dir = t.TempDir(); o.World.Tenants[0].Apps[0].Certificate = true })
	addr, wait, err := w.sim.Start(ctx, "127.0.0.1:0", "", "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.sim.Describe("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(d.Login + "/organizations/v2.0/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var doc map[string]any
	if err := json.NewDecoder(res.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc["token_endpoint"] != d.Login+"/organizations/oauth2/v2.0/token" || doc["issuer"] != "https://login.microsoftonline.com/{tenantid}/v2.0" {
		t.Errorf("token endpoint %v, issuer %v", doc["token_endpoint"], doc["issuer"])
	}
	if pem, err := os.ReadFile(d.Tenants[0].Clients[0].PEM); err != nil || !strings.Contains(string(pem), "PRIVATE KEY") || !strings.Contains(string(pem), "CERTIFICATE") {
		t.Errorf("PEM of the client: %v", err)
	}
	stop()
	if err := wait(); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

func TestTheStateSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	in := func(o *simulator.Options) { o.Dir = dir }
	w := newWorld(t, in)
	token := w.adminToken(admin)
	a := w.newApplication(token, "User.Read.All")
	w.want(w.control("PATCH", "/tenants/"+contoso+"/users/priya@"+contoso, map[string]any{"deleted": true}), 200, "delete")

	w = newWorld(t, in)
	w.want(w.get("/organization", token), 200, "token from before")
	app := w.want(w.tokenFor(a, "https://graph.microsoft.com/.default"), 200, "token of the application").json(t)["access_token"].(string)
	w.want(w.get("/users/priya@"+contoso, app), 404, "deleted user")
	w.want(w.control("POST", "/reset", nil), 204, "reset")
	w.want(w.get("/users/priya@"+contoso, app), 401, "token after the reset")

	if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := simulator.New(simulator.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged state: %v", err)
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	w := newWorld(t)
	token := w.adminToken(admin)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 5 {
				req, _ := http.NewRequestWithContext(t.Context(), "GET", graphURL+"/organization", nil)
				req.Header.Set("Authorization", "Bearer "+token)
				res, err := w.sim.Transport().RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("status %d", res.StatusCode)
				}
			}
		})
	}
	wg.Wait()
}

func TestWorldFiles(t *testing.T) {
	data, err := json.Marshal(simulator.DefaultWorld())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"good.json": string(data), "typo.json": `{"tenants":[{"nome":"x"}]}`, "empty.json": `{}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := os.DirFS(dir)
	w, err := simulator.ReadWorld(files, "good.json")
	if err != nil || len(w.Tenants) != 6 {
		t.Errorf("the default world does not come back: %d tenants, %v", len(w.Tenants), err)
	}
	for _, name := range []string{"typo.json", "empty.json", "missing.json"} {
		if _, err := simulator.ReadWorld(files, name); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for what, p := range map[string]simulator.WorldPerson{"role": {Name: "x", UPN: "x@y", Roles: []string{"King"}}, "licence": {Name: "x", UPN: "x@y", Licences: []string{"NONE"}}, "kind": {Name: "x", UPN: "x@y", Kind: "robot"}, "name": {UPN: "x@y"}} {
		bad := simulator.World{Tenants: []simulator.WorldTenant{{Name: "n", Domain: "d", People: []simulator.WorldPerson{p}}}}
		if _, err := simulator.New(simulator.Options{World: bad}); err == nil {
			t.Errorf("a wrong %s was taken", what)
		}
	}
	if !slices.ContainsFunc(w.Tenants, func(t simulator.WorldTenant) bool { return t.Name == "Litware" }) {
		t.Error("no Litware")
	}
}
