package imap

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// How many messages a page has whose header is read, and whose flags alone are.
const (
	headerPage = 250
	flagPage   = 2000
)

// unread is the cursor of a folder that holds no messages, only other folders.
const unread = "-"

// errNotThere says that the folder or message is not there.
var errNotThere = errors.New("not there")

// errStop ends a listing whose reader wants no more.
var errStop = errors.New("stopped")

// Changes implements engine.Source.
func (m *Mailbox) Changes(ctx context.Context, folderID, since string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		l := &listing{m: m, ctx: ctx, yield: func(p engine.Page) error {
			if !yield(p, nil) {
				return errStop
			}
			return nil
		}}
		switch err := l.run(folderID, since); {
		case err == nil || errors.Is(err, errStop):
		case errors.Is(err, errNotThere):
			yield(engine.Page{}, fmt.Errorf("%w: %w", engine.ErrItemGone, err))
		case errors.Is(err, engine.ErrCursorExpired):
			yield(engine.Page{}, err)
		default:
			yield(engine.Page{}, problem(m.pool.server, err))
		}
	}
}

// listing reads the changes of one folder. It holds no connection while a page
// is worked on, so that even one connection is enough for all.
type listing struct {
	m      *Mailbox
	ctx    context.Context //nolint:containedctx // lives as long as one call of Changes
	folder *folder
	now    status
	uids   []goimap.UID // of all messages, sorted
	yield  func(engine.Page) error
}

func (l *listing) run(folderID, since string) error {
	f, ok := l.m.folder(folderID)
	if !ok {
		return errNotThere
	}
	l.folder = f
	if !f.readable {
		return l.yield(engine.Page{Full: true, Cursor: unread})
	}
	var was cursor
	var old []goimap.UID
	if since != "" {
		var err error
		if was, old, err = parseCursor(since); err != nil {
			return fmt.Errorf("%w: %w", engine.ErrCursorExpired, err)
		}
		if was.same(f.status) {
			return l.yield(engine.Page{Cursor: since})
		}
	}
	if err := l.look(); err != nil {
		return err
	}
	switch {
	case since == "":
		return l.whole()
	case was.Validity != l.now.validity, l.now.next != 0 && l.now.next < was.Next:
		return fmt.Errorf("%w: UIDVALIDITY was %d and is %d, UIDNEXT was %d and is %d", engine.ErrCursorExpired, was.Validity, l.now.validity, was.Next, l.now.next)
	case was.complete() && l.now.modseq != 0:
		return l.counted(was, old)
	}
	return l.compared(was)
}

// look opens the folder anew and asks which messages it has, in one round trip.
func (l *listing) look() error {
	return l.do(func(s *session) error {
		s.path = ""
		open := s.Select(l.folder.path, &goimap.SelectOptions{ReadOnly: true, CondStore: s.has("CONDSTORE")})
		var options *goimap.SearchOptions
		if s.has("ESEARCH") {
			options = &goimap.SearchOptions{ReturnAll: true}
		}
		search := s.UIDSearch(&goimap.SearchCriteria{}, options)
		if err := s.opened(l.folder.path, open); err != nil {
			_, _ = search.Wait() // refused as well
			return err
		}
		l.now = s.status
		found, err := search.Wait()
		if err != nil && !spoken(err) {
			return err
		}
		l.uids = nil
		if err == nil && found.All != nil && !found.All.Dynamic() {
			l.uids = found.AllUIDs()
		}
		slices.Sort(l.uids)
		l.uids = slices.Compact(l.uids)
		return l.check(s)
	})
}

// check holds what SEARCH found against the number of messages: some servers'
// SEARCH is faulty, and a message that it leaves out must not count as deleted.
func (l *listing) check(s *session) error {
	if l.exist(s) <= len(l.uids) {
		return nil
	}
	l.uids = nil
	err := s.fetch(allUIDs(1), &goimap.FetchOptions{UID: true}, func(b *imapclient.FetchMessageBuffer) { l.uids = append(l.uids, b.UID) })
	if err != nil {
		return err
	}
	slices.Sort(l.uids)
	l.uids = slices.Compact(l.uids)
	if n := l.exist(s); n > len(l.uids) {
		return fmt.Errorf("the folder has %d messages, but the server names %d", n, len(l.uids))
	}
	return nil
}

