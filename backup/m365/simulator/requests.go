package simulator

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is a line of the log of what was asked.
type Request struct {
	At         time.Time `json:"at"`
	Method     string    `json:"method"`
	Host       string    `json:"host"`
	Path       string    `json:"path"`
	Query      string    `json:"query,omitempty"`
	Template   string    `json:"template,omitempty"`   // the documented call, like GET /users/{id}
	Tenant     string    `json:"tenant,omitempty"`     // its initial domain
	AppID      string    `json:"appId,omitempty"`      // who called
	App        string    `json:"app,omitempty"`        // its name
	User       string    `json:"user,omitempty"`       // of a delegated call
	Permission string    `json:"permission,omitempty"` // what allowed the call
	Grant      string    `json:"grant,omitempty"`      // grant_type of a token request
	Cmdlet     string    `json:"cmdlet,omitempty"`     // of an Exchange call
	Fault      string    `json:"fault,omitempty"`      // that was played
	Status     int       `json:"status"`
	InBatch    bool      `json:"inBatch,omitempty"`
}

// caller notes who asks.
func (q *Request) caller(c *caller) {
	if c == nil {
		return
	}
	q.Tenant, q.AppID, q.App = c.Tenant.Domain, c.AppID, c.AppName
	if c.User != nil {
		q.User = c.User.UPN
	}
}

// logged is the line of the request being answered, so that a handler can add
// to it.
func logged(r *http.Request) *Request {
	return r.Context().Value(incomingKey{}).(*incoming).log
}

// mostRequests is how many lines the log keeps, so that a demo can run for
// weeks.
const mostRequests = 100_000

// note adds a line to the log.
func (s *Simulator) note(q Request) {
	if len(s.requests) >= mostRequests {
		s.requests = slices.Clone(s.requests[mostRequests/10:])
	}
	s.requests = append(s.requests, q)
}

// Requests returns what was asked of the simulator since the start or the
// last ClearRequests, in order. Control paths are left out.
func (s *Simulator) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ClearRequests empties the log.
func (s *Simulator) ClearRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

// mailboxConcurrency is how many requests of one application a mailbox
// answers at the same time (graph-backup.md 6.1).
const mailboxConcurrency = 4

// inflight counts requests under way per application and mailbox. It has a
// lock of its own because requests wait for the simulator's.
type inflight struct {
	mu    sync.Mutex
	count map[[sha256.Size]byte]int
}

// enter counts a request for a mailbox and says whether there are too many.
// The token stands for the application: each has one at a time.
func (f *inflight) enter(in *incoming, r *http.Request) (leave func(), crowded bool) {
	if in.host != HostGraph || len(in.segments) < 4 || !isMailboxPath(in.segments[1:]) {
		return func() {}, false
	}
	key := sha256.Sum256([]byte(strings.ToLower(in.segments[2]) + "\n" + r.Header.Get("Authorization")))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count = map[[sha256.Size]byte]int{}
	}
	f.count[key]++
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.count[key]--; f.count[key] == 0 {
			delete(f.count, key)
		}
	}), f.count[key] > mailboxConcurrency
}
