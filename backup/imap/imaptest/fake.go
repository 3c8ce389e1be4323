package imaptest

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
)

// Fake is an IMAP server in the test's process that knows what a backup asks for
// and no more, and misbehaves where Fault says so.
type Fake struct {
	// Caps is what it offers before and after signing in.
	Before, After string
	// Fault answers a command instead of the server; false if it leaves it to the
	// server. Connection counts from 1.
	Fault func(c *FakeConn, verb, line string) bool
	// MaxConnections refuses further ones at sign-in; 0 for none.
	MaxConnections int

	mu       sync.Mutex
	folders  map[string]*FakeFolder
	commands []string
	live     int
	count    int
	port     int
	ca       string
}

// FakeFolder is a folder of a Fake.
type FakeFolder struct {
	Validity, Next uint32
	Messages       []FakeMessage
}

// FakeMessage is a message in it.
type FakeMessage struct {
	UID   uint32
	Flags string
	Text  string
}

// FakeConn is a connection to a Fake.
type FakeConn struct {
	net.Conn
	Number int
	r      *bufio.Reader
	folder string
}

// Say writes lines.
func (c *FakeConn) Say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.Conn, format+"\r\n", args...)
}

// Open says which folder is open on the connection.
func (c *FakeConn) Open(folder string) { c.folder = folder }

// Literal reads the literal that ends a command, and the command's end.
func (c *FakeConn) Literal(line string) (string, bool) {
	size := strings.TrimSuffix(line[strings.LastIndex(line, "{")+1:len(line)-1], "+")
	n, err := strconv.Atoi(size)
	if err != nil {
		return "", false
	}
	c.Say("+ go on")
	text := make([]byte, n)
	if _, err := io.ReadFull(c.r, text); err != nil {
		return "", false
	}
	_, err = c.r.ReadString('\n')
	return string(text), err == nil
}

// StartFake starts a server with one folder, INBOX, that has as many letters as
// said.
func StartFake(t testing.TB, letters int) *Fake {
	t.Helper()
	f := &Fake{Before: "IMAP4rev1 AUTH=PLAIN SASL-IR", After: "IMAP4rev1", folders: map[string]*FakeFolder{"INBOX": {Validity: 7, Next: 1}}}
	for n := range letters {
		f.Add("INBOX", fmt.Sprintf("From: ada@example.org\r\nSubject: Letter %d\r\nMessage-ID: <%d@x>\r\n\r\nHello %d\r\n", n, n, n), "")
	}
	ca, cert, key := Certificate(t, "localhost", time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	f.ca, f.port = ca, l.Addr().(*net.TCPAddr).Port
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			conns.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return f
}

// Server is the settings of a connection to it.
func (f *Fake) Server() backup.IMAPServer {
	return backup.IMAPServer{Host: "localhost", Port: f.port, Security: backup.IMAPTLS, SignIn: backup.IMAPPassword, Certificates: f.ca}
}

// Change changes folders while nobody else looks at them.
func (f *Fake) Change(change func(map[string]*FakeFolder)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.folders)
}

// Add adds a message.
func (f *Fake) Add(folder, text, flags string) {
	f.Change(func(folders map[string]*FakeFolder) {
		box := folders[folder]
		box.Messages = append(box.Messages, FakeMessage{UID: box.Next, Flags: flags, Text: text})
		box.Next++
	})
}

// Commands returns what was asked, and forgets it.
func (f *Fake) Commands() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.commands
	f.commands = nil
	return out
}

func (f *Fake) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // the test is over for it
	f.mu.Lock()
	f.count++
	f.live++
	c := &FakeConn{Conn: conn, Number: f.count, r: bufio.NewReader(conn)}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.live--
		f.mu.Unlock()
	}()
	c.Say("* OK ready")
	caps := f.Before
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		tag, rest, _ := strings.Cut(line, " ")
		verb, _, _ := strings.Cut(strings.ToUpper(rest), " ")
		if verb == "UID" {
			verb, _, _ = strings.Cut(strings.ToUpper(rest[4:]), " ")
		}
		f.mu.Lock()
		f.commands = append(f.commands, rest)
		tooMany := f.MaxConnections > 0 && f.live > f.MaxConnections
		f.mu.Unlock()
		if f.Fault != nil && f.Fault(c, verb, line) {
			continue
		}
		switch verb {
		case "CAPABILITY":
			c.Say("* CAPABILITY %s\r\n%s OK done", caps, tag)
		case "AUTHENTICATE", "LOGIN":
			if tooMany {
				c.Say("%s NO [LIMIT] Maximum number of connections from user+IP exceeded", tag)
				return
			}
			if verb == "LOGIN" && !c.literals(rest) {
				return
			}
			caps = f.After
			c.Say("%s OK signed in", tag)
		default:
			f.answer(c, tag, verb, rest)
		}
	}
}