func (l *listing) exist(s *session) int {
	if box := s.Mailbox(); box != nil {
		return int(box.NumMessages)
	}
	return 0
}

// whole lists all messages.
func (l *listing) whole() error {
	if l.m.all.Load() {
		return l.contents()
	}
	return l.headers(l.uids, true, nil)
}

// counted lists what changed, where the server counts changes.
func (l *listing) counted(was cursor, old []goimap.UID) error {
	gone, fresh := without(old, l.uids), without(l.uids, old)
	if was.ModSeq != l.now.modseq && len(l.uids) > len(fresh) {
		var changed []engine.ItemState
		err := l.do(func(s *session) error {
			if err := s.examine(l.folder.path, l.now.validity); err != nil {
				return err
			}
			changed = nil
			options := &goimap.FetchOptions{UID: true, Flags: true, InternalDate: true, ChangedSince: was.ModSeq}
			return s.fetch(allUIDs(1), options, func(b *imapclient.FetchMessageBuffer) {
				if _, isNew := slices.BinarySearch(fresh, b.UID); !isNew {
					changed = append(changed, l.state(b))
				}
			})
		})
		if err != nil {
			return err
		}
		for part := range slices.Chunk(changed, flagPage) {
			if err := l.yield(engine.Page{Items: part}); err != nil {
				return err
			}
		}
	}
	removed := make([]string, len(gone))
	for i, uid := range gone {
		removed[i] = itemID(l.folder.id, l.now.validity, uid)
	}
	return l.headers(fresh, false, removed)
}

