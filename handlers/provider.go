package handlers

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// The pages of OpenID Connect issuers are the same for the partner and for an
// organization; place says whose they are.

// providerPlace is where the issuers of a request belong.
type providerPlace struct {
	org  backup.OrgID
	path string
}

func placeOf(r *http.Request) providerPlace {
	if strings.HasPrefix(r.URL.Path, "/partner/") {
		return providerPlace{"", "/partner/sign-in"}
	}
	return providerPlace{actor(r).Org.ID, "/settings/sign-in"}
}

// showProviders lists the issuers, with the form of a new one.
func (s *Server) showProviders(w http.ResponseWriter, r *http.Request) error {
	return s.providersPage(w, r, http.StatusOK, views.Providers{})
}

func (s *Server) providersPage(w http.ResponseWriter, r *http.Request, status int, v views.Providers) error {
	at, a := placeOf(r), actor(r)
	var err error
	if v.List, err = s.Store.SignInProviders(r.Context(), a.Partner.ID, at.org); err != nil {
		return err
	}
	v.Path, v.Callback, v.PublicURL = at.path, s.callbackURL(), s.PublicURL
	title := "Sign-in providers"
	if at.org != "" {
		title = "Account Settings"
	}
	return s.render(w, r, status, views.ProvidersPage(s.frame(w, r, title), v))
}

// addProvider stores an issuer after asking it what it is.
func (s *Server) addProvider(w http.ResponseWriter, r *http.Request) error {
	at := placeOf(r)
	p := backup.SignInProvider{OrgID: at.org, Name: r.PostFormValue("name"), Issuer: strings.TrimSpace(r.PostFormValue("issuer")), ClientID: r.PostFormValue("client_id"),
		Secret: backup.Secret(strings.TrimSpace(r.PostFormValue("client_secret"))), Tenants: strings.Fields(strings.ReplaceAll(r.PostFormValue("tenants"), ",", " "))}
	again := func(fields backup.FieldErrors) error {
		return s.providersPage(w, r, http.StatusUnprocessableEntity, views.Providers{New: p, Fields: fields})
	}
	if fields, ok := errors.AsType[backup.FieldErrors](p.Validate()); ok {
		return again(fields)
	}
	if _, err := s.issuers.provider(r.Context(), s.client(), p, time.Now()); err != nil {
		s.Log.Info("issuer not taken", "issuer", p.Issuer, "error", err)
		return again(backup.FieldErrors{"issuer": "Nothing at this address says that it is an OpenID Connect issuer of this name. Check the address: it is what stands as issuer in its /.well-known/openid-configuration."})
	}
	_, err := s.Store.AddSignInProvider(r.Context(), p, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		return again(fields)
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, at.path, p.Name+" was added. People connect their account under My account, or use it with the link of their invitation.")
}

// askRemoveProvider names what ends before an issuer is removed.
func (s *Server) askRemoveProvider(w http.ResponseWriter, r *http.Request) error {
	at, a := placeOf(r), actor(r)
	list, err := s.Store.SignInProviders(r.Context(), a.Partner.ID, at.org)
	if err != nil {
		return err
	}
	for _, p := range list {
		if string(p.ID) == r.PathValue("provider") {
			return s.render(w, r, http.StatusOK, views.RemoveProviderPage(s.frame(w, r, "Remove this sign-in provider?"), p, at.path))
		}
	}
	return backup.ErrNotFound
}

// removeProvider removes an issuer and ends the sessions that it signed in.
func (s *Server) removeProvider(w http.ResponseWriter, r *http.Request) error {
	at := placeOf(r)
	if err := s.Store.RemoveSignInProvider(r.Context(), at.org, backup.SignInProviderID(r.PathValue("provider")), actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, at.path, "The sign-in provider was removed. Whoever was signed in with it is signed out.")
}
