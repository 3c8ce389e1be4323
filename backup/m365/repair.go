package m365

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // thumbprints as Microsoft keeps them
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/microsoftgraph/msgraph-sdk-go/applications"
	"github.com/microsoftgraph/msgraph-sdk-go/models"
	"github.com/microsoftgraph/msgraph-sdk-go/serviceprincipals"

	"holdfast/backup"
)

// goneWait is how long an application that the directory does not know is
// looked for before it counts as deleted: servers that lag behind deny, at
// times, what others know.
const goneWait = 20 * time.Second

// repair brings an application that has something wrong to the state from which
// make goes on: what is gone is made anew, what is off is switched on, and a
// certificate that does not count any more is replaced. Permissions that were
// granted beyond Holdfast's are left alone: the permissions page shows them.
func (m *applicationMaker) repair(ctx context.Context) error {
	if m.app.ObjectID == "" {
		return m.reached(backup.ApplicationPlanned)
	}
	var found models.Applicationable
	r, err := m.retry(ctx, goneWait, notYet, func(ctx context.Context) (err error) {
		found, err = applications.NewApplicationsRequestBuilderInternal(m.path, m.adapter).ByApplicationId(m.app.ObjectID).Get(ctx,
			&applications.ApplicationItemRequestBuilderGetRequestConfiguration{QueryParameters: &applications.ApplicationItemRequestBuilderGetQueryParameters{
				Select: []string{"id", "appId", "keyCredentials"}}})
		return err
	})
	switch {
	case r != nil && notYet(*r):
		return m.startAnew()
	case r != nil:
		return directoryProblem(*r, err)
	case err != nil:
		return err
	}
	if err := m.repairKey(ctx, found); err != nil {
		return err
	}
	return m.repairPrincipal(ctx)
}

// startAnew forgets an application that was deleted. The next one has a marker
// of its own, so that the deleted one, should a server still list it, is not
// mistaken for it.
func (m *applicationMaker) startAnew() error {
	m.app.Generation++
	m.app.ObjectID, m.app.AppID, m.app.PrincipalID = "", "", ""
	m.app.Certificate, m.app.PrivateKey, m.app.NotAfter, m.app.KeyID = nil, nil, time.Time{}, ""
	m.app.Next, m.app.OldKeyID = backup.Credential{}, ""
	m.app.RollAt, m.app.RollError = time.Time{}, backup.Problem{}
	return m.reached(backup.ApplicationPlanned)
}

// repairKey makes sure that the certificate is registered and good for longer
// than people are warned of its end.
// A new one replaces all that are there: the application is Holdfast's, and
// somebody else's certificate on it would be a way in.
func (m *applicationMaker) repairKey(ctx context.Context, found models.Applicationable) error {
	if _, err := appCertificate(*m.app); err == nil && time.Until(m.app.NotAfter) > backup.ExpiryWarning {
		if id, ok := m.registered(found); ok {
			m.app.KeyID = id
			return nil
		}
	}
	for life := 0; ; life++ {
		if err := m.newKey(lives(m.app.Workload)[life], backup.ApplicationBroken); err != nil {
			return err
		}
		body := models.NewApplication()
		body.SetKeyCredentials([]models.KeyCredentialable{keyCredential(m.app.Certificate)})
		r, err := m.retry(ctx, goneWait, notYet, func(ctx context.Context) error {
			_, err := applications.NewApplicationsRequestBuilderInternal(m.path, m.adapter).ByApplicationId(m.app.ObjectID).Patch(ctx, body, nil)
			return err
		})
		if r != nil && r.has("CredentialInvalidLifetimeAsPerAppPolicy") && life+1 < len(lives(m.app.Workload)) {
			continue
		}
		if r != nil {
			return directoryProblem(*r, err)
		}
		if err != nil {
			return err
		}
		m.app.KeyID, m.app.Next, m.app.OldKeyID = "", backup.Credential{}, ""
		m.app.RollAt, m.app.RollError = time.Time{}, backup.Problem{}
		return nil
	}
}

// registered says whether the application has the certificate of the row, and
// Microsoft's id of it. The thumbprint comes as bytes or as its hexadecimal text.
func (m *applicationMaker) registered(found models.Applicationable) (id string, ok bool) {
	sum := sha1.Sum(m.app.Certificate) //nolint:gosec // see the import
	for _, k := range found.GetKeyCredentials() {
		print := k.GetCustomKeyIdentifier()
		if bytes.Equal(print, sum[:]) || strings.EqualFold(string(print), hex.EncodeToString(sum[:])) || bytes.Equal(k.GetKey(), m.app.Certificate) {
			if k.GetKeyId() != nil {
				id = k.GetKeyId().String()
			}
			return id, true
		}
	}
	return "", false
}

// repairPrincipal makes sure that there is a service principal and that it is
// enabled. Exchange Online knows the Exchange application by its principal and
// its client id together; a new principal gets a new application, so that what
// is left of the old one there can't be in the way.
func (m *applicationMaker) repairPrincipal(ctx context.Context) error {
	var sp models.ServicePrincipalable
	r, err := m.retry(ctx, goneWait, notYet, func(ctx context.Context) (err error) {
		sp, err = m.principalOf(ctx, m.app.AppID, "id", "appId", "accountEnabled")
		return err
	})
	switch {
	case r != nil && notYet(*r) && m.app.Workload == backup.WorkloadExchange:
		if err := m.discard(ctx); err != nil {
			return err
		}
		return m.startAnew()
	case r != nil && notYet(*r):
		m.app.PrincipalID = ""
		return m.reached(backup.ApplicationCreated)
	case r != nil:
		return directoryProblem(*r, err)
	case err != nil:
		return err
	case sp == nil || text(sp.GetId()) == "":
		return garbage("service principal", fmt.Errorf("no id in the answer"))
	}
	m.app.PrincipalID = text(sp.GetId())
	if on := sp.GetAccountEnabled(); on != nil && !*on {
		body := models.NewServicePrincipal()
		body.SetAccountEnabled(new(true))
		r, err := m.do(ctx, true, func(ctx context.Context) error {
			_, err := serviceprincipals.NewServicePrincipalsRequestBuilderInternal(m.path, m.adapter).ByServicePrincipalId(m.app.PrincipalID).Patch(ctx, body, nil)
			return err
		})
		if r != nil {
			return directoryProblem(*r, err)
		}
		if err != nil {
			return err
		}
	}
	return m.reached(backup.ApplicationPrincipal)
}

// discard deletes what is left of the application before it is made anew.
func (m *applicationMaker) discard(ctx context.Context) error {
	r, err := m.retry(ctx, 0, notYet, func(ctx context.Context) error {
		return applications.NewApplicationsRequestBuilderInternal(m.path, m.adapter).ByApplicationId(m.app.ObjectID).Delete(ctx, nil)
	})
	if r != nil && notYet(*r) {
		return nil
	}
	if r != nil {
		return directoryProblem(*r, err)
	}
	return err
}

// keyCredential is a certificate as Graph takes it.
func keyCredential(der []byte) models.KeyCredentialable {
	key := models.NewKeyCredential()
	key.SetTypeEscaped(new("AsymmetricX509Cert"))
	key.SetUsage(new("Verify"))
	key.SetKey(der)
	key.SetDisplayName(new("holdfast " + time.Now().UTC().Format("2006-01")))
	return key
}
