package simulator

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strings"
)

// visit is a person on the way through the simulated pages.
type visit struct {
	w      *answer
	r      *http.Request
	tenant *tenant // that has to be signed in to, nil for any
	home   *tenant // of the application
	app    *application
	action string   // where forms post to
	hidden []string // hidden fields of each form, name and value
	prompt string
	hint   string // login_hint
}

// cookieName is the cookie that keeps who is signed in.
const cookieName = "holdfast-simulated-microsoft"

// session returns the browser's session, nil without one.
func (s *Simulator) session(r *http.Request) *signInSession {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	return s.state.Sessions[c.Value]
}

// remember adds an account to the browser's session.
func (s *Simulator) remember(w *answer, r *http.Request, t *tenant, u *user) {
	ss := s.session(r)
	if ss == nil {
		id := rand.Text()
		ss = &signInSession{}
		s.state.Sessions[id] = ss
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: strings.HasPrefix(baseURL(r, HostLogin), "https:")})
	}
	ss.At = s.now()
	now := account{Tenant: t.ID, User: u.ID}
	ss.Accounts = append([]account{now}, slices.DeleteFunc(ss.Accounts, func(a account) bool { return a == now })...)
	s.changed()
}

// accounts lists who is signed in in the browser, leaving out who no longer may.
func (s *Simulator) accounts(v *visit) (list []*user, tenants []*tenant) {
	ss := s.session(v.r)
	if ss == nil {
		return nil, nil
	}
	for _, a := range ss.Accounts {
		t := s.tenantOf(a.Tenant)
		if t == nil || v.tenant != nil && v.tenant != t {
			continue
		}
		if u := t.userOf(a.User); u != nil && u.Enabled {
			list, tenants = append(list, u), append(tenants, t)
		}
	}
	return list, tenants
}

// signIn finds out who the person is. It answers with a page and returns false
// while that is open.
func (s *Simulator) signIn(v *visit) (*tenant, *user, bool) {
	f := v.r.PostForm
	switch {
	case f.Get("sample") != "":
		t, u := s.person(f.Get("sample"))
		return s.enter(v, t, u, "This sample account does not exist any more.")
	case f.Has("passwd"):
		t, u := s.person(strings.TrimSpace(f.Get("login")))
		if u == nil || u.Password == "" || subtle.ConstantTimeCompare([]byte(u.Password), []byte(f.Get("passwd"))) != 1 {
			return s.enter(v, nil, nil, "Your account or password is incorrect.")
		}
		return s.enter(v, t, u, "")
	case f.Get("another") != "":
		s.signInPage(v, "")
		return nil, nil, false
	}
	users, tenants := s.accounts(v)
	wanted := firstOf(f.Get("account"), v.hint)
	for i, u := range users {
		if picked := strings.EqualFold(u.UPN, wanted) || u.ID == wanted; picked && (f.Get("account") != "" || v.prompt != "login") {
			return tenants[i], u, true
		}
	}
	if t, u := s.person(v.hint); s.options.Auto && u != nil {
		// The simulator's own convenience, see Options.Auto.
		return s.enter(v, t, u, "")
	}
	switch {
	case len(users) == 1 && v.prompt == "" && v.hint == "":
		return tenants[0], users[0], true
	case len(users) > 0 && v.prompt != "login" && v.hint == "":
		s.pickPage(v, users)
	default:
		s.signInPage(v, "")
	}
	return nil, nil, false
}

// enter signs a person in, unless Entra refuses.
func (s *Simulator) enter(v *visit, t *tenant, u *user, problem string) (*tenant, *user, bool) {
	switch {
	case u == nil:
		s.signInPage(v, problem)
	case !u.Enabled:
		s.signInPage(v, "Your account has been locked. Contact your support person to unlock it, then try again. (AADSTS50057)")
	case v.tenant != nil && v.tenant != t:
		p := s.named(aad(50020, "", "{user}", u.UPN, "{usertid}", t.ID), v.tenant, v.app)
		text, _, _, _ := s.description(v.w, p)
		v.w.show(http.StatusBadRequest, newPage("Selected user account does not exist in the tenant").alert(text).
			form(v.action, v.hidden...).buttons("another", "true", "Use a different account").end())
	default:
		s.remember(v.w, v.r, t, u)
		return t, u, true
	}
	return nil, nil, false
}

// named fills tenant and application into a problem's text.
func (s *Simulator) named(p *aadProblem, t *tenant, a *application) *aadProblem {
	if t != nil {
		p.fill("{tenant}", t.Name, "{tid}", t.ID)
	}
	if a != nil {
		p.fill("{app}", a.AppID, "{name}", a.Name)
	}
	return p
}

