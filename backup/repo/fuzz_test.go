package repo

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
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
