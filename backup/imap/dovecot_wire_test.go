package imap_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/imap"
	"holdfast/backup/imap/imaptest"
)

// TestDovecotAccessTokens signs in to a server that checks tokens by itself, by
// both mechanisms.
func TestDovecotAccessTokens(t *testing.T) {
	for _, mechanism := range []string{"xoauth2", "oauthbearer"} {
		t.Run(mechanism, func(t *testing.T) {
			d := imaptest.StartDovecot(t, "auth_mechanisms = plain "+mechanism)
			add(t, person(t, d, "ada"), "INBOX", letter(1), nil)
			for name, c := range map[string]struct {
				user  string
				until time.Time
				want  backup.ProblemKind
			}{
				"right":              {"ada", time.Now().Add(time.Hour), ""},
				"ended":              {"ada", time.Now().Add(-time.Minute), backup.ProblemPassword},
				"of another account": {"ben", time.Now().Add(time.Hour), backup.ProblemPassword},
			} {
				login := imap.Login{User: "ada", Token: func(context.Context) (string, error) { return d.Token(c.user, c.until), nil }}
				report, err := imap.Test(t.Context(), d.Server(backup.IMAPTLS), login, imap.Options{})
				if got := backup.KindOf(err); got != c.want {
					t.Errorf("token %s: %v, want kind %q", name, err, c.want)
				}
				if c.want == "" && report.Messages != 1 {
					t.Errorf("token %s: %+v, want one message", name, report)
				}
				if err != nil && strings.Contains(err.Error(), d.Token(c.user, c.until)) {
					t.Errorf("token %s: the error has it: %v", name, err)
				}
			}
		})
	}
}

// line is what lies between a client and a server: it counts what the server sends.
func line(t *testing.T, to int, sent *atomic.Int64) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { _, _ = io.Copy(client, io.TeeReader(server, counter{sent})); _ = client.Close() }()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

type counter struct{ n *atomic.Int64 }

// Write implements io.Writer.
func (c counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

// TestDovecotCompresses measures the line: where the server offers compression,
// text takes a fraction of its size, and comes back the same.
func TestDovecotCompresses(t *testing.T) {
	const size = 700 << 10
	for name, c := range map[string]struct {
		config      string
		least, most int64
	}{
		"offered":     {"", 1, size / 4},
		"not offered": {"protocol imap {\n  mail_plugins = zlib\n}", 2 * size, 3 * size},
	} {
		t.Run(name, func(t *testing.T) {
			d, b := imaptest.StartDovecot(t, c.config), newBench(t)
			text := []byte("Subject: long\r\n\r\n" + strings.Repeat("The same line again and again, as in long threads.\r\n", size/52))
			for range 2 { // by one command
				add(t, person(t, d, "ada"), "INBOX", text, nil)
			}
			var sent atomic.Int64
			server := d.Server(backup.IMAPTLS)
			server.Port = line(t, server.Port, &sent)
			b.run(server, login("ada"))
			if n := sent.Load(); n < c.least || n > c.most {
				t.Errorf("the server sent %d bytes, want %d to %d", n, c.least, c.most)
			}
			for _, i := range b.items() {
				if string(b.text(i.ID)) != string(text) {
					t.Error("the text came back changed")
				}
			}
		})
	}
}
