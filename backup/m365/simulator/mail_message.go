package simulator

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	emessage "github.com/emersion/go-message"
)

// idOf is the id of a message that the request asked for: the immutable one
// only with Prefer: IdType="ImmutableId".
func idOf(r *http.Request, msg *message) string {
	if strings.EqualFold(prefer(r, "IdType"), "ImmutableId") {
		return msg.ID
	}
	return msg.RestID
}

// recipient is an address as Graph writes it.
type recipient struct {
	EmailAddress struct {
		Name    string `json:"name"`
		Address string `json:"address"`
	} `json:"emailAddress"`
}

func recipients(list ...address) []recipient {
	all := make([]recipient, len(list))
	for i, a := range list {
		all[i].EmailAddress.Name, all[i].EmailAddress.Address = firstOf(a.Name, a.Address), a.Address
	}
	return all
}

// bodyFields are what Mail.ReadBasic does not give
// (https://learn.microsoft.com/graph/permissions-reference).
var bodyFields = []string{"body", "bodyPreview", "uniqueBody", "internetMessageHeaders"}

// messageObject is a message as Graph shows it, without what is read from its
// text, see withBody.
func messageObject(r *http.Request, msg *message) object {
	o := object{
		"@odata.etag": `W/"` + msg.ChangeKey + `"`, "id": idOf(r, msg), "changeKey": msg.ChangeKey, "parentFolderId": msg.Folder,
		"createdDateTime": stamp(msg.Created), "lastModifiedDateTime": stamp(msg.Modified), "receivedDateTime": stamp(msg.Received), "sentDateTime": stamp(msg.Sent),
		"subject": msg.Subject, "from": nil, "sender": nil, "toRecipients": recipients(msg.To...), "ccRecipients": recipients(msg.Cc...), "bccRecipients": recipients(msg.Bcc...), "replyTo": recipients(msg.ReplyTo...),
		"internetMessageId": msg.MessageID, "hasAttachments": msg.Attached, "importance": msg.Weight, "isRead": msg.Read, "isDraft": msg.Draft,
		"categories": append([]string{}, msg.Category...), "flag": object{"flagStatus": msg.Flag}, "conversationId": "AAQk" + msg.ID[6:38] + "AAQA=", "conversationIndex": nil,
		"inferenceClassification": "focused", "isDeliveryReceiptRequested": nil, "isReadReceiptRequested": false,
		"webLink": "https://outlook.office365.com/owa/?ItemID=" + url.QueryEscape(msg.RestID) + "&exvsurl=1&viewmodel=ReadMessageItem",
	}
	if msg.From != (address{}) {
		from := recipients(msg.From)[0]
		o["from"], o["sender"] = from, from
	}
	return o
}

// fullMessage adds what is read from the text if the request wants it and the
// caller may see it: body, preview and header only when selected, as Graph does
// with headers; a message by itself and lists without $select have the body.
func (s *Simulator) fullMessage(r *http.Request, c *caller, u *user, msg *message, sel string) object {
	o := messageObject(r, msg)
	selected := strings.Split(sel, ",")
	wanted := sel == "" || slices.ContainsFunc(bodyFields, func(f string) bool { return named(f, selected...) })
	if !wanted || s.basicOnly(c, u) {
		return o
	}
	kind, text := s.bodyOf(msg)
	o["body"] = object{"contentType": kind, "content": text}
	preview := []rune(plainText(kind, text))
	o["bodyPreview"] = string(preview[:min(len(preview), 255)])
	if named("internetMessageHeaders", selected...) {
		o["internetMessageHeaders"] = s.headersOf(msg)
	}
	return o
}

// basicOnly says whether the caller may see basic properties only.
func (s *Simulator) basicOnly(c *caller, u *user) bool {
	if c.User != nil {
		return !c.hasScope("Mail.Read", "Mail.ReadWrite")
	}
	return !c.has("Mail.Read", "Mail.ReadWrite") && !s.exchangeAllows(c, u, []string{"Mail.Read", "Mail.ReadWrite"})
}

// head reads the beginning of a message.
func (s *Simulator) head(msg *message, most int64) ([]byte, error) {
	r, err := msg.Body.open(s.options.Mail)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, most))
}

