package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// controlRoutes registers the paths under /_simulator/ by which tests and
// operators look inside and change the world. They exist on every host.
func (s *Simulator) controlRoutes() {
	s.control("GET", "/requests", func(w *answer, _ *http.Request, _ *caller) { w.json(http.StatusOK, append([]Request{}, s.requests...)) })
	s.control("DELETE", "/requests", func(w *answer, _ *http.Request, _ *caller) { s.requests = nil; w.WriteHeader(http.StatusNoContent) })
	s.control("GET", "/faults", func(w *answer, _ *http.Request, _ *caller) {
		w.json(http.StatusOK, map[string]any{"planned": append([]*Fault{}, s.faults...), "names": s.FaultNames()})
	})
	s.control("POST", "/faults", s.controlFaults)
	s.control("DELETE", "/faults", func(w *answer, _ *http.Request, _ *caller) { s.faults = nil; w.WriteHeader(http.StatusNoContent) })
	s.control("GET", "/clock", func(w *answer, _ *http.Request, _ *caller) { w.json(http.StatusOK, map[string]any{"now": s.now()}) })
	s.control("POST", "/clock", s.controlClock)
	s.control("POST", "/keys", func(w *answer, _ *http.Request, _ *caller) { s.rollover(); w.WriteHeader(http.StatusNoContent) })
	s.control("POST", "/reset", s.controlReset)
	s.control("GET", "/world", func(w *answer, r *http.Request, _ *caller) { w.json(http.StatusOK, s.describe(rootURL(r))) })
	s.control("GET", "/powershell", s.controlPowerShell)
	s.control("POST", "/powershell", s.controlPowerShell)
	s.control("POST", "/approve/{code}", s.controlApprove)
	s.control("POST", "/decline/{code}", s.controlDecline)
	s.control("PATCH", "/tenants/{tenant}", s.inTenant(s.controlTenant))
	s.control("GET", "/tenants/{tenant}/users", s.inTenant(s.controlUsers))
	s.control("PATCH", "/tenants/{tenant}/users/{user}", s.inTenant(s.controlUser))
	s.control("GET", "/tenants/{tenant}/applications", s.inTenant(s.controlApplications))
	s.control("DELETE", "/tenants/{tenant}/applications/{app}", s.inTenant(s.controlDeleteApplication))
	s.control("DELETE", "/tenants/{tenant}/applications/{app}/credentials", s.inTenant(s.controlDeleteCredentials))
	s.control("PATCH", "/tenants/{tenant}/servicePrincipals/{app}", s.inTenant(s.controlPrincipal))
	s.control("DELETE", "/tenants/{tenant}/servicePrincipals/{app}", s.inTenant(s.controlDeletePrincipal))
	s.control("DELETE", "/tenants/{tenant}/servicePrincipals/{app}/roles/{role}", s.inTenant(s.controlWithdraw))
	s.control("POST", "/tenants/{tenant}/servicePrincipals/{app}/roles/{role}", s.inTenant(s.controlGrant))
	s.control("POST", "/tenants/{tenant}/revoke-consent", s.inTenant(s.controlRevokeConsent))
}

// controlError answers a wrong control request in one sentence.
func controlError(w *answer, status int, format string, args ...any) {
	w.json(status, map[string]string{"error": fmt.Sprintf(format, args...)})
}

// readControl reads the JSON body of a control request. Another site's page
// can't send one.
func readControl(w *answer, r *http.Request, v any) bool {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		controlError(w, http.StatusForbidden, "control paths are not for other sites' pages")
		return false
	}
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		controlError(w, http.StatusBadRequest, "body: %v", err)
		return false
	}
	return true
}

// inTenant finds the tenant of a control path.
func (s *Simulator) inTenant(then func(*answer, *http.Request, *tenant)) handler {
	return func(w *answer, r *http.Request, _ *caller) {
		if err := http.NewCrossOriginProtection().Check(r); err != nil {
			controlError(w, http.StatusForbidden, "control paths are not for other sites' pages")
			return
		}
		t := s.tenantOf(r.PathValue("tenant"))
		if t == nil {
			controlError(w, http.StatusNotFound, "no tenant %q", r.PathValue("tenant"))
			return
		}
		then(w, r, t)
	}
}

