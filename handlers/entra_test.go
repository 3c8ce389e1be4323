package handlers_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
	"holdfast/handlers"
)

// entra is a portal whose people sign in at Entra's address for all
// organizations, and the simulated Microsoft behind that address.
type entra struct {
	*portal
	microsoft *simulator.Simulator
}

// The ids of tenants.
const (
	contosoDirectory = "3c8a5d9e-2b74-4f61-8e0d-6a9b4c7f1e02"
	litwareDirectory = "7be1d4c6-50a9-4e37-92f8-c3a6b5d80f05"
)

// RoundTrip leads to the portal, or to Microsoft.
func (e *entra) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "127.0.0.1" {
		return e.microsoft.Transport().RoundTrip(r)
	}
	in := r.Clone(r.Context())
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), "192.0.2.1:1234"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	e.handler.ServeHTTP(rec, in)
	res := rec.Result()
	res.Request = r
	return res, nil
}

// visitor is a browser that reaches both.
func (e *entra) visitor() *visitor {
	v := newVisitor(e.t)
	v.client.Transport = e
	return v
}

// newEntra has Contoso's tenant trusted, and an impostor with the address of
// Contoso's administrator in another one.
func newEntra(t *testing.T) (*entra, string) {
	t.Helper()
	w := world()
	for i := range w.Tenants {
		if w.Tenants[i].ID == litwareDirectory {
			w.Tenants[i].People = append(w.Tenants[i].People, simulator.WorldPerson{Name: "Adele Vance", UPN: "impostor@litware.onmicrosoft.com", Mail: contosoAdmin, Password: "Litware-2026",
				Roles: []string{"Global Administrator"}})
		}
	}
	sim, err := simulator.New(simulator.Options{World: w, RedirectURIs: []string{"http://127.0.0.1/sign-in/oidc/callback"}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	e := &entra{microsoft: sim}
	e.portal = newPortal(t, func(s *handlers.Server) { s.Client = &http.Client{Transport: sim.Transport()} })
	secret, _, _ := sim.Client(simulator.MainClientID)
	form := url.Values{"name": {"Microsoft"}, "issuer": {backup.EntraIssuer}, "client_id": {simulator.MainClientID}, "client_secret": {secret}, "tenants": {contosoDirectory}}
	if res, doc := e.as(adeleMail).post("/settings/sign-in", form); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("adding Entra = %d %s", res.StatusCode, text(doc.Find("main")))
	}
	list, err := e.store.SignInProviders(t.Context(), e.owner.Partner.ID, e.orgs["Contoso Dental"].ID)
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	return e, string(list[0].ID)
}

// Entra's issuer for all organizations signs in who has connected, of a tenant
// that is trusted, and nobody else, whatever address they bring.
func TestEntraOfAllOrganizations(t *testing.T) {
	e, provider := newEntra(t)
	start := "http://127.0.0.1/sign-in/oidc/" + provider
	// Before it is connected, the right address is not enough.
	e.visitor().get(start).microsoft(contosoAdmin, contosoPass).says("Nobody here has connected")
	adele := e.visitor().get("http://127.0.0.1/sign-in").press("Sign in", "email", adeleMail, "password", portalPassword)
	adele.get("/account/providers/"+provider).microsoft(contosoAdmin, contosoPass).says("You can sign in with Microsoft from now on")

	v := e.visitor().get(start+"?next=/status").microsoft(contosoAdmin, contosoPass)
	if v.at.Path != "/status" || v.status != http.StatusOK {
		t.Fatalf("the sign-in leads to %s (%d): %s", v.at, v.status, v.text())
	}
	// The same address in another tenant, and another person of the right one.
	e.visitor().get(start).microsoft("impostor@litware.onmicrosoft.com", "Litware-2026").says("could not be trusted")
	for name, fault := range map[string]string{"an issuer that is not the tenant's": "wrong_issuer", "another sign-in's nonce": "wrong_nonce", "a forged signature": "wrong_signature", "a private account": "personal_account"} {
		if err := e.microsoft.AddFault(simulator.Fault{Name: fault, Times: 1}); err != nil {
			t.Fatal(err)
		}
		v := e.visitor().get(start).microsoft(contosoAdmin, contosoPass)
		if !strings.Contains(v.text(), "could not be trusted") {
			t.Errorf("%s: %s", name, v.text())
		}
	}
	got := e.entries(e.orgs["Contoso Dental"].ID, "sign_in.refused")
	if len(got) != 6 || !strings.Contains(got[5], "nobody here has connected this account") {
		t.Errorf("refusals in the log: %q", got)
	}
	// A tenant that is trusted afterwards signs in its own people by subject alone.
	if _, err := e.raw().ExecContext(t.Context(), `UPDATE sign_in_providers SET tenants = tenants || ' ' || $1`, litwareDirectory); err != nil {
		t.Fatal(err)
	}
	e.visitor().get(start).microsoft("impostor@litware.onmicrosoft.com", "Litware-2026").says("Nobody here has connected")
}
