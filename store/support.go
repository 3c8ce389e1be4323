package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast/backup"
)

// supportRow is one trouble of one organization.
type supportRow struct {
	area        backup.SupportArea
	org         backup.SupportOrganization
	problem     backup.Problem
	since, next time.Time
}

// SupportCauses returns what keeps backups, roles and connections of a partner's
// organizations from working, the same cause once, the widest first.
func (s *Store) SupportCauses(ctx context.Context, partner backup.PartnerID) ([]backup.SupportCause, error) {
	var rows []supportRow
	for _, q := range []struct {
		area backup.SupportArea
		sql  string
	}{
		{backup.SupportBackup, `SELECT o.id, o.name, m.problem, m.status_since, m.next_run_at FROM organizations o
			JOIN mailboxes m ON m.org_id = o.id AND m.selected = TRUE AND m.status = 'failing' WHERE o.partner_id = $1`},
		{backup.SupportConnection, `SELECT o.id, o.name, c.problem, 0, 0 FROM organizations o
			JOIN connections c ON c.org_id = o.id AND c.problem <> '' WHERE o.partner_id = $1`},
		{backup.SupportRole, `SELECT o.id, o.name, r.problem, CASE WHEN r.state = 'pending' THEN r.pending_since ELSE r.checked_at END, r.next_try_at FROM organizations o
			JOIN custom_roles r ON r.org_id = o.id AND r.state <> 'connected' WHERE o.partner_id = $1`},
		{backup.SupportStorage, `SELECT o.id, o.name, u.problem, u.ended_at, u.next_at FROM organizations o
			JOIN upkeep u ON u.org_id = o.id AND u.state = 'failed' AND u.problem <> '' WHERE o.partner_id = $1`},
		{backup.SupportStorage, `SELECT o.id, o.name, '', min(d.found_at), 0 FROM organizations o
			JOIN damages d ON d.org_id = o.id AND d.mended_at = 0 WHERE o.partner_id = $1 GROUP BY o.id, o.name`},
	} {
		list, err := collect(ctx, s.read, func(row scanner) (supportRow, error) {
			r := supportRow{area: q.area}
			var problem string
			var since, next int64
			err := row.Scan(&r.org.ID, &r.org.Name, &problem, &since, &next)
			r.problem, r.since, r.next = problemOf(problem), moment(since), moment(next)
			if q.area == backup.SupportStorage && problem == "" {
				r.problem = backup.Problem{Kind: backup.ProblemDamaged, Text: backup.ProblemDamage}
			}
			if r.since.IsZero() {
				r.since = r.problem.At
			}
			return r, err
		}, q.sql, partner)
		if err != nil {
			return nil, fmt.Errorf("read what is wrong with %s: %w", q.area, err)
		}
		rows = append(rows, list...)
	}
	applications, err := s.applicationTroubles(ctx, partner)
	if err != nil {
		return nil, err
	}
	return groupSupport(append(rows, applications...)), nil
}

// applicationTroubles are those of the applications in the tenants of a
// partner's organizations: of the sub-applications, and of the main one.
func (s *Store) applicationTroubles(ctx context.Context, partner backup.PartnerID) ([]supportRow, error) {
	list, err := collect(ctx, s.read, func(row scanner) (backup.SupportOrganization, error) {
		var o backup.SupportOrganization
		return o, row.Scan(&o.ID, &o.Name)
	}, `SELECT id, name FROM organizations WHERE partner_id = $1`, partner)
	if err != nil {
		return nil, fmt.Errorf("read organizations: %w", err)
	}
	organizations := make(map[backup.OrgID]backup.SupportOrganization, len(list))
	for _, o := range list {
		organizations[o.ID] = o
	}
	apps, err := collect(ctx, s.read, s.scanSubApplication, `SELECT `+subApplicationColumns+` FROM sub_applications
		WHERE org_id IN (SELECT id FROM organizations WHERE partner_id = $1) AND (state = 'broken' OR state = 'ready' AND (problem <> '' OR roll_error <> ''))
		AND EXISTS (SELECT 1 FROM connections c WHERE c.id = connection_id AND c.ready_at > 0)`, partner)
	if err != nil {
		return nil, fmt.Errorf("read what is wrong with sub-applications: %w", err)
	}
	checks, err := collect(ctx, s.read, scanPermissionCheck, `SELECT `+permissionCheckColumns+` FROM permission_checks
		WHERE org_id IN (SELECT id FROM organizations WHERE partner_id = $1)`, partner)
	if err != nil {
		return nil, fmt.Errorf("read what is wrong with the main application: %w", err)
	}
	var rows []supportRow
	add := func(org backup.OrgID, p backup.Problem) {
		if !p.IsZero() {
			rows = append(rows, supportRow{area: backup.SupportConnection, org: organizations[org], problem: p, since: p.At})
		}
	}
	for _, app := range apps {
		add(app.OrgID, app.Trouble(time.Now()))
	}
	for _, c := range checks {
		add(c.OrgID, c.MainTrouble())
	}
	return rows, nil
}

// groupSupport makes one of the rows with the same area and cause.
func groupSupport(rows []supportRow) []backup.SupportCause {
	type key struct {
		area  backup.SupportArea
		cause string
	}
	at := map[key]int{}
	var causes []backup.SupportCause
	for _, r := range rows {
		k := key{r.area, r.problem.Cause()}
		i, ok := at[k]
		if !ok {
			i = len(causes)
			at[k] = i
			causes = append(causes, backup.SupportCause{Area: r.area, Problem: r.problem, Since: r.since})
		}
		c := &causes[i]
		j := slices.IndexFunc(c.Organizations, func(o backup.SupportOrganization) bool { return o.ID == r.org.ID })
		if j < 0 {
			j = len(c.Organizations)
			c.Organizations = append(c.Organizations, r.org)
		}
		if r.area == backup.SupportBackup {
			c.Organizations[j].Mailboxes++
			c.Mailboxes++
		}
		if r.since.Before(c.Since) {
			c.Since = r.since
		}
		if !r.next.IsZero() && (c.NextAt.IsZero() || r.next.Before(c.NextAt)) {
			c.NextAt = r.next
		}
	}
	for _, c := range causes {
		slices.SortFunc(c.Organizations, func(a, b backup.SupportOrganization) int { return cmp.Compare(a.Name, b.Name) })
	}
	slices.SortStableFunc(causes, func(a, b backup.SupportCause) int {
		return cmp.Or(cmp.Compare(len(b.Organizations), len(a.Organizations)), cmp.Compare(b.Mailboxes, a.Mailboxes), a.Since.Compare(b.Since))
	})
	return causes
}
