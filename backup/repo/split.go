package repo

import (
	"bytes"
	"encoding/base64"
)

// A run of base64 is taken out of content if it has at least runLines full
// lines of the same width and line end.
const runLines = 40

// maxLine is the longest line, with its end, that can be part of a run.
const maxLine = 76 + 2

// parts is what a splitter finds, in order.
type parts interface {
	// literal gets bytes as they are.
	literal(b []byte) error
	// base64 gets the decoded bytes of full lines of a run: width characters
	// each, ended by CRLF or LF.
	base64(decoded []byte, width int, crlf bool) error
	// endRun ends the run that base64 began.
	endRun() error
}

// splitter takes base64 runs out of content lexically, so that no malformed
// message can break it: what is not exactly a full line of the standard
// alphabet stays literal. Joining the parts gives the content again.
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
	var buf [maxLine]byte
	decoded, ok := decodeLine(buf[:], text)
	if !ok || s.raw {
		if err := s.flush(); err != nil {
			return err
		}
		return s.out.literal(line)
	}
	if s.lines > 0 && (s.width != len(text) || s.crlf != crlf) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.width, s.crlf = len(text), crlf
	s.lines++
	if s.inRun {
		return s.out.base64(decoded, s.width, s.crlf)
	}
	s.held, s.plain = append(s.held, line...), append(s.plain, decoded...)
	if s.lines < runLines {
		return nil
	}
	s.inRun = true
	err := s.out.base64(s.plain, s.width, s.crlf)
	s.held, s.plain = s.held[:0], s.plain[:0]
	return err
}

// decodeLine decodes a full line without padding.
func decodeLine(buf, text []byte) ([]byte, bool) {
	if !lineWidth(len(text)) {
		return nil, false
	}
	n, err := base64.StdEncoding.Decode(buf, text)
	if err != nil || n != len(text)/4*3 {
		return nil, false // padding, another alphabet, or a stray line end within
	}
	return buf[:n], true
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

// encodeLines appends decoded bytes as lines of a run again. A part of a line
// at the end is appended without its end; the caller gives whole lines only.
func encodeLines(dst, decoded []byte, width int, crlf bool) []byte {
	per := width / 4 * 3
	for len(decoded) > 0 {
		n := min(per, len(decoded))
		dst = base64.StdEncoding.AppendEncode(dst, decoded[:n])
		if crlf {
			dst = append(dst, '\r')
		}
		dst = append(dst, '\n')
		decoded = decoded[n:]
	}
	return dst
}
