package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

// activityHead is the end of a chain. The hash of each entry covers the one
// before, so whoever can write to the database could change an entry and
// compute all later hashes anew. The head is therefore sealed under the store's
// keyset, which that database does not give away.
type activityHead struct {
	seq    int64
	hash   []byte
	sealed []byte // of number and hash
}

func scanHead(row scanner) (activityHead, error) {
	var h activityHead
	err := row.Scan(&h.seq, &h.hash, &h.sealed)
	return h, err
}

// statement is what the seal of a head says.
func (h activityHead) statement() []byte { return fmt.Appendf(nil, "%d %x", h.seq, h.hash) }

func headPlace(chain string) []byte { return place("activity_heads", "", "sealed", chain) }

// holds says whether a head is as this store sealed it.
func (s *Store) holds(chain string, h activityHead) bool {
	plain, err := s.unseal(h.sealed, headPlace(chain))
	return err == nil && plain != nil && bytes.Equal(plain, h.statement())
}

// beginsChain says whether a chain may begin with an entry of a kind. Chains
// begin when their organization or partner is made, so one that begins later
// was removed before.
func beginsChain(chain, kind string) bool {
	if strings.HasPrefix(chain, "org/") {
		return kind == "organization.create"
	}
	return kind == "person.create" || chain == chainOf("", "")
}

// nextHead seals the head after last. After one that does not hold, none ever
// holds again: the log goes on, and each check finds it.
func (s *Store) nextHead(chain string, last, next activityHead, kind string) (activityHead, error) {
	if last.seq == 0 && !beginsChain(chain, kind) || last.seq > 0 && !s.holds(chain, last) {
		return next, nil
	}
	var err error
	next.sealed, err = s.seal(next.statement(), headPlace(chain))
	return next, err
}

// sealActivity seals the chains of a database that is from before there were
// seals, if they are unbroken.
func (s *Store) sealActivity(ctx context.Context, tx *sql.Tx) error {
	chains, err := collect(ctx, tx, scanValue[string], `SELECT chain FROM activity_heads WHERE sealed IS NULL`)
	if err != nil {
		return fmt.Errorf("list activity chains: %w", err)
	}
	for _, chain := range chains {
		head, _, err := followChain(ctx, tx, chain)
		if errors.Is(err, ErrBroken) {
			continue // it stays unsealed, which each check finds
		}
		if err != nil {
			return err
		}
		if head.sealed, err = s.seal(head.statement(), headPlace(chain)); err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE activity_heads SET sealed = $1 WHERE chain = $2`, head.sealed, chain); err != nil {
			return fmt.Errorf("seal activity chain %s: %w", chain, err)
		}
	}
	return nil
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
	chain := chainOf(partner, org)
	head, n, err := followChain(ctx, tx, chain)
	if err == nil && !s.holds(chain, head) {
		err = fmt.Errorf("%d entries, whose end is not as this Holdfast sealed it: %w", n, ErrBroken)
	}
	return n, err
}

// followChain follows one chain to its head.
func followChain(ctx context.Context, tx *sql.Tx, chain string) (activityHead, int, error) {
	previous, n, err := followEntries(ctx, tx, chain)
	if err != nil {
		return activityHead{}, n, err
	}
	head, err := one(ctx, tx, scanHead, `SELECT seq, hash, sealed FROM activity_heads WHERE chain = $1`, chain)
	if errors.Is(err, backup.ErrNotFound) { // each chain begins when its organization or partner is made
		return head, n, fmt.Errorf("%d entries without a head: %w", n, ErrBroken)
	}
	if err != nil {
		return head, n, fmt.Errorf("read activity head: %w", err)
	}
	if head.seq != int64(n) || !bytes.Equal(head.hash, previous) {
		return head, n, fmt.Errorf("%d entries where there should be %d: %w", n, head.seq, ErrBroken)
	}
	return head, n, nil
}

// followEntries returns the hash of the last entry of a chain and how many there are.
func followEntries(ctx context.Context, tx *sql.Tx, chain string) ([]byte, int, error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+activityColumns+`, hash FROM activity WHERE chain = $1 ORDER BY seq`, chain)
	if err != nil {
		return nil, 0, fmt.Errorf("read activity: %w", err)
	}
	defer rows.Close()
	previous, n := make([]byte, sha256.Size), 0
	for rows.Next() {
		var e backup.Entry
		var at int64
		var hash []byte
		if err := rows.Scan(&e.ID, &e.PartnerID, &e.OrgID, &e.Seq, &at, &e.PersonID, &e.Person, &e.ForPerson, &e.Address, &e.Kind, &e.Subject, &e.Detail, &hash); err != nil {
			return nil, n, fmt.Errorf("read activity: %w", err)
		}
		e.At = moment(at)
		if e.Seq != int64(n)+1 || !bytes.Equal(hash, hashEntry(previous, e)) {
			return nil, n, fmt.Errorf("entry %d (%s, %s): %w", n+1, e.Kind, e.At.Format(time.RFC3339), ErrBroken)
		}
		previous = hash
		n++
	}
	if err := rows.Err(); err != nil {
		return nil, n, fmt.Errorf("read activity: %w", err)
	}
	return previous, n, nil
}
