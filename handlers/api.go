package handlers

import (
	_ "embed" // the description of the API
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"holdfast/backup"
	"holdfast/store"
)

// The JSON API is for a partner's programs (RMM, PSA, monitoring). It knows no
// cookies: each request carries a token, whose scopes say what it may do. The
// description in openapi.yaml is held against the answers by a test.

//go:embed openapi.yaml
var apiDescription []byte

// apiRoute is one line of the API's table.
type apiRoute struct {
	scope   backup.Scope
	pattern string
	handle  func(*http.Request, backup.Actor) (any, error)
}

func (s *Server) apiRoutes() []apiRoute {
	return []apiRoute{
		{backup.ScopeOrganizations, "GET /api/v1/organizations", s.apiOrganizations},
		{backup.ScopeOrganizations, "GET /api/v1/organizations/{id}", s.apiOrganization},
		{backup.ScopeMailboxes, "GET /api/v1/organizations/{id}/mailboxes", s.apiMailboxes},
		{backup.ScopeMailboxes, "GET /api/v1/organizations/{id}/mailboxes/{mailbox}", s.apiMailbox},
		{backup.ScopeRuns, "GET /api/v1/organizations/{id}/runs", s.apiRuns},
		{backup.ScopeOrganizations, "GET /api/v1/organizations/{id}/features/manual-custom-role", s.apiManualRole},
		{backup.ScopeFeatures, "PUT /api/v1/organizations/{id}/features/manual-custom-role", s.apiSetManualRole},
	}
}

// Limits of a token: so many requests a second, and so many at once.
const (
	apiRate  = 20
	apiBurst = 60
)

// refusalRate is how often the refusals of a token are written down: a program
// that asks again and again does not fill the log.
const refusalRate, refusalBurst = rate.Limit(1.0 / 60), 10

// apiLimits keeps the pace of each token.
type apiLimits struct {
	rate  rate.Limit // a second
	burst int
	mu    sync.Mutex
	each  map[backup.APITokenID]*rate.Limiter
}

func (l *apiLimits) allow(id backup.APITokenID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.each == nil || len(l.each) > 1000 {
		l.each = map[backup.APITokenID]*rate.Limiter{}
	}
	if l.each[id] == nil {
		l.each[id] = rate.NewLimiter(l.rate, l.burst)
	}
	return l.each[id].AllowN(now, 1)
}

// apiProblem is an error of the API (RFC 9457, problem details).
type apiProblem struct {
	Status int               `json:"status"`
	Title  string            `json:"title"`
	Detail string            `json:"detail"`
	Fields map[string]string `json:"fields,omitempty"` // what to correct, by name
	ID     string            `json:"request_id,omitempty"`
}

// Error implements error.
func (p *apiProblem) Error() string { return p.Title + ": " + p.Detail }

// serveAPI wraps a route of the API: the token is read anew for each request.
func (s *Server) serveAPI(route apiRoute) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by, err := s.tokenActor(r, route.scope)
		var answer any
		if err == nil {
			answer, err = route.handle(r, by)
			if errors.Is(err, backup.ErrNotFound) {
				s.noteMissing(r, by)
			}
		}
		if err != nil {
			s.failAPI(w, r, err)
			return
		}
		s.writeJSON(w, http.StatusOK, "application/json", answer)
	})
}

// tokenActor is the program that makes a request, if its token may.
func (s *Server) tokenActor(r *http.Request, scope backup.Scope) (backup.Actor, error) {
	secret, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || secret == "" {
		return backup.Actor{}, &apiProblem{Status: http.StatusUnauthorized, Title: "No token", Detail: "Send the header Authorization: Bearer followed by an API token. A partner owner makes one under API tokens."}
	}
	address := s.clientAddress(r)
	token, partner, err := s.Store.UseAPIToken(r.Context(), backup.Secret(secret), address, time.Now())
	switch {
	case errors.Is(err, backup.ErrNotFound):
		s.noteToken(r, backup.Secret(secret), address)
		return backup.Actor{}, &apiProblem{Status: http.StatusUnauthorized, Title: "Token not valid", Detail: "The token is not known, has expired, or was revoked. Make a new one under API tokens."}
	case err != nil:
		return backup.Actor{}, err
	case !s.apiLimits.allow(token.ID, time.Now()):
		return backup.Actor{}, &apiProblem{Status: http.StatusTooManyRequests, Title: "Too many requests", Detail: fmt.Sprintf("A token may ask %d times a second. Wait a second and go on.", apiRate)}
	case !token.May(scope):
		s.noteScope(r, backup.Actor{Partner: partner, Token: token.Name, Address: address}, token.ID, scope)
		return backup.Actor{}, &apiProblem{Status: http.StatusForbidden, Title: "Not in the token's scopes", Detail: "This needs the scope " + string(scope) + ", which the token does not have."}
	}
	return backup.Actor{Partner: partner, Token: token.Name, Address: address}, nil
}

