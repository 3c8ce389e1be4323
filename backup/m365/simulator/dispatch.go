package simulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// hostNames are the simulated hosts and other names of theirs.
var hostNames = map[string]string{
	HostLogin: HostLogin, "login.microsoft.com": HostLogin, "login.windows.net": HostLogin,
	HostGraph: HostGraph, HostExchange: HostExchange, "outlook.office.com": HostExchange,
	HostDevice: HostDevice, "www.microsoft.com": HostDevice, HostReports: HostReports,
}

// incoming is a request on its way to a handler.
type incoming struct {
	host     string // one of the Host constants
	path     string // escaped, without the host's segment
	segments []string
	base     string // URL of the simulator in front of hosts' names, see baseURL
	log      *Request
}

type incomingKey struct{}

// locate finds out which host a request is for.
func locate(r *http.Request) (in *incoming) {
	path := r.URL.EscapedPath()
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	in = &incoming{}
	if host, ok := hostNames[strings.ToLower(name)]; ok {
		in.host, in.path = host, path
	} else {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		in.base = scheme + "://" + r.Host
		first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		in.host, in.path = hostNames[strings.ToLower(first)], "/"+rest
		if first == hostControl {
			in.path = path
		}
	}
	if strings.HasPrefix(in.path, controlPath+"/") {
		in.host, in.path = hostControl, strings.TrimPrefix(in.path, controlPath)
	}
	in.segments = splitPath(in.path)
	return in
}

// baseURL is the URL of a simulated host as the client of r reaches it,
// without a slash at the end.
func baseURL(r *http.Request, host string) string {
	in, _ := r.Context().Value(incomingKey{}).(*incoming)
	if in == nil || in.base == "" {
		return "https://" + host
	}
	return in.base + "/" + host
}

// selfURL is the absolute URL of the request itself with another query, as
// needed for @odata.nextLink and deltaLink.
func selfURL(r *http.Request, query url.Values) string {
	in := r.Context().Value(incomingKey{}).(*incoming)
	u := baseURL(r, in.host) + in.path
	if len(query) > 0 {
		// Graph writes "$" as it is, and clients look for it.
		u += "?" + strings.ReplaceAll(query.Encode(), "%24", "$")
	}
	return u
}

// ServeHTTP answers a request for any of the simulated hosts.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in := locate(r)
	r = r.WithContext(context.WithValue(r.Context(), incomingKey{}, in))
	limit := int64(maxBody)
	if in.host == hostControl {
		limit = maxControlBody // a message to deliver
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	a := newAnswer()
	in.log = &Request{Method: r.Method, Host: in.host, Path: in.path, Query: r.URL.RawQuery}
	release := func() {}
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		a.WriteHeader(http.StatusRequestEntityTooLarge)
	case err != nil:
		a.WriteHeader(http.StatusBadRequest)
	default:
		r.Body = io.NopCloser(bytes.NewReader(body))
		release = s.serve(a, r, in)
	}
	defer release()
	if err := a.send(w, release); err != nil {
		s.log.Info("answer was not sent whole", "path", in.path, "error", err)
	}
}

