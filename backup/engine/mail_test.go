package engine_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
	"holdfast/store/storetest"
)

const testMail = "../m365/simulator/testdata/mail"

// messages are the sample messages, by their path in testMail.
func messages(t testing.TB) map[string][]byte {
	t.Helper()
	manifest := must[[]byte](t)(os.ReadFile(filepath.Join(testMail, "manifest.tsv")))
	out := map[string][]byte{}
	for i, line := range strings.Split(strings.TrimSpace(string(manifest)), "\n") {
		fields := strings.Split(line, "\t")
		if i == 0 || fields[1] != "eml" {
			continue
		}
		out[fields[0]] = must[[]byte](t)(os.ReadFile(filepath.Join(testMail, filepath.FromSlash(fields[0]))))
	}
	return out
}

func TestSampleMessagesComeBackByteForByte(t *testing.T) {
	dir := must[*repo.Dir](t)(repo.OpenDir(filepath.Join(t.TempDir(), "repository")))
	st := openStore(t)
	b, p := openBench(t, st, dir), newProvider()
	all := messages(t)
	if len(all) < 500 {
		t.Fatalf("there are %d sample messages, want more than 500", len(all))
	}
	folders := map[string]string{}
	ids := map[string]string{}
	for name, text := range all {
		group := filepath.Dir(name)
		if folders[group] == "" {
			folders[group] = p.addFolder(p.id("folder"), "inbox", group)
		}
		ids[p.add(folders[group], name, text)] = name
	}
	b.run(p) // compares every text in full or by its sum
	for id, name := range ids {
		if got := b.read(b.itemIn(id)); got != string(all[name]) {
			t.Errorf("%s comes back as %d other bytes", name, len(got))
		}
	}
	report, err := b.Verify(t.Context(), org, true)
	if err != nil || len(report.Damaged) > 0 || report.Items != len(all) {
		t.Errorf("Verify = %+v, %v; want %d items and no damage", report, err, len(all))
	}
	b.checkRebuild(map[int64]map[string]string{1: p.image()})
}

// itemIn finds the id of an item through the catalog's own lookup.
func (b *bench) itemIn(providerID string) backup.ItemID {
	b.t.Helper()
	list := must[[]engine.Item](b.t)(b.store.KnownItems(b.t.Context(), org, mailbox, []string{providerID}))
	if len(list) != 1 {
		b.t.Fatalf("%d items are known as %s, want one", len(list), providerID)
	}
	return list[0].Record.ID()
}

func TestVerifyNamesWhatIsDamaged(t *testing.T) {
	storage := repo.NewMemory()
	b, p := openBench(t, openStore(t), storage), newProvider()
	for range 20 {
		p.add("inbox", "x", randomText(random(t)))
	}
	b.run(p)
	var key string
	for e, err := range storage.List(t.Context(), "t/"+string(org)+"/d/") {
		if err != nil {
			t.Fatal(err)
		}
		key = e.Key
	}
	if err := storage.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	b = openBench(t, b.store, storage)
	for _, all := range []bool{false, true} {
		report, err := b.Verify(t.Context(), org, all)
		if err != nil || len(report.Damaged) == 0 || !strings.Contains(strings.Join(report.Damaged, "\n"), key) {
			t.Errorf("Verify(all=%v) = %+v, %v; want %s named", all, report, err, key)
		}
	}
	err := b.WriteItem(t.Context(), org, mailbox, b.item(firstItem(p)).ID, &bytes.Buffer{})
	if backup.KindOf(err) != backup.ProblemRepository {
		t.Errorf("WriteItem of lost content: %v, want problem repository", err)
	}
}

func firstItem(p *provider) string {
	var ids []string
	for id := range p.items {
		ids = append(ids, id)
	}
	return slices.Min(ids)
}

func TestRecoverTakesInWhatKilledRunsCommitted(t *testing.T) {
	st := openStore(t)
	w := storetest.Fill(t, st)
	_, boxes := storetest.Connect(t, st, w.Ada, "tenant", storetest.Account("u1"), storetest.Account("u2"))
	storage := repo.NewMemory()
	providers := map[string]*provider{}
	for id, m := range boxes {
		p := newProvider()
		p.add("inbox", "of "+id, []byte("text"))
		providers[id] = p
		b := openBench(t, st, storage)
		b.Catalog = &killer{st, func() bool { return true }}
		if _, err := b.Backup(t.Context(), engine.Job{Org: m.OrgID, Mailbox: m.ID, Source: p}); err == nil {
			t.Fatal("Backup was not killed")
		}
	}
	b := openBench(t, st, storage)
	if err := b.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, m := range boxes {
		items, total, err := st.Items(t.Context(), m.OrgID, m.ID, 1, store.ItemQuery{})
		if err != nil || total != 1 || items[0].Subject != "of "+id {
			t.Errorf("after Recover mailbox %s has %+v, %v; want its message", id, items, err)
		}
	}
}

// TestMemoryStaysBounded backs up far more than the limit and watches the heap.
func TestMemoryStaysBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 1.1 GiB")
	}
	dir := must[*repo.Dir](t)(repo.OpenDir(filepath.Join(t.TempDir(), "repository")))
	b, p := openBench(t, openStore(t), dir), newProvider()
	for range 6 {
		p.add("inbox", "large", nil)
	}
	var peak atomic.Uint64
	src := large{p, &peak}
	result, err := b.Backup(t.Context(), engine.Job{Org: org, Mailbox: mailbox, Source: src})
	if err != nil || result.DamagedItems > 0 {
		t.Fatalf("Backup = %+v, %v", result, err)
	}
	t.Logf("largest heap: %d MiB", peak.Load()>>20)
	if got := peak.Load() >> 20; got > 256 {
		t.Errorf("the heap grew to %d MiB, want at most 256", got)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}
