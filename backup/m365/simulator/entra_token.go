package simulator

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Lives of what the token endpoint issues.
const (
	tokenLife   = 3599 * time.Second  // auth.md 1.2; Entra varies it between 60 and 90 minutes
	codeLife    = 10 * time.Minute    // auth.md 1.2
	refreshLife = 90 * 24 * time.Hour // auth.md 1.8
	deviceLife  = 900 * time.Second   // auth.md 1.4
)

// Grant types. Microsoft's libraries send the short name for device codes
// (clients.md).
const (
	grantCode        = "authorization_code"
	grantRefresh     = "refresh_token"
	grantClient      = "client_credentials"
	grantDevice      = "urn:ietf:params:oauth:grant-type:device_code"
	grantDeviceShort = "device_code"
)

// tokenByGet is what a client gets that asks with GET (clients.md: Corso does).
// assumed: token-get
func (s *Simulator) tokenByGet(w *answer, r *http.Request, _ *caller) {
	s.aadError(w, aad(900561, ""))
}

// token is POST /oauth2/v2.0/token. Unknown form fields are ignored.
func (s *Simulator) token(w *answer, r *http.Request, _ *caller) {
	kind := r.PostForm.Get("grant_type")
	log := logged(r)
	log.Grant = strings.TrimPrefix(kind, "urn:ietf:params:oauth:grant-type:")
	t, problem := s.authority(r)
	if problem != nil {
		s.aadError(w, problem)
		return
	}
	if t != nil {
		log.Tenant = t.Domain
	}
	if f := s.entraFault(r, nil); f != nil {
		s.aadError(w, s.faultProblem(f, r, t))
		return
	}
	if kind == "" {
		s.aadError(w, aad(900144, "", "{field}", "grant_type"))
		return
	}
	c, problem := s.authenticate(r, t)
	if c != nil {
		log.AppID, log.App = c.app.AppID, c.app.Name
	}
	if problem == nil {
		switch kind {
		case grantCode:
			problem = s.redeemCode(w, r, t, c)
		case grantRefresh:
			problem = s.refresh(w, r, t, c)
		case grantClient:
			problem = s.clientCredentials(w, r, t, c)
		case grantDevice, grantDeviceShort:
			problem = s.redeemDevice(w, r, c)
		default:
			problem = aad(70003, "", "{grant}", kind)
		}
	}
	if problem != nil {
		if c != nil {
			s.named(problem, t, c.app)
		}
		s.aadError(w, problem)
	}
}

// tenantMatches says whether a grant of a tenant may be used at the path.
func tenantMatches(path *tenant, id string) bool { return path == nil || path.ID == id }

// redeemCode exchanges an authorization code: once, within ten minutes, by the
// client it was issued to, with the same redirect address and the verifier.
func (s *Simulator) redeemCode(w *answer, r *http.Request, path *tenant, c *client) *aadProblem {
	f := r.PostForm
	code := s.state.Codes[f.Get("code")]
	switch {
	case f.Get("code") == "":
		return aad(900144, "", "{field}", "code")
	case code == nil || !strings.EqualFold(code.AppID, c.app.AppID) || !tenantMatches(path, code.Tenant):
		return aad(70000, "")
	case code.Used:
		return aad(54005, "")
	case s.now().Sub(code.IssuedAt) > codeLife:
		return aad(70008, "")
	case f.Get("redirect_uri") != code.RedirectURI:
		return aad(500112, "", "{redirect}", f.Get("redirect_uri"))
	case !verifierMatches(code, f.Get("code_verifier")):
		return aad(501481, "")
	case c.public && !slices.Contains(c.app.PublicURIs, code.RedirectURI):
		return aad(7000218, "")
	}
	want, problem := s.parseScope(firstOf(f.Get("scope"), strings.Join(code.Scopes, " ")))
	if problem != nil {
		return problem
	}
	if len(want.more) > 0 {
		if f.Get("scope") != "" {
			return aad(28000, "", "{scope}", f.Get("scope"))
		}
		want.more = nil // the first resource of the authorization request
	}
	// Only what the authorization asked for is issued, whatever comes here.
	asked, problem := s.parseScope(strings.Join(code.Scopes, " "))
	if problem != nil {
		return problem
	}
	want.openid = slices.DeleteFunc(want.openid, func(n string) bool { return !slices.Contains(asked.openid, n) })
	if f.Get("scope") != "" && len(want.openid) == 0 {
		want.openid = asked.openid // MSAL repeats them, others rely on the authorization. assumed: code-openid
	}
	code.Used = true
	s.changed()
	return s.issueForUser(w, r, c, issue{tenant: code.Tenant, user: code.UserID, want: want, nonce: code.Nonce, at: code.IssuedAt})
}