// noteScope records that a token asked for what is not in its scopes.
func (s *Server) noteScope(r *http.Request, by backup.Actor, id backup.APITokenID, scope backup.Scope) {
	if !s.apiRefusals.allow(id, time.Now()) {
		return
	}
	if err := s.Store.RecordBy(r.Context(), by, "", "token.refused", r.Method+" "+r.URL.Path, "needs the scope "+string(scope)); err != nil {
		s.Log.Error("refusal not recorded", "error", err)
	}
}

// noteMissing records that a program asked for what is not there, or is another
// partner's: the log does not tell either.
func (s *Server) noteMissing(r *http.Request, by backup.Actor) {
	what := s.tallied("nothing is there, or it is somebody else's", "program "+by.Token+" of "+string(by.Partner.ID))
	if what == "" {
		return
	}
	if err := s.Store.RecordBy(r.Context(), by, "", "token.refused", r.Method+" "+r.URL.Path, what); err != nil {
		s.Log.Error("refusal not recorded", "error", err)
	}
}

func (s *Server) writeJSON(w http.ResponseWriter, status int, kind string, value any) {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		s.Log.Error("answer not encoded", "error", err)
		http.Error(w, `{"status":500}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the program may have gone; then there is nobody to tell
}

// failAPI answers with a problem; what nobody expected is logged.
func (s *Server) failAPI(w http.ResponseWriter, r *http.Request, err error) {
	p, ok := errors.AsType[*apiProblem](err)
	if !ok {
		f := failureOf(err)
		p = &apiProblem{Status: f.status, Title: f.title, Detail: f.text}
		if errors.Is(err, backup.ErrNotFound) {
			p.Title, p.Detail = "Not found", "There is nothing at this address for this token."
		}
		if f.log {
			p.ID = requestID(r)
			s.Log.Error("request failed", "request", p.ID, "method", r.Method, "route", r.Pattern, "error", err)
		}
	}
	switch p.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="Holdfast"`)
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	s.writeJSON(w, p.Status, "application/problem+json", p)
}

// showAPIDescription serves the description of the API.
func (s *Server) showAPIDescription(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(apiDescription)
	return nil
}

// noAPI answers for addresses below /api/ that are not there.
func (s *Server) noAPI(w http.ResponseWriter, r *http.Request) {
	s.failAPI(w, r, backup.ErrNotFound)
}

// apiPage is the page that a request asks for.
func apiPage(r *http.Request) (page, size int, err error) {
	fields := map[string]string{}
	number := func(name string, most, otherwise int) int {
		text := r.URL.Query().Get(name)
		if text == "" {
			return otherwise
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			fields[name] = fmt.Sprintf("Give a number from 1 to %d.", most)
		}
		return n
	}
	page, size = number("page", 1_000_000, 1), number("page_size", 500, 100)
	if len(fields) > 0 {
		return 0, 0, badQuery(fields)
	}
	return page, size, nil
}

func badQuery(fields map[string]string) error {
	return &apiProblem{Status: http.StatusBadRequest, Title: "Not understood", Detail: "Correct the named parts of the request.", Fields: fields}
}

