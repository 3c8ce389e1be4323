package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// subApplication makes one for a connection.
func subApplication(t *testing.T, st *store.Store, conn backup.Connection, w backup.Workload) backup.SubApplication {
	t.Helper()
	app := backup.SubApplication{ID: backup.NewID[backup.SubApplicationID](), OrgID: conn.OrgID, ConnectionID: conn.ID, Workload: w, DisplayName: string(w),
		State: backup.ApplicationReady, ObjectID: "o-" + string(w), AppID: "a-" + string(w), PrivateKey: backup.Secret("key"), NotAfter: time.Now().Add(20 * 24 * time.Hour),
		Next: backup.Credential{Certificate: []byte("next"), PrivateKey: backup.Secret("next key"), NotAfter: time.Now().Add(400 * 24 * time.Hour), KeyID: "k2"}, KeyID: "k1", OldKeyID: "k0", Generation: 3,
		RollAt: time.Now().Add(time.Hour).Truncate(time.Millisecond), RollError: backup.Problem{Kind: backup.ProblemPolicy, Text: "No."}}
	if err := st.SaveSubApplication(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	return app
}

func TestPermissionChecks(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		conn, _ := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("u1"))
		subApplication(t, st, conn, backup.WorkloadMail)
		due := func(at time.Time) int {
			list, err := st.DuePermissionChecks(ctx, at)
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		now := time.Now().Truncate(time.Millisecond)
		if n := due(now); n != 1 {
			t.Errorf("%d checks are due before the first, want 1", n)
		}
		granted := backup.DelegatedCheck{Purpose: backup.SignInConsent, UPN: "admin@x", Scopes: []string{"openid"}, At: now.UTC()}
		for range 2 { // the second sign-in replaces the first
			if err := st.SaveDelegatedCheck(ctx, conn.OrgID, conn.ID, granted); err != nil {
				t.Fatal(err)
			}
		}
		check := backup.PermissionCheck{OrgID: conn.OrgID, ConnectionID: conn.ID, CheckedAt: now, NextAt: now.Add(24 * time.Hour), Told: "drift",
			Applications: []backup.ApplicationCheck{{Workload: backup.WorkloadMail, Read: true, Granted: []backup.GrantedRole{{ResourceID: backup.ResourceGraph, Name: "Mail.Read"}}}}}
		if err := st.SavePermissionCheck(ctx, check); err != nil {
			t.Fatal(err)
		}
		got, err := st.PermissionCheck(ctx, conn.OrgID, conn.ID)
		if err != nil || len(got.Delegated) != 1 || len(got.Applications) != 1 || got.Told != "drift" || !got.CheckedAt.Equal(now) || got.Running() {
			t.Errorf("%v %+v", err, got)
		}
		if due(now) != 0 || due(now.Add(25*time.Hour)) != 1 {
			t.Error("due at the wrong time")
		}
		if err := st.AskPermissionCheck(ctx, conn.OrgID, conn.ID, w.Ada); err != nil {
			t.Fatal(err)
		}
		if got, err = st.PermissionCheck(ctx, conn.OrgID, conn.ID); err != nil || !got.Running() || due(now) != 1 || waiting(t, st, "check_permissions") != 1 {
			t.Errorf("asked for: %v, running %t, %d due", err, got.Running(), due(now))
		}
	})
}

