package store_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/riverqueue/river"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// begin starts a wizard of by's organization.
func begin(t *testing.T, st *store.Store, by backup.Actor) backup.Authorization {
	t.Helper()
	a, err := st.StartAuthorization(t.Context(), backup.Authorization{OrgID: by.Org.ID, Provider: backup.ProviderMicrosoft365, Method: backup.MethodServicePrincipal,
		Flow: backup.FlowAutomated, Workloads: []backup.Workload{backup.WorkloadMail, backup.WorkloadExchange}, Step: backup.StepConsent}, by)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// waiting counts the jobs of a kind that are not done.
func waiting(t *testing.T, st *store.Store, kind string) int {
	t.Helper()
	client, err := st.River(&river.Config{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.JobList(t.Context(), river.NewJobListParams().Kinds(kind).First(1000))
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Jobs)
}

func TestTwoBrowsersCannotBothMoveTheWizard(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		a := begin(t, st, w.Ada)
		const browsers = 6
		var wg sync.WaitGroup
		results := make(chan error, browsers)
		for range browsers {
			wg.Go(func() {
				mine := a
				mine.Step = backup.StepCreateApplications
				results <- st.SaveAuthorization(ctx, &mine, backup.CreateApplicationsJob{OrgID: a.OrgID, AuthorizationID: a.ID})
			})
		}
		wg.Wait()
		close(results)
		saved := 0
		for err := range results {
			if err == nil {
				saved++
			} else if !errors.Is(err, backup.ErrStale) {
				t.Errorf("SaveAuthorization = %v, want ErrStale", err)
			}
		}
		got, err := st.Authorization(ctx, a.OrgID, a.ID)
		if err != nil || saved != 1 || got.Version != 2 || got.Step != backup.StepCreateApplications {
			t.Errorf("%d browsers moved it to version %d, step %s, %v; want one", saved, got.Version, got.Step, err)
		}
		if n := waiting(t, st, "create_applications"); n != 1 {
			t.Errorf("%d jobs, want 1", n)
		}
	})
}

func TestAnAuthorizationComesBackAsItWas(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		a := begin(t, st, w.Ada)
		at := time.UnixMilli(time.Now().UnixMilli()).UTC()
		a.Step, a.FailedFrom, a.MovedBy = backup.StepFailed, backup.StepVerify, "Ada Lovelace"
		a.Problem = backup.Problem{Kind: backup.ProblemDeclined, Text: "Declined.", Code: "AADSTS65004", Status: 400, RequestID: "r", Temporary: true, RetryAfter: 1500 * time.Millisecond, At: at}
		a.SignIn = backup.SignInAttempt{Purpose: backup.SignInRole, Session: "S", State: "state", Nonce: backup.Secret("n"), Verifier: backup.Secret("v"), At: at}
		a.TenantID, a.TenantName, a.TenantDomain, a.AdminID, a.AdminUPN, a.RoleAdminUPN = "tid", "Contoso", "contoso.example", "oid", "ada@c", "role@c"
		a.SetupToken, a.SetupTokenExpiresAt, a.RoleToken, a.RoleTokenExpiresAt, a.RoleRefreshToken = backup.Secret("s"), at, backup.Secret("r"), at, backup.Secret("rr")
		a.Device = backup.DeviceAttempt{Session: "S", UserCode: "ABC", DeviceCode: backup.Secret("d"), VerificationURI: "https://x", Interval: 5 * time.Second, ExpiresAt: at, PolledAt: at, AuthorizedAt: at}
		if err := st.SaveAuthorization(ctx, &a); err != nil {
			t.Fatal(err)
		}
		got, err := st.AuthorizationByState(ctx, a.OrgID, "state")
		if err != nil {
			t.Fatal(err)
		}
		a.CreatedAt, a.UpdatedAt, got.CreatedAt, got.UpdatedAt = at, at, at, at
		if !equalJSON(a, got) || got.SignIn.Verifier.Reveal() != "v" || got.Device.UserCode != "ABC" || got.Device.DeviceCode.Reveal() != "d" || got.RoleRefreshToken.Reveal() != "rr" {
			t.Errorf("got  %+v\nwant %+v", got, a)
		}
	})
}

