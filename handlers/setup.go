package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/views"
)

// The wizard's state is a row, an authorization. A step changes the row and
// redirects to /setup, which alone looks at the row and shows where it stands;
// so a restart, a second browser or a second administrator carries on. The
// fragments that a page asks for while something is under way do the same for
// a part of it.

// showSetup shows the wizard where it stands.
func (s *Server) showSetup(w http.ResponseWriter, r *http.Request) error {
	auth, err := s.Store.ActiveAuthorization(r.Context(), actor(r).Org.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return s.leftSetup(w, r)
	}
	if err != nil {
		return fmt.Errorf("read the authorization: %w", err)
	}
	v, err := s.setupView(r, auth)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.SetupPage(s.frame(w, r, "M365 Authorization"), v))
}

// begin starts an authorization that changes a connection, and shows it. If
// one is under way, it goes on there.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, conn backup.Connection, purpose backup.Purpose, method backup.Method, workloads []backup.Workload) error {
	_, started, err := s.startAuthorization(w, r, conn, purpose, method, workloads, "")
	if !started {
		return err
	}
	return s.redirect(w, r, "/setup", "")
}

// startAuthorization starts an authorization that changes a connection, for the
// administrator upn if that is known. If one is under way, the answer is
// written: it goes on there.
func (s *Server) startAuthorization(w http.ResponseWriter, r *http.Request, conn backup.Connection, purpose backup.Purpose, method backup.Method, workloads []backup.Workload, upn string) (auth backup.Authorization, started bool, err error) {
	a := actor(r)
	auth = backup.Authorization{
		ID: backup.NewID[backup.AuthorizationID](), OrgID: a.Org.ID, ConnectionID: conn.ID, StartedBy: a.Person.ID, MovedBy: a.Person.Name,
		Provider: conn.Provider, Purpose: purpose, Method: method, Flow: flowOf(a.Org), Workloads: workloads,
		TenantID: conn.TenantID, TenantName: conn.TenantName, TenantDomain: conn.TenantDomain, AdminUPN: upn,
	}
	auth.Step = auth.Steps()[0]
	auth, err = s.Store.StartAuthorization(r.Context(), auth, a)
	if errors.Is(err, backup.ErrConflict) {
		return auth, false, s.redirect(w, r, "/setup", "An authorization was under way already. This is where it stands.")
	}
	if err != nil {
		return auth, false, fmt.Errorf("start the authorization: %w", err)
	}
	return auth, true, nil
}

// flowOf says who makes the custom role: the organization's toggle, as it stands
// when an authorization starts.
func flowOf(org backup.Organization) backup.Flow {
	if org.ManualRole {
		return backup.FlowManual
	}
	return backup.FlowAutomated
}

// setupView collects what the page shows of an authorization to this session.
func (s *Server) setupView(r *http.Request, auth backup.Authorization) (views.Setup, error) {
	ctx, a := r.Context(), actor(r)
	v := views.Setup{
		Authorization: auth, OwnCode: auth.Device.Session == a.Session,
		Permissions: auth.Permissions(), ManualRole: a.Org.ManualRole, Now: time.Now(),
	}
	if !v.OwnCode {
		v.Authorization.Device.UserCode = hidden(v.Authorization.Device.UserCode)
	}
	by, err := s.Store.Person(ctx, auth.StartedBy)
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return v, fmt.Errorf("read person %s: %w", auth.StartedBy, err)
	}
	v.StartedBy = by.Name
	if auth.ConnectionID == "" {
		return v, nil
	}
	if v.Connection, err = s.Store.Connection(ctx, auth.OrgID, auth.ConnectionID); err != nil && !errors.Is(err, backup.ErrNotFound) {
		return v, fmt.Errorf("read connection %s: %w", auth.ConnectionID, err)
	}
	if v.Applications, err = s.Store.SubApplications(ctx, auth.OrgID, auth.ConnectionID); err != nil {
		return v, fmt.Errorf("read sub-applications: %w", err)
	}
	if auth.Purpose == backup.PurposeRepair || auth.Purpose == backup.PurposeRemove || auth.Purpose == backup.PurposeRestore {
		// The others are none of its business.
		v.Applications = slices.DeleteFunc(v.Applications, func(app backup.SubApplication) bool { return !slices.Contains(auth.Workloads, app.Workload) })
	}
	if v.Role, err = s.Store.CustomRole(ctx, auth.OrgID, auth.ConnectionID); err != nil && !errors.Is(err, backup.ErrNotFound) {
		return v, fmt.Errorf("read custom role: %w", err)
	}
	if auth.Step == backup.StepChooseAccounts && !v.Connection.ListedAt.IsZero() {
		if v.Accounts, err = s.allAccounts(ctx, auth); err != nil {
			return v, err
		}
		v.Selected = map[backup.MailboxID]bool{}
		for _, m := range v.Accounts {
			if m.Selected {
				v.Selected[m.ID] = true
			}
		}
	}
	return v, nil
}

