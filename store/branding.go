package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

// Branding returns how the partner's portal presents itself; the zero one if
// nobody has chosen.
func (s *Store) Branding(ctx context.Context) (backup.Branding, error) {
	b, err := one(ctx, s.read, func(row scanner) (backup.Branding, error) {
		var b backup.Branding
		err := row.Scan(&b.Name, &b.Color, &b.Logo, &b.Version)
		return b, err
	}, `SELECT name, color, logo, version FROM branding ORDER BY partner_id LIMIT 1`)
	if errors.Is(err, backup.ErrNotFound) {
		return b, nil
	}
	return b, err
}

// SaveBranding sets how the portal of by's partner presents itself. A logo of
// nil keeps the one that is there; one of no bytes removes it. It returns
// backup.FieldErrors if b breaks a rule.
func (s *Store) SaveBranding(ctx context.Context, b backup.Branding, by backup.Actor) error {
	b.Name, b.Color = strings.TrimSpace(clean(b.Name)), strings.ToLower(strings.TrimSpace(b.Color))
	if err := b.Validate(); err != nil {
		return err
	}
	was, err := s.Branding(ctx)
	if err != nil {
		return fmt.Errorf("read the branding before: %w", err)
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `
			INSERT INTO branding (partner_id, name, color, version) VALUES ($1, $2, $3, $4)
			ON CONFLICT (partner_id) DO UPDATE SET name = excluded.name, color = excluded.color, version = excluded.version`,
			by.Partner.ID, b.Name, b.Color, millis(time.Now())); err != nil {
			return fmt.Errorf("save branding: %w", err)
		}
		if b.Logo != nil {
			var logo []byte
			if len(b.Logo) > 0 {
				logo = b.Logo
			}
			if err := execOne(ctx, tx, `UPDATE branding SET logo = $1 WHERE partner_id = $2`, logo, by.Partner.ID); err != nil {
				return fmt.Errorf("save logo: %w", err)
			}
		}
		return s.record(ctx, tx, by, "", "branding.save", b.Name, brandingChange(was, b))
	})
}

// brandingChange is what an entry says of a change.
func brandingChange(was, is backup.Branding) string {
	logo := "kept"
	if is.Logo != nil {
		logo = "removed"
		if len(is.Logo) > 0 {
			logo = "replaced"
		}
	}
	return "name " + fromTo(was.Name, is.Name) + "; colour " + fromTo(was.Color, is.Color) + "; logo " + logo
}

// OrganizationSize is what one organization has in the repository.
type OrganizationSize struct {
	ID        backup.OrgID
	Name      string
	Mailboxes int
	Items     int64
	SizeBytes int64 // as the provider counts it
	Stored    int64 // written to the repository by the runs that are kept
}

// OrganizationSizes returns what a partner's organizations have backed up, the
// largest first.
func (s *Store) OrganizationSizes(ctx context.Context, partner backup.PartnerID) ([]OrganizationSize, error) {
	return collect(ctx, s.read, func(row scanner) (OrganizationSize, error) {
		var o OrganizationSize
		err := row.Scan(&o.ID, &o.Name, &o.Mailboxes, &o.Items, &o.SizeBytes, &o.Stored)
		return o, err
	}, `SELECT o.id, o.name, count(m.id), coalesce(sum(m.items), 0), coalesce(sum(m.size_bytes), 0),
			coalesce((SELECT sum(r.stored_bytes) FROM runs r WHERE r.org_id = o.id), 0)
		FROM organizations o LEFT JOIN mailboxes m ON m.org_id = o.id AND m.selected = TRUE
		WHERE o.partner_id = $1 GROUP BY o.id, o.name ORDER BY 5 DESC, o.name`, partner)
}
