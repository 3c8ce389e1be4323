package jobs_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/jobs"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

// letterBox is a mailbox with a folder of messages, each of another size.
type letterBox map[string]string

func (l letterBox) Folders(context.Context, string) (engine.FolderChanges, error) {
	return engine.FolderChanges{Full: true, Cursor: "1", Folders: []engine.Folder{{ID: "inbox", Name: "Inbox", WellKnown: "inbox"}}}, nil
}

func (l letterBox) Changes(context.Context, string, string) iter.Seq2[engine.Page, error] {
	return func(yield func(engine.Page, error) bool) {
		page := engine.Page{Full: true, Cursor: "1"}
		for id := range l {
			page.Items = append(page.Items, engine.ItemState{ID: id, Version: "1", FolderID: "inbox", Subject: "Letter " + id, From: "ada@example.org", Received: time.Now()})
		}
		yield(page, nil)
	}
}

func (l letterBox) Content(_ context.Context, id string) (io.ReadCloser, error) {
	text, ok := l[id]
	if !ok {
		return nil, engine.ErrItemGone
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func someLetters(n int) letterBox {
	l := letterBox{}
	for i := range n {
		text := fmt.Sprintf("Subject: Letter %d\r\n\r\n", i)
		for range 50 * (i + 1) {
			text += rand.Text() + "\r\n"
		}
		l[fmt.Sprint("m", i)] = text
	}
	return l
}

// kept is a store with two organizations, one of which has a mailbox in the
// repository.
type kept struct {
	*jobs.Runner
	w       storetest.World
	storage *repo.Memory
	mailbox backup.Mailbox
}

func keep(t *testing.T, st *store.Store, source engine.Source) kept {
	t.Helper()
	k := kept{w: storetest.Fill(t, st), storage: repo.NewMemory()}
	_, boxes := storetest.Connect(t, st, k.w.Ada, "tenant", storetest.Account("ada"))
	k.mailbox = boxes["ada"]
	r, err := repo.Open(t.Context(), k.storage, st, st, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k.Runner = &jobs.Runner{Store: st, Engine: &engine.Engine{Repo: r, Catalog: st}, Log: slog.New(slog.DiscardHandler), PublicURL: "https://backup.example.org", CheckRate: 256 << 20}
	if _, err := k.Engine.Backup(t.Context(), engine.Job{Org: k.w.Contoso.ID, Mailbox: k.mailbox.ID, Source: source}); err != nil {
		t.Fatal(err)
	}
	return k
}

// do does work for Contoso and returns its row as the store has it.
func (k kept) do(t *testing.T, kind backup.UpkeepKind) backup.Upkeep {
	t.Helper()
	if _, err := k.Upkeep(t.Context(), k.w.Contoso.ID, kind, nil); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	kinds, err := k.Store.Upkeeps(t.Context(), k.w.Contoso.ID)
	if err != nil {
		t.Fatal(err)
	}
	return kinds[kind]
}

// objects are the keys below a prefix.
func (k kept) objects(t *testing.T, prefix string) []string {
	t.Helper()
	var list []string
	for e, err := range k.storage.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Key)
	}
	return list
}

// change changes an object as a failing disk might.
func (k kept) change(t *testing.T, key string, harm func([]byte) []byte) {
	t.Helper()
	k.storage.Set(key, harm(bytes.Clone(k.read(t, key))))
}

// read returns an object.
func (k kept) read(t *testing.T, key string) []byte {
	t.Helper()
	in, err := k.storage.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRestoresAreProven(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		source := someLetters(20)
		k := keep(t, st, source)
		org := k.w.Contoso.ID
		for _, kind := range []backup.UpkeepKind{backup.UpkeepProveItem, backup.UpkeepProveMailbox} {
			due, err := st.DueUpkeep(ctx, kind, time.Now())
			if err != nil || len(due) != 1 || due[0] != org {
				t.Errorf("%s is due for %v, %v; want the organization with a backup", kind, due, err)
			}
		}
		one := k.do(t, backup.UpkeepProveItem)
		if one.State != backup.UpkeepOK || one.Counted != 1 || one.Bytes == 0 || one.OKAt.IsZero() || one.MailboxID != k.mailbox.ID {
			t.Errorf("restore of a message = %+v, want one message of the mailbox", one)
		}
		all, size := k.do(t, backup.UpkeepProveMailbox), int64(0)
		for _, text := range source {
			size += int64(len(text))
		}
		if all.State != backup.UpkeepOK || all.Counted != 20 || all.Bytes != size {
			t.Errorf("restore of a mailbox = %+v, want 20 messages of %d bytes", all, size)
		}
		for _, kind := range []backup.UpkeepKind{backup.UpkeepProveItem, backup.UpkeepProveMailbox} {
			every := backup.UpkeepPlanned[kind]
			if due, err := st.DueUpkeep(ctx, kind, time.Now().Add(every*8/10)); err != nil || len(due) != 0 {
				t.Errorf("%s is due again before its time for %v, %v", kind, due, err)
			}
			if due, err := st.DueUpkeep(ctx, kind, time.Now().Add(every+time.Minute)); err != nil || len(due) != 1 {
				t.Errorf("%s is due in time for %v, %v", kind, due, err)
			}
		}
		if theirs, err := st.Upkeeps(ctx, k.w.Fabrikam.ID); err != nil || len(theirs) != 0 {
			t.Errorf("another organization has %v, %v", theirs, err)
		}
	})
}

