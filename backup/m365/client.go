// Package m365 speaks to Microsoft: it signs administrators in, makes Holdfast's
// applications in their tenants, makes the custom role in Exchange Online, and
// reads mailboxes through Microsoft Graph.
//
// Who holds which token: the main application (Config.ClientID) acts only for a
// signed-in administrator, through the token in a Grant that the caller passes
// in. The sub-applications act by themselves, each with its own certificate,
// through an App. Tokens go to the three configured hosts and nowhere else.
//
// Errors that reach a caller are *backup.Problem (problem.go), whatever layer
// they came from; the exceptions are a context's own errors and the sentinels of
// package engine, which wrap a Problem where there is one.
package m365

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"holdfast/backup"
)

// Addresses of Microsoft's public cloud.
const (
	DefaultLoginURL    = "https://login.microsoftonline.com"
	DefaultGraphURL    = "https://graph.microsoft.com"
	DefaultExchangeURL = "https://outlook.office365.com"
)

// Config says who Holdfast is at Microsoft and where Microsoft is.
type Config struct {
	ClientID string // of the main application
	// Certificate is the main application's credential; preferred to Secret.
	Certificate *Certificate
	Secret      backup.Secret // used if there is no Certificate
	RedirectURL string        // registered for the main application, …/setup/callback

	// Base addresses without a slash at the end; "" means Microsoft's own. They
	// have to be https, unless the host is this machine.
	LoginURL, GraphURL, ExchangeURL string

	Transport http.RoundTripper // nil: one made for this client
	Log       *slog.Logger      // nil: slog.Default
}

// Client is Holdfast's main application. It is safe for concurrent use.
type Client struct {
	id                     string
	certificate            *Certificate
	secret                 backup.Secret
	redirectURL            string
	login, graph, exchange string
	http                   *http.Client
	log                    *slog.Logger
	verifier               idVerifier

	mu   sync.Mutex
	apps map[string]*tokenSource // by tenant, application and certificate
}

// New makes a client. It does not connect. The error names the setting that is wrong.
func New(cfg Config) (*Client, error) {
	c := &Client{
		id: cfg.ClientID, certificate: cfg.Certificate, secret: cfg.Secret, redirectURL: cfg.RedirectURL,
		log: cfg.Log, apps: map[string]*tokenSource{},
	}
	if c.id == "" {
		return nil, errors.New("the client id of Holdfast's application at Microsoft is missing")
	}
	if c.certificate == nil && len(c.secret) == 0 {
		return nil, errors.New("the application of Holdfast at Microsoft needs a certificate or a secret")
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	for _, base := range []struct {
		name, value, usual string
		to                 *string
	}{
		{"sign-in", cfg.LoginURL, DefaultLoginURL, &c.login},
		{"Graph", cfg.GraphURL, DefaultGraphURL, &c.graph},
		{"Exchange", cfg.ExchangeURL, DefaultExchangeURL, &c.exchange},
	} {
		if base.value == "" {
			base.value = base.usual
		}
		value, err := baseURL(base.value)
		if err != nil {
			return nil, fmt.Errorf("the address of Microsoft's %s service: %w", base.name, err)
		}
		*base.to = value
	}
	c.http = &http.Client{
		Transport: newThrottle(cfg.Transport, c.log),
		// Microsoft's APIs do not redirect what Holdfast asks for, and a token must
		// not follow to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// baseURL checks a base address and takes the slash off its end.
func baseURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("%q is not an address like https://graph.microsoft.com", s)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return "", fmt.Errorf("%q must start with https", s)
	}
	return strings.TrimRight(s, "/"), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// under says whether address lies under base: the same scheme and host, and the
// path of base followed by its end or a slash. Tokens are sent only to such
// addresses, also when an address came from Microsoft's answer.
func under(address, base string) bool {
	rest, ok := strings.CutPrefix(address, base)
	if !ok || rest != "" && rest[0] != '/' && rest[0] != '?' {
		return false
	}
	u, err := url.Parse(address)
	return err == nil && u.User == nil
}

// errForeignHost says that a token was about to be sent elsewhere.
var errForeignHost = errors.New("address is not under the configured one; no token was sent")

// SignIn is one trip of a browser to Microsoft's sign-in page. The caller keeps
// it and passes it to Redeem when the browser comes back with the same State.
type SignIn struct {
	Tenant    string // id or domain; "" for any work account
	Purpose   backup.SignInPurpose
	State     string
	Nonce     string
	Verifier  string // PKCE, 43 to 128 characters
	LoginHint string // address of the person, "" if unknown
}

// Grant is what Microsoft gave for a sign-in, a device code or a refresh token.
// Tenant and person come from the verified ID token.
type Grant struct {
	TenantID     string // lower-case GUID
	ObjectID     string // the person's oid
	UPN          string // may change at any time; for display and for routing
	Name         string
	AccessToken  backup.Secret
	RefreshToken backup.Secret // only with SignInRole
	ExpiresAt    time.Time     // of AccessToken
	Scopes       []string      // short names, like Exchange.Manage
}

// DeviceCode is a code that a person enters at Microsoft's page.
type DeviceCode struct {
	UserCode        string
	DeviceCode      backup.Secret
	VerificationURI string
	Interval        time.Duration // least pause between two calls of PollDevice
	ExpiresAt       time.Time
}

// TenantInfo is what Holdfast wants to know of a tenant.
type TenantInfo struct {
	ID            string
	Name          string
	InitialDomain string // like contoso.onmicrosoft.com
	Domains       []string
	HasExchange   bool // a plan with mailboxes is on
}

// ClientID returns the client id of the main application.
func (c *Client) ClientID() string { return c.id }
