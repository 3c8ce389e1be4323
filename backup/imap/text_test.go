package imap

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestTextsDoNotShareMemory takes and closes texts of all sizes: one that is open
// stays as it is, and a closed one, closed again, has nothing.
func TestTextsDoNotShareMemory(t *testing.T) {
	for _, size := range []int64{0, 1, 1 << leastText, 1<<leastText + 1, 70_000, wholeUpTo, wholeUpTo + 1} {
		open := newText(size)
		for i := range open {
			open[i] = 'a'
		}
		held := holdText(open)
		for range 3 {
			next := newText(size)
			if int64(len(next)) != size {
				t.Fatalf("a text of %d bytes, want %d", len(next), size)
			}
			for i := range next {
				next[i] = 'b'
			}
			closed := holdText(next)
			for range 2 {
				_ = closed.Close() // never fails
				if n, err := closed.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("a closed text gives %d bytes, %v", n, err)
				}
			}
		}
		if got, _ := io.ReadAll(held); !bytes.Equal(got, bytes.Repeat([]byte("a"), int(size))) {
			t.Errorf("a text of %d bytes changed while it was open", size)
		}
	}
}
