package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

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
	person, err := s.Store.PersonByEmail(ctx, v.Email)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("find the person: %w", err)
	}
	try, err := s.count(ctx, signInCounters(v.Email, visitOf(r).address, s.browsers.of(r, person.ID)))
	if err != nil {
		return err
	}
	if try.wait > 0 {
		v.Fields = backup.FieldErrors{"email": fmt.Sprintf("Too many failed sign-ins. Wait %d minutes and try again.", try.holdBack(w))}
		return s.signInPage(w, r, http.StatusTooManyRequests, v)
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
		if err := s.refused(r, person.ID, "wrong password"+try.lastOne()); err != nil {
			return err
		}
		v.Fields = backup.FieldErrors{"email": wrongSignIn}
		return s.signInPage(w, r, http.StatusUnprocessableEntity, v)
	}
	if err := s.worked(ctx, try); err != nil {
		return err
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
	if err := s.browsers.remember(w, r, fresh.PersonID); err != nil {
		return fmt.Errorf("remember the browser: %w", err)
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
