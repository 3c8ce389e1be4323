package handlers

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// day is how a form counts the life of a token.
const day = 24 * time.Hour

// showTokens lists the API tokens of the partner, and shows a new one once.
func (s *Server) showTokens(w http.ResponseWriter, r *http.Request) error {
	v := views.Tokens{Scopes: []backup.Scope{backup.ScopeOrganizations, backup.ScopeMailboxes}, Life: 90, Secret: s.take(w, r, secretKey)}
	return s.tokensPage(w, r, http.StatusOK, v)
}

func (s *Server) tokensPage(w http.ResponseWriter, r *http.Request, status int, v views.Tokens) error {
	var err error
	if v.List, err = s.Store.APITokens(r.Context(), actor(r).Partner.ID); err != nil {
		return err
	}
	v.Now = time.Now()
	return s.render(w, r, status, views.TokensPage(s.frame(w, r, "API tokens"), v))
}

// createToken makes a token, which the next page shows once.
func (s *Server) createToken(w http.ResponseWriter, r *http.Request) error {
	v := views.Tokens{Name: r.PostFormValue("name")}
	for _, scope := range r.PostForm["scopes"] {
		v.Scopes = append(v.Scopes, backup.Scope(scope))
	}
	v.Life, _ = strconv.Atoi(r.PostFormValue("life")) // 0 is refused like any other wrong life
	secret, err := s.Store.CreateAPIToken(r.Context(), backup.APIToken{Name: v.Name, Scopes: v.Scopes}, time.Duration(v.Life)*day, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v.Fields = fields
		return s.tokensPage(w, r, http.StatusUnprocessableEntity, v)
	}
	if err != nil {
		return err
	}
	if err := s.keep(w, r, secretKey, secret.Reveal()); err != nil {
		return err
	}
	return s.redirect(w, r, "/partner/tokens", "The token was made.")
}

// askRevokeToken names what stops working before a token is revoked.
func (s *Server) askRevokeToken(w http.ResponseWriter, r *http.Request) error {
	list, err := s.Store.APITokens(r.Context(), actor(r).Partner.ID)
	if err != nil {
		return err
	}
	for _, t := range list {
		if string(t.ID) == r.PathValue("token") {
			return s.render(w, r, http.StatusOK, views.RevokeTokenPage(s.frame(w, r, "Revoke this token?"), t, time.Now()))
		}
	}
	return backup.ErrNotFound
}

// revokeToken ends a token at once.
func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.RevokeAPIToken(r.Context(), backup.APITokenID(r.PathValue("token")), actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/partner/tokens", "The token was revoked. Programs that use it are refused from now on.")
}
