package handlers

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"golang.org/x/oauth2"

	"holdfast/backup"
	"holdfast/backup/m365"
)

// signInLife is how long a person may take at Microsoft's pages.
const signInLife = time.Hour

// thenAbandon ends the state of a sign-in whose person wants to give the
// authorization up afterwards.
const thenAbandon = ".abandon"

// startSignIn leaves for Microsoft's sign-in and consent.
func (s *Server) startSignIn(w http.ResponseWriter, r *http.Request) error {
	// Signing in again is always allowed: it only renews the administrator's token.
	auth, ok, err := s.step(w, r, backup.StepConsent, backup.StepFailed, backup.StepCreateApplications, backup.StepRemoveApplications,
		backup.StepCreateAdministrator, backup.StepRemoveAdministrator,
		backup.StepDeviceAuthorization, backup.StepVerify, backup.StepChooseAccounts)
	if !ok {
		return err
	}
	return s.leave(w, r, auth, auth.ConsentPurpose(), r.PostFormValue("then"))
}

// startBrowser leaves for Microsoft to get the token for the cmdlets in this browser.
func (s *Server) startBrowser(w http.ResponseWriter, r *http.Request) error {
	auth, ok, err := s.step(w, r, backup.StepDeviceAuthorization)
	if !ok {
		return err
	}
	return s.leave(w, r, auth, backup.SignInRole, "")
}

// leave binds a fresh sign-in to this session and sends the browser to Microsoft.
func (s *Server) leave(w http.ResponseWriter, r *http.Request, auth backup.Authorization, purpose backup.SignInPurpose, then string) error {
	state := rand.Text()
	if then == "abandon" {
		state += thenAbandon
	}
	attempt := backup.SignInAttempt{
		Purpose: purpose, Session: actor(r).Session, State: state, At: time.Now(),
		Nonce: backup.Secret(rand.Text()), Verifier: backup.Secret(oauth2.GenerateVerifier()),
	}
	auth, err := s.change(r, auth, func(a *backup.Authorization) { a.SignIn = attempt })
	if err != nil {
		return s.moved(w, r, auth, err, "/setup", "")
	}
	hint := ""
	if purpose == backup.SignInRole || auth.TenantID != "" {
		hint = auth.AdminUPN
	}
	http.Redirect(w, r, s.Microsoft.SignInURL(signIn(auth, hint)), http.StatusSeeOther) //nolint:gosec // the address of Microsoft is configured, not asked for
	return nil
}

// signIn is the attempt under way as the client wants it.
func signIn(auth backup.Authorization, hint string) m365.SignIn {
	return m365.SignIn{
		Tenant: auth.TenantID, Purpose: auth.SignIn.Purpose, State: auth.SignIn.State,
		Nonce: auth.SignIn.Nonce.Reveal(), Verifier: auth.SignIn.Verifier.Reveal(), LoginHint: hint,
	}
}

// finishSignIn is where Microsoft sends the browser back to. The state must be
// one that this session left with, and it is good once.
func (s *Server) finishSignIn(w http.ResponseWriter, r *http.Request) error {
	q, a := r.URL.Query(), actor(r)
	auth, err := s.Store.ActiveAuthorization(r.Context(), a.Org.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return s.refuse(w, r, "/add-backup", "This authorization was completed or given up in the meantime.")
	}
	if err != nil {
		return fmt.Errorf("read the authorization: %w", err)
	}
	attempt := auth.SignIn
	if attempt.State == "" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(attempt.State)) != 1 ||
		attempt.Session != a.Session || time.Since(attempt.At) > signInLife {
		return s.refuse(w, r, "/setup", "That sign-in was not started in this browser, or it was started again since. Nothing was changed. Start it from this page.")
	}
	then := "/setup"
	if strings.HasSuffix(attempt.State, thenAbandon) {
		then = "/setup/abandon"
	}
	given := signIn(auth, "")
	auth.SignIn = backup.SignInAttempt{}
	if p := m365.CallbackProblem(q); p != nil {
		return s.saveProblem(w, r, auth, p)
	}
	grant, err := s.Microsoft.Redeem(r.Context(), q.Get("code"), given)
	if err != nil {
		return s.saveProblem(w, r, auth, err)
	}
	if given.Purpose == backup.SignInRole {
		if auth.Step != backup.StepDeviceAuthorization {
			return s.refuse(w, r, "/setup", movedOn(auth, a))
		}
		if err := s.noteGranted(r, auth, backup.SignInRole, grant); err != nil {
			return err
		}
		holdRoleToken(&auth, grant)
		return s.verifyRole(w, r, auth)
	}
	return s.consented(w, r, auth, grant, then)
}

