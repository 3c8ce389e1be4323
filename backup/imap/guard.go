package imap

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// errCapabilities ends a connection whose server lists its capabilities in a way
// that is not IMAP's.
var errCapabilities = errors.New("the server's list of capabilities is not IMAP's")

// guard is what a server says, up to the first list of capabilities that has a
// parenthesis in it: go-imap, of which there is no newer version than beta.8, would
// look at that for ever, and no time limit ends it. Mail that quotes such a line is
// not meant: guard follows lines, quoted strings and literals as go-imap does.
type guard struct {
	r       io.Reader
	state   guardState
	word    []byte // of the line's beginning, or between braces
	words   int    // before it
	literal int64  // bytes of a literal that are still to come
	failed  bool
}

// guardState is where in an answer a byte stands.
type guardState int

const (
	guardHead         guardState = iota // tag, number and kind of a line
	guardStatus                         // after OK, NO, BAD, BYE or PREAUTH
	guardCode                           // the name of a response code
	guardCodeRest                       // what follows the name, up to its bracket
	guardCapabilities                   // a list of capabilities
	guardText                           // for people, to the end of the line
	guardData                           // of any other line
	guardQuoted                         // in a quoted string
	guardEscaped                        // after its backslash
	guardLength                         // of a literal, in braces
	guardLengthEnd                      // after that, up to the end of the line
)

// maxWord is more than any word that counts here has.
const maxWord = 20

// Read implements io.Reader.
func (g *guard) Read(p []byte) (int, error) {
	if g.failed {
		return 0, errCapabilities
	}
	n, err := g.r.Read(p)
	for i := 0; i < n; i++ {
		if g.literal > 0 {
			skip := min(g.literal, int64(n-i))
			g.literal -= skip
			i += int(skip) - 1
			continue
		}
		if !g.take(p[i]) {
			g.failed = true
			if i > 0 {
				return i, nil
			}
			return 0, errCapabilities
		}
	}
	return n, err
}

// take goes on by a byte. It returns false if that must not be read.
func (g *guard) take(c byte) bool {
	switch g.state {
	case guardQuoted:
		switch c {
		case '\\':
			g.state = guardEscaped
		case '"':
			g.state = guardData
		}
		return true
	case guardEscaped:
		g.state = guardQuoted
		return true
	case guardLengthEnd:
		return g.lengthEnd(c)
	}
	if c == '\n' {
		open := g.state == guardCode || g.state == guardCodeRest
		g.begin(guardHead)
		g.words = 0
		return !open // a code has to end before its line
	}
	switch g.state {
	case guardHead:
		g.head(c)
	case guardStatus:
		g.begin(guardText)
		if c == '[' {
			g.begin(guardCode)
		}
	case guardCode:
		g.code(c)
	case guardCodeRest:
		if c == ']' {
			g.begin(guardText)
		}
	case guardCapabilities:
		if c == ']' {
			g.begin(guardText)
		}
	case guardData:
		g.data(c)
	case guardLength:
		g.length(c)
	}
	return g.state != guardCapabilities || c != '('
}

func (g *guard) begin(s guardState) { g.state, g.word = s, g.word[:0] }

// collect adds a byte to the word.
func (g *guard) collect(c byte) {
	if len(g.word) < maxWord {
		g.word = append(g.word, c)
	}
}

// head takes a byte of a line's first words.
func (g *guard) head(c byte) {
	if c != ' ' && c != '(' && c != '[' && c != '\r' {
		g.collect(c)
		return
	}
	word := strings.ToUpper(string(g.word))
	number := len(word) > 0 && strings.Trim(word, "0123456789") == ""
	g.words++
	switch {
	case strings.HasPrefix(word, "+"):
		g.begin(guardText)
	case g.words == 1 || number && g.words == 2:
		g.begin(guardHead)
	case word == "CAPABILITY":
		g.begin(guardCapabilities)
	case word == "OK", word == "NO", word == "BAD", word == "BYE", word == "PREAUTH":
		g.begin(guardStatus)
		if c == '[' {
			g.begin(guardCode)
		}
	default:
		g.begin(guardData)
	}
}

// code takes a byte of a response code's name.
func (g *guard) code(c byte) {
	switch {
	case c != ' ' && c != ']' && c != '(' && c != '\r':
		g.collect(c)
	case c == ']':
		g.begin(guardText)
	case bytes.EqualFold(g.word, []byte("CAPABILITY")):
		g.begin(guardCapabilities)
	default:
		g.begin(guardCodeRest)
	}
}

// data takes a byte of a line that may have strings.
func (g *guard) data(c byte) {
	switch c {
	case '"':
		g.begin(guardQuoted)
	case '{':
		g.begin(guardLength)
	}
}

// length takes a byte of a literal's length.
func (g *guard) length(c byte) {
	switch {
	case c >= '0' && c <= '9' || c == '+':
		g.collect(c)
	case c == '}':
		g.state = guardLengthEnd
	default:
		g.begin(guardData)
		g.data(c)
	}
}

// lengthEnd takes a byte after a literal's length.
func (g *guard) lengthEnd(c byte) bool {
	switch c {
	case ' ', '\r':
		return true
	case '\n':
		n, err := strconv.ParseInt(strings.TrimSuffix(string(g.word), "+"), 10, 64)
		g.begin(guardData)
		if err == nil {
			g.literal = n
		}
		return true
	}
	g.begin(guardData)
	return g.take(c)
}
