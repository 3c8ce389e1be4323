package imap_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/imap"
	"holdfast/backup/imap/imaptest"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

const (
	org     = backup.OrgID("ORG1")
	mailbox = backup.MailboxID("MAILBOX1")
)

// bench is an engine on a real store and a repository in memory.
type bench struct {
	t      testing.TB
	store  *store.Store
	engine *engine.Engine
}

func newBench(t testing.TB) *bench {
	t.Helper()
	st := storetest.Open(t)
	r, err := repo.Open(t.Context(), repo.NewMemory(), st, st, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{t: t, store: st, engine: &engine.Engine{Repo: r, Catalog: st}}
}

func (b *bench) try(source engine.Source) (engine.Result, error) {
	b.t.Helper()
	return b.engine.Backup(b.t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: source, Concurrency: 4})
}

func (b *bench) run(server backup.IMAPServer, login imap.Login) engine.Result {
	b.t.Helper()
	m := imap.Open(server, login, imap.Options{})
	defer m.Close() //nolint:errcheck // only read from
	result, err := b.try(m)
	if err != nil {
		b.t.Fatalf("Backup: %v", err)
	}
	return result
}

func (b *bench) items() []backup.Item {
	b.t.Helper()
	list, err := b.store.Snapshots(b.t.Context(), org, mailbox)
	if err != nil || len(list) == 0 {
		b.t.Fatalf("no snapshot: %v", err)
	}
	items, _, err := b.store.Items(b.t.Context(), org, mailbox, list[0].Seq, store.ItemQuery{PageSize: 10_000})
	if err != nil {
		b.t.Fatal(err)
	}
	return items
}

// folders are the names of the newest snapshot's folders by id.
func (b *bench) folders() map[string]string {
	b.t.Helper()
	list, err := b.store.Snapshots(b.t.Context(), org, mailbox)
	if err != nil || len(list) == 0 {
		b.t.Fatalf("no snapshot: %v", err)
	}
	folders, err := b.store.Folders(b.t.Context(), org, mailbox, list[0].Seq)
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range folders {
		out[f.ID] = f.Name
	}
	return out
}

func (b *bench) text(id backup.ItemID) []byte {
	b.t.Helper()
	var text bytes.Buffer
	if err := b.engine.WriteItem(b.t.Context(), org, mailbox, id, &text); err != nil {
		b.t.Fatalf("WriteItem(%s): %v", id, err)
	}
	return text.Bytes()
}