func (s *Server) apiOrganizations(r *http.Request, by backup.Actor) (any, error) {
	page, size, err := apiPage(r)
	if err != nil {
		return nil, err
	}
	all, err := s.Store.Organizations(r.Context(), by.Partner.ID)
	if err != nil {
		return nil, err
	}
	found := matching(all, r.URL.Query().Get("q"))
	first := min((page-1)*size, len(found))
	list := apiList[apiOrganizationJSON]{Page: page, PageSize: size, Total: len(found), Items: []apiOrganizationJSON{}}
	for _, o := range found[first:min(first+size, len(found))] {
		list.Items = append(list.Items, organizationJSON(o))
	}
	return list, nil
}

func (s *Server) apiOrganization(r *http.Request, by backup.Actor) (any, error) {
	all, err := s.Store.Organizations(r.Context(), by.Partner.ID)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if string(o.ID) == r.PathValue("id") {
			return organizationJSON(o), nil
		}
	}
	return nil, backup.ErrNotFound
}

// apiOrg is the organization that the address names; another partner's is
// backup.ErrNotFound.
func (s *Server) apiOrg(r *http.Request, by backup.Actor) (backup.Organization, error) {
	return s.Store.Organization(r.Context(), by.Partner.ID, backup.OrgID(r.PathValue("id")))
}

func (s *Server) apiMailboxes(r *http.Request, by backup.Actor) (any, error) {
	org, err := s.apiOrg(r, by)
	if err != nil {
		return nil, err
	}
	page, size, err := apiPage(r)
	if err != nil {
		return nil, err
	}
	q := store.MailboxQuery{Status: backup.Status(r.URL.Query().Get("status")), Search: r.URL.Query().Get("q"), Page: page, PageSize: size}
	if q.Status != "" && !q.Status.Valid() {
		return nil, badQuery(map[string]string{"status": "Give one of: " + joined(backup.Statuses) + "."})
	}
	found, err := s.Store.Mailboxes(r.Context(), org.ID, q)
	if err != nil {
		return nil, err
	}
	list := apiList[apiMailboxJSON]{Page: page, PageSize: size, Total: found.Total, Items: []apiMailboxJSON{}}
	for _, m := range found.Mailboxes {
		list.Items = append(list.Items, mailboxJSON(m))
	}
	return list, nil
}

func (s *Server) apiMailbox(r *http.Request, by backup.Actor) (any, error) {
	org, err := s.apiOrg(r, by)
	if err != nil {
		return nil, err
	}
	m, err := s.Store.Mailbox(r.Context(), org.ID, backup.MailboxID(r.PathValue("mailbox")))
	if err != nil {
		return nil, err
	}
	if !m.Selected {
		return nil, backup.ErrNotFound
	}
	return mailboxJSON(m), nil
}

func (s *Server) apiRuns(r *http.Request, by backup.Actor) (any, error) {
	org, err := s.apiOrg(r, by)
	if err != nil {
		return nil, err
	}
	_, size, err := apiPage(r)
	if err != nil {
		return nil, err
	}
	runs, err := s.Store.Runs(r.Context(), org.ID, size)
	if err != nil {
		return nil, fmt.Errorf("read runs: %w", err)
	}
	items := []apiRunJSON{}
	for _, run := range runs {
		items = append(items, runJSON(run))
	}
	return map[string]any{"items": items}, nil
}

func (s *Server) apiManualRole(r *http.Request, by backup.Actor) (any, error) {
	org, err := s.apiOrg(r, by)
	return apiSwitch{Enabled: &org.ManualRole}, err
}

// apiSetManualRole switches manual custom role creation; it applies from the
// next Add Backup or migration on.
func (s *Server) apiSetManualRole(r *http.Request, by backup.Actor) (any, error) {
	org, err := s.apiOrg(r, by)
	if err != nil {
		return nil, err
	}
	var set apiSwitch
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err = dec.Decode(&set)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, err
	}
	if err != nil || set.Enabled == nil {
		return nil, badQuery(map[string]string{"enabled": `Send {"enabled": true} or {"enabled": false}.`})
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, badQuery(map[string]string{"body": "Send one JSON object and nothing after it."})
	}
	if !org.DeletingAt.IsZero() {
		return nil, errDeleting
	}
	if *set.Enabled != org.ManualRole {
		if err := s.Store.SetManualRole(r.Context(), by.Partner.ID, org.ID, *set.Enabled, by); err != nil {
			return nil, err
		}
	}
	return set, nil
}
