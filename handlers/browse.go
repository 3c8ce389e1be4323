package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// Rows of a page.
const (
	mailboxesPerPage = 50
	itemsPerPage     = 50
	snapshotsShown   = 100
)

// listBrowse lists the mailboxes that can be browsed.
func (s *Server) listBrowse(w http.ResponseWriter, r *http.Request) error {
	search, page := strings.TrimSpace(r.FormValue("q")), pageOf(r)
	got, err := s.Store.Mailboxes(r.Context(), actor(r).Org.ID, store.MailboxQuery{Search: search, Page: page, PageSize: mailboxesPerPage})
	if err != nil {
		return fmt.Errorf("read mailboxes: %w", err)
	}
	v := views.Mailboxes{
		Mailboxes: got.Mailboxes, Search: search, Now: time.Now(),
		Page: views.Pager{Page: page, Size: mailboxesPerPage, Total: got.Total, Path: "/browse", Query: url.Values{"q": {search}}},
	}
	return s.render(w, r, http.StatusOK, views.BrowsePage(s.frame(w, r, "Browse & restore"), v))
}

// pageOf is the page that was asked for, from 1.
func pageOf(r *http.Request) int {
	n, err := strconv.Atoi(r.FormValue("page"))
	if err != nil || n < 1 || n > 1_000_000 {
		return 1
	}
	return n
}

// browseMailbox shows a mailbox as it was at a chosen time.
func (s *Server) browseMailbox(w http.ResponseWriter, r *http.Request) error {
	v, folders, err := s.browseView(r)
	if err != nil {
		return err
	}
	if v.Snapshot.Seq > 0 {
		search := strings.TrimSpace(r.FormValue("q"))
		v.Folder, err = chosenFolder(folders, r.FormValue("folder"), search)
		if err != nil {
			return err
		}
		v.Search = search
		v.Folders = folderTree(folders)
		if v.MaySee {
			if err := s.readItems(r, &v); err != nil {
				return err
			}
		}
	}
	return s.render(w, r, http.StatusOK, views.MailboxPage(s.frame(w, r, v.Mailbox.Name), v))
}

func (s *Server) readItems(r *http.Request, v *views.Browse) error {
	page := pageOf(r)
	items, total, err := s.Store.Items(r.Context(), v.Mailbox.OrgID, v.Mailbox.ID, v.Snapshot.Seq,
		store.ItemQuery{FolderID: v.Folder.ID, Search: v.Search, Page: page, PageSize: itemsPerPage})
	if err != nil {
		return fmt.Errorf("read items: %w", err)
	}
	if err := s.markLost(r.Context(), v.Mailbox, items); err != nil {
		return err
	}
	v.Items = items
	v.Page = views.Pager{Page: page, Size: itemsPerPage, Total: int(total), Path: "/browse/" + url.PathEscape(string(v.Mailbox.ID)),
		Query: url.Values{"at": {strconv.FormatInt(v.Snapshot.Seq, 10)}, "folder": {cmp.Or(v.Folder.ID, views.All)}, "q": {v.Search}}}
	return nil
}

// markLost marks the items whose content is damaged in the repository.
func (s *Server) markLost(ctx context.Context, m backup.Mailbox, items []backup.Item) error {
	lost, err := s.lostItems(ctx, m)
	for i := range items {
		items[i].Lost = lost[items[i].ID]
	}
	return err
}

// lostItems are the items of a mailbox whose content is damaged in the repository.
func (s *Server) lostItems(ctx context.Context, m backup.Mailbox) (map[backup.ItemID]bool, error) {
	damages, err := s.Store.MailboxDamages(ctx, m.OrgID, m.ID)
	lost := make(map[backup.ItemID]bool, len(damages))
	for _, d := range damages {
		lost[backup.ItemID(d.Object[strings.LastIndexByte(d.Object, '/')+1:])] = true
	}
	return lost, err
}

// browseView reads mailbox, snapshots and the folders of the chosen one.
func (s *Server) browseView(r *http.Request) (views.Browse, []backup.Folder, error) {
	ctx, a := r.Context(), actor(r)
	m, err := s.Store.Mailbox(ctx, a.Org.ID, backup.MailboxID(r.PathValue("mailbox")))
	if err != nil {
		return views.Browse{}, nil, err
	}
	v := views.Browse{Mailbox: m, MaySee: a.OrgRole() == backup.RoleAdmin, Now: time.Now()}
	snapshots, err := s.Store.Snapshots(ctx, m.OrgID, m.ID)
	if err != nil {
		return v, nil, fmt.Errorf("read snapshots: %w", err)
	}
	if len(snapshots) == 0 {
		return v, nil, nil
	}
	v.Snapshot, v.Problem, err = s.chosenSnapshot(ctx, m, snapshots, r.FormValue("at"))
	if err != nil {
		return v, nil, err
	}
	v.Snapshots = snapshots[:min(len(snapshots), snapshotsShown)]
	if !slices.Contains(v.Snapshots, v.Snapshot) {
		v.Snapshots = append(slices.Clone(v.Snapshots), v.Snapshot)
	}
	folders, err := s.Store.Folders(ctx, m.OrgID, m.ID, v.Snapshot.Seq)
	if err != nil {
		return v, nil, fmt.Errorf("read folders: %w", err)
	}
	return v, folders, nil
}

