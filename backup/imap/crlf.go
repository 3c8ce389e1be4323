package imap

import (
	"bytes"
	"io"
)

// CRLF returns a message with the line ends that IMAP asks for.
func CRLF(text []byte) []byte {
	if !bytes.Contains(text, []byte("\n")) || bytes.Count(text, []byte("\r\n")) == bytes.Count(text, []byte("\n")) {
		return text
	}
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}

// crlfWriter does the same to what is written through it, and counts it.
type crlfWriter struct {
	w       io.Writer
	last    byte
	written int64
}

// Write implements io.Writer.
func (c *crlfWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		part := p[done:]
		bare := bytes.IndexByte(part, '\n')
		for bare >= 0 && c.before(part, bare) == '\r' {
			next := bytes.IndexByte(part[bare+1:], '\n')
			if next < 0 {
				bare = -1
				break
			}
			bare += 1 + next
		}
		end := []byte(nil)
		if bare >= 0 {
			part, end = part[:bare], []byte("\r\n")
		}
		for _, out := range [][]byte{part, end} {
			n, err := c.w.Write(out)
			c.written += int64(n)
			if err != nil {
				return done, err
			}
		}
		if done += len(part); bare >= 0 {
			done++
		}
		c.last = p[done-1]
	}
	return len(p), nil
}

func (c *crlfWriter) before(p []byte, at int) byte {
	if at == 0 {
		return c.last
	}
	return p[at-1]
}
