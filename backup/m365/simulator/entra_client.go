package simulator

import (
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // x5t is a SHA-1 thumbprint by definition
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client is the application at the token endpoint.
type client struct {
	home   *tenant
	app    *application
	acr    string // appidacr: 0 public, 1 secret, 2 certificate
	public bool   // no credential was given
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// authenticate finds the application and checks its credential, if it gives
// one. t is the tenant of the path, nil for common and organizations.
func (s *Simulator) authenticate(r *http.Request, t *tenant) (*client, *aadProblem) {
	f := r.PostForm
	id, secret := f.Get("client_id"), f.Get("client_secret")
	if user, pass, ok := r.BasicAuth(); ok {
		// RFC 6749 2.3.1: both are form-encoded within Basic.
		id, secret = unescape(user), unescape(pass)
	}
	assertion := f.Get("client_assertion")
	if id == "" && assertion != "" {
		id = assertionIssuer(assertion)
	}
	if id == "" {
		return nil, aad(900144, "", "{field}", "client_id")
	}
	home, a := s.registration(id)
	if a == nil || s.now().Before(a.VisibleAt) || t != nil && t != home && !a.multiTenant() {
		p := aad(700016, "", "{app}", id)
		if t != nil {
			p.fill("{tenant}", t.Name)
		}
		return nil, p.fill("{tenant}", "Microsoft Accounts")
	}
	c := &client{home: home, app: a, acr: "0"}
	switch {
	case assertion != "":
		if f.Get("client_assertion_type") != assertionType {
			return nil, aad(900144, "", "{field}", "client_assertion_type")
		}
		c.acr = "2"
		return c, s.checkAssertion(r, a, assertion)
	case secret != "":
		c.acr = "1"
		return c, s.checkSecret(a, secret)
	}
	c.public = true
	return c, nil
}

func unescape(v string) string {
	if u, err := url.QueryUnescape(v); err == nil {
		return u
	}
	return v
}

// checkSecret compares the secret with the registration's.
func (s *Simulator) checkSecret(a *application, secret string) *aadProblem {
	for _, p := range a.Passwords {
		if s.now().Before(p.VisibleAt) || subtle.ConstantTimeCompare([]byte(p.Secret), []byte(secret)) != 1 {
			continue
		}
		if s.now().After(p.End) {
			return aad(7000222, "", "{app}", a.AppID)
		}
		return nil
	}
	return aad(7000215, "", "{app}", a.AppID)
}

// assertionClaims are the claims of a client assertion (auth.md 1.6).
type assertionClaims struct {
	Aud string `json:"aud"`
	Iss string `json:"iss"`
	Sub string `json:"sub"`
	Jti string `json:"jti"`
	Nbf int64  `json:"nbf"`
	Exp int64  `json:"exp"`
}

// assertionLife is the longest time that an assertion may still be valid, with
// a minute for clocks that differ. assumed: assertion-life
const assertionLife = 11 * time.Minute

func assertionIssuer(assertion string) string {
	var c assertionClaims
	t, err := parseJWT(assertion)
	if err != nil || json.Unmarshal(t.payload, &c) != nil {
		return ""
	}
	return c.Iss
}

// checkAssertion verifies a client assertion against the registered
// certificates: found by x5t#S256 (padded or not) or x5t, signed with PS256
// or RS256.
func (s *Simulator) checkAssertion(r *http.Request, a *application, assertion string) *aadProblem {
	t, err := parseJWT(assertion)
	var c assertionClaims
	if err != nil || json.Unmarshal(t.payload, &c) != nil {
		return aad(700027, "Client assertion failed signature validation: it is not a JSON Web Token.")
	}
	if problem := s.checkAssertionKey(a, t); problem != nil {
		return problem
	}
	now, exp := s.now(), time.Unix(c.Exp, 0)
	switch {
	case !strings.EqualFold(c.Iss, a.AppID) || !strings.EqualFold(c.Sub, a.AppID):
		return aad(700021, "")
	case !assertionAudience(r, c.Aud):
		return aad(700023, "")
	case now.After(exp) || exp.Sub(now) > assertionLife || c.Nbf != 0 && now.Add(5*time.Minute).Before(time.Unix(c.Nbf, 0)):
		return aad(700024, "")
	case c.Jti == "":
		return aad(700027, "Client assertion failed validation: the jti claim is missing.")
	}
	// assumed: assertion-jti
	if _, used := s.state.Seen[a.AppID+" "+c.Jti]; used {
		return aad(700027, "Client assertion failed validation: its jti was used before.")
	}
	for id, end := range s.state.Seen {
		if now.After(end) {
			delete(s.state.Seen, id)
		}
	}
	s.state.Seen[a.AppID+" "+c.Jti] = exp
	return nil
}

// checkAssertionKey finds the certificate that the header names and verifies
// the signature with it.
func (s *Simulator) checkAssertionKey(a *application, t *jwt) *aadProblem {
	const text = "The certificate with identifier used to sign the client assertion is "
	for _, k := range a.Keys {
		if s.now().Before(k.VisibleAt) {
			continue
		}
		sum256, sum1 := sha256.Sum256(k.DER), sha1.Sum(k.DER) //nolint:gosec // see the import
		header256, header1 := strings.TrimRight(t.header.X5tS256, "="), strings.TrimRight(t.header.X5t, "=")
		if header256 != b64.EncodeToString(sum256[:]) && (header256 != "" || header1 != b64.EncodeToString(sum1[:])) {
			continue
		}
		cert, err := x509.ParseCertificate(k.DER)
		if err != nil {
			return aad(700030, "")
		}
		key, ok := cert.PublicKey.(*rsa.PublicKey)
		switch {
		case !ok:
			return aad(700030, "")
		case s.now().After(k.End) || s.now().After(cert.NotAfter):
			return aad(700027, text+"expired on application. [Reason - The key used is expired., Application ID: {app}]", "{app}", a.AppID)
		case t.verify(key) != nil:
			return aad(700027, "Client assertion failed signature validation. [Application ID: {app}]", "{app}", a.AppID)
		}
		return nil
	}
	return aad(700027, "", "{app}", a.AppID)
}

// assertionAudience says whether the assertion is meant for this endpoint: the
// token endpoint of the same tenant, or its issuer, at the public name or at
// the address it was reached by.
// assumed: assertion-audience
func assertionAudience(r *http.Request, aud string) bool {
	segment := r.PathValue("tenant")
	for _, base := range []string{publicAuthority, baseURL(r, HostLogin)} {
		rest, ok := strings.CutPrefix(aud, base+"/")
		if !ok {
			continue
		}
		name, path, _ := strings.Cut(rest, "/")
		if strings.EqualFold(name, segment) && (path == "oauth2/v2.0/token" || path == "oauth2/token" || path == "v2.0" || path == "") {
			return true
		}
	}
	return false
}
