package simulator_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup/m365/simulator"
)

const (
	loginURL = "https://login.microsoftonline.com"
	graphURL = "https://graph.microsoft.com/v1.0"
	redirect = "https://portal.example/setup/callback"
	contoso  = "contosodental.onmicrosoft.com"
	admin    = "admin@contosodental.onmicrosoft.com"
	password = "Contoso-2026"
	secret   = "holdfast-demo-secret"
	setup    = "openid profile https://graph.microsoft.com/Application.ReadWrite.All https://graph.microsoft.com/AppRoleAssignment.ReadWrite.All https://graph.microsoft.com/Organization.Read.All"
)

// world is a simulator with a client that reaches it under Microsoft's names.
type world struct {
	*testing.T
	sim    *simulator.Simulator
	client *http.Client // follows no redirect
}

// newWorld starts the default world without replication delay.
func newWorld(t *testing.T, change ...func(*simulator.Options)) *world {
	t.Helper()
	o := simulator.Options{World: simulator.DefaultWorld(), RedirectURIs: []string{redirect}}
	for i := range o.World.Tenants {
		o.World.Tenants[i].ReplicationDelay = 0
		for k := range o.World.Tenants[i].Apps {
			o.World.Tenants[i].Apps[k].Certificate = false // making keys takes time
		}
	}
	for _, c := range change {
		c(&o)
	}
	sim, err := simulator.New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return &world{T: t, sim: sim, client: browserOf(sim)}
}

func browserOf(sim *simulator.Simulator) *http.Client {
	jar, _ := cookiejar.New(nil)
	return &http.Client{
		Transport: sim.Transport(), Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// json decodes the body.
func (r reply) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(r.Body, &v); err != nil {
		t.Fatalf("body is no JSON object: %v\n%.300s", err, r.Body)
	}
	return v
}

// code is the error code of Graph or of the token endpoint.
func (r reply) code(t testing.TB) string {
	switch e := r.json(t)["error"].(type) {
	case map[string]any:
		return e["code"].(string)
	case string:
		return e
	}
	return ""
}

// aadsts is the number of an error of Entra.
func (r reply) aadsts(t testing.TB) int {
	codes, _ := r.json(t)["error_codes"].([]any)
	if len(codes) == 0 {
		return 0
	}
	return int(codes[0].(float64))
}

func (w *world) do(method, address, token string, body any, header ...string) reply {
	w.Helper()
	var rd io.Reader
	switch b := body.(type) {
	case nil:
	case url.Values:
		rd = strings.NewReader(b.Encode())
	default:
		data, err := json.Marshal(b)
		if err != nil {
			w.Fatal(err)
		}
		rd = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(w.Context(), method, address, rd)
	if err != nil {
		w.Fatal(err)
	}
	switch body.(type) {
	case nil:
	case url.Values:
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	default:
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := w.client.Do(req)
	if err != nil {
		return reply{Body: []byte(err.Error())}
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{Status: res.StatusCode, Header: res.Header, Body: []byte(err.Error())}
	}
	return reply{res.StatusCode, res.Header, data}
}

func (w *world) get(path, token string, header ...string) reply {
	w.Helper()
	return w.do("GET", absolute(path), token, nil, header...)
}

func (w *world) post(path, token string, body any) reply {
	w.Helper()
	return w.do("POST", absolute(path), token, body)
}

func absolute(path string) string {
	if strings.HasPrefix(path, "/") {
		return graphURL + path
	}
	return path
}

// want fails unless the reply has the status.
func (w *world) want(r reply, status int, what string) reply {
	w.Helper()
	if r.Status != status {
		w.Fatalf("%s = %d, want %d: %.600s", what, r.Status, status, r.Body)
	}
	return r
}

// control calls a control path.
func (w *world) control(method, path string, body any) reply {
	w.Helper()
	return w.do(method, "https://graph.microsoft.com/_simulator"+path, "", body)
}

func (w *world) fault(f simulator.Fault) {
	w.Helper()
	if err := w.sim.AddFault(f); err != nil {
		w.Fatal(err)
	}
}

// page posts the form of an HTML page whose button has the name and value,
// with values filled in.
func (w *world) submit(at string, r reply, name, value string, fill url.Values) (string, reply) {
	w.Helper()
	doc, err := goquery.NewDocumentFromReader(bytes.NewReader(r.Body))
	if err != nil {
		w.Fatal(err)
	}
	if !strings.Contains(strings.ToLower(doc.Text()), "simulated microsoft") {
		w.Errorf("page does not say that it is simulated: %s", doc.Find("h1").Text())
	}
	button := doc.Find("button[name='" + name + "'][value='" + value + "']").First()
	form := button.Closest("form")
	if form.Length() == 0 {
		w.Fatalf("page %q has no button %s=%s: %s", doc.Find("h1").Text(), name, value, doc.Find("main").Text())
	}
	values := url.Values{name: {value}}
	form.Find("input[type=hidden]").Each(func(_ int, s *goquery.Selection) { values.Set(s.AttrOr("name", ""), s.AttrOr("value", "")) })
	for k, v := range fill {
		values[k] = v
	}
	base, err := url.Parse(at)
	if err != nil {
		w.Fatal(err)
	}
	to, err := base.Parse(form.AttrOr("action", ""))
	if err != nil {
		w.Fatal(err)
	}
	return to.String(), w.do("POST", to.String(), "", values)
}

// title is the heading of a page.
func title(r reply) string {
	doc, err := goquery.NewDocumentFromReader(bytes.NewReader(r.Body))
	if err != nil {
		return ""
	}
	return doc.Find("h1").Text()
}
