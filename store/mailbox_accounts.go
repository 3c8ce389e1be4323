package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

// UpsertMailboxes brings the accounts of a connection up to date with what the
// provider lists: all of them, by ProviderID, with kind, licence and names.
// Selection, manual deactivation and counters stay. A mailbox whose licence
// returned, or whose user was restored, is due at once; one that is not in the
// list any more is deactivated. New accounts that the organization's Protection
// covers are chosen for backup.
func (s *Store) UpsertMailboxes(ctx context.Context, org backup.OrgID, connection backup.ConnectionID, seen []backup.Mailbox) error {
	return s.fillAfter(ctx, s.inTx(ctx, func(tx *sql.Tx) error {
		known, err := collect(ctx, tx, scanMailbox, `SELECT `+mailboxColumns+` FROM mailboxes WHERE org_id = $1 AND connection_id = $2`+s.forUpdate(), org, connection)
		if err != nil {
			return fmt.Errorf("read accounts: %w", err)
		}
		byProvider := make(map[string]backup.Mailbox, len(known))
		for _, m := range known {
			byProvider[m.ProviderID] = m
		}
		for _, account := range seen {
			account.Name, account.Address = clean(account.Name), clean(account.Address)
			m, ok := byProvider[account.ProviderID]
			if !ok {
				account.OrgID, account.ConnectionID = org, connection
				if err := insertMailbox(ctx, tx, account); err != nil {
					return fmt.Errorf("add account: %w", err)
				}
				continue
			}
			delete(byProvider, account.ProviderID)
			if err := updateAccount(ctx, tx, m, account); err != nil {
				return fmt.Errorf("update account %s: %w", m.ID, err)
			}
		}
		if err := markGone(ctx, tx, byProvider); err != nil {
			return err
		}
		return s.protectNew(ctx, tx, org, connection)
	}))
}

func insertMailbox(ctx context.Context, tx *sql.Tx, m backup.Mailbox) error {
	if m.ID == "" {
		m.ID = backup.NewID[backup.MailboxID]()
	}
	now := time.Now()
	m.Status = backup.MailboxStatus(m)
	_, err := tx.ExecContext(ctx, `
		INSERT INTO mailboxes (id, org_id, connection_id, provider_id, address, name, name_folded, search, kind, licence, enabled, status, status_since, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		m.ID, m.OrgID, m.ConnectionID, m.ProviderID, m.Address, m.Name, strings.ToLower(m.Name), searchText(m), m.Kind, m.Licence, m.Enabled, m.Status, millis(now), millis(now))
	if err != nil {
		return conflict(err)
	}
	return mailboxChanged(ctx, tx, m.OrgID, true)
}

// updateAccount applies what the provider says to a known mailbox.
func updateAccount(ctx context.Context, tx *sql.Tx, m, account backup.Mailbox) error {
	before := m
	m.Address, m.Name, m.Enabled, m.Licence = account.Address, account.Name, account.Enabled, account.Licence
	if account.Kind != backup.KindUnknown {
		m.Kind = account.Kind
	}
	if m.Deactivated == backup.DeactivatedDeleted {
		m.Deactivated, m.DeactivatedBy = backup.NotDeactivated, ""
	}
	if m.Licence != backup.LicenceNone && m.Problem.Kind == backup.ProblemMailboxInactive {
		m.Problem = backup.Problem{}
	}
	was, is := backup.MailboxStatus(before), backup.MailboxStatus(m)
	switch {
	case is == backup.StatusInactive || is == backup.StatusDeactivated:
		m.NextRunAt = time.Time{}
	case m.Selected && (was == backup.StatusInactive || was == backup.StatusDeactivated):
		m.NextRunAt = time.Now()
	}
	if m.Address == before.Address && m.Name == before.Name && m.Enabled == before.Enabled && m.Licence == before.Licence && m.Kind == before.Kind && was == is {
		return nil
	}
	return saveMailbox(ctx, tx, m)
}

// markGone deactivates the selected accounts that the provider lists no more,
// and forgets those that were never selected.
func markGone(ctx context.Context, tx *sql.Tx, gone map[string]backup.Mailbox) error {
	for _, m := range gone {
		if m.Deactivated != backup.NotDeactivated {
			continue
		}
		if !m.Selected && m.LastRunAt.IsZero() && !m.Running {
			if _, err := tx.ExecContext(ctx, `DELETE FROM mailboxes WHERE org_id = $1 AND id = $2
				AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.mailbox_id = mailboxes.id) AND NOT EXISTS (SELECT 1 FROM restores WHERE restores.target_id = mailboxes.id)
				AND NOT EXISTS (SELECT 1 FROM mailbox_retention r WHERE r.mailbox_id = mailboxes.id)`, m.OrgID, m.ID); err != nil {
				return fmt.Errorf("forget account %s: %w", m.ID, err)
			}
			continue
		}
		m.Deactivated, m.DeactivatedBy, m.NextRunAt, m.Running = backup.DeactivatedDeleted, "", time.Time{}, false
		if err := saveMailbox(ctx, tx, m); err != nil {
			return fmt.Errorf("deactivate mailbox %s: %w", m.ID, err)
		}
	}
	return nil
}
