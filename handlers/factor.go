package handlers

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"holdfast/backup"
	"holdfast/views"
)

// halfLife is how long a person may take for the second factor.
const halfLife = 10 * time.Minute

// nextKey is the value of a half session with where to go on afterwards.
const nextKey = "next"

// askFactor keeps that the password was right, and asks for the second factor.
func (s *Server) askFactor(w http.ResponseWriter, r *http.Request, person backup.PersonID, next, flash string) error {
	id, err := s.sessions.start(w, r, backup.Session{PersonID: person, Half: true}, "", visitOf(r).address)
	if err != nil {
		return fmt.Errorf("start a half session: %w", err)
	}
	if err := s.Store.SaveSessionValues(r.Context(), id, map[string]string{nextKey: next, flashKey: flash}); err != nil {
		return fmt.Errorf("keep where to go on: %w", err)
	}
	http.Redirect(w, r, "/sign-in/factor", http.StatusSeeOther)
	return nil
}

// showFactor asks for the second factor.
func (s *Server) showFactor(w http.ResponseWriter, r *http.Request) error {
	return s.factorPage(w, r, http.StatusOK, "")
}

func (s *Server) factorPage(w http.ResponseWriter, r *http.Request, status int, wrong string) error {
	half := visitOf(r).half
	if half.PersonID == "" {
		return s.redirect(w, r, "/sign-in", "")
	}
	f, err := s.Store.Factors(r.Context(), half.PersonID)
	if err != nil {
		return err
	}
	return s.render(w, r, status, views.FactorPage(views.Factor{Factors: f, Passkeys: s.passkeys != nil && len(f.Passkeys) > 0, Wrong: wrong}))
}

// checkFactor compares a code of the app or a recovery code, and signs in.
func (s *Server) checkFactor(w http.ResponseWriter, r *http.Request) error {
	ctx, half := r.Context(), visitOf(r).half
	if half.PersonID == "" {
		return s.redirect(w, r, "/sign-in", "")
	}
	try, err := s.count(ctx, factorCounters(half.PersonID, visitOf(r).address, s.browsers.of(r, half.PersonID)))
	if err != nil {
		return err
	}
	if try.wait > 0 {
		return s.factorPage(w, r, http.StatusTooManyRequests, fmt.Sprintf("Too many wrong codes. Wait %d minutes and try again.", try.holdBack(w)))
	}
	code := r.PostFormValue("code")
	ok, how, flash := false, "password and authenticator app", s.valueOf(r, flashKey)
	if recovery := r.PostFormValue("recovery"); recovery != "" {
		ok, err = s.Store.UseRecoveryCode(ctx, half.PersonID, recovery)
		how = "password and recovery code"
		flash = "You used a recovery code. It does not work again; see My account for how many are left."
	} else {
		ok, err = s.checkTOTP(ctx, half.PersonID, code, time.Now())
	}
	if err != nil {
		return fmt.Errorf("check the second factor of %s: %w", half.PersonID, err)
	}
	if !ok {
		if err := s.refused(r, half.PersonID, "wrong second factor"+try.lastOne()); err != nil {
			return err
		}
		return s.factorPage(w, r, http.StatusUnprocessableEntity, "This code is not right, or it was used already. Wait for the next one and try again.")
	}
	if err := s.worked(ctx, try); err != nil {
		return err
	}
	return s.enter(w, r, backup.Session{PersonID: half.PersonID, Via: backup.ViaPassword}, how, ownPath(s.valueOf(r, nextKey)), flash)
}

// valueOf returns a value of the session, "" if there is none.
func (s *Server) valueOf(r *http.Request, key string) string {
	session, err := s.sessions.Get(r, s.sessions.name)
	if err != nil {
		return ""
	}
	text, _ := session.Values[key].(string)
	return text
}

// totpStep is how long a code of an authenticator app lasts.
const totpStep = 30 * time.Second

// checkTOTP says whether a code is the app's at time now, or one step before or
// after; each works once.
func (s *Server) checkTOTP(ctx context.Context, person backup.PersonID, code string, now time.Time) (bool, error) {
	secret, err := s.Store.TOTPSecret(ctx, person)
	if err != nil || len(secret) == 0 {
		return false, err
	}
	step, ok, err := matchTOTP(secret, code, now)
	if err != nil || !ok {
		return false, err
	}
	return s.Store.UseTOTPStep(ctx, person, step)
}

// matchTOTP returns the time step whose code was given.
func matchTOTP(secret backup.Secret, code string, now time.Time) (step int64, ok bool, err error) {
	code = strings.ReplaceAll(strings.TrimSpace(code), " ", "")
	for _, shift := range []time.Duration{0, -totpStep, totpStep} {
		at := now.Add(shift)
		want, err := totp.GenerateCode(secret.Reveal(), at)
		if err != nil {
			return 0, false, fmt.Errorf("compute the code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(code), []byte(want)) == 1 {
			return at.Unix() / int64(totpStep.Seconds()), true, nil
		}
	}
	return 0, false, nil
}

// newTOTP makes the shared secret of an authenticator app and what its QR code
// says (Key Uri Format).
func newTOTP(account string) (*otp.Key, error) {
	key, err := totp.Generate(totp.GenerateOpts{Issuer: "Holdfast", AccountName: account, SecretSize: 20})
	if err != nil {
		return nil, fmt.Errorf("make a secret for the authenticator app: %w", err)
	}
	return key, nil
}

// factorMissing says that a person must set up a second factor first. Who came
// by an issuer has it there.
func (s *Server) factorMissing(a backup.Actor) bool {
	return a.Via == backup.ViaPassword && a.Person.Factors == 0 && (a.IsPartner() && !s.FactorOptional || !a.IsPartner() && a.Org.RequireFactor)
}