func (s *Simulator) controlFaults(w *answer, r *http.Request, _ *caller) {
	var f Fault
	if !readControl(w, r, &f) {
		return
	}
	if err := s.addFault(f); err != nil {
		controlError(w, http.StatusBadRequest, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Simulator) controlClock(w *answer, r *http.Request, _ *caller) {
	var body struct {
		Advance Duration `json:"advance"`
	}
	if !readControl(w, r, &body) {
		return
	}
	if body.Advance < 0 {
		controlError(w, http.StatusBadRequest, "the clock only moves forward")
		return
	}
	s.state.Offset += time.Duration(body.Advance)
	s.changed()
	w.json(http.StatusOK, map[string]any{"now": s.now()})
}

// controlReset starts the world anew.
func (s *Simulator) controlReset(w *answer, r *http.Request, _ *caller) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		controlError(w, http.StatusForbidden, "control paths are not for other sites' pages")
		return
	}
	old := s.state
	s.state = &state{}
	s.state.fill()
	if err := s.build(); err != nil {
		s.state = old
		controlError(w, http.StatusInternalServerError, "%v", err)
		return
	}
	s.requests, s.faults = nil, nil
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

// controlApprove signs a person in for a device code: the one in the body
// {"upn":…}, or the first Global Administrator of the code's tenant.
func (s *Simulator) controlApprove(w *answer, r *http.Request, _ *caller) {
	var body struct {
		UPN string `json:"upn"`
	}
	if r.ContentLength != 0 && !readControl(w, r, &body) {
		return
	}
	if err := s.approve(r.PathValue("code"), firstOf(body.UPN, r.URL.Query().Get("upn"))); err != nil {
		controlError(w, http.StatusConflict, "%v", err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// Approve enters a device code as a person would and consents to what the
// application asks for. upn "" is the first Global Administrator of the tenant
// that the code is for.
func (s *Simulator) Approve(userCode, upn string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.saveLogged()
	return s.approve(userCode, upn)
}

func (s *Simulator) approve(userCode, upn string) error {
	d := s.deviceByUserCode(userCode)
	if d == nil {
		return fmt.Errorf("no device code %q", userCode)
	}
	if d.UserID != "" || d.Declined || s.now().Sub(d.IssuedAt) > deviceLife {
		return fmt.Errorf("device code %s is used or too old", userCode)
	}
	t, u := s.person(upn)
	if home := s.tenantOf(d.Tenant); upn == "" && home != nil {
		i := slices.IndexFunc(home.Users, func(u *user) bool { return u.hasRole(globalAdministrator) })
		if i >= 0 {
			t, u = home, home.Users[i]
		}
	}
	if u == nil || !u.Enabled || s.tenantOf(d.Tenant) != nil && s.tenantOf(d.Tenant) != t {
		return fmt.Errorf("%q can't sign in for device code %s", upn, userCode)
	}
	if t.Settings.BlockDeviceCode != "" {
		d.Blocked = t.Settings.BlockDeviceCode == "poll"
		s.changed()
		return errors.New("conditional access of the tenant blocks device codes")
	}
	home, a := s.registration(d.AppID)
	want, problem := s.parseScope(strings.Join(d.Scopes, " "))
	if a == nil || problem != nil {
		return fmt.Errorf("device code %s is of an application that is gone", userCode)
	}
	missing := s.missing(t, u, a, want)
	if !mayConsent(u, missing) {
		return fmt.Errorf("%s may not consent", u.UPN)
	}
	s.consent(t, u, home, a, missing)
	d.UserID, d.UserTenant = u.ID, t.ID
	s.changed()
	return nil
}

func (s *Simulator) saveLogged() {
	if err := s.save(); err != nil {
		s.log.Error("state was not saved", "error", err)
	}
}

func (s *Simulator) controlDecline(w *answer, r *http.Request, _ *caller) {
	d := s.deviceByUserCode(r.PathValue("code"))
	if d == nil {
		controlError(w, http.StatusNotFound, "no device code %q", r.PathValue("code"))
		return
	}
	d.Declined = true
	s.changed()
	w.WriteHeader(http.StatusNoContent)
}

// controlTenant changes switches of a tenant; what the body leaves out stays.
func (s *Simulator) controlTenant(w *answer, r *http.Request, t *tenant) {
	body := struct {
		TenantSettings
		Domain string `json:"domain,omitempty"` // the new initial domain; the old one stays verified
	}{TenantSettings: t.Settings}
	if !readControl(w, r, &body) {
		return
	}
	t.Settings = body.TenantSettings
	if body.Domain != "" && !slices.Contains(t.Domains, body.Domain) {
		t.Domain, t.Domains = body.Domain, append([]string{body.Domain}, t.Domains...)
	}
	s.changed()
	w.json(http.StatusOK, t.Settings)
}
