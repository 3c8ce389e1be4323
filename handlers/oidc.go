package handlers

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"holdfast/backup"
	"holdfast/views"
)

// attemptKey is the value of a session with the sign-in under way at an issuer.
const attemptKey = "oidc"

// attempt is one redirect to an issuer, and what must come back with it.
type attempt struct {
	Provider backup.SignInProviderID `json:"provider"`
	Purpose  string                  `json:"purpose"`
	Person   backup.PersonID         `json:"person,omitempty"`  // with purposeConnect and purposeConfirm: whose account it is
	Pending  string                  `json:"pending,omitempty"` // with purposeConfirm: what waits
	Link     string                  `json:"link,omitempty"`    // with purposeInvited: the one-time link
	Next     string                  `json:"next"`
	State    string                  `json:"state"`
	Nonce    string                  `json:"nonce"`
	Verifier string                  `json:"verifier"`
	At       time.Time               `json:"at"`
}

// The purposes of a sign-in at an issuer.
const (
	purposeSignIn  = "sign_in"
	purposeConnect = "connect" // somebody who is signed in connects their account there
	purposeInvited = "invited" // a one-time link, instead of a password
	purposeConfirm = "confirm" // somebody who is signed in proves anew who they are
)

// attemptLife is how long a person may take at the issuer's pages.
const attemptLife = 15 * time.Minute

func (s *Server) callbackURL() string { return s.PublicURL + "/sign-in/oidc/callback" }

// oauth is the code flow of an issuer.
func (s *Server) oauth(ctx context.Context, p backup.SignInProvider) (*oidc.Provider, oauth2.Config, error) {
	provider, err := s.issuers.provider(ctx, s.client(), p, time.Now())
	if err != nil {
		return nil, oauth2.Config{}, err
	}
	return provider, oauth2.Config{ClientID: p.ClientID, ClientSecret: p.Secret.Reveal(), Endpoint: provider.Endpoint(), RedirectURL: s.callbackURL(),
		Scopes: []string{oidc.ScopeOpenID, "profile", "email"}}, nil
}

func (s *Server) client() *http.Client {
	if s.Client != nil {
		return s.Client
	}
	return http.DefaultClient
}

// startOIDC leaves for an issuer to sign in.
func (s *Server) startOIDC(w http.ResponseWriter, r *http.Request) error {
	p, err := s.Store.SignInProvider(r.Context(), backup.SignInProviderID(r.PathValue("provider")))
	if err != nil {
		return err
	}
	return s.leaveFor(w, r, p, attempt{Purpose: purposeSignIn, Next: ownPath(r.URL.Query().Get("next"))})
}

// startInvited leaves for an issuer with a one-time link, which is used when
// the person comes back.
func (s *Server) startInvited(w http.ResponseWriter, r *http.Request) error {
	link, err := s.Store.SetUpLink(r.Context(), r.PathValue("token"))
	if errors.Is(err, backup.ErrNotFound) {
		return s.deadLink(w, r)
	}
	if err != nil {
		return fmt.Errorf("read the set-up link: %w", err)
	}
	list, err := s.providersOf(r.Context(), link.PersonID)
	if err != nil {
		return err
	}
	for _, p := range list {
		if string(p.ID) == r.PathValue("provider") {
			return s.leaveFor(w, r, p, attempt{Purpose: purposeInvited, Link: r.PathValue("token"), Next: "/"})
		}
	}
	return backup.ErrNotFound
}

// startConnect leaves for an issuer to connect one's account there.
func (s *Server) startConnect(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	list, err := s.providersOf(r.Context(), a.Person.ID)
	if err != nil {
		return err
	}
	for _, p := range list {
		if string(p.ID) == r.PathValue("provider") {
			return s.leaveFor(w, r, p, attempt{Purpose: purposeConnect, Person: a.Person.ID, Next: "/account"})
		}
	}
	return backup.ErrNotFound
}

// providersOf returns the issuers that a person may sign in with: the
// partner's, and those of their organization.
func (s *Server) providersOf(ctx context.Context, person backup.PersonID) ([]backup.SignInProvider, error) {
	a, err := s.Store.Actor(ctx, backup.Session{PersonID: person})
	if err != nil {
		return nil, fmt.Errorf("read person %s: %w", person, err)
	}
	list, err := s.Store.SignInProviders(ctx, a.Partner.ID, "")
	if err != nil || a.HomeOrg() == "" {
		return list, err
	}
	own, err := s.Store.SignInProviders(ctx, a.Partner.ID, a.HomeOrg())
	return append(list, own...), err
}

