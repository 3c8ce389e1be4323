package simulator

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // customKeyIdentifier is a SHA-1 thumbprint by definition
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// longestShort is the longest life of a credential under a short… policy of
// TenantSettings.Policy.
const longestShort = 30 * 24 * time.Hour

// keyObject is a certificate as Graph lists it; the key itself is not shown
// (https://learn.microsoft.com/graph/api/resources/keycredential).
func keyObject(k *keyCredential) object {
	sum := sha1.Sum(k.DER) //nolint:gosec // see the import
	return object{
		"keyId": k.KeyID, "displayName": orNil(k.Name), "type": "AsymmetricX509Cert", "usage": "Verify", "key": nil,
		"customKeyIdentifier": base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(hex.EncodeToString(sum[:])))),
		"startDateTime":       stamp(k.Start), "endDateTime": stamp(k.End),
	}
}

func passwordObject(p *passwordCredential, withSecret bool) object {
	o := object{
		"keyId": p.KeyID, "displayName": orNil(p.Name), "hint": p.Secret[:3], "secretText": nil, "customKeyIdentifier": nil,
		"startDateTime": stamp(p.Start), "endDateTime": stamp(p.End),
	}
	if withSecret {
		o["secretText"] = p.Secret
	}
	return o
}

// credentialBody is a keyCredential or passwordCredential in a request.
type credentialBody struct {
	KeyID       string     `json:"keyId"`
	DisplayName string     `json:"displayName"`
	Type        string     `json:"type"`
	Usage       string     `json:"usage"`
	Key         []byte     `json:"key"` // DER; JSON has it in base64
	Start       *time.Time `json:"startDateTime"`
	End         *time.Time `json:"endDateTime"`
}

// setKeys replaces the certificates: the list is what holds afterwards
// (auth.md 2.1, 4). An entry with the keyId of an existing one and no key
// keeps it.
func (s *Simulator) setKeys(w *answer, r *http.Request, c *caller, a *application, raw json.RawMessage) bool {
	var list []credentialBody
	if err := json.Unmarshal(raw, &list); err != nil {
		s.badRequest(w, "Invalid value specified for property 'keyCredentials' of resource 'Application'.")
		return false
	}
	var keys []*keyCredential
	for _, b := range list {
		i := slices.IndexFunc(a.Keys, func(k *keyCredential) bool { return k.KeyID == b.KeyID })
		if len(b.Key) == 0 && i >= 0 {
			keys = append(keys, a.Keys[i])
			continue
		}
		k, ok := s.newKey(w, r, c, b)
		if !ok {
			return false
		}
		keys = append(keys, k)
	}
	a.Keys = keys
	return true
}

// newKey checks a certificate against the tenant's policies (auth.md 2.4).
func (s *Simulator) newKey(w *answer, r *http.Request, c *caller, b credentialBody) (*keyCredential, bool) {
	t := c.Tenant
	if b.Type != "AsymmetricX509Cert" || b.Usage != "Verify" {
		s.badRequest(w, "Key credential type and usage must be AsymmetricX509Cert and Verify.")
		return nil, false
	}
	cert, err := x509.ParseCertificate(b.Key)
	if err != nil {
		s.graphError(w, http.StatusBadRequest, "KeyCredentialsInvalidKey", "The value for the key credential is not a valid X.509 certificate.") // assumed: invalid-key
		return nil, false
	}
	k := &keyCredential{KeyID: newGUID(), Name: firstOf(b.DisplayName, "CN="+cert.Subject.CommonName), DER: b.Key, Start: cert.NotBefore, End: cert.NotAfter, VisibleAt: s.now().Add(t.delay())}
	if b.Start != nil {
		k.Start = *b.Start
	}
	if b.End != nil {
		k.End = *b.End
	}
	if k.End.After(cert.NotAfter) || k.End.Before(s.now()) {
		s.graphError(w, http.StatusBadRequest, "KeyCredentialsInvalidEndDate", "Key credential end date is invalid.")
		return nil, false
	}
	return k, s.credentialAllowed(w, r, c, "Certificates", k.End.Sub(k.Start), t.Settings.Policy == "noCertificates", t.Settings.Policy == "shortCertificates")
}

// credentialAllowed applies the tenant's application policy.
func (s *Simulator) credentialAllowed(w *answer, r *http.Request, c *caller, kind string, life time.Duration, none, short bool) bool {
	switch {
	case none || s.fault(r, c, "credential_type_not_allowed") != nil:
		s.graphError(w, http.StatusBadRequest, "CredentialTypeNotAllowedAsPerAppPolicy", "Credential type is not allowed as per assigned policy '"+kind+"'.")
		return false
	case short && life > longestShort || s.fault(r, c, "credential_invalid_lifetime") != nil:
		s.graphError(w, http.StatusBadRequest, "CredentialInvalidLifetimeAsPerAppPolicy", "Credential lifetime exceeds the max value allowed as per assigned policy '"+kind+"'.")
		return false
	}
	return true
}

