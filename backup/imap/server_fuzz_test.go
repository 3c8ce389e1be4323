package imap

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	goimap "github.com/emersion/go-imap/v2"

	"holdfast/backup"
)

// sayer is a server that answers each line of the client with the next part of
// what it has to say; ~ stands for the line's tag. When it has said all it is
// silent.
func sayer(conn net.Conn, parts [][]byte) {
	defer io.Copy(io.Discard, conn) //nolint:errcheck // until the client hangs up
	lines := bufio.NewReader(conn)
	for n, part := range parts {
		tag := ""
		if n > 0 {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			tag, _, _ = strings.Cut(line, " ")
		}
		if _, err := conn.Write(bytes.ReplaceAll(part, []byte("~"), []byte(tag))); err != nil {
			return
		}
	}
}

// FuzzServer reads any bytes as what a server says, from its greeting on: it may be
// refused, but every question ends, and no text is taken for another message's.
func FuzzServer(f *testing.F) {
	signIn := "* OK hello\r\n|* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\n~ OK done\r\n|~ OK signed in\r\n|* CAPABILITY IMAP4rev1 LIST-EXTENDED LIST-STATUS CONDSTORE\r\n~ OK done\r\n|"
	f.Add([]byte(signIn + "* LIST (\\HasNoChildren) \"/\" INBOX\r\n* STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 7)\r\n~ OK done\r\n|" +
		"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] fine\r\n* OK [UIDNEXT 2] fine\r\n~ OK done\r\n|* 1 FETCH (UID 1 BODY[] {5}\r\nhello)\r\n~ OK done\r\n"))
	f.Add([]byte(signIn + "* LIST () NIL {3}\r\na&b\r\n~ OK done\r\n|* STATUS {3}\r\na&b (MESSAGES 1)\r\n~ OK done\r\n|~ NO [NONEXISTENT] no\r\n"))
	f.Add([]byte("* PREAUTH hello\r\n"))
	f.Add([]byte("* OK [CAPABILITY IMAP4rev2 COMPRESS=DEFLATE] hello\r\n|* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE AUTH=PLAIN\r\n~ OK\r\n|+ \r\n|~ OK\r\n|* CAPABILITY COMPRESS=DEFLATE\r\n~ OK\r\n|~ OK\r\n\xff\xff"))
	f.Add([]byte("* BYE too many\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go sayer(far, bytes.Split(data, []byte("|")))
			defer far.Close()  //nolint:errcheck // the test is over
			defer near.Close() //nolint:errcheck // the test is over
			// What connect does, but for TLS and its time limit for all of it.
			hangUp := time.AfterFunc(time.Hour, func() { _ = near.Close() })
			w := &wire{conn: near, br: bufio.NewReaderSize(near, 4096)}
			server := backup.IMAPServer{Host: "localhost", Port: 143, SignIn: backup.IMAPPassword}
			s, err := w.handshake(t.Context(), server, Login{User: "ada", Password: backup.Secret("secret")}, nil)
			if hangUp.Stop(); err != nil {
				return
			}
			defer s.Close() //nolint:errcheck // the test is over
			defer s.work(t.Context())()
			questions(t, s)
		})
	})
}

// questions asks what a run does.
func questions(t *testing.T, s *session) {
	t.Helper()
	if _, err := s.list(nil); err != nil {
		return
	}
	if err := s.examine("INBOX", 7); err != nil {
		return
	}
	texts, ids := map[string][]byte{}, map[goimap.UID]string{1: "one", 2: "two"}
	if err := s.texts(ids, texts); err == nil && len(texts) > len(ids) {
		t.Errorf("read %d texts of %d", len(texts), len(ids))
	}
}
