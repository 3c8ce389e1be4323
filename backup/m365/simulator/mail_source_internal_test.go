package simulator

import (
	"fmt"
	"io"
	"testing"
)

func TestSizeOfAMadeMessageIsThatOfItsBytes(t *testing.T) {
	for _, size := range []int64{1, 2, 3, 56, 57, 58, 3648, 3649, 100_000} {
		src := made(recipe{Number: 3, Subject: "x", Text: 500, File: "a.bin", FileSize: size, FileNumber: 7})
		n, err := io.Copy(io.Discard, mustOpen(t, src))
		if err != nil || n != src.Size {
			t.Errorf("attachment of %d bytes: %d bytes are served, %d announced, %v", size, n, src.Size, err)
		}
	}
}

func mustOpen(t *testing.T, src source) io.Reader {
	t.Helper()
	r, err := src.open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func BenchmarkMadeMessage(b *testing.B) {
	for _, size := range []int64{0, 40_000, 4 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			src := made(recipe{Number: 3, Subject: "x", Text: 4000, File: "a.bin", FileSize: size})
			b.SetBytes(src.Size)
			for b.Loop() {
				r, err := src.open(nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
