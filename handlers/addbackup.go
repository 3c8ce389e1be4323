package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// wizardWorkloads are what a connection backs up in this version: mail, and
// the Exchange role beside it.
var wizardWorkloads = []backup.Workload{backup.WorkloadMail, backup.WorkloadExchange}

// showAddBackup shows the providers.
func (s *Server) showAddBackup(w http.ResponseWriter, r *http.Request) error {
	v, err := s.addBackupView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.AddBackupPage(s.frame(w, r, "Add Backup"), v))
}

// showMicrosoft365 shows what is needed and what will be asked for.
func (s *Server) showMicrosoft365(w http.ResponseWriter, r *http.Request) error {
	v, err := s.addBackupView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.Microsoft365Page(s.frame(w, r, "Sign in with Microsoft 365"), v))
}

func (s *Server) addBackupView(r *http.Request) (views.AddBackup, error) {
	org := actor(r).Org
	v := views.AddBackup{
		Permissions: backup.Permissions(wizardWorkloads), Legacy: backup.LegacyPermissions(), Registered: s.Microsoft != nil,
		ManualRole: org.ManualRole, Method: backup.MethodServicePrincipal,
	}
	var err error
	if v.Left, err = s.leftBehind(r.Context(), org.ID); err != nil {
		return v, err
	}
	auth, err := s.Store.ActiveAuthorization(r.Context(), org.ID)
	switch {
	case err == nil:
		v.UnderWay = &auth
	case !errors.Is(err, backup.ErrNotFound):
		return v, fmt.Errorf("read the authorization under way: %w", err)
	}
	return v, nil
}

// startMicrosoft365 starts the wizard with the chosen method and leaves for
// Microsoft. If one is under way, it goes on there.
func (s *Server) startMicrosoft365(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	if s.Microsoft == nil {
		return s.redirect(w, r, "/add-backup/microsoft365", "")
	}
	method, workloads := backup.Method(r.PostFormValue("method")), wizardWorkloads
	fields := backup.FieldErrors{}
	switch {
	case method == backup.MethodBackupAdministrator && r.PostFormValue("understood") != "on":
		fields["understood"] = "Confirm that a Global Administrator account is to be created, or choose Least Privilege Permissions."
	case method == backup.MethodBackupAdministrator:
		workloads = backup.LegacyWorkloads()
	case method != backup.MethodServicePrincipal:
		fields["method"] = "Choose how to authorize."
	}
	if len(fields) > 0 {
		v, err := s.addBackupView(r)
		if err != nil {
			return err
		}
		v.Method, v.Fields = method, fields
		return s.render(w, r, http.StatusUnprocessableEntity, views.Microsoft365Page(s.frame(w, r, "Sign in with Microsoft 365"), v))
	}
	auth := backup.Authorization{
		ID: backup.NewID[backup.AuthorizationID](), OrgID: a.Org.ID, StartedBy: a.Person.ID, MovedBy: a.Person.Name,
		Provider: backup.ProviderMicrosoft365, Method: method, Flow: flowOf(a.Org),
		Workloads: workloads, Step: backup.StepConsent, CreatedAt: time.Now(), UpdatedAt: time.Now(),
	}
	auth, err := s.Store.StartAuthorization(r.Context(), auth, a)
	if errors.Is(err, backup.ErrConflict) {
		return s.redirect(w, r, "/setup", "An authorization was under way already. This is where it stands.")
	}
	if err != nil {
		return fmt.Errorf("start the authorization: %w", err)
	}
	return s.leave(w, r, auth, auth.ConsentPurpose(), "")
}
