package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// DropJobs takes what waits for an organization out of the queue, but for its
// deletion, and returns how many jobs of it, or of the kinds that work for all
// organizations, are under way.
func (s *Store) DropJobs(ctx context.Context, org backup.OrgID) (running int, err error) {
	own := backup.DeleteOrganizationJob{}.Kind()
	if _, err := s.db.ExecContext(ctx, `DELETE FROM river_job WHERE state IN ('available', 'pending', 'retryable', 'scheduled') AND args ->> 'org_id' = $1 AND kind <> $2`, org, own); err != nil {
		return 0, fmt.Errorf("take jobs out of the queue: %w", err)
	}
	if running, err = one(ctx, s.db, scanValue[int], `SELECT count(*) FROM river_job WHERE state = 'running' AND kind <> $2
		AND (args ->> 'org_id' = $1 OR kind IN ('collect', 'extend_locks'))`, org, own); err != nil {
		return 0, fmt.Errorf("count jobs under way: %w", err)
	}
	return running, nil
}

// CopyIsRunning says whether the repository is being copied elsewhere.
func (s *Store) CopyIsRunning(ctx context.Context) (bool, error) {
	n, err := one(ctx, s.db, scanValue[int], `SELECT count(*) FROM river_job WHERE state = 'running' AND kind = $1`, backup.ReplicateJob{}.Kind())
	return n > 0, err
}

