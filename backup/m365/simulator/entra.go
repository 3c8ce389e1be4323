package simulator

import (
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"net/http"
	"slices"
	"strings"
)

// Segments that stand for any tenant (auth.md, section 1).
const (
	tenantCommon        = "common"
	tenantOrganizations = "organizations"
	tenantConsumers     = "consumers"
)

// publicAuthority is the authority in issuers. Issuers are those of the public
// cloud also on loopback, since clients compare them literally.
const publicAuthority = "https://" + HostLogin

func (s *Simulator) entraRoutes() {
	s.open(HostLogin, "GET", "/{tenant}/v2.0/.well-known/openid-configuration", s.discovery)
	s.open(HostLogin, "GET", "/{tenant}/.well-known/openid-configuration", s.discovery)
	s.open(HostLogin, "GET", "/{tenant}/discovery/instance", s.instanceDiscovery)
	s.open(HostLogin, "GET", "/{tenant}/discovery/v2.0/keys", s.keys)
	s.open(HostLogin, "GET", "/{tenant}/discovery/keys", s.keys)
	s.open(HostLogin, "GET", "/{tenant}/oauth2/v2.0/authorize", s.authorize)
	s.open(HostLogin, "POST", "/{tenant}/oauth2/v2.0/authorize", s.authorize)
	s.open(HostLogin, "POST", "/{tenant}/oauth2/v2.0/token", s.token)
	s.open(HostLogin, "GET", "/{tenant}/oauth2/v2.0/token", s.tokenByGet)
	s.open(HostLogin, "POST", "/{tenant}/oauth2/v2.0/devicecode", s.startDevice)
	s.open(HostLogin, "GET", "/{tenant}/oauth2/v2.0/logout", s.logout)
	s.open(HostLogin, "GET", "/{tenant}/adminconsent", s.adminConsent)
	s.open(HostLogin, "POST", "/{tenant}/adminconsent", s.adminConsent)
	s.open(HostLogin, "GET", "/{tenant}/v2.0/adminconsent", s.adminConsent)
	s.open(HostLogin, "POST", "/{tenant}/v2.0/adminconsent", s.adminConsent)
	for host, path := range map[string]string{HostDevice: "/devicelogin", HostLogin: "/{tenant}/oauth2/deviceauth"} {
		s.open(host, "GET", path, s.devicePage)
		s.open(host, "POST", path, s.devicePage)
	}
}

// anyTenant says whether the segment stands for several tenants.
func anyTenant(segment string) bool {
	return slices.Contains([]string{tenantCommon, tenantOrganizations, tenantConsumers}, strings.ToLower(segment))
}

// authority resolves the tenant segment of the request: nil for common and
// organizations, a problem for a tenant that is unknown or suspended.
func (s *Simulator) authority(r *http.Request) (*tenant, *aadProblem) {
	name := r.PathValue("tenant")
	if anyTenant(name) {
		return nil, nil
	}
	t := s.tenantOf(name)
	switch {
	case t == nil:
		return nil, aad(90002, "", "{tenant}", name)
	case t.Settings.Suspended:
		return nil, aad(5000224, "")
	}
	return t, nil
}

// discovery is the OpenID configuration, as Microsoft serves it (auth.md 1.1).
// The issuer has the literal "{tenantid}" unless the tenant is named.
func (s *Simulator) discovery(w *answer, r *http.Request, _ *caller) {
	t, problem := s.authority(r)
	if problem != nil {
		s.aadError(w, problem)
		return
	}
	segment, issuer := r.PathValue("tenant"), "{tenantid}"
	if t != nil {
		issuer = t.ID
	}
	at := baseURL(r, HostLogin) + "/" + segment
	w.header.Set("Cache-Control", "max-age=86400, private")
	w.header.Set("Access-Control-Allow-Origin", "*")
	w.json(http.StatusOK, map[string]any{
		"token_endpoint":                        at + "/oauth2/v2.0/token",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"jwks_uri":                              at + "/discovery/v2.0/keys",
		"response_modes_supported":              []string{"query", "fragment", "form_post"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"issuer":                                publicAuthority + "/" + issuer + "/v2.0",
		"request_uri_parameter_supported":       false,
		"userinfo_endpoint":                     baseURL(r, HostGraph) + "/oidc/userinfo",
		"authorization_endpoint":                at + "/oauth2/v2.0/authorize",
		"device_authorization_endpoint":         at + "/oauth2/v2.0/devicecode",
		"http_logout_supported":                 true,
		"frontchannel_logout_supported":         true,
		"end_session_endpoint":                  at + "/oauth2/v2.0/logout",
		"claims_supported": []string{"sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host", "aud", "exp", "iat",
			"auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash", "c_hash", "email"},
		"kerberos_endpoint":     at + "/kerberos",
		"tenant_region_scope":   nil,
		"cloud_instance_name":   "microsoftonline.com",
		"cloud_graph_host_name": "graph.windows.net",
		"msgraph_host":          HostGraph,
	})
}

// instanceDiscovery tells client libraries which hosts belong together
// (clients.md).
func (s *Simulator) instanceDiscovery(w *answer, r *http.Request, _ *caller) {
	aliases := []string{HostLogin, "login.windows.net", "login.microsoft.com", "sts.windows.net"}
	w.json(http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": baseURL(r, HostLogin) + "/common/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  []any{map[string]any{"preferred_network": HostLogin, "preferred_cache": "login.windows.net", "aliases": aliases}},
	})
}

