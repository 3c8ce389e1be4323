package m365

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/charset"
	"github.com/emersion/go-message/textproto"
)

// What of a message goes into the call that creates it. Graph takes 4 MB as
// JSON, in which a byte of an attachment is a third longer
// (graph-backup.md, 2.5 and 2.7).
const (
	textRoom  = 1 << 20    // of the body; a longer one is attached
	filesRoom = 1800 << 10 // of all attachments; the others follow
	maxFile   = 150 << 20  // what Microsoft takes of one attachment
	maxLeaves = 1000       // parts of one message
	maxNested = 30         // multiparts within each other
	lineRoom  = 64 << 10   // header of one part
)

// letter is a message taken apart, as far as it goes into the creating call.
type letter struct {
	header gomessage.Header
	pieces []piece
	files  []attached
	room   int // left for files
	notes  []string
}

// piece is a part of the body.
type piece struct {
	html bool
	text string
}

// attached is a file of a message. data is nil if it does not fit.
type attached struct {
	leaf            int // its number among the parts of the message
	name, mediaType string
	contentID       string
	inline          bool
	size            int64
	data            []byte
}

// leaf is a part that is no multipart.
type leaf struct {
	n      int
	header gomessage.Header
	body   io.Reader // decoded from its transfer encoding, not from its charset
	choice int       // number of the multipart/alternative that it is in, 0 for none
}

// readLetter takes a message apart. The error is that of r, or says that the text
// is not well formed; what was read of it before is in the letter.
func readLetter(r io.Reader) (l letter, err error) {
	defer func() {
		if v := recover(); v != nil { // the parsers are other people's, the text a stranger's
			err = fmt.Errorf("parser stopped: %v", v)
		}
	}()
	l.room = filesRoom
	chosen := map[int]int{} // alternative to its piece
	l.header, err = walkLeaves(r, func(p leaf) error {
		mediaType, params, _ := p.header.ContentType()     //nolint:errcheck // what can't be read is a file
		disposition, _, _ := p.header.ContentDisposition() //nolint:errcheck // likewise
		isText := mediaType == "text/plain" || mediaType == "text/html" || mediaType == ""
		if !isText || strings.EqualFold(disposition, "attachment") || fileName(p.header) != "" {
			return l.file(p, mediaType, disposition)
		}
		head, err := io.ReadAll(io.LimitReader(p.body, textRoom+1))
		if err != nil {
			return err
		}
		if len(head) > textRoom {
			p.body = io.MultiReader(bytes.NewReader(head), p.body)
			return l.longText(p, mediaType)
		}
		one := piece{html: mediaType == "text/html", text: decodeText(head, params["charset"])}
		if at, there := chosen[p.choice]; p.choice > 0 && there {
			if one.html && !l.pieces[at].html {
				l.pieces[at] = one
			}
			return nil
		}
		if p.choice > 0 {
			chosen[p.choice] = len(l.pieces)
		}
		l.pieces = append(l.pieces, one)
		return nil
	})
	return l, err
}

// longText keeps a body that is too long for the call as an attachment.
func (l *letter) longText(p leaf, mediaType string) error {
	name := "message.txt"
	if mediaType == "text/html" {
		name = "message.html"
	}
	l.notes = append(l.notes, "The text is longer than Microsoft takes in one call, so it is attached as "+name+".")
	if err := l.file(p, cmp.Or(p.header.Get("Content-Type"), "text/plain"), "attachment"); err != nil {
		return err
	}
	l.files[len(l.files)-1].name = name
	return nil
}

// file keeps an attachment, with its bytes if there is room for them.
func (l *letter) file(p leaf, mediaType, disposition string) error {
	f := attached{leaf: p.n, name: fileName(p.header), mediaType: mediaType, contentID: strings.Trim(p.header.Get("Content-Id"), " <>")}
	f.inline = strings.EqualFold(disposition, "inline") && f.contentID != "" || disposition == "" && f.contentID != "" && strings.HasPrefix(mediaType, "image/")
	if f.mediaType == "" {
		f.mediaType = "application/octet-stream"
	}
	if f.name == "" {
		f.name = inventedName(mediaType)
	}
	if mediaType == "message/rfc822" {
		l.notes = append(l.notes, "The attached message "+f.name+" is attached as a file.")
	}
	head, err := io.ReadAll(io.LimitReader(p.body, int64(l.room)+1))
	if err != nil {
		return err
	}
	f.size = int64(len(head))
	if len(head) <= l.room {
		f.data = head
		l.room -= len(head)
	} else {
		rest, err := io.Copy(io.Discard, p.body)
		if err != nil {
			return err
		}
		f.size += rest
	}
	l.files = append(l.files, f)
	return nil
}

// inventedName is the name of a file that has none.
func inventedName(mediaType string) string {
	switch mediaType {
	case "message/rfc822":
		return "message.eml"
	case "text/calendar":
		return "invitation.ics"
	}
	name := "attachment"
	if kinds, err := mime.ExtensionsByType(mediaType); err == nil && len(kinds) > 0 {
		name += kinds[0]
	}
	return name
}

