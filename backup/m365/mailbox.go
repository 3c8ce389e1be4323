package m365

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	abs "github.com/microsoft/kiota-abstractions-go"
	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/ahead"
	"holdfast/backup/engine"
)

// immutable asks for ids that stay when a message moves. It has to be on every
// request, or ids of two kinds get mixed
// (https://learn.microsoft.com/graph/outlook-immutable-id).
const immutable = `IdType="ImmutableId"`

// Mailbox is a mailbox as a source of items; it implements engine.Source.
type Mailbox struct {
	app   *App
	user  string // object id
	path  string // /users/{id}
	ahead *ahead.Reader
	sizes *sizes
}

var _ engine.Source = (*Mailbox)(nil)

// Mailbox returns the mailbox of a user. It does not connect.
func (a *App) Mailbox(userID string) *Mailbox {
	m := &Mailbox{app: a, user: userID, path: "/users/" + url.PathEscape(userID), sizes: newSizes()}
	m.ahead = ahead.New(batchesAhead, m.values)
	return m
}

// get makes a request for the mailbox.
func (m *Mailbox) get(path, prefer string) request {
	return request{method: abs.GET, path: path, mailbox: m.user, prefer: prefer}
}

// folderCursor is what the next run has to know of the folders. Link is relative
// to the Graph address, which may change.
type folderCursor struct {
	Link  string            `json:"link"`
	Root  string            `json:"root,omitempty"`  // id of msgfolderroot
	Known map[string]string `json:"known,omitempty"` // id to well-known name
}

// wellKnown are the names by which Graph finds folders whatever their language
// (https://learn.microsoft.com/graph/api/resources/mailfolder).
// recoverableitemsdeletions is left out: it is not among a mailbox's folders.
var wellKnown = []string{
	"msgfolderroot", "inbox", "sentitems", "drafts", "deleteditems", "junkemail", "archive", "outbox", "clutter", "conflicts",
	"conversationhistory", "localfailures", "scheduled", "searchfolders", "serverfailures", "syncissues",
}

const folderFields = "displayName,parentFolderId,totalItemCount,childFolderCount,isHidden"

// folder is a mail folder as Graph lists it.
type folder struct {
	Type     string          `json:"@odata.type"`
	Removed  json.RawMessage `json:"@removed"`
	ID       string          `json:"id"`
	Name     *string         `json:"displayName"`
	Parent   string          `json:"parentFolderId"`
	Items    int64           `json:"totalItemCount"`
	Children int             `json:"childFolderCount"`
	Hidden   bool            `json:"isHidden"`
}

// folderPage is a page of a list of folders, or of its delta.
type folderPage struct {
	Value []folder `json:"value"`
	Next  string   `json:"@odata.nextLink"`
	Delta string   `json:"@odata.deltaLink"`
}