// keys is the JSON Web Key Set. Each key says for which issuer it may be used.
func (s *Simulator) keys(w *answer, r *http.Request, _ *caller) {
	s.key()
	list := []map[string]any{}
	for _, k := range s.state.Keys {
		list = append(list, map[string]any{
			"kty": "RSA", "use": "sig", "kid": k.ID, "x5t": k.ID,
			"n":                   b64.EncodeToString(k.private.N.Bytes()),
			"e":                   base64.RawURLEncoding.EncodeToString(big.NewInt(int64(k.private.E)).Bytes()),
			"issuer":              publicAuthority + "/{tenantid}/v2.0",
			"cloud_instance_name": "microsoftonline.com",
		})
	}
	w.header.Set("Access-Control-Allow-Origin", "*")
	w.json(http.StatusOK, map[string]any{"keys": list})
}

// pairwise is the subject of a person at a client.
func pairwise(appID, userID string) string {
	sum := sha256.Sum256([]byte(appID + "\n" + userID))
	return b64.EncodeToString(sum[:])
}

// appByID finds an app registration that is not deleted by its client id.
func (s *Simulator) appByID(appID string) *application {
	_, a := s.registration(appID)
	return a
}

// registration finds an app registration and its home tenant.
func (s *Simulator) registration(appID string) (*tenant, *application) {
	for _, t := range s.state.Tenants {
		for _, a := range t.Apps {
			if strings.EqualFold(a.AppID, appID) && a.DeletedAt.IsZero() {
				return t, a
			}
		}
	}
	return nil, nil
}

// multiTenant says whether people of other tenants may use the application.
func (a *application) multiTenant() bool {
	return a.Audience == "AzureADMultipleOrgs" || a.Audience == "AzureADandPersonalMicrosoftAccount"
}

// principalOf finds the service principal of an application, not deleted.
func (t *tenant) principalOf(appID string) *principal {
	for _, p := range t.Principals {
		if strings.EqualFold(p.AppID, appID) && p.DeletedAt.IsZero() {
			return p
		}
	}
	return nil
}

// resource is an API of Microsoft's that tokens are for.
type resource struct {
	AppID  string
	Name   string
	URIs   []string
	Scopes []scopeOf // delegated
	Roles  []scopeOf // application
}

// resources are the first-party APIs, with the permissions of
// testdata/microsoft/permissions.json.
func loadResources() ([]*resource, error) {
	list := []*resource{
		{AppID: graphAppID, Name: "Microsoft Graph", URIs: []string{"https://graph.microsoft.com", "https://graph.microsoft.com/"}},
		{AppID: exchangeAppID, Name: "Office 365 Exchange Online", URIs: []string{"https://outlook.office365.com", "https://outlook.office365.com/", "https://outlook.office.com", "https://outlook.office.com/"}},
		{AppID: sharePointAppID, Name: "Office 365 SharePoint Online", URIs: []string{"https://microsoft.sharepoint-df.com"}},
	}
	scopes, err := loadScopes()
	if err != nil {
		return nil, err
	}
	for _, sc := range scopes {
		for _, r := range list {
			switch {
			case r.AppID != sc.Resource:
			case sc.Type == "delegated":
				r.Scopes = append(r.Scopes, sc)
			default:
				r.Roles = append(r.Roles, sc)
			}
		}
	}
	return list, nil
}

// resourceOf finds an API by application id or URI.
func (s *Simulator) resourceOf(name string) *resource {
	for _, r := range s.resources {
		if strings.EqualFold(r.AppID, name) || slices.ContainsFunc(r.URIs, func(u string) bool { return strings.EqualFold(u, name) }) {
			return r
		}
	}
	return nil
}

func (r *resource) scope(name string) *scopeOf {
	i := slices.IndexFunc(r.Scopes, func(sc scopeOf) bool { return strings.EqualFold(sc.Name, name) })
	if i < 0 {
		return nil
	}
	return &r.Scopes[i]
}

func (r *resource) scopeByID(id string) *scopeOf {
	i := slices.IndexFunc(r.Scopes, func(sc scopeOf) bool { return strings.EqualFold(sc.ID, id) })
	if i < 0 {
		return nil
	}
	return &r.Scopes[i]
}

func (r *resource) roleByID(id string) *scopeOf {
	i := slices.IndexFunc(r.Roles, func(sc scopeOf) bool { return strings.EqualFold(sc.ID, id) })
	if i < 0 {
		return nil
	}
	return &r.Roles[i]
}
