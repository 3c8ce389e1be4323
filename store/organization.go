package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

const organizationColumns = `o.id, o.partner_id, o.name, o.manual_role, o.require_factor, o.forbid_acting, o.acting_asked, o.suspended_at, o.deleting_at, o.created_at`

func organizationFields(o *backup.Organization, suspended, deleting, created *int64) []any {
	return []any{&o.ID, &o.PartnerID, &o.Name, &o.ManualRole, &o.RequireFactor, &o.ForbidActing, &o.ActingAsked, suspended, deleting, created}
}

func scanOrganization(row scanner) (backup.Organization, error) {
	var o backup.Organization
	var suspended, deleting, created int64
	err := row.Scan(organizationFields(&o, &suspended, &deleting, &created)...)
	o.SuspendedAt, o.DeletingAt, o.CreatedAt = moment(suspended), moment(deleting), moment(created)
	return o, err
}

// CreateOrganization makes an organization of o.PartnerID and returns it with
// its identifier. It returns backup.FieldErrors if the name breaks a rule or
// is taken.
func (s *Store) CreateOrganization(ctx context.Context, o backup.Organization, by backup.Actor) (backup.Organization, error) {
	o.Name = strings.TrimSpace(clean(o.Name))
	if err := o.Validate(); err != nil {
		return o, err
	}
	if o.ID == "" {
		o.ID = backup.NewID[backup.OrgID]()
	}
	o.CreatedAt = time.Now()
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO organizations (id, partner_id, name, name_folded, manual_role, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			o.ID, o.PartnerID, o.Name, strings.ToLower(o.Name), o.ManualRole, millis(o.CreatedAt))
		if constraintOf(err) == constraintUnique {
			return backup.FieldErrors{"name": "There is already an organization with this name. Choose another one."}
		}
		if err != nil {
			return fmt.Errorf("create organization: %w", conflict(err))
		}
		return s.record(ctx, tx, by, o.ID, "organization.create", o.Name, "")
	})
	return o, err
}

// Organization returns an organization of a partner.
func (s *Store) Organization(ctx context.Context, partner backup.PartnerID, id backup.OrgID) (backup.Organization, error) {
	return one(ctx, s.read, scanOrganization, `SELECT `+organizationColumns+` FROM organizations o WHERE o.partner_id = $1 AND o.id = $2`, partner, id)
}

// OrganizationByID returns an organization whoever its partner is; for jobs
// and operators' tools.
func (s *Store) OrganizationByID(ctx context.Context, id backup.OrgID) (backup.Organization, error) {
	return one(ctx, s.read, scanOrganization, `SELECT `+organizationColumns+` FROM organizations o WHERE o.id = $1`, id)
}

// AllOrganizations returns every organization that is not being deleted; for jobs
// and operators' tools.
func (s *Store) AllOrganizations(ctx context.Context) ([]backup.Organization, error) {
	return collect(ctx, s.read, scanOrganization, `SELECT `+organizationColumns+` FROM organizations o WHERE o.deleting_at = 0 ORDER BY o.name_folded, o.id`)
}

// RenameOrganization saves a new name.
func (s *Store) RenameOrganization(ctx context.Context, id backup.OrgID, name string, by backup.Actor) error {
	name = strings.TrimSpace(clean(name))
	if err := (backup.Organization{Name: name}).Validate(); err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		old, err := one(ctx, tx, scanValue[string], `SELECT name FROM organizations WHERE id = $1`, id)
		if err != nil {
			return err
		}
		err = execOne(ctx, tx, `UPDATE organizations SET name = $1, name_folded = $2 WHERE id = $3`, name, strings.ToLower(name), id)
		if constraintOf(err) == constraintUnique {
			return backup.FieldErrors{"name": "There is already an organization with this name. Choose another one."}
		}
		if err != nil {
			return fmt.Errorf("rename organization: %w", err)
		}
		return s.record(ctx, tx, by, id, "organization.rename", name, fromTo(old, name))
	})
}