func TestPermissionChecksOfOthers(t *testing.T) {
	st := storetest.Open(t)
	ctx, w := t.Context(), storetest.Fill(t, st)
	conn, _ := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("u1"))
	other := w.Otto.Org.ID
	if err := st.SavePermissionCheck(ctx, backup.PermissionCheck{OrgID: conn.OrgID, ConnectionID: conn.ID, CheckedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.PermissionCheck(ctx, other, conn.ID); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("PermissionCheck = %v, want ErrNotFound", err)
	}
	if list, err := st.PermissionChecks(ctx, other); err != nil || len(list) != 0 {
		t.Errorf("%d checks of another organization, %v", len(list), err)
	}
	if err := st.AskPermissionCheck(ctx, other, conn.ID, w.Otto); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("AskPermissionCheck = %v, want ErrNotFound", err)
	}
	if err := st.SavePermissionCheck(ctx, backup.PermissionCheck{OrgID: other, ConnectionID: conn.ID}); err == nil {
		t.Error("another organization overwrote a check")
	}
	if err := st.SaveDelegatedCheck(ctx, other, conn.ID, backup.DelegatedCheck{}); err == nil {
		t.Error("another organization overwrote what was granted")
	}
	app := subApplication(t, st, conn, backup.WorkloadMail)
	if err := st.SetSubApplicationProblem(ctx, other, app.ID, backup.Problem{Kind: backup.ProblemCredential}); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("SetSubApplicationProblem = %v, want ErrNotFound", err)
	}
}

func TestSubApplicationKeepsBothCertificates(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		conn, _ := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("u1"))
		app := subApplication(t, st, conn, backup.WorkloadMail)
		list, err := st.SubApplications(ctx, conn.OrgID, conn.ID)
		if err != nil || len(list) != 1 {
			t.Fatal(len(list), err)
		}
		got := list[0]
		if got.Next.PrivateKey.Reveal() != "next key" || string(got.Next.Certificate) != "next" || got.Next.KeyID != "k2" || got.KeyID != "k1" || got.OldKeyID != "k0" ||
			got.Generation != 3 || !got.RollAt.Equal(app.RollAt) || got.RollError.Kind != backup.ProblemPolicy {
			t.Errorf("%+v", got)
		}
		ending, err := st.EndingSubApplications(ctx, time.Now())
		if err != nil || len(ending) != 1 {
			t.Errorf("%d certificates are looked at, %v", len(ending), err)
		}
	})
}

func TestCompletingARemovalForgetsTheWorkload(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		conn, _ := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("u1"))
		conn.Workloads = []backup.Workload{backup.WorkloadMail, backup.WorkloadExchange}
		if err := st.SaveConnection(ctx, conn, w.Ada); err != nil {
			t.Fatal(err)
		}
		subApplication(t, st, conn, backup.WorkloadMail)
		app := subApplication(t, st, conn, backup.WorkloadExchange)
		role := backup.CustomRole{OrgID: conn.OrgID, ConnectionID: conn.ID, State: backup.RoleConnected}
		app.State = backup.ApplicationRemoved
		if err := errors.Join(st.SaveSubApplication(ctx, app), st.SaveCustomRole(ctx, &role)); err != nil {
			t.Fatal(err)
		}
		run := func(purpose backup.Purpose) backup.Connection {
			a, err := st.StartAuthorization(ctx, backup.Authorization{OrgID: conn.OrgID, ConnectionID: conn.ID, Provider: conn.Provider, Method: conn.Method, Purpose: purpose,
				Workloads: []backup.Workload{backup.WorkloadExchange}, Step: backup.StepRemoveApplications}, w.Ada)
			if err != nil {
				t.Fatal(err)
			}
			if err := st.CompleteAuthorization(ctx, &a); err != nil {
				t.Fatal(err)
			}
			got, err := st.Connection(ctx, conn.OrgID, conn.ID)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		got := run(backup.PurposeRemove)
		apps, err := st.SubApplications(ctx, conn.OrgID, conn.ID)
		if err != nil || len(apps) != 1 || slices.Contains(got.Workloads, backup.WorkloadExchange) {
			t.Errorf("%d applications, workloads %v, %v", len(apps), got.Workloads, err)
		}
		if _, err := st.CustomRole(ctx, conn.OrgID, conn.ID); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("custom role: %v, want ErrNotFound", err)
		}
		if got = run(backup.PurposeRepair); !slices.Contains(got.Workloads, backup.WorkloadExchange) {
			t.Errorf("switched on again: workloads %v", got.Workloads)
		}
	})
}
