package m365

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// How long the transport waits, and for what.
const (
	usualPatience   = 10 * time.Minute // all waits of one call together; longer ones are the runner's
	usualSilence    = 100 * time.Second
	exchangeSilence = 16 * time.Minute // a cmdlet may run for 15
	bodySilence     = 2 * time.Minute  // between two pieces of a body
	errorBodyLimit  = 64 << 10
	bodyLimit       = 32 << 20 // of JSON that is read as a whole
)

// MailboxCalls is how many calls at a time Microsoft allows one application on
// one mailbox (https://learn.microsoft.com/graph/throttling-limits, Outlook).
const MailboxCalls = 4

// call says how the transport treats a request; it travels in the context, so
// that it reaches through the SDK.
type call struct {
	key        string        // what is throttled together: the application, with the mailbox if there is one
	parallel   int           // calls at a time for key; 0 means 8
	weight     int           // how many of them this one is, for a batch; 0 means 1
	repeatable bool          // a POST that may be sent twice, such as a batch of GETs
	patience   time.Duration // 0 means usualPatience
	silence    time.Duration // longest wait for the first byte of an answer; 0 means usualSilence
	answer     *answer       // where a refusal is noted, may be nil
}

// answer is a refusal as it came: status 400 or more, or none at all.
type answer struct {
	status int
	header http.Header
	body   []byte // at most errorBodyLimit
}

type callKey struct{}

func withCall(ctx context.Context, c call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

func callOf(req *http.Request) call {
	c, _ := req.Context().Value(callKey{}).(call)
	if c.key == "" {
		c.key = req.URL.Host
	}
	if c.parallel == 0 {
		c.parallel = 8
	}
	if c.weight == 0 {
		c.weight = 1
	}
	if c.patience == 0 {
		c.patience = usualPatience
	}
	if c.silence == 0 {
		c.silence = usualSilence
	}
	return c
}

// errNoAnswer says that a server accepted a request and then kept silent.
var errNoAnswer = errors.New("no answer in time")

// fencedError says that Microsoft asked to wait longer than a call may.
type fencedError struct{ until time.Time }

func (e *fencedError) Error() string {
	return "throttled until " + e.until.UTC().Format(time.RFC3339)
}

// throttle is the one place that waits for Microsoft. It bounds the calls at a
// time per key, repeats what can be repeated, and obeys Retry-After for all calls
// of a key. It takes the place of kiota's retry handler, which drops bodies of
// refused answers without closing them and gives up after three tries.
type throttle struct {
	base http.RoundTripper
	log  *slog.Logger

	mu    sync.Mutex
	gates map[string]*gate
}

func newThrottle(base http.RoundTripper, log *slog.Logger) *throttle {
	if base == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 64
		base = t
	}
	return &throttle{base: base, log: log, gates: map[string]*gate{}}
}

// RoundTrip implements http.RoundTripper.
func (t *throttle) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, c := req.Context(), callOf(req)
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	g := t.gate(c.key, c.parallel)
	leave := func() { g.slots.Release(int64(c.weight)) }
	var waited time.Duration
	for try := 0; ; try++ {
		if err := g.enter(ctx, c.weight, c.patience-waited); err != nil {
			return nil, err
		}
		res, refusal, err := t.once(req, c, body, leave)
		wait, again := judge(req, c, refusal, err, try)
		if ctx.Err() != nil {
			again = false
		}
		if refusal != nil && throttled(refusal) {
			if !again {
				wait = retryAfter(refusal.header, time.Now())
			}
			g.raise(time.Now().Add(wait))
		}
		if !again || waited+wait > c.patience {
			if refusal != nil && c.answer != nil {
				*c.answer = *refusal
			}
			return res, err
		}
		waited += wait
		status := 0
		if refusal != nil {
			status = refusal.status
		}
		t.log.DebugContext(ctx, "microsoft call repeated", "method", req.Method, "path", req.URL.Path, "status", status, "try", try+1, "wait", wait, "error", err)
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// readBody reads the body of a request so that it can be sent again. Holdfast
// sends small ones only.
func readBody(req *http.Request) ([]byte, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	defer req.Body.Close()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	return body, nil
}

// once sends the request one time. A refusal is read as a whole, its connection
// is free again, and res has its body from memory. Otherwise the slot is given
// back when the body has been read or closed.
func (t *throttle) once(req *http.Request, c call, body []byte, release func()) (*http.Response, *answer, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	watch := time.AfterFunc(c.silence, func() { cancel(errNoAnswer) })
	end := sync.OnceFunc(func() { watch.Stop(); cancel(nil); release() })

	sent := req.WithContext(ctx)
	if body != nil {
		sent.Body = io.NopCloser(bytes.NewReader(body))
		sent.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		sent.ContentLength = int64(len(body))
	}
	res, err := t.base.RoundTrip(sent)
	watch.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errNoAnswer) && req.Context().Err() == nil {
			err = errNoAnswer
		}
		end()
		return nil, nil, err
	}
	if res.StatusCode < http.StatusBadRequest {
		res.Body = &slotBody{body: res.Body, ctx: ctx, watch: watch, end: end}
		return res, nil, nil
	}
	defer end()
	defer res.Body.Close()
	watch.Reset(bodySilence)
	// What can't be read of an error's text is no loss: the status decides.
	text, _ := io.ReadAll(io.LimitReader(res.Body, errorBodyLimit))
	_, _ = io.CopyN(io.Discard, res.Body, errorBodyLimit)
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return res, &answer{status: res.StatusCode, header: res.Header, body: text}, nil
}

