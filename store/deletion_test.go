package store_test

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestOnlyASuspendedOrganizationIsDeleted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx, w := t.Context(), storetest.Fill(t, st)
		partner, org := w.Owner.Partner.ID, w.Contoso.ID
		begin := func(name, reason string) error {
			return st.StartDeletion(ctx, partner, org, backup.DeletionWish{Name: name, Reason: reason}, w.Owner)
		}
		if err := begin("Contoso", "The contract ended"); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("an organization that is not suspended = %v, want ErrConflict", err)
		}
		if err := st.SetSuspended(ctx, partner, org, true, "The contract ended", w.Owner); err != nil {
			t.Fatal(err)
		}
		if err := st.SetLegalHold(ctx, org, "Case 4711", w.Ada); err != nil {
			t.Fatal(err)
		}
		if fields := fieldErrors(begin("contoso", " ")); fields["name"] == "" || fields["reason"] == "" || fields["hold"] == "" {
			t.Errorf("what is wrong = %v", fields)
		}
		if fields := fieldErrors(begin("Contoso", "The contract ended")); fields["hold"] == "" || len(fields) != 1 {
			t.Errorf("under a legal hold = %v", fields)
		}
		if err := st.LiftLegalHold(ctx, org, w.Ada); err != nil {
			t.Fatal(err)
		}
		_, boxes := storetest.Connect(t, st, w.Ada, "tenant-1", storetest.Account("a"))
		if err := st.SetMailboxHold(ctx, org, boxes["a"].ID, "Case 4712", w.Ada); err != nil {
			t.Fatal(err)
		}
		if fields := fieldErrors(begin("Contoso", "The contract ended")); fields["hold"] == "" {
			t.Errorf("under a hold of a mailbox = %v", fields)
		}
		if err := st.LiftMailboxHold(ctx, org, boxes["a"].ID, w.Ada); err != nil {
			t.Fatal(err)
		}
		if err := st.StartDeletion(ctx, "another partner", org, backup.DeletionWish{Name: "Contoso", Reason: "The contract ended"}, w.Owner); !isNotFound(err) {
			t.Errorf("another partner's = %v, want ErrNotFound", err)
		}
		if err := begin("Contoso", "The contract ended"); err != nil {
			t.Fatal(err)
		}
		if err := begin("Contoso", "The contract ended"); !errors.Is(err, backup.ErrConflict) {
			t.Errorf("a second time = %v, want ErrConflict", err)
		}
		if err := st.SetSuspended(ctx, partner, org, false, "", w.Owner); !isNotFound(err) {
			t.Errorf("resume while it is deleted = %v, want ErrNotFound", err)
		}
		if _, err := st.TenantKey(ctx, string(org), 0); err == nil {
			t.Error("an organization that is being deleted got a new key")
		}
		for _, partner := range []backup.PartnerID{partner, "another partner"} {
			d, err := st.Deletion(ctx, partner, org)
			if want := partner == w.Owner.Partner.ID; want != (err == nil) || (want && (d.Mailboxes != 1 || d.Step != backup.DeletionStop)) {
				t.Errorf("deletion as %s sees it = %+v, %v", partner, d, err)
			}
		}
		if due, err := st.DueDeletions(ctx, time.Now()); err != nil || len(due) != 1 {
			t.Errorf("%d deletions are due, %v", len(due), err)
		}
	})
}

