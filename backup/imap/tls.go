package imap

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"holdfast/backup"
)

// tlsError marks a failure of TLS, so that its reason is told.
type tlsError struct{ err error }

// Error implements error.
func (e *tlsError) Error() string { return "TLS: " + e.err.Error() }

// Unwrap returns the cause.
func (e *tlsError) Unwrap() error { return e.err }

var errNoStartTLS = errors.New("the server does not offer STARTTLS")

// tlsConfig believes the system's authorities (or roots, if not nil), those that
// the server's settings name, and a server certificate that stands there itself.
func tlsConfig(server backup.IMAPServer, roots *x509.CertPool) (*tls.Config, error) {
	own, err := backup.ParseCertificates(server.Certificates)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificates: %w", err)
	}
	config := &tls.Config{ServerName: server.Host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	if len(own) == 0 {
		return config, nil
	}
	if roots != nil {
		roots = roots.Clone()
	} else if roots, err = x509.SystemCertPool(); err != nil {
		roots = x509.NewCertPool()
	}
	for _, c := range own {
		if c.IsCA {
			roots.AddCert(c)
		}
	}
	// The usual check is done below, after a look whether the certificate is one
	// that was named.
	config.InsecureSkipVerify = true //nolint:gosec // VerifyConnection checks
	config.VerifyConnection = func(state tls.ConnectionState) error {
		leaf := state.PeerCertificates[0]
		for _, c := range own {
			if c.Equal(leaf) {
				return nil
			}
		}
		between := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: server.Host, Roots: roots, Intermediates: between})
		return err
	}
	return config, nil
}
