package m365_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// base64Bytes decodes a part.
func base64Bytes(r io.Reader) ([]byte, bool) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, false
	}
	data, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "").Replace(string(text)))
	return data, err == nil
}

// noise is n bytes that don't compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// letterWith is a message with attachments.
func letterWith(files ...[]byte) string {
	var b bytes.Buffer
	b.WriteString("From: Ada <ada@example.org>\r\nTo: bob@example.org\r\nSubject: large\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>hello\r\n")
	for i, f := range files {
		fmt.Fprintf(&b, "--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=\"file %d.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n", i)
		for len(f) > 0 {
			n := min(len(f), 57)
			b.WriteString(base64.StdEncoding.EncodeToString(f[:n]) + "\r\n")
			f = f[n:]
		}
	}
	b.WriteString("--b--\r\n")
	return b.String()
}
