package engine_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"slices"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

const (
	org     = backup.OrgID("ORG1")
	mailbox = backup.MailboxID("MAILBOX1")
)

// bench is an engine on a real store and repository.
type bench struct {
	*engine.Engine
	t       testing.TB
	store   *store.Store
	storage *watched
	engine  *engine.Engine
}

// watched is a storage that counts what is written, and may refuse it.
type watched struct {
	repo.Storage
	created int
	refuse  error
}

func (w *watched) Create(ctx context.Context, key string) (repo.Upload, error) {
	if w.refuse != nil {
		return nil, w.refuse
	}
	w.created++
	return w.Storage.Create(ctx, key)
}

func newBench(t testing.TB) *bench {
	t.Helper()
	return openBench(t, openStore(t), repo.NewMemory())
}

func openBench(t testing.TB, st *store.Store, storage repo.Storage) *bench {
	t.Helper()
	return openUnder(t, st, storage, st)
}

// openUnder is openBench with other keys than the store's.
func openUnder(t testing.TB, st *store.Store, storage repo.Storage, keys repo.KeyStore) *bench {
	t.Helper()
	w := &watched{Storage: storage}
	r := must[*repo.Repository](t)(repo.Open(t.Context(), w, keys, st, repo.Options{}))
	e := &engine.Engine{Repo: r, Catalog: st}
	return &bench{Engine: e, t: t, store: st, storage: w, engine: e}
}

// openStore opens an empty database: SQLite, or PostgreSQL if TEST_POSTGRES
// names a server.
func openStore(t testing.TB) *store.Store {
	t.Helper()
	if os.Getenv("TEST_POSTGRES") != "" {
		return storetest.At(t, storetest.Postgres(t))
	}
	return storetest.Open(t)
}

// run backs the mailbox up and checks that the newest snapshot is what the
// provider has.
func (b *bench) run(p *provider) engine.Result {
	b.t.Helper()
	result, err := b.Backup(b.t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: p})
	if err != nil {
		b.t.Fatalf("Backup: %v", err)
	}
	b.check(b.newest(), p.image())
	return result
}

func (b *bench) newest() int64 {
	b.t.Helper()
	list := must[[]backup.Snapshot](b.t)(b.store.Snapshots(b.t.Context(), org, mailbox))
	if len(list) == 0 {
		b.t.Fatal("there is no snapshot")
	}
	return list[0].Seq
}

// check compares a snapshot with what it has to show.
func (b *bench) check(seq int64, want map[string]string) {
	b.t.Helper()
	diff(b.t, seq, b.image(seq), want)
}

func diff(t testing.TB, seq int64, got, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got[key] != value {
			t.Errorf("snapshot %d: %s = %s, want %s", seq, key, got[key], value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			t.Errorf("snapshot %d has %s = %s, want none", seq, key, got[key])
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// image reads a snapshot through the catalog, and every content.
func (b *bench) image(seq int64) map[string]string {
	b.t.Helper()
	out := map[string]string{}
	for _, f := range must[[]backup.Folder](b.t)(b.store.Folders(b.t.Context(), org, mailbox, seq)) {
		out["folder "+f.ID] = folderImage(f)
	}
	for page, size := 1, 7; ; page++ {
		items, total, err := b.store.Items(b.t.Context(), org, mailbox, seq, store.ItemQuery{Page: page, PageSize: size})
		if err != nil {
			b.t.Fatal(err)
		}
		if size == 7 && total > 500 {
			page, size = 0, 500
			continue
		}
		for _, i := range items {
			text := "?"
			if !i.Damaged {
				text = b.read(i.ID)
			}
			out["item "+i.ProviderID] = imageOf(i.FolderID, i.Subject, i.From, i.To, i.ReceivedAt, i.SentAt, i.Read, i.Draft, i.Flagged, i.Importance, i.Categories, text)
		}
		if int64(page*size) >= total {
			return out
		}
	}
}

func (b *bench) read(id backup.ItemID) string {
	b.t.Helper()
	var text bytes.Buffer
	if err := b.WriteItem(b.t.Context(), org, mailbox, id, &text); err != nil {
		b.t.Fatalf("WriteItem(%s): %v", id, err)
	}
	return text.String()
}

// item finds an item of the newest snapshot by its provider's id.
func (b *bench) item(providerID string) backup.Item {
	b.t.Helper()
	items, _, err := b.store.Items(b.t.Context(), org, mailbox, b.newest(), store.ItemQuery{PageSize: 10_000})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, i := range items {
		if i.ProviderID == providerID {
			return i
		}
	}
	b.t.Fatalf("item %s is not in the newest snapshot", providerID)
	return backup.Item{}
}