// Folders implements engine.Source. Search folders are left out: what they show
// lies in others. Without changes it is one request; the three lists that a first
// run needs are asked for at the same time.
func (m *Mailbox) Folders(ctx context.Context, cursor string) (engine.FolderChanges, error) {
	var c folderCursor
	if cursor != "" {
		if err := json.Unmarshal([]byte(cursor), &c); err != nil {
			return engine.FolderChanges{}, fmt.Errorf("folders: %w: %w", engine.ErrCursorExpired, err)
		}
	}
	var changed, hidden []folder
	var link string
	g, each := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		changed, link, err = m.folderDelta(each, c.Link)
		return err
	})
	if cursor == "" {
		g.Go(func() error { return m.resolve(each, &c) })
		g.Go(func() (err error) {
			hidden, err = m.folderList(each, m.path+"/mailFolders")
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return engine.FolderChanges{}, err
	}
	c.Link = link
	set := newFolderSet(c, cursor == "")
	for _, f := range changed {
		set.put(f)
	}
	if err := m.hidden(ctx, hidden, set); err != nil {
		return engine.FolderChanges{}, err
	}
	return set.changes(c)
}

// folderDelta reads what changed among the folders since the link of an earlier
// delta, or all of them, and the link for the next time.
func (m *Mailbox) folderDelta(ctx context.Context, since string) (changed []folder, link string, err error) {
	path := m.path + "/mailFolders/delta?$select=" + folderFields
	if since != "" {
		path = m.app.absolute(since)
	}
	var pages pager
	for path != "" {
		var page folderPage
		r, err := m.app.json(ctx, m.get(path, "odata.maxpagesize=500, "+immutable), &page)
		if r != nil {
			return nil, "", m.deltaError(*r, err, since)
		}
		if err != nil {
			return nil, "", err
		}
		for _, f := range page.Value {
			if f, err = m.complete(ctx, f); err != nil {
				return nil, "", err
			}
			changed = append(changed, f)
		}
		if path = page.Next; page.Delta != "" {
			if link, err = m.app.relative(page.Delta); err != nil {
				return nil, "", err
			}
		}
		if err := pages.next(path); err != nil {
			return nil, "", err
		}
	}
	return changed, link, nil
}

// resolve finds the ids of the well-known folders in one batch.
func (m *Mailbox) resolve(ctx context.Context, c *folderCursor) error {
	parts := make([]*batchPart, len(wellKnown))
	for i, name := range wellKnown {
		parts[i] = &batchPart{path: m.path + "/mailFolders/" + name + "?$select=id", prefer: immutable}
	}
	if err := m.app.batch(ctx, m.user, parts); err != nil {
		return err
	}
	c.Known = map[string]string{}
	for i, part := range parts {
		if part.status >= 300 {
			r := parseGraph(&part.answer)
			if r.status == 404 && (r.has("ErrorItemNotFound", "ErrorFolderNotFound", "itemNotFound") || r.code == "") {
				continue
			}
			return mailboxProblem(r, fmt.Errorf("folder %s: status %d %s", wellKnown[i], r.status, r.code))
		}
		var f folder
		if err := json.Unmarshal(part.body, &f); err != nil || f.ID == "" {
			return garbage("folder "+wellKnown[i], errors.Join(err, errors.New("no id")))
		}
		if wellKnown[i] == "msgfolderroot" {
			c.Root = f.ID
		} else {
			c.Known[f.ID] = wellKnown[i]
		}
	}
	return nil
}

// complete reads a folder of which a delta told only a part.
func (m *Mailbox) complete(ctx context.Context, f folder) (folder, error) {
	if f.Removed != nil || f.Name != nil || f.ID == "" {
		return f, nil
	}
	whole := folder{}
	r, err := m.app.json(ctx, m.get(m.path+"/mailFolders/"+url.PathEscape(f.ID)+"?$select="+folderFields, immutable), &whole)
	switch {
	case r != nil && r.status == 404:
		f.Removed = json.RawMessage(`{}`)
		return f, nil
	case r != nil:
		return f, mailboxProblem(*r, err)
	}
	return whole, err
}

// hidden adds the hidden folders of a list, and what is in them: whether the
// delta lists them is not documented.
func (m *Mailbox) hidden(ctx context.Context, list []folder, set *folderSet) error {
	for _, f := range list {
		if !f.Hidden || set.has(f.ID) || f.Name == nil {
			continue
		}
		if err := m.below(ctx, f, set); err != nil {
			return err
		}
	}
	return nil
}

// below adds a folder that no delta told of, and all folders below it.
func (m *Mailbox) below(ctx context.Context, f folder, set *folderSet) error {
	set.put(f)
	if f.Children == 0 || !set.has(f.ID) {
		return nil
	}
	children, err := m.folderList(ctx, m.path+"/mailFolders/"+url.PathEscape(f.ID)+"/childFolders")
	if err != nil {
		return err
	}
	for _, child := range children {
		if set.has(child.ID) || child.Name == nil {
			continue
		}
		if err := m.below(ctx, child, set); err != nil {
			return err
		}
	}
	return nil
}

// folderList reads one level of folders, hidden ones too.
func (m *Mailbox) folderList(ctx context.Context, path string) ([]folder, error) {
	var all []folder
	var pages pager
	for path += "?includeHiddenFolders=true&$top=250&$select=" + folderFields; path != ""; {
		var page folderPage
		r, err := m.app.json(ctx, m.get(path, immutable), &page)
		if r != nil {
			return nil, mailboxProblem(*r, err)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		path = page.Next
		if err := pages.next(path); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// folderSet collects the folders of a listing; the last word on each counts,
// since deltas repeat themselves.
type folderSet struct {
	cursor folderCursor
	full   bool
	order  []string
	last   map[string]folder
}

func newFolderSet(c folderCursor, full bool) *folderSet {
	return &folderSet{cursor: c, full: full, last: map[string]folder{}}
}

func (s *folderSet) has(id string) bool { _, ok := s.last[id]; return ok }

func (s *folderSet) put(f folder) {
	name := s.cursor.Known[f.ID]
	if f.ID == "" || f.ID == s.cursor.Root || name == "searchfolders" || strings.HasSuffix(f.Type, "mailSearchFolder") {
		return
	}
	if !s.has(f.ID) {
		s.order = append(s.order, f.ID)
	}
	s.last[f.ID] = f
}

// changes makes the answer of Folders.
func (s *folderSet) changes(c folderCursor) (engine.FolderChanges, error) {
	if c.Link == "" {
		return engine.FolderChanges{}, garbage("folders", errors.New("no delta link on the last page"))
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		return engine.FolderChanges{}, backup.AsProblem(err)
	}
	out := engine.FolderChanges{Full: s.full, Cursor: string(encoded)}
	for _, id := range s.order {
		f := s.last[id]
		if f.Removed != nil {
			out.Removed = append(out.Removed, id)
			continue
		}
		parent := f.Parent
		if parent == s.cursor.Root {
			parent = ""
		}
		out.Folders = append(out.Folders, engine.Folder{
			ID: id, ParentID: parent, Name: text(f.Name), WellKnown: s.cursor.Known[id], Hidden: f.Hidden, Items: f.Items})
	}
	return out, nil
}

// absolute and relative turn Graph's links into ones that outlive a change of
// Graph's address, and back.
func (a *App) absolute(link string) string { return a.client.graph + link }

func (a *App) relative(link string) (string, error) {
	if !under(link, a.client.graph) || strings.Contains(link, "users//") {
		return "", silenceProblem(fmt.Errorf("link %q: %w", link, errForeignHost))
	}
	return strings.TrimPrefix(link, a.client.graph), nil
}