func TestOneWizardPerOrganization(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		a := begin(t, st, w.Ada)
		again, err := st.StartAuthorization(ctx, backup.Authorization{OrgID: w.Contoso.ID, Provider: backup.ProviderMicrosoft365, Step: backup.StepConsent}, w.Ada)
		if !errors.Is(err, backup.ErrConflict) || again.ID != a.ID {
			t.Errorf("a second wizard = %q, %v; want the first with ErrConflict", again.ID, err)
		}
		begin(t, st, w.Otto)
		a.Step = backup.StepAbandoned
		if err := st.SaveAuthorization(ctx, &a); err != nil {
			t.Fatal(err)
		}
		if _, err := st.ActiveAuthorization(ctx, w.Contoso.ID); !isNotFound(err) {
			t.Errorf("ActiveAuthorization = %v, want ErrNotFound", err)
		}
		if b := begin(t, st, w.Ada); b.ID == a.ID {
			t.Error("the abandoned wizard goes on")
		}
	})
}

func TestATenantBelongsToOneOrganization(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		a := begin(t, st, w.Otto)
		_, before, _ := st.Activity(ctx, "", w.Fabrikam.ID, store.ActivityQuery{Page: 1, Size: 1})
		moved := a
		moved.Step, moved.ConnectionID = backup.StepCreateApplications, "CONN"
		conn := backup.Connection{ID: "CONN", OrgID: w.Fabrikam.ID, Provider: backup.ProviderMicrosoft365, TenantID: "tenant-1", CreatedAt: time.Now()}
		apps := []backup.SubApplication{{ID: "APP", OrgID: w.Fabrikam.ID, ConnectionID: "CONN", Workload: backup.WorkloadMail}}
		job := backup.CreateApplicationsJob{OrgID: a.OrgID, AuthorizationID: a.ID}
		if err := st.ConsentGranted(ctx, &moved, conn, apps, w.Otto, job); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("ConsentGranted for a taken tenant = %v, want ErrConflict", err)
		}
		conns, _ := st.Connections(ctx, w.Fabrikam.ID)
		got, _ := st.Authorization(ctx, a.OrgID, a.ID)
		_, after, _ := st.Activity(ctx, "", w.Fabrikam.ID, store.ActivityQuery{Page: 1, Size: 1})
		if len(conns) != 0 || got.Step != backup.StepConsent || after != before || waiting(t, st, "create_applications") != 0 {
			t.Errorf("something was saved: %d connections, step %s, %d entries", len(conns), got.Step, after-before)
		}
		conn.TenantID = "tenant-2"
		if err := st.ConsentGranted(ctx, &moved, conn, apps, w.Otto, job); err != nil {
			t.Fatal(err)
		}
		if list, err := st.SubApplications(ctx, w.Fabrikam.ID, "CONN"); err != nil || len(list) != 1 || waiting(t, st, "create_applications") != 1 {
			t.Errorf("sub-applications = %v, %v", list, err)
		}
		twin := apps[0]
		twin.ID = "TWIN"
		if err := st.SaveSubApplication(ctx, twin); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("a second Mail application = %v, want ErrConflict", err)
		}
		if err := st.DeleteConnection(ctx, w.Fabrikam.ID, "CONN"); err != nil {
			t.Errorf("DeleteConnection = %v", err)
		}
	})
}

func TestACompletedConnectionIsNotDeleted(t *testing.T) {
	st := storetest.Open(t)
	ctx, w := t.Context(), storetest.Fill(t, st)
	conn, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
	if err := st.DeleteConnection(ctx, w.Contoso.ID, conn.ID); !isNotFound(err) {
		t.Errorf("DeleteConnection = %v, want ErrNotFound", err)
	}
	if _, err := st.Mailbox(ctx, w.Contoso.ID, boxes["a"].ID); err != nil {
		t.Errorf("its mailbox is gone: %v", err)
	}
}

