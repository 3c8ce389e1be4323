package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"holdfast/backup"
	"holdfast/views"
)

// ceremonyKey is the value of a session with what a passkey has to answer.
const ceremonyKey = "passkey"

// newPasskeys returns what makes and checks passkeys for the portal's address,
// or nil if browsers have none for it: they are tied to a host's name.
func newPasskeys(publicURL string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(publicURL)
	if err != nil || u.Hostname() == "" || net.ParseIP(u.Hostname()) != nil {
		return nil, nil //nolint:nilnil // an address without a name is a valid configuration
	}
	w, err := webauthn.New(&webauthn.Config{RPID: u.Hostname(), RPDisplayName: "Holdfast", RPOrigins: []string{u.Scheme + "://" + u.Host}})
	if err != nil {
		return nil, fmt.Errorf("set up passkeys for %s: %w", publicURL, err)
	}
	return w, nil
}

// passkeyUser is a person as the library wants it.
type passkeyUser struct {
	person      backup.Person
	credentials []webauthn.Credential
}

// WebAuthnID implements webauthn.User.
func (u passkeyUser) WebAuthnID() []byte { return []byte(u.person.ID) }

// WebAuthnName implements webauthn.User.
func (u passkeyUser) WebAuthnName() string { return u.person.Email }

// WebAuthnDisplayName implements webauthn.User.
func (u passkeyUser) WebAuthnDisplayName() string { return u.person.Name }

// WebAuthnCredentials implements webauthn.User.
func (u passkeyUser) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

// passkeyUser reads a person with their passkeys.
func (s *Server) passkeyUser(ctx context.Context, id backup.PersonID) (passkeyUser, error) {
	person, err := s.Store.Person(ctx, id)
	if err != nil {
		return passkeyUser{}, err
	}
	f, err := s.Store.Factors(ctx, id)
	if err != nil {
		return passkeyUser{}, err
	}
	u := passkeyUser{person: person}
	for _, k := range f.Passkeys {
		var c webauthn.Credential
		if err := json.Unmarshal(k.Credential, &c); err != nil {
			return u, fmt.Errorf("decode passkey %s: %w", k.ID, err)
		}
		u.credentials = append(u.credentials, c)
	}
	return u, nil
}

// challenge keeps a ceremony with the session and sends its options to the page.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, session backup.SessionID, ceremony *webauthn.SessionData, options any) error {
	data, err := json.Marshal(ceremony)
	if err != nil {
		return fmt.Errorf("encode the ceremony: %w", err)
	}
	values := map[string]string{ceremonyKey: string(data)}
	for _, key := range []string{nextKey, flashKey, pendingKey} {
		if v := s.valueOf(r, key); v != "" {
			values[key] = v
		}
	}
	if err := s.Store.SaveSessionValues(r.Context(), session, values); err != nil {
		return fmt.Errorf("keep the ceremony: %w", err)
	}
	s.writeJSON(w, http.StatusOK, "application/json", options)
	return nil
}

// ceremony takes what challenge kept: it is answered once.
func (s *Server) ceremony(w http.ResponseWriter, r *http.Request) (webauthn.SessionData, error) {
	var c webauthn.SessionData
	text := s.take(w, r, ceremonyKey)
	if text == "" {
		return c, errPasskey
	}
	return c, json.Unmarshal([]byte(text), &c)
}

var errPasskey = errors.New("no passkey was asked for")

// beginPasskey says what a new passkey has to be like.
func (s *Server) beginPasskey(w http.ResponseWriter, r *http.Request) error {
	if s.passkeys == nil {
		return backup.ErrNotFound
	}
	u, err := s.passkeyUser(r.Context(), actor(r).Person.ID)
	if err != nil {
		return err
	}
	options, ceremony, err := s.passkeys.BeginRegistration(u, webauthn.WithResidentKeyRequirement(protocol.ResidentKeyRequirementRequired),
		webauthn.WithExclusions(webauthn.Credentials(u.credentials).CredentialDescriptors()),
		webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired}))
	if err != nil {
		return fmt.Errorf("begin a passkey: %w", err)
	}
	return s.challenge(w, r, actor(r).Session, ceremony, options)
}