// fileName is the name of a part, without path and control characters.
func fileName(h gomessage.Header) string {
	_, params, _ := h.ContentDisposition() //nolint:errcheck // then it has none
	name := params["filename"]
	if name == "" {
		_, params, _ = h.ContentType() //nolint:errcheck // likewise
		name = params["name"]
	}
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, decodeWords(name))
	name = strings.TrimSpace(name[strings.LastIndexAny(name, `/\`)+1:])
	if runes := []rune(name); len(runes) > 200 {
		name = string(runes[:200])
	}
	return name
}

var words = mime.WordDecoder{CharsetReader: charset.Reader}

func decodeWords(s string) string {
	if text, err := words.DecodeHeader(s); err == nil {
		s = text
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// body joins the pieces: as HTML if one of them is.
func (l letter) body() (kind, text string) {
	kind = "text"
	for _, p := range l.pieces {
		if p.html {
			kind = "html"
		}
	}
	var parts []string
	for _, p := range l.pieces {
		if kind == "html" && !p.html {
			p.text = "<pre>" + html.EscapeString(p.text) + "</pre>"
		}
		parts = append(parts, p.text)
	}
	return kind, strings.Join(parts, "\n")
}

// addresses reads an address field. What can't be read of it is told.
func (l letter) addresses(field string) ([]graphRecipient, bool) {
	text := strings.TrimSpace(l.header.Get(field))
	if text == "" {
		return nil, true
	}
	list, err := (&mail.AddressParser{WordDecoder: &words}).ParseList(text)
	if err != nil {
		return nil, false
	}
	var all []graphRecipient
	for _, a := range list {
		all = append(all, newRecipient(a.Name, a.Address))
	}
	return all, true
}

// walkLeaves reads a message and calls each with its parts in order.
func walkLeaves(r io.Reader, each func(leaf) error) (gomessage.Header, error) {
	br := bufio.NewReaderSize(r, lineRoom)
	header, err := readHead(br)
	if err != nil {
		return header, err
	}
	w := &walker{each: each}
	return header, w.part(header, br, 0, 0)
}

// headRoom is what is looked at of a header.
const headRoom = 1 << 20

// readHead reads the header of a message up to the empty line. Lines that are no
// fields, such as the separator of an mbox file, are left out.
func readHead(br *bufio.Reader) (gomessage.Header, error) {
	var fields bytes.Buffer
	field := false
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) || fields.Len() > headRoom {
			return gomessage.Header{}, errors.New("the header is too long")
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return gomessage.Header{}, err
		}
		text := bytes.TrimRight(line, "\r\n")
		if len(text) > 0 && text[0] != ' ' && text[0] != '\t' {
			name, _, found := bytes.Cut(text, []byte(":"))
			name = bytes.TrimRight(name, " \t")
			field = found && len(name) > 0 && !bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
		}
		if field && len(text) > 0 {
			fields.Write(text)
			fields.WriteString("\r\n")
		}
		if len(text) == 0 || err != nil {
			break
		}
	}
	fields.WriteString("\r\n")
	h, err := textproto.ReadHeader(bufio.NewReader(&fields))
	return gomessage.Header{Header: h}, err
}

type walker struct {
	each    func(leaf) error
	leaves  int
	choices int
}

var errTooManyParts = errors.New("the message has too many parts")

func (w *walker) part(h gomessage.Header, body io.Reader, choice, depth int) error {
	mediaType, params, err := h.ContentType()
	if err != nil || !strings.HasPrefix(mediaType, "multipart/") || params["boundary"] == "" {
		if w.leaves++; w.leaves > maxLeaves {
			return errTooManyParts
		}
		return w.each(leaf{n: w.leaves, header: h, body: decodeTransfer(h, body), choice: choice})
	}
	if depth++; depth > maxNested {
		return errTooManyParts
	}
	if mediaType == "multipart/alternative" {
		w.choices++
		choice = w.choices
	}
	parts := textproto.NewMultipartReader(body, params["boundary"])
	for {
		p, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.part(gomessage.Header{Header: p.Header}, p, choice, depth); err != nil {
			return err
		}
	}
}

// decodeTransfer undoes the transfer encoding. An unknown one leaves the bytes as
// they are.
func decodeTransfer(h gomessage.Header, body io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(h.Get("Content-Transfer-Encoding"))) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, &alphabet{r: body})
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	}
	return body
}

// alphabet leaves out what is not of the base64 alphabet, as RFC 2045 says (6.8).
type alphabet struct{ r io.Reader }

func (a *alphabet) Read(p []byte) (int, error) {
	for {
		n, err := a.r.Read(p)
		kept := 0
		for _, c := range p[:n] {
			if 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/' || c == '=' {
				p[kept] = c
				kept++
			}
		}
		if kept > 0 || err != nil || n == 0 {
			return kept, err
		}
	}
}

// decodeText reads a text in its charset; an unknown one is taken as UTF-8.
func decodeText(data []byte, name string) string {
	if name != "" && !strings.EqualFold(name, "utf-8") && !strings.EqualFold(name, "us-ascii") {
		if r, err := charset.Reader(name, bytes.NewReader(data)); err == nil {
			if decoded, err := io.ReadAll(r); err == nil {
				data = decoded
			}
		}
	}
	return strings.ToValidUTF8(string(data), "\uFFFD")
}