// person is somebody else's program in the mailbox.
func person(t testing.TB, d *imaptest.Dovecot, user string) *imapclient.Client {
	t.Helper()
	c, err := imapclient.DialTLS(net.JoinHostPort("localhost", strconv.Itoa(d.TLSPort)), &imapclient.Options{TLSConfig: &tls.Config{RootCAs: d.Roots, MinVersion: tls.VersionTLS12}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(user, imaptest.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

func add(t testing.TB, c *imapclient.Client, folder string, text []byte, o *goimap.AppendOptions) {
	t.Helper()
	cmd := c.Append(folder, int64(len(text)), o)
	if _, err := cmd.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.Wait(); err != nil {
		t.Fatalf("APPEND: %v", err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func letter(n int) []byte {
	return fmt.Appendf(nil, "From: Ada Lovelace <ada@example.org>\r\nTo: =?utf-8?q?B=C3=B6b?= <bob@example.org>\r\nSubject: =?iso-8859-1?q?Gr=FC=DFe?= %d\r\n"+
		"Date: Fri, 6 Nov 2026 10:00:00 +0100\r\nMessage-ID: <%d@example.org>\r\n\r\nLetter %d\r\n", n, n, n)
}

// corpus reads the messages of the simulator's mail.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	const dir = "../m365/simulator/testdata/mail/"
	manifest, err := os.ReadFile(dir + "manifest.tsv")
	must(t, err)
	out := map[string][]byte{}
	for line := range strings.Lines(string(manifest)) {
		if fields := strings.Split(line, "\t"); len(fields) > 1 && fields[1] == "eml" {
			text, err := os.ReadFile(dir + fields[0])
			must(t, err)
			out[fields[0]] = text
		}
	}
	return out
}

// asDovecotKeeps is a message as Dovecot hands it out: IMAP has no NUL, and a
// carriage return alone at the end is lost.
func asDovecotKeeps(text string) string {
	text = strings.ReplaceAll(text, "\x00", "\x80")
	return strings.TrimSuffix(text, "\r")
}

func login(user string) imap.Login {
	return imap.Login{User: user, Password: backup.Secret(imaptest.Password)}
}

func TestDovecotIncrements(t *testing.T) {
	d := imaptest.StartDovecot(t)
	server, b, c := d.Server(backup.IMAPTLS), newBench(t), person(t, d, "ada")
	must(t, c.Create("Work", nil).Wait())
	must(t, c.Create("Work/Größe & Maß", nil).Wait())
	at := time.Date(2026, 11, 6, 9, 0, 0, 0, time.UTC)
	for n := range 5 {
		add(t, c, "INBOX", letter(n), &goimap.AppendOptions{Time: at, Flags: []goimap.Flag{goimap.FlagFlagged, goimap.FlagAnswered, "$Label1"}})
	}
	add(t, c, "Work/Größe & Maß", letter(100), nil)

	first := b.run(server, login("ada"))
	if first.Items != 6 || first.Run.NewItems != 6 {
		t.Fatalf("first run: %+v, want 6 items", first)
	}
	item := b.items()[0]
	if item.Subject != "Grüße 100" && item.Subject != "Grüße 0" && item.From != "Ada Lovelace <ada@example.org>" {
		t.Errorf("item = %+v", item)
	}
	names := slices.Sorted(maps.Values(b.folders()))
	if want := []string{"Größe & Maß", "INBOX", "Sent", "Work"}; !slices.Equal(names, want) {
		t.Errorf("folders = %q, want %q", names, want)
	}

	if again := b.run(server, login("ada")); again.Snapshot != 0 || again.Run.ReadBytes != 0 || again.Run.StoredBytes != 0 {
		t.Errorf("run without a change: %+v, want nothing written", again)
	}

	// One is read, one deleted, one moved, one new; a folder is renamed.
	_, err := c.Select("INBOX", nil).Wait()
	must(t, err)
	must(t, c.Store(goimap.UIDSetNum(1), &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.FlagSeen}}, nil).Close())
	must(t, c.Store(goimap.UIDSetNum(2), &goimap.StoreFlags{Op: goimap.StoreFlagsAdd, Flags: []goimap.Flag{goimap.FlagDeleted}}, nil).Close())
	_, err = c.UIDExpunge(goimap.UIDSetNum(2)).Collect()
	must(t, err)
	_, err = c.Move(goimap.UIDSetNum(3), "Sent").Wait()
	must(t, err)
	add(t, c, "INBOX", letter(9), nil)
	before := b.folders()
	must(t, c.Rename("Work/Größe & Maß", "Elsewhere", nil).Wait())

	second := b.run(server, login("ada"))
	if second.Items != 6 || second.Run.NewItems != 2 || second.Run.RemovedItems != 2 || second.Run.ChangedItems != 1 {
		t.Errorf("second run: %+v, want 2 new, 2 removed, 1 changed, 6 in all", second)
	}
	for id, name := range b.folders() {
		if name == "Elsewhere" && before[id] != "Größe & Maß" {
			t.Errorf("the renamed folder has a new id")
		}
	}
	for _, i := range b.items() {
		if i.Subject == "Grüße 0" && (!i.Read || !i.Flagged || !slices.Contains(i.Categories, "$Label1") || !slices.Contains(i.Categories, `\Answered`) || !i.ReceivedAt.Equal(at)) {
			t.Errorf("changed item = %+v", i)
		}
	}
	// Nothing was marked as read.
	status, err := c.Status("INBOX", &goimap.StatusOptions{NumUnseen: true, NumMessages: true}).Wait()
	must(t, err)
	if *status.NumMessages != 4 || *status.NumUnseen != 3 {
		t.Errorf("INBOX has %d messages, %d of them unread; want 4 and 3", *status.NumMessages, *status.NumUnseen)
	}
}

func TestDovecotCorpus(t *testing.T) {
	d := imaptest.StartDovecot(t)
	b, c := newBench(t), person(t, d, "ada")
	want := map[string]int{}
	texts := corpus(t)
	if len(texts) != 523 {
		t.Fatalf("%d messages in the corpus, want 523", len(texts))
	}
	for _, text := range texts {
		text = imap.CRLF(text)
		want[string(text)]++
		add(t, c, "INBOX", text, nil)
	}
	first := b.run(d.Server(backup.IMAPStartTLS), login("ada"))
	if first.Items != 523 || first.DamagedItems != 0 {
		t.Fatalf("first run: %+v, want 523 items", first)
	}
	for _, i := range b.items() {
		want[string(b.text(i.ID))]--
	}
	sameAsListed(t, b, d.Server(backup.IMAPTLS))
	sent, back := map[string]int{}, map[string]int{}
	for text, n := range want {
		if n > 0 {
			sent[asDovecotKeeps(text)] += n
		} else if n < 0 {
			back[text] -= n
		}
	}
	if !maps.Equal(sent, back) || len(sent) > 3 {
		t.Errorf("%d messages did not come back byte for byte; 3 do that Dovecot itself changes", len(back))
	}
	// The same mail once more in a new folder is not stored again.
	must(t, c.Create("Copy", nil).Wait())
	_, err := c.Select("INBOX", nil).Wait()
	must(t, err)
	_, err = c.Copy(goimap.UIDSet{{Start: 1, Stop: 0}}, "Copy").Wait()
	must(t, err)
	second := b.run(d.Server(backup.IMAPTLS), login("ada"))
	if second.Items != 1046 || second.Run.StoredBytes > first.Run.StoredBytes/3 {
		t.Errorf("copies: %d items, %d bytes stored after %d", second.Items, second.Run.StoredBytes, first.Run.StoredBytes)
	}
}

// listed hides from the engine that a mailbox is listed otherwise the first time.
type listed struct{ engine.Source }

// sameAsListed holds what a first run reads from texts against what the server
// says of the headers.
func sameAsListed(t *testing.T, b *bench, server backup.IMAPServer) {
	t.Helper()
	m, other := imap.Open(server, login("ada"), imap.Options{}), newBench(t)
	defer m.Close() //nolint:errcheck // only read from
	if _, err := other.try(listed{m}); err != nil {
		t.Fatal(err)
	}
	want := map[string]backup.Item{}
	for _, i := range other.items() {
		i.ID = ""
		want[i.ProviderID] = i
	}
	for _, i := range b.items() {
		i.ID = ""
		if !reflect.DeepEqual(i, want[i.ProviderID]) {
			t.Errorf("by its text a message is %+v, by the server's word %+v", i, want[i.ProviderID])
		}
	}
}

func TestDovecotSignIn(t *testing.T) {
	d := imaptest.StartDovecot(t)
	add(t, person(t, d, "ada"), "INBOX", letter(1), nil)
	master := imap.Login{User: "ada", Master: imaptest.MasterUser, Password: backup.Secret(imaptest.MasterPassword)}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for name, c := range map[string]struct {
		server func(backup.IMAPServer) backup.IMAPServer
		login  imap.Login
		want   backup.ProblemKind
	}{
		"right password": {nil, login("ada"), ""},
		"master user":    {nil, master, ""},
		"wrong password": {nil, imap.Login{User: "ada", Password: backup.Secret("wrong")}, backup.ProblemPassword},
		"unknown authority": {func(s backup.IMAPServer) backup.IMAPServer {
			s.Certificates = ""
			return s
		}, login("ada"), backup.ProblemCertificate},
		"name of another": {func(s backup.IMAPServer) backup.IMAPServer {
			s.Host = "127.0.0.1"
			return s
		}, login("ada"), backup.ProblemCertificate},
		"STARTTLS port by TLS": {func(s backup.IMAPServer) backup.IMAPServer {
			s.Port = d.PlainPort
			return s
		}, login("ada"), backup.ProblemCertificate},
		"nobody listens": {func(s backup.IMAPServer) backup.IMAPServer {
			s.Port = 1
			return s
		}, login("ada"), backup.ProblemUnavailable},
	} {
		server := d.Server(backup.IMAPTLS)
		if c.server != nil {
			server = c.server(server)
		}
		report, err := imap.Test(ctx, server, c.login, imap.Options{})
		if got := backup.KindOf(err); got != c.want {
			t.Errorf("%s: %v, want kind %q", name, err, c.want)
		}
		if c.want == "" && (err != nil || report.Messages != 1 || report.Folders < 2) {
			t.Errorf("%s: report = %+v, %v", name, report, err)
		}
	}
}
