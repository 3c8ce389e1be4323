package repo

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	r := &Repository{}
	foot, err := encMode.Marshal(footer{Source: "box", Blobs: []footerBlob{{Type: blobGroup, Offset: 32, Length: 10, Pieces: []footerPiece{{Size: 3}}}}})
	if err != nil {
		f.Fatal(err)
	}
	commit, err := encMode.Marshal(commitRecord{Seq: 1, Info: []byte("x"), Packs: []Pack{{SHA256: make([]byte, 32)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(foot)
	f.Add(append([]byte{codecPlain}, commit...))
	f.Add(newFrame(blobMeta, 100, 3))
	f.Add([]byte(`{"product":"holdfast repository","version":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if foot, err := decodeFooter(data); err == nil {
			for n, b := range foot.Blobs {
				b.locations(PackID{}, PackData, 0, uint32(n)) //nolint:gosec // bounded by the decoder
			}
		}
		if len(data) > 0 && data[0] == codecPlain {
			_, _ = r.decodeCommit(data)
		}
		if fr, err := parseFrame(data); err == nil && !bytes.Equal(newFrame(fr.kind, int(fr.length), fr.number), data[:frameSize]) {
			t.Error("a frame is not what it decodes to")
		}
		_, _ = parseFormat(data)
		var c Content
		if decMode.Unmarshal(data, &c) == nil {
			_ = c.check()
		}
	})
}