// TestTokensMoveAndAreErased follows the administrator's tokens: they are in
// one row only, and nowhere after their life.
func TestTokensMoveAndAreErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, w := t.Context(), storetest.Fill(t, st)
		a := begin(t, st, w.Ada)
		a.ConnectionID = "CONN"
		if err := st.ConsentGranted(ctx, &a, backup.Connection{ID: "CONN", OrgID: a.OrgID, Provider: a.Provider, TenantID: "t", CreatedAt: time.Now()}, nil, w.Ada); err != nil {
			t.Fatal(err)
		}
		a.Step, a.SetupToken, a.SetupTokenExpiresAt = backup.StepDeviceAuthorization, backup.Secret("setup"), time.Now().Add(time.Hour)
		a.Device = backup.DeviceAttempt{UserCode: "CODE", ExpiresAt: time.Now().Add(2 * time.Hour)}
		save := func() {
			t.Helper()
			if err := st.SaveAuthorization(ctx, &a); err != nil {
				t.Fatal(err)
			}
		}
		erase := func() {
			t.Helper()
			if err := st.EraseExpiredTokens(ctx, time.Now()); err != nil {
				t.Fatal(err)
			}
			var err error
			if a, err = st.Authorization(ctx, a.OrgID, a.ID); err != nil {
				t.Fatal(err)
			}
		}
		save()
		time.Sleep(time.Hour + time.Second)
		erase()
		if len(a.SetupToken) != 0 || a.Device.UserCode != "CODE" {
			t.Errorf("after an hour: setup token %q, code %q", a.SetupToken.Reveal(), a.Device.UserCode)
		}
		a.RoleToken, a.RoleRefreshToken, a.RoleTokenExpiresAt = backup.Secret("role"), backup.Secret("refresh"), time.Now().Add(time.Hour)
		save()
		time.Sleep(2 * time.Hour)
		erase()
		if len(a.RoleRefreshToken) == 0 {
			t.Error("the refresh token is gone after two hours")
		}
		role := backup.CustomRole{OrgID: a.OrgID, ConnectionID: a.ConnectionID, State: backup.RolePending, Token: a.RoleToken, RefreshToken: a.RoleRefreshToken, NextTryAt: time.Now()}
		verified := a
		verified.Step, verified.RoleToken, verified.RoleRefreshToken = backup.StepVerify, nil, nil
		stale := verified
		if err := st.BeginVerify(ctx, &verified, &role); err != nil {
			t.Fatal(err)
		}
		if err := st.BeginVerify(ctx, &stale, &role); !errors.Is(err, backup.ErrStale) {
			t.Errorf("a second Verify & Continue = %v, want ErrStale", err)
		}
		due, err := st.DueCustomRoles(ctx, time.Now())
		if err != nil || len(due) != 1 || due[0].RefreshToken.Reveal() != "refresh" || waiting(t, st, "verify_role") != 1 {
			t.Errorf("due roles = %+v, %v", due, err)
		}
		role.State, role.Token, role.RefreshToken, role.NextTryAt = backup.RoleConnected, nil, nil, time.Time{}
		if err := st.SaveCustomRole(ctx, &role); err != nil {
			t.Fatal(err)
		}
		if due, err := st.DueCustomRoles(ctx, time.Now().Add(time.Hour)); err != nil || len(due) != 0 {
			t.Errorf("a connected role is due: %v, %v", due, err)
		}
		if r, err := st.CustomRole(ctx, a.OrgID, a.ConnectionID); err != nil || len(r.Token)+len(r.RefreshToken) != 0 {
			t.Errorf("a connected role keeps a token: %v", err)
		}
	})
}

func TestForgottenRoleTokensAreErased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ctx, w := t.Context(), storetest.Fill(t, st)
		a := begin(t, st, w.Ada)
		a.RoleToken, a.RoleRefreshToken, a.RoleTokenExpiresAt = backup.Secret("role"), backup.Secret("refresh"), time.Now()
		if err := st.SaveAuthorization(ctx, &a); err != nil {
			t.Fatal(err)
		}
		if err := st.EraseExpiredTokens(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got, err := st.Authorization(ctx, a.OrgID, a.ID); err != nil || len(got.RoleRefreshToken) == 0 {
			t.Errorf("the refresh token is gone when the access token ends: %v", err)
		}
		time.Sleep(backup.RoleGiveUp + time.Minute)
		if err := st.EraseExpiredTokens(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got, err := st.Authorization(ctx, a.OrgID, a.ID); err != nil || len(got.RoleToken)+len(got.RoleRefreshToken) > 0 {
			t.Errorf("tokens outlive 72 hours: %v", err)
		}
	})
}

// equalJSON compares what is not secret.
func equalJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
