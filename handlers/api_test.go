package handlers_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"holdfast/backup"
)

// program is a client of the API: every request and answer is held against
// the description.
type program struct {
	t      testing.TB
	portal *portal
	router routers.Router
	token  string
}

// program makes a token of the sample partner with scopes.
func (p *portal) program(scopes ...backup.Scope) *program {
	p.t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		p.t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		p.t.Fatal(err)
	}
	secret, err := p.store.CreateAPIToken(p.t.Context(), backup.APIToken{Name: "Monitoring", Scopes: scopes}, backup.TokenLives[0], p.owner)
	if err != nil {
		p.t.Fatal(err)
	}
	return &program{t: p.t, portal: p, router: router, token: secret.Reveal()}
}

// do asks and returns the status and the decoded answer.
func (p *program) do(method, path, body string) (int, map[string]any) {
	p.t.Helper()
	request := func() *http.Request {
		r := httptest.NewRequestWithContext(p.t.Context(), method, path, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		if p.token != "" {
			r.Header.Set("Authorization", "Bearer "+p.token)
		}
		return r
	}
	rec := httptest.NewRecorder()
	p.portal.handler.ServeHTTP(rec, request())
	res := rec.Result()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	r := request()
	route, params, err := p.router.FindRoute(r)
	if err != nil {
		p.t.Fatalf("%s %s is not described: %v", method, path, err)
	}
	asked := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	if err := openapi3filter.ValidateRequest(p.t.Context(), asked); err != nil && res.StatusCode < 300 {
		p.t.Errorf("%s %s was answered with %d, but is not as described: %v", method, path, res.StatusCode, err)
	}
	if err := openapi3filter.ValidateResponse(p.t.Context(), &openapi3filter.ResponseValidationInput{RequestValidationInput: asked, Status: res.StatusCode, Header: res.Header,
		Body: io.NopCloser(bytes.NewReader(data)), Options: asked.Options}); err != nil {
		p.t.Errorf("%s %s = %d %s: not as described: %v", method, path, res.StatusCode, data, err)
	}
	var value map[string]any
	if err := json.Unmarshal(data, &value); err != nil {
		p.t.Fatalf("%s %s = %d %q: %v", method, path, res.StatusCode, data, err)
	}
	return res.StatusCode, value
}

func (p *program) want(status int, method, path, body string) map[string]any {
	p.t.Helper()
	got, value := p.do(method, path, body)
	if got != status {
		p.t.Errorf("%s %s = %d %v, want %d", method, path, got, value, status)
	}
	return value
}

func TestAPITellsHowBackupsStand(t *testing.T) {
	p := newPortal(t)
	p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected}, account{name: "Quinn", status: backup.StatusFailing})
	api := p.program(backup.Scopes...)
	contoso := "/api/v1/organizations/" + string(p.orgs["Contoso Dental"].ID)

	list := api.want(http.StatusOK, "GET", "/api/v1/organizations?page_size=500", "")
	if n := len(list["items"].([]any)); n != len(p.orgs) || int(list["total"].(float64)) != n {
		t.Errorf("%d organizations of %v, want %d", n, list["total"], len(p.orgs))
	}
	found := api.want(http.StatusOK, "GET", "/api/v1/organizations?q=contoso", "")["items"].([]any)
	if len(found) != 1 || found[0].(map[string]any)["mailboxes"].(map[string]any)["failing"] != 1.0 {
		t.Errorf("found %v, want Contoso with one failing mailbox", found)
	}
	if one := api.want(http.StatusOK, "GET", contoso, ""); one["name"] != "Contoso Dental" {
		t.Errorf("organization = %v", one)
	}
	failing := api.want(http.StatusOK, "GET", contoso+"/mailboxes?status=failing", "")["items"].([]any)
	if len(failing) != 1 || failing[0].(map[string]any)["name"] != "Quinn" || failing[0].(map[string]any)["problem"] == nil {
		t.Errorf("failing mailboxes = %v, want Quinn with a reason", failing)
	}
	mailbox := failing[0].(map[string]any)["id"].(string)
	if one := api.want(http.StatusOK, "GET", contoso+"/mailboxes/"+mailbox, ""); one["status"] != "failing" {
		t.Errorf("mailbox = %v", one)
	}
	if runs := api.want(http.StatusOK, "GET", contoso+"/runs", "")["items"].([]any); len(runs) == 0 {
		t.Error("no run is listed")
	}
}

func TestAPISwitchesManualRoleAndLogsIt(t *testing.T) {
	p := newPortal(t)
	api := p.program(backup.ScopeFeatures, backup.ScopeOrganizations)
	path := "/api/v1/organizations/" + string(p.orgs["Contoso Dental"].ID) + "/features/manual-custom-role"
	for _, wrong := range []string{"", "{}", `{"enabled":"yes"}`, `{"enabled":true,"more":1}`, `{"enabled":true}{}`, "[]"} {
		api.want(http.StatusBadRequest, "PUT", path, wrong)
	}
	if on := api.want(http.StatusOK, "PUT", path, `{"enabled":true}`); on["enabled"] != true {
		t.Errorf("switch = %v", on)
	}
	if on := api.want(http.StatusOK, "GET", path, ""); on["enabled"] != true {
		t.Errorf("switch read again = %v", on)
	}
	_, doc := p.acting(danaMail, "Contoso Dental").get("/activity")
	if text := doc.Text(); !strings.Contains(text, "API token Monitoring") || !strings.Contains(text, "Changed who makes the custom role") {
		t.Errorf("the activity log does not name the token: %s", text)
	}
}