// literals reads the literals that a LOGIN is made of.
func (c *FakeConn) literals(line string) bool {
	for strings.HasSuffix(line, "}") {
		n, err := strconv.Atoi(line[strings.LastIndex(line, "{")+1 : len(line)-1])
		if err != nil {
			return false
		}
		c.Say("+ go on")
		if _, err := io.ReadFull(c.r, make([]byte, n)); err != nil {
			return false
		}
		if line, err = c.r.ReadString('\n'); err != nil {
			return false
		}
		line = strings.TrimRight(line, "\r\n")
	}
	return true
}

// answer does what a signed-in client asks.
func (f *Fake) answer(c *FakeConn, tag, verb, rest string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch verb {
	case "LIST":
		for name := range f.folders {
			c.Say(`* LIST () "/" %s`, name)
		}
	case "STATUS":
		name := strings.Trim(strings.Fields(rest)[1], `"`)
		if box := f.folders[name]; box != nil {
			c.Say("* STATUS %s (MESSAGES %d UIDNEXT %d UIDVALIDITY %d)", name, len(box.Messages), box.Next, box.Validity)
		}
	case "EXAMINE":
		c.folder = strings.Trim(strings.Fields(rest)[1], `"`)
		box := f.folders[c.folder]
		if box == nil {
			c.Say("%s NO [NONEXISTENT] no such folder", tag)
			return
		}
		c.Say("* %d EXISTS\r\n* OK [UIDVALIDITY %d] fine\r\n* OK [UIDNEXT %d] fine", len(box.Messages), box.Validity, box.Next)
	case "SEARCH":
		found := "* SEARCH"
		for _, m := range f.folders[c.folder].Messages {
			if !strings.Contains(rest, "UID SEARCH UID") || Contains(strings.Fields(rest)[3], m.UID) {
				found += fmt.Sprintf(" %d", m.UID)
			}
		}
		c.Say("%s", found)
	case "FETCH":
		for i, m := range f.folders[c.folder].Messages {
			if Contains(strings.Fields(rest)[2], m.UID) {
				c.Say("%s", m.Fetch(i+1, rest))
			}
		}
	default:
		c.Say("%s BAD unknown command %s", tag, verb)
		return
	}
	c.Say("%s OK done", tag)
}

// Fetch is the answer about a message, to what a command asks for.
func (m FakeMessage) Fetch(number int, command string) string {
	items := fmt.Sprintf(`UID %d FLAGS (%s) INTERNALDATE "06-Nov-2026 10:%02d:00 +0100" RFC822.SIZE %d`, m.UID, m.Flags, m.UID%60, len(m.Text))
	head, _, _ := strings.Cut(m.Text, "\r\n\r\n")
	switch {
	case strings.Contains(command, "BODY.PEEK[]"):
		items += fmt.Sprintf(" BODY[] {%d}\r\n%s", len(m.Text), m.Text)
	case strings.Contains(command, "BODY.PEEK[HEADER.FIELDS"):
		at := strings.Index(command, "[HEADER.FIELDS")
		fields := command[at : strings.Index(command[at:], "]")+at+1]
		items += fmt.Sprintf(" BODY%s {%d}\r\n%s\r\n\r\n", fields, len(head)+4, head)
	}
	return fmt.Sprintf("* %d FETCH (%s)", number, items)
}

// Contains says whether a set like 1:3,7:* has a UID.
func Contains(set string, uid uint32) bool {
	return slices.ContainsFunc(strings.Split(set, ","), func(part string) bool {
		first, last, isRange := strings.Cut(part, ":")
		from, _ := strconv.ParseUint(first, 10, 32)
		to, err := strconv.ParseUint(last, 10, 32)
		if !isRange {
			to = from
		} else if err != nil {
			to = 1 << 32
		}
		return uint64(uid) >= from && uint64(uid) <= to
	})
}

// PlainResponse is what a client sends to sign in by AUTH=PLAIN.
func PlainResponse(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}
