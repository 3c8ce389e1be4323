package simulator

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// transport serves http.Client requests in process.
type transport struct{ s *Simulator }

// RoundTrip answers with what ServeHTTP wrote.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	if in.Host == "" {
		in.Host = in.URL.Host
	}
	in.RequestURI = in.URL.RequestURI()
	pr, pw := io.Pipe()
	w := &pipeWriter{header: http.Header{}, body: pw, ready: make(chan struct{})}
	go func() {
		defer func() {
			err := error(nil)
			if p := recover(); p != nil {
				err = fmt.Errorf("connection reset: %v", p)
			}
			w.finish(err)
			in.Body.Close()
		}()
		t.s.ServeHTTP(w, in)
	}()
	select {
	case <-w.ready:
	case <-r.Context().Done():
		pr.CloseWithError(r.Context().Err())
		return nil, r.Context().Err()
	}
	if w.status == 0 {
		return nil, w.err
	}
	stop := context.AfterFunc(r.Context(), func() { pr.CloseWithError(r.Context().Err()) })
	length := int64(-1)
	if v := w.header.Get("Content-Length"); v != "" {
		fmt.Sscan(v, &length) //nolint:errcheck // our own number
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: w.header.Clone(),
		Body: &pipeBody{pr, stop}, ContentLength: length, Request: r,
	}, nil
}

// pipeWriter is the response of a request that Transport serves.
type pipeWriter struct {
	header http.Header
	status int
	body   *io.PipeWriter
	ready  chan struct{} // closed when status or err is known
	err    error
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		close(w.ready)
	}
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *pipeWriter) finish(err error) {
	if w.status == 0 {
		if err == nil {
			w.WriteHeader(http.StatusOK)
		} else {
			w.err = err
			close(w.ready)
		}
	}
	if err != nil {
		w.body.CloseWithError(io.ErrUnexpectedEOF)
		return
	}
	w.body.Close()
}

type pipeBody struct {
	*io.PipeReader
	stop func() bool
}

// Close ends the request.
func (b *pipeBody) Close() error {
	b.stop()
	return b.PipeReader.Close()
}