// TestDamageIsNotedTold flips a byte of every content pack: the restore test
// names the message, the notification is owed, and both end when the byte is
// back.
func TestDamageIsNotedAndTold(t *testing.T) {
	storetest.Each(t, func(t *testing.T, st *store.Store) {
		ctx := t.Context()
		k := keep(t, st, someLetters(3))
		org := k.w.Contoso.ID
		flip := func(d []byte) []byte { d[60] ^= 1; return d }
		for _, key := range k.objects(t, "t/"+string(org)+"/d/") {
			k.change(t, key, flip)
		}
		if u := k.do(t, backup.UpkeepProveMailbox); u.State != backup.UpkeepDamaged || u.Damaged != 3 || !u.OKAt.IsZero() {
			t.Errorf("restore of a damaged mailbox = %+v, want 3 damaged and no success", u)
		}
		list, err := st.Damages(ctx, org, 10)
		if err != nil || len(list) != 3 || !strings.HasPrefix(list[0].Subject, "Letter m") || list[0].MailboxName != k.mailbox.Address || list[0].FoundAt.IsZero() {
			t.Fatalf("Damages = %+v, %v; want three letters by name", list, err)
		}
		if how := list[0].How; strings.Contains(how, "repository: ") || !strings.Contains(how, "does not open") {
			t.Errorf("it is damaged how: %q", how)
		}
		if n, _, err := st.CountDamages(ctx, k.w.Fabrikam.ID); err != nil || n != 0 {
			t.Errorf("another organization has %d damages, %v", n, err)
		}
		causes, err := st.SupportCauses(ctx, k.w.Owner.Partner.ID)
		if err != nil || len(causes) != 1 || causes[0].Area != backup.SupportStorage || causes[0].Problem.Kind != backup.ProblemDamaged {
			t.Errorf("SupportCauses = %+v, %v; want the damage", causes, err)
		}
		at := monday.Add(-48 * time.Hour)
		if err := k.Notice(ctx, at); err != nil {
			t.Fatal(err)
		}
		if got := open(t, st, org); len(got) != 1 || got[0] != string(backup.NotifyDamage) {
			t.Errorf("open notifications: %v, want the damage", got)
		}
		for _, key := range k.objects(t, "t/"+string(org)+"/d/") {
			k.change(t, key, flip)
		}
		if u := k.do(t, backup.UpkeepProveMailbox); u.State != backup.UpkeepOK {
			t.Errorf("after the byte is back: %+v", u)
		}
		if err := k.Notice(ctx, at.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := st.CountDamages(ctx, org); err != nil || n != 0 || len(open(t, st, org)) != 0 {
			t.Errorf("%d damages and %v after all is whole again, %v", n, open(t, st, org), err)
		}
	})
}
