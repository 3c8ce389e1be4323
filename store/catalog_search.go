package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/backup"
)

// MailSearch says which messages of an organization to find. The zero value
// finds them all.
type MailSearch struct {
	Words        string    // each is in subject, sender or recipients, in any case
	From, Before time.Time // received from, and before; zero for no bound
	Attachments  bool      // only those with attachments
	Gone         bool      // only those that the newest snapshot has no more
}

// searchWordsMost bounds the statement; nobody narrows a search down with more.
const searchWordsMost = 10

// searchWords are the words of a search, in lower case.
func searchWords(text string) []string {
	words := strings.Fields(strings.ToLower(clean(text)))
	return words[:min(len(words), searchWordsMost)]
}

// matchWords returns the conditions that say a record r has every word, and args
// with the words.
func matchWords(words []string, args []any) (string, []any) {
	where := ""
	for _, word := range words {
		args = append(args, "%"+likeEscape.Replace(word)+"%")
		where += fmt.Sprintf(` AND (lower(r.subject) LIKE $%d ESCAPE '\' OR lower(r.sender) LIKE $%[1]d ESCAPE '\' OR lower(r.recipients) LIKE $%[1]d ESCAPE '\' OR r.search LIKE $%[1]d ESCAPE '\')`, len(args))
	}
	return where, args
}

// StoredMailboxes returns mailboxes of an organization that have messages in the
// repository, also those that nothing backs up any more, by name: at most n after
// the first skip ones, and how many there are in all.
func (s *Store) StoredMailboxes(ctx context.Context, org backup.OrgID, skip, n int) ([]backup.Mailbox, int, error) {
	const stored = ` FROM mailboxes WHERE org_id = $1 AND EXISTS (SELECT 1 FROM catalog_sources c WHERE c.org_id = mailboxes.org_id AND c.mailbox_id = mailboxes.id)`
	total, err := one(ctx, s.read, scanValue[int], `SELECT count(*)`+stored, org)
	if err != nil {
		return nil, 0, fmt.Errorf("count stored mailboxes: %w", err)
	}
	list, err := collect(ctx, s.read, scanMailbox, `SELECT `+mailboxColumns+stored+` ORDER BY name_folded, id LIMIT $2 OFFSET $3`, org, n, skip)
	if err != nil {
		return nil, 0, fmt.Errorf("list stored mailboxes: %w", err)
	}
	return list, total, nil
}

// FindItems returns the newest messages that q finds in all snapshots of a
// mailbox, at most n: of each the last state, from the newest snapshot that has it.
func (s *Store) FindItems(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, q MailSearch, n int) ([]backup.FoundItem, error) {
	query, args := q.sql(org, mailbox, n)
	list, err := collect(ctx, s.read, scanFound, query, args...)
	if err != nil {
		return nil, fmt.Errorf("search mailbox %s: %w", mailbox, err)
	}
	return list, nil
}

// sql walks the messages of a mailbox from the newest on until n are found. That
// a state is the last one is asked of the record's item, so that databases look
// at the words first.
func (q MailSearch) sql(org backup.OrgID, mailbox backup.MailboxID, n int) (string, []any) {
	args := []any{org, mailbox, n}
	where := ``
	bound := func(condition string, t time.Time) {
		if !t.IsZero() {
			args = append(args, millis(t))
			where += fmt.Sprintf(` AND e.received_at %s $%d`, condition, len(args))
		}
	}
	bound(">=", q.From)
	bound("<", q.Before)
	if q.Attachments {
		where += ` AND r.attachments = TRUE`
	}
	if q.Gone {
		where += ` AND e.to_seq <> ` + untilNow
	}
	words, args := matchWords(searchWords(q.Words), args)
	return `SELECT ` + itemColumns + `, e.to_seq <> ` + untilNow + `, n.seq, n.at, coalesce((SELECT t.name FROM catalog_folder_states t
			WHERE t.source = e.source AND t.folder = e.folder AND t.from_seq <= n.seq AND t.to_seq > n.seq), '')` + itemJoins + `
		JOIN catalog_snapshots n ON n.source = e.source AND n.seq = (SELECT max(l.seq) FROM catalog_snapshots l
			WHERE l.source = e.source AND l.expired = FALSE AND l.seq >= e.from_seq AND l.seq < e.to_seq)
		WHERE e.source = (SELECT number FROM catalog_sources WHERE org_id = $1 AND mailbox_id = $2)` + where + words + `
			AND NOT EXISTS (SELECT 1 FROM catalog_entries a WHERE a.source = e.source AND a.item = r.item AND a.from_seq > e.from_seq)
		ORDER BY e.received_at DESC, e.item DESC LIMIT $3`, args
}

// alsoScan is a scanner that reads more columns after those that it is asked for.
type alsoScan struct {
	scanner
	more []any
}

// Scan implements scanner.
func (s alsoScan) Scan(dest ...any) error { return s.scanner.Scan(append(dest, s.more...)...) }

func scanFound(row scanner) (backup.FoundItem, error) {
	var f backup.FoundItem
	var at int64
	item, err := scanItem(alsoScan{row, []any{&f.Gone, &f.Seq, &at, &f.Folder}})
	f.Item, f.At = item, moment(at)
	return f, err
}
