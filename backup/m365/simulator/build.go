package simulator

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// build makes the state from the world.
func (s *Simulator) build() error {
	for i := range s.options.World.Tenants {
		w := &s.options.World.Tenants[i]
		t, err := s.buildTenant(w)
		if err != nil {
			return fmt.Errorf("tenant %s: %w", w.Name, err)
		}
		s.state.Tenants = append(s.state.Tenants, t)
	}
	for i := range s.options.World.Tenants {
		if err := s.buildApps(s.state.Tenants[i], &s.options.World.Tenants[i]); err != nil {
			return fmt.Errorf("tenant %s: %w", s.state.Tenants[i].Name, err)
		}
	}
	for i := range s.options.World.Tenants {
		for _, g := range s.options.World.Tenants[i].Grants {
			if err := s.buildGrant(s.state.Tenants[i], g); err != nil {
				return fmt.Errorf("tenant %s: %w", s.state.Tenants[i].Name, err)
			}
		}
	}
	return nil
}

// buildGrant consents to an application in the name of a tenant.
func (s *Simulator) buildGrant(t *tenant, g WorldGrant) error {
	home, a := s.registration(g.App)
	if a == nil {
		return fmt.Errorf("a grant for application %s, which is not registered", g.App)
	}
	var list []wanted
	var roles []scopeOf
	for _, res := range s.resources {
		w := wanted{resource: res}
		for _, sc := range res.Scopes {
			if slices.Contains(g.Delegated, sc.Name) {
				w.scopes = append(w.scopes, sc.Name)
			}
		}
		if len(w.scopes) > 0 {
			list = append(list, w)
		}
		for _, role := range res.Roles {
			if res.AppID == graphAppID && slices.Contains(g.Application, role.Name) {
				roles = append(roles, role)
			}
		}
	}
	s.consentForAll(t, home, a, list, roles)
	return nil
}

// stableGUID is an identifier made from names, the same at each start.
func stableGUID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (s *Simulator) buildTenant(w *WorldTenant) (*tenant, error) {
	if w.Domain == "" || w.Name == "" {
		return nil, errors.New("name and domain are needed")
	}
	t := &tenant{
		ID: firstOf(w.ID, stableGUID("tenant", w.Domain)), Name: w.Name, Domain: w.Domain, Country: firstOf(w.Country, "US"), Created: worldStart,
		Domains: append([]string{w.Domain}, w.Domains...), SKUs: w.SKUs, Settings: w.TenantSettings,
	}
	for _, l := range w.SKUs {
		if _, ok := skus[l]; !ok {
			return nil, fmt.Errorf("licence %q is unknown", l)
		}
	}
	for _, res := range s.resources {
		// First-party principals are there when the tenant has the service.
		if res.AppID == graphAppID || res.AppID == exchangeAppID && t.hasExchange() {
			t.Principals = append(t.Principals, s.firstParty(t, res))
		}
	}
	if err := s.seedExchange(t, w.Exchange); err != nil {
		return nil, err
	}
	for i := range w.People {
		u, err := buildPerson(t, &w.People[i], i)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.People[i].UPN, err)
		}
		t.Users = append(t.Users, u)
		t.touch(u)
		if err := s.seedMailbox(t, u, w.People[i].Mailbox); err != nil {
			return nil, fmt.Errorf("mailbox of %s: %w", u.UPN, err)
		}
	}
	return t, nil
}

// firstParty is the service principal of one of Microsoft's APIs in a tenant.
func (s *Simulator) firstParty(t *tenant, res *resource) *principal {
	return &principal{ID: stableGUID("principal", t.ID, res.AppID), AppID: res.AppID, Name: res.Name, Owner: microsoftTenant, Enabled: true, Created: t.Created}
}

// microsoftTenant owns the first-party applications.
const microsoftTenant = "f8cdef31-a31e-4b4a-93e4-5f571e91255a"

func buildPerson(t *tenant, w *WorldPerson, n int) (*user, error) {
	if w.UPN == "" || w.Name == "" {
		return nil, errors.New("name and upn are needed")
	}
	u := &user{
		ID: firstOf(w.ID, stableGUID("user", t.ID, w.UPN)), UPN: w.UPN, Name: w.Name, Mail: w.Mail, Password: w.Password, Department: w.Department, Enabled: !w.Disabled, Guest: w.Guest,
		Kind: firstOf(w.Kind, "user"), Licences: w.Licences, PlanStatus: w.PlanStatus, NoPowerShell: w.NoPowerShell,
		Created: t.Created.Add(time.Duration(n) * 36 * time.Hour), Roles: []string{},
	}
	if !slices.Contains([]string{"user", "shared", "room", "equipment"}, u.Kind) {
		return nil, fmt.Errorf("kind %q is unknown", u.Kind)
	}
	if first, last, ok := strings.Cut(w.Name, " "); ok && u.Kind == "user" {
		u.GivenName, u.Surname = first, last
	}
	for _, name := range w.Roles {
		id, ok := roleTemplates[name]
		if !ok {
			return nil, fmt.Errorf("role %q is unknown", name)
		}
		u.Roles = append(u.Roles, id)
	}
	for _, l := range w.Licences {
		if _, ok := skus[l]; !ok || !slices.Contains(t.SKUs, l) {
			return nil, fmt.Errorf("licence %q is not the tenant's", l)
		}
	}
	if u.Mail == "" && (u.Kind != "user" || u.mailboxPlanStatus() != "") {
		u.Mail = u.UPN
	}
	return u, nil
}

