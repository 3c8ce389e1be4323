package m365_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/m365"
	"holdfast/backup/m365/simulator"
)

// mailApp makes the Mail sub-application of a tenant and returns it at work.
func (w *world) mailApp(upn string) *m365.App {
	w.t.Helper()
	r := newRow(backup.WorkloadMail)
	g := w.signIn("", upn, backup.SignInConsent)
	if err := w.ensure(w.t.Context(), g, r); err != nil {
		w.t.Fatal(err)
	}
	return w.client.App(g.TenantID, r.app)
}

func TestAccountsHaveKindAndLicence(t *testing.T) {
	inBubble(t, "", func(t *testing.T) {
		w := newWorld(t, nil)
		accounts, deleted, err := w.mailApp("admin@contosodental.onmicrosoft.com").Accounts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"admin": "user valid", "megan.o'neil": "user valid", "juergen.gross": "user valid", "noa.cohen": "user valid", "exchange.admin": "user valid",
			"app.admin": "user valid", "priya": "user valid", "new.starter": "user valid", "uma": "user none", "paul": "user none", "dora": "user valid",
			"frontdesk": "shared not_needed", "invoices": "shared not_needed", "room1": "room not_needed", "xray": "equipment not_needed",
		}
		for _, m := range accounts {
			name, _, _ := strings.Cut(m.Address, "@")
			if got := fmt.Sprintf("%s %s", m.Kind, m.Licence); got != want[name] {
				t.Errorf("%s: %s, want %s", m.Address, got, want[name])
			}
			if m.ProviderID == "" || m.Name == "" {
				t.Errorf("%s: incomplete %+v", m.Address, m)
			}
			delete(want, name)
		}
		if len(want) > 0 || len(deleted) > 0 {
			t.Errorf("missing %v, deleted %v", want, deleted)
		}
	})
}

// accountID returns the id of an account.
func accountID(t *testing.T, app *m365.App, prefix string) string {
	t.Helper()
	accounts, _, err := app.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range accounts {
		if strings.HasPrefix(m.Address, prefix) {
			return m.ProviderID
		}
	}
	t.Fatalf("no account %s", prefix)
	return ""
}

// listing is a mailbox as a run reads it.
type listing struct {
	folders engine.FolderChanges
	cursors map[string]string // by folder
	items   map[string]engine.ItemState
}

func read(t *testing.T, m *m365.Mailbox) listing {
	t.Helper()
	l := listing{cursors: map[string]string{}, items: map[string]engine.ItemState{}}
	var err error
	if l.folders, err = m.Folders(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for _, f := range l.folders.Folders {
		for page, err := range m.Changes(t.Context(), f.ID, "") {
			if err != nil {
				t.Fatalf("folder %s: %v", f.Name, err)
			}
			for _, item := range page.Items {
				l.items[item.ID] = item
			}
			l.cursors[f.ID] = page.Cursor
		}
	}
	return l
}

// onLoopback puts the client on a real connection, under the addresses that the
// simulator has there.
func (w *world) onLoopback() {
	w.t.Helper()
	server := httptest.NewServer(w.sim)
	w.t.Cleanup(server.Close)
	client, err := m365.New(m365.Config{
		ClientID: simulator.MainClientID, Secret: []byte("holdfast-demo-secret"), RedirectURL: callback,
		LoginURL: server.URL + "/login.microsoftonline.com", GraphURL: server.URL + "/graph.microsoft.com", ExchangeURL: server.URL + "/outlook.office365.com",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.client = client
}

func TestAllMessagesByteForByteOverLoopback(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 523 messages")
	}
	mail := os.DirFS("simulator/testdata/mail")
	w := newWorld(t, func(o *simulator.Options) {
		o.Mail = mail
		for i := range o.World.Tenants {
			tenant := &o.World.Tenants[i]
			tenant.ReplicationDelay = 0
			for k := range tenant.People {
				if box := tenant.People[k].Mailbox; box != nil {
					box.Messages = 0
					if strings.HasPrefix(tenant.People[k].UPN, "frank@") {
						box.Messages = 523
					}
				}
			}
		}
	})
	w.onLoopback()
	app := w.mailApp("admin@fabrikamlegal.onmicrosoft.com")
	box := app.Mailbox(accountID(t, app, "frank@"))
	l := read(t, box)
	served, err := w.sim.Messages(fabrikam, "frank@fabrikamlegal.onmicrosoft.com")
	if err != nil {
		t.Fatal(err)
	}
	if len(l.items) != len(served) || len(served) < 523 {
		t.Errorf("%d messages are listed, the mailbox has %d", len(l.items), len(served))
	}
	ids := make([]string, len(served))
	for i, message := range served {
		ids[i] = message.ID
	}
	raw := func(id string) ([]byte, error) {
		return w.sim.RawMessage(fabrikam, "frank@fabrikamlegal.onmicrosoft.com", id)
	}
	readAll(t, box, ids, raw)
	if n := batched(w.sim.Requests()); n > 0 {
		t.Errorf("%d messages came in batches, though nobody said that they would be asked for", n)
	}
	w.sim.ClearRequests()
	for page := range slices.Chunk(ids, 100) {
		var items []engine.ItemState
		for _, id := range page {
			items = append(items, l.items[id])
		}
		box.Expect(t.Context(), items)
		readAll(t, box, page, raw)
	}
	for _, r := range w.sim.Requests() {
		if r.Status == 429 {
			t.Errorf("%s %s was throttled: too many at a time", r.Method, r.Path)
		}
	}
	// Those with attachments are in batches from when it is known that they are small.
	if n := batched(w.sim.Requests()); n < len(ids)*3/4 {
		t.Errorf("%d of %d messages that were expected came in batches", n, len(ids))
	}
	all, want := map[string]bool{}, manifest(t)
	for _, id := range ids {
		text, err := raw(id)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		all[hex.EncodeToString(sum[:])[:16]] = true
	}
	for sum := range want {
		if !all[sum] {
			t.Errorf("message %s of the test mail was not read", sum)
		}
	}
}

// readAll reads messages, more at a time than Microsoft allows: the client has to
// hold them back. They have to be as raw has them.
func readAll(t *testing.T, box *m365.Mailbox, ids []string, raw func(id string) ([]byte, error)) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(8)
	for _, id := range ids {
		g.Go(func() error {
			want, err := raw(id)
			if err != nil {
				return err
			}
			got, err := content(t, box, id)
			if err != nil {
				return err
			}
			if !bytes.Equal(got, want) {
				return fmt.Errorf("%s: %d bytes were read, %d are there", id, len(got), len(want))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// batched counts the messages that were read in batches.
func batched(requests []simulator.Request) (n int) {
	for _, r := range requests {
		if r.InBatch && strings.HasSuffix(r.Path, "/$value") {
			n++
		}
	}
	return n
}

// content reads a message.
func content(t *testing.T, box *m365.Mailbox, id string) ([]byte, error) {
	body, err := box.Content(t.Context(), id)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// manifest counts the messages of the test mail by their sum.
func manifest(t *testing.T) map[string]int {
	t.Helper()
	data, err := os.ReadFile("simulator/testdata/mail/manifest.tsv")
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]int{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(fields) > 6 && fields[1] == "eml" {
			sums[fields[6]]++
		}
	}
	return sums
}