// chosenSnapshot finds the snapshot that at asks for: a number, or the newest
// one that is not younger than a time. The problem says why the newest of all
// is shown instead.
func (s *Server) chosenSnapshot(ctx context.Context, m backup.Mailbox, snapshots []backup.Snapshot, at string) (backup.Snapshot, string, error) {
	if at == "" {
		return snapshots[0], "", nil
	}
	if seq, err := strconv.ParseInt(at, 10, 64); err == nil {
		for _, snapshot := range snapshots {
			if snapshot.Seq == seq {
				return snapshot, "", nil
			}
		}
		return backup.Snapshot{}, "", backup.ErrNotFound
	}
	t, ok := parseMoment(at)
	if !ok {
		return snapshots[0], "That is not a time. Choose one from the list, or enter one like 2026-11-23 14:30. The latest backup is shown.", nil
	}
	seq, err := s.Store.SnapshotAt(ctx, m.OrgID, m.ID, t)
	if errors.Is(err, backup.ErrNotFound) {
		oldest := snapshots[len(snapshots)-1]
		return oldest, "There is no backup from that time or before it. The oldest one is shown.", nil
	}
	if err != nil {
		return backup.Snapshot{}, "", fmt.Errorf("find snapshot: %w", err)
	}
	for _, snapshot := range snapshots {
		if snapshot.Seq == seq {
			return snapshot, "", nil
		}
	}
	return backup.Snapshot{}, "", backup.ErrNotFound
}

// parseMoment reads a time as links, people and browsers write it. Without a
// zone it is UTC; without seconds it means the whole minute.
func parseMoment(s string) (time.Time, bool) {
	s = strings.TrimSpace(s)
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, true
	}
	for layout, span := range map[string]time.Duration{
		"2006-01-02T15:04:05": time.Second, "2006-01-02T15:04": time.Minute,
		"2006-01-02 15:04:05": time.Second, "2006-01-02 15:04": time.Minute, "2006-01-02": 24 * time.Hour,
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Add(span - time.Millisecond), true
		}
	}
	return time.Time{}, false
}

// chosenFolder finds the folder that was asked for. Without one it is the
// inbox, or all folders for a search; the zero value means all.
func chosenFolder(folders []backup.Folder, id, search string) (backup.Folder, error) {
	switch {
	case id == views.All, id == "" && search != "":
		return backup.Folder{}, nil
	case id == "":
		for _, f := range folders {
			if f.WellKnown == "inbox" {
				return f, nil
			}
		}
		return backup.Folder{}, nil
	}
	for _, f := range folders {
		if f.ID == id {
			return f, nil
		}
	}
	return backup.Folder{}, backup.ErrNotFound
}

// wellKnownOrder is how mail programs order the folders that every mailbox has.
var wellKnownOrder = []string{"inbox", "drafts", "sentitems", "outbox", "archive", "deleteditems", "junkemail"}

// folderTree puts folders below their parents. A folder whose parent is not
// there, or is below itself, stands at the top.
func folderTree(folders []backup.Folder) []*views.FolderNode {
	nodes := make(map[string]*views.FolderNode, len(folders))
	for _, f := range folders {
		nodes[f.ID] = &views.FolderNode{Folder: f}
	}
	var top []*views.FolderNode
	for _, f := range folders {
		n := nodes[f.ID]
		if parent := nodes[f.ParentID]; parent != nil && !below(nodes, f) {
			parent.Children = append(parent.Children, n)
		} else {
			top = append(top, n)
		}
	}
	for _, n := range nodes {
		slices.SortFunc(n.Children, compareFolders)
	}
	slices.SortFunc(top, compareFolders)
	return top
}

// below says whether a folder is below itself.
func below(nodes map[string]*views.FolderNode, f backup.Folder) bool {
	id := f.ParentID
	for range len(nodes) {
		n := nodes[id]
		if n == nil {
			return false
		}
		if n.ID == f.ID {
			return true
		}
		id = n.ParentID
	}
	return true // a circle above it
}

func compareFolders(a, b *views.FolderNode) int {
	return cmp.Or(
		cmp.Compare(folderRank(a), folderRank(b)),
		strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)),
		strings.Compare(a.ID, b.ID),
	)
}

func folderRank(n *views.FolderNode) int {
	if i := slices.Index(wellKnownOrder, n.WellKnown); i >= 0 {
		return i
	}
	return len(wellKnownOrder)
}
