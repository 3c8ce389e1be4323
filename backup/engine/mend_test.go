package engine_test

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/engine"
	"holdfast/backup/repo"
	"holdfast/store"
)

// harms are what may happen to an object; nil deletes it.
var harms = map[string]func([]byte) []byte{
	"flip":     func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
	"flip end": func(d []byte) []byte { d[len(d)-6] ^= 1; return d },
	"truncate": func(d []byte) []byte { return d[:len(d)*2/3] },
	"zero":     func(d []byte) []byte { clear(d[len(d)/3 : len(d)*2/3]); return d },
	"delete":   nil,
}

// mendBench has three snapshots, the first of which expired, and a deletion log.
func mendBench(t *testing.T) (*bench, *provider, *repo.Memory) {
	st := openStore(t)
	return mendBenchUnder(t, st, st)
}

func mendBenchUnder(t *testing.T, st *store.Store, keys repo.KeyStore) (*bench, *provider, *repo.Memory) {
	storage := repo.NewMemory()
	b, p := openUnder(t, st, storage, keys), newProvider()
	file := bytes.Repeat([]byte("a file that many have "), 5000)
	for run := range 4 {
		for i := range 4 {
			text := fmt.Appendf(nil, "Subject: letter %d of run %d\r\n\r\n", i, run)
			switch i % 3 {
			case 0:
				text = append(text, bytes.Repeat([]byte{byte('a' + run)}, 60<<10)...)
			case 1:
				text = append(text, lines(file[run*10_000/2:])...)
			}
			p.add("inbox", fmt.Sprintf("letter %d of run %d", i, run), text)
		}
		if run == 2 {
			p.move(firstItem(p), "sentitems")
		}
		b.run(p)
	}
	if err := b.Expire(t.Context(), org, mailbox, []int64{2}); err != nil {
		t.Fatal(err)
	}
	return b, p, storage
}

var keyOf = regexp.MustCompile(`t/[^/ ]+/[dmcg]/[^ :]+`)

// TestMendMatrix harms an object of each kind in every way, and mends the
// repository without a copy: what is not lost comes back byte for byte, what is
// lost is named, and after the next run nothing is, since the provider has it.
func TestMendMatrix(t *testing.T) {
	for _, kind := range []string{"d", "m", "c", "g"} {
		for name, harm := range harms {
			t.Run(kind+" "+name, func(t *testing.T) { mends(t, kind, harm, nil) })
		}
	}
}

func mends(t *testing.T, kind string, harm func([]byte) []byte, keys *agedKeys) {
	t.Parallel()
	st, last := openStore(t), 0
	var under repo.KeyStore = st
	if keys != nil {
		under = keys
	}
	b, p, storage := mendBenchUnder(t, st, under)
	open := func() *bench { return openUnder(t, st, storage, under) }
	if keys != nil { // in the middle of a rekey, what was moved and sealed anew is there twice
		keys.to++
		b.Catalog = listed{st}
		if done, err := b.Rekey(t.Context(), org, ignore); err != nil || done.Packs == 0 || done.Old == 0 {
			t.Fatalf("Rekey = %+v, %v", done, err)
		}
		last = len(keysBelow(t, storage, "t/"+string(org)+"/"+kind+"/")) - 1
	}
	before := map[int64]map[string]string{}
	for _, seq := range must[[]int64](t)(b.store.SnapshotNumbers(t.Context(), org, mailbox)) {
		before[seq] = b.image(seq)
	}
	key := keysBelow(t, storage, "t/"+string(org)+"/"+kind+"/")[last] // a pack by chance: their names are random
	if harm == nil {
		if err := storage.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	} else {
		storage.Set(key, harm(bytes.Clone(contentOf(t, storage, key))))
	}
	b = open()
	lost := b.mend()
	report, err := open().Verify(t.Context(), org, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range report.Damaged {
		if !slices.ContainsFunc(lost, func(subject string) bool { return strings.Contains(line, fmt.Sprintf("%q", subject)) }) {
			t.Errorf("%s: after mending Verify says %s; lost are %q", key, line, lost)
		}
	}
	for seq, want := range before {
		got := open().imageLeft(seq)
		for id, text := range want {
			if got[id] != text && !slices.ContainsFunc(lost, func(subject string) bool { return strings.Contains(text, subject) }) {
				t.Errorf("%s: in snapshot %d %s came back as %.80s, want %.80s", key, seq, id, got[id], text)
			}
		}
	}
	// The provider has it all: the next run brings it back.
	b = open()
	b.run(p)
	b.settle(t)
	report, err = open().Verify(t.Context(), org, true)
	if err != nil || len(report.Damaged) > 0 {
		t.Errorf("%s: after the next run Verify says %q, %v", key, report.Damaged, err)
	}
	again := open()
	for seq, want := range before {
		if got := again.image(seq); !maps.Equal(got, want) {
			t.Errorf("%s: after the next run snapshot %d is not what it was", key, seq)
		}
	}
	if _, err := again.Collect(t.Context(), org); err != nil {
		t.Errorf("%s: Collect = %v", key, err)
	}
	if err := again.Rebuild(t.Context(), org); err != nil {
		t.Errorf("%s: Rebuild = %v", key, err)
	}
	for seq, want := range before {
		if got := again.image(seq); !maps.Equal(got, want) {
			t.Errorf("%s: after a rebuild snapshot %d is not what it was", key, seq)
		}
	}
}

func keysBelow(t *testing.T, storage repo.Storage, prefix string) (keys []string) {
	t.Helper()
	for e, err := range storage.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, e.Key)
	}
	return keys
}

