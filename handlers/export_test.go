package handlers

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"holdfast/views"
)

// Route is a line of the table of routes, for the test that walks it.
type Route struct{ Who, Method, Path string }

// Routes returns the table.
func (s *Server) Routes() []Route {
	var list []Route
	for _, r := range s.routes() {
		method, path, ok := strings.Cut(r.pattern, " ")
		if !ok {
			continue // what is not found answers every method
		}
		list = append(list, Route{string(r.who), method, path})
	}
	return list
}

// Guarded returns the patterns of the routes that ask for a confirmation.
func Guarded() []string { return slices.Sorted(maps.Keys(guarded)) }

// VerifyPassword lets tests compare a password with a hash.
var VerifyPassword = verifyPassword

// CountHashes says how many passwords are hashed or compared while do runs, one
// after the other.
func CountHashes(do func()) int {
	before, turns, end := hashing, make(chan struct{}), make(chan struct{})
	hashing = turns
	defer func() { hashing = before }()
	n, counted := 0, make(chan struct{})
	go func() {
		defer close(counted)
		for {
			select {
			case <-turns: // one begins
				n++
				turns <- struct{}{} // and ends
			case <-end:
				return
			}
		}
	}()
	do()
	close(end)
	<-counted
	return n
}

// TrustedTenant lets tests look at how tenants are told apart.
var TrustedTenant = trustedTenant

// DashboardFromMemory is the portal's dashboard with what the request r of a
// signed-in person reads kept in memory: the same middleware and the same
// page, without a look at the database.
func (s *Server) DashboardFromMemory(r *http.Request) (http.Handler, error) {
	r, err := s.identify(r)
	if err != nil {
		return nil, err
	}
	v, err := s.dashboardPage(r)
	if err != nil {
		return nil, err
	}
	frame := s.frame(httptest.NewRecorder(), r, "Dashboard")
	return s.middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.render(w, r, http.StatusOK, views.DashboardPage(frame, v)); err != nil {
			s.fail(w, r, err)
		}
	})), nil
}
