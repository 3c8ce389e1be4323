package handlers

import (
	"errors"
	"fmt"
	"net/http"
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
	auth.Problem = backup.Problem{}
	forgetRoleToken(&auth)
	auth.Device = backup.DeviceAttempt{
		Session: actor(r).Session, UserCode: code.UserCode, DeviceCode: code.DeviceCode, VerificationURI: code.VerificationURI,
		Interval: code.Interval, ExpiresAt: code.ExpiresAt, PolledAt: time.Now(),
	}
	return s.save(w, r, auth)
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
		auth, err = s.askDevice(r, auth)
		if err != nil {
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
// saves the answer. The returned authorization is how it stands.
func (s *Server) askDevice(r *http.Request, auth backup.Authorization) (backup.Authorization, error) {
	ctx, now := r.Context(), time.Now()
	d := &auth.Device
	if len(d.DeviceCode) == 0 || len(auth.RoleToken) > 0 || now.Before(d.PolledAt.Add(d.Interval)) {
		return auth, nil
	}
	// The time of the question is saved first: of several pages only one asks.
	d.PolledAt = now
	err := s.Store.SaveAuthorization(ctx, &auth)
	if errors.Is(err, backup.ErrStale) {
		return s.Store.Authorization(ctx, auth.OrgID, auth.ID)
	}
	if err != nil {
		return auth, fmt.Errorf("save the authorization: %w", err)
	}
	grant, err := s.Microsoft.PollDevice(ctx, auth.TenantID, d.DeviceCode)
	switch p := backup.AsProblem(err); {
	case err == nil:
		holdRoleToken(&auth, grant)
		d.AuthorizedAt = time.Now()
	case p.Kind == backup.ProblemDevicePending:
		d.Interval += p.RetryAfter
		if p.RetryAfter == 0 {
			return auth, nil
		}
	case p.Temporary:
		s.logProblem(r, p)
		d.Interval += p.RetryAfter
		return auth, nil // the next question may get an answer
	default:
		s.logProblem(r, p)
		auth.Problem = *p
		d.DeviceCode = nil
	}
	err = s.Store.SaveAuthorization(ctx, &auth)
	if errors.Is(err, backup.ErrStale) {
		return s.Store.Authorization(ctx, auth.OrgID, auth.ID)
	}
	if err != nil {
		return auth, fmt.Errorf("save the authorization: %w", err)
	}
	return auth, nil
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

// verify goes on once the code was entered, and says so if it was not.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) error {
	auth, ok, err := s.step(w, r, backup.StepDeviceAuthorization)
	if !ok {
		return err
	}
	if auth.Device.Session == actor(r).Session {
		if auth, err = s.askDevice(r, auth); err != nil {
			return err
		}
	}
	if len(auth.RoleToken) > 0 {
		return s.verifyRole(w, r, auth)
	}
	return s.saveProblem(w, r, auth, notAuthorizedYet(auth, actor(r).Session, time.Now()))
}

// notAuthorizedYet says why step 2 is not done.
func notAuthorizedYet(auth backup.Authorization, session backup.SessionID, now time.Time) *backup.Problem {
	p := &backup.Problem{Kind: backup.ProblemDevicePending, At: now, Temporary: true}
	switch {
	case !auth.Problem.IsZero() && auth.Problem.Kind != backup.ProblemDevicePending:
		return &auth.Problem
	case auth.Device.UserCode == "":
		p.Text = "Nobody has authorized this step yet. Get a code and enter it at Microsoft's page, or select Authorize in this browser."
	case !now.Before(auth.Device.ExpiresAt):
		p.Kind, p.Temporary = backup.ProblemDeviceExpired, false
		p.Text = "The code has expired. Get a new one; each is good for 15 minutes."
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
	if errors.Is(err, backup.ErrStale) {
		return s.redirect(w, r, "/setup", movedOn(auth, actor(r)))
	}
	if err != nil {
		return fmt.Errorf("begin to verify the custom role: %w", err)
	}
	return s.redirect(w, r, "/setup", "")
}
