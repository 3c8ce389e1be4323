package imap

import (
	"bytes"
	"math/bits"
	"sync"
)

// The memory of a text serves the next ones when it was read to its end: to get it
// from the system anew takes as long as to decrypt what comes into it.
const (
	leastText = 12 // a power of two, in bytes
	mostText  = 20 // wholeUpTo
)

var textMemory [mostText + 1]sync.Pool // by power of two

// newText returns room for a text of so many bytes, with anything in it.
func newText(size int64) []byte {
	class := max(bits.Len64(uint64(size-1)), leastText) //nolint:gosec // of a literal, and not negative
	if size < 1 || class > mostText {
		return make([]byte, size)
	}
	if b, ok := textMemory[class].Get().(*[]byte); ok {
		return (*b)[:size]
	}
	return make([]byte, size, 1<<class)
}

// heldText is a text that was read ahead. Its memory goes to another when it is closed.
type heldText struct {
	bytes.Reader
	text []byte
}

func holdText(text []byte) *heldText {
	h := &heldText{text: text}
	h.Reset(text)
	return h
}

// Close implements io.Closer.
func (h *heldText) Close() error {
	text := h.text
	h.text = nil
	h.Reset(nil)
	if class := bits.Len(uint(cap(text))) - 1; class >= leastText && class <= mostText && cap(text) == 1<<class {
		textMemory[class].Put(&text)
	}
	return nil
}
