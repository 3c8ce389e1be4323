package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// wholeUpTo is the size up to which a message is read before it is handed on,
// so that a connection that breaks meanwhile costs a second try and not the
// message. Larger ones are streamed.
const wholeUpTo = 1 << 20

// maxHeader bounds what is read of a message's header for the listing.
const maxHeader = 64 << 10

var bodySection = &goimap.FetchItemBodySection{Peek: true}

// Content implements engine.Source.
func (m *Mailbox) Content(ctx context.Context, id string) (io.ReadCloser, error) {
	folderID, validity, uid, err := parseItemID(id)
	if err != nil {
		return nil, err
	}
	if text, ok := m.ahead.Content(ctx, id); ok {
		return holdText(text), nil
	}
	f, ok := m.folder(folderID)
	if !ok {
		return nil, fmt.Errorf("%w: its folder is gone", engine.ErrItemGone)
	}
	for try := 1; ; try++ {
		body, err := m.content(ctx, f, validity, uid)
		switch {
		case err == nil:
			return body, nil
		case errors.Is(err, errNotThere):
			return nil, fmt.Errorf("%w: %w", engine.ErrItemGone, err)
		case try == 1 && ctx.Err() == nil && !spoken(err) && backup.KindOf(err) == "":
			continue // the connection broke
		}
		return nil, unreadable(m.pool.server, err)
	}
}

// unreadable says of an error that it concerns one message, if the server does.
func unreadable(server backup.IMAPServer, err error) error {
	if refused, ok := errors.AsType[*goimap.Error](err); ok {
		return &backup.Problem{Kind: backup.ProblemItems, Code: string(refused.Code), Temporary: true, At: time.Now(), Err: err,
			Text: fmt.Sprintf("%s does not hand this message out (it says: %s). Holdfast tries again in every run.", server.Host, quote(refused.Text))}
	}
	return problem(server, err)
}

// content asks for a message. The connection is given back when its body is
// closed, or at once if it is small.
func (m *Mailbox) content(ctx context.Context, f *folder, validity uint32, uid goimap.UID) (io.ReadCloser, error) {
	s, err := m.pool.take(ctx, f.path)
	if err != nil {
		return nil, err
	}
	b := &body{pool: m.pool, session: s, ctx: ctx, done: s.work(ctx), server: m.pool.server}
	if err := b.open(f, validity, uid); err != nil {
		b.end(err)
		return nil, b.reason(err)
	}
	if b.size > wholeUpTo {
		return b, nil
	}
	text := make([]byte, 0, b.size+bytes.MinRead)
	buf := bytes.NewBuffer(text)
	_, err = buf.ReadFrom(b)
	if closeErr := b.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	return io.NopCloser(buf), nil
}

// body is the text of a message on its way. It is whole only if the server ends
// its answer as it should: a literal whose size was wrong breaks that.
type body struct {
	pool    *pool
	session *session
	ctx     context.Context //nolint:containedctx // of the call of Content that opened it
	done    func()
	server  backup.IMAPServer
	cmd     *imapclient.FetchCommand
	literal io.Reader
	size    int64
	read    int64
	err     error // io.EOF when it was read to its end
	ended   bool
}

// open sends the command and reads to the beginning of the text.
func (b *body) open(f *folder, validity uint32, uid goimap.UID) error {
	if err := b.session.examine(f.path, validity); err != nil {
		return err
	}
	b.cmd = b.session.Fetch(goimap.UIDSetNum(uid), &goimap.FetchOptions{UID: true, BodySection: []*goimap.FetchItemBodySection{bodySection}})
	for msg := b.cmd.Next(); msg != nil; msg = b.cmd.Next() {
		for item := msg.Next(); item != nil; item = msg.Next() {
			if text, ok := item.(imapclient.FetchItemDataBodySection); ok && text.Literal != nil {
				b.literal, b.size = text.Literal, text.Literal.Size()
				return nil
			}
		}
	}
	if err := b.cmd.Close(); err != nil {
		return err
	}
	return b.session.absent(uid)
}

// absent says why a message that was asked for did not come.
func (s *session) absent(uid goimap.UID) error {
	found, err := s.UIDSearch(&goimap.SearchCriteria{UID: []goimap.UIDSet{goimap.UIDSetNum(uid)}}, nil).Wait()
	if err != nil {
		return err
	}
	for _, u := range found.AllUIDs() {
		if u == uid {
			return &goimap.Error{Type: goimap.StatusResponseTypeNo, Text: "it lists the message and sends nothing"}
		}
	}
	return fmt.Errorf("message: %w", errNotThere)
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.literal.Read(p)
	b.read += int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && b.read < b.size:
		err = io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		if endErr := b.cmd.Close(); errors.Is(endErr, io.EOF) {
			err = io.ErrUnexpectedEOF // of the connection, not of the text
		} else if endErr != nil {
			err = fmt.Errorf("end of the message: %w", endErr)
		}
	}
	b.err = err
	b.end(err)
	if !errors.Is(err, io.EOF) {
		b.err = b.reason(err)
		if b.size > wholeUpTo { // nobody tries again
			b.err = problem(b.server, b.err)
		}
	}
	return n, b.err
}

// Close implements io.Closer. A connection on which half a message is still to
// come is not used again.
func (b *body) Close() error {
	b.end(io.ErrUnexpectedEOF)
	return nil
}

func (b *body) reason(err error) error {
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	return err
}

// end gives the connection back, or up.
func (b *body) end(err error) {
	if b.ended {
		return
	}
	b.ended = true
	b.done()
	if errors.Is(err, io.EOF) || spoken(err) {
		b.pool.put(b.session)
		return
	}
	b.pool.drop(b.session)
	if b.cmd != nil {
		b.session.abandon(b.cmd, b.err != nil)
	}
}

// abandon ends a command whose answer broke, and its connection. Where reading a
// text failed, the client goes on reading behind it: it has to end before the
// command throws away what is left of the text, or both would read at once.
func (s *session) abandon(cmd *imapclient.FetchCommand, failed bool) {
	_ = s.conn.Close() // or the rest would have to be read
	if failed {
		<-s.Closed()
	}
	_ = cmd.Close()
}
