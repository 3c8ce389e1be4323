package m365_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/backup/m365/simulator/conform"
)

// watched is a transport that holds every call to Graph, those in a batch too,
// against Microsoft's description of it and its table of permissions.
type watched struct {
	t    *testing.T
	base http.RoundTripper
}

func newConform(t *testing.T, base http.RoundTripper) http.RoundTripper { return &watched{t, base} }

// permit is a line of Microsoft's table.
type permit struct {
	Method, Path           string
	Application, Delegated []string
}

var description = sync.OnceValues(func() (*conform.Description, error) {
	return conform.Load("simulator/testdata/microsoft/graph-v1.0-subset.yaml")
})

var permits = sync.OnceValues(func() ([]permit, error) {
	data, err := os.ReadFile("simulator/testdata/microsoft/graph-permissions-subset.json")
	if err != nil {
		return nil, err
	}
	var table struct{ Operations []permit }
	return table.Operations, json.Unmarshal(data, &table)
})

// RoundTrip passes the request on and checks both sides.
func (c *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "graph.microsoft.com" {
		return c.base.RoundTrip(r)
	}
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	res, err := c.base.RoundTrip(r)
	if err != nil || strings.HasSuffix(r.URL.Path, "/$value") {
		return res, err
	}
	got, err := io.ReadAll(res.Body)
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(got))
	if err != nil {
		res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(got), broken{err}))
		return res, nil
	}
	if strings.HasSuffix(r.URL.Path, "/$batch") {
		c.batch(r, sent, got)
	} else {
		c.check(r, sent, res, got)
	}
	return res, nil
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// check holds one call against the documents. Answers that a fault makes, of
// status 401 or 500 and more, are nonsense on purpose.
func (c *watched) check(r *http.Request, sent []byte, res *http.Response, got []byte) {
	if res.StatusCode >= 500 || res.StatusCode == http.StatusUnauthorized {
		return
	}
	d, err := description()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, problem := range d.Check(r, sent, res, got) {
		c.t.Errorf("%s %s: %s", r.Method, r.URL.RequestURI(), problem)
	}
	if res.StatusCode < 300 && !ownKey.MatchString(r.URL.Path) {
		if problem := permission(r); problem != "" {
			c.t.Errorf("%s %s: %s", r.Method, r.URL.Path, problem)
		}
	}
}

// ownKey are the calls for which an application needs no permission if they are
// about itself: the proof in the body stands for one. Microsoft's table lists
// only who may do it to others (https://learn.microsoft.com/graph/api/application-addkey).
var ownKey = regexp.MustCompile(`/applications/[^/]+/(addKey|removeKey)$`)

// batch checks the parts of a batch.
func (c *watched) batch(r *http.Request, sent, got []byte) {
	var in struct {
		Requests []struct {
			ID, Method, URL string
			Headers         map[string]string
		}
	}
	if err := json.Unmarshal(sent, &in); err != nil || len(in.Requests) == 0 || len(in.Requests) > 20 {
		c.t.Errorf("batch of %d: %v", len(in.Requests), err)
	}
	var out struct {
		Responses []struct {
			ID     string
			Status int
			Body   json.RawMessage
		}
	}
	if json.Unmarshal(got, &out) != nil {
		return // refused as a whole
	}
	for _, a := range out.Responses {
		i := slices.IndexFunc(in.Requests, func(q struct {
			ID, Method, URL string
			Headers         map[string]string
		}) bool {
			return q.ID == a.ID
		})
		part, err := http.NewRequest(in.Requests[i].Method, "https://graph.microsoft.com/v1.0"+in.Requests[i].URL, nil)
		if err != nil {
			c.t.Error(err)
			continue
		}
		part.Header.Set("Authorization", r.Header.Get("Authorization"))
		c.check(part, nil, &http.Response{StatusCode: a.Status, Header: http.Header{"Content-Type": {"application/json"}}}, a.Body)
	}
}

// permission says in words if none of the token's permissions allows a call.
func permission(r *http.Request) string {
	list, err := permits()
	if err != nil {
		return err.Error()
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1.0")
	var allowed *permit
	for i, p := range list {
		if p.Method == r.Method && matches(p.Path, path) && (allowed == nil || strings.Count(p.Path, "{") < strings.Count(allowed.Path, "{")) {
			allowed = &list[i]
		}
	}
	if allowed == nil {
		return "" // not in Microsoft's table
	}
	var claims struct {
		Roles []string
		Scp   string
	}
	parts := strings.Split(r.Header.Get("Authorization"), ".")
	if len(parts) != 3 {
		return "no token"
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return "unreadable token"
	}
	have, list2 := claims.Roles, allowed.Application
	if claims.Scp != "" {
		have, list2 = strings.Fields(claims.Scp), allowed.Delegated
	}
	if !slices.ContainsFunc(have, func(name string) bool { return slices.Contains(list2, name) }) {
		return "none of " + strings.Join(have, ", ") + " is in Microsoft's table: " + strings.Join(list2, ", ")
	}
	return ""
}

// matches says whether a path is one of a template.
func matches(template, path string) bool {
	want, have := strings.Split(template, "/"), strings.Split(strings.TrimSuffix(path, "()"), "/")
	return len(want) == len(have) && !slices.ContainsFunc(want, func(s string) bool {
		i := slices.Index(want, s)
		if before, _, ok := strings.Cut(s, "{"); ok {
			return !strings.HasPrefix(have[i], before)
		}
		return !strings.EqualFold(s, have[i])
	})
}

// The check must be able to fail.
func TestPermissionIsChecked(t *testing.T) {
	token := func(claims string) string {
		return "Bearer x." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".y"
	}
	for _, test := range []struct {
		method, path, claims string
		allowed              bool
	}{
		{"GET", "/v1.0/users/u/messages/m/$value", `{"roles":["Mail.Read"]}`, true},
		{"GET", "/v1.0/users/u/mailFolders/f/messages/delta", `{"roles":["User.Read.All"]}`, false},
		{"GET", "/v1.0/users/u/mailboxSettings", `{"roles":["Mail.Read"]}`, false},
		{"POST", "/v1.0/applications", `{"scp":"openid Application.ReadWrite.All"}`, true},
		{"POST", "/v1.0/applications", `{"scp":"openid"}`, false},
	} {
		r, _ := http.NewRequest(test.method, "https://graph.microsoft.com"+test.path, nil)
		r.Header.Set("Authorization", token(test.claims))
		if problem := permission(r); (problem == "") != test.allowed {
			t.Errorf("%s %s with %s: %q", test.method, test.path, test.claims, problem)
		}
	}
}