// consented takes the tenant that a person has consented in, and goes on to
// what the authorization does there.
func (s *Server) consented(w http.ResponseWriter, r *http.Request, auth backup.Authorization, grant m365.Grant, then string) error {
	ctx := r.Context()
	if auth.At() != backup.StepConsent {
		now, err := s.change(r, auth, func(a *backup.Authorization) {
			a.SignIn, a.SetupToken, a.SetupTokenExpiresAt = backup.SignInAttempt{}, grant.AccessToken, grant.ExpiresAt
			holdRestoreToken(a, grant)
		})
		return s.moved(w, r, now, err, then, "Signed in at Microsoft.")
	}
	tenant, err := s.Microsoft.Tenant(ctx, grant.AccessToken)
	if err != nil {
		return s.saveProblem(w, r, auth, err)
	}
	if p := unfit(auth, tenant); p != nil {
		return s.saveProblem(w, r, auth, p)
	}
	before := auth
	conn, err := s.connectionOf(ctx, &auth, grant.TenantID)
	if err != nil {
		return s.saveProblem(w, r, before, err)
	}
	if auth.Purpose == backup.PurposeCleanUp && grant.ObjectID == conn.Administrator.ID {
		return s.saveProblem(w, r, before, &backup.Problem{Kind: backup.ProblemNotAdministrator, At: time.Now(),
			Text: "You signed in as " + grant.UPN + ", the account that is to be deleted. Sign in as another Global Administrator of " + tenant.InitialDomain + "."})
	}
	conn.TenantName, conn.TenantDomain = tenant.Name, tenant.InitialDomain
	apps, err := s.planned(ctx, auth, conn)
	if err != nil {
		return err
	}
	auth.TenantID, auth.TenantName, auth.TenantDomain = grant.TenantID, tenant.Name, tenant.InitialDomain
	auth.AdminID, auth.AdminUPN = grant.ObjectID, grant.UPN
	auth.SetupToken, auth.SetupTokenExpiresAt = grant.AccessToken, grant.ExpiresAt
	holdRestoreToken(&auth, grant)
	auth.Step, auth.FailedFrom, auth.Problem = auth.Next(backup.StepConsent), "", backup.Problem{}
	auth.MovedBy = actor(r).Person.Name
	if auth.Step == backup.StepDone {
		err = s.Store.CompleteAuthorization(ctx, &auth, backup.ListAccountsJob{OrgID: auth.OrgID, ConnectionID: auth.ConnectionID})
		if err == nil {
			err = s.noteGranted(r, auth, auth.ConsentPurpose(), grant)
		}
		return s.moved(w, r, before, err, "/settings/credentials", "Thank you. The consent is in place again.")
	}
	var jobs []river.JobArgs
	if job := auth.StepJob(); job != nil {
		jobs = append(jobs, job)
	}
	err = s.Store.ConsentGranted(ctx, &auth, conn, apps, actor(r), jobs...)
	if errors.Is(err, backup.ErrConflict) {
		return s.tenantTaken(w, r, before, conn)
	}
	if err == nil {
		err = s.noteGranted(r, auth, auth.ConsentPurpose(), grant)
	}
	return s.moved(w, r, before, err, "/setup", "")
}

// holdRestoreToken keeps, for a restore, what the application is removed with
// once the restores are through.
func holdRestoreToken(auth *backup.Authorization, grant m365.Grant) {
	if auth.Purpose == backup.PurposeRestore {
		auth.RoleRefreshToken, auth.RoleTokenExpiresAt = grant.RefreshToken, grant.ExpiresAt
	}
}