func TestAPIRefusesWhatATokenMayNot(t *testing.T) {
	p := newPortal(t)
	p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})
	contoso := "/api/v1/organizations/" + string(p.orgs["Contoso Dental"].ID)
	calls := []struct {
		scope              backup.Scope
		method, path, body string
	}{
		{backup.ScopeOrganizations, "GET", "/api/v1/organizations", ""}, {backup.ScopeOrganizations, "GET", contoso, ""},
		{backup.ScopeMailboxes, "GET", contoso + "/mailboxes", ""}, {backup.ScopeMailboxes, "GET", contoso + "/mailboxes/none", ""},
		{backup.ScopeRuns, "GET", contoso + "/runs", ""}, {backup.ScopeFeatures, "PUT", contoso + "/features/manual-custom-role", `{"enabled":true}`},
	}
	for _, scope := range backup.Scopes {
		api := p.program(scope)
		for _, c := range calls {
			status, value := api.do(c.method, c.path, c.body)
			if allowed := status != http.StatusForbidden; allowed != (c.scope == scope) {
				t.Errorf("%s %s with %s = %d %v", c.method, c.path, scope, status, value)
			}
		}
	}
	for name, token := range map[string]string{"none": "", "unknown": "holdfast_AAAA", "cookie's": "x"} {
		api := p.program(backup.Scopes...)
		api.token = token
		if _, value := api.do("GET", contoso, ""); value["status"] != 401.0 {
			t.Errorf("%s token = %v, want 401", name, value)
		}
	}
}

func TestAPINeverReachesAnotherPartner(t *testing.T) {
	p := newPortal(t)
	mine := p.connect("Contoso Dental", account{name: "Megan", status: backup.StatusProtected})["Megan"]
	api := p.program(backup.Scopes...)
	for _, path := range []string{"/none", "/none/mailboxes", "/none/runs", "/none/features/manual-custom-role",
		"/" + string(p.orgs["Fabrikam Legal"].ID) + "/mailboxes/" + string(mine.ID)} {
		api.want(http.StatusNotFound, "GET", "/api/v1/organizations"+path, "")
	}
}

func TestAPIAsksForUsefulNumbers(t *testing.T) {
	p := newPortal(t)
	api := p.program(backup.Scopes...)
	for query, field := range map[string]string{"page=0": "page", "page=x": "page", "page_size=501": "page_size"} {
		value := api.want(http.StatusBadRequest, "GET", "/api/v1/organizations?"+query, "")
		if value["fields"].(map[string]any)[field] == nil {
			t.Errorf("%s = %v, want a word on %s", query, value, field)
		}
	}
	path := "/api/v1/organizations/" + string(p.orgs["Contoso Dental"].ID) + "/mailboxes"
	api.want(http.StatusBadRequest, "GET", path+"?status=green", "")
}

func TestTokensAreMadeShownOnceAndRevoked(t *testing.T) {
	p := newPortal(t)
	b := p.as(danaMail)
	if res, doc := b.post("/partner/tokens", map[string][]string{"name": {" "}, "life": {"7"}}); res.StatusCode != http.StatusUnprocessableEntity ||
		!strings.Contains(doc.Text(), "Enter a name.") || !strings.Contains(doc.Text(), "at least one thing") || !strings.Contains(doc.Text(), "how long") {
		t.Errorf("empty form = %d %s", res.StatusCode, doc.Text())
	}
	b.post("/partner/tokens", map[string][]string{"name": {"RMM"}, "scopes": {"organizations.read"}, "life": {"30"}})
	_, doc := b.get("/partner/tokens")
	token := doc.Find("#api-token").AttrOr("value", strings.TrimSpace(doc.Find("#api-token").Text()))
	if !strings.HasPrefix(token, "holdfast_") {
		t.Fatalf("the page shows %q, want the token", token)
	}
	if _, doc = b.get("/partner/tokens"); strings.Contains(doc.Text(), token) || !strings.Contains(doc.Text(), "RMM") {
		t.Error("the token is shown twice, or not listed")
	}
	api := p.program(backup.ScopeRuns)
	api.token = token
	api.want(http.StatusOK, "GET", "/api/v1/organizations", "")
	list, err := p.store.APITokens(t.Context(), p.owner.Partner.ID)
	if err != nil || len(list) == 0 || list[len(list)-1].Name != "RMM" && list[0].Name != "RMM" {
		t.Fatalf("tokens = %v, %v", list, err)
	}
	for _, one := range list {
		if one.Name == "RMM" {
			if one.LastUsedAt.IsZero() || time.Until(one.ExpiresAt) > 30*24*time.Hour {
				t.Errorf("token = %+v, want its use and its end", one)
			}
			b.post("/partner/tokens/"+string(one.ID)+"/revoke", nil)
		}
	}
	api.want(http.StatusUnauthorized, "GET", "/api/v1/organizations", "")
}

func TestReadyAndHealthy(t *testing.T) {
	p := newPortal(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if res, _ := p.as("").get(path); res.StatusCode != http.StatusOK {
			t.Errorf("%s = %d", path, res.StatusCode)
		}
	}
	p.store.Close()
	if res, _ := p.as("").get("/readyz"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz without a database = %d, want 503", res.StatusCode)
	}
}
