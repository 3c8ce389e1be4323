package imap

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/mail"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-message/charset"

	"holdfast/backup/engine"
)

// headerSection is what the listing reads of a message. It is read here and not
// by the server (ENVELOPE, BODYSTRUCTURE), whose reading of malformed mail breaks
// answers.
var headerSection = &goimap.FetchItemBodySection{Specifier: goimap.PartSpecifierHeader, Peek: true,
	HeaderFields: []string{"From", "To", "Subject", "Date", "Message-ID", "Content-Type", "Importance", "X-Priority"}}

// collect reads one message of an answer. What is too long of its header is left
// out.
func collect(msg *imapclient.FetchMessageData) (*imapclient.FetchMessageBuffer, error) {
	b := &imapclient.FetchMessageBuffer{}
	for item := msg.Next(); item != nil; item = msg.Next() {
		switch item := item.(type) {
		case imapclient.FetchItemDataUID:
			b.UID = item.UID
		case imapclient.FetchItemDataFlags:
			b.Flags = item.Flags
		case imapclient.FetchItemDataInternalDate:
			b.InternalDate = item.Time
		case imapclient.FetchItemDataRFC822Size:
			b.RFC822Size = item.Size
		case imapclient.FetchItemDataBodySection:
			if item.Literal == nil {
				continue
			}
			text, err := io.ReadAll(io.LimitReader(item.Literal, maxHeader))
			if err == nil {
				_, err = io.Copy(io.Discard, item.Literal)
			}
			if err != nil {
				return nil, err
			}
			b.BodySection = append(b.BodySection, imapclient.FetchBodySectionBuffer{Section: item.Section, Bytes: text})
		}
	}
	return b, nil
}

// properties are what else the server says of a message, kept beside it.
type properties struct {
	Flags        []goimap.Flag `json:"flags"`
	InternalDate time.Time     `json:"internalDate"`
}

// state is a message as the engine wants it. Its version is the date at which it
// came, which with the UID stands for the message: it does not change. Keywords,
// and the flags \Answered, \Deleted and those of the server, are its categories.
func (l *listing) state(b *imapclient.FetchMessageBuffer) engine.ItemState {
	s := engine.ItemState{
		ID: itemID(l.folder.id, l.now.validity, b.UID), FolderID: l.folder.id, Version: strconv.FormatInt(b.InternalDate.Unix(), 36),
		Received: b.InternalDate, Size: max(b.RFC822Size, 0),
	}
	flags := slices.DeleteFunc(slices.Clone(b.Flags), func(f goimap.Flag) bool { return strings.EqualFold(string(f), `\Recent`) })
	slices.SortFunc(flags, func(a, b goimap.Flag) int { return strings.Compare(string(a), string(b)) })
	for _, f := range flags {
		switch {
		case strings.EqualFold(string(f), string(goimap.FlagSeen)):
			s.Read = true
		case strings.EqualFold(string(f), string(goimap.FlagFlagged)):
			s.Flagged = true
		case strings.EqualFold(string(f), string(goimap.FlagDraft)):
			s.Draft = true
		default:
			s.Categories = append(s.Categories, string(f))
		}
	}
	if raw, err := json.Marshal(properties{Flags: flags, InternalDate: b.InternalDate}); err == nil {
		s.Properties = raw
	}
	if len(b.BodySection) > 0 {
		fill(&s, b.BodySection[0].Bytes)
	}
	return s
}

// words decodes encoded words in any charset that is known.
var words = &mime.WordDecoder{CharsetReader: charset.Reader}

func decode(s string) string {
	s = strings.TrimSpace(s)
	if text, err := words.DecodeHeader(s); err == nil {
		return text
	}
	return s
}

// fill reads header fields into s; what can't be read stays as it is written.
func fill(s *engine.ItemState, raw []byte) {
	// An error means that the rest is malformed: what was read counts.
	raw = append(raw, "\r\n\r\n"...)
	h, _ := textproto.NewReader(bufio.NewReaderSize(bytes.NewReader(raw), min(len(raw), 4096))).ReadMIMEHeader()
	s.Subject, s.From, s.To = decode(h.Get("Subject")), addresses(h.Get("From")), addresses(h.Get("To"))
	s.InternetMessageID = strings.TrimSpace(h.Get("Message-Id"))
	if at, err := mail.ParseDate(h.Get("Date")); err == nil && at.Year() > 0 && at.Year() < 10_000 {
		s.Sent = at
	}
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	s.HasAttachments = kind == "multipart/mixed" || kind != "" && !strings.HasPrefix(kind, "text/") && !strings.HasPrefix(kind, "multipart/")
	s.Importance = importance(h.Get("Importance"), h.Get("X-Priority"))
}

func importance(word, priority string) string {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "high":
		return "high"
	case "low":
		return "low"
	}
	switch p := strings.TrimSpace(priority); {
	case strings.HasPrefix(p, "1"), strings.HasPrefix(p, "2"):
		return "high"
	case strings.HasPrefix(p, "4"), strings.HasPrefix(p, "5"):
		return "low"
	}
	return "normal"
}

// addresses writes an address list as people read it.
func addresses(field string) string {
	if field == "" {
		return ""
	}
	list, err := (&mail.AddressParser{WordDecoder: words}).ParseList(field)
	if err != nil {
		return decode(field)
	}
	out := make([]string, len(list))
	for i, a := range list {
		if out[i] = a.Address; a.Name != "" {
			out[i] = a.Name + " <" + a.Address + ">"
		}
	}
	return strings.Join(out, ", ")
}
