package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// guarded are the routes that change how people get in. Whoever has only the
// cookie of a session does none of it: they ask for a confirmation that is not
// older than confirmLife. The words say what is asked for.
var guarded = map[string]string{ //nolint:gosec // paths, no credentials
	"GET /account/app":                                        "set up an authenticator app",
	"POST /account/app":                                       "set up an authenticator app",
	"POST /account/app/remove":                                "remove the authenticator app",
	"POST /account/codes":                                     "make new recovery codes",
	"POST /account/passkeys/begin":                            "add a passkey",
	"POST /account/passkeys":                                  "add a passkey",
	"POST /account/passkeys/{passkey}/remove":                 "remove a passkey",
	"GET /account/providers/{provider}":                       "connect another way to sign in",
	"POST /account/providers/{provider}/disconnect":           "disconnect a way to sign in",
	"POST /partner/tokens":                                    "make an API token",
	"POST /partner/staff/{person}/link":                       "make a link to choose a password",
	"POST /partner/staff/{person}/factors":                    "remove somebody’s second factors",
	"POST /partner/organizations/{id}/users/{person}/link":    "make a link to choose a password",
	"POST /partner/organizations/{id}/users/{person}/factors": "remove somebody’s second factors",
	"POST /settings/users/{person}/link":                      "make a link to choose a password",
	"POST /settings/users/{person}/factors":                   "remove somebody’s second factors",
	"POST /settings/factor":                                   "change whether everybody needs a second factor",
}

// confirmLife is how long a confirmation, or the sign-in, counts as fresh.
const confirmLife = 10 * time.Minute

// pendingKey is the value of a session with what waits for a confirmation.
const pendingKey = "pending"

// pending is a request that waits for a confirmation, with all that was typed.
type pending struct {
	ID     string     `json:"id"` // so that a page confirms what it shows, and nothing else
	What   string     `json:"what"`
	Method string     `json:"method"`
	Path   string     `json:"path"`
	Form   url.Values `json:"form,omitempty"`
	Back   string     `json:"back"` // the page where it was asked for
}

// confirmed says whether the session's person proved who they are just now.
func (s *Server) confirmed(r *http.Request) bool {
	at := visitOf(r).session.ConfirmedAt
	return !at.IsZero() && time.Since(at) < confirmLife
}

// askConfirm keeps a request and asks who it is first. A script is told, and
// sends its form as it is.
func (s *Server) askConfirm(w http.ResponseWriter, r *http.Request, what string) error {
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		s.writeJSON(w, http.StatusForbidden, "application/json", map[string]bool{"confirm": true})
		return nil
	}
	p := pending{ID: backup.NewID[string](), What: what, Method: r.Method, Path: r.URL.RequestURI(), Form: r.PostForm, Back: "/account"}
	if u, err := url.Parse(r.Referer()); err == nil && u.Host == r.Host {
		p.Back = ownPath(u.RequestURI())
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode what waits: %w", err)
	}
	if err := s.keep(w, r, pendingKey, string(data)); err != nil {
		return fmt.Errorf("keep what waits: %w", err)
	}
	return s.redirect(w, r, "/account/confirm", "")
}

// pendingOf is what waits for a confirmation in the session; without an ID,
// nothing.
func (s *Server) pendingOf(r *http.Request) (pending, error) {
	var p pending
	text := s.valueOf(r, pendingKey)
	if text == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("decode what waits: %w", err)
	}
	return p, nil
}

// showConfirm asks somebody to confirm that it is them.
func (s *Server) showConfirm(w http.ResponseWriter, r *http.Request) error {
	return s.confirmPage(w, r, http.StatusOK, nil)
}

