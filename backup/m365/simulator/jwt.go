package simulator

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// signingKey is one of Entra's keys. PKCS8 is what is saved.
type signingKey struct {
	ID      string
	PKCS8   []byte
	Created time.Time
	private *rsa.PrivateKey
}

// accessClaims are the claims of an access token. Graph's and Exchange's are
// v1 tokens, whatever the endpoint (clients.md).
type accessClaims struct {
	Aud      string   `json:"aud"`
	Iss      string   `json:"iss"`
	Iat      int64    `json:"iat"`
	Nbf      int64    `json:"nbf"`
	Exp      int64    `json:"exp"`
	AppID    string   `json:"appid"`
	AppIDAcr string   `json:"appidacr"` // 0 public, 1 secret, 2 certificate
	AppName  string   `json:"app_displayname"`
	IDType   string   `json:"idtyp"` // user or app
	Name     string   `json:"name,omitempty"`
	Oid      string   `json:"oid"`
	Sub      string   `json:"sub"`
	Tid      string   `json:"tid"`
	UPN      string   `json:"upn,omitempty"`
	Unique   string   `json:"unique_name,omitempty"`
	Scp      string   `json:"scp,omitempty"`
	Roles    []string `json:"roles,omitempty"`
	Wids     []string `json:"wids,omitempty"`
	Uti      string   `json:"uti"`
	Ver      string   `json:"ver"`
	Idp      string   `json:"idp,omitempty"`
}

// idClaims are the claims of an ID token (auth.md 1.7).
type idClaims struct {
	Aud      string   `json:"aud"`
	Iss      string   `json:"iss"`
	Iat      int64    `json:"iat"`
	Nbf      int64    `json:"nbf"`
	Exp      int64    `json:"exp"`
	Name     string   `json:"name,omitempty"`
	Nonce    string   `json:"nonce,omitempty"`
	Oid      string   `json:"oid,omitempty"`
	Username string   `json:"preferred_username,omitempty"`
	Email    string   `json:"email,omitempty"`
	Sub      string   `json:"sub"`
	Tid      string   `json:"tid"`
	Uti      string   `json:"uti"`
	Sid      string   `json:"sid,omitempty"`
	Ver      string   `json:"ver"`
	Wids     []string `json:"wids,omitempty"`
}

var b64 = base64.RawURLEncoding

// key returns the key that signs, making the first one.
func (s *Simulator) key() *signingKey {
	if len(s.state.Keys) == 0 {
		s.rollover()
	}
	return s.state.Keys[len(s.state.Keys)-1]
}

// rollover adds a key that signs from now on. The one before stays published.
func (s *Simulator) rollover() {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("simulator: " + err.Error()) // the system has no randomness
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic("simulator: " + err.Error()) // not with an RSA key
	}
	id := sha256.Sum256(private.N.Bytes())
	s.state.Keys = append(s.state.Keys, &signingKey{ID: b64.EncodeToString(id[:20]), PKCS8: der, Created: s.now(), private: private})
	if n := len(s.state.Keys); n > 2 {
		s.state.Keys = s.state.Keys[n-2:]
	}
	s.changed()
}

// resumeKeys parses the saved keys.
func (s *Simulator) resumeKeys() error {
	for _, k := range s.state.Keys {
		key, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
		if err != nil {
			return fmt.Errorf("saved signing key: %w", err)
		}
		private, ok := key.(*rsa.PrivateKey)
		if !ok {
			return errors.New("saved signing key is not an RSA key")
		}
		k.private = private
	}
	return nil
}

// sign makes a JWT with RS256.
func (s *Simulator) sign(claims any) string {
	k := s.key()
	header, err := json.Marshal(map[string]string{"typ": "JWT", "alg": "RS256", "kid": k.ID, "x5t": k.ID})
	if err != nil {
		panic("simulator: " + err.Error()) // strings only
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic("simulator: " + err.Error()) // our own structs
	}
	signed := b64.EncodeToString(header) + "." + b64.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, k.private, crypto.SHA256, sum[:])
	if err != nil {
		panic("simulator: " + err.Error()) // the key is large enough
	}
	return signed + "." + b64.EncodeToString(sig)
}

// verifyToken checks the signature of one of our tokens and reads its claims.
// The error is Graph's message.
func (s *Simulator) verifyToken(token string, claims any) error {
	t, err := parseJWT(token)
	if err != nil {
		return errors.New("IDX14100: JWT is not well formed, there are no dots (.).")
	}
	for _, k := range s.state.Keys {
		if k.ID != t.header.Kid {
			continue
		}
		if t.header.Alg != "RS256" || t.verify(&k.private.PublicKey) != nil || json.Unmarshal(t.payload, claims) != nil {
			break
		}
		return nil
	}
	return errors.New("Access token validation failure. Invalid signature.")
}

// jwt is a parsed, not yet verified JSON Web Token.
type jwt struct {
	header struct {
		Alg, Typ, Kid, X5t string
		X5tS256            string `json:"x5t#S256"`
	}
	payload   []byte
	sum       [sha256.Size]byte
	signature []byte
}

func parseJWT(token string) (*jwt, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("not three parts")
	}
	t := &jwt{sum: sha256.Sum256([]byte(parts[0] + "." + parts[1]))}
	header, err := b64.DecodeString(parts[0])
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if err := json.Unmarshal(header, &t.header); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if t.payload, err = b64.DecodeString(parts[1]); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if t.signature, err = b64.DecodeString(parts[2]); err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return t, nil
}

// verify checks the signature with RS256 or PS256.
func (t *jwt) verify(key *rsa.PublicKey) error {
	switch t.header.Alg {
	case "RS256":
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, t.sum[:], t.signature)
	case "PS256":
		return rsa.VerifyPSS(key, crypto.SHA256, t.sum[:], t.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return fmt.Errorf("algorithm %q", t.header.Alg)
}
