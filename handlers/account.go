package handlers

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"strings"
	"time"

	"github.com/pquerna/otp"

	"holdfast/backup"
	"holdfast/views"
)

// Values of a session that the account page keeps.
const (
	totpKey  = "totp"  // an authenticator app that is being set up
	codesKey = "codes" // recovery codes to show once
)

// showAccount shows a person their own account.
func (s *Server) showAccount(w http.ResponseWriter, r *http.Request) error {
	v := views.Account{}
	if codes := s.take(w, r, codesKey); codes != "" {
		v.Codes = strings.Fields(codes)
	}
	return s.accountPage(w, r, http.StatusOK, v)
}

func (s *Server) accountPage(w http.ResponseWriter, r *http.Request, status int, v views.Account) error {
	a := actor(r)
	var err error
	if v.Factors, err = s.Store.Factors(r.Context(), a.Person.ID); err != nil {
		return err
	}
	if v.Sessions, err = s.Store.Sessions(r.Context(), a.Person.ID); err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	if v.Providers, err = s.providersOf(r.Context(), a.Person.ID); err != nil {
		return err
	}
	if v.Identities, err = s.Store.Identities(r.Context(), a.Person.ID); err != nil {
		return fmt.Errorf("read identities: %w", err)
	}
	v.Missing, v.PasskeysWork, v.Now = s.factorMissing(a), s.passkeys != nil, time.Now()
	return s.render(w, r, status, views.AccountPage(s.frame(w, r, "My account"), v))
}

// currentPassword checks the password that a new one asks for. If it is not
// right, the page is answered.
func (s *Server) currentPassword(w http.ResponseWriter, r *http.Request) (bool, error) {
	a := actor(r)
	try, err := s.count(r.Context(), factorCounters(a.Person.ID, visitOf(r).address, s.browsers.of(r, a.Person.ID)))
	if err != nil {
		return false, err
	}
	wrong, status := "This is not your password.", http.StatusUnprocessableEntity
	if try.wait > 0 {
		wrong, status = fmt.Sprintf("Too many wrong tries. Wait %d minutes and try again.", try.holdBack(w)), http.StatusTooManyRequests
	} else {
		ok, err := verifyPassword(r.Context(), a.Person.PasswordHash, r.PostFormValue("current"))
		if err != nil {
			return false, fmt.Errorf("compare the password of %s: %w", a.Person.ID, err)
		}
		if ok {
			return true, s.worked(r.Context(), try)
		}
		if err := s.refused(r, a.Person.ID, "wrong password for a new one"+try.lastOne()); err != nil {
			return false, err
		}
	}
	return false, s.accountPage(w, r, status, views.Account{Form: "password", Fields: backup.FieldErrors{"current": wrong}})
}

// changePassword sets a new password and ends all other sessions. Who has none
// yet, and signs in another way, confirms by that.
func (s *Server) changePassword(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	if a.Person.PasswordHash == "" && !s.confirmed(r) {
		return s.askConfirm(w, r, "choose a password")
	}
	fields := backup.FieldErrors{}
	merge(fields, backup.ValidatePassword(r.PostFormValue("password"), a.Person.Email))
	if fields["password"] == "" && r.PostFormValue("password") != r.PostFormValue("again") {
		fields["again"] = "The two passwords differ. Enter the same one twice."
	}
	if len(fields) > 0 {
		return s.accountPage(w, r, http.StatusUnprocessableEntity, views.Account{Form: "password", Fields: fields})
	}
	if a.Person.PasswordHash != "" {
		if ok, err := s.currentPassword(w, r); !ok {
			return err
		}
	}
	hash, err := HashPassword(r.Context(), r.PostFormValue("password"))
	if err != nil {
		return fmt.Errorf("hash the password: %w", err)
	}
	if err := s.Store.ChangePassword(r.Context(), hash, a); err != nil {
		return err
	}
	return s.redirect(w, r, "/account", "Your password is changed. All other browsers are signed out.")
}

// showApp shows what an authenticator app has to scan.
func (s *Server) showApp(w http.ResponseWriter, r *http.Request) error {
	return s.appPage(w, r, http.StatusOK, "")
}