func (s *Server) confirmPage(w http.ResponseWriter, r *http.Request, status int, fields backup.FieldErrors) error {
	p, err := s.pendingOf(r)
	if err != nil {
		return err
	}
	if p.ID == "" {
		return s.redirect(w, r, "/account", "")
	}
	a := actor(r)
	f, err := s.Store.Factors(r.Context(), a.Person.ID)
	if err != nil {
		return err
	}
	v := views.Confirm{ID: p.ID, What: p.What, Back: p.Back, Password: a.Person.PasswordHash != "", App: f.TOTP, Passkey: s.passkeys != nil && len(f.Passkeys) > 0, Fields: fields}
	if v.Providers, err = s.connected(r); err != nil {
		return err
	}
	return s.render(w, r, status, views.ConfirmPage(s.frame(w, r, "Confirm that it is you"), v))
}

// connected are the issuers by which the person signs in.
func (s *Server) connected(r *http.Request) ([]backup.SignInProvider, error) {
	id := actor(r).Person.ID
	all, err := s.providersOf(r.Context(), id)
	if err != nil {
		return nil, err
	}
	identities, err := s.Store.Identities(r.Context(), id)
	if err != nil {
		return nil, fmt.Errorf("read identities: %w", err)
	}
	var list []backup.SignInProvider
	for _, p := range all {
		for _, i := range identities {
			if i.ProviderID == p.ID {
				list = append(list, p)
			}
		}
	}
	return list, nil
}

// stale answers if the page that was sent is not about what waits now: it may
// have been replaced from another window.
func (s *Server) stale(w http.ResponseWriter, r *http.Request) (bool, error) {
	p, err := s.pendingOf(r)
	if err != nil || p.ID != "" && p.ID == r.PostFormValue("pending") {
		return false, err
	}
	return true, s.confirmPage(w, r, http.StatusConflict, backup.FieldErrors{"confirm": "Something else waits for you now. Read what it is before you confirm it."})
}

// confirm checks the password or a code of the app, and does what waits.
func (s *Server) confirm(w http.ResponseWriter, r *http.Request) error {
	ctx, a := r.Context(), actor(r)
	if stale, err := s.stale(w, r); stale || err != nil {
		return err
	}
	try, err := s.count(ctx, factorCounters(a.Person.ID, visitOf(r).address, s.browsers.of(r, a.Person.ID)))
	if err != nil {
		return err
	}
	field, how, wrong, check := "current", "password", "This is not your password.", func() (bool, error) {
		return verifyPassword(ctx, a.Person.PasswordHash, r.PostFormValue("current"))
	}
	if r.PostForm.Has("code") {
		field, how, wrong, check = "code", "authenticator app", "This code is not right, or it was used already. Wait for the next one and try again.", func() (bool, error) {
			return s.checkTOTP(ctx, a.Person.ID, r.PostFormValue("code"), time.Now())
		}
	}
	if try.wait > 0 {
		return s.confirmPage(w, r, http.StatusTooManyRequests, backup.FieldErrors{field: fmt.Sprintf("Too many wrong tries. Wait %d minutes and try again.", try.holdBack(w))})
	}
	ok, err := check()
	if err != nil {
		return fmt.Errorf("check the %s of %s: %w", how, a.Person.ID, err)
	}
	if !ok {
		if err := s.refused(r, a.Person.ID, "wrong "+how+" for a confirmation"+try.lastOne()); err != nil {
			return err
		}
		return s.confirmPage(w, r, http.StatusUnprocessableEntity, backup.FieldErrors{field: wrong})
	}
	if err := s.worked(ctx, try); err != nil {
		return err
	}
	return s.goOn(w, r, how)
}

// beginConfirmPasskey says what a passkey of the person has to answer.
func (s *Server) beginConfirmPasskey(w http.ResponseWriter, r *http.Request) error {
	if s.passkeys == nil {
		return backup.ErrNotFound
	}
	return s.challengePerson(w, r, actor(r).Session, actor(r).Person.ID)
}

