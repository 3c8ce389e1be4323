package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"holdfast/backup"
)

// Figures over all mailboxes of a large organization take longer than the rest
// of a page, and change seldom compared with how often they are looked at. So
// the counts, the pages looked at last, and what a search looks in, are kept in
// memory as long as the versions in the organization's row, read each time, say
// that they hold.

// mailboxIndexes keeps the indexes of the organizations looked at.
type mailboxIndexes struct {
	mu   sync.Mutex
	orgs map[backup.OrgID]*mailboxIndex
}

// indexesMost is how many organizations are kept in memory.
const indexesMost = 100

// pagesMost is how many pages of an organization are kept; each has some 25 KB.
const pagesMost = 16

// mailboxIndex is what is kept of an organization.
type mailboxIndex struct {
	mu            sync.Mutex
	countsVersion int64 // -1 for none
	counts        backup.StatusCounts
	pages         map[MailboxQuery]MailboxPage // of countsVersion, which counts every change
	namesVersion  int64                        // -1 for none
	names         []mailboxNamed               // selected mailboxes in order of their names
}

type mailboxNamed struct {
	id   backup.MailboxID
	text string // see searchText
}

func (x *mailboxIndexes) of(org backup.OrgID) *mailboxIndex {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.orgs == nil || len(x.orgs) > indexesMost {
		x.orgs = map[backup.OrgID]*mailboxIndex{}
	}
	if x.orgs[org] == nil {
		x.orgs[org] = &mailboxIndex{countsVersion: -1, namesVersion: -1}
	}
	return x.orgs[org]
}

