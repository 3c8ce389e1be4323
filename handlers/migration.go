package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// accountsOfMigration is how many accounts the last page of a migration lists.
const accountsOfMigration = 200

// showMigration explains the migration.
func (s *Server) showMigration(w http.ResponseWriter, r *http.Request) error {
	conn, err := s.Store.LegacyConnection(r.Context(), actor(r).Org.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return s.redirect(w, r, "/settings/credentials", "Nothing has to be migrated.")
	}
	if err != nil {
		return fmt.Errorf("read the connection: %w", err)
	}
	v := views.Migration{Connection: conn, Manual: actor(r).Org.ManualRole, Now: time.Now()}
	return s.render(w, r, http.StatusOK, views.MigrationPage(s.frame(w, r, "Migration"), v))
}

// legacyAt reads the connection of the path for the pages of the migration. If
// it does not work by the legacy method, the answer is written.
func (s *Server) legacyAt(w http.ResponseWriter, r *http.Request) (conn backup.Connection, ok bool, err error) {
	if conn, _, err = s.connectionAt(r); err != nil {
		return conn, false, err
	}
	if !conn.Legacy() {
		return conn, false, s.redirect(w, r, "/settings/credentials", "This connection works with least privilege permissions already.")
	}
	return conn, true, nil
}

// askMigrate asks before a migration begins.
func (s *Server) askMigrate(w http.ResponseWriter, r *http.Request) error {
	conn, ok, err := s.legacyAt(w, r)
	if !ok {
		return err
	}
	return s.render(w, r, http.StatusOK, views.MigratePage(s.frame(w, r, "Migrate to least privilege permissions?"), views.Migration{Connection: conn}))
}

// chooseMigrationAccount asks which administrator signs in.
func (s *Server) chooseMigrationAccount(w http.ResponseWriter, r *http.Request) error {
	conn, ok, err := s.legacyAt(w, r)
	if !ok {
		return err
	}
	v, err := s.migrationAccounts(r, conn)
	if err != nil {
		return err
	}
	v.Chosen = views.OtherAdministrator
	if len(v.Administrators) > 0 {
		v.Chosen = v.Administrators[0]
	}
	return s.render(w, r, http.StatusOK, views.MigrationAccountPage(s.frame(w, r, "Select the organization's e-mail"), v))
}

// migrationAccounts lists the administrators that Holdfast knows of a tenant.
func (s *Server) migrationAccounts(r *http.Request, conn backup.Connection) (views.Migration, error) {
	names, err := s.Store.ConnectionAdministrators(r.Context(), conn.OrgID, conn.ID)
	if err != nil {
		return views.Migration{}, fmt.Errorf("read administrators: %w", err)
	}
	if own := conn.Administrator; own.ID != "" && !slices.Contains(names, own.UPN) {
		names = append(names, own.UPN)
	}
	return views.Migration{Connection: conn, Administrators: names, Manual: actor(r).Org.ManualRole}, nil
}

// startMigration starts the migration and leaves for Microsoft as the chosen
// administrator. The connection stays what it is until the migration is done.
func (s *Server) startMigration(w http.ResponseWriter, r *http.Request) error {
	conn, ok, err := s.legacyAt(w, r)
	if !ok {
		return err
	}
	v, err := s.migrationAccounts(r, conn)
	if err != nil {
		return err
	}
	v.Chosen, v.Other, v.Fields = r.PostFormValue("account"), strings.TrimSpace(r.PostFormValue("other")), backup.FieldErrors{}
	upn := v.Chosen
	switch {
	case v.Chosen == views.OtherAdministrator:
		upn = v.Other
		if name, domain, found := strings.Cut(upn, "@"); !found || name == "" || !strings.Contains(domain, ".") || len(upn) > 256 || strings.ContainsAny(upn, " \t\r\n") {
			v.Fields["other"] = "Enter the e-mail address of the administrator, like admin@" + conn.TenantDomain + "."
		}
	case !slices.Contains(v.Administrators, v.Chosen):
		v.Fields["account"] = "Choose who signs in at Microsoft."
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.MigrationAccountPage(s.frame(w, r, "Select the organization's e-mail"), v))
	}
	auth, started, err := s.startAuthorization(w, r, conn, backup.PurposeMigrate, backup.MethodServicePrincipal, wizardWorkloads, upn)
	if !started {
		return err
	}
	return s.leave(w, r, auth, auth.ConsentPurpose(), "")
}

