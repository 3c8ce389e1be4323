package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/store"
	"holdfast/store/storetest"
)

// notes is a mailbox of so many short messages.
type notes int

func (n notes) Folders(context.Context, string) (engine.FolderChanges, error) {
	return engine.FolderChanges{Full: true, Cursor: "1", Folders: []engine.Folder{{ID: "inbox", Name: "Inbox", WellKnown: "inbox"}}}, nil
}

func (n notes) Changes(context.Context, string, string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		p := engine.Page{Full: true, Cursor: "1"}
		for i := range int(n) {
			p.Items = append(p.Items, engine.ItemState{ID: fmt.Sprint(i), Version: "1", FolderID: "inbox", Subject: fmt.Sprint("Note ", i), Received: time.Unix(1_700_000_000, 0)})
		}
		yield(p, nil)
	}
}

func (n notes) Content(_ context.Context, id string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(n.text(id))), nil
}

func (n notes) text(id string) string {
	return "Subject: Note " + id + "\r\n\r\nThe text of note " + id
}

// condemned is a server's data: a mailbox that is to be erased, another one of the
// same organization, and an organization that is to be deleted.
type condemned struct {
	config  config
	world   storetest.World
	kept    backup.Mailbox
	erased  backup.Mailbox
	erasure backup.Erasure
}

func newCondemned(t *testing.T, c config) condemned {
	t.Helper()
	ctx := t.Context()
	d := condemned{config: c}
	st, eng := openConfig(t, d.config)
	defer st.Close()
	d.world = storetest.Fill(t, st)
	_, boxes := storetest.Connect(t, st, d.world.Ada, "one", storetest.Account("kept"), storetest.Account("erased"))
	_, others := storetest.Connect(t, st, d.world.Otto, "two", storetest.Account("other"))
	d.kept, d.erased = boxes["kept"], boxes["erased"]
	for _, m := range []backup.Mailbox{d.kept, d.erased, others["other"]} {
		if _, err := eng.Backup(ctx, engine.Job{Org: m.OrgID, Mailbox: m.ID, Source: notes(30)}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	d.erasure, err = st.AskErasure(ctx, backup.Erasure{OrgID: d.kept.OrgID, MailboxID: d.erased.ID, Reason: "She has left", RequestedBy: "Case 4711"}, d.erased.Address, d.world.Ada)
	if err != nil {
		t.Fatal(err)
	}
	org := d.world.Fabrikam
	if err := errors.Join(st.SetSuspended(ctx, org.PartnerID, org.ID, true, "The contract ended", d.world.Owner),
		st.StartDeletion(ctx, org.PartnerID, org.ID, backup.DeletionWish{Name: org.Name, Reason: "The contract ended"}, d.world.Owner)); err != nil {
		t.Fatal(err)
	}
	return d
}

// over says whether both have ended.
func (d condemned) over(t *testing.T, st *store.Store) bool {
	t.Helper()
	e, err := st.Erasure(t.Context(), d.kept.OrgID, d.erasure.ID)
	if err != nil {
		t.Fatal(err)
	}
	row, err := st.DeletionByID(t.Context(), d.world.Fabrikam.ID)
	if err != nil {
		t.Fatal(err)
	}
	return e.State == backup.ErasureDone && !row.EndedAt.IsZero()
}

// TestKilledWhileErasingAndDeleting kills the server with SIGKILL again and again
// while it erases a mailbox and deletes an organization. Both end, once; of them
// nothing is left, and of others nothing is missing.
func TestKilledWhileErasingAndDeleting(t *testing.T) {
	d := newCondemned(t, config{Data: t.TempDir()})
	s := &server{t: t, args: []string{"serve", "-addr", freeAddr(t), "-data", d.config.Data, "-workers", "2"}}
	s.start()
	<-s.killEvery(killCount(5), 100*time.Millisecond, 900*time.Millisecond)
	st, eng := openConfig(t, d.config)
	for deadline := time.Now().Add(3 * time.Minute); !d.over(t, st); {
		if time.Now().After(deadline) {
			t.Fatalf("they do not end: %s", s.now.logged())
		}
		time.Sleep(100 * time.Millisecond) // another process works
	}
	s.now.kill()
	d.once(t, st)
	d.nothingLeft(t, st, eng)
	folders, err := filepath.Glob(filepath.Join(d.config.Data, "repository", "t", "*"))
	if err != nil || len(folders) != 1 || filepath.Base(folders[0]) != string(d.kept.OrgID) {
		t.Errorf("the repository has the folders %v, %v; want that of the organization that is kept", folders, err)
	}
}

// once checks that there is one certificate, which names the keys, and one entry
// of each end.
func (d condemned) once(t *testing.T, st *store.Store) {
	t.Helper()
	e, err := st.Erasure(t.Context(), d.kept.OrgID, d.erasure.ID)
	if err != nil || len(e.Certificate) == 0 {
		t.Fatalf("erasure = %+v, %v", e, err)
	}
	if _, err := st.CertificateSeal(t.Context(), e); err != nil {
		t.Errorf("the certificate's seal: %v", err)
	}
	var certificate backup.ErasureCertificate
	if err := json.Unmarshal(e.Certificate, &certificate); err != nil || len(certificate.Keys) != 1 {
		t.Errorf("the certificate is %s, %v; want the one key in it", e.Certificate, err)
	}
	own, _, err := st.Activity(t.Context(), "", d.kept.OrgID, store.ActivityQuery{Page: 1, Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	partners, _, err := st.Activity(t.Context(), d.world.Owner.Partner.ID, "", store.ActivityQuery{Page: 1, Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]int{}
	for _, entry := range append(own, partners...) {
		ends[entry.Kind]++
	}
	if ends["erasure.done"] != 1 || ends["organization.delete"] != 1 {
		t.Errorf("%d entries say that the mailbox is erased, and %d that the organization is deleted; want one of each", ends["erasure.done"], ends["organization.delete"])
	}
}

// nothingLeft looks for what should be gone and reads what should not.
func (d condemned) nothingLeft(t *testing.T, st *store.Store, eng *engine.Engine) {
	t.Helper()
	ctx := t.Context()
	if _, err := st.Mailbox(ctx, d.kept.OrgID, d.erased.ID); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("the erased mailbox: %v, want ErrNotFound", err)
	}
	if _, err := st.OrganizationByID(ctx, d.world.Fabrikam.ID); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("the deleted organization: %v, want ErrNotFound", err)
	}
	tenants, err := eng.Repo.Tenants(ctx)
	if err != nil || len(tenants) != 1 || tenants[0] != string(d.kept.OrgID) {
		t.Errorf("the repository has %v, %v; want the organization that is kept", tenants, err)
	}
	if err := eng.Repo.Ready(ctx); err != nil {
		t.Error(err)
	}
	items, _, err := st.Items(ctx, d.kept.OrgID, d.kept.ID, 1, store.ItemQuery{PageSize: 100})
	if err != nil || len(items) != 30 {
		t.Fatalf("%d messages of the other mailbox, %v; want 30", len(items), err)
	}
	for _, i := range items {
		var text bytes.Buffer
		if err := eng.WriteItem(ctx, d.kept.OrgID, d.kept.ID, i.ID, &text); err != nil || text.String() != notes(30).text(i.ProviderID) {
			t.Errorf("message %s: %q, %v", i.ProviderID, text.String(), err)
		}
	}
	eng.Log = slog.New(slog.DiscardHandler)
	if report, err := eng.Verify(ctx, d.kept.OrgID, true); err != nil || len(report.Damaged) > 0 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
}
