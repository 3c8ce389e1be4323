package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/backup/m365"
	"holdfast/views"
)

// newDeviceCode asks Microsoft for a code for the tenant that consented. It
// belongs to this session, and the one before stops counting.
func (s *Server) newDeviceCode(w http.ResponseWriter, r *http.Request) error {
	auth, ok, err := s.step(w, r, backup.StepDeviceAuthorization)
	if !ok {
		return err
	}
	code, err := s.Microsoft.StartDevice(r.Context(), auth.TenantID)
	if err != nil {
		return s.saveProblem(w, r, auth, err)
	}
	return s.move(w, r, auth, func(a *backup.Authorization) {
		a.Problem = backup.Problem{}
		forgetRoleToken(a)
		a.Device = backup.DeviceAttempt{
			Session: actor(r).Session, UserCode: code.UserCode, DeviceCode: code.DeviceCode, VerificationURI: code.VerificationURI,
			Interval: code.Interval, ExpiresAt: code.ExpiresAt, PolledAt: time.Now(),
		}
	})
}

// showDevice is the fragment with the code and its state. It asks Microsoft,
// but never sooner than Microsoft allows, whoever else is looking.
func (s *Server) showDevice(w http.ResponseWriter, r *http.Request) error {
	auth, err := s.Store.ActiveAuthorization(r.Context(), actor(r).Org.ID)
	if errors.Is(err, backup.ErrNotFound) || (err == nil && auth.Step != backup.StepDeviceAuthorization) {
		return moveOn(w)
	}
	if err != nil {
		return fmt.Errorf("read the authorization: %w", err)
	}
	if auth.Device.Session == actor(r).Session {
		if auth, err = s.askDevice(r, auth); err != nil {
			return err
		}
	}
	v, err := s.setupView(r, auth)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.DeviceCode(v))
}

// askDevice asks Microsoft whether the code was entered, if it is time to, and
// saves the answer, or why Microsoft could not say. The returned authorization is
// how it stands.
func (s *Server) askDevice(r *http.Request, auth backup.Authorization) (backup.Authorization, error) {
	d := auth.Device
	if len(d.DeviceCode) == 0 || len(auth.RoleToken) > 0 || time.Now().Before(d.PolledAt.Add(d.Interval)) {
		return auth, nil
	}
	// The time of the question is saved first: of several pages only one asks.
	auth.Device.PolledAt = time.Now()
	err := s.Store.SaveAuthorization(r.Context(), &auth)
	if errors.Is(err, backup.ErrStale) {
		return s.Store.Authorization(r.Context(), auth.OrgID, auth.ID)
	}
	if err != nil {
		return auth, fmt.Errorf("save the authorization: %w", err)
	}
	grant, err := s.Microsoft.PollDevice(r.Context(), auth.TenantID, d.DeviceCode)
	var answer func(*backup.Authorization)
	switch p := backup.AsProblem(err); {
	case err == nil:
		if err := s.noteGranted(r, auth, backup.SignInRole, grant); err != nil {
			return auth, err
		}
		answer = func(a *backup.Authorization) {
			holdRoleToken(a, grant)
			a.Device.AuthorizedAt = time.Now()
		}
	case p.Kind == backup.ProblemDevicePending && p.RetryAfter == 0 && auth.Problem.Kind != backup.ProblemDeviceUnanswered:
		return auth, nil
	case p.Kind == backup.ProblemDevicePending: // with a pause, if Microsoft finds the questions too frequent
		answer = func(a *backup.Authorization) {
			if a.Device.Interval += p.RetryAfter; a.Problem.Kind == backup.ProblemDeviceUnanswered {
				a.Problem = backup.Problem{}
			}
		}
	case p.Temporary: // the next question may get an answer
		s.logProblem(r, p)
		answer = func(a *backup.Authorization) { a.Problem = unanswered(*p) }
	default:
		s.logProblem(r, p)
		answer = func(a *backup.Authorization) { a.Problem, a.Device.DeviceCode = *p, nil }
	}
	return s.saveAnswer(r.Context(), auth, answer)
}

// unanswered words why Microsoft could not say whether a code was entered for
// somebody whose page asks it again.
func unanswered(p backup.Problem) backup.Problem {
	p.Kind = backup.ProblemDeviceUnanswered
	p.Text = strings.Replace(p.Text, "Try again.", "This page asks again by itself.", 1) + " The code can be entered meanwhile."
	return p
}

