package m365

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"holdfast/backup"
)

// idVerifier checks ID tokens of any tenant; its keys are fetched at first use.
type idVerifier struct {
	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
}

// identity is who an ID token is about. Tenant and Object together are the key
// of a person; UPN may change.
type identity struct {
	Tenant string `json:"tid"`
	Object string `json:"oid"`
	UPN    string `json:"preferred_username"`
	Name   string `json:"name"`
	Issuer string `json:"iss"`
	Nonce  string `json:"nonce"`
}

// issuerTemplate is the issuer of the discovery document of "organizations",
// braces included. A simulated Microsoft uses the public cloud's.
func (c *Client) issuerTemplate() string {
	host := DefaultLoginURL
	if u, err := url.Parse(c.login); err == nil {
		for _, cloud := range []string{"login.microsoftonline.us", "login.partner.microsoftonline.cn"} {
			if u.Host == cloud {
				host = "https://" + cloud
			}
		}
	}
	return host + "/{tenantid}/v2.0"
}

// tokenVerifier returns the verifier of ID tokens for the main application. The
// document of "organizations" names a template as its issuer, which go-oidc can't
// compare: identify does.
func (c *Client) tokenVerifier(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	c.verifier.mu.Lock()
	defer c.verifier.mu.Unlock()
	if c.verifier.verifier != nil {
		return c.verifier.verifier, nil
	}
	ctx = withCall(ctx, call{key: "entra", parallel: 16, patience: signInPatience, silence: 30 * time.Second})
	ctx = oidc.InsecureIssuerURLContext(oidc.ClientContext(ctx, c.http), c.issuerTemplate())
	provider, err := oidc.NewProvider(ctx, c.login+"/"+anyWorkAccount+"/v2.0")
	if err != nil {
		return nil, silenceProblem(fmt.Errorf("read sign-in configuration: %w", err))
	}
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return nil, garbage("sign-in configuration", err)
	}
	if !under(document.Keys, c.login) {
		return nil, silenceProblem(fmt.Errorf("keys at %s: %w", document.Keys, errForeignHost))
	}
	// The keys are fetched again whenever an unknown one turns up, long after ctx.
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), c.http), document.Keys)
	c.verifier.verifier = oidc.NewVerifier(c.issuerTemplate(), keys, &oidc.Config{ClientID: c.id, SkipIssuerCheck: true})
	return c.verifier.verifier, nil
}

// identify verifies an ID token: signature, audience and times by go-oidc; tenant,
// issuer and nonce here. nonce is "" for grants without a redirect.
func (c *Client) identify(ctx context.Context, token, nonce string) (identity, error) {
	if token == "" {
		return identity{}, garbage("ID token", errors.New("missing"))
	}
	verifier, err := c.tokenVerifier(ctx)
	if err != nil {
		return identity{}, err
	}
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		return identity{}, badIdentity(err)
	}
	var who identity
	if err := verified.Claims(&who); err != nil {
		return identity{}, badIdentity(err)
	}
	who.Tenant = strings.ToLower(who.Tenant)
	switch {
	case who.Tenant == personalTenant:
		return identity{}, &backup.Problem{Kind: backup.ProblemPersonalAccount, At: time.Now(),
			Text: "This is a private Microsoft account. Sign in with a work account that administers your Microsoft 365 tenant."}
	case !tenantID.MatchString(who.Tenant):
		return identity{}, badIdentity(fmt.Errorf("tid %q is not a tenant", who.Tenant))
	case who.Issuer != strings.Replace(c.issuerTemplate(), "{tenantid}", who.Tenant, 1):
		return identity{}, badIdentity(fmt.Errorf("iss %q is not of tenant %s", who.Issuer, who.Tenant))
	case nonce != who.Nonce && nonce != "":
		return identity{}, badIdentity(errors.New("nonce differs"))
	case who.Object == "":
		return identity{}, badIdentity(errors.New("oid is missing"))
	}
	return who, nil
}

// badIdentity is the Problem of an ID token that does not hold.
func badIdentity(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &backup.Problem{Kind: backup.ProblemUnavailable, At: time.Now(), Err: fmt.Errorf("ID token: %w", err),
		Text: "Microsoft's proof of who signed in did not hold, so Holdfast did not accept it. Start the sign-in again; check that the clock of this server is right."}
}
