package imap

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	goimap "github.com/emersion/go-imap/v2"

	"holdfast/backup"
	"holdfast/backup/ahead"
	"holdfast/backup/engine"
)

// Mailbox is a mailbox as a source of items; it implements engine.Source. Its
// errors carry a *backup.Problem.
type Mailbox struct {
	pool  *pool
	ahead *ahead.Reader
	all   atomic.Bool // everything that is listed is going to be asked for

	mu      sync.Mutex
	folders map[string]*folder // by id, as listed last
	known   []knownFolder      // as the last cursor has them
}

var _ engine.Source = (*Mailbox)(nil)

// Open returns a mailbox on a server. It does not connect. The caller closes it.
func Open(server backup.IMAPServer, login Login, o Options) *Mailbox {
	m := &Mailbox{pool: newPool(server, login, o)}
	m.ahead = ahead.New(batchesAhead, m.readBatch)
	return m
}

// Close ends the connections.
func (m *Mailbox) Close() error {
	m.ahead.Close()
	m.pool.close()
	return nil
}

// folder is a folder as the server lists it.
type folder struct {
	id       string
	path     string // name with all parents, decoded
	delim    string
	attrs    []goimap.MailboxAttr
	readable bool   // it holds messages
	status   status // as it was listed; zero if the server did not say
}

// knownFolder is a folder as a cursor keeps it.
type knownFolder struct {
	ID       string `json:"i"`
	Path     string `json:"p"`
	Validity uint32 `json:"v,omitempty"`
}

// folderCursor is what the next run has to know of the folders.
type folderCursor struct {
	Folders []knownFolder `json:"f"`
	// Foreign are the prefixes of other people's and shared folders, which are
	// theirs to back up.
	Foreign []string `json:"x,omitempty"`
}

// Folders implements engine.Source. Where LIST-STATUS is offered it is one round
// trip, and the folders that did not change need no further one.
func (m *Mailbox) Folders(ctx context.Context, cursor string) (engine.FolderChanges, error) {
	changes, err := m.list(ctx, cursor)
	return changes, problem(m.pool.server, err)
}

func (m *Mailbox) list(ctx context.Context, cursor string) (engine.FolderChanges, error) {
	c := folderCursor{}
	if cursor != "" {
		if err := json.Unmarshal([]byte(cursor), &c); err != nil {
			return engine.FolderChanges{}, fmt.Errorf("folders: %w: %w", engine.ErrCursorExpired, err)
		}
	}
	m.mu.Lock()
	if cursor == "" {
		c.Folders = m.known
	}
	m.mu.Unlock()
	var folders []*folder
	err := m.pool.do(ctx, "", func(s *session) (err error) {
		if cursor == "" {
			if c.Foreign, err = s.foreign(); err != nil {
				return err
			}
		}
		if folders, err = s.list(c.Foreign); err != nil {
			return err
		}
		return s.statuses(folders)
	})
	if err != nil {
		return engine.FolderChanges{}, fmt.Errorf("list folders: %w", err)
	}
	c.Folders = identify(folders, c.Folders)
	text, err := json.Marshal(c)
	if err != nil {
		return engine.FolderChanges{}, err
	}
	out := engine.FolderChanges{Full: true, Cursor: string(text), Folders: tree(folders)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known, m.folders = c.Folders, make(map[string]*folder, len(folders))
	for _, f := range folders {
		m.folders[f.id] = f
	}
	return out, nil
}

// foreign asks for the prefixes of what is not the mailbox's own.
func (s *session) foreign() ([]string, error) {
	if !s.has("NAMESPACE") {
		return nil, nil
	}
	data, err := s.Namespace().Wait()
	if err != nil {
		if spoken(err) {
			return nil, nil // the server may offer it and refuse it all the same
		}
		return nil, err
	}
	var out []string
	for _, n := range slices.Concat(data.Other, data.Shared) {
		if n.Prefix != "" {
			out = append(out, n.Prefix)
		}
	}
	return out, nil
}

// list lists the folders, sorted by path, with their statuses if that costs
// nothing.
func (s *session) list(foreign []string) ([]*folder, error) {
	var options *goimap.ListOptions
	if s.has("LIST-EXTENDED") {
		options = &goimap.ListOptions{ReturnSpecialUse: s.has("SPECIAL-USE")}
		if s.has("LIST-STATUS") {
			options.ReturnStatus = s.statusItems()
		}
	}
	data, err := s.List("", "*", options).Collect()
	if err != nil {
		return nil, err
	}
	byPath := map[string]*folder{}
	for _, d := range data {
		if d.Mailbox == "" || isForeign(d.Mailbox, foreign) {
			continue
		}
		f := &folder{path: d.Mailbox, attrs: d.Attrs, readable: true}
		if d.Delim != 0 {
			f.delim = string(d.Delim)
		}
		for _, a := range d.Attrs {
			if strings.EqualFold(string(a), string(goimap.MailboxAttrNoSelect)) || strings.EqualFold(string(a), string(goimap.MailboxAttrNonExistent)) {
				f.readable = false
			}
		}
		if d.Status != nil {
			f.status = statusOf(d.Status)
		}
		byPath[f.path] = f
	}
	out := make([]*folder, 0, len(byPath))
	for _, f := range byPath {
		if !virtual(f, byPath) {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b *folder) int { return strings.Compare(a.path, b.path) })
	return out, nil
}

func isForeign(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool {
		return strings.HasPrefix(path, p) || path == p[:len(p)-1]
	})
}