func (s *Simulator) signInPage(v *visit, problem string) {
	login := firstOf(v.r.PostForm.Get("login"), v.hint)
	p := newPage("Sign in")
	if v.app != nil {
		p.text("to continue to %s", v.app.Name)
	}
	p.alert(problem).form(v.action, v.hidden...).
		input("login", "Account", login, `type="text" autocomplete="username" autocapitalize="none" spellcheck="false" required`).
		input("passwd", "Password", "", `type="password" autocomplete="off" required`).
		buttons("next", "true", "Sign in").end()
	s.samples(p, v)
	v.w.show(http.StatusOK, p)
}

// samples lists the people of the simulation, so that nobody has to look up a
// password.
func (s *Simulator) samples(p *page, v *visit) {
	p.raw("<details><summary>Sample accounts of this simulation</summary>\n").form(v.action, v.hidden...)
	for _, t := range s.state.Tenants {
		if v.tenant != nil && v.tenant != t {
			continue
		}
		p.raw("<h2>" + html.EscapeString(t.Name) + "</h2>\n")
		plain := 0
		for _, u := range t.Users {
			if u.Password == "" || !u.DeletedAt.IsZero() || !u.Enabled {
				continue
			}
			roles := strings.Join(roleNames(u.Roles), ", ")
			if roles == "" {
				if plain++; plain > 1 {
					continue
				}
				roles = "no administrator"
			}
			p.choice("sample", u.UPN, u.UPN, fmt.Sprintf("%s, password %s", roles, u.Password))
		}
	}
	p.end().raw("</details>\n")
}

func (s *Simulator) pickPage(v *visit, users []*user) {
	p := newPage("Pick an account")
	if v.app != nil {
		p.text("to continue to %s", v.app.Name)
	}
	p.form(v.action, v.hidden...)
	for _, u := range users {
		p.choice("account", u.ID, u.UPN, u.Name)
	}
	p.choice("another", "true", "Use another account", "").end()
	v.w.show(http.StatusOK, p)
}

// consentPage asks for the permissions in the list.
func (s *Simulator) consentPage(v *visit, t *tenant, u *user, list []wanted, roles []scopeOf, forAll bool) {
	p := newPage("Permissions requested").who(u)
	if forAll {
		p.text("Review for your organization, %s", t.Name)
	}
	p.raw("<h2>" + html.EscapeString(v.app.Name) + "</h2>\n")
	if v.home != t {
		p.text("This application is not published by Microsoft or by your organization. Publisher: %s (%s), unverified.", v.home.Name, v.home.Domain)
	}
	p.text("This app would like to:").raw("<dl>\n")
	for _, w := range list {
		for _, n := range w.scopes {
			if sc := w.resource.scope(n); sc != nil {
				p.permission(sc)
			}
		}
	}
	for _, role := range roles {
		p.permission(&role)
	}
	p.raw("</dl>\n").form(v.action, append(slices.Clone(v.hidden), "account", u.ID)...)
	admin := u.hasRole(globalAdministrator, privilegedRoleAdministrator, applicationAdministrator, cloudApplicationAdministrator)
	if admin && !forAll {
		p.check("organization", "Consent on behalf of your organization")
	}
	p.text("Accepting these permissions means that you allow this app to use your data as specified in its terms of service and privacy statement.").
		buttons("consent", "accept", "Accept", "consent", "cancel", "Cancel").end()
	v.w.show(http.StatusOK, p)
}

func (p *page) permission(sc *scopeOf) {
	fmt.Fprintf(&p.body, "<dt>%s</dt><dd>%s <code>%s</code></dd>\n", html.EscapeString(sc.DisplayName), html.EscapeString(sc.Description), html.EscapeString(sc.Name))
}

// adminNeededPage is for people who may not consent (AADSTS90094).
func (s *Simulator) adminNeededPage(v *visit, t *tenant, u *user) {
	text, _, _, _ := s.description(v.w, s.named(aad(90094, ""), t, v.app))
	v.w.show(http.StatusForbidden, newPage("Need admin approval").who(u).
		text("%s needs permission to access resources in your organization that only an admin can grant. Please ask an admin to grant permission to this app before you can use it.", v.app.Name).
		alert(text).
		form(v.action, append(slices.Clone(v.hidden), "account", u.ID)...).
		buttons("another", "true", "Sign in with another account", "consent", "cancel", "Return to the application without granting consent").end())
}

// logout forgets the browser's accounts.
func (s *Simulator) logout(w *answer, r *http.Request, _ *caller) {
	if c, err := r.Cookie(cookieName); err == nil {
		delete(s.state.Sessions, c.Value)
		s.changed()
	}
	w.show(http.StatusOK, newPage("You signed out of your account").text("It’s a good idea to close all browser windows."))
}
