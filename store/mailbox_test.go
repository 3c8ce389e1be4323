package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

// names lists the names of a page.
func names(t *testing.T, st *store.Store, org backup.OrgID, q store.MailboxQuery) (list []string, total int) {
	t.Helper()
	page, err := st.Mailboxes(t.Context(), org, q)
	if err != nil {
		t.Fatalf("Mailboxes(%+v) = %v", q, err)
	}
	for _, m := range page.Mailboxes {
		list = append(list, m.Name)
	}
	return list, page.Total
}

func named(id, name, address string) backup.Mailbox {
	return backup.Mailbox{ProviderID: id, Name: name, Address: address, Kind: backup.KindUser, Licence: backup.LicenceValid, Enabled: true}
}

func TestMailboxesAreFilteredSearchedSortedAndPaged(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		storetest.Connect(t, st, w.Otto, "tenant-2", named("x", "Ärzte", "x@fabrikam.example"))
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", named("a", "Ärzte Süd", "praxis@contoso.example"), named("b", "bob", "BOB_1@contoso.example"),
			named("c", "Carol 100%", "carol@contoso.example"), named("d", `back\slash`, "d@contoso.example"), named("e", "Bobby", "bobX1@contoso.example"))
		if err := st.SetMailboxDeactivated(ctx, w.Contoso.ID, boxes["c"].ID, true, w.Ada); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name  string
			q     store.MailboxQuery
			want  []string
			total int
		}{
			{"all", store.MailboxQuery{}, []string{`back\slash`, "bob", "Bobby", "Carol 100%", "Ärzte Süd"}, 5},
			{"folded", store.MailboxQuery{Search: " ÄRZTE sÜD "}, []string{"Ärzte Süd"}, 1},
			{"by address", store.MailboxQuery{Search: "PRAXIS@"}, []string{"Ärzte Süd"}, 1},
			{"underscore is a letter", store.MailboxQuery{Search: "bob_1"}, []string{"bob"}, 1},
			{"percent is a letter", store.MailboxQuery{Search: "0%"}, []string{"Carol 100%"}, 1},
			{"backslash is a letter", store.MailboxQuery{Search: `k\s`}, []string{`back\slash`}, 1},
			{"nothing", store.MailboxQuery{Search: "' OR 1=1 --"}, nil, 0},
			{"status", store.MailboxQuery{Status: backup.StatusDeactivated}, []string{"Carol 100%"}, 1},
			{"status and search", store.MailboxQuery{Status: backup.StatusPending, Search: "carol"}, nil, 0},
			{"first page", store.MailboxQuery{PageSize: 2, Page: 1}, []string{`back\slash`, "bob"}, 5},
			{"last page", store.MailboxQuery{PageSize: 2, Page: 3}, []string{"Ärzte Süd"}, 5},
			{"beyond", store.MailboxQuery{PageSize: 2, Page: 4}, nil, 5},
			{"descending", store.MailboxQuery{Desc: true, PageSize: 1}, []string{"Ärzte Süd"}, 5},
			{"by status", store.MailboxQuery{Sort: "status", PageSize: 1}, []string{"Carol 100%"}, 5},
			{"unknown order", store.MailboxQuery{Sort: "id; DROP TABLE mailboxes", PageSize: 1}, []string{`back\slash`}, 5},
			{"another connection", store.MailboxQuery{Connection: "other"}, nil, 0},
		} {
			got, total := names(t, st, w.Contoso.ID, tt.q)
			if !slices.Equal(got, tt.want) || total != tt.total {
				t.Errorf("%s: %q of %d, want %q of %d", tt.name, got, total, tt.want, tt.total)
			}
		}
		counts, err := st.MailboxCounts(ctx, w.Contoso.ID)
		if err != nil || counts[backup.StatusPending] != 4 || counts[backup.StatusDeactivated] != 1 || counts.Total() != 5 {
			t.Errorf("MailboxCounts = %v, %v", counts, err)
		}
		health, err := st.Organizations(ctx, w.Owner.Partner.ID)
		if err != nil || len(health) != 2 || health[0].Name != "Contoso" || health[0].TenantDomain != "tenant-1.example" || health[0].Counts.Total() != 5 || health[1].Counts.Total() != 1 {
			t.Errorf("Organizations = %+v, %v", health, err)
		}
	})
}