// mailboxVersions reads how often mailboxes changed, and their names. They are
// read before what they stand for, so that a change in between is noticed.
func (s *Store) mailboxVersions(ctx context.Context, org backup.OrgID) (all, names int64, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT mailboxes_version, names_version FROM organizations WHERE id = $1`, org).Scan(&all, &names)
	if err != nil {
		return 0, 0, fmt.Errorf("read the versions of the mailboxes: %w", err)
	}
	return all, names, nil
}

// MailboxCounts counts an organization's selected mailboxes by status.
func (s *Store) MailboxCounts(ctx context.Context, org backup.OrgID) (backup.StatusCounts, error) {
	version, _, err := s.mailboxVersions(ctx, org)
	if err != nil {
		return nil, err
	}
	return s.mailboxCountsAt(ctx, org, version)
}

// MailboxBoard returns a page of an organization's selected mailboxes and the
// counts of all of them, as MailboxCounts and Mailboxes do.
func (s *Store) MailboxBoard(ctx context.Context, org backup.OrgID, q MailboxQuery) (backup.StatusCounts, MailboxPage, error) {
	version, names, err := s.mailboxVersions(ctx, org)
	if err != nil {
		return nil, MailboxPage{}, err
	}
	counts, err := s.mailboxCountsAt(ctx, org, version)
	if err != nil {
		return nil, MailboxPage{}, err
	}
	x := s.indexes.of(org)
	if page, ok := x.page(version, q); ok {
		return counts, page, nil
	}
	var page MailboxPage
	switch {
	case q.plainSearch():
		page, err = s.searchMailboxes(ctx, org, names, q)
	default:
		known := q
		if strings.TrimSpace(q.Search) == "" {
			if known.Total = counts.Total(); q.Status != "" {
				known.Total = counts[q.Status]
			}
		}
		page, err = s.Mailboxes(ctx, org, known)
	}
	if err == nil {
		x.keep(version, q, page)
	}
	return counts, page, err
}

// page returns a page that was kept at a version.
func (x *mailboxIndex) page(version int64, q MailboxQuery) (MailboxPage, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.countsVersion != version {
		return MailboxPage{}, false
	}
	page, ok := x.pages[q]
	return MailboxPage{Mailboxes: slices.Clone(page.Mailboxes), Total: page.Total}, ok
}

// keep keeps a page that was read after version was.
func (x *mailboxIndex) keep(version int64, q MailboxQuery, page MailboxPage) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.countsVersion != version || len(page.Mailboxes) > 100 {
		return
	}
	if len(x.pages) >= pagesMost {
		clear(x.pages)
	}
	x.pages[q] = MailboxPage{Mailboxes: slices.Clone(page.Mailboxes), Total: page.Total}
}

func (s *Store) mailboxCountsAt(ctx context.Context, org backup.OrgID, version int64) (backup.StatusCounts, error) {
	x := s.indexes.of(org)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.countsVersion != version {
		counts, err := s.countMailboxes(ctx, org)
		if err != nil {
			return nil, err
		}
		x.counts, x.countsVersion, x.pages = counts, version, map[MailboxQuery]MailboxPage{}
	}
	return maps.Clone(x.counts), nil
}

func (s *Store) countMailboxes(ctx context.Context, org backup.OrgID) (backup.StatusCounts, error) {
	type count struct {
		status backup.Status
		n      int
	}
	list, err := collect(ctx, s.read, func(row scanner) (count, error) {
		var c count
		err := row.Scan(&c.status, &c.n)
		return c, err
	}, `SELECT status, count(*) FROM mailboxes WHERE org_id = $1 AND selected = TRUE GROUP BY status`, org)
	if err != nil {
		return nil, fmt.Errorf("count mailboxes: %w", err)
	}
	counts := backup.StatusCounts{}
	for _, c := range list {
		counts[c.status] = c.n
	}
	return counts, nil
}

// plainSearch says whether a query is a search over all selected mailboxes in
// order of their names, which the names in memory answer.
func (q MailboxQuery) plainSearch() bool {
	return strings.TrimSpace(q.Search) != "" && !q.AllAccounts && q.Connection == "" && q.Status == "" && (q.Sort == "" || q.Sort == "name")
}

// searchMailboxes answers a plainSearch.
func (s *Store) searchMailboxes(ctx context.Context, org backup.OrgID, version int64, q MailboxQuery) (MailboxPage, error) {
	names, err := s.mailboxNamesAt(ctx, org, version)
	if err != nil {
		return MailboxPage{}, err
	}
	part := strings.ToLower(clean(strings.TrimSpace(q.Search)))
	var found []backup.MailboxID
	for _, n := range names {
		if strings.Contains(n.text, part) {
			found = append(found, n.id)
		}
	}
	if q.Desc {
		slices.Reverse(found)
	}
	page := MailboxPage{Total: len(found)}
	first := min(offset(q.Page, q.size()), len(found))
	ids := found[first:min(first+q.size(), len(found))]
	page.Mailboxes, err = s.mailboxesByID(ctx, org, ids)
	return page, err
}

// mailboxNamesAt returns what a search looks in, in order of the names.
func (s *Store) mailboxNamesAt(ctx context.Context, org backup.OrgID, version int64) ([]mailboxNamed, error) {
	x := s.indexes.of(org)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.namesVersion != version {
		names, err := collect(ctx, s.read, func(row scanner) (mailboxNamed, error) {
			var n mailboxNamed
			err := row.Scan(&n.id, &n.text)
			return n, err
		}, `SELECT id, search FROM mailboxes WHERE org_id = $1 AND selected = TRUE ORDER BY name_folded, id`, org)
		if err != nil {
			return nil, fmt.Errorf("read the names of the mailboxes: %w", err)
		}
		x.names, x.namesVersion = names, version
	}
	return x.names, nil // never changed, only replaced
}

// idsAtATime is how many mailboxes one statement names: a text for each number
// would be many texts.
const idsAtATime = 50

// mailboxesByID reads mailboxes in the order of ids. One that is gone is left out.
func (s *Store) mailboxesByID(ctx context.Context, org backup.OrgID, ids []backup.MailboxID) ([]backup.Mailbox, error) {
	byID := make(map[backup.MailboxID]backup.Mailbox, len(ids))
	for some := range slices.Chunk(ids, idsAtATime) {
		args := make([]any, 1, idsAtATime+1)
		args[0] = org
		for i := range idsAtATime {
			args = append(args, some[min(i, len(some)-1)])
		}
		list, err := collect(ctx, s.read, scanMailbox, mailboxesByIDSQL, args...)
		if err != nil {
			return nil, fmt.Errorf("read mailboxes: %w", err)
		}
		for _, m := range list {
			byID[m.ID] = m
		}
	}
	list := make([]backup.Mailbox, 0, len(ids))
	for _, id := range ids {
		if m, ok := byID[id]; ok {
			list = append(list, m)
		}
	}
	return list, nil
}

var mailboxesByIDSQL = func() string {
	places := make([]string, idsAtATime)
	for i := range places {
		places[i] = fmt.Sprintf("$%d", i+2)
	}
	return `SELECT ` + mailboxColumns + ` FROM mailboxes WHERE org_id = $1 AND id IN (` + strings.Join(places, ", ") + `)`
}()

// mailboxChanged counts a change of a mailbox; named says that what a search
// finds may change.
func mailboxChanged(ctx context.Context, q querier, org backup.OrgID, named bool) error {
	names := 0
	if named {
		names = 1
	}
	return execOne(ctx, q, `UPDATE organizations SET mailboxes_version = mailboxes_version + 1, names_version = names_version + $1 WHERE id = $2`, names, org)
}
