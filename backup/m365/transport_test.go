package m365

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
)

// server is a Microsoft of one function; it counts what is open.
type server struct {
	answer func(n int, r *http.Request) (*http.Response, error)
	mu     sync.Mutex
	times  []time.Time
	bodies []string
	open   atomic.Int64
	most   int64
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	n := len(s.times)
	s.times = append(s.times, time.Now())
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		s.bodies = append(s.bodies, string(b))
		r.Body = io.NopCloser(strings.NewReader(string(b)))
	}
	s.most = max(s.most, s.open.Add(1))
	s.mu.Unlock()
	res, err := s.answer(n, r)
	if err != nil {
		s.open.Add(-1)
		return nil, err
	}
	res.Body = &countedBody{ReadCloser: res.Body, closed: sync.OnceFunc(func() { s.open.Add(-1) })}
	return res, nil
}

type countedBody struct {
	io.ReadCloser
	closed func()
}

func (b *countedBody) Close() error { b.closed(); return b.ReadCloser.Close() }

func respond(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func throttledClient(s *server) *http.Client {
	return &http.Client{Transport: newThrottle(s, slog.New(slog.DiscardHandler))}
}

func get(t *testing.T, ctx context.Context, hc *http.Client, c call) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(withCall(ctx, c), http.MethodGet, "https://graph.microsoft.com/v1.0/users", nil)
	if err != nil {
		t.Fatal(err)
	}
	return hc.Do(req)
}

func TestThrottleObeysRetryAfter(t *testing.T) {
	for _, test := range []struct {
		header string
		want   time.Duration
	}{{"1", time.Second}, {"2.128", 3 * time.Second}, {"300", 300 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
				if n == 0 {
					return respond(429, `{"error":{"code":"TooManyRequests"}}`, "Retry-After", test.header), nil
				}
				return respond(200, "ok"), nil
			}}
			res, err := get(t, t.Context(), throttledClient(s), call{key: "a"})
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if got := s.times[1].Sub(s.times[0]); got != test.want {
				t.Errorf("Retry-After %s: second try after %s, want %s", test.header, got, test.want)
			}
			if n := s.open.Load(); n != 0 {
				t.Errorf("%d bodies left open", n)
			}
		})
	}
}

func TestThrottleObeysRetryAfterDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
			if n == 0 {
				return respond(503, "", "Retry-After", time.Now().Add(42*time.Second).UTC().Format(http.TimeFormat)), nil
			}
			return respond(200, "ok"), nil
		}}
		res, err := get(t, t.Context(), throttledClient(s), call{key: "a"})
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := s.times[1].Sub(s.times[0]); got != 42*time.Second {
			t.Errorf("second try after %s, want 42s", got)
		}
	})
}

func TestThrottleFenceHoldsTheWholeKeyAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
			if n == 0 {
				return respond(429, "", "Retry-After", "30"), nil
			}
			return respond(200, "ok"), nil
		}}
		hc := throttledClient(s)
		var wg sync.WaitGroup
		ends := map[string]time.Duration{}
		var mu sync.Mutex
		run := func(name, key string) {
			wg.Go(func() {
				res, err := get(t, t.Context(), hc, call{key: key})
				if err != nil {
					t.Error(err)
					return
				}
				res.Body.Close()
				mu.Lock()
				ends[name] = time.Since(start)
				mu.Unlock()
			})
			synctest.Wait()
		}
		run("throttled", "app/ada")
		run("same mailbox", "app/ada")
		run("other mailbox", "app/bob")
		wg.Wait()
		if ends["same mailbox"] != 30*time.Second || ends["other mailbox"] != 0 {
			t.Errorf("calls ended after %v, want the same mailbox at 30s and the other at once", ends)
		}
	})
}

func TestThrottleGivesUpWhereWaitingIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
			return respond(429, "", "Retry-After", "3600"), nil
		}}
		hc := throttledClient(s)
		start := time.Now()
		var a answer
		res, err := get(t, t.Context(), hc, call{key: "a", answer: &a})
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 429 || a.status != 429 || time.Since(start) != 0 {
			t.Errorf("status %d after %s, want 429 at once", res.StatusCode, time.Since(start))
		}
		_, err = get(t, t.Context(), hc, call{key: "a"})
		if _, ok := errors.AsType[*fencedError](err); !ok {
			t.Errorf("second call: %v, want the fence", err)
		}
		if len(s.times) != 1 {
			t.Errorf("%d requests were sent, want 1: the hour is not over", len(s.times))
		}
	})
}

func TestThrottleAllowsFourCallsPerMailboxUntilTheirBodiesAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return respond(200, "ok"), nil
		}}
		hc := throttledClient(s)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				res, err := get(t, t.Context(), hc, call{key: "app/ada", parallel: MailboxCalls})
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second) // the body is still unread
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			})
		}
		wg.Wait()
		if s.most != MailboxCalls {
			t.Errorf("%d calls at a time, want %d", s.most, MailboxCalls)
		}
	})
}

// Graph works on four calls of a batch at a time.
func TestThrottleCountsABatchAsAllCallsOnItsMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		hc := throttledClient(&server{answer: func(_ int, r *http.Request) (*http.Response, error) {
			weight := int64(max(callOf(r).weight, 1))
			for n := now.Add(weight); n > most.Load(); {
				most.Store(n)
			}
			time.Sleep(time.Second)
			now.Add(-weight)
			return respond(200, "ok"), nil
		}})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				res, err := get(t, t.Context(), hc, call{key: "app/ada", parallel: MailboxCalls, weight: 1 + 3*(i%2)})
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			})
		}
		wg.Wait()
		if most.Load() != MailboxCalls {
			t.Errorf("%d calls at a time, want %d", most.Load(), MailboxCalls)
		}
	})
}

func TestThrottleRepeatsOnlyWhatMayBeRepeated(t *testing.T) {
	broken := errors.New("connection reset by peer")
	for _, test := range []struct {
		name   string
		method string
		call   call
		first  func() (*http.Response, error)
		tries  int
	}{
		{"GET after a reset", "GET", call{}, func() (*http.Response, error) { return nil, broken }, 2},
		{"GET after 500", "GET", call{}, func() (*http.Response, error) { return respond(500, "x"), nil }, 2},
		{"GET of a damaged item", "GET", call{}, func() (*http.Response, error) {
			return respond(500, `{"error":{"code":"ErrorCorruptData"}}`), nil
		}, 1},
		{"GET after an empty 404", "GET", call{}, func() (*http.Response, error) { return respond(404, ""), nil }, 2},
		{"GET after a 404 with a reason", "GET", call{}, func() (*http.Response, error) {
			return respond(404, `{"error":{"code":"ErrorItemNotFound"}}`), nil
		}, 1},
		{"POST after a reset", "POST", call{}, func() (*http.Response, error) { return nil, broken }, 1},
		{"POST after 503", "POST", call{}, func() (*http.Response, error) { return respond(503, "", "Retry-After", "1"), nil }, 1},
		{"POST after 429", "POST", call{}, func() (*http.Response, error) { return respond(429, ""), nil }, 2},
		{"repeatable POST after 503", "POST", call{repeatable: true}, func() (*http.Response, error) { return respond(503, ""), nil }, 2},
		{"plain text of Exchange", "POST", call{}, func() (*http.Response, error) {
			return respond(400, "You have reached the maximum number of concurrent requests per tenant. Please wait and try again"), nil
		}, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
				if n == 0 {
					return test.first()
				}
				return respond(200, "ok"), nil
			}}
			var body io.Reader
			if test.method == "POST" {
				body = io.NopCloser(strings.NewReader("hello")) // no GetBody, like kiota's
			}
			req, _ := http.NewRequestWithContext(withCall(t.Context(), test.call), test.method, "https://graph.microsoft.com/v1.0/x", body)
			res, err := throttledClient(s).Do(req)
			if err == nil {
				res.Body.Close()
			}
			if len(s.times) != test.tries {
				t.Errorf("%s: %d tries, want %d", test.name, len(s.times), test.tries)
			}
			for i, b := range s.bodies {
				if b != "hello" {
					t.Errorf("%s: body of try %d is %q", test.name, i+1, b)
				}
			}
			if n := s.open.Load(); n != 0 {
				t.Errorf("%s: %d bodies left open", test.name, n)
			}
		})
	}
}

func TestThrottleStopsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
			return respond(429, "", "Retry-After", "500"), nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		start := time.Now()
		_, err := get(t, ctx, throttledClient(s), call{key: "a"})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 7*time.Second {
			t.Errorf("ended after %s with %v, want the deadline after 7s", time.Since(start), err)
		}
	})
}

func TestThrottleDoesNotWaitForEverForAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}}
		req, _ := http.NewRequestWithContext(withCall(t.Context(), call{silence: 100 * time.Second}), "POST", "https://graph.microsoft.com/", nil)
		start := time.Now()
		_, err := throttledClient(s).Do(req)
		if !errors.Is(err, errNoAnswer) || time.Since(start) != 100*time.Second {
			t.Errorf("ended after %s with %v, want no answer after 100s", time.Since(start), err)
		}
		if kind := backup.KindOf(silenceProblem(err)); kind != backup.ProblemUnavailable {
			t.Errorf("silence is of kind %q", kind)
		}
	})
}

func TestThrottleEndsABodyThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
			res := respond(200, "")
			res.Body = stalled{r.Context()}
			return res, nil
		}}
		res, err := get(t, t.Context(), throttledClient(s), call{})
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if _, err := io.ReadAll(res.Body); !errors.Is(err, errNoAnswer) {
			t.Errorf("reading ended with %v, want no answer", err)
		}
	})
}

type stalled struct{ ctx context.Context }

func (s stalled) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }
func (s stalled) Close() error             { return nil }

func TestUnder(t *testing.T) {
	for _, test := range []struct {
		address, base string
		want          bool
	}{
		{"https://graph.microsoft.com/v1.0/users", "https://graph.microsoft.com", true},
		{"https://graph.microsoft.com?x=1", "https://graph.microsoft.com", true},
		{"https://graph.microsoft.com.evil.example/v1.0", "https://graph.microsoft.com", false},
		{"https://graph.microsoft.com@evil.example/", "https://graph.microsoft.com", false},
		{"http://graph.microsoft.com/", "https://graph.microsoft.com", false},
		{"https://graph.microsoft.com:8443/", "https://graph.microsoft.com", false},
		{"http://127.0.0.1:9/graph.microsoft.com/v1.0", "http://127.0.0.1:9/graph.microsoft.com", true},
		{"http://127.0.0.1:9/graph.microsoft.comx/v1.0", "http://127.0.0.1:9/graph.microsoft.com", false},
		{"http://127.0.0.1:99/graph.microsoft.com/v1.0", "http://127.0.0.1:9/graph.microsoft.com", false},
	} {
		if got := under(test.address, test.base); got != test.want {
			t.Errorf("under(%q, %q) = %t, want %t", test.address, test.base, got, test.want)
		}
	}
}

func TestNewRefusesWhatCannotBeRight(t *testing.T) {
	good := Config{ClientID: "x", Secret: []byte("y")}
	if _, err := New(good); err != nil {
		t.Errorf("good configuration: %v", err)
	}
	for name, cfg := range map[string]Config{
		"no client":            {Secret: []byte("y")},
		"no credential":        {ClientID: "x"},
		"plain http elsewhere": {ClientID: "x", Secret: []byte("y"), GraphURL: "http://graph.example"},
		"not an address":       {ClientID: "x", Secret: []byte("y"), LoginURL: "login"},
		"with a query":         {ClientID: "x", Secret: []byte("y"), LoginURL: "https://login.example?x"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New did not complain", name)
		}
	}
}
