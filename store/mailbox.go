package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
)

const mailboxColumns = `id, org_id, connection_id, provider_id, address, name, kind, licence, enabled, selected, deactivated, deactivated_by,
	status, status_since, problem, failures, running, last_run_at, next_run_at, asked_at, items, size_bytes, damaged_items, created_at`

func scanMailbox(row scanner) (backup.Mailbox, error) {
	var m backup.Mailbox
	var problem string
	var since, last, next, asked, created int64
	err := row.Scan(&m.ID, &m.OrgID, &m.ConnectionID, &m.ProviderID, &m.Address, &m.Name, &m.Kind, &m.Licence, &m.Enabled, &m.Selected, &m.Deactivated, &m.DeactivatedBy,
		&m.Status, &since, &problem, &m.Failures, &m.Running, &last, &next, &asked, &m.Items, &m.SizeBytes, &m.DamagedItems, &created)
	m.Problem, m.StatusSince, m.LastRunAt, m.NextRunAt, m.AskedAt, m.CreatedAt = problemOf(problem), moment(since), moment(last), moment(next), moment(asked), moment(created)
	return m, err
}

// MailboxQuery says which mailboxes to list. The zero value lists the selected
// ones by name, the first page.
type MailboxQuery struct {
	Connection  backup.ConnectionID // "" for all
	AllAccounts bool                // also those that are not selected
	Status      backup.Status       // "" for all
	Search      string              // part of name or address, in any case
	Sort        string              // name, status, last, items or size
	Desc        bool
	Page        int // from 1
	PageSize    int // at most 10000; 0 is 50
	Total       int // how many there are, if the caller knows; else they are counted
}

// MailboxPage is one page of mailboxes and how many there are in all.
type MailboxPage struct {
	Mailboxes []backup.Mailbox
	Total     int
}

// mailboxSorts are the columns of the orders, each with an index.
var mailboxSorts = map[string]string{"name": "name_folded", "status": "status", "last": "last_run_at", "items": "items", "size": "size_bytes"}

// where returns the conditions of q with their arguments.
func (q MailboxQuery) where(org backup.OrgID) (string, []any) {
	clauses, args := []string{"org_id = $1"}, []any{org}
	add := func(clause string, value any) {
		args = append(args, value)
		clauses = append(clauses, fmt.Sprintf(clause, len(args)))
	}
	if !q.AllAccounts {
		clauses = append(clauses, "selected = TRUE")
	}
	if q.Connection != "" {
		add("connection_id = $%d", q.Connection)
	}
	if q.Status != "" {
		add("status = $%d", q.Status)
	}
	if s := strings.TrimSpace(q.Search); s != "" {
		add(`search LIKE $%d ESCAPE '\'`, "%"+likeEscape.Replace(strings.ToLower(clean(s)))+"%")
	}
	return strings.Join(clauses, " AND "), args
}

// likeEscape keeps LIKE from reading what was typed as a pattern.
var likeEscape = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// sql returns the statement of a page with its arguments.
func (q MailboxQuery) sql(org backup.OrgID) (string, []any) {
	where, args := q.where(org)
	column, ok := mailboxSorts[q.Sort]
	if !ok {
		column = "name_folded"
	}
	direction := "ASC"
	if q.Desc {
		direction = "DESC"
	}
	size := q.size()
	order := column + " " + direction + ", id " + direction
	if column == "status" {
		order = "status " + direction + ", name_folded " + direction + ", id " + direction
	}
	args = append(args, size, offset(q.Page, size))
	return fmt.Sprintf(`SELECT %s FROM mailboxes WHERE %s ORDER BY %s LIMIT $%d OFFSET $%d`, mailboxColumns, where, order, len(args)-1, len(args)), args
}

func (q MailboxQuery) size() int {
	if q.PageSize <= 0 || q.PageSize > 10000 {
		return 50
	}
	return q.PageSize
}

// Mailboxes returns a page of an organization's mailboxes.
func (s *Store) Mailboxes(ctx context.Context, org backup.OrgID, q MailboxQuery) (MailboxPage, error) {
	var page MailboxPage
	if q.plainSearch() {
		_, names, err := s.mailboxVersions(ctx, org)
		if err != nil {
			return page, err
		}
		return s.searchMailboxes(ctx, org, names, q)
	}
	query, args := q.sql(org)
	var err error
	if page.Mailboxes, err = collect(ctx, s.read, scanMailbox, query, args...); err != nil {
		return page, fmt.Errorf("list mailboxes: %w", err)
	}
	if page.Total = len(page.Mailboxes); q.Page <= 1 && page.Total < q.size() {
		return page, nil
	}
	if q.Total > 0 {
		page.Total = q.Total
		return page, nil
	}
	where, args := q.where(org)
	if page.Total, err = one(ctx, s.read, scanValue[int], `SELECT count(*) FROM mailboxes WHERE `+where, args...); err != nil { //nolint:gosec // clauses are constants
		return page, fmt.Errorf("count mailboxes: %w", err)
	}
	return page, nil
}

