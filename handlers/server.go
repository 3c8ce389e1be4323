// Package handlers is the portal: it reads requests, makes one call that
// matters, and answers with a page. All routes stand in routes.go.
package handlers

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/a-h/templ"
	"github.com/go-webauthn/webauthn/webauthn"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/backup/repo"
	"holdfast/static"
	"holdfast/store"
	"holdfast/views"
)

// Server is the portal. All fields but those that say otherwise are needed.
type Server struct {
	Store     *store.Store
	Microsoft *m365.Client // nil if Holdfast is not registered at Microsoft
	Content   ContentReader
	// Files has the files of exports.
	Files repo.Files
	// SessionKey signs the session cookies; 32 bytes.
	SessionKey []byte
	// Secure says that browsers reach the portal over TLS.
	Secure bool
	// TrustedProxies are the networks whose X-Forwarded-For is believed; may be empty.
	TrustedProxies []netip.Prefix
	// PublicURL is how browsers reach the portal, like https://backup.example.org.
	PublicURL string
	// FactorOptional lets the partner's people do without a second factor; for
	// demonstrations.
	FactorOptional bool
	// Client asks OpenID Connect issuers; nil for the default one.
	Client *http.Client
	// MailRoots are the certificates that a mail server's is held against; nil
	// for the system's.
	MailRoots *x509.CertPool
	// Ready says whether the portal can do its work, or why not; may be nil.
	Ready func(context.Context) error
	// Answered is told how each request was answered; route is its pattern. May be nil.
	Answered func(route string, status int, took time.Duration)
	Log      *slog.Logger

	// Storage tells where the repository lies, and the bytes that its file system
	// has free and in all, 0 if that is not known. May be nil.
	Storage func() (place string, free, total int64)
	// Every is the pause between two runs of a mailbox, unless its organization
	// chose another.
	Every time.Duration
	// SearchSpan is how long a search through all mailboxes looks before it shows
	// what it found; 0 is two seconds.
	SearchSpan time.Duration
	// ReplicaPlace is where workers keep a copy of the repository, "" for nowhere.
	ReplicaPlace string

	mux         *http.ServeMux
	brand       brand
	sessions    *sessionStore
	browsers    browsers
	passkeys    *webauthn.WebAuthn // nil if the portal's address has no name
	apiLimits   apiLimits
	apiRefusals apiLimits // of what is written down
	refusals    tally
	searches    chan struct{} // has room for those that may run at a time
	issuers     issuers
	policy      string // Content-Security-Policy of pages
}

// handlerFunc answers a request. If it returns an error it has written nothing.
type handlerFunc func(http.ResponseWriter, *http.Request) error

// maxForm is the largest request body.
const maxForm = 1 << 20

// Handler returns the portal. It is called once.
func (s *Server) Handler() http.Handler {
	s.sessions = newSessionStore(s.Store, s.SessionKey, s.Secure)
	s.apiLimits.rate, s.apiLimits.burst = apiRate, apiBurst
	s.apiRefusals.rate, s.apiRefusals.burst = refusalRate, refusalBurst
	s.browsers = newBrowsers(s.SessionKey, s.Secure)
	s.policy, s.searches = contentPolicy(s.Microsoft), make(chan struct{}, searchesMost)
	var err error
	if s.passkeys, err = newPasskeys(s.PublicURL); err != nil {
		s.Log.Error("passkeys can't be used", "error", err)
	}
	mux := http.NewServeMux()
	s.mux = mux
	mux.Handle("GET /static/{version}/{name}", static.Handler())
	for _, route := range s.routes() {
		mux.Handle(route.pattern, s.measured(route.pattern, s.serve(route)))
	}
	for _, route := range s.apiRoutes() {
		mux.Handle(route.pattern, s.measured(route.pattern, s.serveAPI(route)))
	}
	mux.HandleFunc("/api/", s.noAPI)
	protection := http.NewCrossOriginProtection()
	if u, err := url.Parse(s.PublicURL); err == nil && u.Host != "" {
		// A proxy may hand on another Host than the one that browsers see.
		if err := protection.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			s.Log.Warn("public URL is no origin", "url", s.PublicURL, "error", err)
		}
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if known, err := s.identify(r); err == nil {
			r = known
		}
		s.fail(w, r, errCrossOrigin)
	}))
	return s.middleware(protection.Handler(http.MaxBytesHandler(mux, maxForm)))
}

// middleware is what every answer goes through.
func (s *Server) middleware(next http.Handler) http.Handler {
	return s.observe(s.headers(s.branded(next)))
}

// measured tells Answered about the requests of a route.
func (s *Server) measured(pattern string, next http.Handler) http.Handler {
	if s.Answered == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, rec := time.Now(), &recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		s.Answered(pattern, rec.status, time.Since(start))
	})
}