func (s *Simulator) buildApps(t *tenant, w *WorldTenant) error {
	for i := range w.Apps {
		wa := &w.Apps[i]
		if wa.ID == "" || wa.Name == "" {
			return errors.New("an application needs id and name")
		}
		a, err := s.buildApp(t, wa)
		if err != nil {
			return fmt.Errorf("application %s: %w", wa.Name, err)
		}
		t.Apps = append(t.Apps, a)
		t.Principals = append(t.Principals, &principal{ID: stableGUID("principal", t.ID, a.AppID), AppID: a.AppID, Name: a.Name, Owner: t.ID, Enabled: true, Created: t.Created})
		if wa.Granted {
			var list []wanted
			var roles []scopeOf
			for _, res := range s.resources {
				list = append(list, wanted{resource: res, scopes: a.requiredScopes(res)})
				roles = append(roles, a.requiredRoles(res)...)
			}
			s.consentForAll(t, t, a, list, roles)
		}
	}
	return nil
}

func (s *Simulator) buildApp(t *tenant, w *WorldApplication) (*application, error) {
	a := &application{
		ID: stableGUID("application", t.ID, w.ID), AppID: w.ID, Name: w.Name, Audience: "AzureADMyOrg", Public: w.Public,
		RedirectURIs: slices.Clone(w.RedirectURIs), PublicURIs: w.PublicURIs, Created: t.Created,
	}
	if w.MultiTenant {
		a.Audience = "AzureADMultipleOrgs"
	}
	if w.Main {
		a.RedirectURIs = append(a.RedirectURIs, s.options.RedirectURIs...)
	}
	for _, res := range s.resources {
		req := requiredAccess{ResourceAppID: res.AppID}
		for _, sc := range res.Scopes {
			if slices.Contains(w.Delegated, sc.Name) {
				req.Access = append(req.Access, resourceAccess{sc.ID, "Scope"})
			}
		}
		for _, role := range res.Roles {
			if slices.Contains(w.Application, role.Name) {
				req.Access = append(req.Access, resourceAccess{role.ID, "Role"})
			}
		}
		if len(req.Access) > 0 {
			a.Required = append(a.Required, req)
		}
	}
	end := s.now().AddDate(2, 0, 0)
	if w.Secret != "" {
		a.Passwords = []*passwordCredential{{KeyID: stableGUID("secret", w.ID), Name: "world", Secret: w.Secret, Start: t.Created, End: end}}
	}
	if w.Certificate {
		key, der, err := newCertificate(w.Name, s.now(), end)
		if err != nil {
			return nil, err
		}
		a.Keys = []*keyCredential{{KeyID: stableGUID("key", w.ID), Name: "CN=" + w.Name, DER: der, Start: s.now(), End: end}}
		a.PEM = string(key)
	}
	return a, nil
}

// newCertificate makes a key with a self-signed certificate, as PEM of both
// and DER of the certificate.
func newCertificate(name string, from, to time.Time) (both, der []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from.Add(-time.Hour), NotAfter: to}
	if der, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key); err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	both = slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return both, der, nil
}

// resume completes a state that was read from a file. The main application
// gets the redirect addresses of this start, which may have another port.
func (s *Simulator) resume() error {
	if err := s.resumeKeys(); err != nil {
		return err
	}
	for _, w := range s.options.World.Tenants {
		for _, wa := range w.Apps {
			a := s.appByID(wa.ID)
			if a == nil || !wa.Main {
				continue
			}
			for _, uri := range s.options.RedirectURIs {
				if !slices.Contains(a.RedirectURIs, uri) {
					a.RedirectURIs = append(a.RedirectURIs, uri)
					s.changed()
				}
			}
		}
	}
	for _, t := range s.state.Tenants {
		for _, u := range t.Users {
			if err := s.resumeMailbox(t, u); err != nil {
				return fmt.Errorf("mailbox of %s: %w", u.UPN, err)
			}
		}
	}
	return nil
}
