package backup

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// IMAPSecurity is how the connection to an IMAP server is encrypted. Without
// encryption Holdfast does not sign in.
type IMAPSecurity string

// The two ways.
const (
	IMAPTLS      IMAPSecurity = "tls"      // from the first byte, usually port 993
	IMAPStartTLS IMAPSecurity = "starttls" // after STARTTLS, usually port 143
)

// IMAPSignIn is how Holdfast signs in to the mailboxes of an IMAP server.
type IMAPSignIn string

// The ways.
const (
	IMAPPassword IMAPSignIn = "password" // each account with its own password
	IMAPMaster   IMAPSignIn = "master"   // a master user opens every account
	IMAPOAuth    IMAPSignIn = "oauth"    // access tokens (XOAUTH2, OAUTHBEARER) from a token endpoint
)

// IMAPServer is what a connection to an IMAP server has to know.
type IMAPServer struct {
	OrgID        OrgID
	ConnectionID ConnectionID
	Host         string
	Port         int
	Security     IMAPSecurity
	// Certificates are PEM: authorities that are believed beside the system's,
	// or the server's own certificate, which is then believed as it is.
	Certificates   string
	SignIn         IMAPSignIn
	MasterUser     string
	MasterPassword Secret
	// Of IMAPOAuth. With an account's own refresh token that is exchanged for
	// access tokens, without one the client's own credentials are.
	TokenURL     string
	ClientID     string
	ClientSecret Secret
	Scope        string
}

// IMAPAccount is a mailbox on an IMAP server with what opens it, and how the last
// test of that went.
type IMAPAccount struct {
	MailboxID MailboxID
	Address   string    // what people call the mailbox
	User      string    // the name to sign in with
	Secret    Secret    // password or refresh token; empty with a master user
	Selected  bool      // it is backed up
	TestedAt  time.Time // zero while the test waits or runs
	Folders   int64
	Messages  int64
	Problem   Problem // why it can't be opened, zero if it can
}

// Address is host and port.
func (s IMAPServer) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Validate returns FieldErrors naming host, port, security, certificates,
// sign_in, master_user, master_password, token_url or client_id if they break a
// rule, or nil.
func (s IMAPServer) Validate() error {
	fields := FieldErrors{}
	if s.Host == "" || len(s.Host) > 253 || strings.ContainsAny(s.Host, " /\\@:\t\r\n\x00") && net.ParseIP(s.Host) == nil {
		fields["host"] = "Enter the server's name alone, like imap.example.org."
	}
	if s.Port < 1 || s.Port > 65535 {
		fields["port"] = "Enter a port from 1 to 65535; usually 993 for TLS and 143 for STARTTLS."
	}
	if s.Security != IMAPTLS && s.Security != IMAPStartTLS {
		fields["security"] = "Choose how the connection is encrypted."
	}
	if _, err := ParseCertificates(s.Certificates); err != nil {
		fields["certificates"] = "This is not a certificate in PEM form: text that begins with -----BEGIN CERTIFICATE-----."
	}
	s.validateSignIn(fields)
	return fields.OrNil()
}

func (s IMAPServer) validateSignIn(fields FieldErrors) {
	switch s.SignIn {
	case IMAPPassword:
	case IMAPMaster:
		if badLogin(s.MasterUser) {
			fields["master_user"] = "Enter the name of the master user."
		}
		if len(s.MasterPassword) == 0 {
			fields["master_password"] = "Enter the password of the master user."
		}
	case IMAPOAuth:
		u, err := url.Parse(s.TokenURL)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" {
			fields["token_url"] = "Enter the address of the token endpoint, beginning with https://."
		}
		if badLogin(s.ClientID) {
			fields["client_id"] = "Enter the client id that the provider gave you for Holdfast."
		}
	default:
		fields["sign_in"] = "Choose how Holdfast signs in."
	}
}

// badLogin says that a name can't be one to sign in with.
func badLogin(s string) bool {
	return strings.TrimSpace(s) == "" || len(s) > 320 || strings.ContainsAny(s, "\r\n\x00")
}

// ParseCertificates reads certificates in PEM form; none in text is none.
func ParseCertificates(text string) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	rest := []byte(strings.TrimSpace(text))
	for len(rest) > 0 {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errNoCertificate
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list, rest = append(list, c), []byte(strings.TrimSpace(string(after)))
	}
	return list, nil
}

var errNoCertificate = errors.New("not a certificate in PEM form")