// contentPolicy allows what pages need: own files, and forms that lead to
// Microsoft's sign-in, since browsers hold redirects of forms against it too.
func contentPolicy(microsoft *m365.Client) string {
	forms := "'self'"
	if microsoft != nil {
		if u, err := url.Parse(microsoft.SignInURL(m365.SignIn{Tenant: "organizations", Purpose: backup.SignInConsent})); err == nil && u.Host != "" {
			forms += " " + u.Scheme + "://" + u.Host
		}
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
		"frame-src 'self'; form-action " + forms + "; base-uri 'none'; frame-ancestors 'none'"
}

// serve wraps a route: who asks is read anew, the form is read, and whoever
// may not is refused.
func (s *Server) serve(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r, err := s.identify(r)
		if err == nil {
			err = readForm(r)
		}
		if err == nil {
			var ok bool
			if ok, err = s.allow(w, r, route.who); ok {
				err = s.answer(w, r, route)
			}
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// answer has a route handled, after a confirmation if it is guarded.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, route route) error {
	if what, ok := guarded[route.pattern]; ok && !s.confirmed(r) {
		return s.askConfirm(w, r, what)
	}
	return route.handle(w, r)
}

var errForm = errors.New("the form could not be read")

// readForm reads the form of a request, so that handlers can rely on it.
func readForm(r *http.Request) error {
	if r.Method != http.MethodPost {
		return nil
	}
	err := r.ParseForm()
	if err == nil && isMultipart(r) {
		err = r.ParseMultipartForm(maxForm) //nolint:gosec // the body is bounded by Handler
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errForm, err)
	}
	return nil
}

// visit is what is known about a request.
type visit struct {
	actor   backup.Actor
	session backup.Session
	half    backup.Session // a session that lacks the second factor; zero if there is none
	address string
}

type visitKey struct{}

func visitOf(r *http.Request) visit {
	v, _ := r.Context().Value(visitKey{}).(visit)
	return v
}

// actor is who makes the request; zero for a visitor.
func actor(r *http.Request) backup.Actor { return visitOf(r).actor }

// identify reads who makes a request. Role, organization and acting are read
// from the database each time.
func (s *Server) identify(r *http.Request) (*http.Request, error) {
	v := visit{address: s.clientAddress(r)}
	v.actor.Address = v.address
	session, err := s.sessions.Get(r, s.sessions.name)
	if err != nil {
		return r, err
	}
	row, ok := session.Values[rowKey].(backup.Session)
	if ok && row.Half {
		v.half = row
	} else if ok && row.PersonID != "" {
		a, err := s.Store.Actor(r.Context(), row)
		switch {
		case errors.Is(err, backup.ErrNotFound): // removed in the meantime
		case err != nil:
			return r, fmt.Errorf("read the person of session %s: %w", row.ID, err)
		default:
			a.Address = v.address
			v.actor, v.session = a, row
			// A page that asks by itself does not keep its reader signed in.
			if fragment(r) {
				break
			}
			if err := s.sessions.touch(r, row, v.address); err != nil {
				return r, fmt.Errorf("touch session %s: %w", row.ID, err)
			}
		}
	}
	return r.WithContext(context.WithValue(r.Context(), visitKey{}, v)), nil
}

// frame is what the page has around it. It takes the flash message that the
// last redirect left.
func (s *Server) frame(w http.ResponseWriter, r *http.Request, title string) views.Frame {
	f := views.Frame{Title: title, Path: r.URL.Path, Actor: actor(r), Flash: s.take(w, r, flashKey), Warning: s.take(w, r, warnKey), Now: time.Now()}
	if f.ShowsMigration() {
		conn, err := s.Store.LegacyConnection(r.Context(), f.Actor.Org.ID)
		switch {
		case err == nil:
			f.Legacy, f.Reverted = true, !conn.RevertedAt.IsZero()
		case !errors.Is(err, backup.ErrNotFound):
			s.Log.Warn("banner of the migration is left out", "error", err)
		}
	}
	return f
}

// take returns a value of the session and removes it.
func (s *Server) take(w http.ResponseWriter, r *http.Request, key string) string {
	session, err := s.sessions.Get(r, s.sessions.name)
	if err != nil {
		return ""
	}
	text, _ := session.Values[key].(string)
	if text == "" {
		return ""
	}
	delete(session.Values, key)
	if err := session.Save(r, w); err != nil {
		s.Log.Warn("session not saved", "error", err)
	}
	return text
}

// keep puts a value into the session, for the next page to take. A visitor
// has no session, so nothing is kept.
func (s *Server) keep(w http.ResponseWriter, r *http.Request, key, value string) error {
	session, err := s.sessions.Get(r, s.sessions.name)
	if err != nil {
		return err
	}
	session.Values[key] = value
	return session.Save(r, w)
}

// render answers with a page. It is complete, or it is an error.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, page templ.Component) error {
	var b bytes.Buffer
	if err := page.Render(r.Context(), &b); err != nil {
		return fmt.Errorf("render: %w", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the browser may have gone; then there is nobody to tell
	return nil
}

// refuse is redirect where nothing was done, which why says on the next page.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, path, why string) error {
	if err := s.keep(w, r, warnKey, why); err != nil {
		return err
	}
	return s.redirect(w, r, path, "")
}

// redirect answers a form with the page of this portal to go on with, which
// shows flash once.
func (s *Server) redirect(w http.ResponseWriter, r *http.Request, path, flash string) error {
	if flash != "" {
		if err := s.keep(w, r, flashKey, flash); err != nil {
			return err
		}
	}
	http.Redirect(w, r, ownPath(path), http.StatusSeeOther) //nolint:gosec // never leaves the portal
	return nil
}
