package simulator

import (
	"crypto/rand"
	"html"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// authorize is GET and, for our own forms, POST /oauth2/v2.0/authorize
// (auth.md 1.2). The forms post to the same address, so that the request's
// query stays the only state.
func (s *Simulator) authorize(w *answer, r *http.Request, _ *caller) {
	v, back := s.startAuthorize(w, r)
	if v == nil {
		return
	}
	want, problem := s.checkAuthorize(r, v)
	if problem != nil {
		back.refuse(s, problem)
		return
	}
	if r.PostForm.Get("consent") == "cancel" {
		s.cancelConsent(back)
		return
	}
	if r.Form.Get("prompt") == "none" {
		s.authorizeSilently(v, back, want)
		return
	}
	t, u, ok := s.signIn(v)
	if !ok {
		return
	}
	if t.Settings.Suspended {
		s.errorPage(w, aad(5000224, ""))
		return
	}
	if problem := s.usable(t, v); problem != nil {
		s.errorPage(w, problem)
		return
	}
	missing := s.missing(t, u, v.app, want)
	accepted := r.PostForm.Get("consent") == "accept" && r.PostForm.Get("account") == u.ID
	switch {
	case len(missing) == 0 && (v.prompt != "consent" || accepted):
	case !mayConsent(u, missing):
		if s.options.Auto && v.hint != "" {
			back.refuse(s, s.named(aad(90094, ""), t, v.app))
			return
		}
		s.adminNeededPage(v, t, u)
		return
	case accepted || s.options.Auto && v.hint != "":
		who := u
		if r.PostForm.Get("organization") == "true" {
			who = nil
		}
		s.consent(t, who, v.home, v.app, missing)
	default:
		if len(missing) == 0 {
			missing = want.parts()
		}
		s.consentPage(v, t, u, missing, nil, false)
		return
	}
	s.install(t, v.home, v.app)
	back.send(s, url.Values{"code": {s.newCode(r, t, u, v.app, want)}, "session_state": {newGUID()}})
}

// startAuthorize checks application and redirect address. What is wrong there
// is shown as a page, never redirected.
func (s *Simulator) startAuthorize(w *answer, r *http.Request) (*visit, *redirect) {
	t, problem := s.authority(r)
	if problem != nil {
		s.errorPage(w, problem)
		return nil, nil
	}
	id := r.Form.Get("client_id")
	home, a := s.registration(id)
	if a == nil || s.now().Before(a.VisibleAt) || t != nil && home != t && !a.multiTenant() {
		p := aad(700016, "", "{app}", id)
		if t != nil {
			p.fill("{tenant}", t.Name)
		}
		s.errorPage(w, p.fill("{tenant}", r.PathValue("tenant")))
		return nil, nil
	}
	to := r.Form.Get("redirect_uri")
	if !a.redirects(to) {
		s.errorPage(w, s.named(aad(50011, "", "{redirect}", to), t, a))
		return nil, nil
	}
	v := &visit{w: w, r: r, tenant: t, home: home, app: a, prompt: r.Form.Get("prompt"), hint: r.Form.Get("login_hint"), action: formAction(r)}
	return v, &redirect{w: w, to: to, mode: firstOf(r.Form.Get("response_mode"), "query"), state: r.Form.Get("state")}
}

// formAction is the address of the page itself, as the browser sees it.
func formAction(r *http.Request) string { return r.URL.RequestURI() }

// checkAuthorize checks the rest of the request; its problems go back to the
// application.
func (s *Simulator) checkAuthorize(r *http.Request, v *visit) (wanted, *aadProblem) {
	if kind := r.Form.Get("response_type"); kind != "code" {
		return wanted{}, s.named(aad(700054, "", "{type}", kind), v.tenant, v.app)
	}
	if m := r.Form.Get("code_challenge_method"); m != "" && m != "S256" && m != "plain" {
		return wanted{}, aad(90023, "")
	}
	if v.tenant == nil && !v.app.multiTenant() {
		return wanted{}, s.named(aad(50194, ""), nil, v.app)
	}
	if strings.TrimSpace(r.Form.Get("scope")) == "" {
		return wanted{}, aad(900144, "", "{field}", "scope")
	}
	want, problem := s.parseScope(r.Form.Get("scope"))
	if problem != nil {
		s.named(problem, v.tenant, v.app)
	}
	return want, problem
}

// usable checks that the tenant lets the application in.
func (s *Simulator) usable(t *tenant, v *visit) *aadProblem {
	if t != v.home && !v.app.multiTenant() {
		return s.named(aad(700016, ""), t, v.app)
	}
	if p := t.principalOf(v.app.AppID); p != nil && !p.Enabled {
		return s.named(aad(7000112, ""), t, v.app)
	}
	return nil
}

// authorizeSilently is prompt=none.
func (s *Simulator) authorizeSilently(v *visit, back *redirect, want wanted) {
	users, tenants := s.accounts(v)
	for i, u := range users {
		if v.hint != "" && !strings.EqualFold(u.UPN, v.hint) || v.hint == "" && len(users) > 1 {
			continue
		}
		if len(s.missing(tenants[i], u, v.app, want)) > 0 {
			back.refuse(s, s.named(aad(65001, ""), tenants[i], v.app).with("interaction_required", 0))
			return
		}
		back.send(s, url.Values{"code": {s.newCode(v.r, tenants[i], u, v.app, want)}, "session_state": {newGUID()}})
		return
	}
	back.refuse(s, aad(50058, ""))
}

// newCode makes an authorization code.
func (s *Simulator) newCode(r *http.Request, t *tenant, u *user, a *application, want wanted) string {
	s.forget()
	code := "0." + rand.Text() + rand.Text() + rand.Text()
	s.state.Codes[code] = &authCode{
		Tenant: t.ID, AppID: a.AppID, UserID: u.ID, RedirectURI: r.Form.Get("redirect_uri"), Scopes: strings.Fields(r.Form.Get("scope")),
		Nonce: r.Form.Get("nonce"), Challenge: r.Form.Get("code_challenge"), Method: r.Form.Get("code_challenge_method"), IssuedAt: s.now(),
	}
	s.changed()
	return code
}

// forget drops codes, sessions and refresh tokens that nobody can use any
// more. They stay a day longer, so that using them has its own error.
func (s *Simulator) forget() {
	old := func(at time.Time, life time.Duration) bool { return s.now().Sub(at) > life+24*time.Hour }
	maps.DeleteFunc(s.state.Codes, func(_ string, c *authCode) bool { return old(c.IssuedAt, codeLife) })
	maps.DeleteFunc(s.state.Devices, func(_ string, d *deviceCode) bool { return old(d.IssuedAt, deviceLife) })
	maps.DeleteFunc(s.state.Sessions, func(_ string, x *signInSession) bool { return old(x.At, 0) })
	maps.DeleteFunc(s.state.Refresh, func(_ string, t *refreshToken) bool { return old(t.IssuedAt, 2*refreshLife) })
}

// redirects says whether the address is registered, exactly. For http on
// localhost the port does not count.
// assumed: localhost-port
func (a *application) redirects(to string) bool {
	if to == "" {
		return false
	}
	return slices.ContainsFunc(slices.Concat(a.RedirectURIs, a.PublicURIs), func(registered string) bool {
		return registered == to || withoutPort(registered) != "" && withoutPort(registered) == withoutPort(to)
	})
}

// withoutPort returns an http address on localhost without its port, "" for
// any other.
func withoutPort(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Hostname() != "localhost" {
		return ""
	}
	u.Host = u.Hostname()
	return u.String()
}

// redirect is the way back to the application.
type redirect struct {
	w     *answer
	to    string
	mode  string // query, fragment or form_post
	state string
}

func (b *redirect) send(s *Simulator, values url.Values) {
	if b.state != "" {
		values.Set("state", b.state)
	}
	u, err := url.Parse(b.to)
	if err != nil {
		s.errorPage(b.w, aad(90023, ""))
		return
	}
	switch b.mode {
	case "fragment":
		b.w.header.Set("Location", u.String()+"#"+values.Encode())
	case "form_post":
		p := newPage("Continue to the application").text("You are signed in.")
		p.raw(`<form method="post" action="` + html.EscapeString(u.String()) + `">`)
		for name := range values {
			p.raw(`<input type="hidden" name="` + html.EscapeString(name) + `" value="` + html.EscapeString(values.Get(name)) + `">`)
		}
		b.w.show(http.StatusOK, p.buttons("", "", "Continue").end())
		return
	default:
		q := u.Query()
		for name := range values {
			q.Set(name, values.Get(name))
		}
		u.RawQuery = q.Encode()
		b.w.header.Set("Location", u.String())
	}
	b.w.WriteHeader(http.StatusFound)
}

// refuse sends the error back to the application.
func (b *redirect) refuse(s *Simulator, p *aadProblem) {
	text, _, _, _ := s.description(b.w, p)
	b.send(s, url.Values{"error": {p.code}, "error_description": {text}})
}

// cancelConsent is what comes back when the person presses Cancel.
func (s *Simulator) cancelConsent(b *redirect) {
	text, _, _, _ := s.description(b.w, aad(65004, ""))
	b.send(s, url.Values{"error": {"access_denied"}, "error_subcode": {"cancel"}, "error_description": {text}})
}
