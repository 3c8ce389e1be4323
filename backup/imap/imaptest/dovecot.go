// Package imaptest starts IMAP servers on loopback for tests: a real one (Debian's
// dovecot-imapd), and one that misbehaves on demand.
package imaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/porttest"
)

// Password is every account's on the Dovecot server.
const Password = "imap-pässword"

// Master user of the Dovecot server, which opens every account.
const (
	MasterUser     = "master"
	MasterPassword = "a master password"
)

// Dovecot is a running server that has an account for every name.
type Dovecot struct {
	TLSPort, PlainPort int
	CA                 string // its certificate authority, PEM
	Roots              *x509.CertPool
	dir                string
	tokens             []byte // what access tokens are signed with
}

// StartDovecot starts a server, or skips the test where none is asked for; with
// HOLDFAST_TEST_DOVECOT=1 a missing server fails it. Lines of config are added to
// its configuration.
func StartDovecot(t testing.TB, config ...string) *Dovecot {
	t.Helper()
	if os.Getenv("HOLDFAST_TEST_DOVECOT") == "" {
		t.Skip("HOLDFAST_TEST_DOVECOT is not set")
	}
	// Not t.TempDir: its path is too long for sockets, and closed to the user
	// that mail is read as.
	dir, err := os.MkdirTemp("", "dovecot")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &Dovecot{dir: dir, TLSPort: porttest.Free(t), PlainPort: porttest.Free(t), tokens: []byte(rand.Text())}
	ca, cert, key := Certificate(t, "localhost", time.Now().Add(time.Hour))
	d.CA, d.Roots = ca, x509.NewCertPool()
	d.Roots.AppendCertsFromPEM([]byte(ca))
	d.configure(t, cert, key, config)
	d.start(t)
	return d
}

// Server is the settings of a connection to it.
func (d *Dovecot) Server(security backup.IMAPSecurity) backup.IMAPServer {
	s := backup.IMAPServer{Host: "localhost", Port: d.TLSPort, Security: security, SignIn: backup.IMAPPassword, Certificates: d.CA}
	if security == backup.IMAPStartTLS {
		s.Port = d.PlainPort
	}
	return s
}

func (d *Dovecot) configure(t testing.TB, cert, key string, extra []string) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	reader, users := me, "default_login_user = "+me.Username+"\ndefault_internal_user = "+me.Username+"\ndefault_internal_group =\n"
	if me.Uid == "0" { // Dovecot reads no mail as root, and has users of its own
		users = ""
		if reader, err = user.Lookup("nobody"); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.NewReplacer("@DIR@", d.dir, "@TLS@", strconv.Itoa(d.TLSPort), "@PLAIN@", strconv.Itoa(d.PlainPort),
		"@USERS@", users, "@UID@", reader.Uid, "@GID@", reader.Gid, "@EXTRA@", strings.Join(extra, "\n")).Replace(dovecotConfig)
	for name, data := range map[string]string{"dovecot.conf": text, "cert.pem": cert, "key.pem": key,
		"masters": MasterUser + ":{PLAIN}" + MasterPassword + "\n", "oauth2.conf": fmt.Sprintf(oauthConfig, d.dir),
		"keys/default/HS256/default": base64.StdEncoding.EncodeToString(d.tokens)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(d.dir, name)), 0o755); err != nil { //nolint:gosec // Dovecot's own user reads it
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"masters", "oauth2.conf", "keys/default/HS256/default"} {
		if err := os.Chmod(filepath.Join(d.dir, name), 0o644); err != nil { //nolint:gosec // Dovecot's own user reads it
			t.Fatal(err)
		}
	}
	mail := filepath.Join(d.dir, "mail")
	if err := os.Mkdir(mail, 0o700); err != nil {
		t.Fatal(err)
	}
	if me.Uid == "0" {
		uid, _ := strconv.Atoi(reader.Uid)
		gid, _ := strconv.Atoi(reader.Gid)
		if err := os.Chown(mail, uid, gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d.dir, 0o711); err != nil { //nolint:gosec // the user nobody has to reach its folder
			t.Fatal(err)
		}
	}
}

// oauthConfig lets Dovecot check access tokens by itself.
const oauthConfig = `
introspection_mode = local
local_validation_key_dict = fs:posix:prefix=%s/keys/
username_attribute = sub
`

// Token is an access token for an account (RFC 7519) that ends at a time.
func (d *Dovecot) Token(user string, until time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, user, time.Now().Add(-time.Hour).Unix(), until.Unix())
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, d.tokens)
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

const dovecotConfig = `
base_dir = @DIR@/run
state_dir = @DIR@/state
log_path = @DIR@/log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <@DIR@/cert.pem
ssl_key = <@DIR@/key.pem
ssl_dh =
@USERS@
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0
auth_verbose = yes
mail_location = sdbox:@DIR@/mail/%u
first_valid_uid = 1
mail_plugins = zlib
mail_fsync = never
protocol imap {
  mail_plugins = zlib imap_zlib
  mail_max_userip_connections = 20
}
passdb {
  driver = passwd-file
  master = yes
  args = @DIR@/masters
}
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = @DIR@/oauth2.conf
}
passdb {
  driver = static
  args = password=imap-pässword
}
userdb {
  driver = static
  args = uid=@UID@ gid=@GID@ home=@DIR@/mail/%u
}
namespace inbox {
  inbox = yes
  separator = /
  mailbox Sent {
    special_use = \Sent
    auto = create
  }
  mailbox Trash {
    special_use = \Trash
  }
}
service imap-login {
  chroot =
  inet_listener imap {
    port = @PLAIN@
  }
  inet_listener imaps {
    port = @TLS@
    ssl = yes
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
service imap {
  process_limit = 100
}
@EXTRA@
`

func (d *Dovecot) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command("/usr/sbin/dovecot", "-F", "-c", filepath.Join(d.dir, "dovecot.conf")) //nolint:gosec // the test's own files
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Dovecot (apt-get install dovecot-imapd): %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
			t.Logf("Dovecot's log:\n%s", tail(log, 4000))
		}
	})
	deadline := time.After(2 * time.Minute)
	for !listens(d.PlainPort) || !listens(d.TLSPort) {
		select {
		case err := <-ended:
			log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
			t.Fatalf("Dovecot ended: %v\n%s\n%s", err, out.String(), log)
		case <-deadline:
			t.Fatal("Dovecot does not listen")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// listens says whether somebody takes connections on a port of loopback.
func listens(port int) bool {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// Certificate makes a certificate for a server's name, with its authority.
func Certificate(t testing.TB, name string, until time.Time) (ca, cert, key string) {
	t.Helper()
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	leafKey, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	from := until.Add(-24 * time.Hour)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"}, NotBefore: from, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	rootDER, err1 := x509.CreateCertificate(rand.Reader, root, root, &caKey.PublicKey, caKey)
	leafDER, err2 := x509.CreateCertificate(rand.Reader, leaf, root, &leafKey.PublicKey, caKey)
	keyDER, err3 := x509.MarshalPKCS8PrivateKey(leafKey)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(fmt.Errorf("certificate: %w, %w, %w", err1, err2, err3))
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return block("CERTIFICATE", rootDER), block("CERTIFICATE", leafDER), block("PRIVATE KEY", keyDER)
}
