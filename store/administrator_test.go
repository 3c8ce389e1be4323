package store_test

import (
	"bytes"
	"errors"
	"testing"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestTheAdministratorsPasswordIsSealedAndTakenOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := storetest.Fill(t, st)
		c, _ := storetest.Connect(t, st, w.Ada, "11111111-0000-0000-0000-000000000001", storetest.Account("p1"))
		admin := backup.Administrator{ID: "u1", UPN: "backupadmin@x.example", Password: backup.Secret("very-secret-word")}
		if err := st.SetAdministrator(t.Context(), w.Contoso.ID, c.ID, admin); err != nil {
			t.Fatal(err)
		}
		if err := st.SetAdministrator(t.Context(), w.Fabrikam.ID, c.ID, admin); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("another organization's connection: %v", err)
		}
		got, err := st.Connection(t.Context(), w.Contoso.ID, c.ID)
		if err != nil || got.Administrator.UPN != admin.UPN || got.Administrator.ID != "u1" || len(got.Administrator.Password) > 0 {
			t.Errorf("connection has %+v: %v", got.Administrator, err)
		}
		if _, err := st.TakeAdministratorPassword(t.Context(), w.Fabrikam.ID, c.ID, w.Otto); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("another organization takes it: %v", err)
		}
		word, err := st.TakeAdministratorPassword(t.Context(), w.Contoso.ID, c.ID, w.Ada)
		if err != nil || !bytes.Equal(word, admin.Password) {
			t.Errorf("taken: %v", err)
		}
		if _, err := st.TakeAdministratorPassword(t.Context(), w.Contoso.ID, c.ID, w.Ada); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("taken twice: %v", err)
		}
		log, _, err := st.Activity(t.Context(), w.Owner.Partner.ID, w.Contoso.ID, store.ActivityQuery{Page: 1, Size: 5})
		if err != nil || len(log) == 0 || log[0].Kind != "administrator.show" || log[0].Subject != admin.UPN {
			t.Errorf("activity: %+v, %v", log, err)
		}
	})
}

func TestRevertAndCompleteAnAuthorization(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		w := storetest.Fill(t, st)
		c, _ := storetest.Connect(t, st, w.Ada, "11111111-0000-0000-0000-000000000001", storetest.Account("p1"))
		if err := st.RevertConnection(t.Context(), w.Fabrikam.ID, c.ID, "x", w.Owner); !errors.Is(err, backup.ErrNotFound) {
			t.Errorf("another organization's connection: %v", err)
		}
		if err := st.RevertConnection(t.Context(), w.Contoso.ID, c.ID, "Exchange refuses the role", w.Owner); err != nil {
			t.Fatal(err)
		}
		if err := st.RevertConnection(t.Context(), w.Contoso.ID, c.ID, "again", w.Owner); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("reverted twice: %v", err)
		}
		got, err := st.Connection(t.Context(), w.Contoso.ID, c.ID)
		if err != nil || !got.Legacy() || got.ByMainApplication() || got.RevertedAt.IsZero() {
			t.Errorf("after the revert: %+v, %v", got, err)
		}
		log, _, err := st.Activity(t.Context(), w.Owner.Partner.ID, w.Contoso.ID, store.ActivityQuery{Page: 1, Size: 5})
		if err != nil || len(log) == 0 || log[0].Kind != "connection.revert" || log[0].Detail != "Exchange refuses the role" {
			t.Errorf("activity: %+v, %v", log, err)
		}
		// What works by sub-applications is not forgotten with a migration.
		app := backup.SubApplication{ID: "a1", OrgID: w.Contoso.ID, ConnectionID: c.ID, Workload: backup.WorkloadMail, State: backup.ApplicationRemoved}
		if err := st.SaveSubApplication(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		if err := st.ForgetMigration(t.Context(), w.Contoso.ID, c.ID); err != nil {
			t.Fatal(err)
		}
		if apps, err := st.SubApplications(t.Context(), w.Contoso.ID, c.ID); err != nil || len(apps) != 1 {
			t.Errorf("%d applications: %v", len(apps), err)
		}
		auth, err := st.StartAuthorization(t.Context(), backup.Authorization{OrgID: w.Contoso.ID, ConnectionID: c.ID, Provider: c.Provider, Purpose: backup.PurposeRepair,
			Method: backup.MethodBackupAdministrator, Workloads: backup.LegacyWorkloads(), Step: backup.StepCreateAdministrator}, w.Ada)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.CompleteAuthorization(t.Context(), &auth); err != nil {
			t.Fatal(err)
		}
		if got, err = st.Connection(t.Context(), w.Contoso.ID, c.ID); err != nil || !got.ByMainApplication() || len(got.Workloads) != 1 {
			t.Errorf("after the authorization: %+v, %v", got, err)
		}
		if err := st.ForgetMigration(t.Context(), w.Contoso.ID, c.ID); err != nil {
			t.Fatal(err)
		}
		if apps, err := st.SubApplications(t.Context(), w.Contoso.ID, c.ID); err != nil || len(apps) != 0 {
			t.Errorf("%d applications are left: %v", len(apps), err)
		}
	})
}
