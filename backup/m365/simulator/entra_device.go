package simulator

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
)

// startDevice is POST /oauth2/v2.0/devicecode (auth.md 1.4).
func (s *Simulator) startDevice(w *answer, r *http.Request, _ *caller) {
	segment := strings.ToLower(r.PathValue("tenant"))
	t, problem := s.authority(r)
	id := r.PostForm.Get("client_id")
	home, a := s.registration(id)
	f := s.entraFault(r, nil)
	switch {
	case problem != nil:
	case f != nil:
		problem = s.faultProblem(f, r, t)
	case segment == tenantCommon || segment == tenantConsumers:
		problem = aad(9001023, "")
	case id == "" || r.PostForm.Get("scope") == "":
		field := "client_id"
		if id != "" {
			field = "scope"
		}
		problem = aad(900144, "", "{field}", field)
	case a == nil || t != nil && t != home && !a.multiTenant():
		problem = aad(700016, "", "{app}", id, "{tenant}", r.PathValue("tenant"))
	default:
		_, problem = s.parseScope(r.PostForm.Get("scope"))
	}
	if problem != nil {
		s.aadError(w, s.named(problem, t, a))
		return
	}
	logged(r).AppID, logged(r).App = a.AppID, a.Name
	s.forget()
	d := &deviceCode{UserCode: rand.Text()[:9], Tenant: segment, AppID: a.AppID, Scopes: strings.Fields(r.PostForm.Get("scope")), IssuedAt: s.now()}
	code := "D" + rand.Text() + rand.Text() + rand.Text() + rand.Text()
	s.state.Devices[code] = d
	s.changed()
	uri := baseURL(r, HostDevice) + "/devicelogin"
	w.json(http.StatusOK, map[string]any{
		"user_code": d.UserCode, "device_code": code, "verification_uri": uri, "expires_in": int(deviceLife.Seconds()), "interval": 5,
		"message": "To sign in, use a web browser to open the page " + uri + " and enter the code " + d.UserCode + " to authenticate.",
	})
}

// redeemDevice is a poll of the waiting application.
func (s *Simulator) redeemDevice(w *answer, r *http.Request, c *client) *aadProblem {
	d := s.state.Devices[firstOf(r.PostForm.Get("device_code"), r.PostForm.Get("code"))]
	if d == nil || !strings.EqualFold(d.AppID, c.app.AppID) || !strings.EqualFold(d.Tenant, r.PathValue("tenant")) {
		// assumed: device-other-tenant
		return aad(70018, "")
	}
	d.PolledAt = s.now()
	name := ""
	if t := s.tenantOf(firstOf(d.UserTenant, d.Tenant)); t != nil {
		name = t.Settings.ExpiredName
	}
	switch {
	case c.public && !c.app.Public:
		return aad(7000218, "")
	case d.Used:
		return aad(90120, "")
	case d.Declined:
		// assumed: device-declined
		d.Used = true
		return aad(65004, "The end user denied the authorization request.").with("authorization_declined", 0)
	case d.Blocked:
		return aad(53003, "")
	case s.now().Sub(d.IssuedAt) > deviceLife:
		return aad(70020, "").with(name, 0)
	case d.UserID == "":
		return aad(70016, "")
	}
	want, problem := s.parseScope(strings.Join(d.Scopes, " "))
	if problem != nil {
		return problem
	}
	if len(want.more) > 0 {
		return aad(28000, "", "{scope}", strings.Join(d.Scopes, " "))
	}
	d.Used = true
	s.changed()
	return s.issueForUser(w, r, c, issue{tenant: d.UserTenant, user: d.UserID, want: want, device: true, at: s.now()})
}

// deviceByUserCode finds the device authorization of a code that a person
// typed, whatever its case and spaces.
func (s *Simulator) deviceByUserCode(typed string) *deviceCode {
	typed = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(typed))
	for _, d := range s.state.Devices {
		if d.UserCode == typed {
			return d
		}
	}
	return nil
}