// serve runs the handler with the mutex held. What it returns is called when
// the answer has been sent.
func (s *Simulator) serve(a *answer, r *http.Request, in *incoming) (release func()) {
	release, crowded := s.inflight.enter(in, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	in.log.At = s.now()
	s.answer(a, r, in, crowded)
	in.log.Status = max(a.status, http.StatusOK)
	if in.host != hostControl {
		s.note(*in.log)
	}
	if err := s.save(); err != nil {
		s.log.Error("state was not saved", "error", err)
	}
	return release
}

// answer finds the route, checks token, faults and permission, and runs the handler.
func (s *Simulator) answer(a *answer, r *http.Request, in *incoming, crowded bool) {
	a.header.Set("Date", s.now().Format(http.TimeFormat))
	rt, ok := s.routes[in.host]
	if !ok {
		http.Error(a, "This is a simulated Microsoft. It has no host of that name; the first segment of the path must be one, such as /"+HostGraph+"/.", http.StatusNotFound)
		return
	}
	switch in.host {
	case HostGraph:
		s.answerGraph(a, r, in, crowded)
		return
	case HostExchange:
		s.answerExchange(a, r, in)
		return
	case HostLogin, HostDevice:
		a.header.Set("x-ms-request-id", newGUID())
		a.header.Set("Cache-Control", "no-store, no-cache")
		if err := r.ParseForm(); err != nil {
			http.Error(a, "bad form", http.StatusBadRequest)
			return
		}
	}
	if in.host != hostControl && s.applyFault(a, r, in, nil) {
		return
	}
	found, methods := rt.find(r.Method, in.segments)
	if found == nil {
		refuse(a, r, methods)
		return
	}
	found.bind(r, in.segments)
	found.handler(a, r, nil)
}

func refuse(a *answer, r *http.Request, methods []string) {
	if len(methods) > 0 {
		slices.Sort(methods)
		a.header.Set("Allow", strings.Join(slices.Compact(methods), ", "))
		http.Error(a, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	http.NotFound(a, r)
}

// answerGraph serves graph.microsoft.com.
func (s *Simulator) answerGraph(a *answer, r *http.Request, in *incoming, crowded bool) {
	id := newGUID()
	a.header.Set("request-id", id)
	a.header.Set("client-request-id", firstOf(r.Header.Get("client-request-id"), id))
	segments := in.segments
	if in.path == "/oidc/userinfo" {
		s.userInfo(a, r)
		return
	}
	if len(segments) == 0 || !strings.EqualFold(segments[0], "v1.0") && !strings.EqualFold(segments[0], "beta") {
		s.graphError(a, http.StatusBadRequest, "BadRequest", "Invalid version: "+strings.Join(segments[:min(1, len(segments))], ""))
		return
	}
	segments = segments[1:]
	if len(segments) > 0 && strings.EqualFold(segments[0], "myorganization") {
		segments = segments[1:]
	}
	c, problem := s.caller(r, graphAudiences)
	in.log.caller(c)
	if s.applyFault(a, r, in, c) {
		return
	}
	if problem != "" {
		a.header.Set("WWW-Authenticate", `Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`)
		s.graphError(a, http.StatusUnauthorized, "InvalidAuthenticationToken", problem)
		return
	}
	if len(segments) > 0 && strings.EqualFold(segments[0], "$batch") {
		s.batch(a, r, c)
		return
	}
	s.callGraph(a, r, segments, c, crowded)
}

// callGraph runs one Graph call, by itself or as a part of a batch.
func (s *Simulator) callGraph(a *answer, r *http.Request, segments []string, c *caller, crowded bool) {
	in := r.Context().Value(incomingKey{}).(*incoming)
	if len(segments) > 0 && strings.EqualFold(segments[0], "me") {
		if c.User == nil {
			s.graphError(a, http.StatusBadRequest, "BadRequest", "/me request is only valid with delegated authentication flow.")
			return
		}
		segments = append([]string{"users", c.User.ID}, segments[1:]...)
	}
	found, methods := s.routes[HostGraph].find(r.Method, segments)
	switch {
	case found == nil && len(methods) > 0:
		s.graphError(a, http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
		return
	case found == nil:
		name := ""
		if len(segments) > 0 {
			name = segments[len(segments)-1]
		}
		s.graphError(a, http.StatusBadRequest, "BadRequest", "Resource not found for the segment '"+name+"'.")
		return
	}
	found.bind(r, segments)
	in.log.Template = found.method + " " + found.template
	in.log.Permission = found.permission.allows(c)
	if in.log.Permission == "" && s.ownKeys(c, r, found) {
		in.log.Permission = "proof of possession"
	}
	if in.log.Permission == "" && !s.allowedByExchange(c, found, segments) {
		s.refusePermission(a, segments)
		return
	}
	if crowded && isMailboxPath(segments) {
		// graph-backup.md 6.1 and 6.2: 4 concurrent requests per app and mailbox.
		a.header.Set("Retry-After", "1")
		s.graphError(a, http.StatusTooManyRequests, "ApplicationThrottled", "Application is over its MailboxConcurrency limit.")
		return
	}
	found.handler(a, r, c)
}

// isMailboxPath says whether Exchange answers the call: /users/{id}/ and
// something of the mailbox.
func isMailboxPath(segments []string) bool {
	if len(segments) < 3 || !strings.EqualFold(segments[0], "users") {
		return false
	}
	for _, name := range []string{"messages", "mailFolders", "mailboxSettings", "calendar", "calendars", "events", "contacts", "contactFolders", "translateExchangeIds", "settings"} {
		if strings.EqualFold(segments[2], name) {
			return true
		}
	}
	return false
}

// allowedByExchange asks Exchange's own roles (RBAC for Applications).
func (s *Simulator) allowedByExchange(c *caller, found *route, segments []string) bool {
	if c.User != nil || !isMailboxPath(segments) {
		return false
	}
	u := c.Tenant.userOf(segments[1])
	return u != nil && s.exchangeAllows(c, u, found.permission.Application)
}

// refusePermission is the 403 of the service that would have answered
// (graph-backup.md 12.1, 7).
func (s *Simulator) refusePermission(a *answer, segments []string) {
	switch {
	case isMailboxPath(segments):
		s.graphError(a, http.StatusForbidden, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
	case strings.EqualFold(segments[0], "reports"):
		// assumed: reports-permission
		s.graphError(a, http.StatusForbidden, "S2SUnauthorized", "Invalid permission.")
	default:
		s.deny(a)
	}
}

// deny is the directory's 403.
func (s *Simulator) deny(a *answer) {
	s.graphError(a, http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
}

// answerExchange serves outlook.office365.com. auth.md 4.3: 401 for a wrong or
// expired token.
func (s *Simulator) answerExchange(a *answer, r *http.Request, in *incoming) {
	a.header.Set("request-id", newGUID())
	c, problem := s.caller(r, exchangeAudiences)
	if len(in.segments) > 0 && in.segments[0] == "api" {
		c, problem = nil, "" // uploads: the token is in the address
	}
	in.log.caller(c)
	if s.applyFault(a, r, in, c) {
		return
	}
	if problem != "" {
		// assumed: exchange-401
		a.header.Set("WWW-Authenticate", `Bearer client_id="00000002-0000-0ff1-ce00-000000000000", error="invalid_token"`)
		a.WriteHeader(http.StatusUnauthorized)
		return
	}
	found, methods := s.routes[HostExchange].find(r.Method, in.segments)
	if found == nil {
		refuse(a, r, methods)
		return
	}
	found.bind(r, in.segments)
	in.log.Template = found.method + " " + found.template
	found.handler(a, r, c)
}

// wait pauses without the mutex, and says whether the client is still there.
func (s *Simulator) wait(ctx context.Context, d time.Duration) bool {
	s.mu.Unlock()
	defer s.mu.Lock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
