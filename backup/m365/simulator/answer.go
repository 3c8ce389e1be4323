package simulator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// answer is a response that is kept until the handler is done, so that faults
// can change it, $batch can contain it and the state is saved before it goes
// out. It is an http.ResponseWriter.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
	stream func() (io.ReadCloser, error) // the body instead, read after the mutex is released
	size   int64                         // of stream

	cut   int  // with chopped: bytes of the body to send before the connection breaks
	chop  bool // the connection breaks within the body
	reset bool // the connection breaks before anything is sent
}

func newAnswer() *answer { return &answer{header: http.Header{}} }

// Header returns the header to be sent.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader sets the status; the first one counts.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write appends to the body.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// json answers with v.
func (a *answer) json(status int, v any) {
	if a.header.Get("Content-Type") == "" {
		a.header.Set("Content-Type", "application/json; charset=utf-8")
	}
	a.WriteHeader(status)
	enc := json.NewEncoder(&a.body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("simulator: answer can't be encoded: " + err.Error())
	}
}

// graphType is the media type of Graph's JSON.
const graphType = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"

// graphJSON answers as Graph does.
func (a *answer) graphJSON(status int, v any) {
	a.header.Set("Content-Type", graphType)
	a.json(status, v)
}

// streamBody answers 200 with content that open gives. It is called after the
// mutex is released, so it must not touch the state.
func (a *answer) streamBody(contentType string, size int64, open func() (io.ReadCloser, error)) {
	a.header.Set("Content-Type", contentType)
	a.WriteHeader(http.StatusOK)
	a.stream, a.size = open, size
}

// clear takes back what was answered, so that it can be something else.
func (a *answer) clear() {
	a.status, a.stream, a.size = 0, nil, 0
	a.body.Reset()
}

// drain reads a streamed body into memory, for $batch.
func (a *answer) drain() error {
	if a.stream == nil {
		return nil
	}
	body, err := a.stream()
	if err != nil {
		return err
	}
	defer body.Close()
	a.stream = nil
	_, err = io.Copy(&a.body, body)
	return err
}

// send writes the answer to the client. done is called before the last bytes
// go out, so that the client's next request can't overtake it.
func (a *answer) send(w http.ResponseWriter, done func()) error {
	if a.reset {
		panic(http.ErrAbortHandler)
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	var src io.Reader = &a.body
	size := int64(a.body.Len())
	if a.stream != nil {
		body, err := a.stream()
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return err
		}
		defer body.Close()
		src, size = &lastRead{Reader: body, left: a.size, done: done}, a.size
	} else {
		done()
	}
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	w.WriteHeader(max(a.status, http.StatusOK))
	if a.chop {
		src = io.LimitReader(src, int64(a.cut))
	}
	_, err := io.Copy(w, src)
	if a.chop {
		panic(http.ErrAbortHandler)
	}
	return err
}

// lastRead calls done when the last byte has been read.
type lastRead struct {
	io.Reader
	left int64
	done func()
}

// Read counts.
func (l *lastRead) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if l.left -= int64(n); l.left <= 0 {
		l.done()
	}
	return n, err
}

// graphError answers as Graph does when it refuses
// (https://learn.microsoft.com/graph/errors).
func (s *Simulator) graphError(w *answer, status int, code, message string) {
	now := s.now().Format("2006-01-02T15:04:05")
	id := w.header.Get("request-id")
	w.graphJSON(status, map[string]any{"error": map[string]any{
		"code": code, "message": message,
		"innerError": map[string]any{"date": now, "request-id": id, "client-request-id": w.header.Get("client-request-id")},
	}})
}

// notFound is Graph's answer for a directory object that is not there.
func (s *Simulator) notFound(w *answer, id string) {
	s.graphError(w, http.StatusNotFound, "Request_ResourceNotFound",
		"Resource '"+id+"' does not exist or one of its queried reference-property objects are not present.")
}

// badRequest is Graph's answer for a directory request it does not understand.
func (s *Simulator) badRequest(w *answer, message string) {
	s.graphError(w, http.StatusBadRequest, "Request_BadRequest", message)
}

// decode reads a JSON body into v and answers 400 if it is none.
func (s *Simulator) decode(w *answer, r *http.Request, v any) bool {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		s.graphError(w, http.StatusBadRequest, "BadRequest", "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.")
		return false
	}
	return true
}
