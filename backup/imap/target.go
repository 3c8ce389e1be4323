package imap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	goimap "github.com/emersion/go-imap/v2"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// Target is a mailbox on a server that messages are restored to; it implements
// engine.Target. The id of a folder is its path. It marks nothing of what it
// puts there: a message is found again by its Message-ID and its size.
type Target struct {
	pool *pool

	folders map[string]*folder // by path; nil before they are listed
	prefix  string             // of the person's own folders
	delim   string

	mu     sync.Mutex
	places map[string]*place // by path
}

var _ engine.Target = (*Target)(nil)

// OpenTarget returns a mailbox on a server to restore to. It does not connect.
// The caller closes it.
func OpenTarget(server backup.IMAPServer, login Login, o Options) *Target {
	return &Target{pool: newPool(server, login, o), places: map[string]*place{}}
}

// Close ends the connections.
func (t *Target) Close() error {
	t.pool.close()
	return nil
}

// closed says of an error that nothing more can be restored.
func (t *Target) closed(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %w", engine.ErrTargetClosed, t.problem(err))
}

// problem is problem with the words for writing.
func (t *Target) problem(err error) error {
	if _, ok := errors.AsType[*goimap.Error](err); ok || backup.KindOf(err) != "" {
		return problem(t.pool.server, err)
	}
	return &backup.Problem{Kind: backup.ProblemUnavailable, Temporary: true, At: time.Now(), Err: err,
		Text: fmt.Sprintf("The connection to %s broke, or its answer could not be understood. What was restored so far is kept; Holdfast goes on by itself.", t.pool.server.Host)}
}

// look lists the folders, again if they are known already.
func (t *Target) look(ctx context.Context) error {
	return t.pool.do(ctx, "", func(s *session) error {
		var foreign []string
		if s.has("NAMESPACE") {
			data, err := s.Namespace().Wait()
			if err != nil && !spoken(err) {
				return err
			}
			if err == nil && len(data.Personal) > 0 {
				t.prefix = data.Personal[0].Prefix
				if data.Personal[0].Delim != 0 {
					t.delim = string(data.Personal[0].Delim)
				}
			}
			if foreign, err = s.foreign(); err != nil {
				return err
			}
		}
		list, err := s.list(foreign)
		if err != nil {
			return err
		}
		t.folders = make(map[string]*folder, len(list))
		for _, f := range list {
			t.folders[f.path] = f
			t.delim = cmp.Or(t.delim, f.delim)
		}
		return nil
	})
}

func (t *Target) known(ctx context.Context) error {
	if t.folders != nil {
		return nil
	}
	if err := t.look(ctx); err != nil {
		return t.closed(fmt.Errorf("list folders: %w", err))
	}
	return nil
}

// WellKnown implements engine.Target.
func (t *Target) WellKnown(ctx context.Context, name string) (string, error) {
	if name == "inbox" {
		return "INBOX", nil
	}
	if err := t.known(ctx); err != nil {
		return "", err
	}
	found := ""
	for _, f := range t.folders {
		if f.readable && f.wellKnown() == name && (found == "" || f.path < found) {
			found = f.path
		}
	}
	if found == "" {
		return "", engine.ErrNoSuchFolder
	}
	return found, nil
}

// Folder implements engine.Target.
func (t *Target) Folder(ctx context.Context, parent, name string) (string, error) {
	if err := t.known(ctx); err != nil {
		return "", err
	}
	if parent == "" && strings.EqualFold(name, "INBOX") {
		return "INBOX", nil
	}
	path := t.path(parent, safeName(name, t.delim))
	if f := t.folders[path]; f != nil && f.readable {
		return path, nil
	}
	return t.make(ctx, parent, name, path)
}

// path is that of a folder below another, where the server lets it be.
func (t *Target) path(parent, name string) string {
	f := t.folders[parent]
	switch {
	case parent == "", f != nil && f.has(goimap.MailboxAttrNoInferiors):
		return t.prefix + name
	case t.delim == "":
		return parent + " - " + name
	}
	return parent + t.delim + name
}

// make makes a folder. Where the server refuses its name, a plainer one is tried.
func (t *Target) make(ctx context.Context, parent, name, path string) (string, error) {
	for try := 0; ; try++ {
		err := t.create(ctx, path)
		if err == nil {
			t.folders[path] = &folder{path: path, delim: t.delim, readable: true}
			return path, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		// It may have been made all the same, or be there in other letters.
		if lookErr := t.look(ctx); lookErr != nil {
			return "", t.closed(errors.Join(err, lookErr))
		}
		if found := t.named(path, err); found != "" {
			return found, nil
		}
		plainer := t.path(parent, plainName(name, t.delim))
		refused, ok := errors.AsType[*goimap.Error](err)
		switch {
		case try == 0 && !ok && backup.KindOf(err) == "":
		case ok && path != plainer:
			path = plainer
		case ok:
			return "", t.closed(folderRefused(t.pool.server, name, refused))
		default:
			return "", t.closed(err)
		}
	}
}

// named finds a folder, without regard to case only if the server says that it
// exists.
func (t *Target) named(path string, err error) string {
	if f := t.folders[path]; f != nil {
		return path
	}
	refused, ok := errors.AsType[*goimap.Error](err)
	if !ok || refused.Code != goimap.ResponseCodeAlreadyExists && !strings.Contains(strings.ToLower(refused.Text), "exists") {
		return ""
	}
	for _, f := range t.folders {
		if strings.EqualFold(f.path, path) {
			return f.path
		}
	}
	return ""
}

// create makes a folder and subscribes to it, since mail programs show no others.
func (t *Target) create(ctx context.Context, path string) error {
	return t.pool.do(ctx, "", func(s *session) error {
		if err := s.Create(path, nil).Wait(); err != nil {
			return err
		}
		if err := s.Subscribe(path).Wait(); err != nil && !spoken(err) {
			return err
		}
		return nil
	})
}

// folderRefused is why a folder could not be made.
func folderRefused(server backup.IMAPServer, name string, refused *goimap.Error) error {
	if p := refusedWriting(server, refused); p.Kind != backup.ProblemItems {
		return p
	}
	return permanent(backup.ProblemPermission, refused, "%s does not make the folder “%s” (it says: %s). Make it there by hand, or restore into a folder of its own, and select Try again.",
		server.Host, name, quote(refused.Text))
}

// maxName is how long a folder's name may be, in bytes; servers keep it as a file
// name in a longer encoding.
const maxName = 160

// safeName is a name as a folder of a server can have it: the delimiter would
// make two of it, and the others are patterns.
func safeName(name, delim string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '*' || r == '%' || delim != "" && strings.ContainsRune(delim, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	for len(name) > maxName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return cmp.Or(strings.TrimSpace(name), "_")
}

// plainName is one that no server refuses.
func plainName(name, delim string) string {
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\.~#&"`, r) {
			return '_'
		}
		return r
	}, safeName(name, delim))
	return name
}