func (s *Server) appPage(w http.ResponseWriter, r *http.Request, status int, wrong string) error {
	key, err := s.pendingApp(w, r)
	if err != nil {
		return err
	}
	image, err := key.Image(220, 220)
	if err != nil {
		return fmt.Errorf("draw the QR code: %w", err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, image); err != nil {
		return fmt.Errorf("draw the QR code: %w", err)
	}
	v := views.App{QR: "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()), Secret: key.Secret(), Wrong: wrong}
	return s.render(w, r, status, views.AppPage(s.frame(w, r, "Set up an authenticator app"), v))
}

// pendingApp is the app being set up: the same until it is, so that a reload
// does not change what was scanned.
func (s *Server) pendingApp(w http.ResponseWriter, r *http.Request) (*otp.Key, error) {
	if uri := s.valueOf(r, totpKey); uri != "" {
		return otp.NewKeyFromURL(uri)
	}
	key, err := newTOTP(actor(r).Person.Email)
	if err != nil {
		return nil, err
	}
	return key, s.keep(w, r, totpKey, key.URL())
}

// setUpApp takes the app into use once a code proves that it works.
func (s *Server) setUpApp(w http.ResponseWriter, r *http.Request) error {
	key, err := s.pendingApp(w, r)
	if err != nil {
		return err
	}
	secret := backup.Secret(key.Secret())
	step, ok, err := matchTOTP(secret, r.PostFormValue("code"), time.Now())
	if err != nil {
		return err
	}
	if !ok {
		return s.appPage(w, r, http.StatusUnprocessableEntity, "This is not the code that the app shows now. Check the clock of the phone, wait for the next code, and enter it.")
	}
	if err := s.Store.SetTOTP(r.Context(), secret, step, actor(r)); err != nil {
		return err
	}
	s.take(w, r, totpKey)
	return s.withCodes(w, r, "The authenticator app is set up.")
}

// removeApp removes the authenticator app.
func (s *Server) removeApp(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.RemoveTOTP(r.Context(), actor(r)); err != nil && !errors.Is(err, backup.ErrNotFound) {
		return err
	}
	return s.redirect(w, r, "/account", "The authenticator app was removed.")
}

// withCodes goes back to the account, with recovery codes if the person has none.
func (s *Server) withCodes(w http.ResponseWriter, r *http.Request, flash string) error {
	f, err := s.Store.Factors(r.Context(), actor(r).Person.ID)
	if err != nil {
		return err
	}
	if f.Recovery == 0 {
		if err := s.makeCodes(w, r); err != nil {
			return err
		}
	}
	return s.redirect(w, r, "/account", flash)
}

func (s *Server) makeCodes(w http.ResponseWriter, r *http.Request) error {
	codes := backup.NewRecoveryCodes()
	if err := s.Store.SetRecoveryCodes(r.Context(), codes, actor(r)); err != nil {
		return err
	}
	return s.keep(w, r, codesKey, strings.Join(codes, " "))
}

// newCodes replaces the recovery codes.
func (s *Server) newCodes(w http.ResponseWriter, r *http.Request) error {
	if actor(r).Person.Factors == 0 {
		return s.refuse(w, r, "/account", "Set up an authenticator app or a passkey first.")
	}
	if err := s.makeCodes(w, r); err != nil {
		return err
	}
	return s.redirect(w, r, "/account", "These recovery codes replace the ones before.")
}

// endSession signs out one browser of the person.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) error {
	err := s.Store.EndOwnSession(r.Context(), actor(r), backup.SessionID(r.PathValue("session")))
	if err != nil && !errors.Is(err, backup.ErrNotFound) { // it may have ended by itself
		return err
	}
	return s.redirect(w, r, "/account", "That browser is signed out.")
}

// endSessions signs out all other browsers of the person.
func (s *Server) endSessions(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.EndOtherSessions(r.Context(), actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/account", "All other browsers are signed out.")
}

// saveRequireFactor says whether everybody of the organization needs a second factor.
func (s *Server) saveRequireFactor(w http.ResponseWriter, r *http.Request) error {
	a, required := actor(r), r.PostFormValue("require_factor") == "on"
	if required != a.Org.RequireFactor {
		if err := s.Store.SetRequireFactor(r.Context(), a.Org.ID, required, a); err != nil {
			return err
		}
	}
	return s.redirect(w, r, "/settings", "Saved.")
}
