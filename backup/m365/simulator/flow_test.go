package simulator_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"holdfast/backup/m365/simulator"
)

// signIn walks through the pages as a browser does and returns what came back
// to the redirect address.
func (w *world) signIn(address, upn, pass string) url.Values {
	w.Helper()
	r := w.want(w.get(address, ""), http.StatusOK, "authorize")
	at, r := w.submit(address, r, "next", "true", url.Values{"login": {upn}, "passwd": {pass}})
	if title(r) == "Permissions requested" {
		_, r = w.submit(at, r, "consent", "accept", nil)
	}
	return w.returned(r)
}

func (w *world) returned(r reply) url.Values {
	w.Helper()
	w.want(r, http.StatusFound, "sign-in")
	u, err := url.Parse(r.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(u.String(), redirect) {
		w.Fatalf("redirected to %q", r.Header.Get("Location"))
	}
	return u.Query()
}

// adminToken signs the administrator of Contoso in and returns a token with
// the scopes that making applications takes.
func (w *world) adminToken(upn string) string {
	w.Helper()
	return w.scopedToken(upn, setup)
}

// scopedToken signs somebody in for other permissions.
func (w *world) scopedToken(upn, scopes string) string {
	w.Helper()
	config := oauth2.Config{ClientID: simulator.MainClientID, ClientSecret: secret, RedirectURL: redirect, Scopes: strings.Fields(scopes),
		Endpoint: oauth2.Endpoint{AuthURL: loginURL + "/organizations/oauth2/v2.0/authorize", TokenURL: loginURL + "/organizations/oauth2/v2.0/token"}}
	verifier := oauth2.GenerateVerifier()
	back := w.signIn(config.AuthCodeURL("state-1", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("prompt", "login")), upn, password)
	ctx := context.WithValue(w.Context(), oauth2.HTTPClient, w.client)
	token, err := config.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		w.Fatalf("exchange: %v", err)
	}
	return token.AccessToken
}

func TestAuthorizationCodeWithGoOIDC(t *testing.T) {
	w := newWorld(t)
	ctx := oidc.ClientContext(t.Context(), w.client)
	if _, err := oidc.NewProvider(ctx, loginURL+"/organizations/v2.0"); err == nil {
		t.Error("the issuer of organizations matched its address; it must have a literal {tenantid}")
	}
	provider, err := oidc.NewProvider(ctx, loginURL+"/3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02/v2.0")
	if err != nil {
		t.Fatalf("provider of the tenant: %v", err)
	}
	if provider.Endpoint().DeviceAuthURL == "" {
		t.Error("no device authorization endpoint")
	}
	config := oauth2.Config{ClientID: simulator.MainClientID, ClientSecret: secret, RedirectURL: redirect, Endpoint: provider.Endpoint(), Scopes: []string{"openid", "profile", "offline_access", "https://outlook.office365.com/Exchange.Manage"}}
	verifier := oauth2.GenerateVerifier()
	back := w.signIn(config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oidc.Nonce("n-1")), admin, password)
	if back.Get("state") != "s" || back.Get("code") == "" {
		t.Fatalf("came back with %v", back)
	}
	token, err := config.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	id, err := provider.Verifier(&oidc.Config{ClientID: simulator.MainClientID}).Verify(ctx, token.Extra("id_token").(string))
	if err != nil {
		t.Fatalf("ID token: %v", err)
	}
	var claims struct{ Tid, Oid, Preferred_username, Ver string }
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if id.Nonce != "n-1" || claims.Tid != "3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02" || claims.Preferred_username != admin || claims.Oid == "" || claims.Ver != "2.0" {
		t.Errorf("claims = %+v, nonce %q", claims, id.Nonce)
	}
	if !strings.Contains(token.Extra("scope").(string), "https://outlook.office365.com/Exchange.Manage") {
		t.Errorf("scope = %v", token.Extra("scope"))
	}
	// The refresh token gives a new one and stays valid itself.
	for range 2 {
		again, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
		if err != nil {
			t.Fatalf("refresh: %v", err)
		}
		if again.RefreshToken == token.RefreshToken || again.RefreshToken == "" {
			t.Error("the refresh token did not change")
		}
	}
	// A key that is rolled over is found again by go-oidc.
	w.want(w.control("POST", "/keys", nil), http.StatusNoContent, "rollover")
	again, err := config.TokenSource(ctx, &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Verifier(&oidc.Config{ClientID: simulator.MainClientID}).Verify(ctx, again.Extra("id_token").(string)); err != nil {
		t.Errorf("ID token with the new key: %v", err)
	}
}