// devicePage is /devicelogin: code, account, confirmation, consent.
func (s *Simulator) devicePage(w *answer, r *http.Request, _ *caller) {
	code := r.PostForm.Get("otc")
	d := s.deviceByUserCode(code)
	switch {
	case r.Method == http.MethodGet || code == "":
		s.codePage(w, r, "")
		return
	case d == nil || s.now().Sub(d.IssuedAt) > deviceLife || d.UserID != "" || d.Declined || d.Used || d.Blocked:
		s.codePage(w, r, "That code didn’t work. Check the code and try again.")
		return
	}
	home, a := s.registration(d.AppID)
	if a == nil {
		s.errorPage(w, aad(700016, "", "{app}", d.AppID, "{tenant}", d.Tenant))
		return
	}
	v := &visit{w: w, r: r, tenant: s.tenantOf(d.Tenant), home: home, app: a, prompt: "select_account", action: formAction(r), hidden: []string{"otc", d.UserCode}}
	if r.PostForm.Get("confirm") == "cancel" || r.PostForm.Get("consent") == "cancel" {
		d.Declined = true
		s.changed()
		w.show(http.StatusOK, newPage("You canceled the sign-in").text("%s on your device was not signed in. You may now close this window.", a.Name))
		return
	}
	t, u, ok := s.signIn(v)
	if !ok {
		return
	}
	if problem := s.usable(t, v); problem != nil {
		s.errorPage(w, problem)
		return
	}
	if r.PostForm.Get("confirm") != "continue" {
		p := newPage("Are you trying to sign in to " + a.Name + "?").who(u)
		p.text("Only continue if you downloaded the app from a store or website that you trust, and if you started this sign-in yourself.").
			form(v.action, "otc", d.UserCode, "account", u.ID).buttons("confirm", "continue", "Continue", "confirm", "cancel", "Cancel").end()
		w.show(http.StatusOK, p)
		return
	}
	v.hidden = append(v.hidden, "confirm", "continue")
	s.finishDevice(v, d, t, u, r.PostForm.Get("consent") == "accept" && r.PostForm.Get("account") == u.ID)
}

// finishDevice asks for consent if needed and approves the code.
func (s *Simulator) finishDevice(v *visit, d *deviceCode, t *tenant, u *user, accepted bool) {
	if t.Settings.BlockDeviceCode != "" {
		d.Blocked = t.Settings.BlockDeviceCode == "poll"
		s.changed()
		text, _, _, _ := s.description(v.w, aad(53003, ""))
		v.w.show(http.StatusForbidden, newPage("You cannot access this right now").who(u).
			text("Your sign-in was successful but does not meet the criteria to access this resource.").alert(text))
		return
	}
	want, problem := s.parseScope(strings.Join(d.Scopes, " "))
	if problem != nil {
		s.errorPage(v.w, problem)
		return
	}
	missing := s.missing(t, u, v.app, want)
	if len(missing) > 0 {
		if !mayConsent(u, missing) {
			s.adminNeededPage(v, t, u)
			return
		}
		if !accepted {
			s.consentPage(v, t, u, missing, nil, false)
			return
		}
		who := u
		if v.r.PostForm.Get("organization") == "true" {
			who = nil
		}
		s.consent(t, who, v.home, v.app, missing)
	}
	s.install(t, v.home, v.app)
	d.UserID, d.UserTenant = u.ID, t.ID
	s.changed()
	v.w.show(http.StatusOK, newPage(v.app.Name).text("You have signed in to the %s application on your device. You may now close this window.", v.app.Name))
}

// codePage asks for the code.
func (s *Simulator) codePage(w *answer, r *http.Request, problem string) {
	action := baseURL(r, HostDevice) + "/devicelogin"
	if u, err := url.Parse(action); err == nil && u.Host == r.Host {
		action = u.Path
	}
	p := newPage("Enter code to allow access").text("Enter the code displayed on your app or device. Do not enter codes from sources you don’t trust.").
		alert(problem).form(action).
		input("otc", "Code", "", `type="text" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="16" required autofocus`).
		buttons("next", "true", "Next").end()
	w.show(http.StatusOK, p)
}