func verifierMatches(code *authCode, verifier string) bool {
	switch {
	case code.Challenge == "":
		return true
	case code.Method == "S256":
		sum := sha256.Sum256([]byte(verifier))
		return code.Challenge == b64.EncodeToString(sum[:])
	}
	return code.Challenge == verifier
}

// refresh exchanges a refresh token. A new one is issued; the old one stays
// valid (auth.md 1.8).
func (s *Simulator) refresh(w *answer, r *http.Request, path *tenant, c *client) *aadProblem {
	f := r.PostForm
	token := s.state.Refresh[f.Get("refresh_token")]
	if f.Get("refresh_token") == "" {
		return aad(900144, "", "{field}", "refresh_token")
	}
	if token == nil || !strings.EqualFold(token.AppID, c.app.AppID) {
		return aad(70000, "")
	}
	if c.public && !token.Public {
		return aad(7000218, "")
	}
	t := s.tenantOf(token.Tenant)
	u := t.userByID(token.UserID)
	if !tenantMatches(path, token.Tenant) {
		return aad(50020, "", "{user}", u.UPN, "{usertid}", t.ID)
	}
	last := token.IssuedAt
	if token.UsedAt.After(last) {
		last = token.UsedAt
	}
	switch {
	case token.IssuedAt.Before(u.ValidFrom):
		return aad(50173, "", "{issued}", token.IssuedAt.Format(time.RFC3339), "{valid}", u.ValidFrom.Format(time.RFC3339))
	case s.now().Sub(last) > refreshLife:
		return aad(700082, "", "{issued}", token.IssuedAt.Format(time.RFC3339))
	case token.Device && t.Settings.BlockDeviceCode != "":
		// Sessions from device codes stay marked (auth.md, section 7).
		return aad(53003, "")
	}
	want, problem := s.parseScope(firstOf(f.Get("scope"), strings.Join(token.Scopes, " ")))
	if problem != nil {
		return problem
	}
	if len(want.more) > 0 {
		return aad(28000, "", "{scope}", f.Get("scope"))
	}
	if !slices.Contains(want.openid, "offline_access") {
		want.openid = append(want.openid, "offline_access") // assumed: refresh-again
	}
	token.UsedAt = s.now()
	s.changed()
	return s.issueForUser(w, r, c, issue{tenant: token.Tenant, user: token.UserID, want: want, device: token.Device, at: token.IssuedAt})
}

// userByID finds a user, deleted or not.
func (t *tenant) userByID(id string) *user {
	for _, u := range t.Users {
		if u.ID == id {
			return u
		}
	}
	return nil
}

// issue is what tokens for a person are made of.
type issue struct {
	tenant, user string
	want         wanted
	nonce        string
	device       bool
	at           time.Time // when the person signed in
}