// virtual says that a folder shows only messages of others: those flagged or
// important, where all messages are in one (Gmail).
func virtual(f *folder, all map[string]*folder) bool {
	if !f.has(goimap.MailboxAttrFlagged) && !f.has(goimap.MailboxAttrImportant) {
		return false
	}
	for _, o := range all {
		if o.has(goimap.MailboxAttrAll) {
			return true
		}
	}
	return false
}

func (f *folder) has(attr goimap.MailboxAttr) bool {
	return slices.ContainsFunc(f.attrs, func(a goimap.MailboxAttr) bool { return strings.EqualFold(string(a), string(attr)) })
}

// statusPipeline is how many STATUS commands are on their way at a time.
const statusPipeline = 50

// statuses asks for those that the list did not bring.
func (s *session) statuses(folders []*folder) error {
	var missing []*folder
	for _, f := range folders {
		if f.readable && f.status == (status{}) {
			missing = append(missing, f)
		}
	}
	for part := range slices.Chunk(missing, statusPipeline) {
		waits := make([]func() (*goimap.StatusData, error), len(part))
		for i, f := range part {
			waits[i] = s.Status(f.path, s.statusItems()).Wait
		}
		for i, wait := range waits {
			data, err := wait()
			if err != nil && !spoken(err) {
				return err
			}
			if err == nil {
				part[i].status = statusOf(data) // else opening the folder tells why
			}
		}
	}
	return nil
}

func (s *session) statusItems() *goimap.StatusOptions {
	return &goimap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true, HighestModSeq: s.has("CONDSTORE")}
}

// identify gives each folder its id: that of the known folder of the same path;
// or of one that is gone and had the same UIDVALIDITY as no other, since then it
// was renamed; or a new one.
func identify(folders []*folder, known []knownFolder) []knownFolder {
	byPath, taken := map[string]knownFolder{}, map[string]bool{}
	for _, k := range known {
		byPath[k.Path] = k
		taken[k.ID] = true
	}
	listed, validities := map[string]bool{}, map[uint32]int{}
	for _, f := range folders {
		listed[f.path] = true
		validities[f.status.validity]++
	}
	gone := map[uint32][]knownFolder{}
	for _, k := range known {
		if !listed[k.Path] {
			gone[k.Validity] = append(gone[k.Validity], k)
		}
	}
	out := make([]knownFolder, 0, len(folders))
	for _, f := range folders {
		v := f.status.validity
		k, ok := byPath[f.path]
		switch {
		case ok:
			f.id = k.ID
			if v == 0 {
				v = k.Validity
			}
		case v != 0 && validities[v] == 1 && len(gone[v]) == 1:
			f.id = gone[v][0].ID
		default:
			f.id = newFolderID(f.path, v, taken)
		}
		taken[f.id] = true
		out = append(out, knownFolder{ID: f.id, Path: f.path, Validity: v})
	}
	return out
}

func newFolderID(path string, validity uint32, taken map[string]bool) string {
	for n := 0; ; n++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d/%s", n, validity, path))
		if id := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:10]); !taken[id] {
			return id
		}
	}
}

// tree gives the folders their parents and names.
func tree(folders []*folder) []engine.Folder {
	ids := make(map[string]string, len(folders))
	for _, f := range folders {
		ids[f.path] = f.id
	}
	out := make([]engine.Folder, len(folders))
	for i, f := range folders {
		parent, name := "", f.path
		if f.delim != "" {
			for at := strings.LastIndex(f.path, f.delim); at > 0; at = strings.LastIndex(f.path[:at], f.delim) {
				if id, ok := ids[f.path[:at]]; ok && at+len(f.delim) < len(f.path) {
					parent, name = id, f.path[at+len(f.delim):]
					break
				}
			}
		}
		out[i] = engine.Folder{ID: f.id, ParentID: parent, Name: name, WellKnown: f.wellKnown(), Items: int64(f.status.messages)}
	}
	return out
}

// wellKnown is the name by which Holdfast knows a special folder (RFC 6154).
func (f *folder) wellKnown() string {
	if strings.EqualFold(f.path, "INBOX") {
		return "inbox"
	}
	for attr, name := range map[goimap.MailboxAttr]string{
		goimap.MailboxAttrSent: "sentitems", goimap.MailboxAttrDrafts: "drafts", goimap.MailboxAttrTrash: "deleteditems",
		goimap.MailboxAttrJunk: "junkemail", goimap.MailboxAttrArchive: "archive",
	} {
		if f.has(attr) {
			return name
		}
	}
	return ""
}

// folder finds a listed folder by its id.
func (m *Mailbox) folder(id string) (*folder, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.folders[id]
	return f, ok
}