// DestroyKeys destroys all keys of an organization that is being deleted.
func (s *Store) DestroyKeys(ctx context.Context, org backup.OrgID) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.lockKeys(ctx, tx, string(org)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM repository_keys WHERE org_id = $1 AND EXISTS (SELECT 1 FROM deletions WHERE org_id = $1)`, org); err != nil {
			return fmt.Errorf("destroy the keys: %w", err)
		}
		return nil
	})
}

// forgottenPacks is how many packs are forgotten between two questions.
const forgottenPacks = 1000

// ForgetCatalog removes all of an organization that is being deleted from the
// catalog, a part at a time.
func (s *Store) ForgetCatalog(ctx context.Context, org backup.OrgID) error {
	boxes, err := collect(ctx, s.read, scanValue[backup.MailboxID], `SELECT mailbox_id FROM catalog_sources WHERE org_id = $1`, org)
	if err != nil {
		return fmt.Errorf("list mailboxes of the catalog: %w", err)
	}
	for _, id := range boxes {
		if err := s.ForgetMailbox(ctx, org, id); err != nil {
			return err
		}
	}
	for {
		ids, err := collect(ctx, s.db, scanValue[[]byte], `SELECT pack_id FROM catalog_packs WHERE org_id = $1 ORDER BY pack_id LIMIT $2`, org, forgottenPacks)
		if err != nil {
			return fmt.Errorf("list packs of the catalog: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		packs := make([]repo.PackID, len(ids))
		for i, id := range ids {
			packs[i] = repo.PackID(id)
		}
		if err := s.ForgetPacks(ctx, org, packs); err != nil {
			return err
		}
	}
}

// organizationRows remove the rows of an organization, those before others that
// refer to them; $1 is its id. Those of deletions stay.
var organizationRows = []string{
	`DELETE FROM restore_notes WHERE org_id = $1`, `DELETE FROM restores WHERE org_id = $1`, `DELETE FROM restore_grants WHERE org_id = $1`,
	`DELETE FROM exports WHERE org_id = $1`, `DELETE FROM damages WHERE org_id = $1`, `DELETE FROM pack_checks WHERE org_id = $1`, `DELETE FROM upkeep WHERE org_id = $1`,
	`DELETE FROM runs WHERE org_id = $1`, `DELETE FROM day_figures WHERE org_id = $1`, `DELETE FROM imap_accounts WHERE org_id = $1`, `DELETE FROM imap_servers WHERE org_id = $1`,
	`DELETE FROM mailbox_retention WHERE org_id = $1`, `DELETE FROM mailboxes WHERE org_id = $1`, `DELETE FROM permission_checks WHERE org_id = $1`, `DELETE FROM custom_roles WHERE org_id = $1`,
	`DELETE FROM sub_applications WHERE org_id = $1`, `DELETE FROM authorizations WHERE org_id = $1`, `DELETE FROM connections WHERE org_id = $1`,
	`DELETE FROM notification_recipients WHERE notification_id IN (SELECT id FROM notifications WHERE org_id = $1)`, `DELETE FROM notifications WHERE org_id = $1`,
	`DELETE FROM notification_switches WHERE org_id = $1`, `DELETE FROM retention WHERE org_id = $1`, `DELETE FROM protections WHERE org_id = $1`, `DELETE FROM schedules WHERE org_id = $1`,
	`UPDATE web_sessions SET acting_id = '' WHERE acting_id IN (SELECT id FROM actings WHERE org_id = $1)`,
	`DELETE FROM actings WHERE org_id = $1`, `DELETE FROM acting_requests WHERE org_id = $1`,
	`DELETE FROM identities WHERE provider_id IN (SELECT id FROM sign_in_providers WHERE org_id = $1)`, `DELETE FROM sign_in_providers WHERE org_id = $1`,
	`DELETE FROM repository_keys WHERE org_id = $1`, `DELETE FROM erased_sources WHERE org_id = $1`, `DELETE FROM repository_heads WHERE org_id = $1`, `DELETE FROM erasures WHERE org_id = $1`, `DELETE FROM catalog_packs WHERE org_id = $1`, `DELETE FROM catalog_sources WHERE org_id = $1`,
	`DELETE FROM activity WHERE org_id = $1 AND chain = 'org/' || $1`, `DELETE FROM activity_heads WHERE chain = 'org/' || $1`,
}

// ForgetOrganization removes what the portal knows of an organization that is
// being deleted, and with it the people who belong nowhere else. What remains is
// the deletion, which it saves, and the partner's activity. If the deletion has gone
// on without the caller, it is backup.ErrConflict.
func (s *Store) ForgetOrganization(ctx context.Context, d backup.Deletion) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `UPDATE organizations SET deleting_at = deleting_at WHERE id = $1 AND deleting_at > 0`, d.OrgID); errors.Is(err, backup.ErrNotFound) {
			return s.saveEnd(ctx, tx, d) // a crash came between the end and its word
		} else if err != nil {
			return err
		}
		head, err := one(ctx, tx, scanHead, `SELECT seq, hash, sealed FROM activity_heads WHERE chain = $1`, chainOf("", d.OrgID))
		if err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("read the end of its activity: %w", err)
		}
		if err := forgetPeople(ctx, tx, d.OrgID); err != nil {
			return err
		}
		for _, query := range append(organizationRows, `DELETE FROM organizations WHERE id = $1`) {
			if _, err := tx.ExecContext(ctx, query, d.OrgID); err != nil {
				return fmt.Errorf("forget the organization (%s): %w", query, err)
			}
		}
		entry := backup.Entry{PartnerID: d.PartnerID, Kind: "organization.delete", Subject: d.Name, Person: d.By,
			Detail: fmt.Sprintf("%s; its activity had %d entries, the last of which has the hash %x", d.Summary(), head.seq, head.hash)}
		if err := s.append(ctx, tx, entry); err != nil {
			return err
		}
		return s.saveEnd(ctx, tx, d)
	})
}

func (s *Store) saveEnd(ctx context.Context, tx *sql.Tx, d backup.Deletion) error {
	now, was := time.Now(), d
	next := backup.DeletionDone
	if d.Retained > 0 {
		next = backup.DeletionRetained
	}
	d.Move(next, now)
	d.EndedAt, d.NextTryAt = now, time.Time{}
	if d.Retained > 0 {
		d.NextTryAt = d.Unlocks(now)
	}
	return saveDeletion(ctx, tx, d, was)
}

// forgetPeople removes the memberships of an organization, and the people who
// then belong nowhere.
func forgetPeople(ctx context.Context, tx *sql.Tx, org backup.OrgID) error {
	people, err := collect(ctx, tx, scanValue[backup.PersonID], `SELECT person_id FROM memberships m WHERE org_id = $1
		AND NOT EXISTS (SELECT 1 FROM memberships other WHERE other.person_id = m.person_id AND (other.org_id IS NULL OR other.org_id <> $1))`, org)
	if err != nil {
		return fmt.Errorf("list the organization's people: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM memberships WHERE org_id = $1`, org); err != nil {
		return fmt.Errorf("remove memberships: %w", err)
	}
	for _, id := range people {
		for _, table := range []string{"web_sessions", "set_up_links", "passkeys", "recovery_codes", "identities"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE person_id = $1`, id); err != nil { //nolint:gosec // a fixed list of tables
				return fmt.Errorf("remove a person's %s: %w", table, err)
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM people WHERE id = $1`, id); err != nil {
			return fmt.Errorf("remove a person: %w", err)
		}
	}
	return nil
}
