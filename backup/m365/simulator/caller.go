package simulator

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// caller is who makes a request, read from a validated access token.
type caller struct {
	Tenant      *tenant
	AppID       string // client id
	AppName     string
	PrincipalID string // object id of the application's service principal in the tenant
	User        *user  // the signed-in person of a delegated token, nil for an application by itself
	Roles       []string
	Scopes      []string
	Wids        []string // directory roles of the person, as they were at issue
	Audience    string   // as in the token
	IssuedAt    time.Time
}

// has says whether the token has one of the application permissions.
func (c *caller) has(roles ...string) bool {
	return slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(c.Roles, r) })
}

// hasScope says whether the token has one of the delegated permissions.
func (c *caller) hasScope(scopes ...string) bool {
	return slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(c.Scopes, s) })
}

// Audiences of tokens for a resource: its URIs with and without a slash, and
// its application id.
var (
	graphAudiences    = []string{"https://graph.microsoft.com", "https://graph.microsoft.com/", graphAppID}
	exchangeAudiences = []string{"https://outlook.office365.com", "https://outlook.office365.com/", "https://outlook.office.com", "https://outlook.office.com/", exchangeAppID}
)

// caller validates the bearer token: signature, audience, time, tenant. The
// problem is Graph's message if it is refused. A caller may come with a
// problem, so that the log can name it.
func (s *Simulator) caller(r *http.Request, audiences []string) (*caller, string) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return nil, "Access token is empty."
	}
	var claims accessClaims
	if err := s.verifyToken(token, &claims); err != nil {
		return nil, err.Error()
	}
	t := s.tenantOf(claims.Tid)
	if t == nil {
		return nil, "Access token validation failure. Invalid issuer."
	}
	c := &caller{
		Tenant: t, AppID: claims.AppID, AppName: claims.AppName, Roles: claims.Roles, Wids: claims.Wids,
		Scopes: strings.Fields(claims.Scp), Audience: claims.Aud, IssuedAt: time.Unix(claims.Iat, 0),
	}
	if p := t.principalOf(claims.AppID); p != nil {
		c.PrincipalID = p.ID
	}
	if claims.IDType == "user" {
		c.User = t.userOf(claims.Oid)
	}
	now := s.now()
	switch {
	case !slices.Contains(audiences, claims.Aud):
		return c, "Access token validation failure. Invalid audience."
	case now.After(time.Unix(claims.Exp, 0)):
		return c, "Lifetime validation failed, the token is expired."
	case now.Add(5 * time.Minute).Before(time.Unix(claims.Nbf, 0)):
		return c, "Lifetime validation failed, the token is not yet valid."
	case claims.IDType == "user" && c.User == nil:
		// assumed: token-deleted-user
		return nil, "The identity of the calling user could not be found."
	}
	return c, ""
}

// userInfo is the OpenID userinfo endpoint, which is on Graph's host.
func (s *Simulator) userInfo(w *answer, r *http.Request) {
	c, problem := s.caller(r, graphAudiences)
	if problem != "" || c.User == nil {
		s.graphError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", firstOf(problem, "The token is not of a person."))
		return
	}
	w.json(http.StatusOK, map[string]any{"sub": pairwise(c.AppID, c.User.ID), "name": c.User.Name, "given_name": c.User.GivenName, "family_name": c.User.Surname, "email": c.User.Mail})
}
