package imap

import "bytes"

// CRLF returns a message with the line ends that IMAP asks for.
func CRLF(text []byte) []byte {
	if !bytes.Contains(text, []byte("\n")) || bytes.Count(text, []byte("\r\n")) == bytes.Count(text, []byte("\n")) {
		return text
	}
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}
