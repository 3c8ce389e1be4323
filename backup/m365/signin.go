package m365

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"holdfast/backup"
)

// personalTenant is the tenant of private Microsoft accounts.
const personalTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"

// anyWorkAccount stands for a tenant that is not known yet.
const anyWorkAccount = "organizations"

var tenantID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// signInPatience is how long a page waits for a busy Entra.
const signInPatience = 15 * time.Second

// Scopes of the two sign-ins. Graph and Exchange need a token each.
const (
	scopeApplications = "https://graph.microsoft.com/Application.ReadWrite.All"
	scopeGrants       = "https://graph.microsoft.com/AppRoleAssignment.ReadWrite.All"
	scopeOrganization = "https://graph.microsoft.com/Organization.Read.All"
	scopeExchange     = "https://outlook.office365.com/Exchange.Manage"
	// The backup administrator's, instead of scopeApplications.
	scopeReadApplications = "https://graph.microsoft.com/Application.Read.All"
	scopeUsers            = "https://graph.microsoft.com/User.ReadWrite.All"
	scopeRoles            = "https://graph.microsoft.com/RoleManagement.ReadWrite.Directory"
)

// scopes returns what a sign-in asks for.
func scopes(p backup.SignInPurpose) []string {
	switch p {
	case backup.SignInRole:
		return []string{"openid", "profile", "offline_access", scopeExchange}
	case backup.SignInRestore:
		return []string{"openid", "profile", "offline_access", scopeApplications, scopeGrants, scopeOrganization}
	case backup.SignInAdministrator:
		return []string{"openid", "profile", scopeReadApplications, scopeGrants, scopeOrganization, scopeUsers, scopeRoles}
	}
	return []string{"openid", "profile", scopeApplications, scopeGrants, scopeOrganization}
}

// needed returns the short names that a grant must have to be of use.
func needed(p backup.SignInPurpose) []string {
	switch p {
	case backup.SignInRole:
		return []string{"Exchange.Manage"}
	case backup.SignInAdministrator:
		return []string{"Application.Read.All", "AppRoleAssignment.ReadWrite.All", "Organization.Read.All", "User.ReadWrite.All", "RoleManagement.ReadWrite.Directory"}
	}
	return []string{"Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All", "Organization.Read.All"}
}

func (c *Client) endpoint(tenant, name string) string {
	if tenant == "" {
		tenant = anyWorkAccount
	}
	return c.login + "/" + url.PathEscape(tenant) + "/oauth2/v2.0/" + name
}

// SignInURL returns Microsoft's page for s: authorization code with PKCE. The
// person sees the consent page if something new is asked for.
func (c *Client) SignInURL(s SignIn) string {
	config := oauth2.Config{ClientID: c.id, RedirectURL: c.redirectURL, Scopes: scopes(s.Purpose),
		Endpoint: oauth2.Endpoint{AuthURL: c.endpoint(s.Tenant, "authorize")}}
	options := []oauth2.AuthCodeOption{
		oauth2.S256ChallengeOption(s.Verifier), oidc.Nonce(s.Nonce), oauth2.SetAuthURLParam("response_mode", "query"),
	}
	if s.LoginHint != "" {
		options = append(options, oauth2.SetAuthURLParam("login_hint", s.LoginHint))
	} else {
		options = append(options, oauth2.SetAuthURLParam("prompt", "select_account"))
	}
	return config.AuthCodeURL(s.State, options...)
}

// CallbackProblem reads the error of a redirect from Microsoft; it returns nil if
// the redirect has none. The tenant in a redirect is not authenticated and not
// looked at.
func CallbackProblem(q url.Values) *backup.Problem {
	if q.Get("error") == "" {
		return nil
	}
	r := refusal{}.withEntra(entraError{Error: q.Get("error"), Description: q.Get("error_description")})
	if q.Get("error_subcode") == "cancel" {
		return r.problem(declined, nil)
	}
	return entraProblem(r, nil, personMeanings)
}

// Redeem exchanges the code of a redirect for tokens. s is what SignInURL was
// given; the caller has compared the State. The tenant of the ID token must be
// s.Tenant if that is an id.
func (c *Client) Redeem(ctx context.Context, code string, s SignIn) (Grant, error) {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {c.redirectURL},
		"code_verifier": {s.Verifier}, "scope": {strings.Join(scopes(s.Purpose), " ")},
	}
	t, err := c.personToken(ctx, s.Tenant, form, personMeanings)
	if err != nil {
		return Grant{}, err
	}
	return c.grant(ctx, t, s)
}

// RefreshRole renews the tokens of a Grant for SignInRole. The old refresh token
// stays valid at Microsoft; the new one replaces it in the store.
func (c *Client) RefreshRole(ctx context.Context, tenant string, refresh backup.Secret) (Grant, error) {
	return c.refresh(ctx, tenant, backup.SignInRole, refresh, roleRefreshMeanings, personMeanings)
}

// RefreshRestore is RefreshRole for SignInRestore.
func (c *Client) RefreshRestore(ctx context.Context, tenant string, refresh backup.Secret) (Grant, error) {
	return c.refresh(ctx, tenant, backup.SignInRestore, refresh, personMeanings)
}