// bodyOf finds the text of a message that Graph shows: HTML if there is one,
// else plain text. What can't be parsed has an empty body.
func (s *Simulator) bodyOf(msg *message) (kind, text string) {
	raw, err := s.head(msg, 1<<20)
	if err != nil {
		return "text", ""
	}
	entity, err := emessage.Read(bytes.NewReader(raw))
	if entity == nil || err != nil && !emessage.IsUnknownCharset(err) && !emessage.IsUnknownEncoding(err) {
		return "text", ""
	}
	kind = "text"
	err = entity.Walk(func(_ []int, part *emessage.Entity, err error) error {
		if err != nil && !emessage.IsUnknownCharset(err) && !emessage.IsUnknownEncoding(err) {
			return err
		}
		media, _, _ := part.Header.ContentType() //nolint:errcheck // what can't be read is no text
		disposition, _, _ := part.Header.ContentDisposition()
		if disposition == "attachment" || media != "text/html" && (media != "text/plain" || text != "") {
			return nil
		}
		data, _ := io.ReadAll(part.Body) //nolint:errcheck // what could be read is shown
		text = strings.ToValidUTF8(string(data), "\uFFFD")
		if media == "text/html" {
			kind = "html"
			return errFound
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFound) {
		return "text", text
	}
	return kind, text
}

var errFound = errors.New("found")

var (
	markup = regexp.MustCompile(`(?s)<(?:style|script|head)\b.*?</(?:style|script|head)>|<[^>]*>`)
	blanks = regexp.MustCompile(`\s+`)
)

func plainText(kind, text string) string {
	if kind == "html" {
		text = markup.ReplaceAllString(text, " ")
	}
	return strings.TrimSpace(blanks.ReplaceAllString(text, " "))
}

// headersOf are the header fields of a message in order.
func (s *Simulator) headersOf(msg *message) []object {
	list := []object{}
	raw, err := s.head(msg, 64<<10)
	if err != nil {
		return list
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n") {
		if line == "" {
			break
		}
		if last := len(list) - 1; (line[0] == ' ' || line[0] == '\t') && last >= 0 {
			list[last]["value"] = list[last]["value"].(string) + " " + strings.TrimSpace(line)
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok {
			list = append(list, object{"name": strings.ToValidUTF8(name, "\uFFFD"), "value": strings.ToValidUTF8(strings.TrimSpace(value), "\uFFFD")})
		}
	}
	return list
}

func (s *Simulator) listMessages(w *answer, r *http.Request, c *caller, u *user) {
	if !s.takesOptions(w, r, "$select", "$top", "$skip", "$count", "$filter", "$orderby", "$expand") {
		return
	}
	m, folder := u.Mailbox, ""
	if name := r.PathValue("folder"); name != "" {
		f := m.folder(name)
		if f == nil {
			s.noFolder(w)
			return
		}
		folder = f.ID
	}
	expand, ok := s.expanded(w, r)
	if !ok {
		return
	}
	match, err := messageFilter(r.URL.Query().Get("$filter"), false)
	order := strings.ToLower(r.URL.Query().Get("$orderby"))
	if err != nil || !named(order, "receivedDateTime desc", "receivedDateTime", "receivedDateTime asc") && order != "" {
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidUrlQueryFilter", fmt.Sprintf("The query filter or order contains one or more invalid nodes: %v", err))
		return
	}
	var list []*message
	for _, msg := range m.Messages {
		if (folder == "" || msg.Folder == folder) && match(msg) {
			list = append(list, msg)
		}
	}
	slices.SortStableFunc(list, func(a, b *message) int {
		if strings.HasPrefix(order, "receiveddatetime") && !strings.HasSuffix(order, "desc") {
			a, b = b, a
		}
		return b.Received.Compare(a.Received)
	})
	s.mailPage(w, r, len(list), func(i int) object {
		o := s.fullMessage(r, c, u, list[i], r.URL.Query().Get("$select"))
		list[i].expand(o, expand)
		return o
	}, "microsoft.graph.message", fmt.Sprintf("users('%s')/messages", url.PathEscape(u.ID)), 10)
}

func (s *Simulator) showMessage(w *answer, r *http.Request, c *caller, u *user) {
	if !s.takesOptions(w, r, "$select") {
		return
	}
	msg := s.inPath(w, r, u)
	if msg == nil {
		return
	}
	s.item(w, r, s.fullMessage(r, c, u, msg, r.URL.Query().Get("$select")), "microsoft.graph.message", fmt.Sprintf("users('%s')/messages", url.PathEscape(u.ID)))
}

// inPath finds the message of a path, in its folder if the path has one.
func (s *Simulator) inPath(w *answer, r *http.Request, u *user) *message {
	msg := u.Mailbox.message(r.PathValue("message"))
	if name := r.PathValue("folder"); name != "" && msg != nil {
		if f := u.Mailbox.folder(name); f == nil || f.ID != msg.Folder {
			msg = nil
		}
	}
	if msg == nil {
		s.noItem(w)
	}
	return msg
}

// messageContent gives the MIME text, byte for byte.
func (s *Simulator) messageContent(w *answer, r *http.Request, c *caller, u *user) {
	msg := s.inPath(w, r, u)
	if msg == nil {
		return
	}
	if msg.Damage != "" {
		s.graphError(w, http.StatusInternalServerError, msg.Damage, "Data is corrupt., Invalid global object ID")
		return
	}
	src, mail := msg.Body, s.options.Mail
	if s.fault(r, c, "mime_boundaries") != nil {
		raw, err := s.head(msg, src.Size)
		if err != nil {
			s.graphError(w, http.StatusInternalServerError, "ErrorInternalServerError", "The message could not be read.")
			return
		}
		src = source{Raw: otherBoundaries(raw), Size: src.Size}
	}
	w.streamBody("text/plain", src.Size, func() (io.ReadCloser, error) { return src.open(mail) })
}

var boundaryParameter = regexp.MustCompile(`(?i)boundary="?([^"\s;]{8,70})`)

// otherBoundaries replaces each boundary by a random one of the same length,
// as Exchange, which makes the text anew, may do.
func otherBoundaries(raw []byte) []byte {
	for _, m := range boundaryParameter.FindAllSubmatch(raw, -1) {
		other := []byte(rand.Text() + rand.Text() + rand.Text())[:len(m[1])]
		raw = bytes.ReplaceAll(raw, m[1], other)
	}
	return raw
}