// issueForUser checks person, principal and consent, and answers with tokens.
func (s *Simulator) issueForUser(w *answer, r *http.Request, c *client, i issue) *aadProblem {
	t := s.tenantOf(i.tenant)
	u := t.userByID(i.user)
	switch {
	case t.Settings.Suspended:
		return aad(5000224, "")
	case u == nil || !u.DeletedAt.IsZero():
		return aad(500341, "", "{tid}", t.ID)
	case !u.Enabled:
		return aad(50057, "")
	case i.at.Before(u.ValidFrom):
		return aad(50173, "", "{issued}", i.at.Format(time.RFC3339), "{valid}", u.ValidFrom.Format(time.RFC3339))
	}
	p := t.principalOf(c.app.AppID)
	if p == nil {
		return s.named(aad(65001, ""), t, c.app)
	}
	if !p.Enabled {
		return s.named(aad(7000112, ""), t, c.app)
	}
	if t.principalOf(i.want.resource.AppID) == nil {
		return s.named(aad(500011, "", "{resource}", i.want.resource.URIs[0]), t, c.app)
	}
	silent := s.fault(r, nil, "scope_missing_silently") != nil
	granted := s.granted(t, p, i.want.resource, u)
	missing := s.missing(t, u, c.app, i.want)
	if len(missing) > 0 && !silent || i.want.all && len(granted) == 0 && !silent {
		return s.named(aad(65001, ""), t, c.app)
	}
	if silent {
		// auth.md 1.8: 200 with the right audience although nothing was consented.
		granted = []string{"User.Read"}
	}
	s.answerTokens(w, r, c, t, u, i, granted)
	return nil
}

// answerTokens writes the token answer for a person.
func (s *Simulator) answerTokens(w *answer, r *http.Request, c *client, t *tenant, u *user, i issue, granted []string) {
	// assumed: scp-all-consented
	scopes := slices.DeleteFunc(slices.Clone(granted), func(n string) bool { return slices.Contains(openidScopes, n) })
	access := s.accessFor(t, c, i.want.resource)
	access.IDType, access.Oid, access.Name, access.UPN, access.Unique = "user", u.ID, u.Name, u.UPN, u.UPN
	access.Sub, access.Scp, access.Wids = pairwise(i.want.resource.AppID, u.ID), strings.Join(scopes, " "), u.Roles
	out := map[string]any{
		"token_type": "Bearer", "scope": scopeString(i.want, scopes), "expires_in": int(tokenLife.Seconds()), "ext_expires_in": int(tokenLife.Seconds()),
		"access_token": s.sign(access),
	}
	if slices.Contains(i.want.openid, "openid") {
		out["id_token"] = s.idToken(r, c, t, u, i)
	}
	if slices.Contains(i.want.openid, "offline_access") {
		value := "1." + rand.Text() + rand.Text() + rand.Text() + rand.Text()
		s.state.Refresh[value] = &refreshToken{
			Tenant: t.ID, AppID: c.app.AppID, UserID: u.ID, Scopes: append(longScopes(i.want, scopes), i.want.openid...), Public: c.public, Device: i.device, IssuedAt: s.now(),
		}
		s.changed()
		out["refresh_token"] = value
	}
	if r.PostForm.Get("client_info") == "1" {
		info, err := json.Marshal(map[string]string{"uid": u.ID, "utid": t.ID})
		if err == nil {
			out["client_info"] = b64.EncodeToString(info)
		}
	}
	logged(r).User, logged(r).Tenant = u.UPN, t.Domain
	w.json(http.StatusOK, out)
}

// scopeString is the scope of the answer: with the resource in front if it was
// asked for so.
func scopeString(want wanted, scopes []string) string {
	if want.long {
		scopes = longScopes(want, scopes)
	}
	openid := slices.DeleteFunc(slices.Clone(want.openid), func(n string) bool { return n == "offline_access" })
	return strings.Join(append(slices.Clone(scopes), openid...), " ")
}

func longScopes(want wanted, scopes []string) []string {
	long := make([]string, len(scopes))
	for i, n := range scopes {
		long[i] = want.resource.URIs[0] + "/" + n
	}
	return long
}

// accessFor are the claims that tokens of persons and applications share.
func (s *Simulator) accessFor(t *tenant, c *client, res *resource) accessClaims {
	now := s.now()
	return accessClaims{
		Aud: res.URIs[0], Iss: "https://sts.windows.net/" + t.ID + "/", Iat: now.Unix(), Nbf: now.Unix(), Exp: now.Add(tokenLife).Unix(),
		AppID: c.app.AppID, AppIDAcr: c.acr, AppName: c.app.Name, Tid: t.ID, Uti: b64.EncodeToString([]byte(rand.Text()))[:22], Ver: "1.0",
	}
}

