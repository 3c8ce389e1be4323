package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// showSignIn shows the form, or leads on if somebody is signed in.
func (s *Server) showSignIn(w http.ResponseWriter, r *http.Request) error {
	next := ownPath(r.FormValue("next"))
	if actor(r).Person.ID != "" {
		return s.redirect(w, r, next, "")
	}
	v := views.SignIn{Next: next}
	switch {
	case r.URL.Query().Has("signed-out"):
		v.Notice = "You are signed out."
	case next != "/":
		v.Notice = "Sign in to go on."
	}
	return s.signInPage(w, r, http.StatusOK, v)
}

// signInPage shows the form with the ways to sign in that everybody has.
func (s *Server) signInPage(w http.ResponseWriter, r *http.Request, status int, v views.SignIn) error {
	var err error
	if v.Providers, err = s.Store.SharedSignInProviders(r.Context()); err != nil {
		return err
	}
	v.Passkeys = s.passkeys != nil
	return s.render(w, r, status, views.SignInPage(v))
}

// wrongSignIn is the same for a wrong address and a wrong password.
const wrongSignIn = "The e-mail address or the password is not right."

// signIn checks address and password, and starts a new session.
func (s *Server) signIn(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	v := views.SignIn{Next: ownPath(r.PostFormValue("next")), Email: strings.TrimSpace(r.PostFormValue("email"))}
	password := r.PostFormValue("password")
	if v.Email == "" || password == "" {
		v.Fields = backup.FieldErrors{"email": "Enter your e-mail address and your password."}
		return s.signInPage(w, r, http.StatusUnprocessableEntity, v)
	}
	keys := signInKeys(v.Email, visitOf(r).address)
	wait, err := s.mayTry(ctx, keys)
	if err != nil {
		return err
	}
	if wait > 0 {
		minutes := int((wait + time.Minute - 1) / time.Minute)
		w.Header().Set("Retry-After", strconv.Itoa(minutes*60))
		v.Fields = backup.FieldErrors{"email": fmt.Sprintf("Too many failed sign-ins. Wait %d minutes and try again.", minutes)}
		return s.signInPage(w, r, http.StatusTooManyRequests, v)
	}
	person, err := s.Store.PersonByEmail(ctx, v.Email)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("find the person: %w", err)
	}
	if len(password) > backup.PasswordMax {
		password = "" // longer than any; compared all the same
	}
	ok, err := verifyPassword(ctx, person.PasswordHash, password)
	if err != nil {
		return fmt.Errorf("compare the password of %s: %w", person.ID, err)
	}
	if !ok {
		s.Log.Info("sign-in refused", "person", person.ID, "address", visitOf(r).address)
		if err := s.refused(r, person.ID, "password"); err != nil {
			return err
		}
		v.Fields = backup.FieldErrors{"email": wrongSignIn}
		return s.signInPage(w, r, http.StatusUnprocessableEntity, v)
	}
	// The failures from this address are forgotten; those of the account from
	// everywhere, and of the address for every account, count on.
	if err := s.Store.RecordSignIn(ctx, keys[0].name, true); err != nil {
		return fmt.Errorf("forget failed sign-ins: %w", err)
	}
	return s.passwordProved(w, r, person, v.Next, "")
}

// passwordProved signs in a person whose password was right, or asks for the
// second factor first. What is shown once on the next page is flash.
func (s *Server) passwordProved(w http.ResponseWriter, r *http.Request, person backup.Person, next, flash string) error {
	if person.Factors > 0 {
		return s.askFactor(w, r, person.ID, next, flash)
	}
	return s.enter(w, r, backup.Session{PersonID: person.ID, Via: backup.ViaPassword}, "password", next, flash)
}

// enter signs a person in by whatever fresh says, and leads on; how is that in
// words, for the log.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, fresh backup.Session, how, next, flash string) error {
	id, err := s.sessions.start(w, r, fresh, how, visitOf(r).address)
	if err != nil {
		return fmt.Errorf("start a session: %w", err)
	}
	if flash != "" {
		if err := s.Store.SaveSessionValues(r.Context(), id, map[string]string{flashKey: flash}); err != nil {
			return fmt.Errorf("keep the message: %w", err)
		}
	}
	http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // callers give a path of this portal
	return nil
}

// signOut ends the session. It works without one, too.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request) error {
	session, err := s.sessions.Get(r, s.sessions.name)
	if err != nil {
		return err
	}
	if a := actor(r); a.Person.ID != "" {
		if a.Acting.ID != "" {
			if err := s.Store.StopActing(r.Context(), a); err != nil && !errors.Is(err, backup.ErrNotFound) {
				return fmt.Errorf("stop acting: %w", err)
			}
			a.Org, a.Acting = backup.Organization{}, backup.Acting{}
		}
		if err := s.Store.RecordBy(r.Context(), a, a.Org.ID, "sign_out", a.Person.Email, ""); err != nil {
			return fmt.Errorf("record the sign-out: %w", err)
		}
	}
	session.Options.MaxAge = -1
	if err := session.Save(r, w); err != nil {
		return err
	}
	w.Header().Set("Clear-Site-Data", `"cache"`)
	http.Redirect(w, r, "/sign-in?signed-out", http.StatusSeeOther)
	return nil
}

// signInKey counts the tries of one account, one address, or both together.
type signInKey struct {
	name  string
	most  int
	since time.Duration
}

// signInKeys are the counters of a try. Together with the address an account
// allows few tries; from everywhere it allows many, so that nobody can lock
// somebody else out with little effort; and an address allows some for all.
func signInKeys(email, address string) []signInKey {
	account, from := "account:"+backup.FoldEmail(email), "address:"+addressBlock(address)
	return []signInKey{
		{account + " " + from, 5, 15 * time.Minute},
		{account, 50, time.Hour},
		{from, 60, 15 * time.Minute},
	}
}

// addressBlock is what one household or machine has: an IPv4 address, or 64
// bits of an IPv6 address.
func addressBlock(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// mayTry counts a try before it is made, so that many at once do not slip
// through, and returns how long to wait if there were too many.
func (s *Server) mayTry(ctx context.Context, keys []signInKey) (time.Duration, error) {
	full := func(extra int) (time.Duration, error) {
		for _, k := range keys {
			n, err := s.Store.FailedSignIns(ctx, k.name, time.Now().Add(-k.since))
			if err != nil {
				return 0, fmt.Errorf("count failed sign-ins: %w", err)
			}
			if n >= k.most+extra {
				return k.since, nil
			}
		}
		return 0, nil
	}
	if wait, err := full(0); wait > 0 || err != nil {
		return wait, err
	}
	for _, k := range keys {
		if err := s.Store.RecordSignIn(ctx, k.name, false); err != nil {
			return 0, fmt.Errorf("count the sign-in: %w", err)
		}
	}
	return full(1)
}
