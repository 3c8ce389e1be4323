package repo

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// recorder keeps what a splitter finds, independent of how it was handed over.
type recorder struct {
	parts [][]byte
	open  bool // the last part goes on
	join  []byte
}

func (r *recorder) add(kind string, b []byte) {
	if n := len(r.parts) - 1; n >= 0 && r.open {
		r.parts[n] = append(r.parts[n], b...)
		return
	}
	r.parts = append(r.parts, append([]byte(kind), b...))
	r.open = true
}

func (r *recorder) literal(b []byte) error {
	r.add("literal:", b)
	r.join = append(r.join, b...)
	return nil
}

func (r *recorder) base64(decoded []byte, width int, crlf bool) error {
	kind := fmt.Sprintf("run of %d, %v:", width, crlf)
	if n := len(r.parts) - 1; n >= 0 && !bytes.HasPrefix(r.parts[n], []byte(kind)) {
		r.open = false
	}
	r.add(kind, decoded)
	r.join = encodeLines(r.join, decoded, width, crlf)
	return nil
}

func (r *recorder) endRun() error { r.open = false; return nil }

func splitAll(t *testing.T, data []byte, cuts ...int) *recorder {
	t.Helper()
	r := &recorder{}
	s := &splitter{out: r}
	at := 0
	for _, cut := range append(cuts, len(data)) {
		if _, err := s.Write(data[at:cut]); err != nil {
			t.Fatal(err)
		}
		at = cut
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSplitDoesNotDependOnCuts splits text made of almost-runs, given in one
// piece, byte by byte and at random cuts: the parts are the same, and join.
func TestSplitDoesNotDependOnCuts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	runs := 0
	for range 400 {
		data := almostRuns(random)
		whole := splitAll(t, data)
		if !bytes.Equal(whole.join, data) {
			t.Fatalf("join(split(x)) is not x = %q", data)
		}
		var every, some []int
		for i := range data {
			every = append(every, i)
			if random.IntN(50) == 0 {
				some = append(some, i)
			}
		}
		for _, cuts := range [][]int{every, some} {
			if got := splitAll(t, data, cuts...); !slices.EqualFunc(got.parts, whole.parts, bytes.Equal) {
				t.Fatalf("cut at %v: %d parts %.300q\nwant %d: %.300q", cuts, len(got.parts), got.parts, len(whole.parts), whole.parts)
			}
		}
		for _, p := range whole.parts {
			if p[0] == 'r' {
				runs++
			}
		}
	}
	if runs < 150 {
		t.Errorf("%d runs in all, the texts are not what they should be", runs)
	}
}

// almostRuns makes runs of base64 with line ends, widths, padding and damage of
// all sorts.
func almostRuns(random *rand.Rand) []byte {
	var text []byte
	for range 1 + random.IntN(4) {
		file := make([]byte, random.IntN(57*90))
		for i := range file {
			file[i] = byte(random.Uint32())
		}
		width := []int{76, 76, 76, 72, 60, 64, 80, 75}[random.IntN(8)]
		end := []string{"\r\n", "\r\n", "\n", "\r", "\r\r\n"}[random.IntN(5)]
		coded := []byte(base64.StdEncoding.EncodeToString(file))
		for line := range slices.Chunk(coded, width) {
			text = append(append(text, line...), end...)
		}
		if random.IntN(3) > 0 && len(text) > 0 {
			text[random.IntN(len(text))] = "=\r\n -A\x00"[random.IntN(7)]
		}
		text = append(text, []string{"", "--b\r\n", "\r\n", "=\r\n", "QQ==", "QR==\r\n", "QUJD\n"}[random.IntN(7)]...)
	}
	return text
}

func TestDecodeLineTakesWhatTheStandardDecoderTakes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for width := 60; width <= 76; width += 4 {
		for range 2000 {
			raw := make([]byte, width/4*3)
			for i := range raw {
				raw[i] = byte(r.Uint32())
			}
			line := []byte(base64.StdEncoding.EncodeToString(raw))
			if r.IntN(2) == 0 {
				line[r.IntN(width)] = byte(r.Uint32())
			}
			want := make([]byte, len(raw))
			n, err := strict.Decode(want, line)
			got := make([]byte, len(raw)+decodeSlack)
			if ok := decodeLine(got, line); ok != (err == nil && n == len(raw)) || ok && !bytes.Equal(got[:len(raw)], want) {
				t.Fatalf("decodeLine(%q) = %v %x, want %v %x", line, ok, got[:len(raw)], err, want)
			}
		}
	}
}
