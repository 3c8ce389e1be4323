package imap

import (
	"context"
	"errors"
	"fmt"
	"io"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup/engine"
)

// What one command asks for: so many bytes of so many messages. One more batch is
// on its way while one is worked on.
const (
	batchBytes    = 2 << 20
	batchMessages = 100
	batchesAhead  = 1
)

var (
	_ engine.Expecter = (*Mailbox)(nil)
	_ engine.Beginner = (*Mailbox)(nil)
)

// ExpectAll implements engine.Beginner.
func (m *Mailbox) ExpectAll() { m.all.Store(true) }

// Expect implements engine.Expecter. A command for each message costs a round
// trip, and a server twice the work.
func (m *Mailbox) Expect(ctx context.Context, items []engine.ItemState) {
	var b batch
	expect := func() {
		if len(b.ids) > 1 {
			m.ahead.Expect(ctx, b.ids)
		}
	}
	of := "" // the folder of the batch, with its validity
	for _, i := range items {
		folderID, validity, _, err := parseItemID(i.ID)
		if err != nil || !small(i) || m.ahead.Expects(i.ID) {
			continue
		}
		if folder := fmt.Sprint(folderID, " ", validity); folder != of || !b.room(i) {
			expect()
			b, of = batch{}, folder
		}
		b.add(i)
	}
	expect()
}

// small says that a message may be read with others.
func small(i engine.ItemState) bool { return i.Size > 0 && i.Size <= wholeUpTo }

// batch is messages of one folder that are asked for by one command.
type batch struct {
	ids  []string
	size int64 // of all, as the server says
}

func (b *batch) room(i engine.ItemState) bool {
	return b.size+i.Size <= batchBytes && len(b.ids) < batchMessages
}

func (b *batch) add(i engine.ItemState) {
	b.ids = append(b.ids, i.ID)
	b.size += i.Size
}

// readBatch reads messages of one folder with one command. They come as a whole or
// not at all: only the end of the answer tells that no length in it was wrong. Why
// one is not to be had is found out when it is asked for alone.
func (m *Mailbox) readBatch(ctx context.Context, ids []string) (map[string][]byte, error) {
	uids := make(map[goimap.UID]string, len(ids))
	var in *folder
	var of uint32
	for _, id := range ids {
		folderID, validity, uid, err := parseItemID(id)
		if err != nil {
			return nil, err
		}
		f, ok := m.folder(folderID)
		if !ok {
			return nil, fmt.Errorf("%w: its folder is gone", engine.ErrItemGone)
		}
		in, of, uids[uid] = f, validity, id
	}
	texts := make(map[string][]byte, len(ids))
	err := m.pool.do(ctx, in.path, func(s *session) error {
		if err := s.examine(in.path, of); err != nil {
			return err
		}
		return s.texts(uids, texts)
	})
	return texts, err
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
			text = newText(item.Literal.Size())
			if _, err := io.ReadFull(item.Literal, text); err != nil {
				return 0, nil, err
			}
		}
	}
	return uid, text, nil
}
