package simulator

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"
	"unicode/utf8"
)

// A letter is what an office's mail looks like to a program that stores it: the
// header lines of its way with their signatures, a text and, in one of two, the
// same text again in the HTML of a mail program, with links. Its words are as
// frequent as those of a language (Zipf's law), so that compression finds in it
// what it finds in real mail: in groups of 128 KiB, base64 taken out, zstd at its
// fastest makes 3.25 to 1 of letters and 3.24 to 1 of testdata/mail.

// vocabulary is words, the frequent ones first, and then words made of them.
var vocabulary = func() []string {
	list := slices.Clone(words)
	for i := 0; len(list) < 4000; i++ {
		list = append(list, words[(i*7+3)%len(words)]+words[(i*31+i/len(words))%len(words)])
	}
	return list
}()

// draw has the numbers of words as often as they come in a text.
var draw = func() (table [1 << 16]uint16) {
	sum := 0.0
	for i := range vocabulary {
		sum += 1 / float64(i+2)
	}
	at, reached := 0, 0.0
	for i := range vocabulary {
		reached += 1 / float64(i+2) / sum
		for ; at < int(math.Round(reached*float64(len(table)))); at++ {
			table[at] = uint16(i) //nolint:gosec // there are 4,000 words
		}
	}
	return table
}()

// WriteLetter writes the letter with a number as a MIME text: for the same
// arguments the same bytes. Text and Attachment of g are medians, as for
// Generate; see letterOf for the rest.
func WriteLetter(w io.Writer, to string, number int64, at time.Time, g Generated) error {
	r := recipe{Number: number, From: "Sender <sender@supplier.example>", To: to, Subject: fmt.Sprintf("Letter %d", number), Date: at.Format(time.RFC1123Z), Text: g.Text}
	return letterOf(r, g).write(w)
}

// random is a source of the recipe's own.
func (r recipe) random(stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(r.Number), stream)) //nolint:gosec // numbers only seed the words
}

// trace writes the header lines that servers add.
func (r recipe) trace(out *bufio.Writer) {
	rng := r.random(2)
	for hop := range 4 {
		fmt.Fprintf(out, "Received: from AM%dPR0%dMB%04d.eurprd04.prod.outlook.example (2603:10a6:20b:%x::%x)\r\n by DB%dPR0%dMB%04d.eurprd04.prod.outlook.example with HTTPS; %s\r\n",
			hop, rng.IntN(10), rng.IntN(10000), rng.IntN(1<<16), rng.IntN(1<<8), hop, rng.IntN(10), rng.IntN(10000), r.Date)
	}
	noise := make([]byte, 256)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, name := range []string{"ARC-Seal", "DKIM-Signature"} {
		fmt.Fprintf(out, "%s: i=1; a=rsa-sha256; s=selector1; d=simulated.example; c=relaxed/relaxed;\r\n h=From:Date:Subject:Message-ID:Content-Type:MIME-Version;\r\n b=", name)
		for p := noise; len(p) > 0; p = p[min(48, len(p)):] {
			fmt.Fprintf(out, "%s\r\n ", base64.StdEncoding.EncodeToString(p[:min(48, len(p))]))
		}
		fmt.Fprint(out, "cv=none\r\n")
		noise = noise[:128]
	}
}

const (
	letterBoundary = "=_simulated_alternative"
	logoBoundary   = "=_simulated_related"
	paragraphStart = "<p class=3D\"MsoNormal\" style=3D\"margin-bottom:8.0pt\"><span lang=3D\"EN-US\" st=\r\nyle=3D\"font-size:11.0pt;font-family:&quot;Calibri&quot;,sans-serif\">"
	paragraphEnd   = "<o:p></o:p></span></p>\r\n"
)

