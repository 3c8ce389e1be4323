package imap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup/engine"
)

// What one command asks for: so many bytes of so many messages. One more batch is
// on its way while one is worked on.
const (
	batchBytes    = 2 << 20
	batchMessages = 100
)

// maxBroken is after how many batches without one that worked in between the
// messages are asked for one by one.
const maxBroken = 3

// batch is messages that are asked for by one command. It came as a whole or not
// at all: only the end of the answer tells that no length in it was wrong.
type batch struct {
	ctx      context.Context //nolint:containedctx // of the run that expects them
	folder   *folder
	validity uint32
	ids      map[goimap.UID]string
	size     int64 // of all, as the server says
	next     *batch

	once  sync.Once
	done  chan struct{}     // closed when texts is there
	texts map[string][]byte // by id; nil if the answer broke
}

// readAhead is the messages that are going to be asked for.
type readAhead struct {
	mu      sync.Mutex
	of      map[string]*batch
	last    *batch
	all     bool // everything that is listed is going to be asked for
	broken  int  // batches in a row that broke
	reading sync.WaitGroup
	closed  bool
}

var (
	_ engine.Expecter = (*Mailbox)(nil)
	_ engine.Beginner = (*Mailbox)(nil)
)

// ExpectAll implements engine.Beginner.
func (m *Mailbox) ExpectAll() {
	m.ahead.mu.Lock()
	defer m.ahead.mu.Unlock()
	m.ahead.all = true
}

// Expect implements engine.Expecter. A command for each message costs a round
// trip, and a server twice the work.
func (m *Mailbox) Expect(ctx context.Context, items []engine.ItemState) {
	var b *batch
	for _, i := range items {
		folderID, validity, uid, err := parseItemID(i.ID)
		f, ok := m.folder(folderID)
		if err != nil || !ok || !small(i) || m.ahead.has(i.ID) {
			continue
		}
		if b == nil || b.folder != f || b.validity != validity || !b.room(i) {
			m.ahead.addMany(b)
			b = newBatch(ctx, f, validity)
		}
		b.add(uid, i)
	}
	m.ahead.addMany(b)
}

// small says that a message may be read with others.
func small(i engine.ItemState) bool { return i.Size > 0 && i.Size <= wholeUpTo }

func newBatch(ctx context.Context, f *folder, validity uint32) *batch {
	return &batch{ctx: ctx, folder: f, validity: validity, ids: map[goimap.UID]string{}, done: make(chan struct{})}
}

func (b *batch) room(i engine.ItemState) bool {
	return b.size+i.Size <= batchBytes && len(b.ids) < batchMessages
}

func (b *batch) add(uid goimap.UID, i engine.ItemState) {
	b.ids[uid] = i.ID
	b.size += i.Size
}

// has says whether a message is in a batch already.
func (a *readAhead) has(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of[id] != nil
}

// addMany puts a batch behind the others, if it is worth one.
func (a *readAhead) addMany(b *batch) {
	if b != nil && len(b.ids) > 1 {
		a.add(b)
	}
}

// add puts a batch behind the others.
func (a *readAhead) add(b *batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.broken >= maxBroken {
		return
	}
	if a.of == nil {
		a.of = map[string]*batch{}
	}
	for _, id := range b.ids {
		a.of[id] = b
	}
	if a.last != nil {
		a.last.next = b
	}
	a.last = b
}

// start gives the batch that an expected message is in, and sees to it that it
// and the next are read.
func (a *readAhead) start(m *Mailbox, id string) *batch {
	a.mu.Lock()
	b := a.of[id]
	delete(a.of, id)
	a.mu.Unlock()
	if b != nil {
		a.read(m, b)
	}
	return b
}

// read sees to it that a batch and the next are read, unless that is of no use.
func (a *readAhead) read(m *Mailbox, b *batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, now := range []*batch{b, b.next} {
		switch {
		case now == nil:
		case len(now.ids) == 0, a.closed, a.broken >= maxBroken:
			now.once.Do(func() { close(now.done) })
		default:
			now.once.Do(func() { a.reading.Go(func() { m.readBatch(now) }) })
		}
	}
}

// expected returns the text of a message that was read with others.
func (m *Mailbox) expected(ctx context.Context, id string) (io.ReadCloser, bool) {
	b := m.ahead.start(m, id)
	if b == nil {
		return nil, false
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil, false
	}
	m.ahead.mu.Lock()
	defer m.ahead.mu.Unlock()
	text, ok := b.texts[id]
	delete(b.texts, id)
	return io.NopCloser(bytes.NewReader(text)), ok
}

// readBatch asks for the messages of a batch. Why one is not to be had is found
// out when it is asked for alone.
func (m *Mailbox) readBatch(b *batch) {
	defer close(b.done)
	texts := make(map[string][]byte, len(b.ids))
	err := m.pool.do(b.ctx, b.folder.path, func(s *session) error {
		if err := s.examine(b.folder.path, b.validity); err != nil {
			return err
		}
		return s.texts(b.ids, texts)
	})
	m.ahead.mu.Lock()
	defer m.ahead.mu.Unlock()
	if err == nil {
		b.texts, m.ahead.broken = texts, 0
	} else if b.ctx.Err() == nil {
		m.ahead.broken++
	}
}

var errBatch = errors.New("the server's answer is not what was asked for")

// texts reads messages into a map by id.
func (s *session) texts(ids map[goimap.UID]string, into map[string][]byte) error {
	set := goimap.UIDSet{}
	for uid := range ids {
		set.AddNum(uid)
	}
	cmd := s.Fetch(set, &goimap.FetchOptions{UID: true, BodySection: []*goimap.FetchItemBodySection{bodySection}})
	room := int64(2 * batchBytes) // sizes may be wrong, but not by any amount
	for msg := cmd.Next(); msg != nil; msg = cmd.Next() {
		uid, text, err := readText(msg, room)
		room -= int64(len(text))
		if err == nil && text != nil { // a change of flags has none
			if into[ids[uid]] != nil || ids[uid] == "" {
				err = fmt.Errorf("message %d: %w", uid, errBatch)
			}
			into[ids[uid]] = text
		}
		if err != nil {
			s.abandon(cmd, !errors.Is(err, errBatch))
			return err
		}
	}
	if err := cmd.Close(); err != nil {
		return err
	}
	if len(into) != len(ids) {
		return &goimap.Error{Type: goimap.StatusResponseTypeNo, Text: "some messages did not come"}
	}
	return nil
}

// readText reads one message of an answer, of at most as many bytes as there is
// room for.
func readText(msg *imapclient.FetchMessageData, room int64) (uid goimap.UID, text []byte, err error) {
	for item := msg.Next(); item != nil; item = msg.Next() {
		switch item := item.(type) {
		case imapclient.FetchItemDataUID:
			uid = item.UID
		case imapclient.FetchItemDataBodySection:
			if item.Literal == nil {
				continue
			}
			if item.Literal.Size() > room {
				return 0, nil, errBatch
			}
			text = make([]byte, item.Literal.Size())
			if _, err := io.ReadFull(item.Literal, text); err != nil {
				return 0, nil, err
			}
		}
	}
	return uid, text, nil
}

// close lets nothing more be read ahead, and waits for what is under way.
func (a *readAhead) close() {
	a.mu.Lock()
	a.closed, a.of, a.last = true, nil, nil
	a.mu.Unlock()
	a.reading.Wait()
}
