package m365

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"holdfast/backup"
)

// Certificate is an application's credential: the certificate is registered at
// Microsoft, the key signs assertions.
type Certificate struct {
	DER []byte
	Key *rsa.PrivateKey
}

// ParseCertificate reads a PEM file with a certificate and its unencrypted
// PKCS #8 or PKCS #1 RSA key, in any order.
func ParseCertificate(data []byte) (*Certificate, error) {
	var c Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			if c.DER == nil { // the first is the application's own; others are its chain
				c.DER = block.Bytes
			}
		case "PRIVATE KEY", "RSA PRIVATE KEY":
			key, err := parseKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			c.Key = key
		}
	}
	if c.DER == nil || c.Key == nil {
		return nil, errors.New("the file must hold a certificate and its private key in PEM")
	}
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if !c.Key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the private key does not belong to the certificate")
	}
	return &c, nil
}

func parseKey(der []byte) (*rsa.PrivateKey, error) {
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	any, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	key, ok := any.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the private key must be RSA")
	}
	return key, nil
}

// keyBits is the size of the keys that Holdfast makes for sub-applications.
const keyBits = 2048

// newCertificate makes a self-signed certificate and its PKCS #8 key, valid for
// life from an hour ago, since clocks differ.
func newCertificate(name string, now time.Time, life time.Duration) (der, key []byte, notAfter time.Time, err error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("make serial number: %w", err)
	}
	notBefore := now.Add(-time.Hour).Truncate(time.Second).UTC()
	notAfter = notBefore.Add(life)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, template, private.Public(), private); err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("make certificate: %w", err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("encode key: %w", err)
	}
	return der, key, notAfter, nil
}

// appCertificate is the credential of a sub-application.
func appCertificate(app backup.SubApplication) (*Certificate, error) {
	key, err := parseKey(app.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("sub-application %s: %w", app.ID, err)
	}
	return &Certificate{DER: app.Certificate, Key: key}, nil
}

// assertionLife is how long an assertion is good for. Microsoft refuses more
// than 10 minutes.
const assertionLife = 5 * time.Minute

// assertion signs a client assertion for audience, the token endpoint it is sent
// to (https://learn.microsoft.com/entra/identity-platform/certificate-credentials).
func (c *Certificate) assertion(clientID, audience string, now time.Time) (string, error) {
	signer, err := c.signer()
	if err != nil {
		return "", err
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: clientID, Subject: clientID, Audience: jwt.Audience{audience}, ID: rand.Text(),
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)),
		Expiry: jwt.NewNumericDate(now.Add(assertionLife)),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	return text, nil
}

// signer signs as Entra wants it: the header names the certificate.
func (c *Certificate) signer() (jose.Signer, error) {
	hash := sha256.Sum256(c.DER)
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t#S256", base64.RawURLEncoding.EncodeToString(hash[:]))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: c.Key}, options)
	if err != nil {
		return nil, fmt.Errorf("make signer: %w", err)
	}
	return signer, nil
}
