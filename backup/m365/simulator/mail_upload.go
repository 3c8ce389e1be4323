package simulator

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// uploadSession is a large attachment on its way.
type uploadSession struct {
	user, message string
	file          file
	size          int64
	ends          time.Time
	token         string
}

const (
	largestAttachment = 150 << 20
	largestChunk      = 4 << 20
	sessionLife       = time.Hour
)

// createUpload is createUploadSession (graph-backup.md 2.5).
func (s *Simulator) createUpload(w *answer, r *http.Request, _ *caller, u *user) {
	msg := s.inPath(w, r, u)
	if msg == nil || !s.mayAttach(w, msg) {
		return
	}
	var in struct {
		Item struct {
			AttachmentType, Name, ContentType, ContentID string
			Size                                         int64
			IsInline                                     bool
		} `json:"AttachmentItem"`
	}
	if !s.decode(w, r, &in) {
		return
	}
	switch item := in.Item; {
	case item.AttachmentType != "file" || item.Name == "":
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidRequest", "attachmentType must be file, and name is required.")
		return
	case item.Size < 3<<20 || item.Size > largestAttachment:
		// assumed: upload-size
		s.graphError(w, http.StatusBadRequest, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize", "The attachment size must be from 3 MB to 150 MB.")
		return
	}
	id := opaque("U", u.ID, u.Mailbox.number(), 0)
	session := &uploadSession{user: u.ID, message: msg.ID, size: in.Item.Size, ends: s.now().Add(sessionLife), token: newGUID(),
		file: file{Name: in.Item.Name, Type: firstOf(in.Item.ContentType, "application/octet-stream"), Inline: in.Item.IsInline, ContentID: in.Item.ContentID}}
	if s.uploads == nil {
		s.uploads = map[string]*uploadSession{}
	}
	s.uploads[id] = session
	w.graphJSON(http.StatusCreated, object{"@odata.context": graphMeta + "microsoft.graph.uploadSession",
		"uploadUrl": fmt.Sprintf("%s/api/v2.0/Users('%s')/Messages('%s')/AttachmentSessions('%s')?authtoken=%s", baseURL(r, HostExchange),
			url.PathEscape(u.ID), url.PathEscape(msg.ID), url.PathEscape(id), url.QueryEscape(session.token)),
		"expirationDateTime": stamp(session.ends), "nextExpectedRanges": []string{"0-"}})
}

// upload takes one piece: the token is in the address, and must not be in the header.
func (s *Simulator) upload(w *answer, r *http.Request, _ *caller) {
	session := s.uploads[r.PathValue("upload")]
	switch {
	case r.Header.Get("Authorization") != "":
		w.WriteHeader(http.StatusUnauthorized)
		return
	case session == nil || s.now().After(session.ends) || s.fault(r, nil, "upload_expired") != nil:
		delete(s.uploads, r.PathValue("upload"))
		s.graphError(w, http.StatusNotFound, "ErrorItemNotFound", "The upload session was not found.")
		return
	case r.URL.Query().Get("authtoken") != session.token:
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	have := int64(len(session.file.Data))
	if want := fmt.Sprintf("bytes %d-%d/%d", have, have+int64(len(data))-1, session.size); r.Header.Get("Content-Range") != want || len(data) == 0 ||
		len(data) > largestChunk || have+int64(len(data)) > session.size {
		s.graphError(w, http.StatusRequestedRangeNotSatisfiable, "ErrorInvalidRange", "The range is not the one that is expected next: "+want)
		return
	}
	session.file.Data = append(session.file.Data, data...)
	if have += int64(len(data)); have < session.size {
		w.json(http.StatusOK, object{"ExpirationDateTime": stamp(session.ends), "NextExpectedRanges": []string{strconv.FormatInt(have, 10)}})
		return
	}
	s.uploaded(w, r, session)
}

// uploaded puts the attachment into its message.
func (s *Simulator) uploaded(w *answer, r *http.Request, session *uploadSession) {
	delete(s.uploads, r.PathValue("upload"))
	u := s.userByID(session.user)
	if u == nil || u.Mailbox == nil || u.Mailbox.message(session.message) == nil {
		s.graphError(w, http.StatusNotFound, "ErrorItemNotFound", "The message was not found.")
		return
	}
	msg := u.Mailbox.message(session.message)
	msg.add(session.file)
	msg.rebuild()
	u.Mailbox.touch(msg, s.now())
	s.changed()
	w.header.Set("Location", fmt.Sprintf("%s/api/v2.0/Users('%s')/Messages('%s')/Attachments('A%d')", baseURL(r, HostExchange), url.PathEscape(u.ID), url.PathEscape(msg.ID), len(msg.Made.Files)))
	w.WriteHeader(http.StatusCreated)
}

// userByID finds a user of any tenant.
func (s *Simulator) userByID(id string) *user {
	for _, t := range s.state.Tenants {
		if u := t.userByID(id); u != nil {
			return u
		}
	}
	return nil
}

// rebuild makes the text of a message that was made through Graph, as Exchange
// makes MIME of an item when it is read.
func (m *message) rebuild() {
	if m.Made == nil || m.Body.File != "" || m.Body.Made != nil {
		return
	}
	var out bytes.Buffer
	header := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%s: %s\r\n", name, strings.NewReplacer("\r", " ", "\n", " ").Replace(value))
		}
	}
	if m.From != (address{}) {
		header("From", m.From.header())
	}
	for _, field := range []struct {
		name string
		list []address
	}{{"To", m.To}, {"Cc", m.Cc}, {"Bcc", m.Bcc}, {"Reply-To", m.ReplyTo}} {
		var all []string
		for _, a := range field.list {
			all = append(all, a.header())
		}
		header(field.name, strings.Join(all, ", "))
	}
	header("Subject", mime.QEncoding.Encode("utf-8", m.Subject))
	header("Date", m.Sent.Format(time.RFC1123Z))
	header("Message-ID", m.MessageID)
	for _, h := range m.Made.Headers {
		header(fmt.Sprint(h["name"]), fmt.Sprint(h["value"]))
	}
	header("MIME-Version", "1.0")
	parts := multipart.NewWriter(&out)
	header("Content-Type", `multipart/mixed; boundary="`+parts.Boundary()+`"`)
	out.WriteString("\r\n")
	kind := "text/plain"
	if m.Made.Kind == "html" {
		kind = "text/html"
	}
	part(parts, textproto.MIMEHeader{"Content-Type": {kind + "; charset=utf-8"}}, []byte(m.Made.Content))
	for _, f := range m.Made.Files {
		disposition := "attachment"
		if f.Inline {
			disposition = "inline"
		}
		h := textproto.MIMEHeader{"Content-Type": {f.Type}, "Content-Disposition": {mime.FormatMediaType(disposition, map[string]string{"filename": f.Name})}}
		if f.ContentID != "" {
			h.Set("Content-Id", "<"+f.ContentID+">")
		}
		part(parts, h, f.Data)
	}
	_ = parts.Close() // a buffer never fails
	m.Body = source{Raw: out.Bytes(), Size: int64(out.Len())}
}

func (a address) header() string {
	return mime.QEncoding.Encode("utf-8", a.Name) + " <" + a.Address + ">"
}

// part writes a part in base64, in lines.
func part(parts *multipart.Writer, h textproto.MIMEHeader, data []byte) {
	h.Set("Content-Transfer-Encoding", "base64")
	w, err := parts.CreatePart(h)
	if err != nil {
		return // a buffer never fails
	}
	for len(data) > 0 {
		n := min(len(data), 57)
		_, _ = io.WriteString(w, base64.StdEncoding.EncodeToString(data[:n])+"\r\n")
		data = data[n:]
	}
}
