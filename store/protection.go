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

// protectionRule is a rule with the time from which on accounts are new to it.
type protectionRule struct {
	backup.Protection
	since int64
}

func protection(ctx context.Context, q querier, org backup.OrgID) (protectionRule, error) {
	rule, err := one(ctx, q, func(row scanner) (r protectionRule, err error) {
		return r, row.Scan(&r.Protection, &r.since)
	}, `SELECT rule, since FROM protections WHERE org_id = $1`, org)
	if errors.Is(err, backup.ErrNotFound) {
		return protectionRule{}, nil
	}
	if err != nil {
		return rule, fmt.Errorf("read protection: %w", err)
	}
	return rule, nil
}

// Protection returns which new accounts of an organization are backed up without
// anybody choosing them.
func (s *Store) Protection(ctx context.Context, org backup.OrgID) (backup.Protection, error) {
	rule, err := protection(ctx, s.read, org)
	return rule.Protection, err
}

// SaveProtection sets which accounts are backed up that appear from now on. It
// returns backup.FieldErrors if p is no rule.
func (s *Store) SaveProtection(ctx context.Context, org backup.OrgID, p backup.Protection, by backup.Actor) error {
	if err := p.Validate(); err != nil {
		return err
	}
	return s.inTx(ctx, func(tx *sql.Tx) error {
		was, err := protection(ctx, tx, org)
		if err != nil || was.Protection == p {
			return err
		}
		if err := execOne(ctx, tx, `INSERT INTO protections (org_id, rule, since) SELECT id, $2, $3 FROM organizations WHERE id = $1
			ON CONFLICT (org_id) DO UPDATE SET rule = excluded.rule, since = excluded.since`, org, p, millis(time.Now())); err != nil {
			return fmt.Errorf("save protection: %w", err)
		}
		return s.record(ctx, tx, by, org, "protection.save", p.String(), fromTo(was.String(), p.String()))
	})
}

// LeaveOut notes that the new accounts of an organization that are not backed up are
// left out on purpose, so that NewAccounts counts them no more.
func (s *Store) LeaveOut(ctx context.Context, org backup.OrgID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := execOne(ctx, tx, `INSERT INTO protections (org_id, rule, since, left_out_at) SELECT id, '', 0, $2 FROM organizations WHERE id = $1
			ON CONFLICT (org_id) DO UPDATE SET left_out_at = excluded.left_out_at`, org, millis(time.Now())); err != nil {
			return fmt.Errorf("leave new accounts out: %w", err)
		}
		return s.record(ctx, tx, by, org, "protection.leave_out", by.Org.Name, "")
	})
}

// newAccounts is what the mailboxes of completed connections are that nobody chose,
// and that were seen first after a time and after their connection was completed.
const newAccounts = ` FROM mailboxes m WHERE org_id = $1 AND selected = FALSE AND created_at >= $2 AND deactivated = ''
	AND EXISTS (SELECT 1 FROM connections c WHERE c.id = m.connection_id AND c.ready_at > 0 AND c.ready_at < m.created_at)`

// NewAccounts counts the accounts of an organization with a mailbox that were seen
// first since a time, after their connection was completed, and are neither backed
// up nor left out on purpose.
func (s *Store) NewAccounts(ctx context.Context, org backup.OrgID, since time.Time) (int, error) {
	list, err := collect(ctx, s.read, scanMailbox, `SELECT `+mailboxColumns+newAccounts+`
		AND created_at > coalesce((SELECT p.left_out_at FROM protections p WHERE p.org_id = m.org_id), 0)`, org, millis(since))
	if err != nil {
		return 0, fmt.Errorf("read new accounts: %w", err)
	}
	n := 0
	for _, m := range list {
		if backup.ProtectAll.Covers(m) {
			n++
		}
	}
	return n, nil
}

// protectNew chooses the new accounts of a connection that its organization's rule
// covers.
func (s *Store) protectNew(ctx context.Context, tx *sql.Tx, org backup.OrgID, connection backup.ConnectionID) error {
	rule, err := protection(ctx, tx, org)
	if err != nil || rule.Protection == backup.ProtectChosen {
		return err
	}
	list, err := collect(ctx, tx, scanMailbox, `SELECT `+mailboxColumns+newAccounts+` AND connection_id = $3 ORDER BY address`, org, rule.since, connection)
	if err != nil {
		return fmt.Errorf("read new accounts: %w", err)
	}
	var ids []backup.MailboxID
	var addresses []string
	for _, m := range list {
		if rule.Covers(m) {
			ids, addresses = append(ids, m.ID), append(addresses, m.Address)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if _, _, err := s.selectMailboxes(ctx, tx, org, connection, ids); err != nil {
		return err
	}
	const named = 20
	more := ""
	if len(addresses) > named {
		more = fmt.Sprintf(" and %d more", len(addresses)-named)
	}
	return s.appendFor(ctx, tx, backup.Entry{OrgID: org, Person: "Holdfast", Kind: "backup.protect",
		Subject: strings.Join(addresses[:min(len(addresses), named)], ", ") + more, Detail: "new accounts; automatic protection covers " + rule.String()})
}
