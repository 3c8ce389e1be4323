package simulator_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"holdfast/backup/m365/simulator/conform"
)

var description = sync.OnceValues(func() (*conform.Description, error) {
	return conform.Load("testdata/microsoft/graph-v1.0-subset.yaml")
})

// conforming lets every call of the test to Graph be held against Microsoft's
// description.
func (w *world) conforming() {
	w.Helper()
	d, err := description()
	if err != nil {
		w.Fatal(err)
	}
	w.client.Transport = d.Transport(w.client.Transport, w.Errorf)
}

func TestTheCheckFindsWhatDoesNotConform(t *testing.T) {
	w := newWorld(t)
	d, err := description()
	if err != nil {
		t.Fatal(err)
	}
	var found int
	count := func(string, ...any) { found++ }
	bad := d.Transport(answering(`{"value":[{"id":"1","displayNome":"x"}]}`), count)
	w.client.Transport = bad
	w.get("/users", "")
	if found != 1 {
		t.Errorf("an invented property was reported %d times, want once", found)
	}
	found = 0
	w.client.Transport = d.Transport(answering(`{"value":[{"id":1}]}`), count)
	w.get("/users", "")
	w.get("/userz", "")
	if found != 2 {
		t.Errorf("a number as id and an unknown path were reported %d times, want 2", found)
	}
}

// answering is a service that always says the same.
type answering string

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(strings.NewReader(string(a))), Request: r}, nil
}