// saveAnswer saves what Microsoft said about a device code, which it says only
// once. If the row was saved in the meantime, it still counts as long as the
// row waits for the same code.
func (s *Server) saveAnswer(ctx context.Context, auth backup.Authorization, answer func(*backup.Authorization)) (backup.Authorization, error) {
	code := auth.Device.UserCode
	for {
		answer(&auth)
		err := s.Store.SaveAuthorization(ctx, &auth)
		if err == nil {
			return auth, nil
		}
		if !errors.Is(err, backup.ErrStale) {
			return auth, fmt.Errorf("save the authorization: %w", err)
		}
		if auth, err = s.Store.Authorization(ctx, auth.OrgID, auth.ID); err != nil {
			return auth, fmt.Errorf("read the authorization again: %w", err)
		}
		if auth.Step != backup.StepDeviceAuthorization || auth.Device.UserCode != code {
			return auth, nil
		}
	}
}

// holdRoleToken keeps the administrator's Exchange token for the job.
func holdRoleToken(auth *backup.Authorization, grant m365.Grant) {
	auth.Problem = backup.Problem{}
	auth.RoleToken, auth.RoleTokenExpiresAt, auth.RoleRefreshToken = grant.AccessToken, grant.ExpiresAt, grant.RefreshToken
	auth.RoleAdminUPN = grant.UPN
	auth.Device.DeviceCode = nil
}

func forgetRoleToken(auth *backup.Authorization) {
	auth.RoleToken, auth.RoleTokenExpiresAt, auth.RoleRefreshToken, auth.RoleAdminUPN = nil, time.Time{}, nil, ""
}

// verify goes on once the code was entered, or the script was run, and says so
// if it was not.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) error {
	auth, ok, err := s.step(w, r, backup.StepDeviceAuthorization, backup.StepRunScript)
	if !ok {
		return err
	}
	if auth.Step == backup.StepRunScript {
		return s.verifyScript(w, r, auth)
	}
	if auth.Device.Session == actor(r).Session {
		if auth, err = s.askDevice(r, auth); err != nil {
			return err
		}
	}
	now := time.Now()
	switch {
	case len(auth.RoleToken) > 0:
		return s.verifyRole(w, r, auth)
	case auth.Problem.Kind == backup.ProblemDeviceUnanswered && now.Before(auth.Device.ExpiresAt):
		return s.redirect(w, r, "/setup", "") // the page says so
	}
	return s.saveProblem(w, r, auth, notAuthorizedYet(auth, actor(r).Session, now))
}

// notAuthorizedYet says why step 2 is not done.
func notAuthorizedYet(auth backup.Authorization, session backup.SessionID, now time.Time) *backup.Problem {
	p := &backup.Problem{Kind: backup.ProblemDevicePending, At: now, Temporary: true}
	switch {
	case !auth.Problem.IsZero() && auth.Problem.Kind != backup.ProblemDevicePending && auth.Problem.Kind != backup.ProblemDeviceUnanswered:
		return &auth.Problem
	case auth.Device.UserCode == "":
		p.Text = "Nobody has authorized this step yet. Get a code and enter it at Microsoft's page, or select Authorize in this browser."
	case !now.Before(auth.Device.ExpiresAt):
		p.Kind, p.Temporary = backup.ProblemDeviceExpired, false
		p.Text = "The code has expired. Get a new one; each is good for 15 minutes. If Microsoft's page refused you, the tenant may block device codes: select Authorize in this browser."
	case auth.Device.Session != session:
		p.Text = "The code was asked for in another browser and not entered yet. Finish it there, or get a new code here."
	default:
		p.Text = "Too early: the code was not entered at Microsoft's page yet, or the sign-in there is not finished. Enter the code there, select Continue, and then select Verify & Continue here."
	}
	return p
}

// verifyRole hands the token to the custom role, whose job makes or checks it,
// and erases it here.
func (s *Server) verifyRole(w http.ResponseWriter, r *http.Request, auth backup.Authorization) error {
	now := time.Now()
	role := backup.CustomRole{
		OrgID: auth.OrgID, ConnectionID: auth.ConnectionID, State: backup.RolePending, PendingSince: now, NextTryAt: now,
		Token: auth.RoleToken, TokenExpiresAt: auth.RoleTokenExpiresAt, RefreshToken: auth.RoleRefreshToken, AdminUPN: auth.RoleAdminUPN,
	}
	auth.Step, auth.Problem, auth.Device = backup.StepVerify, backup.Problem{}, backup.DeviceAttempt{}
	auth.RoleToken, auth.RoleTokenExpiresAt, auth.RoleRefreshToken = nil, time.Time{}, nil
	auth.MovedBy = actor(r).Person.Name
	err := s.Store.BeginVerify(r.Context(), &auth, &role)
	return s.moved(w, r, auth, err, "/setup", "")
}