// slotBody is a body that gives its slot back at its end and does not wait for
// ever for its next piece.
type slotBody struct {
	body  io.ReadCloser
	ctx   context.Context
	watch *time.Timer
	end   func()
}

func (b *slotBody) Read(p []byte) (int, error) {
	b.watch.Reset(bodySilence)
	n, err := b.body.Read(p)
	b.watch.Stop()
	if err != nil {
		if !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), errNoAnswer) {
			err = errNoAnswer
		}
		b.end()
	}
	return n, err
}

func (b *slotBody) Close() error {
	err := b.body.Close()
	b.end()
	return err
}

// judge decides whether to send a request again, and after what pause.
func judge(req *http.Request, c call, refusal *answer, err error, try int) (time.Duration, bool) {
	safe := c.repeatable || req.Method == http.MethodGet || req.Method == http.MethodHead
	switch {
	case err != nil:
		return backoff(try), safe && try < 4
	case refusal == nil:
		return 0, false
	case throttled(refusal):
		// It was not carried out, so anything may be sent again; but 503 and 504 may
		// also come from a server on the way, after the work was done.
		if (refusal.status == http.StatusServiceUnavailable || refusal.status == http.StatusGatewayTimeout) && !safe {
			return 0, false
		}
		wait := retryAfter(refusal.header, time.Now())
		if wait == 0 {
			wait = backoff(try + 1)
		}
		return wait, try < 12
	case !safe:
		return 0, false
	case refusal.status == http.StatusInternalServerError || refusal.status == http.StatusBadGateway || refusal.status == http.StatusRequestTimeout:
		return backoff(try), try < 3 && !damagedItem(refusal)
	case refusal.status == http.StatusNotFound && len(bytes.TrimSpace(refusal.body)) == 0,
		refusal.status == http.StatusBadRequest && strings.EqualFold(parseGraph(refusal).code, "invalidRequest"):
		return backoff(try), try < 2 // transient at Graph, seen by others
	}
	return 0, false
}

// throttled says whether an answer asks to come back later.
func throttled(a *answer) bool {
	switch a.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout, 509:
		return true
	}
	// Exchange's admin interface says so in plain text and with any status.
	return bytes.Contains(a.body, []byte("maximum number of concurrent requests"))
}

// retryAfter reads Retry-After: seconds, also with a fraction, which is rounded
// up, or a date. It returns 0 if there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(s) {
		return time.Duration(math.Ceil(min(max(s, 0), 86400))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return min(at.Sub(now), 24*time.Hour)
	}
	return 0
}

// backoff is a growing pause with some chance in it: about 0.5, 1, 2 … at most 32 seconds.
func backoff(try int) time.Duration {
	d := 500 * time.Millisecond << min(try, 6)
	return d/2 + rand.N(d) //nolint:gosec // nobody gains from guessing it
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gate holds the calls of one key: so many at a time, and none before the fence.
type gate struct {
	slots *semaphore.Weighted
	mu    sync.Mutex
	fence time.Time
}

func (t *throttle) gate(key string, parallel int) *gate {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.gates[key]
	if g == nil {
		g = &gate{slots: semaphore.NewWeighted(int64(parallel))}
		t.gates[key] = g
	}
	return g
}

// enter takes so many slots once the fence has passed; it fails if that is
// further away than patience.
func (g *gate) enter(ctx context.Context, weight int, patience time.Duration) error {
	for {
		if err := g.slots.Acquire(ctx, int64(weight)); err != nil {
			return err
		}
		g.mu.Lock()
		fence := g.fence
		g.mu.Unlock()
		wait := time.Until(fence)
		if wait <= 0 {
			return nil
		}
		g.slots.Release(int64(weight))
		if wait > patience {
			return &fencedError{until: fence}
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// raise forbids calls before t.
func (g *gate) raise(t time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.After(g.fence) {
		g.fence = t
	}
}
