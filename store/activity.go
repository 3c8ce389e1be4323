package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

// chainOf names the hash chain of an entry: the organization's, or the
// partner's for entries without one.
func chainOf(partner backup.PartnerID, org backup.OrgID) string {
	if org != "" {
		return "org/" + string(org)
	}
	return "partner/" + string(partner)
}

// record appends an entry about org (or, if empty, the partner) by actor.
func (s *Store) record(ctx context.Context, tx *sql.Tx, by backup.Actor, org backup.OrgID, kind, subject, detail string) error {
	return s.append(ctx, tx, entryOf(by, org, kind, subject, detail))
}

// entryOf fills an entry with who acts, from where and for whom.
func entryOf(by backup.Actor, org backup.OrgID, kind, subject, detail string) backup.Entry {
	e := backup.Entry{PartnerID: by.Partner.ID, OrgID: org, PersonID: by.Person.ID, Kind: kind, Subject: subject, Detail: detail, Address: by.Address}
	if by.Org.PartnerID != "" {
		e.PartnerID = by.Org.PartnerID
	}
	if by.Person.ID != "" {
		e.Person = by.Person.Name + " <" + by.Person.Email + ">"
		if by.IsPartner() {
			e.Person = by.Person.Name + " (" + by.Partner.Name + ") <" + by.Person.Email + ">"
		}
	}
	if by.Token != "" {
		e.Person = "API token " + by.Token + " (" + by.Partner.Name + ")"
	}
	if by.Acting.ID != "" {
		e.ForPerson = "for " + by.Org.Name
	}
	return e
}

// Record appends an entry by itself, for what changes no other row: sign-ins,
// refusals, previews, downloads.
func (s *Store) Record(ctx context.Context, e backup.Entry) error {
	return s.inTx(ctx, func(tx *sql.Tx) error { return s.append(ctx, tx, e) })
}

// RecordBy appends an entry about org by actor.
func (s *Store) RecordBy(ctx context.Context, by backup.Actor, org backup.OrgID, kind, subject, detail string) error {
	return s.Record(ctx, entryOf(by, org, kind, subject, detail))
}

// append adds e to the end of its chain. The head's row is locked until the
// transaction ends, so that chains never fork.
func (s *Store) append(ctx context.Context, tx *sql.Tx, e backup.Entry) error {
	for _, text := range []*string{&e.Person, &e.ForPerson, &e.Address, &e.Subject, &e.Detail} {
		*text = clean(*text)
	}
	e.ID, e.At = backup.NewID[backup.ActivityID](), time.UnixMilli(time.Now().UnixMilli()).UTC()
	chain := chainOf(e.PartnerID, e.OrgID)
	if _, err := tx.ExecContext(ctx, `INSERT INTO activity_heads (chain, seq, hash) VALUES ($1, 0, $2) ON CONFLICT (chain) DO NOTHING`,
		chain, make([]byte, sha256.Size)); err != nil {
		return fmt.Errorf("start activity chain: %w", err)
	}
	var previous []byte
	if err := tx.QueryRowContext(ctx, `SELECT seq, hash FROM activity_heads WHERE chain = $1`+s.forUpdate(), chain).Scan(&e.Seq, &previous); err != nil {
		return fmt.Errorf("read activity head: %w", err)
	}
	e.Seq++
	hash := hashEntry(previous, e)
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO activity (id, chain, seq, partner_id, org_id, at, person_id, person, for_person, address, kind, subject, detail, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		e.ID, chain, e.Seq, e.PartnerID, e.OrgID, millis(e.At), e.PersonID, e.Person, e.ForPerson, e.Address, e.Kind, e.Subject, e.Detail, hash); err != nil {
		return fmt.Errorf("record activity: %w", err)
	}
	return execOne(ctx, tx, `UPDATE activity_heads SET seq = $1, hash = $2 WHERE chain = $3`, e.Seq, hash, chain)
}