// leaveFor binds a fresh attempt to this browser and sends it to the issuer.
func (s *Server) leaveFor(w http.ResponseWriter, r *http.Request, p backup.SignInProvider, at attempt) error {
	_, conf, err := s.oauth(r.Context(), p)
	if err != nil {
		s.Log.Warn("issuer not reached", "issuer", p.Issuer, "error", err)
		return s.oidcFailed(w, r, at, fmt.Sprintf("%s could not be reached, or is not set up rightly. Try again later, or sign in another way.", p.Name))
	}
	at.Provider, at.State, at.Nonce, at.Verifier, at.At = p.ID, rand.Text(), rand.Text(), oauth2.GenerateVerifier(), time.Now()
	data, err := json.Marshal(at)
	if err != nil {
		return fmt.Errorf("encode the attempt: %w", err)
	}
	if at.Purpose == purposeConnect || at.Purpose == purposeConfirm {
		err = s.keep(w, r, attemptKey, string(data))
	} else {
		var id backup.SessionID
		if id, err = s.sessions.start(w, r, backup.Session{Half: true}, "", visitOf(r).address); err == nil {
			err = s.Store.SaveSessionValues(r.Context(), id, map[string]string{attemptKey: string(data)})
		}
	}
	if err != nil {
		return fmt.Errorf("keep the attempt: %w", err)
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(at.Nonce), oauth2.S256ChallengeOption(at.Verifier)}
	if at.Purpose == purposeConfirm {
		options = append(options, anew(p)...)
	}
	http.Redirect(w, r, conf.AuthCodeURL(at.State, options...), http.StatusSeeOther) //nolint:gosec // the issuer's address is configured
	return nil
}

// anew asks an issuer not to be content with the session that it has. Google
// knows max_age alone.
func anew(p backup.SignInProvider) []oauth2.AuthCodeOption {
	age := oauth2.SetAuthURLParam("max_age", "0")
	if p.Issuer == "https://accounts.google.com" {
		return []oauth2.AuthCodeOption{age}
	}
	return []oauth2.AuthCodeOption{age, oauth2.SetAuthURLParam("prompt", "login")}
}

// finishOIDC is where issuers send browsers back to.
func (s *Server) finishOIDC(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var at attempt
	if text := s.take(w, r, attemptKey); text != "" {
		if err := json.Unmarshal([]byte(text), &at); err != nil {
			return fmt.Errorf("decode the attempt: %w", err)
		}
	}
	if at.State == "" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(at.State)) != 1 || time.Since(at.At) > attemptLife {
		return s.oidcFailed(w, r, attempt{Purpose: purposeSignIn}, "That sign-in was not started in this browser, or it took too long. Start it again.")
	}
	p, err := s.Store.SignInProvider(r.Context(), at.Provider)
	if errors.Is(err, backup.ErrNotFound) {
		return s.oidcFailed(w, r, at, "This way to sign in was removed in the meantime.")
	}
	if err != nil {
		return err
	}
	if code := q.Get("error"); code != "" {
		s.Log.Info("issuer refused", "issuer", p.Issuer, "code", code, "description", q.Get("error_description"))
		s.refusedBy(r, p, "", "the issuer did not sign them in ("+short(code)+")")
		return s.oidcFailed(w, r, at, fmt.Sprintf("%s did not sign you in. If you did not cancel it, ask whoever manages it. (%s)", p.Name, short(code)))
	}
	identity, err := s.identity(r.Context(), p, at, q.Get("code"))
	if err != nil {
		s.Log.Warn("sign-in at an issuer refused", "issuer", p.Issuer, "address", visitOf(r).address, "error", err)
		s.refusedBy(r, p, "", "what the issuer answered could not be trusted")
		return s.oidcFailed(w, r, at, fmt.Sprintf("What %s answered could not be trusted, so you are not signed in. Try again; if it stays, ask whoever manages it.", p.Name))
	}
	return s.identified(w, r, p, at, identity)
}

// short keeps the first characters of what an issuer sent, for a sentence.
func short(s string) string { return s[:min(len(s), 60)] }

