package m365

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/microsoftgraph/msgraph-sdk-go/applications"
	"github.com/microsoftgraph/msgraph-sdk-go/models"
	"github.com/microsoftgraph/msgraph-sdk-go/serviceprincipals"
	"github.com/microsoftgraph/msgraph-sdk-go/serviceprincipalswithappid"

	"holdfast/backup"
)

// certificateLives are tried in order: a tenant's policy may ask for a short one.
var certificateLives = []time.Duration{365 * day, 180 * day, 90 * day, 30 * day}

const day = 24 * time.Hour

// lives are the lives of a certificate of a workload's application. That of the
// restore application ends by itself soon after the restore permission has to.
func lives(w backup.Workload) []time.Duration {
	if w == backup.WorkloadRestore {
		return []time.Duration{backup.RestoreGrantLife + time.Hour}
	}
	return certificateLives
}

// lostAnswerWait is how long an application whose creation got no answer is
// looked for before it is taken as not created. Lists lag behind writes.
const lostAnswerWait = 30 * time.Second

// EnsureApplication makes the sub-application app in the tenant tenantID with an
// administrator's token (SignInConsent), or goes on where an earlier call was
// interrupted. app is changed as it goes on, and save is called after each call
// to Microsoft, and before the first with the certificate. An error of save ends
// it and is returned as it is. A refusal is noted in app.Problem and saved too.
//
// An application whose creation got no answer is found again by its marker, so
// that there is never a second one. One in the state backup.ApplicationBroken is
// made whole again, whatever was done to it in the tenant.
func (c *Client) EnsureApplication(ctx context.Context, tenantID string, token backup.Secret, app *backup.SubApplication, save func(backup.SubApplication) error) error {
	d, err := c.directory(token, string(app.ConnectionID))
	if err != nil {
		return err
	}
	m := &applicationMaker{client: c, directory: d, tenant: tenantID, app: app, save: save}
	err = m.make(ctx)
	p, ok := errors.AsType[*backup.Problem](err)
	if !ok {
		return err // nil, the context's or save's own
	}
	app.Problem = *p
	if err := save(*app); err != nil {
		return errors.Join(p, err)
	}
	return p
}

// applicationMaker makes one application.
type applicationMaker struct {
	*directory
	client *Client
	tenant string
	app    *backup.SubApplication
	save   func(backup.SubApplication) error
}

