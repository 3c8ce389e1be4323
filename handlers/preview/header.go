package preview

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
)

// maxHeaders bounds the header of a message, in bytes.
const maxHeaders = 1 << 20

// errMalformed says that a message breaks the rules; what could be read of it
// is there.
var errMalformed = errors.New("not well formed")

// readHeader reads the header of a message, with more patience than the
// parser of the parts below: it passes over a byte order mark, white space and
// an mbox "From " line at the start and over lines that are no header, and
// takes the header for ended where text begins. br stands at the body then.
func readHeader(br *bufio.Reader) (message.Header, error) {
	var broken error
	var fields [][]byte
	size := 0
	for size < maxHeaders {
		line, err := peekLine(br)
		if len(line) == 0 {
			if !errors.Is(err, io.EOF) {
				return message.Header{}, err
			}
			return makeHeader(fields), broken // no body
		}
		text := bytes.TrimRight(line, "\r\n")
		if len(fields) == 0 {
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		blank := len(bytes.TrimSpace(text)) == 0
		switch {
		case len(fields) > 0 && len(text) == 0:
			discard(br, line)
			return makeHeader(fields), broken
		case len(fields) > 0 && (text[0] == ' ' || text[0] == '\t'):
			last := len(fields) - 1
			fields[last] = append(append(fields[last], "\r\n"...), text...)
		case len(fields) == 0 && (blank || isFromLine(text)):
			// not the header yet
		case isField(bytes.TrimLeft(text, " \t")):
			fields = append(fields, bytes.Clone(bytes.TrimLeft(text, " \t")))
		case len(fields) == 0, !bytes.Contains(text, []byte(":")):
			return makeHeader(fields), errMalformed // the text begins without an empty line
		default:
			broken = errMalformed
		}
		size += len(line)
		discard(br, line)
	}
	return makeHeader(fields), errMalformed
}

// peekLine returns the next line with its end, or the part of it that the
// buffer holds.
func peekLine(br *bufio.Reader) ([]byte, error) {
	for n := 256; ; n *= 2 {
		n = min(n, br.Size())
		b, err := br.Peek(n)
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			return b[:i+1], nil
		}
		if err != nil || n == br.Size() {
			return b, err
		}
	}
}

func discard(br *bufio.Reader, line []byte) {
	// The bytes were peeked at, so they are there.
	_, _ = br.Discard(len(line))
}

// isField says whether a line is "Name: value" (RFC 5322, section 2.2).
func isField(line []byte) bool {
	i := bytes.IndexByte(line, ':')
	name := bytes.TrimRight(line[:max(i, 0)], " \t")
	return len(name) > 0 && !bytes.ContainsFunc(name, func(r rune) bool { return r <= 0x20 || r >= 0x7f })
}

// isFromLine says whether a line is the one with which some programs begin a
// message that they took out of an mbox file.
func isFromLine(line []byte) bool {
	return bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))
}

func makeHeader(fields [][]byte) message.Header {
	var h textproto.Header
	for _, f := range slices.Backward(fields) {
		name, value, _ := strings.Cut(string(f), ":")
		h.Add(strings.TrimRight(name, " \t"), strings.ReplaceAll(strings.TrimSpace(value), "\r\n", ""))
	}
	return message.Header{Header: h}
}
