// Package preview turns a mail message into something that is safe to look at:
// headers, a list of attachments, and a body as one HTML document without
// scripts, forms or anything that a browser would fetch. A message is written
// by strangers, so every size is bounded and nothing in it can stop a reader;
// what cannot be understood is shown as plain text.
package preview

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // decodes the charsets of parts and headers
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding/charmap"
)

// Limits of what is kept of a message. Beyond them a note says that there is more.
const (
	maxText        = 1 << 20 // bytes of one text or HTML part
	maxPieces      = 50      // text parts shown one after the other
	maxImage       = 4 << 20 // bytes of one picture inside the text
	maxImages      = 16 << 20
	maxParts       = 1000
	maxAttachments = 200
	maxDepth       = 20
	maxRaw         = 256 << 10 // bytes shown of a message that is not understood
	maxHeader      = 4 << 10   // bytes of one header line
)

// Message is a message as it can be shown.
type Message struct {
	Headers     []Header // Subject, From, To, Cc, Reply-To and Date, as far as there are any
	Attachments []Attachment
	More        int      // attachments beyond those listed
	Notes       []string // what a reader should know: broken, cut, remote pictures left out

	pieces []piece
	images []image
	inline int64 // bytes of all images
	parts  int
}

// Header is one decoded header line.
type Header struct{ Name, Value string }

// Attachment is one file of a message.
type Attachment struct {
	Name string // without path or control characters; made up if it has none
	Type string // media type, like application/pdf
	Size int64  // bytes, decoded
}

// piece is a part of the body that is shown.
type piece struct {
	html bool
	text string
}

// image is a picture that the HTML of the message may refer to by its id.
type image struct {
	id, mediaType string
	data          []byte
}

// Read reads a message. The error is that of r; a message that is not well
// formed is no error, but a Message with a note and, at worst, its first bytes
// as plain text.
func Read(r io.Reader) (*Message, error) {
	source := &recorder{r: r}
	m := &Message{}
	broken := m.read(source)
	if source.err != nil {
		return nil, fmt.Errorf("read the message: %w", source.err)
	}
	switch {
	case source.n == 0:
		m.note("This message is empty.")
	case broken != nil && len(m.pieces) == 0:
		m.pieces = []piece{{text: toText(trimPartialRune(source.head), "")}}
		m.note("This message is not well formed. Its first part is shown as it was stored; the download has all of it.")
	case broken != nil:
		m.note("A part of this message is not well formed, so it may be shown incompletely. The download has all of it.")
	}
	return m, nil
}

// read parses the message. The parsers are other people's code fed with
// strangers' bytes: should one of them panic, the message counts as broken.
func (m *Message) read(source io.Reader) (broken error) {
	defer func() {
		if v := recover(); v != nil {
			broken = fmt.Errorf("parser stopped: %v", v)
		}
	}()
	br := bufio.NewReaderSize(source, 64<<10)
	header, broken := readHeader(br)
	if header.Len() == 0 {
		return broken
	}
	m.headers(header)
	// An unknown charset or encoding leaves the bytes as they are.
	entity, _ := message.New(header, br)
	pieces, err := m.walk(entity, 0)
	m.pieces = slices.DeleteFunc(pieces, func(p piece) bool { return strings.TrimSpace(p.text) == "" })
	return errors.Join(broken, err)
}

func (m *Message) headers(h message.Header) {
	for _, name := range []string{"Subject", "From", "To", "Cc", "Reply-To", "Date"} {
		if v := headerText(h, name); v != "" {
			m.Headers = append(m.Headers, Header{Name: name, Value: v})
		}
	}
}

// headerText returns a header decoded as far as possible, on one line.
func headerText(h message.Header, name string) string {
	v, err := h.Text(name)
	if err != nil || !utf8.ValidString(v) {
		v = toText([]byte(h.Get(name)), "")
	}
	return oneLine(v, maxHeader)
}

// walk reads a part and what is in it, and returns what of it is shown.
func (m *Message) walk(e *message.Entity, depth int) ([]piece, error) {
	m.parts++
	mediaType, params, _ := e.Header.ContentType()
	if strings.HasPrefix(mediaType, "multipart/") && depth < maxDepth {
		if parts := e.MultipartReader(); parts != nil {
			return m.walkParts(parts, mediaType, depth)
		}
	}
	disposition, dispositionParams, _ := e.Header.ContentDisposition()
	name := dispositionParams["filename"]
	if name == "" {
		name = params["name"]
	}
	switch {
	case disposition == "attachment":
		return nil, m.attach(e, mediaType, name)
	case mediaType == "text/html", mediaType == "text/plain", mediaType == "" && depth == 0,
		strings.HasPrefix(mediaType, "text/") && name == "" && mediaType != "text/calendar",
		mediaType == "message/delivery-status" || mediaType == "message/disposition-notification" || mediaType == "message/feedback-report":
		p, err := m.text(e, mediaType, params["charset"])
		return []piece{p}, err
	case imageTypes[mediaType] && e.Header.Get("Content-Id") != "":
		return nil, m.image(e, mediaType, name)
	}
	return nil, m.attach(e, mediaType, name)
}

