package simulator

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
)

// source is where the bytes of a message come from: a file of Options.Mail,
// the bytes themselves, or a recipe that makes them anew.
type source struct {
	File string  `json:",omitempty"`
	Raw  []byte  `json:",omitempty"`
	Made *recipe `json:",omitempty"`
	Size int64
}

// recipe describes a made-up message. The same recipe gives the same bytes.
type recipe struct {
	Number     int64
	From, To   string
	Subject    string
	Date       string
	Text       int64  // bytes of the text, about
	Letter     bool   // as programs write them: header lines of the way, text and HTML
	File       string // name of the attachment, "" for none
	FileSize   int64
	FileNumber int64 // the same number is the same attachment
	FileKind   int
	Foreign    bool  `json:",omitempty"` // with Letter: in an alphabet that is sent in base64
	Logo       int64 `json:",omitempty"` // with Letter: the number of the picture below the text, 0 for none
}

// open returns the bytes of a message.
func (src source) open(mail fs.FS) (io.ReadCloser, error) {
	switch {
	case src.Made != nil:
		r, w := io.Pipe()
		go func() { w.CloseWithError(src.Made.write(w)) }()
		return r, nil
	case src.File != "":
		return mail.Open(src.File)
	}
	return io.NopCloser(bytes.NewReader(src.Raw)), nil
}

// made is a message by recipe, with its size.
func made(r recipe) source {
	var n count
	_ = r.write(&n) // a counter never fails
	return source{Made: &r, Size: int64(n)}
}

type count int64

func (c *count) Write(p []byte) (int, error) { *c += count(len(p)); return len(p), nil }

const boundary = "=_simulated_part"

// write makes the message.
func (r recipe) write(w io.Writer) error {
	out := bufio.NewWriterSize(w, 32<<10) // keeps the first error
	fmt.Fprintf(out, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%d@simulated.example>\r\nMIME-Version: 1.0\r\n", r.From, r.To, r.Subject, r.Date, r.Number)
	if r.Letter {
		r.trace(out)
	}
	if r.File != "" {
		fmt.Fprintf(out, "Content-Type: multipart/mixed; boundary=%q\r\n\r\n--%s\r\n", boundary, boundary)
	}
	if r.Letter {
		r.letter(out)
	} else {
		fmt.Fprint(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n")
		r.text(out)
	}
	if r.File == "" {
		return out.Flush()
	}
	fmt.Fprintf(out, "\r\n--%s\r\nContent-Type: application/pdf; name=%q\r\nContent-Disposition: attachment; filename=%q\r\nContent-Transfer-Encoding: base64\r\n\r\n", boundary, r.File, r.File)
	if n, counts := w.(*count); counts {
		*n += r.encodedSize()
	} else if err := r.attachment(out); err != nil {
		return err
	}
	fmt.Fprintf(out, "--%s--\r\n", boundary)
	return out.Flush()
}

var words = strings.Fields("the of to and a in is it you that he was for on are with as his they be at one have this from by hot but some what there we can out other were all your when up use word how said an each she which do their time if will way about many then them would write like so these her long make thing see him two has look more day could go come did my sound no most number who over know water than call first people may down side been now find any new work part take get place made live where after back little only round man year came show every good me give our under name very through just form much great think say help low line before turn cause same mean differ move right boy old too does tell sentence set three want air well also play small end put home read hand port large spell add even land here must big high such follow act why ask men change went light kind off need house picture try us again animal point mother world near build self earth father")

// text writes lines of words.
func (r recipe) text(out *bufio.Writer) {
	rng := rand.New(rand.NewPCG(uint64(r.Number), 1)) //nolint:gosec // numbers only seed the words
	line := make([]byte, 0, 80)
	for n := int64(0); n < r.Text; n += int64(len(line)) {
		line = line[:0]
		for len(line) < 64 {
			line = append(append(line, words[rng.IntN(len(words))]...), ' ')
		}
		line = append(line, '\r', '\n')
		if _, err := out.Write(line); err != nil {
			return // Flush tells it
		}
	}
}

// Kinds of attachments.
const (
	fileNoise = iota // compressed already, as pictures, Office files and most of a PDF are
	fileTable        // rows of text
)

// file reads the bytes of the attachment: without an end.
func (r recipe) file() io.Reader {
	seed := [32]byte{24: 7}
	binary.LittleEndian.PutUint64(seed[:], uint64(r.FileNumber)) //nolint:gosec // only numbers the attachment
	noise := rand.NewChaCha8(seed)
	if r.FileKind == fileTable {
		rng := rand.New(noise) //nolint:gosec // only makes up a file
		return &pieces{next: func(i int, to []byte) []byte { return appendRow(rng, i, to) }}
	}
	return noise
}

// pieces reads what next makes, one piece after the other.
type pieces struct {
	next  func(i int, to []byte) []byte
	count int
	all   []byte
	rest  []byte
}

// Read implements io.Reader.
func (s *pieces) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(s.rest) == 0 {
			s.count++
			s.all = s.next(s.count, s.all[:0])
			s.rest = s.all
		}
		c := copy(p[n:], s.rest)
		n, s.rest = n+c, s.rest[c:]
	}
	return n, nil
}

// appendRow makes a row of a table of bookings, as programs export it.
func appendRow(rng *rand.Rand, i int, to []byte) []byte {
	return fmt.Appendf(to, "%06d;2026-%02d-%02d;%s %s;%d.%02d;EUR;%05d;%s\r\n", i, 1+rng.IntN(12), 1+rng.IntN(28),
		vocabulary[rng.IntN(400)], vocabulary[rng.IntN(len(vocabulary))], rng.IntN(5000), rng.IntN(100), rng.IntN(100_000), words[rng.IntN(12)])
}

// attachment writes the file in base64.
func (r recipe) attachment(out io.Writer) error { return writeBase64(out, r.file(), r.FileSize) }

// writeBase64 writes size bytes of a reader that never ends nor fails, as mail
// programs do.
func writeBase64(out io.Writer, from io.Reader, size int64) error {
	plain := make([]byte, 57*64)
	text := make([]byte, 0, 64*78)
	for left := size; left > 0; {
		n := min(left, int64(len(plain)))
		_, _ = from.Read(plain[:n]) // never fails, and fills it
		text = text[:0]
		for p := plain[:n]; len(p) > 0; p = p[min(57, len(p)):] {
			text = base64.StdEncoding.AppendEncode(text, p[:min(57, len(p))])
			text = append(text, '\r', '\n')
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// encodedSize is how many bytes attachment writes.
func (r recipe) encodedSize() count {
	n := r.FileSize / 57 * 78
	if rest := r.FileSize % 57; rest > 0 {
		n += (rest+2)/3*4 + 2
	}
	return count(n)
}
