package m365_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// conform is a transport that holds every call to Graph against Microsoft's own
// description of it and against Microsoft's table of permissions.
type conform struct {
	t    *testing.T
	base http.RoundTripper
}

func newConform(t *testing.T, base http.RoundTripper) http.RoundTripper { return &conform{t, base} }

// graph is Microsoft's description, read once.
type graph struct {
	router  routers.Router
	permits map[string]permit // by method and path template
}

type permit struct {
	Method, Path           string
	Application, Delegated []string
}

var loadGraph = sync.OnceValues(func() (*graph, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("simulator/testdata/microsoft/graph-v1.0-subset.yaml")
	if err != nil {
		return nil, err
	}
	doc.Servers = openapi3.Servers{{URL: "/v1.0"}}
	g := &graph{permits: map[string]permit{}}
	if g.router, err = gorillamux.NewRouter(doc); err != nil {
		return nil, err
	}
	data, err := os.ReadFile("simulator/testdata/microsoft/graph-permissions-subset.json")
	if err != nil {
		return nil, err
	}
	var table struct{ Operations []permit }
	if err := json.Unmarshal(data, &table); err != nil {
		return nil, err
	}
	for _, p := range table.Operations {
		g.permits[p.Method+" "+p.Path] = p
	}
	return g, nil
})

func (c *conform) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "graph.microsoft.com" {
		return c.base.RoundTrip(r)
	}
	g, err := loadGraph()
	if err != nil {
		c.t.Errorf("read Microsoft's description: %v", err)
		return c.base.RoundTrip(r)
	}
	var sent []byte
	if r.Body != nil {
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	res, err := c.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK && strings.HasSuffix(r.URL.Path, "/$value") {
		return res, nil // bytes, perhaps many
	}
	got, readErr := io.ReadAll(res.Body)
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(got))
	if readErr != nil {
		res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(got), brokenReader{readErr}))
		return res, nil
	}
	if strings.HasSuffix(r.URL.Path, "/$batch") {
		c.batch(g, r, sent, got)
	} else {
		c.check(g, r, r.Method, r.URL.RequestURI(), sent, res.StatusCode, got)
	}
	return res, nil
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// check validates one call. Tests that make the simulator answer nonsense expect
// it, so answers of status 500 and more are not looked at.
func (c *conform) check(g *graph, r *http.Request, method, uri string, sent []byte, status int, got []byte) {
	// String() would escape the brackets of functions, which match no template then.
	path, query, _ := strings.Cut(uri, "?")
	raw, err := http.NewRequest(method, strings.NewReplacer("%27", "'", "%28", "(", "%29", ")").Replace(path)+"?"+query, bytes.NewReader(sent))
	if err != nil {
		c.t.Error(err)
		return
	}
	raw.Header.Set("Content-Type", "application/json")
	route, params, err := g.router.FindRoute(raw)
	if err != nil {
		c.t.Errorf("%s %s: Microsoft describes no such call: %v", method, uri, err)
		return
	}
	template := strings.TrimSuffix(route.Path, "()")
	if status < 300 {
		c.permission(g, r, method, template)
	}
	in := &openapi3filter.RequestValidationInput{Request: raw, PathParams: params, Route: route, Options: &openapi3filter.Options{
		MultiError: true, IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}}
	if err := openapi3filter.ValidateRequest(c.t.Context(), in); err != nil {
		c.t.Errorf("%s %s: %v", method, uri, err)
	}
	if status >= 500 || status == http.StatusNoContent || len(got) == 0 {
		return
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Options: in.Options}
	out.SetBodyBytes(got)
	if err := openapi3filter.ValidateResponse(c.t.Context(), out); err != nil {
		c.t.Errorf("answer to %s %s: %v", method, uri, err)
	}
}

// permission checks that one of the token's permissions allows a call that went
// through.
func (c *conform) permission(g *graph, r *http.Request, method, template string) {
	p, ok := g.permits[method+" "+template]
	if !ok {
		return // not in Microsoft's table
	}
	parts := strings.Split(r.Header.Get("Authorization"), ".")
	if len(parts) != 3 {
		c.t.Errorf("%s %s: no token", method, template)
		return
	}
	var claims struct {
		Roles []string
		Scp   string
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		c.t.Errorf("token: %v", err)
		return
	}
	have, allowed := claims.Roles, p.Application
	if claims.Scp != "" {
		have, allowed = strings.Fields(claims.Scp), p.Delegated
	}
	if !slices.ContainsFunc(have, func(name string) bool { return slices.Contains(allowed, name) }) {
		c.t.Errorf("%s %s: none of %v is in Microsoft's table for it: %v", method, template, have, allowed)
	}
}

// batch checks the parts of a batch.
func (c *conform) batch(g *graph, r *http.Request, sent, got []byte) {
	var in struct {
		Requests []struct {
			ID, Method, URL string
			Body            json.RawMessage
		}
	}
	var out struct {
		Responses []struct {
			ID     string
			Status int
			Body   json.RawMessage
		}
	}
	if err := json.Unmarshal(sent, &in); err != nil || len(in.Requests) == 0 || len(in.Requests) > 20 {
		c.t.Errorf("batch of %d: %v", len(in.Requests), err)
	}
	if json.Unmarshal(got, &out) != nil {
		return // the simulator refused it as a whole
	}
	for _, a := range out.Responses {
		for _, q := range in.Requests {
			if q.ID == a.ID {
				c.check(g, r, q.Method, "/v1.0"+q.URL, q.Body, a.Status, a.Body)
			}
		}
	}
}

// The check itself must be able to fail.
func TestConformFindsMistakes(t *testing.T) {
	g, err := loadGraph()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := http.NewRequest("GET", "/v1.0/userz", nil)
	if _, _, err := g.router.FindRoute(raw); err == nil {
		t.Error("a misspelt path was found")
	}
	for _, path := range []string{"/v1.0/servicePrincipals(appId='00000003-0000-0000-c000-000000000000')", "/v1.0/users/u/mailFolders/f/messages/delta", "/v1.0/users/u/messages/m/$value"} {
		raw, _ := http.NewRequest("GET", path, nil)
		if route, _, err := g.router.FindRoute(raw); err != nil || fmt.Sprint(route.Path) == "/users/{user-id}" {
			t.Errorf("%s: %v", path, err)
		}
	}
	if len(g.permits) < 300 {
		t.Errorf("%d permissions", len(g.permits))
	}
}
