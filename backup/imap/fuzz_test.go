package imap

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup/engine"
)

// FuzzCursor reads any text as the cursor of a folder, of all folders, and as the
// id of a message: what can be read is written the same again.
func FuzzCursor(f *testing.F) {
	f.Add(newCursor(status{validity: 1, next: 12, messages: 3, modseq: 9}, []goimap.UID{1, 2, 3, 9, 11}).text())
	f.Add(`{"f":[{"i":"A","p":"INBOX","v":7},{"i":"B","p":"Old","v":8}],"x":["shared/"]}`)
	f.Add("A/7/12")
	f.Fuzz(func(t *testing.T, text string) {
		if c, uids, err := parseCursor(text); err == nil {
			if !slices.IsSorted(uids) || len(slices.Compact(slices.Clone(uids))) != len(uids) {
				t.Errorf("UIDs out of order: %v", uids)
			}
			again, err := parseUIDs(formatUIDs(uids))
			if err != nil || !slices.Equal(again, uids) {
				t.Errorf("%q came back as %v, %v", c.UIDs, again, err)
			}
		}
		var folders folderCursor
		if json.Unmarshal([]byte(text), &folders) == nil {
			list := []*folder{{path: "INBOX", status: status{validity: 7}}, {path: "New", status: status{validity: 8}}}
			ids := map[string]bool{}
			for _, k := range identify(list, folders.Folders) {
				ids[k.ID] = true
			}
			if len(ids) != len(list) && !twice(folders.Folders) {
				t.Errorf("two folders have one id: %v", ids)
			}
		}
		if folderID, validity, uid, err := parseItemID(text); err == nil {
			if f, v, u, err := parseItemID(itemID(folderID, validity, uid)); err != nil || f != folderID || v != validity || u != uid {
				t.Errorf("%q came back as %s %d %d, %v", text, f, v, u, err)
			}
		}
	})
}

// twice says that a cursor has one id or path twice, which none of ours has.
func twice(list []knownFolder) bool {
	seen := map[string]bool{}
	for _, k := range list {
		if seen["i"+k.ID] || seen["p"+k.Path] {
			return true
		}
		seen["i"+k.ID], seen["p"+k.Path] = true, true
	}
	return false
}

// FuzzHeader reads any header and any line of a server.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("From: =?utf-8?q?B=C3=B6b?= <bob@example.org>\r\nTo: a@b, \"c, d\" <e@f>\r\nSubject: =?iso-8859-1?q?Gr=FC=DFe?=\r\nDate: Fri, 6 Nov 2026 10:00:00 +0100\r\nContent-Type: multipart/mixed; boundary=x\r\nX-Priority: 1\r\n\r\n"))
	f.Add([]byte("* NO [ALERT] Request is throttled. Suggested Backoff Time: 299961 milliseconds"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s engine.ItemState
		fill(&s, bytes.Clone(raw))
		if y := s.Sent.Year(); !s.Sent.IsZero() && (y < 1 || y > 9999) {
			t.Errorf("sent in the year %d", y)
		}
		_ = messageID(headerOf(raw))
		_ = parseAnswer(string(raw), "*")
		var once, again bytes.Buffer
		_, _ = (&crlfWriter{w: &once}).Write(raw)
		if _, _ = (&crlfWriter{w: &again}).Write(once.Bytes()); !bytes.Equal(once.Bytes(), again.Bytes()) || !bytes.Equal(CRLF(once.Bytes()), once.Bytes()) {
			t.Errorf("%q has other line ends when they are made again", raw)
		}
	})
}

// said is a connection to a server that answers each command with what it says up
// to the next line that begins with a T, as the client's tags do.
type said struct {
	net.Conn
	greeting io.Reader
	rest     *bufio.Reader
	commands chan struct{}
	closed   chan struct{}
	once     sync.Once
	line     []byte
	talking  bool
}

// Read implements net.Conn.
func (s *said) Read(p []byte) (int, error) {
	if n, err := s.greeting.Read(p); err == nil {
		return n, nil
	}
	if !s.talking {
		select {
		case <-s.commands:
			s.talking = true
		case <-s.closed:
			return 0, net.ErrClosed
		case <-time.After(20 * time.Millisecond): // the client waits for the rest of an answer
			return 0, io.ErrUnexpectedEOF
		}
	}
	if len(s.line) == 0 {
		line, err := s.rest.ReadBytes('\n')
		if s.talking = !bytes.HasPrefix(line, []byte("T")); len(line) == 0 {
			return 0, err
		}
		s.line = line
	}
	n := copy(p, s.line)
	s.line = s.line[n:]
	return n, nil
}

// Write implements net.Conn.
func (s *said) Write(p []byte) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	case s.commands <- struct{}{}:
	default: // enough
	}
	return len(p), nil
}

// Close implements net.Conn.
func (s *said) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *said) SetReadDeadline(time.Time) error  { return nil }
func (s *said) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer reads any bytes as what a server says after signing in: it may be
// refused, but never ends the program, and no text is taken for another message's.
func FuzzServer(f *testing.F) {
	f.Add([]byte("* LIST (\\HasNoChildren) \"/\" INBOX\r\n* STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7)\r\nT1 OK done\r\n" +
		"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] fine\r\n* OK [UIDNEXT 2] fine\r\nT2 OK done\r\n* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\nT3 OK done\r\n"))
	f.Add([]byte("* 1 FETCH (UID 1 FLAGS (\\Seen) INTERNALDATE \"06-Nov-2026 10:01:00 +0100\" RFC822.SIZE 5)\r\nT1 NO [NONEXISTENT] no\r\n* BYE\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		conn := &said{greeting: strings.NewReader("* PREAUTH [CAPABILITY IMAP4rev1 LIST-EXTENDED LIST-STATUS CONDSTORE] hello\r\n"),
			rest: bufio.NewReader(bytes.NewReader(data)), commands: make(chan struct{}, 100), closed: make(chan struct{})}
		client := imapclient.New(conn, nil)
		defer client.Close()
		if client.WaitGreeting() != nil {
			return
		}
		s := &session{Client: client, conn: &deadlineConn{Conn: conn, reader: conn, writer: conn, timeout: time.Minute},
			caps: map[string]bool{"IMAP4REV1": true, "LIST-EXTENDED": true, "LIST-STATUS": true, "CONDSTORE": true}}
		if _, err := s.list(nil); err != nil {
			return
		}
		if err := s.examine("INBOX", 7); err != nil {
			return
		}
		texts := map[string][]byte{}
		ids := map[goimap.UID]string{1: "one", 2: "two"}
		if err := s.texts(ids, texts); err == nil && len(texts) != len(ids) {
			t.Errorf("read %d texts of %d", len(texts), len(ids))
		}
	})
}
