package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
)

// fillOrganizations makes organizations with a connection and mailboxes each,
// all statuses among them.
func fillOrganizations(t testing.TB, s *Store, organizations, mailboxes int) (backup.PartnerID, []backup.OrgID) {
	t.Helper()
	ctx := t.Context()
	by, err := s.SetUpPartner(ctx, "Northwind", backup.Person{Name: "Dana", Email: "dana@northwind.example"})
	if err != nil {
		t.Fatal(err)
	}
	var orgs []backup.OrgID
	for i := range organizations {
		o, err := s.CreateOrganization(ctx, backup.Organization{PartnerID: by.Partner.ID, Name: fmt.Sprintf("Organization %d", i)}, by)
		if err != nil {
			t.Fatal(err)
		}
		orgs = append(orgs, o.ID)
		c := backup.Connection{ID: backup.NewID[backup.ConnectionID](), OrgID: o.ID, Provider: backup.ProviderMicrosoft365, TenantID: fmt.Sprint("tenant-", i), TenantDomain: fmt.Sprintf("o%d.example", i), CreatedAt: time.Now(), ReadyAt: time.Now()}
		if err := s.SaveConnection(ctx, c, by); err != nil {
			t.Fatal(err)
		}
		accounts := make([]backup.Mailbox, mailboxes)
		for j := range accounts {
			accounts[j] = backup.Mailbox{ProviderID: fmt.Sprint(j), Name: fmt.Sprintf("Person %05d", (j*7919)%100000), Address: fmt.Sprintf("p%d@o%d.example", j, i), Licence: backup.LicenceValid}
		}
		if err := s.UpsertMailboxes(ctx, o.ID, c.ID, accounts); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.db.ExecContext(ctx, `UPDATE mailboxes SET selected = TRUE, items = length(name) + CAST(provider_id AS INTEGER), next_run_at = $1, last_run_at = $1 + CAST(provider_id AS INTEGER),
		status = CASE CAST(provider_id AS INTEGER) % 20 WHEN 0 THEN 'failing' WHEN 1 THEN 'pending' ELSE 'protected' END`, millis(time.Now())); err != nil {
		t.Fatal(err)
	}
	return by.Partner.ID, orgs
}

// TestMailboxQueriesUseIndexes reads SQLite's plans of the dashboard: every
// page comes out of an index in its order, whatever the filter, and no plan
// looks at another organization's rows.
func TestMailboxQueriesUseIndexes(t *testing.T) {
	s := openCatalog(t)
	_, orgs := fillOrganizations(t, s, 2, 300)
	check := func(name, query string, args ...any) {
		t.Helper()
		plan := explain(t, s, query, args...)
		for _, line := range plan {
			if strings.HasPrefix(line, "SCAN mailboxes") || strings.HasPrefix(line, "SCAN m") || strings.Contains(line, "TEMP B-TREE") {
				t.Errorf("%s: %s", name, line)
			}
		}
		if !strings.Contains(plan[0], "org_id=?") || !strings.Contains(plan[0], "selected=?") {
			t.Errorf("%s: %q does not begin with the organization", name, plan[0])
		}
	}
	for _, sort := range []string{"name", "status", "last", "items", "size"} {
		for _, desc := range []bool{false, true} {
			for _, search := range []string{"", "Person 0"} {
				q := MailboxQuery{Sort: sort, Desc: desc, Search: search}
				query, args := q.sql(orgs[0])
				check(fmt.Sprintf("page %+v", q), query, args...)
			}
		}
	}
	for _, status := range backup.Statuses {
		q := MailboxQuery{Status: status}
		query, args := q.sql(orgs[0])
		check("page of "+string(status), query, args...)
		where, args := q.where(orgs[0])
		check("count of "+string(status), `SELECT count(*) FROM mailboxes WHERE `+where, args...)
	}
	where, args := MailboxQuery{Search: "x"}.where(orgs[0])
	check("count of a search", `SELECT count(*) FROM mailboxes WHERE `+where, args...)
	check("counts", `SELECT status, count(*) FROM mailboxes WHERE org_id = $1 AND selected = TRUE GROUP BY status`, orgs[0])
}

// TestOtherListsUseIndexes reads the plans of the remaining lists that grow.
func TestOtherListsUseIndexes(t *testing.T) {
	s := openCatalog(t)
	fillOrganizations(t, s, 2, 10)
	for name, query := range map[string]string{
		"closed":    closedSQL,
		"upcoming":  `SELECT id FROM mailboxes WHERE org_id = $1 AND selected = TRUE AND next_run_at > 0 ORDER BY next_run_at, id LIMIT 10`,
		"activity":  `SELECT id FROM activity WHERE chain = $1 AND seq <= 10 ORDER BY seq DESC LIMIT 10`,
		"runs":      `SELECT r.id FROM runs r JOIN mailboxes m ON m.id = r.mailbox_id WHERE r.org_id = $1 ORDER BY r.started_at DESC, r.id DESC LIMIT 10`,
		"open runs": `SELECT r.id FROM runs r WHERE r.state = 'running' AND r.beat_at < $1`,
		"health":    `SELECT org_id, status, count(*) FROM mailboxes WHERE org_id IN (SELECT id FROM organizations WHERE partner_id = $1) AND selected = TRUE GROUP BY org_id, status`,
		"session":   `SELECT id FROM web_sessions s WHERE s.secret_hash = $1 AND s.expires_at > 1`,
		"failures":  `SELECT count(*) FROM sign_in_failures WHERE key = $1 AND at > 1`,
		"last run":  `SELECT max(m.last_run_at) FROM mailboxes m WHERE m.org_id = $1 AND m.selected = TRUE`,
	} {
		plan := explain(t, s, query, "x")
		for _, line := range plan {
			if strings.HasPrefix(line, "SCAN") || strings.Contains(line, "TEMP B-TREE") {
				t.Errorf("%s: %s", name, strings.Join(plan, "; "))
			}
		}
	}
}

// TestWhoIsHeldBackCostsNothing reads the plan of the due mailboxes: it begins
// with the organizations, and goes into an index with each that may run.
func TestWhoIsHeldBackCostsNothing(t *testing.T) {
	s := openCatalog(t)
	fillOrganizations(t, s, 2, 10)
	plan := explain(t, s, dueSQL, 1, 10)
	text := strings.Join(plan, "; ")
	organizations := slices.IndexFunc(plan, func(line string) bool { return strings.HasPrefix(line, "SEARCH o USING INDEX organizations_closes") })
	mailboxes := slices.IndexFunc(plan, func(line string) bool {
		return strings.HasPrefix(line, "SEARCH m USING INDEX mailboxes_next (org_id=? AND next_run_at>? AND next_run_at<?)")
	})
	if organizations < 0 || mailboxes < organizations || strings.Contains(text, "SCAN m") || strings.Contains(text, "mailboxes_due") || !strings.Contains(text, "mailboxes_asked") {
		t.Errorf("the plan is %s", text)
	}
}

// BenchmarkMailboxes reads dashboards of 10,000 mailboxes.
func BenchmarkMailboxes(b *testing.B) {
	s := openCatalog(b)
	_, orgs := fillOrganizations(b, s, 2, 10_000)
	for name, q := range map[string]MailboxQuery{"first page": {}, "by items": {Sort: "items", Desc: true}, "failing": {Status: backup.StatusFailing}, "search": {Search: "0123"}, "no match": {Search: "nobody"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Mailboxes(b.Context(), orgs[0], q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOrganizations reads the partner's list of 500 organizations.
func BenchmarkOrganizations(b *testing.B) {
	s := openCatalog(b)
	partner, _ := fillOrganizations(b, s, 500, 40)
	for b.Loop() {
		list, err := s.Organizations(b.Context(), partner)
		if err != nil || len(list) != 500 || list[0].Counts.Total() != 40 {
			b.Fatal(len(list), err)
		}
	}
}