// walkParts reads the parts of a multipart. Of an alternative the HTML is
// shown, or else the last form that can be.
func (m *Message) walkParts(parts message.MultipartReader, mediaType string, depth int) ([]piece, error) {
	var forms [][]piece
	var broken error
	for m.parts < maxParts {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if part == nil {
			broken = err
			break
		}
		shown, err := m.walk(part, depth+1)
		if err != nil {
			broken = err
		}
		if len(shown) > 0 {
			forms = append(forms, shown)
		}
	}
	if m.parts >= maxParts {
		m.note("This message has more than 1,000 parts. Only the first are shown.")
	}
	if mediaType == "multipart/alternative" {
		return best(forms), broken
	}
	var all []piece
	for _, form := range forms {
		all = append(all, form...)
	}
	if len(all) > maxPieces {
		m.note("This message has very many text parts. Only the first 50 are shown.")
		all = all[:maxPieces]
	}
	return all, broken
}

func best(forms [][]piece) []piece {
	var last []piece
	for _, form := range forms {
		last = form
	}
	for i := len(forms) - 1; i >= 0; i-- {
		for _, p := range forms[i] {
			if p.html && strings.TrimSpace(p.text) != "" {
				return forms[i]
			}
		}
	}
	return last
}

// text reads a part that is shown.
func (m *Message) text(e *message.Entity, mediaType, charsetName string) (piece, error) {
	var buf bytes.Buffer
	_, err := io.CopyN(&buf, e.Body, maxText)
	b := buf.Bytes()
	if err == nil {
		n, _ := io.Copy(io.Discard, e.Body) // what is cut off here is in the download
		if n > 0 {
			b = trimPartialRune(b)
			m.note("This message is very long. Only its first megabyte is shown; the download has all of it.")
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	isHTML := mediaType == "text/html"
	contentType := ""
	if isHTML && charsetName == "" {
		contentType = "text/html"
	}
	return piece{html: isHTML, text: toText(b, contentType)}, err
}

// attach counts a part's bytes and lists it.
func (m *Message) attach(e *message.Entity, mediaType, name string) error {
	n, err := io.Copy(io.Discard, e.Body)
	m.list(mediaType, name, n)
	return err
}

func (m *Message) list(mediaType, name string, size int64) {
	if len(m.Attachments) >= maxAttachments {
		m.More++
		return
	}
	m.Attachments = append(m.Attachments, Attachment{Name: attachmentName(name, mediaType), Type: oneLine(mediaType, 100), Size: size})
}

// image keeps a picture that the HTML may show, if it is not too large, and
// lists it.
func (m *Message) image(e *message.Entity, mediaType, name string) error {
	var buf bytes.Buffer
	n, err := io.CopyN(&buf, e.Body, maxImage)
	if err == nil {
		rest, restErr := io.Copy(io.Discard, e.Body)
		n, err = n+rest, restErr
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	m.list(mediaType, name, n)
	if n <= maxImage && m.inline+n <= maxImages && n > 0 {
		m.inline += n
		id := strings.Trim(strings.TrimSpace(e.Header.Get("Content-Id")), "<>")
		m.images = append(m.images, image{id: id, mediaType: mediaType, data: buf.Bytes()})
	}
	return err
}

// imageTypes are the pictures that are shown inside a message. SVG is not
// among them: it is a document, not a picture.
var imageTypes = map[string]bool{"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/bmp": true}

func (m *Message) note(text string) {
	for _, n := range m.Notes {
		if n == text {
			return
		}
	}
	m.Notes = append(m.Notes, text)
}

// attachmentName returns a name that is safe to show.
func attachmentName(name, mediaType string) string {
	if decoded, err := (&mime.WordDecoder{CharsetReader: message.CharsetReader}).DecodeHeader(name); err == nil {
		name = decoded
	}
	name = oneLine(toText([]byte(name), ""), 200)
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	switch {
	case name != "":
		return name
	case mediaType == "message/rfc822":
		return "Attached message"
	case mediaType == "text/calendar":
		return "Invitation"
	}
	return "Attachment without a name"
}

// toText makes valid UTF-8 of bytes whose charset was decoded already, or not
// known. contentType "text/html" also looks for a charset inside the HTML.
func toText(b []byte, contentType string) string {
	if contentType != "" && !utf8.Valid(b) {
		enc, _, _ := charset.DetermineEncoding(b, contentType)
		if decoded, err := enc.NewDecoder().Bytes(b); err == nil {
			b = decoded
		}
	}
	if !utf8.Valid(b) {
		// The usual unlabelled 8-bit text.
		if decoded, err := charmap.Windows1252.NewDecoder().Bytes(b); err == nil {
			b = decoded
		}
	}
	return strings.ReplaceAll(strings.ToValidUTF8(string(b), "\uFFFD"), "\x00", "\uFFFD")
}

// trimPartialRune drops the first bytes of a character that a limit cut.
func trimPartialRune(b []byte) []byte {
	for i := 1; i <= 3 && i <= len(b); i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if c >= 0x80 && !utf8.FullRune(b[len(b)-i:]) && utf8.Valid(b[:len(b)-i]) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// oneLine removes control and direction-changing characters, folds white space
// and cuts to limit bytes.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r < 0x20, r >= 0x7f && r < 0xa0, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f:
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// recorder keeps the first bytes and the error of the reader below it, so that
// a parser's complaint can be told from a failure to read.
type recorder struct {
	r    io.Reader
	n    int64
	head []byte
	err  error
}

// Read implements io.Reader.
func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	if room := maxRaw - len(r.head); room > 0 {
		r.head = append(r.head, p[:min(n, room)]...)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