// hashEntry is SHA-256(previous ‖ canonical JSON of e). The JSON is canonical
// because the fields have a fixed order and text is encoded one way.
func hashEntry(previous []byte, e backup.Entry) []byte {
	data, err := json.Marshal([]any{e.ID, e.PartnerID, e.OrgID, e.Seq, millis(e.At), e.PersonID, e.Person, e.ForPerson, e.Address, e.Kind, e.Subject, e.Detail})
	if err != nil {
		panic("encode an activity entry: " + err.Error()) // strings and integers always encode
	}
	h := sha256.New()
	h.Write(previous)
	h.Write(data)
	return h.Sum(nil)
}

const activityColumns = `id, partner_id, org_id, seq, at, person_id, person, for_person, address, kind, subject, detail`

func scanEntry(row scanner) (backup.Entry, error) {
	var e backup.Entry
	var at int64
	err := row.Scan(&e.ID, &e.PartnerID, &e.OrgID, &e.Seq, &at, &e.PersonID, &e.Person, &e.ForPerson, &e.Address, &e.Kind, &e.Subject, &e.Detail)
	e.At = moment(at)
	return e, err
}

// ActivityQuery says which entries of a log are wanted.
type ActivityQuery struct {
	Person string    // part of who did it, or for whom, in any case; "" for everybody
	Kind   string    // "" for all
	From   time.Time // zero for the beginning
	Before time.Time // zero for now
	Page   int       // from 1
	Size   int
}

// where is the condition of the query and its arguments; $1 is the chain.
func (q ActivityQuery) where(chain string) (string, []any) {
	text, args := `chain = $1`, []any{chain}
	add := func(condition string, value any) {
		args = append(args, value)
		text += fmt.Sprintf(" AND "+condition, len(args))
	}
	if q.Person != "" {
		add(`lower(person || ' ' || for_person) LIKE $%d ESCAPE '\'`, "%"+likeEscape.Replace(strings.ToLower(clean(q.Person)))+"%")
	}
	if q.Kind != "" {
		add(`kind = $%d`, clean(q.Kind))
	}
	if !q.From.IsZero() {
		add(`at >= $%d`, millis(q.From))
	}
	if !q.Before.IsZero() {
		add(`at < $%d`, millis(q.Before))
	}
	return text, args
}

// all says whether the query leaves nothing out.
func (q ActivityQuery) all() bool {
	return q.Person == "" && q.Kind == "" && q.From.IsZero() && q.Before.IsZero()
}

// Activity returns a page of an organization's entries, or, with org "", of the
// partner's own, newest first, and how many there are in all.
func (s *Store) Activity(ctx context.Context, partner backup.PartnerID, org backup.OrgID, q ActivityQuery) ([]backup.Entry, int, error) {
	chain := chainOf(partner, org)
	where, args := q.where(chain)
	count := `SELECT count(*) FROM activity WHERE ` + where
	if q.all() { // the head knows
		count = `SELECT seq FROM activity_heads WHERE chain = $1`
	}
	total, err := one(ctx, s.read, scanValue[int], count, args...)
	if errors.Is(err, backup.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("count activity: %w", err)
	}
	skip := offset(q.Page, q.Size)
	if q.all() {
		args, where, skip = append(args, total-skip), where+` AND seq <= $2`, 0
	}
	list, err := collect(ctx, s.read, scanEntry, `SELECT `+activityColumns+` FROM activity WHERE `+where+
		fmt.Sprintf(` ORDER BY seq DESC LIMIT $%d OFFSET $%d`, len(args)+1, len(args)+2), append(args, q.Size, skip)...)
	if err != nil {
		return nil, 0, fmt.Errorf("read activity: %w", err)
	}
	return list, total, nil
}

// exportPage is how many entries ExportActivity reads at a time.
const exportPage = 1000