// showMigrationDone says what the migration has changed, and what may be deleted.
func (s *Server) showMigrationDone(w http.ResponseWriter, r *http.Request) error {
	ctx, a := r.Context(), actor(r)
	auth, err := s.Store.LatestAuthorization(ctx, a.Org.ID)
	if errors.Is(err, backup.ErrNotFound) || (err == nil && (auth.Purpose != backup.PurposeMigrate || auth.Step != backup.StepDone)) {
		return s.redirect(w, r, "/settings/credentials", "")
	}
	if err != nil {
		return fmt.Errorf("read the authorization: %w", err)
	}
	v := views.Migration{MayChange: a.OrgRole() == backup.RoleAdmin, Now: time.Now()}
	if v.Connection, err = s.Store.Connection(ctx, a.Org.ID, auth.ConnectionID); err != nil {
		return fmt.Errorf("read connection %s: %w", auth.ConnectionID, err)
	}
	if v.Role, err = s.Store.CustomRole(ctx, a.Org.ID, auth.ConnectionID); err != nil && !errors.Is(err, backup.ErrNotFound) {
		return fmt.Errorf("read custom role: %w", err)
	}
	got, err := s.Store.Mailboxes(ctx, a.Org.ID, store.MailboxQuery{AllAccounts: true, Connection: auth.ConnectionID, PageSize: accountsOfMigration})
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	v.Accounts, v.More = got.Mailboxes, max(got.Total-len(got.Mailboxes), 0)
	return s.render(w, r, http.StatusOK, views.MigrationDonePage(s.frame(w, r, "Migration complete"), v))
}

// leftAt reads the connection of the path if a backup administrator is left of
// it. If not, the answer is written.
func (s *Server) leftAt(w http.ResponseWriter, r *http.Request) (conn backup.Connection, ok bool, err error) {
	if conn, _, err = s.connectionAt(r); err != nil {
		return conn, false, err
	}
	switch {
	case conn.Method == backup.MethodBackupAdministrator:
		return conn, false, s.refuse(w, r, "/settings/credentials", "The backup administrator is in use. Migrate first; then it can be deleted.")
	case conn.Administrator.IsZero():
		return conn, false, s.redirect(w, r, "/settings/credentials", "The backup administrator is gone already.")
	}
	return conn, true, nil
}

// askCleanUp names what is deleted of the legacy method.
func (s *Server) askCleanUp(w http.ResponseWriter, r *http.Request) error {
	conn, ok, err := s.leftAt(w, r)
	if !ok {
		return err
	}
	return s.render(w, r, http.StatusOK, views.CleanUpPage(s.frame(w, r, "Delete the backup administrator?"), views.Migration{Connection: conn}))
}

// startCleanUp starts the authorization that deletes it.
func (s *Server) startCleanUp(w http.ResponseWriter, r *http.Request) error {
	conn, ok, err := s.leftAt(w, r)
	if !ok {
		return err
	}
	return s.begin(w, r, conn, backup.PurposeCleanUp, conn.Method, nil)
}

// showAdministratorPassword shows the password of the backup administrator and
// erases it.
func (s *Server) showAdministratorPassword(w http.ResponseWriter, r *http.Request) error {
	conn, err := s.Store.Connection(r.Context(), actor(r).Org.ID, backup.ConnectionID(r.PathValue("connection")))
	if err != nil {
		return err
	}
	password, err := s.Store.TakeAdministratorPassword(r.Context(), conn.OrgID, conn.ID, actor(r))
	if errors.Is(err, backup.ErrNotFound) {
		return s.refuse(w, r, "/settings/credentials", "The password was shown before, and Holdfast has erased it. Another Global Administrator can set a new one in the Entra admin center.")
	}
	if err != nil {
		return fmt.Errorf("take the password: %w", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	return s.render(w, r, http.StatusOK, views.PasswordPage(s.frame(w, r, "Password of the backup administrator"), conn, password.Reveal()))
}

// askRevert asks a partner's person before a connection goes back to the legacy method.
func (s *Server) askRevert(w http.ResponseWriter, r *http.Request) error {
	return s.revertPage(w, r, http.StatusOK, "", nil)
}

func (s *Server) revertPage(w http.ResponseWriter, r *http.Request, status int, reason string, fields backup.FieldErrors) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	conn, err := s.Store.Connection(r.Context(), org.ID, backup.ConnectionID(r.PathValue("connection")))
	if err != nil {
		return err
	}
	return s.render(w, r, status, views.RevertPage(s.frame(w, r, "Go back to the backup administrator?"), org, conn, reason, fields))
}

// revert sends a connection back to the legacy method. Its reason is recorded.
func (s *Server) revert(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	reason := strings.TrimSpace(r.PostFormValue("reason"))
	if reason == "" || len(reason) > 500 {
		return s.revertPage(w, r, http.StatusUnprocessableEntity, reason, backup.FieldErrors{"reason": "Say why, in at most 500 characters. The organization's people can read it."})
	}
	path := "/partner/organizations/" + string(org.ID)
	err = s.Store.RevertConnection(r.Context(), org.ID, backup.ConnectionID(r.PathValue("connection")), reason, actor(r))
	if errors.Is(err, backup.ErrConflict) {
		return s.redirect(w, r, path, "This connection works by the backup administrator method already.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, path, "Sent back. The organization's admins are asked on every page to authorize the backup administrator.")
}
