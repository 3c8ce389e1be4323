package imap

import (
	"bufio"
	"compress/flate"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup"
)

// Timeouts of a connection. Servers with large folders think for long before
// their first line.
const (
	dialTimeout   = 30 * time.Second
	answerTimeout = 3 * time.Minute
)

// maxLine bounds a line of the server before its client is signed in.
const maxLine = 64 << 10

// Login is how to sign in to one account.
type Login struct {
	User     string        // whose mailbox is opened
	Master   string        // who signs in for that, "" for the user
	Password backup.Secret // of Master or User
	// Token gives an access token; nil for a password.
	Token func(context.Context) (string, error)
}

// session is a signed-in connection. Its deadlines are its own: the client's are
// too short for slow servers.
type session struct {
	*imapclient.Client
	conn   *deadlineConn
	caps   map[string]bool
	path   string        // the folder that is open, "" for none
	status status        // of it, when it was opened
	flags  []goimap.Flag // that it keeps; nil if the server does not say
}

// has says whether the server offers a capability.
func (s *session) has(name string) bool { return s.caps[name] }

// work lets the server take its time for one command, but not for ever, and ends
// the connection with ctx. The caller calls done.
func (s *session) work(ctx context.Context) (done func()) {
	s.conn.busy(true)
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	return func() {
		stop()
		s.conn.busy(false)
	}
}

// connect opens a connection, checks the server's certificate and signs in.
func connect(ctx context.Context, server backup.IMAPServer, login Login, o Options) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout())
	defer cancel()
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	raw, err := dialer.DialContext(ctx, "tcp", server.Address())
	if err != nil {
		return nil, dialProblem(server, err)
	}
	w := &wire{conn: raw, br: bufio.NewReaderSize(raw, 4096)}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	s, err := w.handshake(ctx, server, login, o.Roots)
	if err != nil {
		_ = w.conn.Close()
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return nil, problem(server, err)
	}
	s.conn.timeout = o.timeout()
	return s, nil
}

// wire is a connection before its client is signed in. Signing in is done by
// hand, so that TLS, XOAUTH2, compression and what the client may believe of the
// server's capabilities are ours.
type wire struct {
	conn net.Conn
	br   *bufio.Reader
	tag  int
	caps map[string]bool
}

func (w *wire) handshake(ctx context.Context, server backup.IMAPServer, login Login, roots *x509.CertPool) (*session, error) {
	if server.Security == backup.IMAPTLS {
		if err := w.secure(ctx, server, roots); err != nil {
			return nil, err
		}
	}
	greeting, err := w.line()
	if err != nil {
		return nil, err
	}
	switch a := parseAnswer(greeting, "*"); {
	case a.status == "BYE":
		return nil, &refusal{during: "greeting", answer: a}
	case a.status == "PREAUTH":
		return nil, errors.New("the server says that the connection is signed in already")
	case a.status != "OK":
		return nil, fmt.Errorf("the server's first line is not IMAP's")
	}
	if err := w.capability(); err != nil {
		return nil, err
	}
	if server.Security == backup.IMAPStartTLS {
		if err := w.startTLS(ctx, server, roots); err != nil {
			return nil, err
		}
	}
	if err := w.signIn(ctx, server, login); err != nil {
		return nil, err
	}
	if err := w.capability(); err != nil {
		return nil, err
	}
	return w.session()
}

// secure makes the connection a TLS one.
func (w *wire) secure(ctx context.Context, server backup.IMAPServer, roots *x509.CertPool) error {
	config, err := tlsConfig(server, roots)
	if err != nil {
		return err
	}
	c := tls.Client(&buffered{w.conn, bufio.NewReaderSize(w.conn, readBuffer)}, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return &tlsError{err}
	}
	w.conn, w.br = c, bufio.NewReaderSize(c, 16<<10)
	return nil
}

// readBuffer is what is taken from the network at once: servers send records of a
// few KB, and a system call for each costs more than it brings.
const readBuffer = 64 << 10

// buffered is a connection that is read ahead.
type buffered struct {
	net.Conn
	br *bufio.Reader
}

// Read implements net.Conn.
func (b *buffered) Read(p []byte) (int, error) { return b.br.Read(p) }

func (w *wire) startTLS(ctx context.Context, server backup.IMAPServer, roots *x509.CertPool) error {
	if !w.caps["STARTTLS"] {
		return errNoStartTLS
	}
	if _, err := w.command("STARTTLS"); err != nil {
		return err
	}
	if w.br.Buffered() > 0 {
		// Somebody on the way put it in before the encryption began.
		return errors.New("the server sent something between STARTTLS and TLS")
	}
	if err := w.secure(ctx, server, roots); err != nil {
		return err
	}
	return w.capability() // what it said before could have been anybody's word
}

