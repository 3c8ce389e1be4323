package engine_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/backup"
	"holdfast/backup/repo"
)

// letters makes messages with small, large and shared content over three
// snapshots, and returns their subjects by their ids.
func letters(t *testing.T, b *bench) map[backup.ItemID]string {
	t.Helper()
	p := newProvider()
	file := bytes.Repeat([]byte("a file that many have "), 5000)
	for run := range 3 {
		for i := range 6 {
			text := fmt.Appendf(nil, "Subject: letter %d of run %d\r\n\r\n", i, run)
			switch i % 3 {
			case 0:
				text = append(text, bytes.Repeat([]byte{byte('a' + run)}, 60<<10)...)
			case 1:
				text = append(text, lines(file[run*10_000/2:])...)
			}
			p.add("inbox", fmt.Sprintf("letter %d of run %d", i, run), text)
		}
		b.run(p)
	}
	subjects := map[backup.ItemID]string{}
	for id := range p.items {
		i := b.item(id)
		subjects[i.ID] = i.Subject
	}
	return subjects
}

// lines writes data as the base64 of an attachment.
func lines(data []byte) []byte {
	var out []byte
	for part := range slices.Chunk(data, 57) {
		out = append(out, base64.StdEncoding.EncodeToString(part)+"\r\n"...)
	}
	return out
}

// TestVerifyNamesExactlyWhatCantBeRestored harms each pack in every way: the
// messages that a check of all data names are those that don't come back, since
// most are proven without being read again.
func TestVerifyNamesExactlyWhatCantBeRestored(t *testing.T) {
	storage := repo.NewMemory()
	b := openBench(t, openStore(t), storage)
	subjects := letters(t, b)
	report, err := openBench(t, b.store, storage).Verify(t.Context(), org, true)
	if err != nil || len(report.Damaged) > 0 || report.Items != len(subjects) {
		t.Fatalf("Verify = %+v, %v; want %d whole items", report, err, len(subjects))
	}
	for _, key := range packsIn(t, storage) {
		whole := contentOf(t, storage, key)
		for name, harm := range map[string]func([]byte) []byte{
			"flip":     func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
			"flip end": func(d []byte) []byte { d[len(d)-20] ^= 1; return d },
			"zero":     func(d []byte) []byte { clear(d[len(d)/3:]); return d },
			"truncate": func(d []byte) []byte { return d[:len(d)/2] },
			"delete":   nil,
		} {
			if harm == nil {
				if err := storage.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			} else {
				storage.Set(key, harm(bytes.Clone(whole)))
			}
			again := openBench(t, b.store, storage)
			report, err := again.Verify(t.Context(), org, true)
			text := strings.Join(report.Damaged, "\n")
			if err != nil || !strings.Contains(text, key) {
				t.Errorf("%s of %s: Verify = %q, %v; want it named", name, key, text, err)
			}
			named := map[string]bool{}
			lost := map[string]bool{}
			for id, subject := range subjects {
				if err := openBench(t, b.store, storage).WriteItem(t.Context(), org, mailbox, id, &bytes.Buffer{}); err != nil {
					lost[subject] = true
				}
				if strings.Contains(text, subject) {
					named[subject] = true
				}
			}
			if strings.Contains(key, "/d/") && (name == "delete" && len(lost) == 0 || !maps.Equal(named, lost)) {
				t.Errorf("%s of %s: named are %v, lost are %v", name, key, slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(lost)))
			}
			storage.Set(key, bytes.Clone(whole))
		}
	}
}

// packsIn lists the packs of a storage.
func packsIn(t *testing.T, storage repo.Storage) (keys []string) {
	t.Helper()
	for _, kind := range []string{"d", "m"} {
		for e, err := range storage.List(t.Context(), "t/"+string(org)+"/"+kind+"/") {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, e.Key)
		}
	}
	return keys
}

func contentOf(t *testing.T, storage repo.Storage, key string) []byte {
	t.Helper()
	in, err := storage.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