// letter writes the text, with the logo of its sender below it.
func (r recipe) letter(out *bufio.Writer) {
	if r.Logo == 0 {
		r.body(out)
		return
	}
	fmt.Fprintf(out, "Content-Type: multipart/related; boundary=%q\r\n\r\n--%s\r\n", logoBoundary, logoBoundary)
	r.body(out)
	fmt.Fprintf(out, "\r\n--%s\r\nContent-Type: image/png; name=image001.png\r\nContent-ID: <image001.png@%016x>\r\nContent-Disposition: inline; filename=image001.png\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		logoBoundary, r.Number)
	picture := recipe{FileNumber: logoNumbers - r.Logo}
	size := int64(logoMedian * math.Exp(0.5*recipe{Number: picture.FileNumber}.random(4).NormFloat64()))
	_ = writeBase64(out, picture.file(), size) // Flush tells the first error
	fmt.Fprintf(out, "--%s--\r\n", logoBoundary)
}

// body writes the text, and in one of two letters writes it twice. One in
// foreign letters is sent in base64.
func (r recipe) body(out *bufio.Writer) {
	if r.Foreign {
		fmt.Fprint(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n")
		var text bytes.Buffer
		plain := bufio.NewWriter(&text)
		r.paragraphs(plain, r.Text, "", "\r\n")
		_ = plain.Flush() // a buffer never fails
		foreign := inCyrillic(text.Bytes())
		_ = writeBase64(out, bytes.NewReader(foreign), int64(len(foreign)))
		return
	}
	if r.Number%2 == 0 {
		fmt.Fprint(out, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n")
		r.paragraphs(out, r.Text, "", "\r\n")
		return
	}
	fmt.Fprintf(out, "Content-Type: multipart/alternative; boundary=%q\r\n\r\n--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n", letterBoundary, letterBoundary)
	r.paragraphs(out, r.Text/5*2, "", "\r\n")
	fmt.Fprintf(out, "--%s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html xmlns:o=3D\"urn:schemas-microsoft-com:office:office\"><body lang=3D\"EN-US\">\r\n", letterBoundary)
	r.paragraphs(out, r.Text/5*2, paragraphStart, paragraphEnd)
	fmt.Fprintf(out, "</body></html>\r\n--%s--\r\n", letterBoundary)
}

// paragraphs writes the words of the letter in lines, with start and end around
// each paragraph. They are the same at each call.
func (r recipe) paragraphs(out *bufio.Writer, size int64, start, end string) {
	rng := r.random(3)
	line := make([]byte, 0, 96)
	for left := size; left > 0; {
		_, _ = out.WriteString(start) // Flush tells the first error
		for range 1 + rng.IntN(5) {
			line = line[:0]
			for len(line) < 64 {
				for bits, n := rng.Uint64(), 0; n < 4; bits, n = bits>>16, n+1 {
					line = append(append(line, vocabulary[draw[uint16(bits)]]...), ' ') //nolint:gosec // a part of the bits
				}
			}
			line = append(line, '\r', '\n')
			_, _ = out.Write(line)
			left -= int64(len(line))
		}
		if rng.IntN(4) == 0 {
			fmt.Fprintf(out, "https://links.example/%016x%016x?m=%d\r\n", rng.Uint64(), rng.Uint64(), r.Number)
		}
		_, _ = out.WriteString(end)
	}
}

// inCyrillic replaces the letters of a text by others, one for one.
func inCyrillic(text []byte) []byte {
	out := make([]byte, 0, 2*len(text))
	for _, c := range text {
		if c >= 'a' && c <= 'z' {
			out = utf8.AppendRune(out, 'а'+rune(c-'a'))
			continue
		}
		out = append(out, c)
	}
	return out
}

// sharedFiles is how many files many letters have.
const sharedFiles = 50

// Of the logos of senders, which are pictures: how many there are, what one has
// in bytes, and where their numbers among the files begin.
const (
	logos       = 40
	logoMedian  = 12 << 10
	logoNumbers = -1000
)

// letterOf is the recipe of a letter of a mailbox, after Generated: its size
// log-normal around text, 15 of 100 with an attachment, of which 40 of 100 are
// among 50 that many have. 10 of 100 files are tables in text; the others are
// compressed already. 25 of 100 letters have a logo of their sender, and 8 of 100
// are in another alphabet.
//
// A corpus of 10,000, with medians of 11 and 218 KiB, is made like the one that the
// repository was designed with: 870 MB, of them four fifths in base64; 680 MB with
// that decoded, of them 70 of 100 once; few files so large that programs that
// split what they keep find them in two messages. restic makes 618 MB of it and
// borg 544, where they made 607 and 540 of the other.
func letterOf(r recipe, g Generated) recipe {
	rng := r.random(4)
	r.Letter = true
	r.Text = int64(float64(r.Text) * math.Exp(0.8*rng.NormFloat64()))
	other := r.random(5)
	r.Foreign = other.IntN(100) < 8
	if other.IntN(100) < 25 {
		r.Logo = 1 + other.Int64N(logos)
	}
	if g.Attachment == 0 || rng.IntN(100) >= 15 {
		return r
	}
	r.File, r.FileNumber = "attachment.bin", r.Number
	spread, kind := rng.NormFloat64(), rng.IntN(10)
	if g.Shared = rng.IntN(100) < 40; g.Shared {
		// Of the sizes and kinds there are as many as among the others, whichever they are.
		n := rng.IntN(sharedFiles)
		r.FileNumber, kind = -1-int64(n), n%10
		spread = math.Sqrt2 * math.Erfinv((2*float64(n)+1)/sharedFiles-1)
	}
	if kind == 5 {
		r.FileKind = fileTable
	}
	r.FileSize = int64(float64(g.Attachment) * math.Exp(0.75*spread))
	return r
}
