package m365_test

import (
	"encoding/pem"
	"net/url"
	"slices"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

func TestSignInAsksForTheScopesOfItsPurpose(t *testing.T) {
	w := newWorld(t, nil)
	for purpose, want := range map[backup.SignInPurpose]string{
		backup.SignInConsent: "openid profile https://graph.microsoft.com/Application.ReadWrite.All https://graph.microsoft.com/AppRoleAssignment.ReadWrite.All https://graph.microsoft.com/Organization.Read.All",
		backup.SignInRole:    "openid profile offline_access https://outlook.office365.com/Exchange.Manage",
	} {
		u, err := url.Parse(w.client.SignInURL(m365.SignIn{Purpose: purpose, State: "s", Nonce: "n", Verifier: strings.Repeat("v", 43)}))
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if q.Get("scope") != want {
			t.Errorf("%s: scope %q, want %q", purpose, q.Get("scope"), want)
		}
		for name, value := range map[string]string{"response_type": "code", "response_mode": "query", "state": "s", "nonce": "n",
			"code_challenge_method": "S256", "redirect_uri": callback, "client_id": simulator.MainClientID} {
			if q.Get(name) != value {
				t.Errorf("%s: %s = %q, want %q", purpose, name, q.Get(name), value)
			}
		}
		if u.Path != "/organizations/oauth2/v2.0/authorize" || strings.Contains(u.String(), strings.Repeat("v", 43)) {
			t.Errorf("%s: address %s", purpose, u)
		}
	}
}

func TestSignInGivesTheVerifiedPersonAndTokens(t *testing.T) {
	w := newWorld(t, nil)
	g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
	if g.TenantID != contoso || g.UPN != "admin@contosodental.onmicrosoft.com" || g.Name != "Ada Admin" || g.ObjectID == "" {
		t.Errorf("signed in as %+v", g)
	}
	if len(g.AccessToken) == 0 || len(g.RefreshToken) != 0 || !slices.Contains(g.Scopes, "Application.ReadWrite.All") {
		t.Errorf("tokens: access %t, refresh %t, scopes %v; want an access token only", len(g.AccessToken) > 0, len(g.RefreshToken) > 0, g.Scopes)
	}
	role := w.signIn(contoso, "admin@contosodental.onmicrosoft.com", backup.SignInRole)
	if len(role.RefreshToken) == 0 || !slices.Contains(role.Scopes, "Exchange.Manage") {
		t.Errorf("role grant: refresh %t, scopes %v", len(role.RefreshToken) > 0, role.Scopes)
	}
	again, err := w.client.RefreshRole(t.Context(), contoso, role.RefreshToken)
	if err != nil || again.ObjectID != role.ObjectID || slices.Equal(again.AccessToken, role.AccessToken) {
		t.Errorf("refreshed: %v, %+v", err, again)
	}
}

func TestSignInWithTheMainApplicationsCertificate(t *testing.T) {
	w := newWorld(t, nil)
	_, data, ok := w.sim.Client(simulator.MainClientID)
	if !ok || len(data) == 0 {
		t.Fatal("the simulated main application has no certificate")
	}
	certificate, err := m365.ParseCertificate(data)
	if err != nil {
		t.Fatal(err)
	}
	w.client = w.newClient(m365.Config{Certificate: certificate})
	if g := w.signIn("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent); g.TenantID != contoso {
		t.Errorf("signed in to %s", g.TenantID)
	}
	if _, err := m365.ParseCertificate(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.DER})); err == nil {
		t.Error("a certificate without its key was accepted")
	}
}

func TestRedeemRefusesWhatDoesNotHold(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault string
		edit  func(*m365.SignIn)
		kind  backup.ProblemKind
	}{
		{"nonce of another sign-in", "", func(s *m365.SignIn) { s.Nonce = "other" }, backup.ProblemUnavailable},
		{"verifier of another browser", "", func(s *m365.SignIn) { s.Verifier = strings.Repeat("x", 43) }, backup.ProblemSignInExpired},
		{"private account", "personal_account", nil, backup.ProblemPersonalAccount},
		{"issuer of another tenant", "wrong_issuer", nil, backup.ProblemUnavailable},
		{"nonce", "wrong_nonce", nil, backup.ProblemUnavailable},
		{"signature", "wrong_signature", nil, backup.ProblemUnavailable},
		{"scope not given", "scope_missing_silently", nil, backup.ProblemConsentMissing},
		{"main application's secret", "AADSTS7000215", nil, backup.ProblemCredential},
		{"throttled", "AADSTS90055", nil, backup.ProblemThrottled},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			w := newWorld(t, nil)
			s := attempt("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
			code := w.visit(s).Get("code")
			if test.fault != "" {
				w.fault(simulator.Fault{Name: test.fault})
			}
			if test.edit != nil {
				test.edit(&s)
			}
			g, err := w.client.Redeem(t.Context(), code, s)
			p := wantKind(t, "Redeem", err, test.kind)
			if p.Text == "" || len(g.AccessToken) > 0 {
				t.Errorf("problem %+v, grant %+v", p, g)
			}
		})
	}
}

func TestRedeemACodeOnceOnly(t *testing.T) {
	w := newWorld(t, nil)
	s := attempt("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
	code := w.visit(s).Get("code")
	if _, err := w.client.Redeem(t.Context(), code, s); err != nil {
		t.Fatal(err)
	}
	_, err := w.client.Redeem(t.Context(), code, s)
	wantKind(t, "second Redeem", err, backup.ProblemSignInExpired)
}

func TestRefreshAfterRevocation(t *testing.T) {
	w := newWorld(t, nil)
	g := w.signIn(contoso, "admin@contosodental.onmicrosoft.com", backup.SignInRole)
	for number, kind := range map[string]backup.ProblemKind{
		"AADSTS50173": backup.ProblemSignInExpired, "AADSTS700082": backup.ProblemSignInExpired, "AADSTS53003": backup.ProblemSignInExpired,
		"AADSTS50057": backup.ProblemSignInExpired, "AADSTS65001": backup.ProblemConsentMissing,
	} {
		w.fault(simulator.Fault{Name: number, Times: 1})
		_, err := w.client.RefreshRole(t.Context(), contoso, g.RefreshToken)
		p := wantKind(t, number, err, kind)
		if p.Code != number || p.RequestID == "" || p.Temporary {
			t.Errorf("%s: %+v", number, p)
		}
	}
}

func TestSignInServiceDown(t *testing.T) {
	w := newWorld(t, nil)
	s := attempt("", "admin@contosodental.onmicrosoft.com", backup.SignInConsent)
	code := w.visit(s).Get("code")
	w.fault(simulator.Fault{Host: "login", Path: "token$", Status: 502, Body: "<html>bad gateway</html>"})
	_, err := w.client.Redeem(t.Context(), code, s)
	if p := wantKind(t, "Redeem", err, backup.ProblemUnavailable); !p.Temporary {
		t.Errorf("%+v is not temporary", p)
	}
	w.sim.ClearFaults()
	w.fault(simulator.Fault{Host: "login", Path: "token$", Status: 200, Body: "hello"})
	_, err = w.client.Redeem(t.Context(), code, s)
	wantKind(t, "garbage", err, backup.ProblemUnavailable)
	w.sim.ClearFaults()
	if _, err := w.client.Redeem(t.Context(), code, s); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
