// Package outmailtest starts a real mail server (Debian's python3-aiosmtpd) on
// loopback for tests.
package outmailtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed" // the server
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/backup"
)

//go:embed server.py
var serverText string

// Server is a mail server that takes the user holdfast with the password
// Password, refuses forbidden@… as a sender, nobody@… for good and later@… for now
// as recipients.
type Server struct {
	Port  int
	Roots *x509.CertPool
	stop  func()

	mu       sync.Mutex
	messages []Message
	came     chan struct{}
}

// Password is the one that the server takes.
const Password = "a mail password"

// Message is one that the server took.
type Message struct {
	From          string   `json:"from"`
	To            []string `json:"to"`
	TLS           bool     `json:"tls"`
	Authenticated bool     `json:"authenticated"`
	Data          string   `json:"data"`
}

// Start starts a server, or skips the test where none is asked for; with
// HOLDFAST_TEST_SMTP=1 a missing server fails it.
func Start(t testing.TB, mode backup.MailTLS) *Server {
	t.Helper()
	if os.Getenv("HOLDFAST_TEST_SMTP") == "" {
		t.Skip("HOLDFAST_TEST_SMTP is not set")
	}
	dir := t.TempDir()
	s := &Server{Roots: x509.NewCertPool(), came: make(chan struct{}, 1000)}
	cert, key := s.certificate(t, dir)
	program := filepath.Join(dir, "server.py")
	if err := os.WriteFile(program, []byte(serverText), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", program, string(mode), cert, key) //nolint:gosec // the test's own files
	cmd.Stderr = nil                                                                              // it speaks of each connection that a test breaks
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the mail server (apt-get install python3-aiosmtpd): %v", err)
	}
	var once sync.Once
	s.stop = func() { once.Do(func() { in.Close(); _ = cmd.Wait() }) }
	t.Cleanup(s.stop)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		t.Fatal("the mail server did not start: apt-get install python3-aiosmtpd")
	}
	if s.Port, err1 = strconv.Atoi(strings.TrimSpace(lines.Text())); err1 != nil {
		t.Fatalf("the mail server says %q", lines.Text())
	}
	go func() {
		for lines.Scan() {
			var m Message
			if json.Unmarshal(lines.Bytes(), &m) == nil {
				s.mu.Lock()
				s.messages = append(s.messages, m)
				s.mu.Unlock()
				s.came <- struct{}{}
			}
		}
	}()
	return s
}

// Stop ends the server in the middle of whatever it does.
func (s *Server) Stop() { s.stop() }

// Settings are those with which the server is used.
func (s *Server) Settings(mode backup.MailTLS) backup.MailSettings {
	m := backup.MailSettings{Host: "localhost", Port: s.Port, TLS: mode, From: "backup@northwind.example", FromName: "Northwind Backup"}
	if mode != backup.MailPlain {
		m.User, m.Password = "holdfast", backup.Secret(Password)
	}
	return m
}

// Messages waits until n messages came and returns all.
func (s *Server) Messages(t testing.TB, n int) []Message {
	t.Helper()
	patience := time.After(2 * time.Minute)
	for {
		s.mu.Lock()
		list := append([]Message{}, s.messages...)
		s.mu.Unlock()
		if len(list) >= n {
			return list
		}
		select {
		case <-s.came:
		case <-patience:
			t.Fatalf("%d messages came, want %d", len(list), n)
		}
	}
}

// certificate makes one for localhost, which Roots trusts.
func (s *Server) certificate(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s.Roots.AddCert(parsed)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
