package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// showSettings shows the general settings.
func (s *Server) showSettings(w http.ResponseWriter, r *http.Request) error {
	return s.settingsPage(w, r, http.StatusOK, actor(r).Org.Name, nil)
}

func (s *Server) settingsPage(w http.ResponseWriter, r *http.Request, status int, name string, fields backup.FieldErrors) error {
	v := views.Settings{Name: name, Fields: fields, MayChange: actor(r).OrgRole() == backup.RoleAdmin, Now: time.Now()}
	var err error
	if v.Protection, err = s.Store.Protection(r.Context(), actor(r).Org.ID); err != nil {
		return err
	}
	if v.Requests, err = s.Store.ActingRequests(r.Context(), actor(r).Org.ID, actingRequestsShown); err != nil {
		return fmt.Errorf("read requests to act: %w", err)
	}
	return s.render(w, r, status, views.SettingsPage(s.frame(w, r, "Account Settings"), v))
}

// saveSettings renames the organization.
func (s *Server) saveSettings(w http.ResponseWriter, r *http.Request) error {
	name := r.PostFormValue("name")
	err := s.Store.RenameOrganization(r.Context(), actor(r).Org.ID, name, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		return s.settingsPage(w, r, http.StatusUnprocessableEntity, name, fields)
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/settings", "Saved.")
}

// saveProtection sets which new accounts are backed up without anybody choosing them.
func (s *Server) saveProtection(w http.ResponseWriter, r *http.Request) error {
	rule := backup.Protection("none") // which is no answer
	if given := r.PostForm["protection"]; len(given) == 1 {
		rule = backup.Protection(given[0])
	}
	err := s.Store.SaveProtection(r.Context(), actor(r).Org.ID, rule, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		return s.settingsPage(w, r, http.StatusUnprocessableEntity, actor(r).Org.Name, fields)
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/settings", "Saved.")
}

// showCredentials shows how the organization is connected and what Holdfast holds.
func (s *Server) showCredentials(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	list, err := s.connectionViews(r.Context(), a.Org.ID)
	if err != nil {
		return err
	}
	v := views.Credentials{Connections: list, MayChange: a.OrgRole() == backup.RoleAdmin, Now: time.Now()}
	if v.Left, err = s.leftBehind(r.Context(), a.Org.ID); err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.CredentialsPage(s.frame(w, r, "Account Settings"), v))
}

// connectionStates reads the connections of an organization with their custom
// roles and what the tenant grants.
func (s *Server) connectionStates(ctx context.Context, org backup.OrgID) ([]views.Connection, error) {
	connections, err := s.Store.Connections(ctx, org)
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	roles, err := s.Store.CustomRoles(ctx, org)
	if err != nil {
		return nil, err
	}
	list := make([]views.Connection, len(connections))
	for i, c := range connections {
		list[i] = views.Connection{Connection: c, Role: roles[c.ID]}
		if list[i].Check, err = s.Store.PermissionCheck(ctx, org, c.ID); err != nil && !errors.Is(err, backup.ErrNotFound) {
			return nil, fmt.Errorf("read permission check: %w", err)
		}
	}
	return list, nil
}

// connectionViews is connectionStates with the sub-applications and what was
// asked for, or the settings of an IMAP server without its secrets.
func (s *Server) connectionViews(ctx context.Context, org backup.OrgID) ([]views.Connection, error) {
	list, err := s.connectionStates(ctx, org)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Provider == backup.ProviderIMAP {
			if list[i].IMAP, err = s.Store.IMAPServer(ctx, org, list[i].ID); err != nil {
				return nil, fmt.Errorf("read IMAP server: %w", err)
			}
			list[i].IMAP.MasterPassword, list[i].IMAP.ClientSecret = nil, nil
			continue
		}
		list[i].Permissions = backup.PermissionsOf(list[i].Method, list[i].Workloads)
		if list[i].Applications, err = s.Store.SubApplications(ctx, org, list[i].ID); err != nil {
			return nil, fmt.Errorf("read sub-applications: %w", err)
		}
	}
	return list, nil
}

// checkRoleNow asks for a check of the custom role without waiting for its turn.
func (s *Server) checkRoleNow(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	role, err := s.Store.CustomRole(r.Context(), a.Org.ID, backup.ConnectionID(r.PathValue("connection")))
	if err != nil {
		return err
	}
	if err := s.Store.AskRoleCheck(r.Context(), role, a); err != nil {
		return err
	}
	return s.redirect(w, r, "/settings/credentials", "The custom role is being checked. Reload this page in a moment.")
}

// repairRole starts the authorization that makes the custom role of a connection
// whole, and touches nothing else.
func (s *Server) repairRole(w http.ResponseWriter, r *http.Request) error {
	conn, apps, err := s.connectionAt(r)
	if err != nil {
		return err
	}
	role, err := s.Store.CustomRole(r.Context(), conn.OrgID, conn.ID)
	if err != nil {
		return err
	}
	if role.State == backup.RoleConnected {
		return s.redirect(w, r, "/settings/credentials", "The custom role is connected. There is nothing to repair.")
	}
	for _, app := range views.Broken(apps, time.Now()) {
		if app.Workload == backup.WorkloadExchange {
			return s.refuse(w, r, "/settings/credentials", "Repair "+app.DisplayName+" first: the custom role is given to it.")
		}
	}
	return s.begin(w, r, conn, backup.PurposeRole, conn.Method, []backup.Workload{backup.WorkloadExchange})
}
