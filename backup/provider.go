package backup

import (
	"net/url"
	"strings"
	"time"
)

// SignInProvider is an OpenID Connect issuer that people sign in with.
type SignInProvider struct {
	ID        SignInProviderID
	PartnerID PartnerID
	OrgID     OrgID  // "" for the partner's own people and, at their choice, everybody's
	Name      string // on the button, like Contoso Entra
	Issuer    string // https URL; Entra's may name several tenants, see Tenants
	// Tenants are the directory ids that an issuer of several tenants
	// (EntraIssuer) is believed for; empty for any other issuer.
	Tenants   []string
	ClientID  string
	Secret    Secret // "" for a public client
	CreatedAt time.Time
}

// EntraIssuer is the issuer of Microsoft Entra for work accounts of any tenant.
// Its tokens name the tenant's own issuer, which has to be checked.
const EntraIssuer = "https://login.microsoftonline.com/organizations/v2.0"

// ManyTenants says whether the issuer speaks for several tenants.
func (p SignInProvider) ManyTenants() bool {
	return strings.HasSuffix(p.Issuer, "/organizations/v2.0") || strings.HasSuffix(p.Issuer, "/common/v2.0")
}

// Validate returns FieldErrors naming name, issuer, client_id and tenants if
// they break a rule, or nil. An issuer on this machine may do without TLS.
func (p SignInProvider) Validate() error {
	fields := FieldErrors{}
	checkName(fields, "name", p.Name)
	u, err := url.Parse(p.Issuer)
	local := err == nil && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		fields["issuer"] = "Enter the issuer's address, like https://accounts.google.com."
	case u.Scheme != "https" && (u.Scheme != "http" || !local):
		fields["issuer"] = "The issuer's address has to begin with https://."
	}
	if strings.TrimSpace(p.ClientID) == "" || len(p.ClientID) > 300 {
		fields["client_id"] = "Enter the client id that the issuer gave you for Holdfast."
	}
	if p.ManyTenants() && len(p.Tenants) == 0 {
		fields["tenants"] = "This issuer speaks for every Microsoft tenant. Name the directory (tenant) ids that you trust."
	}
	return fields.OrNil()
}

// Identity is who a person is at an issuer.
type Identity struct {
	ProviderID SignInProviderID
	Issuer     string // of the token
	Subject    string // the issuer's own id of the person
	PersonID   PersonID
	Shown      string // e-mail address or name at the issuer when it was connected; only to show
	CreatedAt  time.Time
}

// How a session was signed in.
const (
	ViaPassword = "password" // with a second factor, if the person has one
	ViaPasskey  = "passkey"
	ViaOIDC     = "oidc"
)