// addPassword is POST …/addPassword: the secret is shown once (auth.md 2.1, 4).
func (s *Simulator) addPassword(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	if a == nil {
		return
	}
	var body struct {
		Password credentialBody `json:"passwordCredential"`
	}
	if !s.decode(w, r, &body) {
		return
	}
	now := s.now()
	p := &passwordCredential{KeyID: newGUID(), Name: body.Password.DisplayName, Secret: rand.Text()[:8] + "~" + rand.Text()[:16], Start: now, End: now.AddDate(2, 0, 0), VisibleAt: now.Add(c.Tenant.delay())}
	if body.Password.End != nil {
		p.End = *body.Password.End
	}
	policy := c.Tenant.Settings.Policy
	switch {
	case !mayManage(c, a.Owners):
		s.deny(w)
		return
	case !s.credentialAllowed(w, r, c, "Passwords", p.End.Sub(p.Start), policy == "noSecrets", policy == "shortSecrets"):
		return
	}
	a.Passwords = append(a.Passwords, p)
	s.changed()
	w.reset = s.fault(r, c, "answer_lost") != nil
	o := passwordObject(p, true)
	o["@odata.context"] = graphMeta + "microsoft.graph.passwordCredential"
	w.graphJSON(http.StatusOK, o)
}

func (s *Simulator) removePassword(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	var body struct{ KeyID string }
	if a == nil || !s.decode(w, r, &body) {
		return
	}
	i := slices.IndexFunc(a.Passwords, func(p *passwordCredential) bool { return p.KeyID == body.KeyID })
	switch {
	case !mayManage(c, a.Owners):
		s.deny(w)
		return
	case i < 0:
		s.badRequest(w, "No credentials found to be removed.")
		return
	}
	a.Passwords = slices.Delete(a.Passwords, i, i+1)
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

// proofAudience is the audience of proofs of possession (auth.md 2.1, 4).
const proofAudience = "00000002-0000-0000-c000-000000000000"

// proves checks the proof of addKey and removeKey: signed by a certificate
// that the application already has.
func (s *Simulator) proves(w *answer, a *application, proof string) bool {
	var claims assertionClaims
	t, err := parseJWT(proof)
	now := s.now()
	if err != nil || s.checkAssertionKey(a, t) != nil || json.Unmarshal(t.payload, &claims) != nil ||
		claims.Aud != proofAudience || !strings.EqualFold(claims.Iss, a.ID) || now.After(time.Unix(claims.Exp, 0)) || time.Unix(claims.Exp, 0).Sub(now) > assertionLife {
		s.graphError(w, http.StatusForbidden, "Authentication_MissingOrMalformed", "Access Token missing or malformed: the proof of possession is not valid.") // assumed: bad-proof
		return false
	}
	return true
}

// ownKeys says whether an application calls addKey or removeKey for itself.
// That needs no permission: the proof stands for one (auth.md 2.1, 4).
func (s *Simulator) ownKeys(c *caller, r *http.Request, found *route) bool {
	if !strings.HasSuffix(found.template, "/addKey") && !strings.HasSuffix(found.template, "/removeKey") || c.User != nil {
		return false
	}
	_, a := s.registration(c.AppID)
	return a != nil && strings.EqualFold(a.ID, r.PathValue("application-id"))
}

// addKey adds a certificate with a proof of possession of an existing one.
func (s *Simulator) addKey(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	var body struct {
		Key   credentialBody `json:"keyCredential"`
		Proof string         `json:"proof"`
	}
	if a == nil || !s.decode(w, r, &body) || !s.proves(w, a, body.Proof) {
		return
	}
	k, ok := s.newKey(w, r, c, body.Key)
	if !ok {
		return
	}
	a.Keys = append(slices.Clone(a.Keys), k)
	s.changed()
	w.reset = s.fault(r, c, "answer_lost") != nil
	o := keyObject(k)
	o["@odata.context"] = graphMeta + "microsoft.graph.keyCredential"
	w.graphJSON(http.StatusOK, o)
}

func (s *Simulator) removeKey(w *answer, r *http.Request, c *caller) {
	a := s.applicationAt(w, r, c)
	var body struct{ KeyID, Proof string }
	if a == nil || !s.decode(w, r, &body) || !s.proves(w, a, body.Proof) {
		return
	}
	i := slices.IndexFunc(a.Keys, func(k *keyCredential) bool { return k.KeyID == body.KeyID })
	if i < 0 {
		s.badRequest(w, "No credentials found to be removed.")
		return
	}
	a.Keys = slices.Delete(slices.Clone(a.Keys), i, i+1)
	s.changed()
	w.reset = s.fault(r, c, "answer_lost") != nil
	w.WriteHeader(http.StatusNoContent)
}
