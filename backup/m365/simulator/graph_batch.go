package simulator

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// batchLimit is the most requests in one $batch (graph-backup.md 0a).
const batchLimit = 20

// mostInBatch is how many bytes a part's answer may have.
const mostInBatch = 8 << 20

type batchPart struct {
	ID        string            `json:"id"`
	Method    string            `json:"method"`
	URL       string            `json:"url"`
	Headers   map[string]string `json:"headers"`
	Body      json.RawMessage   `json:"body"`
	DependsOn []string          `json:"dependsOn"`
}

// batch is POST /$batch
// (https://learn.microsoft.com/graph/json-batching): answers come in any
// order, a failed dependency gives 424, each part is throttled by itself.
func (s *Simulator) batch(w *answer, r *http.Request, c *caller) {
	var body struct{ Requests []batchPart }
	if r.Method != http.MethodPost {
		s.graphError(w, http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
		return
	}
	if !s.decode(w, r, &body) {
		return
	}
	if problem := checkBatch(body.Requests); problem != "" {
		s.graphError(w, http.StatusBadRequest, "BadRequest", problem)
		return
	}
	status := map[string]int{}
	var responses batchAnswer
	for _, part := range body.Requests {
		a := newAnswer()
		if slices.ContainsFunc(part.DependsOn, func(id string) bool { return status[id] >= http.StatusBadRequest }) {
			s.graphError(a, http.StatusFailedDependency, "FailedDependency", "The request failed because a request that it depends on failed.")
		} else {
			s.batchCall(a, r, c, part)
		}
		status[part.ID] = a.status
		responses.add(part.ID, a)
	}
	responses.write(w)
}

func checkBatch(parts []batchPart) string {
	if len(parts) == 0 {
		return "Invalid batch payload format."
	}
	if len(parts) > batchLimit {
		return fmt.Sprintf("Number of batch request steps exceeds the maximum value of %d.", batchLimit)
	}
	known := map[string]bool{}
	for _, p := range parts {
		switch {
		case p.ID == "" || p.Method == "" || p.URL == "":
			return "Invalid batch payload format: id, method and url are required."
		case known[p.ID]:
			return fmt.Sprintf("Request id '%s' is used more than once.", p.ID)
		case strings.Contains(p.URL, "://"):
			return "Batch request URLs must be relative."
		case len(p.Body) > 0 && p.Headers == nil:
			return "Write request must contain a Content-Type header declaration."
		}
		for _, id := range p.DependsOn {
			if !known[id] {
				return fmt.Sprintf("Request '%s' depends on '%s', which is not before it.", p.ID, id)
			}
		}
		known[p.ID] = true
	}
	return ""
}

// batchCall runs one part as a call of its own.
func (s *Simulator) batchCall(a *answer, r *http.Request, c *caller, part batchPart) {
	outer := r.Context().Value(incomingKey{}).(*incoming)
	u, err := url.Parse("/" + strings.TrimPrefix(part.URL, "/"))
	if err != nil {
		s.graphError(a, http.StatusBadRequest, "BadRequest", "Invalid URL in batch.")
		return
	}
	version := outer.segments[0]
	in := &incoming{host: HostGraph, base: outer.base, path: "/" + version + u.EscapedPath(), log: &Request{At: s.now(), Method: strings.ToUpper(part.Method), Host: HostGraph, Query: u.RawQuery, InBatch: true}}
	in.segments, in.log.Path = splitPath(in.path), in.path
	in.log.caller(c)
	sub := (&http.Request{Method: in.log.Method, URL: u, Host: r.Host, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(part.Body))}).WithContext(context.WithValue(r.Context(), incomingKey{}, in))
	for name, value := range part.Headers {
		sub.Header.Set(name, value)
	}
	id := newGUID()
	a.header.Set("request-id", id)
	a.header.Set("client-request-id", id)
	if !s.applyFault(a, sub, in, c) {
		s.callGraph(a, sub, in.segments[1:], c, false)
	}
	if a.size > mostInBatch {
		a.clear()
		// assumed: batch-size
		s.graphError(a, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The answer is too large for a batch.")
	}
	if err := a.drain(); err != nil {
		a.clear()
		s.graphError(a, http.StatusInternalServerError, "InternalServerError", "The content could not be read.")
	}
	in.log.Status = max(a.status, http.StatusOK)
	s.note(*in.log)
}

// write answers with the responses to the parts of a batch.
func (b *batchAnswer) write(w *answer) {
	rand.Shuffle(len(b.parts), func(i, j int) { b.parts[i], b.parts[j] = b.parts[j], b.parts[i] })
	w.header.Set("Content-Type", graphType)
	w.WriteHeader(http.StatusOK)
	w.body.WriteString(`{"responses":[`)
	w.body.Write(bytes.Join(b.parts, []byte{','}))
	w.body.WriteString("]}\n")
}

// batchAnswer collects the responses to the parts of a batch, as JSON.
type batchAnswer struct{ parts [][]byte }

// add adds a response, whose body is JSON as it is, or anything else in base64.
func (b *batchAnswer) add(id string, a *answer) {
	headers := make(map[string]string, len(a.header))
	for name := range a.header {
		headers[name] = a.header.Get(name)
	}
	part, err := json.Marshal(object{"id": id, "status": max(a.status, http.StatusOK), "headers": headers})
	if err != nil {
		panic("simulator: answer can't be encoded: " + err.Error())
	}
	switch {
	case a.body.Len() == 0:
	case strings.HasPrefix(a.header.Get("Content-Type"), "application/json"):
		part = append(append(part[:len(part)-1], `,"body":`...), bytes.TrimSpace(a.body.Bytes())...)
		part = append(part, '}')
	default:
		part = append(part[:len(part)-1], `,"body":"`...)
		part = append(base64.StdEncoding.AppendEncode(part, a.body.Bytes()), '"', '}')
	}
	b.parts = append(b.parts, part)
}