// SetManualRole switches the SPA toggle of an organization.
func (s *Store) SetManualRole(ctx context.Context, partner backup.PartnerID, id backup.OrgID, manual bool, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		was, err := one(ctx, tx, scanValue[bool], `SELECT manual_role FROM organizations WHERE partner_id = $1 AND id = $2`, partner, id)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE organizations SET manual_role = $1 WHERE partner_id = $2 AND id = $3`, manual, partner, id); err != nil {
			return fmt.Errorf("set manual role: %w", err)
		}
		words := map[bool]string{true: "manual", false: "automated"}
		return s.record(ctx, tx, by, id, "organization.manual_role", "Custom role creation", fromTo(words[was], words[manual]))
	})
}

// SetSuspended stops an organization's backups and keeps its people out, or lets
// both go on. Everything is kept. It returns backup.FieldErrors naming reason
// without one.
func (s *Store) SetSuspended(ctx context.Context, partner backup.PartnerID, id backup.OrgID, suspended bool, reason string, by backup.Actor) error {
	if err := (backup.Acting{Reason: reason}).Validate(); suspended && err != nil {
		return backup.FieldErrors{"reason": "Say why. The organization's admins can read it when it is resumed."}
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		kind, at := "organization.resume", int64(0)
		if suspended {
			kind, at = "organization.suspend", millis(time.Now())
		}
		name, err := one(ctx, tx, scanValue[string], `SELECT name FROM organizations WHERE partner_id = $1 AND id = $2 AND (suspended_at = 0) = $3 AND deleting_at = 0`, partner, id, suspended)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE organizations SET suspended_at = $1 WHERE partner_id = $2 AND id = $3`, at, partner, id); err != nil {
			return fmt.Errorf("suspend or resume: %w", err)
		}
		return s.record(ctx, tx, by, id, kind, name, reason)
	})
}

// Organizations returns a partner's organizations with their health, in order
// of their names.
func (s *Store) Organizations(ctx context.Context, partner backup.PartnerID) ([]backup.OrganizationHealth, error) {
	list, err := collect(ctx, s.read, func(row scanner) (backup.OrganizationHealth, error) {
		h := backup.OrganizationHealth{Counts: backup.StatusCounts{}}
		var suspended, deleting, created, last int64
		err := row.Scan(append(organizationFields(&h.Organization, &suspended, &deleting, &created), &h.TenantDomain, &last)...)
		h.SuspendedAt, h.DeletingAt, h.CreatedAt, h.LastRunAt = moment(suspended), moment(deleting), moment(created), moment(last)
		return h, err
	}, `
		SELECT `+organizationColumns+`,
			coalesce((SELECT min(c.tenant_domain) FROM connections c WHERE c.org_id = o.id), ''),
			coalesce((SELECT max(m.last_run_at) FROM mailboxes m WHERE m.org_id = o.id AND m.selected = TRUE), 0)
		FROM organizations o WHERE o.partner_id = $1 ORDER BY o.name_folded, o.id`, partner)
	if err != nil {
		return nil, fmt.Errorf("list organizations: %w", err)
	}
	at := make(map[backup.OrgID]backup.StatusCounts, len(list))
	for _, h := range list {
		at[h.ID] = h.Counts
	}
	type count struct {
		org    backup.OrgID
		status backup.Status
		n      int
	}
	counts, err := collect(ctx, s.read, func(row scanner) (count, error) {
		var c count
		err := row.Scan(&c.org, &c.status, &c.n)
		return c, err
	}, `
		SELECT org_id, status, count(*) FROM mailboxes
		WHERE org_id IN (SELECT id FROM organizations WHERE partner_id = $1) AND selected = TRUE GROUP BY org_id, status`, partner)
	if err != nil {
		return nil, fmt.Errorf("count mailboxes: %w", err)
	}
	for _, c := range counts {
		at[c.org][c.status] = c.n
	}
	return list, nil
}