// make takes the steps from app's state on.
func (m *applicationMaker) make(ctx context.Context) error {
	for {
		var err error
		switch m.app.State {
		case "", backup.ApplicationPlanned, backup.ApplicationRemoved:
			err = m.create(ctx)
		case backup.ApplicationCreated:
			err = m.principal(ctx)
		case backup.ApplicationPrincipal:
			err = m.grant(ctx)
		case backup.ApplicationGranted:
			err = m.prove(ctx)
		case backup.ApplicationBroken:
			err = m.repair(ctx)
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// reached saves a new state.
func (m *applicationMaker) reached(s backup.ApplicationState) error {
	m.app.State, m.app.Problem, m.app.UpdatedAt = s, backup.Problem{}, time.Now()
	if err := m.save(*m.app); err != nil {
		return fmt.Errorf("save sub-application %s: %w", m.app.ID, err)
	}
	return nil
}

// create makes the application registration, or finds the one that a call without
// an answer made.
func (m *applicationMaker) create(ctx context.Context) error {
	if len(m.app.PrivateKey) > 0 {
		wait := lostAnswerWait
		if s := m.app.Problem.Status; s >= 400 && s < 500 {
			wait = 0 // Microsoft said no the last time
		}
		if found, err := m.find(ctx, wait); found || err != nil {
			return err
		}
	}
	life := 0
	if len(m.app.PrivateKey) == 0 {
		if err := m.newKey(lives(m.app.Workload)[life], backup.ApplicationPlanned); err != nil {
			return err
		}
	}
	for {
		var made models.Applicationable
		r, err := m.do(ctx, false, func(ctx context.Context) (err error) {
			made, err = applications.NewApplicationsRequestBuilderInternal(m.path, m.adapter).Post(ctx, m.registration(), nil)
			return err
		})
		switch {
		case err == nil:
			return m.created(made)
		case r != nil && r.has("CredentialInvalidLifetimeAsPerAppPolicy") && life+1 < len(lives(m.app.Workload)):
			life++
			if err := m.newKey(lives(m.app.Workload)[life], backup.ApplicationPlanned); err != nil {
				return err
			}
			continue
		case r == nil && ctx.Err() != nil:
			return err
		case r == nil || r.status >= 500: // it may have been made all the same
			if found, findErr := m.find(ctx, lostAnswerWait); found || findErr != nil {
				return findErr
			}
		}
		if r != nil {
			return directoryProblem(*r, err)
		}
		return err
	}
}

// newKey makes the certificate and saves it with the state: it must be known
// before Microsoft knows it.
func (m *applicationMaker) newKey(life time.Duration, state backup.ApplicationState) error {
	if m.app.DisplayName == "" {
		m.app.DisplayName = displayNames[m.app.Workload]
	}
	der, key, notAfter, err := newCertificate(m.app.DisplayName, time.Now(), life)
	if err != nil {
		return backup.AsProblem(err)
	}
	m.app.Certificate, m.app.PrivateKey, m.app.NotAfter, m.app.KeyID = der, key, notAfter, ""
	return m.reached(state)
}

// displayNames are what a tenant's administrators see.
var displayNames = map[backup.Workload]string{
	backup.WorkloadMail:     "Holdfast backup: Mail",
	backup.WorkloadExchange: "Holdfast backup: Exchange",
	backup.WorkloadRestore:  "Holdfast restore: Mail",
}

// registration is the body of the application: requiredResourceAccess only
// documents, the grants come later; the lock keeps others from adding credentials
// to its service principal.
func (m *applicationMaker) registration() models.Applicationable {
	a := models.NewApplication()
	a.SetDisplayName(&m.app.DisplayName)
	a.SetSignInAudience(new("AzureADMyOrg"))
	a.SetTags([]string{"holdfast", m.app.Marker()})
	a.SetNotes(new("Made by Holdfast, which backs up this tenant. Do not delete it while Holdfast is in use."))
	a.SetKeyCredentials([]models.KeyCredentialable{keyCredential(m.app.Certificate)})
	lock := models.NewServicePrincipalLockConfiguration()
	lock.SetIsEnabled(new(true))
	lock.SetAllProperties(new(true))
	a.SetServicePrincipalLockConfiguration(lock)
	a.SetRequiredResourceAccess(requiredAccess(backup.WorkloadPermissions(m.app.Workload)))
	return a
}

func requiredAccess(permissions []backup.Permission) []models.RequiredResourceAccessable {
	var list []models.RequiredResourceAccessable
	byResource := map[string]models.RequiredResourceAccessable{}
	for _, p := range permissions {
		id, err := uuid.Parse(p.ID)
		if err != nil {
			continue // the grant looks the role up by name
		}
		r := byResource[p.ResourceID]
		if r == nil {
			r = models.NewRequiredResourceAccess()
			r.SetResourceAppId(new(p.ResourceID))
			byResource[p.ResourceID], list = r, append(list, r)
		}
		access := models.NewResourceAccess()
		access.SetId(&id)
		access.SetTypeEscaped(new("Role"))
		r.SetResourceAccess(append(r.GetResourceAccess(), access))
	}
	return list
}

// find looks for the application by its marker, again and again for wait.
func (m *applicationMaker) find(ctx context.Context, wait time.Duration) (bool, error) {
	for start, try := time.Now(), 0; ; try++ {
		found, err := m.byMarker(ctx)
		if err != nil {
			return false, err
		}
		if found != nil {
			return true, m.created(found)
		}
		pause := min(time.Second<<min(try, 3), 5*time.Second)
		if time.Since(start)+pause > wait {
			return false, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return false, err
		}
	}
}

// byMarker returns the oldest application with the marker, or nil.
func (m *applicationMaker) byMarker(ctx context.Context) (models.Applicationable, error) {
	var oldest models.Applicationable
	filter := "tags/any(t:t eq '" + m.app.Marker() + "')"
	r, err := m.do(ctx, true, func(ctx context.Context) error {
		page, err := applications.NewApplicationsRequestBuilderInternal(m.path, m.adapter).Get(ctx, &applications.ApplicationsRequestBuilderGetRequestConfiguration{
			QueryParameters: &applications.ApplicationsRequestBuilderGetQueryParameters{
				Filter: &filter, Select: []string{"id", "appId", "tags", "createdDateTime", "keyCredentials"}},
		})
		if err != nil || page == nil {
			return err
		}
		for _, a := range page.GetValue() {
			at := a.GetCreatedDateTime()
			if slices.Contains(a.GetTags(), m.app.Marker()) && (oldest == nil || at != nil && oldest.GetCreatedDateTime() != nil && at.Before(*oldest.GetCreatedDateTime())) {
				oldest = a
			}
		}
		return nil
	})
	if r != nil {
		return nil, directoryProblem(*r, err)
	}
	return oldest, err
}

func (m *applicationMaker) created(a models.Applicationable) error {
	if a == nil || text(a.GetId()) == "" || text(a.GetAppId()) == "" {
		return garbage("application", errors.New("no id in the answer"))
	}
	m.app.ObjectID, m.app.AppID = *a.GetId(), *a.GetAppId()
	if id, ok := m.registered(a); ok {
		m.app.KeyID = id
	}
	return m.reached(backup.ApplicationCreated)
}

// principal makes the service principal, which is what gets permissions.
func (m *applicationMaker) principal(ctx context.Context) error {
	body := models.NewServicePrincipal()
	body.SetAppId(&m.app.AppID)
	body.SetTags([]string{"HideApp"}) // not a tile on people's start pages
	var made models.ServicePrincipalable
	r, err := m.retry(ctx, replicationLimit, principalLag, func(ctx context.Context) (err error) {
		made, err = serviceprincipals.NewServicePrincipalsRequestBuilderInternal(m.path, m.adapter).Post(ctx, body, nil)
		return err
	})
	switch {
	case r != nil && (r.status == http.StatusConflict || r.has("Request_MultipleObjectsWithSameKeyValue")):
		// An earlier call whose answer was lost made it.
		r, err = m.retry(ctx, replicationLimit, notYet, func(ctx context.Context) (err error) {
			made, err = m.principalOf(ctx, m.app.AppID, "id", "appId")
			return err
		})
	case r != nil && principalLag(*r):
		gone := applicationGone
		gone.text = "Microsoft does not know the new application yet, or it was deleted meanwhile. " + gone.text
		gone.temporary = true
		return r.problem(gone, err)
	}
	if r != nil {
		return directoryProblem(*r, err)
	}
	if err != nil {
		return err
	}
	if made == nil || text(made.GetId()) == "" {
		return garbage("service principal", errors.New("no id in the answer"))
	}
	m.app.PrincipalID = *made.GetId()
	return m.reached(backup.ApplicationPrincipal)
}

// principalLag: what is said about an application that was made a moment ago.
func principalLag(r refusal) bool {
	return notYet(r) || r.says("does not reference a valid application object", "the backing application of the service principal being created must")
}

func (m *applicationMaker) principalOf(ctx context.Context, appID string, fields ...string) (models.ServicePrincipalable, error) {
	return serviceprincipalswithappid.NewServicePrincipalsWithAppIdRequestBuilderInternal(m.path, m.adapter, &appID).Get(ctx,
		&serviceprincipalswithappid.ServicePrincipalsWithAppIdRequestBuilderGetRequestConfiguration{
			QueryParameters: &serviceprincipalswithappid.ServicePrincipalsWithAppIdRequestBuilderGetQueryParameters{Select: fields},
		})
}

// RemoveApplication deletes app in the tenant with an administrator's token
// (SignInConsent). It is no error if it is gone already. Microsoft keeps deleted
// applications for 30 days.
func (c *Client) RemoveApplication(ctx context.Context, token backup.Secret, app backup.SubApplication) error {
	d, err := c.directory(token, string(app.ConnectionID))
	if err != nil {
		return err
	}
	m := &applicationMaker{client: c, directory: d, app: &app, save: func(backup.SubApplication) error { return nil }}
	if app.ObjectID == "" {
		found, err := m.byMarker(ctx)
		if err != nil || found == nil {
			return err
		}
		app.ObjectID = text(found.GetId())
	}
	limit := time.Duration(0)
	if time.Since(app.UpdatedAt) < freshFor {
		limit = lostAnswerWait // a server may not know it yet
	}
	r, err := d.retry(ctx, limit, notYet, func(ctx context.Context) error {
		return applications.NewApplicationsRequestBuilderInternal(d.path, d.adapter).ByApplicationId(app.ObjectID).Delete(ctx, nil)
	})
	if r != nil && notYet(*r) {
		return nil
	}
	if r != nil {
		return directoryProblem(*r, err)
	}
	return err
}