// capability asks what the server offers.
func (w *wire) capability() error {
	lines, err := w.command("CAPABILITY")
	if err != nil {
		return err
	}
	w.caps = map[string]bool{}
	for _, line := range lines {
		fields := strings.Fields(strings.ToUpper(line))
		if len(fields) < 2 || fields[1] != "CAPABILITY" {
			continue
		}
		for _, name := range fields[2:] {
			w.caps[name] = true
		}
	}
	if !w.caps["IMAP4REV1"] && !w.caps["IMAP4REV2"] {
		return errors.New("the server does not speak IMAP4rev1")
	}
	return nil
}

// command sends a command and returns the untagged lines of its answer. An
// answer that is not OK is a *refusal.
func (w *wire) command(text string) ([]string, error) {
	tag, err := w.send(text)
	if err != nil {
		return nil, err
	}
	return w.answer(tag, strings.Fields(text)[0])
}

func (w *wire) send(text string) (tag string, err error) {
	w.tag++
	tag = fmt.Sprintf("H%d", w.tag)
	_, err = io.WriteString(w.conn, tag+" "+text+"\r\n")
	return tag, err
}

// answer reads to the end of a command. A continuation request is answered by an
// empty line: what is asked for here is never more.
func (w *wire) answer(tag, during string) ([]string, error) {
	var lines []string
	for {
		line, err := w.line()
		if err != nil {
			return nil, err
		}
		switch {
		case strings.HasPrefix(line, "+"):
			if _, err := io.WriteString(w.conn, "\r\n"); err != nil {
				return nil, err
			}
		case strings.HasPrefix(line, "* "):
			if a := parseAnswer(line, "*"); a.status == "BYE" {
				return nil, &refusal{during: during, answer: a}
			}
			if lines = append(lines, line); len(lines) > 1000 {
				return nil, errors.New("the server's answer does not end")
			}
		case strings.HasPrefix(line, tag+" "):
			if a := parseAnswer(line, tag); a.status != "OK" {
				return nil, &refusal{during: during, answer: a}
			}
			return lines, nil
		default:
			return nil, errors.New("the server's answer is not IMAP's")
		}
	}
}

// line reads a line without its end.
func (w *wire) line() (string, error) {
	var line []byte
	for {
		part, err := w.br.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		case len(line) > maxLine:
			return "", errors.New("a line of the server does not end")
		}
	}
}

// session compresses the connection if the server can, and hands it to a client
// that finds itself signed in.
func (w *wire) session() (*session, error) {
	conn := &deadlineConn{Conn: w.conn, reader: w.br, writer: w.conn, timeout: answerTimeout}
	if w.caps["COMPRESS=DEFLATE"] {
		_, err := w.command("COMPRESS DEFLATE")
		refused := new(refusal)
		switch {
		case err == nil:
			deflate, err := flate.NewWriter(w.conn, flate.BestSpeed)
			if err != nil {
				return nil, err
			}
			conn.reader, conn.writer = flate.NewReader(w.br), &flushing{deflate}
		case !errors.As(err, &refused) || refused.status == "BYE":
			return nil, err
		}
	}
	delete(w.caps, "COMPRESS=DEFLATE")
	if w.caps["IMAP4REV1"] {
		delete(w.caps, "IMAP4REV2")
	}
	caps := make([]string, 0, len(w.caps))
	for name := range w.caps {
		caps = append(caps, clientName(name))
	}
	slices.Sort(caps)
	greeting := "* PREAUTH [CAPABILITY " + strings.Join(caps, " ") + "] signed in\r\n"
	conn.reader = &guard{r: io.MultiReader(strings.NewReader(greeting), conn.reader)}
	client := imapclient.New(conn, nil)
	if err := client.WaitGreeting(); err != nil {
		return nil, err
	}
	return &session{Client: client, conn: conn, caps: w.caps}, nil
}

// clientName gives a capability the case in which the client looks for it.
func clientName(name string) string {
	switch name {
	case "IMAP4REV1":
		return "IMAP4rev1"
	case "IMAP4REV2":
		return "IMAP4rev2"
	}
	return name
}

// flushing sends what is written at once.
type flushing struct{ *flate.Writer }

// Write implements io.Writer.
func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.Flush()
}

// deadlineConn is a connection whose reads may take long while a command is
// under way, and for ever while none is.
type deadlineConn struct {
	net.Conn
	reader  io.Reader
	writer  io.Writer
	mu      sync.Mutex
	working bool
	timeout time.Duration
}

func (c *deadlineConn) busy(working bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working = working
	c.extend()
}

func (c *deadlineConn) extend() {
	var at time.Time
	if c.working {
		at = time.Now().Add(c.timeout)
	}
	_ = c.Conn.SetReadDeadline(at) // fails on a closed connection only, which the read tells
}

// Read implements net.Conn.
func (c *deadlineConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	c.extend()
	c.mu.Unlock()
	return c.reader.Read(p)
}

// Write implements net.Conn.
func (c *deadlineConn) Write(p []byte) (int, error) { return c.writer.Write(p) }

// SetReadDeadline leaves the deadline to busy.
func (c *deadlineConn) SetReadDeadline(time.Time) error { return nil }
