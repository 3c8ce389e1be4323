package m365

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/microsoftgraph/msgraph-sdk-go/models"
	"github.com/microsoftgraph/msgraph-sdk-go/serviceprincipals"

	"holdfast/backup"
)

// grant gives the workload's permissions, and no others. A grant that is there
// already is as good as a new one.
func (m *applicationMaker) grant(ctx context.Context) error {
	resources := map[string]models.ServicePrincipalable{}
	for _, p := range backup.WorkloadPermissions(m.app.Workload) {
		resource := resources[p.ResourceID]
		if resource == nil {
			var err error
			if resource, err = m.resource(ctx, p.ResourceID); err != nil {
				return err
			}
			resources[p.ResourceID] = resource
		}
		if err := m.grantOne(ctx, p, resource); err != nil {
			return err
		}
	}
	return m.reached(backup.ApplicationGranted)
}

// resource returns the principal of one of Microsoft's own APIs in the tenant; it
// is made if the tenant has the service but not the principal.
func (m *applicationMaker) resource(ctx context.Context, appID string) (models.ServicePrincipalable, error) {
	var sp models.ServicePrincipalable
	get := func(ctx context.Context) (err error) {
		sp, err = m.principalOf(ctx, appID, "id", "appId", "displayName", "appRoles")
		return err
	}
	r, err := m.do(ctx, true, get)
	if r != nil && notYet(*r) {
		body := models.NewServicePrincipal()
		body.SetAppId(&appID)
		r, err = m.do(ctx, true, func(ctx context.Context) error {
			_, err := serviceprincipals.NewServicePrincipalsRequestBuilderInternal(m.path, m.adapter).Post(ctx, body, nil)
			return err
		})
		if r != nil && r.status != http.StatusConflict {
			if appID == backup.ResourceExchange && r.status < 500 && !r.has("Authorization_RequestDenied") {
				return nil, r.problem(noExchange, err)
			}
			return nil, directoryProblem(*r, err)
		}
		r, err = m.retry(ctx, replicationLimit, notYet, get)
	}
	if r != nil {
		return nil, directoryProblem(*r, err)
	}
	if err == nil && (sp == nil || text(sp.GetId()) == "") {
		err = garbage("service principal", errors.New("no id in the answer"))
	}
	return sp, err
}

// grantOne grants one permission. The role is looked up in the tenant by its name
// and kind, since Microsoft's lists have more than one identifier per name.
func (m *applicationMaker) grantOne(ctx context.Context, p backup.Permission, resource models.ServicePrincipalable) error {
	var role *uuid.UUID
	for _, r := range resource.GetAppRoles() {
		if text(r.GetValue()) == p.Name && slices.Contains(r.GetAllowedMemberTypes(), "Application") {
			role = r.GetId()
		}
	}
	if role == nil {
		return &backup.Problem{Kind: backup.ProblemPermission, At: time.Now(),
			Text: "The tenant does not offer the permission " + p.Name + ". Check that the service it belongs to is part of the tenant's plans."}
	}
	if role.String() != p.ID {
		m.client.log.WarnContext(ctx, "permission has another identifier in this tenant", "permission", p.Name, "expected", p.ID, "found", role)
	}
	principal, err1 := uuid.Parse(m.app.PrincipalID)
	api, err2 := uuid.Parse(text(resource.GetId()))
	if err := errors.Join(err1, err2); err != nil {
		return garbage("service principal", err)
	}
	body := models.NewAppRoleAssignment()
	body.SetPrincipalId(&principal)
	body.SetResourceId(&api)
	body.SetAppRoleId(role)
	unknown := 0
	r, err := m.retry(ctx, replicationLimit, func(r refusal) bool {
		if r.says("Permission being assigned was not found") {
			unknown++
			return unknown < 4
		}
		return grantLag(r)
	}, func(ctx context.Context) error {
		_, err := serviceprincipals.NewServicePrincipalsRequestBuilderInternal(m.path, m.adapter).
			ByServicePrincipalId(text(resource.GetId())).AppRoleAssignedTo().Post(ctx, body, nil)
		return err
	})
	if r != nil && r.says("already exists on the object", "already exist") {
		return nil
	}
	if r != nil {
		return directoryProblem(*r, err)
	}
	return err
}

// grantLag: what is said about a principal that was made a moment ago.
func grantLag(r refusal) bool {
	return notYet(r) || r.says("Not a valid reference update", "does not exist or one of its queried reference-property objects are not present")
}

// prove waits until Entra issues tokens with every permission.
func (m *applicationMaker) prove(ctx context.Context) error {
	source, err := m.client.tokens(m.tenant, *m.app)
	if err != nil {
		return err
	}
	if err := source.prove(ctx, backup.WorkloadPermissions(m.app.Workload)); err != nil {
		return err
	}
	return m.reached(backup.ApplicationReady)
}

// prove waits until Entra issues tokens with the permissions.
func (s *tokenSource) prove(ctx context.Context, permissions []backup.Permission) error {
	wanted := map[string][]string{}
	for _, p := range permissions {
		resource := graphResource
		if p.ResourceID == backup.ResourceExchange {
			resource = exchangeResource
		}
		wanted[resource] = append(wanted[resource], p.Name)
	}
	start := time.Now()
	for resource, names := range wanted {
		for try := 0; ; try++ {
			// Not from memory: a token keeps the roles that it was issued with.
			t, err := s.fetch(ctx, resource, freshWait)
			if err != nil {
				return err
			}
			roles, readable := rolesOf(t.AccessToken)
			missing := without(names, roles)
			if !readable || len(missing) == 0 {
				break
			}
			pause := min(2*time.Second<<min(try, 3), 15*time.Second)
			if time.Since(start)+pause > freshWait {
				p := refusal{}.problem(permissionGone, nil)
				p.Text = "The permission " + strings.Join(missing, ", ") + " was granted, but is not in effect yet. Try again in a few minutes."
				return p
			}
			if err := sleep(ctx, pause); err != nil {
				return err
			}
		}
	}
	return nil
}

// rolesOf reads the roles of an access token for a diagnosis. Such tokens are
// Microsoft's own business and may be unreadable one day.
func rolesOf(token string) (roles []string, readable bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, false
	}
	var claims struct {
		Audience any      `json:"aud"`
		Roles    []string `json:"roles"`
	}
	err = json.Unmarshal(payload, &claims)
	return claims.Roles, err == nil && claims.Audience != nil
}