// confirmPasskey checks what the passkey answered, and does what waits.
func (s *Server) confirmPasskey(w http.ResponseWriter, r *http.Request) error {
	if s.passkeys == nil {
		return backup.ErrNotFound
	}
	ctx, a := r.Context(), actor(r)
	if stale, err := s.stale(w, r); stale || err != nil {
		return err
	}
	try, err := s.count(ctx, passkeyCounters(visitOf(r).address))
	if err != nil {
		return err
	}
	if try.wait > 0 {
		return s.confirmPage(w, r, http.StatusTooManyRequests, backup.FieldErrors{"confirm": fmt.Sprintf("Too many passkeys were refused. Wait %d minutes and try again.", try.holdBack(w))})
	}
	if _, err := s.assertion(w, r, a.Person.ID); err != nil {
		s.Log.Warn("confirmation by passkey refused", "person", a.Person.ID, "address", visitOf(r).address, "error", err)
		if err := s.refused(r, a.Person.ID, "passkey not accepted for a confirmation"+try.lastOne()); err != nil {
			return err
		}
		return s.confirmPage(w, r, http.StatusUnprocessableEntity, backup.FieldErrors{"confirm": "The passkey was not accepted. Try again, or use another way."})
	}
	if err := s.worked(ctx, try); err != nil {
		return err
	}
	return s.goOn(w, r, "passkey")
}

// startConfirm leaves for an issuer that the person has connected, which asks
// them to sign in anew.
func (s *Server) startConfirm(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pendingOf(r)
	if err != nil {
		return err
	}
	list, err := s.connected(r)
	if err != nil {
		return err
	}
	for _, provider := range list {
		if p.ID != "" && string(provider.ID) == r.PathValue("provider") {
			return s.leaveFor(w, r, provider, attempt{Purpose: purposeConfirm, Person: actor(r).Person.ID, Pending: p.ID, Next: "/account/confirm"})
		}
	}
	return backup.ErrNotFound
}

// identityConfirmed goes on after an issuer has signed the person in anew.
func (s *Server) identityConfirmed(w http.ResponseWriter, r *http.Request, p backup.SignInProvider, at attempt, id backup.Identity) error {
	a := actor(r)
	person, err := s.Store.PersonByIdentity(r.Context(), p.ID, id.Issuer, id.Subject)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("find who signed in: %w", err)
	}
	waits, err := s.pendingOf(r)
	if err != nil {
		return err
	}
	switch {
	case a.Person.ID == "" || a.Person.ID != at.Person:
		return s.oidcFailed(w, r, attempt{Purpose: purposeSignIn}, "You were signed out in the meantime. Sign in and try again.")
	case person.ID != a.Person.ID:
		s.refusedBy(r, p, id.Shown, "not the account of "+a.Person.Email+", who was asked to confirm")
		return s.oidcFailed(w, r, at, fmt.Sprintf("%s at %s is not connected to your account. Sign in there as yourself.", id.Shown, p.Name))
	case waits.ID != at.Pending:
		return s.oidcFailed(w, r, at, "Something else waits for you now. Read what it is before you confirm it.")
	}
	return s.goOn(w, r, p.Name+" ("+p.Issuer+")")
}

// goOn notes the confirmation, gives the session a new secret, so that whoever
// has copied the one before is out, and does what waits.
func (s *Server) goOn(w http.ResponseWriter, r *http.Request, how string) error {
	p, err := s.pendingOf(r)
	if err != nil {
		return err
	}
	if err := s.sessions.confirm(w, r, actor(r), how); err != nil {
		return fmt.Errorf("note the confirmation: %w", err)
	}
	s.take(w, r, pendingKey)
	if p.Method != http.MethodPost {
		// A form may not lead to another site, as the pages of issuers are.
		if strings.HasPrefix(p.Path, "/account/providers/") {
			return s.redirect(w, r, p.Back, "Thank you. Choose it once more.")
		}
		return s.redirect(w, r, p.Path, "")
	}
	to, err := url.ParseRequestURI(p.Path)
	if err != nil {
		return fmt.Errorf("read where to go on: %w", err)
	}
	again := r.Clone(r.Context())
	again.Method, again.URL, again.RequestURI, again.Body, again.ContentLength = http.MethodPost, to, p.Path, http.NoBody, 0
	again.Form, again.PostForm = p.Form, p.Form
	if again.Form == nil {
		again.Form, again.PostForm = url.Values{}, url.Values{}
	}
	again.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.mux.ServeHTTP(w, again)
	return nil
}