// compared lists the flags of all messages, since the server does not say which
// changed, and the headers of those that came since.
func (l *listing) compared(was cursor) error {
	var fresh []goimap.UID
	var states []engine.ItemState
	err := l.do(func(s *session) error {
		if err := s.examine(l.folder.path, l.now.validity); err != nil {
			return err
		}
		fresh, states = nil, nil
		seen := map[goimap.UID]bool{}
		if len(l.uids) > 0 && uint32(l.uids[0]) < was.Next {
			known := goimap.UIDSet{{Start: 1, Stop: goimap.UID(was.Next - 1)}}
			err := s.fetch(known, &goimap.FetchOptions{UID: true, Flags: true, InternalDate: true}, func(b *imapclient.FetchMessageBuffer) {
				seen[b.UID] = true
				states = append(states, l.state(b))
			})
			if err != nil {
				return err
			}
		}
		for _, uid := range l.uids {
			if !seen[uid] {
				fresh = append(fresh, uid)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for part := range slices.Chunk(states, flagPage) {
		if err := l.yield(engine.Page{Items: part, Full: true}); err != nil {
			return err
		}
	}
	return l.headers(fresh, true, nil)
}

// headers lists messages with their headers, and ends the listing.
func (l *listing) headers(uids []goimap.UID, full bool, removed []string) error {
	for part := range slices.Chunk(uids, headerPage) {
		items, err := l.read(part, withHeader)
		if err != nil {
			return err
		}
		if err := l.yield(engine.Page{Items: items, Full: full}); err != nil {
			return err
		}
	}
	return l.end(full, removed)
}

// end ends the listing.
func (l *listing) end(full bool, removed []string) error {
	return l.yield(engine.Page{Removed: removed, Full: full, Cursor: newCursor(l.now, l.uids).text()})
}

// What a listing asks of messages, with their headers and without.
var (
	withHeader = &goimap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true,
		BodySection: []*goimap.FetchItemBodySection{headerSection}}
	withoutHeader = &goimap.FetchOptions{UID: true, Flags: true, InternalDate: true, RFC822Size: true}
)

// read reads what options ask for. If one message breaks the answer, or the server
// refuses it, the others are read without it, and it stands alone: its content
// tells whether it can be read.
func (l *listing) read(uids []goimap.UID, options *goimap.FetchOptions) ([]engine.ItemState, error) {
	found := make(map[goimap.UID]engine.ItemState, len(uids))
	err := l.do(func(s *session) error {
		if err := s.examine(l.folder.path, l.now.validity); err != nil {
			return err
		}
		return s.fetch(goimap.UIDSetNum(uids...), options, func(b *imapclient.FetchMessageBuffer) { found[b.UID] = l.state(b) })
	})
	switch {
	case err != nil && (l.ctx.Err() != nil || errors.Is(err, errNotThere) || fatal(err)):
		return nil, err
	case err != nil && len(uids) > 1:
		first, err := l.read(uids[:len(uids)/2], options)
		if err != nil {
			return nil, err
		}
		second, err := l.read(uids[len(uids)/2:], options)
		return append(first, second...), err
	}
	items := make([]engine.ItemState, len(uids))
	for i, uid := range uids {
		item, ok := found[uid]
		if !ok {
			item = engine.ItemState{ID: itemID(l.folder.id, l.now.validity, uid)}
		}
		items[i] = item
	}
	return items, nil
}

// fatal says that an error has nothing to do with single messages: the server
// takes no connection, or refuses to go on.
func fatal(err error) bool { return backup.KindOf(err) != "" }

// do lends work a connection.
func (l *listing) do(work func(*session) error) error {
	return l.m.pool.do(l.ctx, l.folder.path, work)
}

// allUIDs are those from first on.
func allUIDs(first goimap.UID) goimap.UIDSet { return goimap.UIDSet{{Start: first, Stop: 0}} }

// fetch runs a FETCH and hands each message to use.
func (s *session) fetch(set goimap.UIDSet, options *goimap.FetchOptions, use func(*imapclient.FetchMessageBuffer)) error {
	cmd := s.Fetch(set, options)
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		b, err := collect(msg)
		if err != nil {
			s.abandon(cmd, true)
			return err
		}
		if b.UID != 0 && set.Contains(b.UID) {
			use(b)
		}
	}
	return cmd.Close()
}

// opened waits for a folder to be open.
func (s *session) opened(path string, open *imapclient.SelectCommand) error {
	data, err := open.Wait()
	if err != nil {
		if refused, ok := errors.AsType[*goimap.Error](err); ok && refused.Type == goimap.StatusResponseTypeNo && missing(refused) {
			return fmt.Errorf("folder: %w: %w", errNotThere, err)
		}
		return fmt.Errorf("open folder: %w", err)
	}
	// From the answer itself: Mailbox may still tell of the folder before, since
	// the client notes the new one only after it has said that the command is done.
	s.path, s.flags = path, data.PermanentFlags
	s.status = status{validity: data.UIDValidity, next: uint32(data.UIDNext), messages: data.NumMessages, modseq: data.HighestModSeq}
	return nil
}

// missing says that a server refuses a folder because it does not exist.
func missing(err *goimap.Error) bool {
	text := strings.ToLower(err.Text)
	return err.Code == goimap.ResponseCodeNonExistent || strings.Contains(text, "doesn't exist") || strings.Contains(text, "does not exist") ||
		strings.Contains(text, "not found") || strings.Contains(text, "no such") || strings.Contains(text, "unknown mailbox")
}

// examine opens a folder for reading, unless it is open. One that is another
// than it was is errNotThere.
func (s *session) examine(path string, validity uint32) error {
	if s.path != path {
		s.path = ""
		open := s.Select(path, &goimap.SelectOptions{ReadOnly: true, CondStore: s.has("CONDSTORE")})
		if err := s.opened(path, open); err != nil {
			return err
		}
	}
	if s.status.validity != validity {
		return fmt.Errorf("folder has another UIDVALIDITY: %w", errNotThere)
	}
	return nil
}