// addPasskey checks a new passkey and keeps it.
func (s *Server) addPasskey(w http.ResponseWriter, r *http.Request) error {
	if s.passkeys == nil {
		return backup.ErrNotFound
	}
	again := func(fields backup.FieldErrors) error {
		return s.accountPage(w, r, http.StatusUnprocessableEntity, views.Account{Form: "passkey", PasskeyName: r.PostFormValue("name"), Fields: fields})
	}
	if r.PostFormValue("credential") == "" { // sent as it is, to be confirmed first
		if err := s.keep(w, r, flashKey, "Thank you. Choose Add a passkey once more."); err != nil {
			return err
		}
		return s.accountPage(w, r, http.StatusOK, views.Account{Form: "passkey", PasskeyName: r.PostFormValue("name")})
	}
	u, err := s.passkeyUser(r.Context(), actor(r).Person.ID)
	if err != nil {
		return err
	}
	ceremony, err := s.ceremony(w, r)
	var credential *webauthn.Credential
	if err == nil {
		var answer *protocol.ParsedCredentialCreationData
		if answer, err = protocol.ParseCredentialCreationResponseBody(bytes.NewReader([]byte(r.PostFormValue("credential")))); err == nil {
			credential, err = s.passkeys.CreateCredential(u, ceremony, answer)
		}
	}
	if err != nil {
		s.Log.Warn("passkey refused", "person", u.person.ID, "error", err)
		return again(backup.FieldErrors{"passkey": "The passkey was not made. Try again, and confirm with the device when it asks."})
	}
	data, err := json.Marshal(credential)
	if err != nil {
		return fmt.Errorf("encode the passkey: %w", err)
	}
	err = s.Store.AddPasskey(r.Context(), backup.Passkey{Name: r.PostFormValue("name"), Credential: data}, credential.ID, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		return again(backup.FieldErrors{"passkey": fields["name"]})
	}
	if errors.Is(err, backup.ErrConflict) {
		return again(backup.FieldErrors{"passkey": "This passkey is known already."})
	}
	if err != nil {
		return err
	}
	return s.withCodes(w, r, "The passkey was added.")
}

// removePasskey forgets a passkey.
func (s *Server) removePasskey(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.RemovePasskey(r.Context(), backup.PasskeyID(r.PathValue("passkey")), actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/account", "The passkey was removed.")
}

// beginPasskeySignIn says what a passkey has to answer: of the person whose
// password was right, or, for a visitor, of whoever they are.
func (s *Server) beginPasskeySignIn(w http.ResponseWriter, r *http.Request) error {
	if s.passkeys == nil {
		return backup.ErrNotFound
	}
	half := visitOf(r).half
	if half.PersonID != "" {
		return s.challengePerson(w, r, half.ID, half.PersonID)
	}
	options, ceremony, err := s.passkeys.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return fmt.Errorf("begin a sign-in by passkey: %w", err)
	}
	id, err := s.sessions.start(w, r, backup.Session{Half: true}, "", visitOf(r).address)
	if err != nil {
		return fmt.Errorf("start a half session: %w", err)
	}
	return s.challenge(w, r, id, ceremony, options)
}

// challengePerson says what a passkey of a person has to answer.
func (s *Server) challengePerson(w http.ResponseWriter, r *http.Request, session backup.SessionID, person backup.PersonID) error {
	u, err := s.passkeyUser(r.Context(), person)
	if err != nil {
		return err
	}
	options, ceremony, err := s.passkeys.BeginLogin(u, webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return fmt.Errorf("ask for a passkey of %s: %w", person, err)
	}
	return s.challenge(w, r, session, ceremony, options)
}

