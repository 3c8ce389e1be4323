package repo

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sync"
)

const (
	// A run of base64 is taken out of content if it has at least runLines full
	// lines of the same width and line end.
	runLines = 40
	// maxLine is the longest line, with its end, that can be part of a run.
	maxLine = 76 + 2
	// batchSize is how many decoded bytes go to base64 at once.
	batchSize = 32 << 10
)

// parts is what a splitter finds, in order.
type parts interface {
	// literal gets bytes as they are.
	literal(b []byte) error
	// base64 gets decoded bytes of a run, whose lines have width characters
	// each, ended by CRLF or LF: whole lines, but for a shorter last one.
	base64(decoded []byte, width int, crlf bool) error
	// endRun ends the run that base64 began.
	endRun() error
}

// splitter takes base64 runs out of content lexically, so that no malformed
// message can break it: what is not exactly a full line of the standard
// alphabet stays literal, but for the shorter line that ends a run. Joining the
// parts gives the content again.
type splitter struct {
	out  parts
	line []byte // the current line so far
	long bool   // the current line is too long for a run and goes straight through

	held  []byte // lines that may become a run, as they are
	plain []byte // the same, decoded
	lines int    // lines held, or in the run
	inRun bool
	width int
	crlf  bool
	raw   bool // no more runs: everything is literal

	batch []byte // decoded lines of the run on their way to base64
}

var strict = base64.StdEncoding.Strict() // what it decodes, encodes to the same again

var splitters = sync.Pool{New: func() any { return new(splitter) }}

// takeSplitter returns a splitter with the memory of an earlier one.
func takeSplitter(out parts) *splitter {
	s, _ := splitters.Get().(*splitter)
	*s = splitter{out: out, line: s.line[:0], held: s.held[:0], plain: s.plain[:0], batch: s.batch[:0]}
	return s
}

