package handlers

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"holdfast/backup"
)

// issuerTimeout bounds one question to an issuer.
const issuerTimeout = 15 * time.Second

// issuers keeps what issuers say of themselves, so that not each sign-in asks.
type issuers struct {
	mu    sync.Mutex
	known map[string]knownIssuer
}

type knownIssuer struct {
	provider *oidc.Provider
	until    time.Time
}

// issuerLife is how long what an issuer says of itself is believed.
const issuerLife = time.Hour

// provider returns what is known about an issuer; the client is used for its
// keys as well.
func (i *issuers) provider(ctx context.Context, client *http.Client, p backup.SignInProvider, now time.Time) (*oidc.Provider, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if k, ok := i.known[p.Issuer]; ok && now.Before(k.until) {
		return k.provider, nil
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.WithoutCancel(ctx), client), issuerTimeout)
	defer cancel()
	if p.ManyTenants() {
		// Its description names a template as the issuer; each token's own is checked below.
		base := strings.TrimSuffix(strings.TrimSuffix(p.Issuer, "/organizations/v2.0"), "/common/v2.0")
		ctx = oidc.InsecureIssuerURLContext(ctx, base+"/{tenantid}/v2.0")
	}
	provider, err := oidc.NewProvider(ctx, p.Issuer)
	if err != nil {
		return nil, fmt.Errorf("ask the issuer %s what it is: %w", p.Issuer, err)
	}
	if i.known == nil || len(i.known) > 500 {
		i.known = map[string]knownIssuer{}
	}
	i.known[p.Issuer] = knownIssuer{provider, now.Add(issuerLife)}
	return provider, nil
}

// authSkew is how far an issuer's clock may be behind.
const authSkew = time.Minute

// identity redeems a code and verifies the ID token: signature, issuer,
// audience and times by go-oidc; nonce, authorized party and tenant here.
func (s *Server) identity(ctx context.Context, p backup.SignInProvider, at attempt, code string) (backup.Identity, error) {
	var id backup.Identity
	provider, conf, err := s.oauth(ctx, p)
	if err != nil {
		return id, err
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, s.client()), issuerTimeout)
	defer cancel()
	token, err := conf.Exchange(ctx, code, oauth2.VerifierOption(at.Verifier))
	if err != nil {
		return id, fmt.Errorf("redeem the code: %w", err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return id, errors.New("the answer has no ID token")
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: p.ClientID, SkipIssuerCheck: p.ManyTenants()}).Verify(ctx, raw)
	if err != nil {
		return id, fmt.Errorf("verify the ID token: %w", err)
	}
	var claims struct {
		Party  string `json:"azp"`
		Tenant string `json:"tid"`
		Email  string `json:"email"`
		User   string `json:"preferred_username"`
		Name   string `json:"name"`
		At     int64  `json:"auth_time"` // 0 if the issuer does not say
	}
	if err := verified.Claims(&claims); err != nil {
		return id, fmt.Errorf("read the ID token: %w", err)
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(at.Nonce)) != 1:
		return id, errors.New("the ID token is for another sign-in (nonce)")
	case verified.Subject == "":
		return id, errors.New("the ID token names nobody (sub)")
	case len(verified.Audience) > 1 && claims.Party != p.ClientID:
		return id, errors.New("the ID token is for another party (azp)")
	case at.Purpose == purposeConfirm && claims.At > 0 && time.Unix(claims.At, 0).Before(at.At.Add(-authSkew)):
		return id, errors.New("the person did not sign in anew (auth_time)")
	}
	if p.ManyTenants() {
		if err := trustedTenant(p, verified.Issuer, claims.Tenant); err != nil {
			return id, err
		}
	}
	id = backup.Identity{ProviderID: p.ID, Issuer: verified.Issuer, Subject: verified.Subject, Shown: claims.User}
	for _, shown := range []string{claims.Email, claims.Name, verified.Subject} {
		if id.Shown == "" {
			id.Shown = shown
		}
	}
	return id, nil
}

// trustedTenant checks a token of an issuer of several tenants: its issuer is
// the tenant's own, and the tenant is one that is trusted.
func trustedTenant(p backup.SignInProvider, issuer, tenant string) error {
	base := strings.TrimSuffix(strings.TrimSuffix(p.Issuer, "/organizations/v2.0"), "/common/v2.0")
	if tenant == "" || issuer != base+"/"+tenant+"/v2.0" {
		return fmt.Errorf("the ID token's issuer %q is not that of its tenant", issuer)
	}
	if !slices.ContainsFunc(p.Tenants, func(t string) bool { return strings.EqualFold(t, tenant) }) {
		return fmt.Errorf("tenant %s is not trusted", tenant)
	}
	return nil
}