// ExportActivity gives each entry that q wants to write, the oldest first, with
// the hash that chains it. It ends with the first error of write.
func (s *Store) ExportActivity(ctx context.Context, partner backup.PartnerID, org backup.OrgID, q ActivityQuery, write func(e backup.Entry, hash []byte) error) error {
	type hashed struct {
		backup.Entry
		hash []byte
	}
	where, args := q.where(chainOf(partner, org))
	query := `SELECT ` + activityColumns + `, hash FROM activity WHERE ` + where + fmt.Sprintf(` AND seq > $%d ORDER BY seq LIMIT %d`, len(args)+1, exportPage)
	for last := int64(0); ; {
		list, err := collect(ctx, s.read, func(row scanner) (hashed, error) {
			var h hashed
			var at int64
			e := &h.Entry
			err := row.Scan(&e.ID, &e.PartnerID, &e.OrgID, &e.Seq, &at, &e.PersonID, &e.Person, &e.ForPerson, &e.Address, &e.Kind, &e.Subject, &e.Detail, &h.hash)
			e.At = moment(at)
			return h, err
		}, query, append(args[:len(args):len(args)], last)...)
		if err != nil {
			return fmt.Errorf("read activity: %w", err)
		}
		for _, h := range list {
			if err := write(h.Entry, h.hash); err != nil {
				return err
			}
			last = h.Seq
		}
		if len(list) < exportPage {
			return nil
		}
	}
}

// ErrBroken says that an activity log was changed after it was written.
var ErrBroken = errors.New("the activity log was changed after it was written")

// VerifyActivity follows the chain of an organization (or, without one, of the
// partner) and returns how many entries it has. The error wraps ErrBroken and
// names the first entry that is changed, missing or inserted.
func (s *Store) VerifyActivity(ctx context.Context, partner backup.PartnerID, org backup.OrgID) (int, error) {
	// Entries and head as they stood at one moment: the log goes on meanwhile.
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return 0, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	return verifyChain(ctx, tx, chainOf(partner, org))
}

// verifyChain follows one chain to its head.
func verifyChain(ctx context.Context, tx *sql.Tx, chain string) (int, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+activityColumns+`, hash FROM activity WHERE chain = $1 ORDER BY seq`, chain)
	if err != nil {
		return 0, fmt.Errorf("read activity: %w", err)
	}
	defer rows.Close()
	previous, n := make([]byte, sha256.Size), 0
	for rows.Next() {
		var e backup.Entry
		var at int64
		var hash []byte
		if err := rows.Scan(&e.ID, &e.PartnerID, &e.OrgID, &e.Seq, &at, &e.PersonID, &e.Person, &e.ForPerson, &e.Address, &e.Kind, &e.Subject, &e.Detail, &hash); err != nil {
			return n, fmt.Errorf("read activity: %w", err)
		}
		e.At = moment(at)
		if e.Seq != int64(n)+1 || !bytes.Equal(hash, hashEntry(previous, e)) {
			return n, fmt.Errorf("entry %d (%s, %s): %w", n+1, e.Kind, e.At.Format(time.RFC3339), ErrBroken)
		}
		previous = hash
		n++
	}
	if err := rows.Err(); err != nil {
		return n, fmt.Errorf("read activity: %w", err)
	}
	var seq int
	var head []byte
	err = tx.QueryRowContext(ctx, `SELECT seq, hash FROM activity_heads WHERE chain = $1`, chain).Scan(&seq, &head)
	if errors.Is(err, sql.ErrNoRows) { // each chain begins when its organization or partner is made
		return n, fmt.Errorf("%d entries without a head: %w", n, ErrBroken)
	}
	if err != nil {
		return n, fmt.Errorf("read activity head: %w", err)
	}
	if seq != n || !bytes.Equal(head, previous) {
		return n, fmt.Errorf("%d entries where there should be %d: %w", n, seq, ErrBroken)
	}
	return n, nil
}
