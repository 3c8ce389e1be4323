package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"holdfast/backup"
	"holdfast/store"
)

// How long a session lasts: so long after its last use, and never longer than
// sessionMax after the sign-in.
const (
	sessionIdle = 12 * time.Hour
	sessionMax  = 7 * 24 * time.Hour
	// sessionTouch is how often a use is written down.
	sessionTouch = time.Minute
)

// Keys of the values in a session.
const (
	rowKey    = "row"    // the backup.Session; not stored with the values
	flashKey  = "flash"  // a sentence to show once
	warnKey   = "warn"   // the same, of what was not done
	secretKey = "secret" // a set-up link to show once
)

// sessionStore is the sessions.Store over the sessions of the database: the
// cookie holds a signed random secret, of which the database keeps a hash.
// Only Get and Save of a session that was started by start are of use;
// visitors have none.
type sessionStore struct {
	store  *store.Store
	codecs []securecookie.Codec
	name   string
	secure bool
}

func newSessionStore(st *store.Store, key []byte, secure bool) *sessionStore {
	codec := securecookie.New(key, nil)
	codec.MaxAge(0) // the database says how long
	s := &sessionStore{store: st, codecs: []securecookie.Codec{codec}, name: "holdfast", secure: secure}
	if secure {
		s.name = "__Host-holdfast"
	}
	return s
}

// Get implements sessions.Store.
func (s *sessionStore) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New implements sessions.Store: the session of the request's cookie, or a new
// one, which nothing is kept of.
func (s *sessionStore) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(s, name)
	session.IsNew = true
	session.Options = &sessions.Options{Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode, MaxAge: int(sessionMax.Seconds())}
	cookie, err := r.Cookie(name)
	if err != nil {
		return session, nil //nolint:nilerr // no cookie is a visitor
	}
	var secret string
	if err := securecookie.DecodeMulti(name, cookie.Value, &secret, s.codecs...); err != nil {
		return session, nil //nolint:nilerr // neither is a cookie that is not ours
	}
	row, values, err := s.store.SessionBySecret(r.Context(), secret)
	if errors.Is(err, backup.ErrNotFound) {
		return session, nil
	}
	if err != nil {
		return session, fmt.Errorf("read session: %w", err)
	}
	session.IsNew, session.ID = false, string(row.ID)
	session.Values[rowKey] = row
	for k, v := range values {
		session.Values[k] = v
	}
	return session, nil
}

// Save implements sessions.Store: it keeps the values of a session. A session
// with a negative MaxAge ends.
func (s *sessionStore) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	row, ok := session.Values[rowKey].(backup.Session)
	if !ok {
		return nil
	}
	if session.Options.MaxAge < 0 {
		http.SetCookie(w, sessions.NewCookie(session.Name(), "", session.Options))
		err := s.store.EndSession(r.Context(), row.PersonID, row.ID)
		if err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("end session: %w", err)
		}
		return nil
	}
	values := map[string]string{}
	for k, v := range session.Values {
		if name, ok := k.(string); ok && name != rowKey {
			if text, ok := v.(string); ok {
				values[name] = text
			}
		}
	}
	if err := s.store.SaveSessionValues(r.Context(), row.ID, values); err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	return nil
}

// start begins a new session, of which fresh says whose it is, and ends the one that the browser
// had, so that nobody can know its secret from before the sign-in. A whole one is a sign-in; how
// says by what.
func (s *sessionStore) start(w http.ResponseWriter, r *http.Request, fresh backup.Session, how, address string) (backup.SessionID, error) {
	old, err := s.Get(r, s.name)
	if err != nil {
		return "", err
	}
	if row, ok := old.Values[rowKey].(backup.Session); ok {
		if err := s.store.EndSession(r.Context(), row.PersonID, row.ID); err != nil && !errors.Is(err, backup.ErrNotFound) {
			return "", fmt.Errorf("end the session before: %w", err)
		}
	}
	now := time.Now()
	fresh.CreatedAt, fresh.ExpiresAt, fresh.Address, fresh.Agent = now, now.Add(sessionIdle), address, r.UserAgent()
	create := func() (backup.SessionID, backup.Secret, error) { return s.store.SignIn(r.Context(), fresh, how) }
	if fresh.Half {
		fresh.ExpiresAt = now.Add(halfLife)
		create = func() (backup.SessionID, backup.Secret, error) { return s.store.CreateSession(r.Context(), fresh) }
	}
	id, secret, err := create()
	if err != nil {
		return "", err
	}
	return id, s.setCookie(w, secret, old.Options)
}

func (s *sessionStore) setCookie(w http.ResponseWriter, secret backup.Secret, options *sessions.Options) error {
	value, err := securecookie.EncodeMulti(s.name, secret.Reveal(), s.codecs...)
	if err != nil {
		return fmt.Errorf("sign the cookie: %w", err)
	}
	http.SetCookie(w, sessions.NewCookie(s.name, value, options))
	return nil
}

// confirm notes in the session that its person proved who they are, and gives it
// a new secret.
func (s *sessionStore) confirm(w http.ResponseWriter, r *http.Request, by backup.Actor, how string) error {
	session, err := s.Get(r, s.name)
	if err != nil {
		return err
	}
	row, ok := session.Values[rowKey].(backup.Session)
	if !ok {
		return backup.ErrNotFound
	}
	row.ConfirmedAt = time.Now()
	secret, err := s.store.ConfirmSession(r.Context(), by, how, row.ConfirmedAt)
	if err != nil {
		return err
	}
	session.Values[rowKey] = row
	return s.setCookie(w, secret, session.Options)
}

// touch notes that a session was used, at most once a minute.
func (s *sessionStore) touch(r *http.Request, row backup.Session, address string) error {
	now := time.Now()
	if now.Sub(row.SeenAt) < sessionTouch && row.Address == address {
		return nil
	}
	expires := now.Add(sessionIdle)
	if end := row.CreatedAt.Add(sessionMax); expires.After(end) {
		expires = end
	}
	err := s.store.TouchSession(r.Context(), row.ID, expires, address, r.UserAgent())
	if errors.Is(err, backup.ErrNotFound) {
		return nil // it was ended in another browser just now
	}
	return err
}