// mend does what the job does, and returns the subjects of what is lost.
func (b *bench) mend() (lost []string) { return b.mendFrom(nil) }

func (b *bench) mendFrom(from repo.Storage) (lost []string) {
	b.t.Helper()
	_, lost, err := b.tryMend(from)
	if err != nil {
		b.t.Fatalf("Mend: %v", err)
	}
	return lost
}

func (b *bench) tryMend(from repo.Storage) (mended engine.Mended, lost []string, err error) {
	b.t.Helper()
	ctx := b.t.Context()
	report, err := b.Verify(ctx, org, false)
	if err != nil {
		b.t.Fatal(err)
	}
	all, err := b.Verify(ctx, org, true)
	if err != nil {
		b.t.Fatal(err)
	}
	var keys []string
	for _, line := range append(report.Damaged, all.Damaged...) {
		if key := keyOf.FindString(line); key != "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if mended, err = b.Mend(ctx, org, keys, from, func(int, int) error { return nil }); err != nil {
		return mended, nil, err
	}
	var wanted []int64
	for _, r := range b.records() {
		if fate, err := b.Settle(ctx, org, mailbox, r.Record.Number); err != nil {
			b.t.Fatal(err)
		} else if fate != backup.DamageMended {
			lost = append(lost, r.Subject)
			wanted = append(wanted, r.Record.Number)
		}
	}
	if err := b.store.ReadAgain(ctx, org, mailbox, wanted, backup.Problem{Kind: backup.ProblemDamaged, Text: engine.ProblemLost}); err != nil {
		b.t.Fatal(err)
	}
	return mended, lost, nil
}

// settle does what the job does after a run.
func (b *bench) settle(t *testing.T) {
	for _, r := range b.records() {
		if fate, err := b.Settle(t.Context(), org, mailbox, r.Record.Number); err != nil || fate != backup.DamageMended {
			t.Errorf("after the run %q is %s (%v)", r.Subject, fate, err)
		}
	}
}

func (b *bench) records() []engine.Item {
	b.t.Helper()
	return must[[]engine.Item](b.t)(b.store.RecordItems(b.t.Context(), org, mailbox, 0, 1000))
}

// imageLeft is image, with nothing for what can't be read.
func (b *bench) imageLeft(seq int64) map[string]string {
	b.t.Helper()
	out := map[string]string{}
	for _, f := range must[[]backup.Folder](b.t)(b.store.Folders(b.t.Context(), org, mailbox, seq)) {
		out["folder "+f.ID] = folderImage(f)
		items := must[[]engine.Item](b.t)(b.store.SnapshotItems(b.t.Context(), org, mailbox, seq, f.ID, 0, 1000))
		for _, i := range items {
			var text bytes.Buffer
			if err := b.WriteItem(b.t.Context(), org, mailbox, i.Record.ID(), &text); err == nil {
				out["item "+i.ID] = imageOf(i.FolderID, i.Subject, i.From, i.To, i.Received, i.Sent, i.Read, i.Draft, i.Flagged, i.Importance, i.Categories, text.String())
			}
		}
	}
	return out
}