// passkeySignIn checks what a passkey answered, and signs in. It proves the
// device and the person (user verification), so it is enough by itself.
func (s *Server) passkeySignIn(w http.ResponseWriter, r *http.Request) error {
	if s.passkeys == nil {
		return backup.ErrNotFound
	}
	ctx, half, next, flash := r.Context(), visitOf(r).half, s.valueOf(r, nextKey), s.valueOf(r, flashKey)
	if next == "" {
		next = r.PostFormValue("next")
	}
	again := func(status int, wrong string) error {
		if half.PersonID != "" {
			return s.factorPage(w, r, status, wrong)
		}
		return s.signInPage(w, r, status, views.SignIn{Next: ownPath(next), Fields: backup.FieldErrors{"provider": wrong}})
	}
	try, err := s.count(ctx, passkeyCounters(visitOf(r).address))
	if err != nil {
		return err
	}
	if try.wait > 0 {
		return again(http.StatusTooManyRequests, fmt.Sprintf("Too many passkeys were refused. Wait %d minutes and try again.", try.holdBack(w)))
	}
	user, err := s.assertion(w, r, half.PersonID)
	if err != nil {
		s.Log.Warn("sign-in by passkey refused", "person", half.PersonID, "address", visitOf(r).address, "error", err)
		who := half.PersonID
		if who == "" {
			who = user.person.ID
		}
		if err := s.refused(r, who, "passkey not accepted"+try.lastOne()); err != nil {
			return err
		}
		return again(http.StatusUnprocessableEntity, "The passkey was not accepted. Try again, or use another way to sign in.")
	}
	if err := s.worked(ctx, try); err != nil {
		return err
	}
	how := "passkey"
	if half.PersonID != "" {
		how = "password and passkey"
	}
	return s.enter(w, r, backup.Session{PersonID: user.person.ID, Via: backup.ViaPasskey}, how, ownPath(next), flash)
}

// assertion checks what a passkey answered, of a person or, with "", of anybody,
// and notes its use. With an error it returns whose it is, if that is known.
func (s *Server) assertion(w http.ResponseWriter, r *http.Request, person backup.PersonID) (passkeyUser, error) {
	ceremony, err := s.ceremony(w, r)
	if err != nil {
		return passkeyUser{}, err
	}
	answer, err := protocol.ParseCredentialRequestResponseBody(bytes.NewReader([]byte(r.PostFormValue("credential"))))
	if err != nil {
		return passkeyUser{}, fmt.Errorf("read the answer: %w", err)
	}
	user, credential, err := s.answerPasskey(r.Context(), person, ceremony, answer)
	if err != nil {
		return user, err
	}
	if credential.Authenticator.CloneWarning {
		return user, errors.New("the passkey's counter went back: it may be a copy")
	}
	data, err := json.Marshal(credential)
	if err != nil {
		return user, fmt.Errorf("encode the passkey: %w", err)
	}
	if err := s.Store.UsePasskey(r.Context(), user.person.ID, credential.ID, data); err != nil {
		return user, fmt.Errorf("note the use of a passkey of %s: %w", user.person.ID, err)
	}
	return user, nil
}

// answerPasskey finds whose passkey answered; person is "" if anybody may.
func (s *Server) answerPasskey(ctx context.Context, person backup.PersonID, ceremony webauthn.SessionData, answer *protocol.ParsedCredentialAssertionData) (passkeyUser, *webauthn.Credential, error) {
	if person != "" {
		u, err := s.passkeyUser(ctx, person)
		if err != nil {
			return u, nil, err
		}
		c, err := s.passkeys.ValidateLogin(u, ceremony, answer)
		return u, c, err
	}
	var found passkeyUser
	c, err := s.passkeys.ValidateDiscoverableLogin(func(_, handle []byte) (webauthn.User, error) {
		var err error
		found, err = s.passkeyUser(ctx, backup.PersonID(handle))
		return found, err
	}, ceremony, answer)
	return found, c, err
}
