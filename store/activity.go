package store

import (
	"cmp"
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

// fromTo says in an entry's detail what a change made of what.
func fromTo(before, after string) string {
	return "before: " + cmp.Or(before, "nothing") + ", after: " + cmp.Or(after, "nothing")
}

// record appends an entry about org (or, if empty, the partner) by actor.
func (s *Store) record(ctx context.Context, tx *sql.Tx, by backup.Actor, org backup.OrgID, kind, subject, detail string) error {
	return s.append(ctx, tx, entryOf(by, org, kind, subject, detail))
}

// appendFor appends an entry of an organization that nobody who is signed in made: it
// finds the partner.
func (s *Store) appendFor(ctx context.Context, tx *sql.Tx, e backup.Entry) error {
	var err error
	if e.PartnerID, err = one(ctx, tx, scanValue[backup.PartnerID], `SELECT partner_id FROM organizations WHERE id = $1`, e.OrgID); err != nil {
		return fmt.Errorf("read organization %s: %w", e.OrgID, err)
	}
	return s.append(ctx, tx, e)
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
	head, err := one(ctx, tx, scanHead, `SELECT seq, hash, sealed FROM activity_heads WHERE chain = $1`+s.forUpdate(), chain)
	if err != nil {
		return fmt.Errorf("read activity head: %w", err)
	}
	e.Seq = head.seq + 1
	next, err := s.nextHead(chain, head, activityHead{seq: e.Seq, hash: hashEntry(head.hash, e)}, e.Kind)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO activity (id, chain, seq, partner_id, org_id, at, person_id, person, for_person, address, kind, subject, detail, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		e.ID, chain, e.Seq, e.PartnerID, e.OrgID, millis(e.At), e.PersonID, e.Person, e.ForPerson, e.Address, e.Kind, e.Subject, e.Detail, next.hash); err != nil {
		return fmt.Errorf("record activity: %w", err)
	}
	return execOne(ctx, tx, `UPDATE activity_heads SET seq = $1, hash = $2, sealed = $3 WHERE chain = $4`, next.seq, next.hash, next.sealed, chain)
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
