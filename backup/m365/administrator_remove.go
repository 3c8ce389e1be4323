package m365

import (
	"context"
	"slices"

	"github.com/microsoftgraph/msgraph-sdk-go/models"

	"holdfast/backup"
)

// RemoveAdministrator takes away what EnsureAdministrator made, with the token
// of a SignInAdministrator: the main application's own permissions, then the
// account's roles, then the account. What is gone already is no error.
func (c *Client) RemoveAdministrator(ctx context.Context, token backup.Secret, conn backup.Connection) error {
	d, err := c.directory(token, string(conn.ID))
	if err != nil {
		return err
	}
	admin := conn.Administrator
	m := &administratorMaker{directory: d, client: c, conn: conn, admin: &admin, save: func(backup.Administrator) error { return nil }}
	if err := m.ungrant(ctx, &applicationMaker{directory: d, client: c, tenant: conn.TenantID}); err != nil {
		return err
	}
	c.mainTokens(conn.TenantID).forget()
	if admin.IsZero() {
		return nil
	}
	id := admin.ID
	if id == "" {
		id = admin.UPN
	}
	found, r, err := m.user(ctx, id, 0)
	switch {
	case r != nil && notYet(*r):
		return nil
	case r != nil:
		return administratorProblem(*r, err)
	case err != nil:
		return err
	case admin.ID == "" && text(found.GetDepartment()) != conn.AdministratorMarker():
		return nil // somebody else's: ours was never made
	}
	return m.remove(ctx, text(found.GetId()))
}

// remove takes the roles from the account and deletes it. Microsoft lets an
// account with an administrator's role be deleted only with more than Holdfast
// asks for.
func (m *administratorMaker) remove(ctx context.Context, id string) error {
	var roles []models.UnifiedRoleAssignmentable
	r, err := m.do(ctx, true, func(ctx context.Context) error {
		got, err := m.get(ctx, "/roleManagement/directory/roleAssignments{?%24filter}", map[string]string{"%24filter": "principalId eq '" + id + "'"},
			models.CreateUnifiedRoleAssignmentCollectionResponseFromDiscriminatorValue)
		if page, ok := got.(models.UnifiedRoleAssignmentCollectionResponseable); ok {
			roles = page.GetValue()
		}
		return err
	})
	if r != nil {
		return administratorProblem(*r, err)
	}
	if err != nil {
		return err
	}
	for _, role := range roles {
		if err := m.delete(ctx, "/roleManagement/directory/roleAssignments/{id}", text(role.GetId()), 0); err != nil {
			return err
		}
	}
	// A server that still sees the role refuses.
	return m.delete(ctx, "/users/{id}", id, replicationPause)
}

// ungrant withdraws the permissions that the legacy method gave the main application.
func (m *administratorMaker) ungrant(ctx context.Context, g *applicationMaker) error {
	var sp models.ServicePrincipalable
	r, err := m.do(ctx, true, func(ctx context.Context) (err error) {
		sp, err = g.principalOf(ctx, m.client.id, "id", "appId")
		return err
	})
	if r != nil && notYet(*r) {
		return nil // the whole application is gone from the tenant
	}
	if r != nil {
		return administratorProblem(*r, err)
	}
	if err != nil {
		return err
	}
	graph, err := g.resource(ctx, backup.ResourceGraph)
	if err != nil {
		return err
	}
	var ours []string
	for _, role := range graph.GetAppRoles() {
		if slices.ContainsFunc(backup.MainPermissions(), func(p backup.Permission) bool { return p.Name == text(role.GetValue()) }) && role.GetId() != nil {
			ours = append(ours, role.GetId().String())
		}
	}
	var have []models.AppRoleAssignmentable
	r, err = m.do(ctx, true, func(ctx context.Context) error {
		got, err := m.get(ctx, "/servicePrincipals/{id}/appRoleAssignments", map[string]string{"id": text(sp.GetId())}, models.CreateAppRoleAssignmentCollectionResponseFromDiscriminatorValue)
		if page, ok := got.(models.AppRoleAssignmentCollectionResponseable); ok {
			have = page.GetValue()
		}
		return err
	})
	if r != nil {
		return administratorProblem(*r, err)
	}
	if err != nil {
		return err
	}
	for _, a := range have {
		if a.GetAppRoleId() == nil || !slices.Contains(ours, a.GetAppRoleId().String()) {
			continue
		}
		if err := m.delete(ctx, "/servicePrincipals/"+text(sp.GetId())+"/appRoleAssignments/{id}", text(a.GetId()), 0); err != nil {
			return err
		}
	}
	return nil
}