// TestNothingOfAnOrganizationIsLeft forgets one and looks into every table.
func TestNothingOfAnOrganizationIsLeft(t *testing.T) {
	storetest.EachRaw(t, func(t *testing.T, st *store.Store, raw *sql.DB) {
		v := fillTheirs(t, st)
		ctx, org := t.Context(), v.w.Contoso
		tables := tablesOf(t, raw)
		if len(tables) < 20 {
			t.Fatalf("%d tables have rows of organizations, want more", len(tables))
		}
		if err := st.PauseBackups(ctx, org.ID, "The contract ended", v.w.Ada); err != nil {
			t.Fatal(err)
		}
		if err := st.SetSuspended(ctx, org.PartnerID, org.ID, true, "The contract ended", v.w.Owner); err != nil {
			t.Fatal(err)
		}
		if err := st.StartDeletion(ctx, org.PartnerID, org.ID, backup.DeletionWish{Name: org.Name, Reason: "The contract ended"}, v.w.Owner); err != nil {
			t.Fatal(err)
		}
		d, err := st.DeletionByID(ctx, org.ID)
		if err != nil {
			t.Fatal(err)
		}
		d.Left = []backup.Remnant{{Place: "contoso.example", What: "an application", How: "Delete it."}}
		for _, want := range []error{nil, backup.ErrConflict} { // the second by a worker that slept meanwhile
			if err := st.ForgetCatalog(ctx, org.ID); err != nil {
				t.Fatal(err)
			}
			if err := st.ForgetOrganization(ctx, d); !errors.Is(err, want) {
				t.Fatalf("ForgetOrganization = %v, want %v", err, want)
			}
		}
		for _, err := range []error{st.SaveDeletion(ctx, d), st.MoveDeletion(ctx, d, backup.DeletionTenant)} {
			if !errors.Is(err, backup.ErrConflict) {
				t.Errorf("who slept writes how far the deletion is: %v, want ErrConflict", err)
			}
		}
		for _, table := range tables {
			var n int
			if err := raw.QueryRowContext(ctx, `SELECT count(*) FROM `+table+` WHERE org_id = $1`, org.ID).Scan(&n); err != nil || n != 0 {
				t.Errorf("%s has %d rows of it, %v", table, n, err)
			}
		}
		if _, err := st.Organization(ctx, org.PartnerID, org.ID); !isNotFound(err) {
			t.Errorf("the organization = %v, want ErrNotFound", err)
		}
		if _, err := st.PersonByEmail(ctx, v.w.Ada.Person.Email); !isNotFound(err) {
			t.Errorf("its admin = %v, want ErrNotFound", err)
		}
		if _, err := st.PersonByEmail(ctx, v.w.Otto.Person.Email); err != nil {
			t.Errorf("another organization's admin = %v", err)
		}
		log, _, err := st.Activity(ctx, org.PartnerID, "", store.ActivityQuery{Kind: "organization.delete", Page: 1, Size: 5})
		if err != nil || len(log) != 1 || log[0].Subject != org.Name || !strings.Contains(log[0].Detail, "The contract ended") || !strings.Contains(log[0].Detail, "an application") {
			t.Errorf("the partner's activity has %+v, %v", log, err)
		}
		list, err := st.UnsettledDeletions(ctx, org.PartnerID)
		if err != nil || len(list) != 1 || list[0].EndedAt.IsZero() {
			t.Errorf("deletions = %+v, %v", list, err)
		}
		if err := st.SettleDeletion(ctx, "another partner", org.ID, v.w.Owner); !isNotFound(err) {
			t.Errorf("another partner settles it: %v", err)
		}
		if err := st.SettleDeletion(ctx, org.PartnerID, org.ID, v.w.Owner); err != nil {
			t.Fatal(err)
		}
		if list, err = st.UnsettledDeletions(ctx, org.PartnerID); err != nil || len(list) != 0 {
			t.Errorf("deletions = %+v, %v, want none", list, err)
		}
	})
}

// tablesOf are the tables with rows of organizations, but for what outlives them.
func tablesOf(t *testing.T, raw *sql.DB) []string {
	t.Helper()
	query := `SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'org_id'`
	if _, err := raw.ExecContext(t.Context(), `SELECT 1 FROM sqlite_master`); err != nil {
		query = `SELECT table_name FROM information_schema.columns WHERE column_name = 'org_id' AND table_schema = current_schema()`
	}
	rows, err := raw.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		if name != "deletions" {
			tables = append(tables, name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return tables
}