// idToken makes an ID token (auth.md 1.7).
func (s *Simulator) idToken(r *http.Request, c *client, t *tenant, u *user, i issue) string {
	now := s.now()
	claims := idClaims{
		Aud: c.app.AppID, Iss: publicAuthority + "/" + t.ID + "/v2.0", Iat: now.Unix(), Nbf: now.Unix(), Exp: now.Add(tokenLife).Unix(),
		Nonce: i.nonce, Sub: pairwise(c.app.AppID, u.ID), Tid: t.ID, Uti: b64.EncodeToString([]byte(rand.Text()))[:22], Ver: "2.0",
	}
	if slices.Contains(i.want.openid, "profile") {
		claims.Oid, claims.Name, claims.Username = u.ID, u.Name, u.UPN
	}
	if slices.Contains(i.want.openid, "email") {
		claims.Email = u.Mail
	}
	var groups string
	if json.Unmarshal(c.app.Extra["groupMembershipClaims"], &groups) == nil && (groups == "DirectoryRole" || groups == "All") {
		claims.Wids = u.Roles
	}
	switch {
	case s.fault(r, nil, "personal_account") != nil:
		claims.Tid, claims.Iss = personalTenant, publicAuthority+"/"+personalTenant+"/v2.0"
	case s.fault(r, nil, "wrong_issuer") != nil:
		claims.Iss = publicAuthority + "/" + newGUID() + "/v2.0"
	case s.fault(r, nil, "wrong_nonce") != nil:
		claims.Nonce = rand.Text()
	case s.fault(r, nil, "wrong_signature") != nil:
		return s.sign(claims)[:40] + s.sign(map[string]string{"x": rand.Text()})[40:]
	}
	return s.sign(claims)
}

// personalTenant is the tenant of private accounts (auth.md, constants).
const personalTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"

// clientCredentials issues a token to an application by itself. Its roles are
// those granted now (auth.md 1.6).
func (s *Simulator) clientCredentials(w *answer, r *http.Request, t *tenant, c *client) *aadProblem {
	scope := ""
	for _, n := range strings.Fields(r.PostForm.Get("scope")) {
		if !slices.Contains(openidScopes, n) { // azidentity adds them, Entra ignores them
			if scope != "" {
				return aad(70011, "", "{scope}", r.PostForm.Get("scope"))
			}
			scope = n
		}
	}
	uri, isDefault := strings.CutSuffix(scope, "/.default")
	switch {
	case c.public:
		return aad(7000218, "")
	case t == nil:
		return aad(50059, "")
	case scope == "":
		return aad(900144, "", "{field}", "scope")
	case !isDefault:
		return aad(1002012, "", "{scope}", scope)
	}
	p := t.principalOf(c.app.AppID)
	switch {
	case p == nil || s.now().Before(p.VisibleAt):
		return s.named(aad(7000229, ""), t, c.app)
	case !p.Enabled:
		return s.named(aad(7000112, ""), t, c.app)
	}
	res := s.resourceOf(uri)
	if res == nil || t.principalOf(res.AppID) == nil {
		return s.named(aad(500011, "", "{resource}", uri), t, c.app)
	}
	access := s.accessFor(t, c, res)
	access.IDType, access.Oid, access.Sub = "app", p.ID, p.ID
	access.Idp = access.Iss
	if s.fault(r, nil, "roles_missing") == nil {
		access.Roles = s.rolesOf(t, p, res)
	}
	w.json(http.StatusOK, map[string]any{
		"token_type": "Bearer", "expires_in": int(tokenLife.Seconds()), "ext_expires_in": int(tokenLife.Seconds()), "access_token": s.sign(access),
	})
	return nil
}

// rolesOf lists the application permissions that the principal has on a
// resource, as far as they have reached the token service.
func (s *Simulator) rolesOf(t *tenant, p *principal, res *resource) []string {
	var roles []string
	rp := t.principalOf(res.AppID)
	for _, a := range t.Assignments {
		if a.PrincipalID != p.ID || a.ResourceID != rp.ID || s.now().Before(a.VisibleAt) {
			continue
		}
		if role := res.roleByID(a.RoleID); role != nil {
			roles = append(roles, role.Name)
		}
	}
	return roles
}
