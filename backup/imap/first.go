package imap

import (
	"bytes"
	"slices"

	goimap "github.com/emersion/go-imap/v2"

	"holdfast/backup/ahead"
	"holdfast/backup/engine"
)

// contents lists all messages when all are going to be read: a page is a batch,
// and its headers are those of the texts, so that the server has to open a message
// only once.
func (l *listing) contents() error {
	for part := range slices.Chunk(l.uids, flagPage) {
		states, err := l.read(part, withoutHeader)
		if err != nil {
			return err
		}
		for _, p := range l.pages(part, states) {
			if err := l.complete(p); err != nil {
				return err
			}
			if err := l.yield(engine.Page{Items: p.items, Full: true}); err != nil {
				return err
			}
		}
	}
	return l.end(true, nil)
}

// contentPage is a page of messages of which the small ones are read at once.
type contentPage struct {
	batch
	uids  []goimap.UID
	items []engine.ItemState
	ahead *ahead.Batch
}

// pages divides messages into pages.
func (l *listing) pages(uids []goimap.UID, states []engine.ItemState) []*contentPage {
	var pages []*contentPage
	for i, state := range states {
		var p *contentPage
		if n := len(pages); n > 0 && len(pages[n-1].uids) < batchMessages && (!small(state) || pages[n-1].room(state)) {
			p = pages[n-1]
		} else {
			p = &contentPage{}
			pages = append(pages, p)
		}
		p.uids, p.items = append(p.uids, uids[i]), append(p.items, state)
		if small(state) {
			p.add(state)
		}
	}
	for _, p := range pages {
		p.ahead = l.m.ahead.Expect(l.ctx, p.ids)
	}
	return pages
}

// complete waits for the texts of a page, while the next is asked for, and fills in
// the headers; those of messages whose text did not come are asked for.
func (l *listing) complete(p *contentPage) error {
	texts, err := l.m.ahead.Texts(l.ctx, p.ahead)
	if err != nil {
		return err
	}
	var missing []goimap.UID
	for i := range p.items {
		if text, ok := texts[p.items[i].ID]; ok {
			fill(&p.items[i], listedFields(text))
		} else {
			missing = append(missing, p.uids[i])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	items, err := l.read(missing, withHeader)
	if err != nil {
		return err
	}
	for i, uid := range missing {
		at := slices.Index(p.uids, uid)
		p.items[at] = items[i]
	}
	return nil
}

// listedFields are the header fields of a message that a listing asks for.
func listedFields(text []byte) []byte {
	var out []byte
	wanted := false
	for line := range bytes.Lines(text[:min(len(text), maxHeader)]) {
		switch line[0] {
		case '\r', '\n':
			return out
		case ' ', '\t':
		default:
			name, _, ok := bytes.Cut(line, []byte(":"))
			wanted = ok && slices.ContainsFunc(headerSection.HeaderFields, func(f string) bool {
				return len(f) == len(name) && bytes.EqualFold(name, []byte(f))
			})
		}
		if wanted {
			out = append(out, line...)
		}
	}
	return out
}
