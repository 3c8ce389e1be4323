package imap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"slices"
	"strings"
	"sync"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup/engine"
)

var (
	idSection         = &goimap.FetchItemBodySection{Specifier: goimap.PartSpecifierHeader, Peek: true, HeaderFields: []string{"Message-ID"}}
	wholeHeaderOfMail = &goimap.FetchItemBodySection{Specifier: goimap.PartSpecifierHeader, Peek: true}
)

// place is a folder that messages are restored to.
type place struct {
	next  goimap.UID    // the first that a message can get that was not there before
	flags []goimap.Flag // that the folder keeps; nil if the server does not say

	// appending is held for reading while a message is on its way, so that who
	// looks whether his arrived finds none that may be another's.
	appending sync.RWMutex
	mu        sync.Mutex
	made      map[identity]int
}

// identity is what two copies of a message have in common: its Message-ID, or its
// header if it has none, and its size.
type identity struct {
	name [16]byte
	size int64
}

// copies are the messages of a folder: for each identity when they came.
type copies map[identity][]int64

func nameOf(id string) [16]byte { return [16]byte(hash("id ", []byte(id))[:16]) }

// nameOfHeader is for a message without Message-ID. IMAP has no NUL.
func nameOfHeader(header []byte) [16]byte {
	header = bytes.TrimRight(bytes.ReplaceAll(header, []byte{0}, []byte{0x80}), "\r\n")
	return [16]byte(hash("header ", header[:min(len(header), maxHeader)])[:16])
}

func hash(kind string, data []byte) []byte {
	sum := sha256.Sum256(append([]byte(kind), data...))
	return sum[:]
}

// messageID finds the Message-ID in a header.
func messageID(header []byte) string {
	const field = "message-id:"
	lines := bytes.Split(header, []byte("\n"))
	for i, line := range lines {
		if len(line) < len(field) || !strings.EqualFold(string(line[:len(field)]), field) {
			continue
		}
		text := line[len(field):]
		for _, more := range lines[i+1:] {
			if len(more) == 0 || more[0] != ' ' && more[0] != '\t' {
				break
			}
			text = slices.Concat(text, []byte(" "), more)
		}
		return strings.Join(strings.Fields(string(text)), " ")
	}
	return ""
}

// headerOf is the header of a message with CRLF line ends.
func headerOf(text []byte) []byte {
	if bytes.HasPrefix(text, []byte("\r\n")) {
		return nil
	}
	if end := bytes.Index(text, []byte("\r\n\r\n")); end >= 0 {
		text = text[:end]
	}
	return text[:min(len(text), maxHeader)]
}

// nameOfText is the name of a message by its beginning.
func nameOfText(text []byte) [16]byte {
	header := headerOf(text)
	if id := messageID(header); id != "" {
		return nameOf(id)
	}
	return nameOfHeader(header)
}

// Present implements engine.Target. A message is there if one has its Message-ID
// and its size, or, if it has no Message-ID, its header and its size. Where a
// folder had the same message twice, each stands for one.
func (t *Target) Present(ctx context.Context, folder string) (func(engine.Restored) engine.Presence, error) {
	p, have := &place{made: map[identity]int{}}, copies{}
	err := t.pool.do(ctx, folder, func(s *session) error {
		s.path = ""
		if err := s.opened(folder, s.Select(folder, nil)); err != nil {
			return err
		}
		p.next, p.flags = goimap.UID(s.status.next), s.flags
		return s.identities(1, func(i identity, uid goimap.UID, came int64) {
			have[i] = append(have[i], came)
			p.next = max(p.next, uid+1)
		})
	})
	if err != nil {
		return nil, t.closed(err)
	}
	t.mu.Lock()
	t.places[folder] = p
	t.mu.Unlock()
	names := make(map[[16]byte]bool, len(have))
	for i := range have {
		names[i.name] = true
	}
	taken := map[identity]map[int64]int{}
	return func(m engine.Restored) engine.Presence {
		if len(have) == 0 {
			return engine.Absent
		}
		i := identity{nameOf(strings.Join(strings.Fields(m.InternetMessageID), " ")), m.Bytes}
		if m.InternetMessageID == "" || !names[i.name] || have[i] == nil {
			o, err := prepare(ctx, m)
			if err != nil {
				return engine.Absent // what is wrong with it stops its creation
			}
			i = o.identity
		}
		return have.presence(i, m.Received.Unix(), taken)
	}, nil
}