// unfit says why a tenant can't be backed up as auth wants it, or nil.
func unfit(auth backup.Authorization, tenant m365.TenantInfo) *backup.Problem {
	makes := auth.Purpose == backup.PurposeConnect || auth.Purpose == backup.PurposeMigrate
	if tenant.HasExchange || !makes || auth.Method != backup.MethodServicePrincipal {
		return nil
	}
	return &backup.Problem{Kind: backup.ProblemNoExchange, At: time.Now(),
		Text: fmt.Sprintf("%s has no Exchange Online licence, so there is no mail to back up with least privilege permissions. Assign a plan with Exchange Online to at least one account and try again. "+
			"An organization that backs up only SharePoint and Groups needs the backup administrator method.", tenant.Name)}
}

// connectionOf returns the connection that auth changes, or the new one that it
// makes. A sign-in to another tenant than the connection's is a Problem.
func (s *Server) connectionOf(ctx context.Context, auth *backup.Authorization, tenantID string) (backup.Connection, error) {
	if auth.ConnectionID == "" {
		auth.ConnectionID = backup.NewID[backup.ConnectionID]()
	}
	conn, err := s.Store.Connection(ctx, auth.OrgID, auth.ConnectionID)
	switch {
	case errors.Is(err, backup.ErrNotFound):
		return backup.Connection{ID: auth.ConnectionID, OrgID: auth.OrgID, Provider: auth.Provider, Method: auth.Method, Workloads: auth.Workloads,
			TenantID: tenantID, CreatedAt: time.Now()}, nil
	case err != nil:
		return conn, fmt.Errorf("read connection %s: %w", auth.ConnectionID, err)
	case conn.TenantID != tenantID:
		return conn, &backup.Problem{Kind: backup.ProblemWrongTenant, At: time.Now(),
			Text: fmt.Sprintf("You signed in to another tenant. Sign in with an administrator of %s.", conn.TenantDomain)}
	}
	return conn, nil
}

// tenantTaken says that the tenant is in use, without telling by whom.
func (s *Server) tenantTaken(w http.ResponseWriter, r *http.Request, auth backup.Authorization, conn backup.Connection) error {
	text := fmt.Sprintf("The tenant %s is already backed up by another organization, so it cannot be added here. Sign in with an account of another tenant, or ask your provider.", conn.TenantDomain)
	own, err := s.Store.Connections(r.Context(), auth.OrgID)
	if err != nil {
		return fmt.Errorf("read connections: %w", err)
	}
	for _, c := range own {
		if c.TenantID == conn.TenantID {
			text = fmt.Sprintf("The tenant %s is already connected to this organization. Sign in with an account of another tenant; if you just gave an authorization up, wait a minute until it is removed.", conn.TenantDomain)
		}
	}
	return s.saveProblem(w, r, auth, &backup.Problem{Kind: backup.ProblemTenantTaken, Text: text, At: time.Now()})
}

// planned returns the sub-applications that auth has to make and that are not
// known yet, and those that it has to repair, so that the job finds what to do.
func (s *Server) planned(ctx context.Context, auth backup.Authorization, conn backup.Connection) ([]backup.SubApplication, error) {
	if !slices.Contains(auth.Steps(), backup.StepCreateApplications) {
		return nil, nil
	}
	there, err := s.Store.SubApplications(ctx, conn.OrgID, conn.ID)
	if err != nil {
		return nil, fmt.Errorf("read sub-applications: %w", err)
	}
	made := map[backup.Workload]bool{}
	var missing []backup.SubApplication
	for _, a := range there {
		made[a.Workload] = true
		whole := a.State == backup.ApplicationReady || a.State == backup.ApplicationRemoved
		if (auth.Purpose == backup.PurposeRepair || auth.Purpose == backup.PurposeRestore) && whole && slices.Contains(auth.Workloads, a.Workload) {
			a.State = backup.ApplicationBroken
			missing = append(missing, a)
		}
	}
	for _, workload := range auth.Workloads {
		if !made[workload] {
			missing = append(missing, backup.SubApplication{
				ID: backup.NewID[backup.SubApplicationID](), OrgID: conn.OrgID, ConnectionID: conn.ID, Workload: workload,
				DisplayName: applicationNames[workload], State: backup.ApplicationPlanned, UpdatedAt: time.Now(),
			})
		}
	}
	return missing, nil
}

// applicationNames are what the tenant's administrators see in Entra.
var applicationNames = map[backup.Workload]string{
	backup.WorkloadMail:     "Holdfast Backup Mail",
	backup.WorkloadExchange: "Holdfast Backup Exchange",
	backup.WorkloadRestore:  "Holdfast Restore Mail",
}
