package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// joiner joins what a splitter finds again, and counts what was decoded.
type joiner struct {
	bytes.Buffer
	decoded int
}

func (j *joiner) literal(b []byte) error { j.Write(b); return nil }

func (j *joiner) base64(decoded []byte, width int, crlf bool) error {
	j.decoded += len(decoded)
	j.Write(encodeLines(nil, decoded, width, crlf))
	return nil
}

func (j *joiner) endRun() error { return nil }

func FuzzSplitJoin(f *testing.F) {
	files, err := filepath.Glob("../m365/simulator/testdata/mail/*/*.eml")
	if err != nil || len(files) == 0 {
		f.Fatal("no test mail", err)
	}
	for i, name := range files {
		if i%7 != 0 {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint(len(data)/2))
	}
	f.Add([]byte(strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 60)), uint(100))
	f.Fuzz(func(t *testing.T, data []byte, cut uint) {
		var j joiner
		s := &splitter{out: &j}
		at := int(cut % uint(len(data)+1)) //nolint:gosec // below len
		for _, part := range [][]byte{data[:at], data[at:]} {
			if n, err := s.Write(part); err != nil || (n != len(part) && len(part) > 0) {
				t.Fatalf("Write = %d, %v; want %d", n, err, len(part))
			}
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(j.Bytes(), data) {
			t.Fatalf("join(split(x)) has %d bytes, x has %d", j.Len(), len(data))
		}
	})
}

func FuzzDecoders(f *testing.F) {
	r := testRepository(f, NewMemory(), NewMemoryIndex(), testKeys{})
	foot, err := encMode.Marshal(footer{Source: "box", Blobs: []footerBlob{{Type: blobGroup, Offset: 32, Length: 10, Pieces: []footerPiece{{Size: 3}}}}})
	if err != nil {
		f.Fatal(err)
	}
	commit, err := encMode.Marshal(commitRecord{Seq: 1, Info: []byte("x"), Packs: []Pack{{Kind: PackData, SHA256: make([]byte, 32)}}})
	if err != nil {
		f.Fatal(err)
	}
	g := group{}
	g.add(PieceID{}, []byte("one"))
	g.add(PieceID{}, nil)
	form, err := newFormat()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{foot, append([]byte{codecPlain}, commit...), r.compress(nil, commit), newFrame(blobMeta, 100, 3), g.blob(nil), form} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if foot, err := decodeFooter(data); err == nil {
			for n, b := range foot.Blobs {
				b.locations(PackID{}, PackData, 0, uint32(n)) //nolint:gosec // bounded by the decoder
			}
		}
		if c, err := r.decodeCommit(data); err == nil && len(c.Packs) > 0 && c.Packs[0].Length < 0 {
			t.Error("a pack of negative length")
		}
		if opened, err := r.expand(data); err == nil && len(opened) > max(maxOpened, len(data)) {
			t.Errorf("%d bytes opened to %d", len(data), len(opened))
		}
		if fr, err := parseFrame(data); err == nil && !bytes.Equal(newFrame(fr.kind, int(fr.length), fr.number), data[:frameSize]) {
			t.Error("a frame is not what it decodes to")
		}
		if pieces, err := groupTable(data); err == nil {
			for _, p := range pieces {
				_ = data[p.Start : p.Start+p.Size]
			}
		}
		if got, err := parseFormat(data); err == nil && got.Version != formatVersion {
			t.Errorf("format %d was accepted", got.Version)
		}
	})
}

// FuzzRecipe reads content by any recipe: it may fail, but not panic, and gives
// the bytes of the recipe's hash or an error.
func FuzzRecipe(f *testing.F) {
	storage, index := NewMemory(), NewMemoryIndex()
	r := testRepository(f, storage, index, testKeys{})
	w, err := r.NewWriter(f.Context(), "org", "box")
	if err != nil {
		f.Fatal(err)
	}
	text := append([]byte("head\r\n"), encodeLines(nil, bytes.Repeat([]byte("file"), 20_000), 76, true)...)
	for _, data := range [][]byte{[]byte("short"), text, append(text, encodeLines(nil, make([]byte, 5000), 72, false)...)} {
		c, err := w.PutContent(f.Context(), bytes.NewReader(data))
		if err != nil {
			f.Fatal(err)
		}
		seed, err := encMode.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	done, err := w.Commit(f.Context(), Commit{Seq: 1, At: time.Now()})
	if err != nil {
		f.Fatal(err)
	}
	index.Add("org", done.Objects)
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Content
		if decMode.Unmarshal(data, &c) != nil {
			return
		}
		var out bytes.Buffer
		if err := r.ReadContent(t.Context(), "org", "box", c, &out); err != nil {
			return
		}
		if hash := sha256.Sum256(out.Bytes()); !bytes.Equal(hash[:], c.SHA256) || int64(out.Len()) != c.Size {
			t.Error("other bytes than the recipe says, without an error")
		}
	})
}

