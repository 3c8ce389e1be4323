package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"holdfast/backup"
)

// place of a membership: the organization's or the partner's people.
func (s *Store) member(ctx context.Context, q querier, m backup.Membership) (Member, error) {
	where, at := "m.org_id = $2", string(m.OrgID)
	if m.OrgID == "" {
		where, at = "m.partner_id = $2", string(m.PartnerID)
	}
	return one(ctx, q, scanMember, `SELECT `+personColumns+`, m.role, p.signed_in_at FROM memberships m JOIN people p ON p.id = m.person_id
		WHERE m.person_id = $1 AND `+where, m.PersonID, at)
}

// Member returns the person of a membership, whose role is not looked at;
// backup.ErrNotFound if the person does not belong there.
func (s *Store) Member(ctx context.Context, m backup.Membership) (Member, error) {
	return s.member(ctx, s.read, m)
}

// changeMember reads the person of m in a transaction, has change done and
// recorded, and refuses to leave the place without anybody who may do everything.
func (s *Store) changeMember(ctx context.Context, m backup.Membership, by backup.Actor, kind, detail string, change func(tx *sql.Tx, who Member) error) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		who, err := s.member(ctx, tx, m)
		if err != nil {
			return err
		}
		if err := change(tx, who); err != nil {
			return err
		}
		if err := keepsOne(ctx, tx, m); err != nil {
			return err
		}
		return s.record(ctx, tx, by, m.OrgID, kind, who.Name+" <"+who.Email+">", detail)
	})
}

// keepsOne is backup.FieldErrors naming role if nobody is left who may do
// everything.
func keepsOne(ctx context.Context, tx *sql.Tx, m backup.Membership) error {
	query, at, text := `SELECT count(*) FROM memberships WHERE org_id = $1 AND role = 'admin'`, string(m.OrgID), "This is the last admin. Make somebody else an admin first."
	if m.OrgID == "" {
		query, at, text = `SELECT count(*) FROM memberships WHERE partner_id = $1 AND role = 'owner'`, string(m.PartnerID), "This is the last owner. Make somebody else an owner first."
	}
	n, err := one(ctx, tx, scanValue[int], query, at)
	if err != nil {
		return fmt.Errorf("count who is left: %w", err)
	}
	if n == 0 {
		return backup.FieldErrors{"role": text}
	}
	return nil
}

// SetRole gives a person another role where they belong. It returns
// backup.FieldErrors naming role if it is none of the place, or if nobody would
// be left who may do everything.
func (s *Store) SetRole(ctx context.Context, m backup.Membership, by backup.Actor) error {
	if !m.Valid() {
		return backup.FieldErrors{"role": "Choose what this person may do."}
	}
	before, err := s.Member(ctx, m)
	if err != nil {
		return err
	}
	return s.changeMember(ctx, m, by, "person.role", fromTo(string(before.Role), string(m.Role)), func(tx *sql.Tx, _ Member) error {
		if m.OrgID == "" {
			return execOne(ctx, tx, `UPDATE memberships SET role = $1 WHERE person_id = $2 AND partner_id = $3`, m.Role, m.PersonID, m.PartnerID)
		}
		return execOne(ctx, tx, `UPDATE memberships SET role = $1 WHERE person_id = $2 AND org_id = $3`, m.Role, m.PersonID, m.OrgID)
	})
}

// RemoveMember takes a person away from where they belong and ends their
// sessions. What they did stays in the activity log, under their name. A person
// who belongs nowhere any more can't sign in, and their address is free again.
func (s *Store) RemoveMember(ctx context.Context, m backup.Membership, by backup.Actor) error {
	before, err := s.Member(ctx, m)
	if err != nil {
		return err
	}
	return s.changeMember(ctx, m, by, "person.remove", fromTo(string(before.Role), "removed"), func(tx *sql.Tx, who Member) error {
		query, at := `DELETE FROM memberships WHERE person_id = $1 AND org_id = $2`, string(m.OrgID)
		if m.OrgID == "" {
			query, at = `DELETE FROM memberships WHERE person_id = $1 AND partner_id = $2`, string(m.PartnerID)
		}
		if err := execOne(ctx, tx, query, m.PersonID, at); err != nil {
			return fmt.Errorf("remove membership: %w", err)
		}
		left, err := one(ctx, tx, scanValue[int], `SELECT count(*) FROM memberships WHERE person_id = $1`, m.PersonID)
		if err != nil {
			return fmt.Errorf("count memberships: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM web_sessions WHERE person_id = $1`, m.PersonID); err != nil {
			return fmt.Errorf("end sessions: %w", err)
		}
		if left > 0 {
			return nil
		}
		for _, table := range []string{"set_up_links", "passkeys", "recovery_codes", "identities"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE person_id = $1`, m.PersonID); err != nil { //nolint:gosec // a fixed list of tables
				return fmt.Errorf("remove the person's %s: %w", table, err)
			}
		}
		return execOne(ctx, tx, `UPDATE people SET password_hash = '', totp_sealed = NULL, totp_step = 0, totp_at = 0, factors = 0, email_folded = $1 WHERE id = $2`,
			"removed "+string(m.PersonID), m.PersonID)
	})
}

// ResetFactors removes a person's second factors, who has lost them, and ends
// their sessions. It is backup.FieldErrors naming reason without one, and
// backup.ErrNotFound if there are none.
func (s *Store) ResetFactors(ctx context.Context, m backup.Membership, reason string, by backup.Actor) error {
	if err := (backup.Acting{Reason: reason}).Validate(); err != nil {
		return backup.FieldErrors{"reason": "Say why: how do you know that it is this person who asks?"}
	}
	return s.changeMember(ctx, m, by, "person.factors_reset", reason, func(tx *sql.Tx, who Member) error {
		if who.Factors == 0 {
			return backup.ErrNotFound
		}
		for _, query := range []string{`DELETE FROM passkeys WHERE person_id = $1`, `DELETE FROM recovery_codes WHERE person_id = $1`, `DELETE FROM web_sessions WHERE person_id = $1`} {
			if _, err := tx.ExecContext(ctx, query, m.PersonID); err != nil {
				return fmt.Errorf("remove second factors: %w", err)
			}
		}
		return execOne(ctx, tx, `UPDATE people SET totp_sealed = NULL, totp_step = 0, totp_at = 0, factors = 0 WHERE id = $1`, m.PersonID)
	})
}

// MailSettingsOf returns how e-mail to a person goes out: by the partner they
// belong to, or whose organization they belong to.
func (s *Store) MailSettingsOf(ctx context.Context, id backup.PersonID) (backup.MailSettings, error) {
	partner, err := one(ctx, s.read, scanValue[backup.PartnerID], `SELECT coalesce(m.partner_id, o.partner_id) FROM memberships m
		LEFT JOIN organizations o ON o.id = m.org_id WHERE m.person_id = $1 ORDER BY m.partner_id IS NULL LIMIT 1`, id)
	if err != nil {
		return backup.MailSettings{}, err
	}
	return s.MailSettings(ctx, partner)
}

// MailIsSetUp says whether some partner has named a mail server.
func (s *Store) MailIsSetUp(ctx context.Context) (bool, error) {
	_, err := one(ctx, s.read, scanValue[backup.PartnerID], `SELECT partner_id FROM mail_settings LIMIT 1`)
	if errors.Is(err, backup.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