// release ends the use of a splitter.
func (s *splitter) release() {
	s.out = nil
	splitters.Put(s)
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// decoding has what each character of the standard alphabet gives at each of the
// four places of a quantum; what is not of the alphabet gives badCharacter.
var decoding = func() (t [4][256]uint32) {
	for place := range t {
		for c := range t[place] {
			t[place][c] = badCharacter
		}
		for value, c := range []byte(alphabet) {
			t[place][c] = uint32(value) << (18 - 6*place) //nolint:gosec // 0 to 63
		}
	}
	return t
}()

const (
	badCharacter = 1 << 31
	decodeSlack  = 5 // bytes that decodeLine may write after the decoded ones
)

// decodeLine decodes a full line, whose length is a multiple of four, without
// padding. It says whether the line is of the alphabet only.
func decodeLine(dst, src []byte) bool {
	t := &decoding
	bad := uint32(0)
	for ; len(src) >= 8; src, dst = src[8:], dst[6:] {
		a := t[0][src[0]] | t[1][src[1]] | t[2][src[2]] | t[3][src[3]]
		b := t[0][src[4]] | t[1][src[5]] | t[2][src[6]] | t[3][src[7]]
		bad |= a | b
		binary.BigEndian.PutUint64(dst, uint64(a)<<40|uint64(b)<<16)
	}
	if len(src) == 4 {
		a := t[0][src[0]] | t[1][src[1]] | t[2][src[2]] | t[3][src[3]]
		bad |= a
		binary.BigEndian.PutUint32(dst, a<<8)
	}
	return bad < badCharacter
}

// lineWidth says whether a line of n characters may be part of a run: RFC 2045
// allows 76, and what other widths programs write are multiples of four.
func lineWidth(n int) bool { return n >= 60 && n <= 76 && n%4 == 0 }

// Write implements io.Writer.
func (s *splitter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if s.raw && len(s.line) == 0 && s.lines == 0 {
			return n, s.out.literal(p)
		}
		if s.inRun && len(s.line) == 0 {
			used, err := s.run(p)
			if err != nil {
				return 0, err
			}
			if p = p[used:]; len(p) == 0 {
				break
			}
		}
		end := bytes.IndexByte(p, '\n')
		chunk := p
		if end >= 0 {
			chunk = p[:end+1]
		}
		p = p[len(chunk):]
		if err := s.add(chunk, end >= 0); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// run takes the full lines of the run that p begins with and returns how many
// bytes they are.
func (s *splitter) run(p []byte) (int, error) {
	used, size, per := 0, s.width+1, s.width/4*3
	if s.crlf {
		size++
	}
	for len(p)-used >= size {
		line := p[used : used+size]
		if line[size-1] != '\n' || s.crlf && line[size-2] != '\r' {
			break
		}
		s.batch = slices.Grow(s.batch, per+decodeSlack)
		at := len(s.batch)
		if !decodeLine(s.batch[at:at+per+decodeSlack], line[:s.width]) {
			break
		}
		s.batch = s.batch[:at+per]
		s.lines++
		used += size
		if len(s.batch) >= batchSize {
			if err := s.giveBatch(); err != nil {
				return 0, err
			}
		}
	}
	return used, s.giveBatch()
}

func (s *splitter) giveBatch() error {
	if len(s.batch) == 0 {
		return nil
	}
	err := s.out.base64(s.batch, s.width, s.crlf)
	s.batch = s.batch[:0]
	return err
}

// add takes a part of a line; whole says that the line ends with it.
func (s *splitter) add(chunk []byte, whole bool) error {
	if s.long {
		s.long = !whole
		return s.out.literal(chunk)
	}
	if len(s.line)+len(chunk) > maxLine {
		if err := s.flush(); err != nil {
			return err
		}
		s.long = !whole
		if len(s.line) > 0 {
			if err := s.out.literal(s.line); err != nil {
				return err
			}
			s.line = s.line[:0]
		}
		return s.out.literal(chunk)
	}
	if whole && len(s.line) == 0 {
		return s.whole(chunk)
	}
	s.line = append(s.line, chunk...)
	if !whole {
		return nil
	}
	err := s.whole(s.line)
	s.line = s.line[:0]
	return err
}

// whole takes a line with its end.
func (s *splitter) whole(line []byte) error {
	text := line[:len(line)-1]
	crlf := len(text) > 0 && text[len(text)-1] == '\r'
	if crlf {
		text = text[:len(text)-1]
	}
	if s.inRun && s.crlf == crlf && s.decodeLast(text) {
		if err := s.giveBatch(); err != nil {
			return err
		}
		return s.flush()
	}
	if s.raw || !lineWidth(len(text)) {
		return s.text(line)
	}
	if s.lines > 0 && (s.width != len(text) || s.crlf != crlf) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	at, per := len(s.plain), len(text)/4*3
	s.plain = slices.Grow(s.plain, per)
	n, err := strict.Decode(s.plain[at:at+per], text)
	if err != nil || n != per { // padding, another alphabet, or a stray line end within
		return s.text(line)
	}
	return s.full(line, s.plain[:at+per], crlf)
}

// full takes a full line of a run, with the decoded bytes that are held after it.
func (s *splitter) full(line, plain []byte, crlf bool) error {
	s.width, s.crlf = len(line)-1, crlf
	if crlf {
		s.width--
	}
	s.lines++
	if !s.inRun {
		s.held, s.plain = append(s.held, line...), plain
		if s.lines < runLines {
			return nil
		}
		s.inRun, s.held = true, s.held[:0]
	}
	err := s.out.base64(plain, s.width, s.crlf)
	s.plain = s.plain[:0]
	return err
}

// text takes a line that is not of a run.
func (s *splitter) text(line []byte) error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.out.literal(line)
}

// decodeLast decodes the last line of a run, shorter than the others or padded,
// to batch. A line that would not be encoded the same again is none.
func (s *splitter) decodeLast(text []byte) bool {
	if len(text) == 0 || len(text) > s.width || len(text)%4 != 0 || bytes.IndexByte(text, '\r') >= 0 {
		return false
	}
	s.batch = slices.Grow(s.batch[:0], s.width)
	n, err := strict.Decode(s.batch[:cap(s.batch)], text)
	if err != nil || n == s.width/4*3 {
		return false
	}
	s.batch = s.batch[:n]
	return true
}

// flush ends a run, or gives back lines that became none.
func (s *splitter) flush() error {
	if s.lines == 0 {
		return nil
	}
	s.lines = 0
	if s.inRun {
		s.inRun = false
		return s.out.endRun()
	}
	err := s.out.literal(s.held)
	s.held, s.plain = s.held[:0], s.plain[:0]
	return err
}

// close gives what is left.
func (s *splitter) close() error {
	if err := s.flush(); err != nil {
		return err
	}
	if len(s.line) == 0 {
		return nil
	}
	err := s.out.literal(s.line)
	s.line = s.line[:0]
	return err
}

// encodeLines appends decoded bytes as lines of a run again; the last one may
// be shorter.
func encodeLines(dst, decoded []byte, width int, crlf bool) []byte {
	per, end := width/4*3, "\n"
	if crlf {
		end = "\r\n"
	}
	dst = slices.Grow(dst, (len(decoded)/per+1)*(width+len(end)))
	for ; len(decoded) >= per; decoded = decoded[per:] {
		at := len(dst)
		dst = dst[:at+width]
		encodeLine(dst[at:], decoded[:per])
		dst = append(dst, end...)
	}
	if len(decoded) > 0 {
		dst = append(base64.StdEncoding.AppendEncode(dst, decoded), end...)
	}
	return dst
}

// pairs has the two characters of the standard alphabet that 12 bits are, the first
// one in the lower byte.
var pairs = func() (t [1 << 12]uint16) {
	for v := range t {
		t[v] = uint16(alphabet[v>>6]) | uint16(alphabet[v&63])<<8
	}
	return t
}()

// encodeLine encodes bytes whose number is a multiple of three.
func encodeLine(dst, src []byte) {
	for ; len(src) >= 3; src, dst = src[3:], dst[4:] {
		v := uint(src[0])<<16 | uint(src[1])<<8 | uint(src[2])
		binary.LittleEndian.PutUint32(dst, uint32(pairs[v>>12])|uint32(pairs[v&0xfff])<<16)
	}
}