// Mailbox returns a mailbox of an organization.
func (s *Store) Mailbox(ctx context.Context, org backup.OrgID, id backup.MailboxID) (backup.Mailbox, error) {
	return one(ctx, s.read, scanMailbox, `SELECT `+mailboxColumns+` FROM mailboxes WHERE org_id = $1 AND id = $2`, org, id)
}

// saveMailbox writes what rules change, with the status that follows from it.
func saveMailbox(ctx context.Context, q querier, m backup.Mailbox) error {
	status := backup.MailboxStatus(m)
	if status != m.Status || m.StatusSince.IsZero() {
		m.Status, m.StatusSince = status, time.Now()
	}
	named, err := one(ctx, q, scanValue[int], `SELECT count(*) FROM mailboxes WHERE org_id = $1 AND id = $2 AND (search <> $3 OR selected <> $4)`,
		m.OrgID, m.ID, searchText(m), m.Selected)
	if err != nil {
		return fmt.Errorf("compare names: %w", err)
	}
	if err := mailboxChanged(ctx, q, m.OrgID, named > 0); err != nil {
		return fmt.Errorf("count the change: %w", err)
	}
	return execOne(ctx, q, `
		UPDATE mailboxes SET address = $1, name = $2, name_folded = $3, search = $4, kind = $5, licence = $6, enabled = $7, selected = $8,
			deactivated = $9, deactivated_by = $10, status = $11, status_since = $12, problem = $13, failures = $14, running = $15,
			last_run_at = $16, next_run_at = $17, items = $18, size_bytes = $19, damaged_items = $20, asked_at = $21
		WHERE org_id = $22 AND id = $23`,
		m.Address, m.Name, strings.ToLower(m.Name), searchText(m), m.Kind, m.Licence, m.Enabled, m.Selected,
		m.Deactivated, m.DeactivatedBy, m.Status, millis(m.StatusSince), problemText(m.Problem), m.Failures, m.Running,
		millis(m.LastRunAt), millis(m.NextRunAt), m.Items, m.SizeBytes, m.DamagedItems, millis(m.AskedAt), m.OrgID, m.ID)
}

// searchText is what a search looks in: name and address, folded.
func searchText(m backup.Mailbox) string { return strings.ToLower(m.Name + "\n" + m.Address) }

// changeMailbox reads a mailbox, lets change alter it and saves it, in tx.
func (s *Store) changeMailbox(ctx context.Context, tx *sql.Tx, org backup.OrgID, id backup.MailboxID, change func(*backup.Mailbox)) (backup.Mailbox, error) {
	m, err := one(ctx, tx, scanMailbox, `SELECT `+mailboxColumns+` FROM mailboxes WHERE org_id = $1 AND id = $2`+s.forUpdate(), org, id)
	if err != nil {
		return m, err
	}
	before := settledStatus(m)
	change(&m)
	if settledStatus(m) == before { // a run that begins or ends is no other status
		m.Status = backup.MailboxStatus(m)
	}
	return m, saveMailbox(ctx, tx, m)
}

// settledStatus is a mailbox's status apart from a run that is under way.
func settledStatus(m backup.Mailbox) backup.Status {
	m.Running = false
	return backup.MailboxStatus(m)
}

// SelectMailboxes chooses what of a connection is backed up, completes the
// connection and its authorization, and makes the first backups due. Ids of
// other organizations are ignored; selecting none is backup.FieldErrors.
func (s *Store) SelectMailboxes(ctx context.Context, a *backup.Authorization, ids []backup.MailboxID, by backup.Actor) error {
	return s.fillAfter(ctx, s.inTx(ctx, func(tx *sql.Tx) error {
		_, due, err := s.selectMailboxes(ctx, tx, a.OrgID, a.ConnectionID, ids)
		if err != nil {
			return err
		}
		if due == 0 {
			return backup.FieldErrors{"account": "Select at least one account that has a mailbox."}
		}
		if err := execOne(ctx, tx, `UPDATE connections SET ready_at = $1 WHERE org_id = $2 AND id = $3`, millis(time.Now()), a.OrgID, a.ConnectionID); err != nil {
			return fmt.Errorf("complete connection: %w", err)
		}
		next := *a
		next.MovedBy = by.Person.Name
		next.Complete()
		if err := s.saveAuthorization(ctx, tx, &next); err != nil {
			return err
		}
		*a = next
		return s.record(ctx, tx, by, a.OrgID, "backup.add", a.TenantDomain, fmt.Sprintf("%d mailboxes", due))
	}))
}