// identified signs in whoever the issuer named, or connects them.
func (s *Server) identified(w http.ResponseWriter, r *http.Request, p backup.SignInProvider, at attempt, id backup.Identity) error {
	ctx := r.Context()
	switch at.Purpose {
	case purposeConfirm:
		return s.identityConfirmed(w, r, p, at, id)
	case purposeConnect:
		a := actor(r)
		if a.Person.ID == "" || a.Person.ID != at.Person {
			return s.oidcFailed(w, r, attempt{Purpose: purposeSignIn}, "You were signed out in the meantime. Sign in and connect the account again.")
		}
		err := s.Store.AddIdentity(ctx, id, a)
		if errors.Is(err, backup.ErrConflict) {
			return s.refuse(w, r, "/account", fmt.Sprintf("Not connected: %s at %s belongs to somebody else here, or you have connected another account of it.", id.Shown, p.Name))
		}
		if err != nil {
			return err
		}
		return s.redirect(w, r, "/account", fmt.Sprintf("You can sign in with %s from now on.", p.Name))
	case purposeInvited:
		person, err := s.Store.UseSetUpIdentity(ctx, at.Link, id, visitOf(r).address)
		switch {
		case errors.Is(err, backup.ErrConflict):
			s.refusedBy(r, p, id.Shown, "the account belongs to somebody else here")
			return s.oidcFailed(w, r, at, fmt.Sprintf("%s at %s belongs to somebody else here. Use another account, or choose a password.", id.Shown, p.Name))
		case errors.Is(err, backup.ErrNotFound):
			return s.deadLink(w, r)
		case err != nil:
			return fmt.Errorf("use the set-up link: %w", err)
		}
		return s.enter(w, r, backup.Session{PersonID: person.ID, Via: backup.ViaOIDC}, p.Name+" ("+p.Issuer+")", "/", "You are signed in. Use "+p.Name+" from now on.")
	}
	person, err := s.Store.PersonByIdentity(ctx, p.ID, id.Issuer, id.Subject)
	if err == nil {
		var mine []backup.SignInProvider
		if mine, err = s.providersOf(ctx, person.ID); err == nil && !slices.ContainsFunc(mine, func(o backup.SignInProvider) bool { return o.ID == p.ID }) {
			err = backup.ErrNotFound // moved to another organization since
		}
	}
	if errors.Is(err, backup.ErrNotFound) {
		s.Log.Info("sign-in refused", "issuer", p.Issuer, "address", visitOf(r).address)
		s.refusedBy(r, p, id.Shown, "nobody here has connected this account")
		return s.oidcFailed(w, r, at, fmt.Sprintf("Nobody here has connected %s at %s. Sign in another way first and connect it under My account, or open the link of your invitation and choose %s there.", id.Shown, p.Name, p.Name))
	}
	if err != nil {
		return fmt.Errorf("find who signed in: %w", err)
	}
	return s.enter(w, r, backup.Session{PersonID: person.ID, Via: backup.ViaOIDC}, p.Name+" ("+p.Issuer+")", at.Next, "")
}

// oidcFailed says on the page where it was started why a sign-in at an issuer
// did not work.
func (s *Server) oidcFailed(w http.ResponseWriter, r *http.Request, at attempt, text string) error {
	switch at.Purpose {
	case purposeConnect, purposeConfirm:
		return s.refuse(w, r, at.Next, text)
	case purposeInvited:
		v, err := s.setUpViewOf(r.Context(), at.Link)
		if errors.Is(err, backup.ErrNotFound) {
			return s.deadLink(w, r)
		}
		if err != nil {
			return fmt.Errorf("read the set-up link: %w", err)
		}
		v.Action, v.Fields = "/set-up/"+at.Link, backup.FieldErrors{"provider": text}
		return s.render(w, r, http.StatusUnprocessableEntity, views.SetUpLinkPage(v))
	}
	return s.signInPage(w, r, http.StatusUnprocessableEntity, views.SignIn{Next: ownPath(at.Next), Fields: backup.FieldErrors{"provider": text}})
}

// disconnect ends that a person signs in by an issuer. Whoever has no other way
// in keeps it.
func (s *Server) disconnect(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	list, err := s.Store.Identities(r.Context(), a.Person.ID)
	if err != nil {
		return err
	}
	if a.Person.PasswordHash == "" && len(list) < 2 {
		return s.refuse(w, r, "/account", "This is your only way to sign in. Ask for a set-up link and choose a password first.")
	}
	if err := s.Store.RemoveIdentity(r.Context(), backup.SignInProviderID(r.PathValue("provider")), a); err != nil {
		return err
	}
	return s.redirect(w, r, "/account", "Disconnected.")
}