// logProblem logs what a provider answered to a step of the wizard.
func (s *Server) logProblem(r *http.Request, p *backup.Problem) {
	s.Log.Warn("wizard step", "organization", actor(r).Org.ID, "path", r.URL.Path, "error", p)
}

// moveOn answers a fragment's question when the page it is on is out of date.
func moveOn(w http.ResponseWriter) error {
	w.Header().Set("HX-Redirect", "/setup")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// hidden keeps that there is a code, and drops the code: only the session that
// asked for it sees it.
func hidden(code string) string {
	if code == "" {
		return ""
	}
	return "hidden"
}

// showSetupProgress is the fragment that a page asks for while the background
// works. When the step has changed, the whole page is shown anew, since the
// other parts of it have changed as well.
func (s *Server) showSetupProgress(w http.ResponseWriter, r *http.Request) error {
	auth, err := s.Store.ActiveAuthorization(r.Context(), actor(r).Org.ID)
	if errors.Is(err, backup.ErrNotFound) || (err == nil && string(auth.Step) != r.FormValue("step")) {
		return moveOn(w)
	}
	if err != nil {
		return fmt.Errorf("read the authorization: %w", err)
	}
	v, err := s.setupView(r, auth)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.SetupCard(v))
}

// step reads the authorization under way for a form that was shown at a
// certain step. If it stands elsewhere by now, the answer is written: where
// that is, and who moved it.
func (s *Server) step(w http.ResponseWriter, r *http.Request, at ...backup.Step) (auth backup.Authorization, ok bool, err error) {
	auth, err = s.Store.ActiveAuthorization(r.Context(), actor(r).Org.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return auth, false, s.refuse(w, r, "/dashboard", "This authorization was completed or given up in the meantime.")
	}
	if err != nil {
		return auth, false, fmt.Errorf("read the authorization: %w", err)
	}
	seen := backup.Step(r.PostFormValue("step"))
	for _, step := range at {
		if auth.Step == step && (seen == "" || seen == auth.Step) {
			return auth, true, nil
		}
	}
	return auth, false, s.refuse(w, r, "/setup", movedOn(auth, actor(r)))
}

// movedOn says that somebody was faster.
func movedOn(auth backup.Authorization, a backup.Actor) string {
	if auth.MovedBy != "" && auth.MovedBy != a.Person.Name {
		return auth.MovedBy + " went on with this authorization in the meantime. This is where it stands now."
	}
	return "This authorization went on in the meantime. This is where it stands now."
}

// change saves what set does to an authorization. If the row was saved by
// somebody else since auth was read, but stands at the same step, set is done
// to what is there now: the page that waits for a device code saves often.
// backup.ErrStale means that it stands elsewhere, as the returned one does.
func (s *Server) change(r *http.Request, auth backup.Authorization, set func(*backup.Authorization), jobs ...river.JobArgs) (backup.Authorization, error) {
	step := auth.Step
	for {
		set(&auth)
		auth.MovedBy = actor(r).Person.Name
		err := s.Store.SaveAuthorization(r.Context(), &auth, jobs...)
		if !errors.Is(err, backup.ErrStale) {
			return auth, err
		}
		if auth, err = s.Store.Authorization(r.Context(), auth.OrgID, auth.ID); err != nil {
			return auth, fmt.Errorf("read the authorization again: %w", err)
		}
		if auth.Step != step {
			return auth, backup.ErrStale
		}
	}
}