// FuzzPack reads any bytes as a pack: the real one changed in one stretch.
func FuzzPack(f *testing.F) {
	storage, index := NewMemory(), NewMemoryIndex()
	r := testRepository(f, storage, index, testKeys{})
	w, err := r.NewWriter(f.Context(), "org", "box")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.PutContent(f.Context(), bytes.NewReader([]byte("some text"))); err != nil {
		f.Fatal(err)
	}
	done, err := w.Commit(f.Context(), Commit{Seq: 1, At: time.Now()})
	if err != nil {
		f.Fatal(err)
	}
	pack := done.Packs[0]
	key := packKey("org", pack.Kind, pack.ID)
	whole, err := get(f.Context(), storage, key, 0, -1, maxPack)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint(0), []byte("HF"))
	f.Add(uint(len(whole)-12), []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint, change []byte) {
		start := int(at % uint(len(whole))) //nolint:gosec // below len
		changed := append(bytes.Clone(whole[:start]), change...)
		if len(changed) < len(whole) {
			changed = append(changed, whole[len(changed):]...)
		}
		storage.Set(key, changed)
		report, err := r.Verify(t.Context(), "org", "box", VerifyBlobs)
		if err != nil {
			t.Fatal(err)
		}
		if found := len(report.Damaged) > 0; found == bytes.Equal(changed, whole) {
			t.Errorf("damage found: %v", found)
		}
		if _, err := r.Objects(t.Context(), "org", done.Packs); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		if _, err := r.Rescan(t.Context(), "org", "box", pack.Kind, pack.ID); err != nil {
			t.Error(err)
		}
	})
}

// FuzzSealed puts any bytes into a commit and into an entry of the deletion log,
// sealed as they have to be: what decodes may be nonsense, but nothing panics, ends
// never, or deletes a pack that the log does not release.
func FuzzSealed(f *testing.F) {
	storage := NewMemory()
	r := testRepository(f, storage, NewMemoryIndex(), testKeys{})
	pack := Pack{ID: PackID{1}, Kind: PackData, Length: 100, SHA256: make([]byte, 32)}
	for _, rec := range []any{
		commitRecord{Seq: 1, Packs: []Pack{pack}}, commitRecord{Seq: 2, Partial: true},
		logRecord{Condemned: []logPack{{PackID{1}, PackData}}, Expired: []expired{{Source: "box", Spans: []Span{{1, 1}}}}},
		logRecord{Deleted: []logPack{{PackID{1}, PackData}}, Adopted: []adopted{{pack, "box"}}, Marked: true},
		logRecord{Expired: []expired{{Source: "box", Spans: []Span{{5, 3}, {-1, 1 << 62}}, Erased: true}}},
	} {
		data, err := encMode.Marshal(rec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	key, err := r.keys.tenant(f.Context(), "org", 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		for e := range storage.List(t.Context(), "t/") {
			if err := storage.Delete(t.Context(), e.Key); err != nil {
				t.Fatal(err)
			}
		}
		header := append(binary.BigEndian.AppendUint32([]byte(commitMagic), 0), make([]byte, 16)...)
		storage.Set(commitKey("org", "box", 1), recordKey(key, header[12:]).Seal(bytes.Clone(header), blobNonce(0), append([]byte{codecPlain}, plain...), commitData("org", "box", 1, header)))
		entry := append([]byte(logMagic), make([]byte, 16)...)
		storage.Set(logKey("org", 1), newGCM(derive(key, entry[8:], "deletion log")).Seal(entry, blobNonce(0), plain, logData("org", 1)))
		storage.Set(packKey("org", PackData, PackID{1}), []byte("a pack"))
		rec, bad := openLog(key, "org", 1, object(t, storage, logKey("org", 1)))
		r.logs = logCache{}
		_, err := r.Verify(t.Context(), "org", "box", VerifyPacks)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("Verify: %v", err)
		}
		if err := r.VerifyLog(t.Context(), "org"); (err == nil) != (bad == nil) {
			t.Errorf("VerifyLog: %v, the entry: %v", err, bad)
		}
		_, err = r.Collect(t.Context(), "org", nobody{})
		if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotExist) {
			t.Errorf("Collect: %v", err)
		}
		_, gone := storage.Stat(t.Context(), packKey("org", PackData, PackID{1}))
		if gone != nil && !slices.Contains(rec.Deleted, logPack{PackID{1}, PackData}) {
			t.Error("a pack was deleted that the log does not release")
		}
	})
}

// object is what the storage has under a key.
func object(t *testing.T, s Storage, key string) []byte {
	t.Helper()
	data, err := get(t.Context(), s, key, 0, -1, maxPack)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// nobody is an Owner who needs nothing and keeps no index.
type nobody struct{}

func (nobody) Follow(context.Context, []Expired) error                     { return nil }
func (nobody) Live(context.Context, string, []MetaID, func(PieceID)) error { return nil }
func (nobody) Missing(context.Context, []PackID) ([]PackID, error)         { return nil, nil }
func (nobody) Add(context.Context, []Object) error                         { return nil }
func (nobody) Forget(context.Context, []PackID) error                      { return nil }