// TestAccountsFollowTheProvider lists accounts again and again.
func TestAccountsFollowTheProvider(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		conn, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"), storetest.Account("b"), storetest.Account("c"))
		org := w.Contoso.ID
		list := func(accounts ...backup.Mailbox) {
			t.Helper()
			if err := st.UpsertMailboxes(ctx, org, conn.ID, accounts); err != nil {
				t.Fatal(err)
			}
		}
		get := func(id string) backup.Mailbox {
			t.Helper()
			m, err := st.Mailbox(ctx, org, boxes[id].ID)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		if err := st.SetMailboxDeactivated(ctx, org, boxes["c"].ID, true, w.Ada); err != nil {
			t.Fatal(err)
		}
		a, b, c := storetest.Account("a"), storetest.Account("b"), storetest.Account("c")
		a.Name, a.Licence, a.Kind = "Renamed", backup.LicenceNone, backup.KindUnknown
		list(a, c, storetest.Account("new"))
		if m := get("a"); m.Name != "Renamed" || m.Kind != backup.KindUser || m.Status != backup.StatusInactive || !m.NextRunAt.IsZero() || !m.Selected {
			t.Errorf("without a licence: %+v", m)
		}
		if m := get("b"); m.Status != backup.StatusDeactivated || m.Deactivated != backup.DeactivatedDeleted || !m.NextRunAt.IsZero() {
			t.Errorf("deleted at the provider: %+v", m)
		}
		if m := get("c"); m.Deactivated != backup.DeactivatedManual || m.DeactivatedBy != "Ada Lovelace" || !m.NextRunAt.IsZero() {
			t.Errorf("deactivated by a person: %+v", m)
		}
		if err := st.BackUpNow(ctx, org, boxes["a"].ID, w.Ada); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("BackUpNow without a licence = %v, want ErrConflict", err)
		}
		if _, total := names(t, st, org, store.MailboxQuery{AllAccounts: true}); total != 4 {
			t.Errorf("%d accounts, want 4", total)
		}
		a.Licence = backup.LicenceValid
		list(a, b, c)
		for _, id := range []string{"a", "b"} {
			if m := get(id); m.Status != backup.StatusPending || m.NextRunAt.IsZero() || m.Deactivated != backup.NotDeactivated {
				t.Errorf("%s is back: %+v", id, m)
			}
		}
		if m := get("c"); m.Deactivated != backup.DeactivatedManual {
			t.Errorf("a listing undid a person's deactivation: %+v", m)
		}
		if _, total := names(t, st, org, store.MailboxQuery{AllAccounts: true}); total != 3 {
			t.Errorf("%d accounts, want the one that was never chosen forgotten", total)
		}
		list()
		if m := get("c"); m.Deactivated != backup.DeactivatedManual {
			t.Errorf("gone and deactivated by a person: %+v", m)
		}
	})
}

func TestWhatIsNotChosenIsNotBackedUp(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		conn, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		if err := st.UpsertMailboxes(ctx, w.Contoso.ID, conn.ID, []backup.Mailbox{storetest.Account("a"), storetest.Account("b")}); err != nil {
			t.Fatal(err)
		}
		page, err := st.Mailboxes(ctx, w.Contoso.ID, store.MailboxQuery{AllAccounts: true, Search: "b@"})
		if err != nil || len(page.Mailboxes) != 1 {
			t.Fatalf("Mailboxes = %+v, %v", page, err)
		}
		other := page.Mailboxes[0].ID
		jobs := waiting(t, st, "backup_mailbox")
		if err := st.BackUpNow(ctx, w.Contoso.ID, other, w.Ada); !isNotFound(err) {
			t.Errorf("BackUpNow = %v, want ErrNotFound", err)
		}
		if err := st.SetMailboxDeactivated(ctx, w.Contoso.ID, other, false, w.Ada); !isNotFound(err) {
			t.Errorf("SetMailboxDeactivated = %v, want ErrNotFound", err)
		}
		due, err := st.DueMailboxes(ctx, time.Now().Add(time.Hour), 10)
		if err != nil || len(due) != 1 || due[0].ID != boxes["a"].ID {
			t.Errorf("due = %v, %v, want the chosen one", due, err)
		}
		if n := waiting(t, st, "backup_mailbox"); n != jobs {
			t.Errorf("%d jobs more", n-jobs)
		}
	})
}

func TestSelectingTakesEachAccountOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		a := begin(t, st, w.Ada)
		a.ConnectionID, a.Step, a.SetupToken = "CONN", backup.StepChooseAccounts, backup.Secret("token")
		if err := st.ConsentGranted(ctx, &a, backup.Connection{ID: "CONN", OrgID: a.OrgID, Provider: a.Provider, TenantID: "t", CreatedAt: time.Now()}, nil, w.Ada); err != nil {
			t.Fatal(err)
		}
		noMailbox := storetest.Account("n")
		noMailbox.Licence = backup.LicenceNone
		if err := st.UpsertMailboxes(ctx, a.OrgID, "CONN", []backup.Mailbox{storetest.Account("a"), storetest.Account("b"), noMailbox}); err != nil {
			t.Fatal(err)
		}
		page, err := st.Mailboxes(ctx, a.OrgID, store.MailboxQuery{AllAccounts: true})
		if err != nil {
			t.Fatal(err)
		}
		id := map[string]backup.MailboxID{}
		for _, m := range page.Mailboxes {
			id[m.ProviderID] = m.ID
		}
		for name, ids := range map[string][]backup.MailboxID{"none": nil, "unknown": {"x"}, "without a mailbox": {id["n"]}} {
			if fields, ok := errors.AsType[backup.FieldErrors](st.SelectMailboxes(ctx, &a, ids, w.Ada)); !ok || fields["account"] == "" {
				t.Errorf("selecting %s = %v, want FieldErrors", name, fields)
			}
		}
		if err := st.SelectMailboxes(ctx, &a, []backup.MailboxID{id["a"], id["n"], id["a"], "x"}, w.Ada); err != nil {
			t.Fatal(err)
		}
		if n := waiting(t, st, "backup_mailbox"); n != 1 || a.Step != backup.StepDone || len(a.SetupToken) != 0 {
			t.Errorf("%d jobs, step %s, token %q", n, a.Step, a.SetupToken.Reveal())
		}
		if c, err := st.Connection(ctx, a.OrgID, "CONN"); err != nil || c.ReadyAt.IsZero() {
			t.Errorf("connection = %+v, %v", c, err)
		}
		if counts, err := st.MailboxCounts(ctx, a.OrgID); err != nil || counts[backup.StatusPending] != 1 || counts[backup.StatusInactive] != 1 {
			t.Errorf("counts = %v, %v", counts, err)
		}
	})
}

// TestDueMailboxesTakeTurns gives one organization many due mailboxes and
// another one few.
func TestDueMailboxesTakeTurns(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		accounts := make([]backup.Mailbox, 50)
		for i := range accounts {
			accounts[i] = storetest.Account(fmt.Sprintf("m%02d", i))
		}
		storetest.Connect(t, st, w.Ada, "tenant-1", accounts...)
		storetest.Connect(t, st, w.Otto, "tenant-2", accounts[:2]...)
		due, err := st.DueMailboxes(ctx, time.Now().Add(time.Minute), 6)
		if err != nil || len(due) != 6 {
			t.Fatalf("%d due, %v, want 6", len(due), err)
		}
		of := map[backup.OrgID]int{}
		for _, m := range due[:4] {
			of[m.OrgID]++
		}
		if of[w.Contoso.ID] != 2 || of[w.Fabrikam.ID] != 2 {
			t.Errorf("the first four are %v, want two of each", of)
		}
		run := backup.Run{ID: "RUN", OrgID: due[0].OrgID, MailboxID: due[0].ID, State: backup.RunRunning, StartedAt: time.Now(), BeatAt: time.Now()}
		if err := st.StartRun(ctx, run); err != nil {
			t.Fatal(err)
		}
		all, err := st.DueMailboxes(ctx, time.Now().Add(time.Minute), 1000)
		if err != nil || len(all) != 51 {
			t.Errorf("%d due while one runs, %v, want 51", len(all), err)
		}
		if early, err := st.DueMailboxes(ctx, time.Now().Add(-time.Hour), 1000); err != nil || len(early) != 0 {
			t.Errorf("%d due an hour ago, %v", len(early), err)
		}
	})
}
