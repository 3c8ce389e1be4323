package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// repair starts the authorization that makes the broken applications of a
// connection whole, and touches no other.
func (s *Server) repair(w http.ResponseWriter, r *http.Request) error {
	conn, apps, err := s.connectionAt(r)
	if err != nil {
		return err
	}
	if conn.Method == backup.MethodBackupAdministrator {
		return s.begin(w, r, conn, backup.PurposeRepair, conn.Method, backup.LegacyWorkloads())
	}
	broken := views.Broken(apps, time.Now())
	if len(broken) == 0 {
		return s.redirect(w, r, "/settings/credentials", "Every application works. There is nothing to repair.")
	}
	var workloads []backup.Workload
	for _, app := range broken {
		workloads = append(workloads, app.Workload)
	}
	return s.begin(w, r, conn, backup.PurposeRepair, conn.Method, workloads)
}

// renew has an administrator consent to the main application again.
func (s *Server) renew(w http.ResponseWriter, r *http.Request) error {
	conn, _, err := s.connectionAt(r)
	if err != nil {
		return err
	}
	if conn.Method == backup.MethodBackupAdministrator {
		return s.begin(w, r, conn, backup.PurposeRepair, conn.Method, backup.LegacyWorkloads())
	}
	return s.begin(w, r, conn, backup.PurposeRenew, conn.Method, nil)
}

// askSwitchExchange names what is deleted before the Exchange workload is
// switched off.
func (s *Server) askSwitchExchange(w http.ResponseWriter, r *http.Request) error {
	conn, apps, err := s.connectionAt(r)
	if err != nil {
		return err
	}
	for _, app := range apps {
		if app.Workload == backup.WorkloadExchange {
			return s.render(w, r, http.StatusOK, views.SwitchOffPage(s.frame(w, r, "Switch off public folders and journaling?"), conn, app))
		}
	}
	return s.redirect(w, r, "/settings/credentials", "Public folders and journaling are switched off already.")
}

// switchExchange starts the authorization that removes the Exchange application
// from the tenant, or that makes it with its custom role.
func (s *Server) switchExchange(w http.ResponseWriter, r *http.Request) error {
	conn, apps, err := s.connectionAt(r)
	if err != nil {
		return err
	}
	on := false
	for _, app := range apps {
		on = on || app.Workload == backup.WorkloadExchange
	}
	workloads := []backup.Workload{backup.WorkloadExchange}
	switch wanted := r.PostFormValue("on") == "true"; {
	case wanted == on && on:
		return s.redirect(w, r, "/settings/credentials", "Public folders and journaling are switched on already.")
	case wanted == on:
		return s.redirect(w, r, "/settings/credentials", "Public folders and journaling are switched off already.")
	case conn.Method != backup.MethodServicePrincipal:
		return s.refuse(w, r, "/settings/credentials", "This needs least privilege permissions. Migrate the connection first.")
	case wanted:
		return s.begin(w, r, conn, backup.PurposeRepair, conn.Method, workloads)
	}
	return s.begin(w, r, conn, backup.PurposeRemove, conn.Method, workloads)
}

// connectionAt reads the connection of the path with its applications. One that
// the wizard has not completed is not found here.
func (s *Server) connectionAt(r *http.Request) (backup.Connection, []backup.SubApplication, error) {
	ctx, org := r.Context(), actor(r).Org.ID
	conn, err := s.Store.Connection(ctx, org, backup.ConnectionID(r.PathValue("connection")))
	if err != nil {
		return conn, nil, err
	}
	if conn.ReadyAt.IsZero() || s.Microsoft == nil || conn.Provider != backup.ProviderMicrosoft365 {
		return conn, nil, backup.ErrNotFound
	}
	apps, err := s.Store.SubApplications(ctx, org, conn.ID)
	if err != nil {
		return conn, nil, fmt.Errorf("read sub-applications: %w", err)
	}
	return conn, apps, nil
}

// done is what is said when the authorization that this browser looked at is
// through, and where that is shown. ok is false for one that makes a connection.
func done(auth backup.Authorization) (path, flash string, ok bool) {
	if auth.Step != backup.StepDone {
		return "", "", false
	}
	switch auth.Purpose {
	case backup.PurposeMigrate:
		return "/migration/done", "", true
	case backup.PurposeCleanUp:
		return "/settings/credentials", "Removed. The backup administrator and the permissions of Holdfast's main application are no longer in the tenant.", true
	case backup.PurposeRepair:
		if auth.Method == backup.MethodBackupAdministrator {
			return "/settings/credentials", "Authorized. The backup administrator is in place, and backups go on with it.", true
		}
		return "/settings/credentials", "Repaired. The applications have all their permissions.", true
	case backup.PurposeRole:
		return "/settings/credentials", "The custom role is being looked after. Its state is below.", true
	case backup.PurposeRestore:
		return "/restores", "Thank you. The restore goes on, and the permission is given back when it is through.", true
	case backup.PurposeRenew:
		return "/settings/credentials", "Thank you. The consent is in place again.", true
	case backup.PurposeRemove:
		return "/settings/credentials", "Removed. The application is no longer in the tenant.", true
	}
	return "", "", false
}

// leftSetup answers when no authorization is under way: it was completed or
// given up, or there never was one.
func (s *Server) leftSetup(w http.ResponseWriter, r *http.Request) error {
	auth, err := s.Store.LatestAuthorization(r.Context(), actor(r).Org.ID)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("read the latest authorization: %w", err)
	}
	if path, flash, ok := done(auth); ok {
		return s.redirect(w, r, path, flash)
	}
	return s.redirect(w, r, "/add-backup", "")
}
