package simulator

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault makes requests fail. Empty matchers match everything; the first fault
// that matches is played. Either Name is one of the named faults (see
// FaultNames), or Status, Code, Body and the like say what to answer.
type Fault struct {
	Name string `json:"name,omitempty"`

	Host   string `json:"host,omitempty"` // login, graph, exchange, device or reports, or the host's name
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`   // regular expression on the path with its host's version, like ^/v1.0/users
	Tenant string `json:"tenant,omitempty"` // id or a domain
	App    string `json:"app,omitempty"`    // client id, or the name of the application
	Body   string `json:"body,omitempty"`   // sent as it is, instead of an error object
	Cmdlet string `json:"cmdlet,omitempty"` // of an Exchange call; matched by its handler

	Skip  int `json:"skip,omitempty"`  // requests that are let through first
	Times int `json:"times,omitempty"` // how often it is played; 0 is until it is removed

	Status     int               `json:"status,omitempty"`
	Code       string            `json:"code,omitempty"`    // Graph's error code, or an AADSTS number at the login host
	Error      string            `json:"error,omitempty"`   // OAuth's error at the login host
	Message    string            `json:"message,omitempty"` // of the error object
	Header     map[string]string `json:"header,omitempty"`
	RetryAfter string            `json:"retryAfter,omitempty"` // header Retry-After, may be "2.5"
	NoBody     bool              `json:"noBody,omitempty"`     // the status alone
	Delay      Duration          `json:"delay,omitempty"`      // before the answer
	Cut        *int              `json:"cut,omitempty"`        // the connection breaks after so many bytes of the body of the real answer
	Reset      bool              `json:"reset,omitempty"`      // the connection breaks without an answer

	path *regexp.Regexp
}

// Duration is a time.Duration that JSON writes as "3s".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// MarshalText writes it as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// AddFault makes later requests fail.
func (s *Simulator) AddFault(f Fault) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addFault(f)
}

// ClearFaults removes all faults.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func (s *Simulator) addFault(f Fault) error {
	if f.Name != "" {
		if !slices.Contains(s.FaultNames(), f.Name) {
			return fmt.Errorf("no fault is named %q", f.Name)
		}
	} else if f.Status == 0 && f.Code == "" && f.Cut == nil && !f.Reset && f.Delay == 0 && f.Body == "" && !f.NoBody {
		return errors.New("a fault needs a name, or status, code, body, noBody, delay, cut or reset")
	}
	if short, ok := map[string]string{"login": HostLogin, "graph": HostGraph, "exchange": HostExchange, "device": HostDevice, "reports": HostReports}[f.Host]; ok {
		f.Host = short
	}
	re, err := regexp.Compile(f.Path)
	if err != nil {
		return fmt.Errorf("path of the fault: %w", err)
	}
	f.path = re
	s.faults = append(s.faults, &f)
	return nil
}

// fault takes the named fault if one is planned for this request, and says
// whether it is. Handlers ask for the faults that only they can play.
func (s *Simulator) fault(r *http.Request, c *caller, name string) *Fault {
	return s.take(r, c, "", func(f *Fault) bool { return f.Name == name })
}

// take returns the first fault that matches and counts it.
func (s *Simulator) take(r *http.Request, c *caller, appID string, wanted func(*Fault) bool) *Fault {
	in := r.Context().Value(incomingKey{}).(*incoming)
	for i, f := range s.faults {
		if !wanted(f) || !s.matches(f, r, in, c, appID) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			}
		}
		in.log.Fault = firstOf(f.Name, f.Code, strconv.Itoa(f.Status))
		return f
	}
	return nil
}

func (s *Simulator) matches(f *Fault, r *http.Request, in *incoming, c *caller, appID string) bool {
	if f.Host != "" && f.Host != in.host || f.Method != "" && !strings.EqualFold(f.Method, r.Method) || !f.path.MatchString(in.path) {
		return false
	}
	var t *tenant
	if c != nil {
		t, appID = c.Tenant, c.AppID
	} else if in.host == HostLogin && len(in.segments) > 0 {
		t = s.tenantOf(in.segments[0])
		appID = firstOf(appID, r.Form.Get("client_id"))
	}
	if f.Tenant != "" && (t == nil || s.tenantOf(f.Tenant) != t) {
		return false
	}
	if f.App != "" && !strings.EqualFold(f.App, appID) {
		a := s.appByID(appID)
		return a != nil && strings.EqualFold(a.Name, f.App)
	}
	return true
}

// applyFault plays an unnamed fault, and says whether the answer is complete.
func (s *Simulator) applyFault(a *answer, r *http.Request, in *incoming, c *caller) bool {
	f := s.take(r, c, "", func(f *Fault) bool { return f.Name == "" && f.Cmdlet == "" })
	if f == nil {
		return false
	}
	return s.play(a, r, in, f)
}

// play answers as an unnamed fault says.
func (s *Simulator) play(a *answer, r *http.Request, in *incoming, f *Fault) bool {
	if f.Delay > 0 && !s.wait(r.Context(), time.Duration(f.Delay)) {
		a.reset = true
		return true
	}
	for name, value := range f.Header {
		a.header.Set(name, value)
	}
	if f.RetryAfter != "" {
		a.header.Set("Retry-After", f.RetryAfter)
	}
	if f.Cut != nil {
		a.chop, a.cut = true, *f.Cut
	}
	switch {
	case f.Reset:
		a.reset = true
	case f.NoBody:
		a.WriteHeader(max(f.Status, http.StatusOK))
	case f.Body != "":
		a.WriteHeader(max(f.Status, http.StatusOK))
		a.Write([]byte(f.Body))
	case f.Status == 0 && f.Code == "":
		return false // only slower, or cut short
	case in.host == HostGraph:
		s.graphError(a, max(f.Status, 400), firstOf(f.Code, graphCodes[f.Status], "UnknownError"), firstOf(f.Message, http.StatusText(f.Status)))
	case in.host == HostLogin && f.Code != "":
		number, _ := strconv.Atoi(strings.TrimPrefix(f.Code, "AADSTS")) //nolint:errcheck // 0 is a number like any other
		s.aadError(a, aad(number, f.Message).with(f.Error, f.Status))
	default:
		a.WriteHeader(max(f.Status, 400))
	}
	return true
}

// graphCodes are the usual codes of a status (graph-backup.md 6.2,
// https://learn.microsoft.com/graph/errors).
var graphCodes = map[int]string{
	400: "BadRequest", 401: "InvalidAuthenticationToken", 403: "accessDenied", 404: "ResourceNotFound", 409: "conflict",
	410: "resyncRequired", 429: "TooManyRequests", 500: "InternalServerError", 502: "BadGateway", 503: "serviceNotAvailable", 504: "GatewayTimeout", 507: "quotaLimitReached", 509: "BandwidthLimitExceeded",
}
