package handlers

import (
	"fmt"
	"net/http"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// chooseFlow goes on with the script where a policy of the tenant keeps the
// sign-in of step 2 out, and back. It is about this authorization alone: where
// the organization's toggle asks for the script, there is no other way.
func (s *Server) chooseFlow(w http.ResponseWriter, r *http.Request) error {
	auth, ok, err := s.step(w, r, backup.StepDeviceAuthorization, backup.StepRunScript)
	if !ok {
		return err
	}
	flow := backup.FlowManual
	if r.PostFormValue("flow") != string(flow) {
		flow = flowOf(actor(r).Org)
	}
	if flow == auth.Flow {
		return s.redirect(w, r, "/setup", "")
	}
	now, err := s.change(r, auth, func(a *backup.Authorization) {
		a.Flow, a.Problem, a.Device, a.SignIn = flow, backup.Problem{}, backup.DeviceAttempt{}, backup.SignInAttempt{}
		a.Step = a.RoleStep()
		forgetRoleToken(a)
	})
	if err == nil {
		err = s.Store.RecordBy(r.Context(), actor(r), auth.OrgID, "authorization.flow", auth.TenantDomain, string(flow))
	}
	return s.moved(w, r, now, err, "/setup", "")
}

// downloadScript answers with the PowerShell script of the manual flow, made for
// this tenant and its application. It holds no secret.
func (s *Server) downloadScript(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	auth, ok, err := s.step(w, r, backup.StepRunScript, backup.StepVerify)
	if !ok {
		return err
	}
	conn, err := s.Store.Connection(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return fmt.Errorf("read connection %s: %w", auth.ConnectionID, err)
	}
	apps, err := s.Store.SubApplications(ctx, auth.OrgID, auth.ConnectionID)
	if err != nil {
		return fmt.Errorf("read sub-applications: %w", err)
	}
	for _, app := range apps {
		if app.Workload != backup.WorkloadExchange {
			continue
		}
		script, err := m365.Script(conn, app, time.Now())
		if err != nil {
			return err
		}
		if err := s.Store.RecordBy(ctx, actor(r), auth.OrgID, "script.download", conn.TenantDomain, app.AppID); err != nil {
			return fmt.Errorf("record the download: %w", err)
		}
		download(w, m365.ScriptName, "text/plain; charset=us-ascii")
		_, _ = w.Write(script) // the browser may have gone; then there is nobody to tell
		return nil
	}
	return backup.ErrNotFound
}

// verifyScript has the job look whether the role works. With the word of a
// person that the script ended well, a role that Exchange does not show yet is
// waited for; without it, the job asks first.
func (s *Server) verifyScript(w http.ResponseWriter, r *http.Request, auth backup.Authorization) error {
	auth.Attested = r.PostFormValue("ended") == "yes"
	return s.verifyRole(w, r, auth)
}
