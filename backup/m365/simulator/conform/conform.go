// Package conform holds calls to Microsoft Graph, and their answers, against
// Microsoft's own description (testdata/microsoft/graph-v1.0-subset.yaml). It
// is for tests: of the simulator, and of whoever calls it.
package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// Description is Microsoft's description of Graph.
type Description struct {
	router routers.Router
}

// Load reads the description from a file. It takes a quarter of a second:
// tests of a package should share one.
func Load(file string) (*Description, error) {
	doc, err := openapi3.NewLoader().LoadFromFile(file)
	if err != nil {
		return nil, fmt.Errorf("description of Graph: %w", err)
	}
	doc.Servers = openapi3.Servers{{URL: "/v1.0"}} // any host
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("description of Graph: %w", err)
	}
	return &Description{router: router}, nil
}

// Transport checks every call to graph.microsoft.com that goes through it and
// tells report what does not conform. Calls to other hosts, and to the
// simulator's control paths, pass.
func (d *Description) Transport(base http.RoundTripper, report func(format string, args ...any)) http.RoundTripper {
	return &transport{d: d, base: base, report: report}
}

type transport struct {
	d      *Description
	base   http.RoundTripper
	report func(string, ...any)
}

// RoundTrip passes the request on and checks both sides.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	path := r.URL.EscapedPath()
	if r.URL.Hostname() != "graph.microsoft.com" || strings.HasPrefix(path, "/_simulator/") || strings.HasPrefix(path, "/beta/") || strings.HasSuffix(path, "/$batch") {
		return t.base.RoundTrip(r)
	}
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	res, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	for _, problem := range t.d.Check(r, sent, res, body) {
		t.report("%s %s: %s", r.Method, r.URL.RequestURI(), problem)
	}
	return res, nil
}

// Check returns what of a call does not conform.
func (d *Description) Check(r *http.Request, sent []byte, res *http.Response, body []byte) (problems []string) {
	raw, err := http.NewRequestWithContext(context.Background(), r.Method, "/", bytes.NewReader(sent))
	if err != nil {
		return []string{err.Error()}
	}
	raw.Header = r.Header.Clone()
	raw.URL.Path, raw.URL.RawQuery = normal(r.URL.Path), r.URL.RawQuery
	// Brackets and quotes would be escaped, and then match no template.
	raw.URL.RawPath = strings.NewReplacer("%27", "'", "%28", "(", "%29", ")").Replace(raw.URL.EscapedPath())
	route, params, err := d.router.FindRoute(raw)
	if err != nil {
		return []string{"Microsoft describes no such call: " + err.Error()}
	}
	in := &openapi3filter.RequestValidationInput{Request: raw, PathParams: params, Route: route, Options: &openapi3filter.Options{
		MultiError: true, IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}}
	if res.StatusCode < http.StatusBadRequest {
		// What the service refused need not have been well formed.
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			problems = append(problems, "request: "+err.Error())
		}
		problems = append(problems, names("request", requestSchema(route), sent)...)
	}
	if res.StatusCode == http.StatusNoContent {
		return problems
	}
	header := res.Header.Clone()
	if declared := declaredType(route, res.StatusCode); declared != "" {
		header.Set("Content-Type", declared) // content arrives with its own type
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: res.StatusCode, Header: header, Options: in.Options}
	out.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		problems = append(problems, "answer: "+err.Error())
	}
	return append(problems, names("answer", responseSchema(route, res.StatusCode), body)...)
}

var (
	keyInBrackets = regexp.MustCompile(`\('([^']|'')*'\)`)
	// omitted are properties that Microsoft has and the subset lost on the way.
	omitted = []string{"tags"}
)

// normal brings other spellings of a path into the described one.
func normal(path string) string {
	path = strings.Replace(path, "/v1.0/myorganization/", "/v1.0/", 1)
	path = keyInBrackets.ReplaceAllStringFunc(path, func(key string) string {
		return "/" + strings.ReplaceAll(key[2:len(key)-2], "''", "'")
	})
	return strings.TrimSuffix(path, "()")
}

func responseOf(route *routers.Route, status int) *openapi3.Response {
	for _, key := range []string{fmt.Sprint(status), fmt.Sprintf("%dXX", status/100), "default"} {
		if ref := route.Operation.Responses.Value(key); ref != nil {
			return ref.Value
		}
	}
	return nil
}

// declaredType is the only type of the answer's content if it is not JSON.
func declaredType(route *routers.Route, status int) string {
	if r := responseOf(route, status); r != nil && len(r.Content) == 1 {
		for name := range r.Content {
			if name != "application/json" {
				return name
			}
		}
	}
	return ""
}

func responseSchema(route *routers.Route, status int) *openapi3.SchemaRef {
	if r := responseOf(route, status); r != nil {
		return jsonSchema(r.Content)
	}
	return nil
}

func requestSchema(route *routers.Route) *openapi3.SchemaRef {
	if b := route.Operation.RequestBody; b != nil && b.Value != nil {
		return jsonSchema(b.Value.Content)
	}
	return nil
}

func jsonSchema(content openapi3.Content) *openapi3.SchemaRef {
	for name, media := range content {
		if kind, _, err := mime.ParseMediaType(name); err == nil && kind == "application/json" {
			return media.Schema
		}
	}
	return nil
}

// names reports properties that no schema has: neither this file nor
// Microsoft's forbids them, so an invented name would pass.
func names(where string, schema *openapi3.SchemaRef, body []byte) []string {
	if schema == nil || len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return []string{where + ": " + err.Error()}
	}
	var problems []string
	walk(schema, value, where, &problems)
	return problems
}

func walk(schema *openapi3.SchemaRef, value any, at string, problems *[]string) {
	switch v := value.(type) {
	case map[string]any:
		known := map[string]*openapi3.SchemaRef{}
		collect(schema, known)
		if _, derived := v["@odata.type"]; len(known) == 0 || derived {
			return
		}
		for name, inner := range v {
			if strings.Contains(name, "@") || slices.Contains(omitted, name) {
				continue
			}
			if sub, ok := known[strings.ToLower(name)]; ok {
				walk(sub, inner, at+"."+name, problems)
			} else {
				*problems = append(*problems, fmt.Sprintf("%s.%s: Microsoft has no such property", at, name))
			}
		}
	case []any:
		if items := itemsOf(schema); items != nil {
			for i, inner := range v {
				walk(items, inner, fmt.Sprintf("%s[%d]", at, i), problems)
			}
		}
	}
	slices.Sort(*problems)
}

// collect gathers the properties of a schema and of what it is composed of.
func collect(ref *openapi3.SchemaRef, known map[string]*openapi3.SchemaRef) {
	if ref == nil || ref.Value == nil {
		return
	}
	for name, sub := range ref.Value.Properties {
		known[strings.ToLower(name)] = sub
	}
	for _, list := range []openapi3.SchemaRefs{ref.Value.AllOf, ref.Value.AnyOf, ref.Value.OneOf} {
		for _, sub := range list {
			collect(sub, known)
		}
	}
}

func itemsOf(ref *openapi3.SchemaRef) *openapi3.SchemaRef {
	if ref == nil || ref.Value == nil {
		return nil
	}
	if ref.Value.Items != nil {
		return ref.Value.Items
	}
	for _, list := range []openapi3.SchemaRefs{ref.Value.AllOf, ref.Value.AnyOf, ref.Value.OneOf} {
		for _, sub := range list {
			if items := itemsOf(sub); items != nil {
				return items
			}
		}
	}
	return nil
}