// move saves what set does and goes to where the authorization then stands.
func (s *Server) move(w http.ResponseWriter, r *http.Request, auth backup.Authorization, set func(*backup.Authorization), jobs ...river.JobArgs) error {
	now, err := s.change(r, auth, set, jobs...)
	return s.moved(w, r, now, err, "/setup", "")
}

// moved goes on at path after the row was saved, or says what kept it from that.
func (s *Server) moved(w http.ResponseWriter, r *http.Request, now backup.Authorization, err error, path, flash string) error {
	if errors.Is(err, backup.ErrStale) {
		return s.refuse(w, r, "/setup", movedOn(now, actor(r)))
	}
	if err != nil {
		return fmt.Errorf("save the authorization: %w", err)
	}
	return s.redirect(w, r, path, flash)
}

// saveProblem notes what went wrong with what a person asked for where the
// authorization stands, and shows it.
func (s *Server) saveProblem(w http.ResponseWriter, r *http.Request, auth backup.Authorization, err error) error {
	p := m365.Attended(backup.AsProblem(err))
	s.logProblem(r, p)
	return s.move(w, r, auth, func(a *backup.Authorization) {
		a.Problem, a.SignIn = *p, auth.SignIn
	})
}

// retryApplications lets the job of a failed step go on where it stopped.
func (s *Server) retryApplications(w http.ResponseWriter, r *http.Request) error {
	auth, ok, err := s.step(w, r, backup.StepFailed)
	if !ok {
		return err
	}
	again := auth
	again.Step = auth.FailedFrom
	job := again.StepJob()
	if job == nil {
		return s.redirect(w, r, "/setup", "")
	}
	return s.move(w, r, auth, func(a *backup.Authorization) {
		a.Step, a.FailedFrom, a.Problem = again.Step, "", backup.Problem{}
	}, job)
}

// showAbandon asks before an authorization is given up.
func (s *Server) showAbandon(w http.ResponseWriter, r *http.Request) error {
	auth, err := s.Store.ActiveAuthorization(r.Context(), actor(r).Org.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return s.redirect(w, r, "/dashboard", "")
	}
	if err != nil {
		return fmt.Errorf("read the authorization: %w", err)
	}
	v, err := s.setupView(r, auth)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.AbandonPage(s.frame(w, r, "Give up this authorization?"), v))
}

// abandon gives an authorization up. Its job removes from the tenant what was
// made there, as long as the administrator's sign-in lasts.
func (s *Server) abandon(w http.ResponseWriter, r *http.Request) error {
	auth, err := s.Store.ActiveAuthorization(r.Context(), actor(r).Org.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return s.refuse(w, r, "/dashboard", "This authorization was completed or given up in the meantime.")
	}
	if err != nil {
		return fmt.Errorf("read the authorization: %w", err)
	}
	if seen := backup.Step(r.PostFormValue("step")); seen != "" && seen != auth.Step {
		return s.refuse(w, r, "/setup/abandon", movedOn(auth, actor(r)))
	}
	now, err := s.change(r, auth, func(a *backup.Authorization) {
		a.Step, a.FailedFrom, a.Problem = backup.StepAbandoned, "", backup.Problem{}
		a.Device, a.SignIn = backup.DeviceAttempt{}, backup.SignInAttempt{}
		forgetRoleToken(a)
	}, backup.UndoJob{OrgID: auth.OrgID, AuthorizationID: auth.ID})
	return s.moved(w, r, now, err, "/dashboard", givenUp(auth.Purpose))
}

// givenUp says what becomes of what an authorization did that is given up.
func givenUp(purpose backup.Purpose) string {
	if purpose == backup.PurposeConnect || purpose == backup.PurposeMigrate {
		return "The authorization was given up. What it made is being removed."
	}
	if purpose == backup.PurposeRestore {
		return "The authorization was given up. Restores that wait for permission stay until you cancel them, for 24 hours at most."
	}
	return "The authorization was given up. The connection keeps all that it has."
}
