package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// leaveTenants removes what Holdfast made in the organization's tenants, as far
// as an administrator's sign-in still lasts, and notes by name what stays there.
func (w *deleteOrganization) leaveTenants(ctx context.Context, d *backup.Deletion) error {
	connections, err := w.Store.Connections(ctx, d.OrgID)
	if err != nil {
		return fmt.Errorf("read connections: %w", err)
	}
	d.Left = nil
	for _, conn := range connections {
		if conn.Provider != backup.ProviderMicrosoft365 {
			continue
		}
		if err := w.leaveTenant(ctx, d, conn); err != nil {
			return err
		}
	}
	return nil
}

func (w *deleteOrganization) leaveTenant(ctx context.Context, d *backup.Deletion, conn backup.Connection) error {
	token, err := w.authority(ctx, conn)
	if err != nil {
		return err
	}
	apps, err := w.Store.SubApplications(ctx, conn.OrgID, conn.ID)
	if err != nil {
		return fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if app.State == backup.ApplicationRemoved {
			continue
		}
		gone := false
		if len(token) > 0 {
			err := w.Runner.remove(ctx, token, app)
			if err != nil && w.again(ctx, *d, err) {
				return err
			}
			gone = err == nil
		}
		switch {
		case gone:
			d.Removed = append(d.Removed, conn.TenantDomain+": "+app.DisplayName)
			if err := w.Store.SaveDeletion(ctx, *d); err != nil {
				return err
			}
		case app.AppID != "" || app.State != backup.ApplicationPlanned:
			d.Left = append(d.Left, m365.ApplicationLeft(conn.TenantDomain, app))
		}
	}
	if err := w.leaveAdministrator(ctx, d, conn, token); err != nil {
		return err
	}
	if _, err := w.Store.CustomRole(ctx, conn.OrgID, conn.ID); err == nil {
		d.Left = append(d.Left, m365.RoleRemnant(conn.TenantDomain))
	} else if !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("read custom role: %w", err)
	}
	if w.Microsoft != nil {
		d.Left = append(d.Left, w.Microsoft.MainLeft(conn.TenantDomain))
	}
	return nil
}

// leaveAdministrator does so for the backup administrator.
func (w *deleteOrganization) leaveAdministrator(ctx context.Context, d *backup.Deletion, conn backup.Connection, token backup.Secret) error {
	if conn.Administrator.IsZero() {
		return nil
	}
	if len(token) > 0 {
		err := w.dropAdministrator(ctx, token, conn)
		if err == nil {
			d.Removed = append(d.Removed, conn.TenantDomain+": "+conn.Administrator.UPN)
			return w.Store.SaveDeletion(ctx, *d)
		}
		if w.again(ctx, *d, err) {
			return err
		}
	}
	d.Left = append(d.Left, m365.AdministratorLeft(conn))
	return nil
}

// again says whether what Microsoft refused is tried once more.
func (w *deleteOrganization) again(ctx context.Context, d backup.Deletion, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	w.Log.Warn("not removed from the tenant", "deletion", d.OrgID, "error", err)
	return backup.AsProblem(err).Temporary && time.Since(d.StepAt) < backup.DeletionGiveUp
}

// authority is an administrator's token that still lasts: that of a wizard that
// was under way in the tenant, or of the restore permission. Without one it is
// empty.
func (w *deleteOrganization) authority(ctx context.Context, conn backup.Connection) (backup.Secret, error) {
	if w.Microsoft == nil {
		return nil, nil //nolint:nilnil // nobody can be asked
	}
	auth, err := w.Store.LatestAuthorization(ctx, conn.OrgID)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return nil, fmt.Errorf("read the latest authorization: %w", err)
	}
	if err == nil && auth.TenantID == conn.TenantID && len(auth.SetupToken) > 0 && time.Until(auth.SetupTokenExpiresAt) > time.Minute {
		return auth.SetupToken, nil
	}
	grant, err := w.Store.RestoreGrant(ctx, conn.OrgID, conn.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the restore permission: %w", err)
	}
	if time.Until(grant.TokenExpiresAt) > time.Minute {
		return grant.Token, nil
	}
	if len(grant.RefreshToken) == 0 {
		return nil, nil //nolint:nilnil // as above
	}
	fresh, err := w.Microsoft.RefreshRestore(ctx, conn.TenantID, grant.RefreshToken)
	if err != nil {
		if backup.AsProblem(err).Temporary {
			return nil, err
		}
		return nil, nil //nolint:nilerr,nilnil // the sign-in has ended
	}
	grant.Token, grant.TokenExpiresAt, grant.RefreshToken = fresh.AccessToken, fresh.ExpiresAt, fresh.RefreshToken
	return grant.Token, w.Store.SaveRestoreGrant(ctx, grant)
}