// AddMailboxes adds mailboxes of a completed connection to what is backed up,
// and makes their first backups due. Ids of other organizations are ignored;
// selecting none is backup.FieldErrors.
func (s *Store) AddMailboxes(ctx context.Context, c backup.Connection, ids []backup.MailboxID, by backup.Actor) error {
	return s.fillAfter(ctx, s.inTx(ctx, func(tx *sql.Tx) error {
		n, _, err := s.selectMailboxes(ctx, tx, c.OrgID, c.ID, ids)
		if err != nil {
			return err
		}
		if n == 0 {
			return backup.FieldErrors{"account": "Select at least one account."}
		}
		return s.record(ctx, tx, by, c.OrgID, "backup.add", c.TenantDomain, fmt.Sprintf("%d mailboxes", n))
	}))
}

// selectMailboxes chooses mailboxes of a connection for backup. It returns how
// many there are and how many of them are due now.
func (s *Store) selectMailboxes(ctx context.Context, tx *sql.Tx, org backup.OrgID, connection backup.ConnectionID, ids []backup.MailboxID) (n, due int, err error) {
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		m, err := one(ctx, tx, scanMailbox, `SELECT `+mailboxColumns+` FROM mailboxes WHERE org_id = $1 AND connection_id = $2 AND id = $3`+s.forUpdate(), org, connection, id)
		if errors.Is(err, backup.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, 0, fmt.Errorf("read mailbox %s: %w", id, err)
		}
		n++
		m.Selected = true
		if canRun(m) {
			m.NextRunAt = time.Now()
			due++
		}
		if err := saveMailbox(ctx, tx, m); err != nil {
			return 0, 0, fmt.Errorf("select mailbox %s: %w", id, err)
		}
	}
	return n, due, nil
}

// SetMailboxDeactivated stops the backups of a mailbox, or starts them again.
// A mailbox that was not chosen for backup is backup.ErrNotFound. One that
// stands as asked already stays as it is.
func (s *Store) SetMailboxDeactivated(ctx context.Context, org backup.OrgID, id backup.MailboxID, deactivated bool, by backup.Actor) error {
	return s.fillAfter(ctx, s.inTx(ctx, func(tx *sql.Tx) error {
		m, err := s.selectedMailbox(ctx, tx, org, id)
		if err != nil {
			return err
		}
		kind, was := "mailbox.reactivate", m.Status
		switch {
		case deactivated == (m.Deactivated == backup.DeactivatedManual):
			return nil
		case deactivated:
			kind = "mailbox.deactivate"
			m.Deactivated, m.DeactivatedBy, m.NextRunAt = backup.DeactivatedManual, by.Person.Name, time.Time{}
		default:
			m.Deactivated, m.DeactivatedBy = backup.NotDeactivated, ""
			if canRun(m) {
				m.NextRunAt = time.Now()
			}
		}
		if err := saveMailbox(ctx, tx, m); err != nil {
			return fmt.Errorf("save mailbox %s: %w", id, err)
		}
		after := "active"
		if deactivated {
			after = string(backup.StatusDeactivated)
		}
		return s.record(ctx, tx, by, org, kind, m.Address, fromTo(string(was), after))
	}))
}

// BackUpNow makes a mailbox due at once, whatever the organization's windows
// and pause, and queues it before those of the schedule. A mailbox that was not chosen for
// backup is backup.ErrNotFound, an inactive or deactivated one
// backup.ErrConflict.
func (s *Store) BackUpNow(ctx context.Context, org backup.OrgID, id backup.MailboxID, by backup.Actor) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		m, err := s.selectedMailbox(ctx, tx, org, id)
		if err != nil {
			return err
		}
		if !canRun(m) {
			return fmt.Errorf("back up mailbox %s, which is %s: %w", id, m.Status, backup.ErrConflict)
		}
		m.NextRunAt = time.Now()
		m.AskedAt = m.NextRunAt
		if err := saveMailbox(ctx, tx, m); err != nil {
			return fmt.Errorf("save mailbox %s: %w", id, err)
		}
		if err := s.enqueueAsked(ctx, tx, backup.BackupJob{OrgID: org, MailboxID: id}); err != nil {
			return err
		}
		return s.record(ctx, tx, by, org, "mailbox.back_up_now", m.Address, "")
	})
}

// selectedMailbox reads a mailbox that was chosen for backup, to change it.
func (s *Store) selectedMailbox(ctx context.Context, tx *sql.Tx, org backup.OrgID, id backup.MailboxID) (backup.Mailbox, error) {
	return one(ctx, tx, scanMailbox, `SELECT `+mailboxColumns+` FROM mailboxes WHERE org_id = $1 AND id = $2 AND selected = TRUE`+s.forUpdate(), org, id)
}

// canRun says whether the mailbox may be backed up at all.
func canRun(m backup.Mailbox) bool {
	status := backup.MailboxStatus(m)
	return status != backup.StatusInactive && status != backup.StatusDeactivated
}
