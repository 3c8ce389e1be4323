package peers_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/imap"
	"holdfast/backup/imap/imaptest"
	"holdfast/backup/m365/simulator"
)

// served is the corpus on a Dovecot of this machine: the accounts box1 to box5.
type served struct {
	*imaptest.Dovecot
	messages int
}

func account(n int) string { return fmt.Sprintf("box%d", n) }

// uncompressed is Dovecot as Debian has it: without the plugin for COMPRESS.
const uncompressed = "protocol imap {\n  mail_plugins = zlib\n}"

// newServed starts the server and fills it, all accounts at a time.
func newServed(b *testing.B, config ...string) served {
	b.Helper()
	b.Setenv("HOLDFAST_TEST_DOVECOT", "1") // a missing server is an error
	s := served{imaptest.StartDovecot(b, config...), messages(b)}
	var g errgroup.Group
	for box := range boxes {
		g.Go(func() error { return s.fill(box) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return s
}

// fill appends the letters of an account, the same ones that newCorpus writes.
func (s served) fill(box int) error {
	address := net.JoinHostPort("localhost", strconv.Itoa(s.TLSPort))
	c, err := imapclient.DialTLS(address, &imapclient.Options{TLSConfig: &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12}})
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // what was appended was answered
	if err := c.Login(account(box+1), imaptest.Password).Wait(); err != nil {
		return err
	}
	for i := box; i < s.messages; i += boxes {
		at := time.Unix(corpusStart+int64(i)*600, 0).UTC()
		var text bytes.Buffer
		if err := simulator.WriteLetter(&text, "box@corpus.example", int64(i+1), at, simulator.Generated{Text: letterText, Attachment: letterFile}); err != nil {
			return err
		}
		letter := imap.CRLF(text.Bytes())
		cmd := c.Append("INBOX", int64(len(letter)), &goimap.AppendOptions{Time: at, Flags: []goimap.Flag{goimap.FlagSeen}})
		if _, err := cmd.Write(letter); err != nil {
			return err
		}
		if err := cmd.Close(); err != nil {
			return err
		}
		if _, err := cmd.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// atATime is how many mailboxes are backed up at the same time, unless -workers says
// otherwise.
const atATime = 4

// backUpFrom backs all accounts up and returns what the runs stored.
func (h holdfast) backUpFrom(b *testing.B, s served) (took time.Duration, stored int64) {
	b.Helper()
	start := time.Now()
	results := make([]engine.Result, boxes)
	var g errgroup.Group
	g.SetLimit(atATime)
	for n := range boxes {
		g.Go(func() (err error) {
			box := imap.Open(s.Server(backup.IMAPTLS), imap.Login{User: account(n + 1), Password: backup.Secret(imaptest.Password)}, imap.Options{})
			defer box.Close() //nolint:errcheck // only read from
			results[n], err = h.Backup(b.Context(), engine.Job{Org: org, Mailbox: mailboxOf(n + 1), Source: box})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	took = time.Since(start)
	items := int64(0)
	for _, r := range results {
		items += r.Items
		stored += r.Run.StoredBytes
	}
	if items != int64(s.messages) {
		b.Fatalf("%d messages are backed up, want %d", items, s.messages)
	}
	return took, stored
}

// mbsync is a copy of the accounts as Maildirs, by mbsync.
type mbsync struct {
	dir, config string
}

// newMbsync writes a configuration; extra lines come first.
func newMbsync(b *testing.B, s served, extra ...string) mbsync {
	b.Helper()
	m := mbsync{dir: b.TempDir()}
	m.config = filepath.Join(m.dir, "mbsyncrc")
	authority := filepath.Join(m.dir, "ca.pem")
	text := strings.Join(extra, "\n") + "\n"
	for n := range boxes {
		name := account(n + 1)
		text += strings.NewReplacer("@BOX@", name, "@PORT@", strconv.Itoa(s.TLSPort), "@PASS@", imaptest.Password, "@CA@", authority, "@DIR@", m.dir).Replace(`
IMAPAccount @BOX@
Host localhost
Port @PORT@
User @BOX@
Pass @PASS@
AuthMechs LOGIN
SSLType IMAPS
SystemCertificates no
CertificateFile @CA@

IMAPStore @BOX@-there
Account @BOX@

MaildirStore @BOX@-here
Path @DIR@/@BOX@/
Inbox @DIR@/@BOX@/INBOX

Channel @BOX@
Far :@BOX@-there:
Near :@BOX@-here:
Create Near
Sync Pull
SyncState *
`)
		if err := os.Mkdir(filepath.Join(m.dir, name), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	for name, data := range map[string]string{m.config: text, authority: s.CA} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return m
}

func (m mbsync) run(b *testing.B) time.Duration {
	b.Helper()
	return command(b, []string{"HOME=" + m.dir}, m.dir, "mbsync", "-q", "-c", m.config, "-a")
}

// count is the number of messages in the copy.
func (m mbsync) count(b *testing.B) (n int) {
	b.Helper()
	for box := range boxes {
		for _, sub := range []string{"cur", "new"} {
			list, err := os.ReadDir(filepath.Join(m.dir, account(box+1), "INBOX", sub))
			if err != nil {
				b.Fatal(err)
			}
			n += len(list)
		}
	}
	return n
}

// remove frees the disk for the next round.
func (m mbsync) remove(b *testing.B) {
	b.Helper()
	if err := os.RemoveAll(m.dir); err != nil {
		b.Fatal(err)
	}
}

// imapRounds is how often each side backs everything up, in turn.
const imapRounds = 3

// BenchmarkMbsync backs five accounts of a Dovecot up, with Holdfast, with mbsync
// that does not wait for the disk (FSync no) and with mbsync as it comes; then
// once more, with nothing changed.
func BenchmarkMbsync(b *testing.B) {
	needs(b, "mbsync")
	s := newServed(b, uncompressed)
	b.Run("first", func(b *testing.B) {
		quick, usual := s.first(b)
		least(b, "mbsync-FSync-no", quick, 1.3)
		least(b, "mbsync", usual, 3)
	})
	b.Run("unchanged", s.unchanged)
}

// first is how many times the messages a second Holdfast backs up, compared with
// mbsync that does not wait for the disk, and as it comes.
func (s served) first(b *testing.B) (quick, usual float64) {
	b.Helper()
	var own, unsynced, synced []time.Duration
	for b.Loop() {
		for range imapRounds {
			took, _ := newHoldfast(b).backUpFrom(b, s)
			own = append(own, took)
			m := newMbsync(b, s, "FSync no")
			unsynced = append(unsynced, m.run(b))
			m.remove(b)
			m = newMbsync(b, s)
			synced = append(synced, m.run(b))
			if n := m.count(b); n != s.messages {
				b.Fatalf("mbsync has %d messages, want %d", n, s.messages)
			}
			m.remove(b)
		}
	}
	b.Logf("%d messages: Holdfast %v, mbsync with FSync no %v, as it comes %v", s.messages, own, unsynced, synced)
	middle := median(own).Seconds()
	b.ReportMetric(float64(s.messages)/middle, "messages/s")
	return median(unsynced).Seconds() / middle, median(synced).Seconds() / middle
}

// unchanged runs both sides again where nothing changed.
func (s served) unchanged(b *testing.B) {
	h, m := newHoldfast(b), newMbsync(b, s)
	h.backUpFrom(b, s)
	m.run(b)
	repository := filepath.Join(h.dir, "repository")
	before := treeSize(b, repository)
	var own, peer []time.Duration
	for b.Loop() {
		for range 3 * imapRounds {
			took, stored := h.backUpFrom(b, s)
			if now := treeSize(b, repository); stored != 0 || now != before {
				b.Fatalf("%d bytes stored, the repository went from %d to %d bytes", stored, before, now)
			}
			own = append(own, took)
			peer = append(peer, m.run(b))
		}
	}
	b.ReportMetric(float64(median(own).Microseconds())/1000, "ms")
	most(b, "mbsync", median(own).Seconds()/median(peer).Seconds(), 1)
}

// least fails if a ratio is below what it must be.
func least(b *testing.B, what string, ratio, limit float64) {
	b.Helper()
	b.ReportMetric(ratio, "x-"+what)
	if ratio < limit {
		b.Errorf("%.2f times %s, want at least %.2f", ratio, what, limit)
	}
}