func (c *Client) refresh(ctx context.Context, tenant string, purpose backup.SignInPurpose, refresh backup.Secret, tables ...map[string]meaning) (Grant, error) {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {refresh.Reveal()},
		"scope": {strings.Join(scopes(purpose), " ")},
	}
	t, err := c.personToken(ctx, tenant, form, tables...)
	if err != nil {
		return Grant{}, err
	}
	if t.RefreshToken == "" {
		t.RefreshToken = refresh.Reveal()
	}
	return c.grant(ctx, t, SignIn{Tenant: tenant, Purpose: purpose})
}

// tokens is the answer of the token endpoint.
type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Scope        string `json:"scope"`
	ExpiresIn    int64  `json:"expires_in"`
}

// personToken asks the token endpoint as the main application.
func (c *Client) personToken(ctx context.Context, tenant string, form url.Values, tables ...map[string]meaning) (tokens, error) {
	form.Set("client_id", c.id)
	if err := c.authenticate(form, c.endpoint(tenant, "token")); err != nil {
		return tokens{}, backup.AsProblem(err)
	}
	t, refused, err := c.token(ctx, tenant, form)
	if refused != nil {
		return tokens{}, entraProblem(*refused, err, tables...)
	}
	return t, err
}

// authenticate adds the main application's credential to a form for audience.
func (c *Client) authenticate(form url.Values, audience string) error {
	if c.certificate == nil {
		form.Set("client_secret", c.secret.Reveal())
		return nil
	}
	text, err := c.certificate.assertion(c.id, audience, time.Now())
	if err != nil {
		return err
	}
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", text)
	return nil
}

// token posts a form to the token endpoint. x/oauth2 is not used here since it
// loses the numbers that tell Entra's refusals apart, and polls device codes in
// a loop of its own. The refusal is nil if there was no answer of Entra.
func (c *Client) token(ctx context.Context, tenant string, form url.Values) (tokens, *refusal, error) {
	var a answer
	var t tokens
	if err := c.postForm(ctx, c.endpoint(tenant, "token"), form, &a, &t); err != nil {
		if a.status != 0 {
			r := parseEntra(&a)
			return t, &r, err
		}
		return t, nil, err
	}
	if t.AccessToken == "" {
		return t, nil, garbage("token endpoint", fmt.Errorf("no access token in the answer"))
	}
	return t, nil, nil
}

// postForm posts a form to Entra and decodes the answer. A refusal is noted in a,
// and then the error is plain; otherwise it is a Problem or the context's.
func (c *Client) postForm(ctx context.Context, address string, form url.Values, a *answer, into any) error {
	// A code or a device code is good once, so its exchange must not be repeated.
	repeatable := form.Get("grant_type") == "client_credentials" || form.Get("grant_type") == "refresh_token"
	ctx = withCall(ctx, call{key: "entra", parallel: 16, repeatable: repeatable, patience: signInPatience, silence: 30 * time.Second, answer: a})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return silenceProblem(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return silenceProblem(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		if a.status == 0 {
			return garbage("sign-in service", fmt.Errorf("status %d", res.StatusCode))
		}
		return fmt.Errorf("sign-in service: status %d", res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return silenceProblem(err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return garbage("sign-in service", err)
	}
	return nil
}

// grant verifies the ID token of t and checks that everything needed was given.
func (c *Client) grant(ctx context.Context, t tokens, s SignIn) (Grant, error) {
	who, err := c.identify(ctx, t.IDToken, s.Nonce)
	if err != nil {
		return Grant{}, err
	}
	if tenantID.MatchString(strings.ToLower(s.Tenant)) && who.Tenant != strings.ToLower(s.Tenant) {
		return Grant{}, &backup.Problem{Kind: backup.ProblemWrongTenant, At: time.Now(),
			Text: fmt.Sprintf("%s belongs to another tenant than the one that this backup is for. Sign in with an administrator of the right tenant.", who.UPN)}
	}
	g := Grant{
		TenantID: who.Tenant, ObjectID: who.Object, UPN: who.UPN, Name: who.Name,
		AccessToken: backup.Secret(t.AccessToken), RefreshToken: backup.Secret(t.RefreshToken),
		ExpiresAt: time.Now().Add(time.Duration(t.ExpiresIn) * time.Second),
	}
	for scope := range strings.FieldsSeq(t.Scope) {
		g.Scopes = append(g.Scopes, scope[strings.LastIndexByte(scope, '/')+1:])
	}
	for _, scope := range needed(s.Purpose) {
		if len(g.Scopes) > 0 && !slices.Contains(g.Scopes, scope) {
			m := consentMissing
			m.text = "Microsoft did not give the permission " + scope + ". " + m.text
			return Grant{}, refusal{}.problem(m, nil)
		}
	}
	return g, nil
}

// trimBOM takes off the mark that some of Microsoft's answers begin with.
func trimBOM(b []byte) []byte { return bytes.TrimPrefix(b, []byte("\ufeff")) }