// presence says whether a message is there. Those that came at the same time
// stand for one message each.
func (c copies) presence(i identity, came int64, taken map[identity]map[int64]int) engine.Presence {
	same := 0
	for _, at := range c[i] {
		if at == came {
			same++
		}
	}
	switch {
	case len(c[i]) == 0:
		return engine.Absent
	case same == 0:
		return engine.There // it came back by another way
	}
	if taken[i] == nil {
		taken[i] = map[int64]int{}
	}
	if taken[i][came]++; taken[i][came] > same {
		return engine.Absent
	}
	return engine.There
}

// identities reads those of the messages from a UID on in the folder that was
// opened just now.
func (s *session) identities(from goimap.UID, use func(identity, goimap.UID, int64)) error {
	if s.status.messages == 0 {
		return nil
	}
	nameless := map[goimap.UID]*imapclient.FetchMessageBuffer{}
	options := &goimap.FetchOptions{UID: true, InternalDate: true, RFC822Size: true, BodySection: []*goimap.FetchItemBodySection{idSection}}
	err := s.fetch(allUIDs(from), options, func(b *imapclient.FetchMessageBuffer) {
		if b.UID < from {
			return // the last one, which a range up from beyond it names too
		}
		id := ""
		if len(b.BodySection) > 0 {
			id = messageID(b.BodySection[0].Bytes)
		}
		if id == "" {
			nameless[b.UID] = b
			return
		}
		use(identity{nameOf(id), b.RFC822Size}, b.UID, b.InternalDate.Unix())
	})
	if err != nil {
		return err
	}
	uids := make([]goimap.UID, 0, len(nameless))
	for uid := range nameless {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	options = &goimap.FetchOptions{UID: true, BodySection: []*goimap.FetchItemBodySection{wholeHeaderOfMail}}
	for part := range slices.Chunk(uids, headerPage) {
		err := s.fetch(goimap.UIDSetNum(part...), options, func(b *imapclient.FetchMessageBuffer) {
			if len(b.BodySection) > 0 {
				of := nameless[b.UID]
				use(identity{nameOfHeader(b.BodySection[0].Bytes), of.RFC822Size}, b.UID, of.InternalDate.Unix())
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// outgoing is a message on its way to a server, with the line ends of IMAP.
type outgoing struct {
	identity
	whole []byte // if it is small
	open  func(context.Context) io.ReadCloser
}

// prepare reads a message: a small one as a whole, a large one to learn how long
// it is on the wire.
func prepare(ctx context.Context, m engine.Restored) (outgoing, error) {
	text := m.Open(ctx)
	defer text.Close() //nolint:errcheck // only read from
	if m.Bytes <= wholeUpTo {
		whole, err := io.ReadAll(text)
		if err != nil {
			return outgoing{}, err
		}
		whole = CRLF(whole)
		return outgoing{identity: identity{nameOfText(whole), int64(len(whole))}, whole: whole}, nil
	}
	begin := &beginning{}
	w := &crlfWriter{w: begin}
	if _, err := io.Copy(w, text); err != nil {
		return outgoing{}, err
	}
	return outgoing{identity: identity{nameOfText(begin.text), w.written}, open: m.Open}, nil
}

// beginning keeps what a header can be of what is written to it.
type beginning struct{ text []byte }

// Write implements io.Writer.
func (b *beginning) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), maxHeader+4-len(b.text))]...)
	return len(p), nil
}

// send writes the message.
func (o outgoing) send(ctx context.Context, to io.Writer) error {
	if o.whole != nil {
		_, err := to.Write(o.whole)
		return err
	}
	text := o.open(ctx)
	defer text.Close() //nolint:errcheck // only read from
	w := &crlfWriter{w: to}
	_, err := io.Copy(w, text)
	if err == nil && w.written != o.size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
