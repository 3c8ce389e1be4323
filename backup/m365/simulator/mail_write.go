package simulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// writeFaults are the named faults of creating messages.
var writeFaults = []string{
	"create_no_answer", // the message is made, and the connection breaks
	"upload_expired",   // 404: the upload session is gone
}

// writeRoutes registers what puts messages into a mailbox.
func (s *Simulator) writeRoutes() {
	s.playsFaults(writeFaults...)
	s.graph("POST", "/users/{user}/mailFolders", s.inMailbox(s.createFolder))
	s.graph("POST", "/users/{user}/mailFolders/{folder}/childFolders", s.inMailbox(s.createFolder))
	s.graph("POST", "/users/{user}/mailFolders/{folder}/messages", s.inMailbox(s.createMessage))
	s.graph("PATCH", "/users/{user}/messages/{message}", s.inMailbox(s.updateMessage))
	s.graph("DELETE", "/users/{user}/messages/{message}", s.inMailbox(s.deleteMessage))
	s.graph("POST", "/users/{user}/messages/{message}/attachments", s.inMailbox(s.addAttachment))
	s.graph("POST", "/users/{user}/messages/{message}/attachments/createUploadSession", s.inMailbox(s.createUpload))
	s.open(HostExchange, "PUT", "/api/v2.0/Users/{user}/Messages/{message}/AttachmentSessions/{upload}", s.upload)
}

// created is what a message has that was made through Graph, from which its text
// is made.
type created struct {
	Kind, Content string // of the body
	Headers       []object
	Files         []file
	Properties    map[string]string // extended ones by id
}

// file is an attachment.
type file struct {
	Name, Type, ContentID string
	Inline                bool
	Data                  []byte
}

// createFolder is POST mailFolders and childFolders (graph-backup.md 2.1).
func (s *Simulator) createFolder(w *answer, r *http.Request, _ *caller, u *user) {
	m := u.Mailbox
	parent := m.folder("msgfolderroot")
	if name := r.PathValue("folder"); name != "" {
		if parent = m.folder(name); parent == nil {
			s.noFolder(w)
			return
		}
	}
	var in struct {
		DisplayName *string `json:"displayName"`
		IsHidden    bool    `json:"isHidden"`
	}
	if !s.decode(w, r, &in) {
		return
	}
	if in.DisplayName == nil || strings.TrimSpace(*in.DisplayName) == "" || len([]rune(*in.DisplayName)) > 255 {
		// assumed: folder-name
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidRequest", "The folder name is missing or too long.")
		return
	}
	for _, f := range m.children(parent.ID) {
		if strings.EqualFold(f.Name, *in.DisplayName) {
			s.graphError(w, http.StatusConflict, "ErrorFolderExists", "A folder with the specified name already exists.")
			return
		}
	}
	f := m.addFolder(u.ID, parent.ID, *in.DisplayName, "")
	f.Hidden = in.IsHidden
	s.changed()
	o := folderObject(m, f)
	o["@odata.context"] = graphMeta + fmt.Sprintf("users('%s')/mailFolders/$entity", url.PathEscape(u.ID))
	w.graphJSON(http.StatusCreated, o)
}

// newMessage is the body of a POST or PATCH of a message.
type newMessage struct {
	Subject    *string                                `json:"subject"`
	Body       *struct{ ContentType, Content string } `json:"body"`
	From       *graphRecipient                        `json:"from"`
	Sender     *graphRecipient                        `json:"sender"`
	To         []graphRecipient                       `json:"toRecipients"`
	Cc         []graphRecipient                       `json:"ccRecipients"`
	Bcc        []graphRecipient                       `json:"bccRecipients"`
	ReplyTo    []graphRecipient                       `json:"replyTo"`
	Importance string                                 `json:"importance"`
	IsRead     *bool                                  `json:"isRead"`
	Categories []string                               `json:"categories"`
	Flag       *struct {
		FlagStatus                                    string
		DueDateTime, StartDateTime, CompletedDateTime json.RawMessage
	} `json:"flag"`
	MessageID   string                         `json:"internetMessageId"`
	Headers     []struct{ Name, Value string } `json:"internetMessageHeaders"`
	Attachments []newAttachment                `json:"attachments"`
	Properties  []struct{ ID, Value string }   `json:"singleValueExtendedProperties"`
}

type graphRecipient struct {
	EmailAddress struct{ Name, Address string } `json:"emailAddress"`
}

func (r graphRecipient) address() address {
	return address{Name: r.EmailAddress.Name, Address: r.EmailAddress.Address}
}

// newAttachment is a fileAttachment, the only kind that is taken here.
type newAttachment struct {
	Type        string  `json:"@odata.type"`
	Name        *string `json:"name"`
	ContentType string  `json:"contentType"`
	Content     string  `json:"contentBytes"`
	ContentID   *string `json:"contentId"`
	Inline      bool    `json:"isInline"`
}

// decodeMessage reads a message and refuses what Graph does not take: properties
// of other names, and those that only Exchange sets.
func (s *Simulator) decodeMessage(w *answer, r *http.Request, in *newMessage) bool {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		// MIME is taken at /messages only (graph-backup.md 2.6), which is not simulated.
		s.graphError(w, http.StatusUnsupportedMediaType, "RequestBroker--ParseUri", "The media type is not supported here.")
		return false
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(in); err != nil {
		// assumed: message-read-only
		s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "The request body is not a message: "+err.Error())
		return false
	}
	return true
}

// Ids of MAPI properties as Graph writes them
// (https://learn.microsoft.com/graph/api/resources/extended-properties-overview).
var (
	propertyID  = regexp.MustCompile(`^(String|Integer|Boolean|SystemTime|Double|Binary) (0x[0-9A-Fa-f]{4}|\{[0-9A-Fa-f-]{36}\} Name .+|\{[0-9A-Fa-f-]{36}\} Id 0x[0-9A-Fa-f]{4})$`)
	submitTime  = "systemtime 0x0039"
	arrivalTime = "systemtime 0x0e06"
	stateFlags  = "integer 0x0e07"
)

// Bits of PidTagMessageFlags ([MS-OXCMSG] 2.2.1.6).
const (
	flagRead   = 0x1
	flagUnsent = 0x8
)

// properties reads extended properties, by id in lower case.
func (s *Simulator) properties(w *answer, in newMessage) (map[string]string, bool) {
	got := map[string]string{}
	for _, p := range in.Properties {
		if !propertyID.MatchString(p.ID) {
			s.graphError(w, http.StatusBadRequest, "ErrorInvalidProperty", "The property id '"+p.ID+"' is not valid.")
			return nil, false
		}
		kind, _, _ := strings.Cut(p.ID, " ")
		_, number := strconv.ParseInt(p.Value, 10, 32)
		_, moment := time.Parse(time.RFC3339, p.Value)
		if kind == "Integer" && number != nil || kind == "SystemTime" && moment != nil {
			s.graphError(w, http.StatusBadRequest, "ErrorInvalidProperty", "The value of '"+p.ID+"' is not of its type.")
			return nil, false
		}
		got[strings.ToLower(p.ID)] = p.Value
	}
	return got, true
}

// createMessage is POST of JSON to a folder (graph-backup.md 2.7): a draft,
// unless PidTagMessageFlags is given without the bit for unsent.
func (s *Simulator) createMessage(w *answer, r *http.Request, c *caller, u *user) {
	f := u.Mailbox.folder(r.PathValue("folder"))
	if f == nil {
		s.noFolder(w)
		return
	}
	var in newMessage
	if !s.decodeMessage(w, r, &in) {
		return
	}
	properties, ok := s.properties(w, in)
	if !ok {
		return
	}
	msg := &message{Folder: f.ID, Draft: true, Flag: "notFlagged", Weight: "normal", Made: &created{Kind: "text", Properties: properties}}
	if !s.fill(w, msg, in) {
		return
	}
	now := s.now().Truncate(time.Second)
	msg.Received, msg.Sent, msg.Created = now, now, now
	if flags, err := strconv.ParseInt(properties[stateFlags], 10, 32); err == nil {
		msg.Draft, msg.Read = flags&flagUnsent != 0, flags&flagRead != 0
	}
	if in.IsRead != nil {
		msg.Read = *in.IsRead
	}
	for id, to := range map[string]*time.Time{submitTime: &msg.Sent, arrivalTime: &msg.Received} {
		if at, err := time.Parse(time.RFC3339, properties[id]); err == nil {
			*to = at.UTC()
		}
	}
	s.place(u, msg)
	s.changed()
	if s.fault(r, c, "create_no_answer") != nil {
		w.reset = true
		return
	}
	o := messageObject(r, msg)
	o["@odata.context"] = graphMeta + fmt.Sprintf("users('%s')/mailFolders('%s')/messages/$entity", url.PathEscape(u.ID), url.PathEscape(f.ID))
	w.graphJSON(http.StatusCreated, o)
}

// place adds a message whose fields are all set.
func (s *Simulator) place(u *user, msg *message) {
	m := u.Mailbox
	msg.Number = m.number()
	msg.ID = opaque("I", u.ID, msg.Number, 0)
	if msg.MessageID == "" {
		msg.MessageID = "<" + msg.ID[6:38] + "@simulated.prod.outlook.com>"
	}
	msg.rebuild()
	m.touch(msg, msg.Created)
	msg.BornSeq = msg.Seq
	msg.RestID = opaque("M", u.ID, msg.Number, msg.Seq)
	m.Messages = append(m.Messages, msg)
	m.byID[msg.ID], m.byID[msg.RestID] = msg, msg
}

// fill sets what a request says of a message, or answers why it can't be so.
func (s *Simulator) fill(w *answer, msg *message, in newMessage) bool {
	if in.Subject != nil {
		msg.Subject = *in.Subject
	}
	if in.Body != nil {
		if !named(in.Body.ContentType, "text", "html") {
			s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "contentType must be text or html.")
			return false
		}
		msg.Made.Kind, msg.Made.Content = strings.ToLower(in.Body.ContentType), in.Body.Content
	}
	if in.From != nil {
		msg.From = in.From.address()
	}
	for _, list := range []struct {
		in []graphRecipient
		to *[]address
	}{{in.To, &msg.To}, {in.Cc, &msg.Cc}, {in.Bcc, &msg.Bcc}, {in.ReplyTo, &msg.ReplyTo}} {
		for _, one := range list.in {
			if one.EmailAddress.Address == "" && one.EmailAddress.Name == "" || list.to == &msg.ReplyTo && !strings.Contains(one.EmailAddress.Address, "@") {
				// graph-backup.md 2.7: an invalid replyTo makes the POST fail.
				s.graphError(w, http.StatusBadRequest, "ErrorInvalidRecipients", "At least one recipient isn't valid.")
				return false
			}
			*list.to = append(*list.to, one.address())
		}
	}
	if in.Importance != "" {
		if !named(in.Importance, "low", "normal", "high") {
			s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "importance must be low, normal or high.")
			return false
		}
		msg.Weight = strings.ToLower(in.Importance)
	}
	if in.Categories != nil {
		msg.Category = in.Categories
	}
	if in.Flag != nil {
		if !slices.Contains([]string{"notFlagged", "flagged", "complete"}, in.Flag.FlagStatus) {
			s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "flagStatus is not valid.")
			return false
		}
		msg.Flag = in.Flag.FlagStatus
	}
	if in.MessageID != "" {
		msg.MessageID = in.MessageID
	}
	for _, h := range in.Headers {
		// https://learn.microsoft.com/graph/api/resources/internetmessageheader: custom ones begin with x-.
		if len(in.Headers) > 5 || !strings.HasPrefix(strings.ToLower(h.Name), "x-") {
			s.graphError(w, http.StatusBadRequest, "InvalidInternetMessageHeader", "The internet message header name '"+h.Name+"' should start with 'x-' or 'X-', and there may be five.")
			return false
		}
		msg.Made.Headers = append(msg.Made.Headers, object{"name": h.Name, "value": h.Value})
	}
	for _, a := range in.Attachments {
		if !s.attach(w, msg, a) {
			return false
		}
	}
	return true
}

// attach adds an attachment of a request.
func (s *Simulator) attach(w *answer, msg *message, a newAttachment) bool {
	data, err := base64.StdEncoding.DecodeString(a.Content)
	switch {
	case a.Type != "#microsoft.graph.fileAttachment":
		s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "The simulated Microsoft Graph takes fileAttachment only.")
	case a.Name == nil || *a.Name == "":
		s.graphError(w, http.StatusBadRequest, "ErrorRequiredPropertyMissing", "Required property is missing: name.")
	case err != nil:
		s.graphError(w, http.StatusBadRequest, "RequestBodyRead", "contentBytes is not base64.")
	case len(data) >= 3<<20:
		// graph-backup.md 2.5: larger ones need an upload session.
		s.graphError(w, http.StatusRequestEntityTooLarge, "ErrorMessageSizeExceeded", "The attachment is too large. Use an upload session.")
	default:
		one := file{Name: *a.Name, Type: firstOf(a.ContentType, "application/octet-stream"), Inline: a.Inline, Data: data}
		if a.ContentID != nil {
			one.ContentID = *a.ContentID
		}
		msg.add(one)
		return true
	}
	return false
}

func (m *message) add(f file) {
	m.Made.Files = append(m.Made.Files, f)
	m.Attached = m.Attached || !f.Inline
}

// updateMessage is PATCH: of one that is no draft only what Mail.ReadWrite may
// still change (graph-backup.md 0, 4).
func (s *Simulator) updateMessage(w *answer, r *http.Request, _ *caller, u *user) {
	msg := s.inPath(w, r, u)
	if msg == nil {
		return
	}
	var in newMessage
	if !s.decodeMessage(w, r, &in) {
		return
	}
	properties, ok := s.properties(w, in)
	if !ok {
		return
	}
	if !msg.Draft && (in.Subject != nil || in.Body != nil || in.From != nil || in.To != nil || in.Cc != nil || in.Bcc != nil || in.ReplyTo != nil || in.MessageID != "") {
		s.graphError(w, http.StatusForbidden, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
		return
	}
	if _, ok := properties[stateFlags]; ok || len(in.Attachments) > 0 || len(in.Headers) > 0 {
		// graph-backup.md 2.6: the flags are fixed at the first save.
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidPropertySet", "The property can only be set when the item is created.")
		return
	}
	if msg.Made == nil {
		msg.Made = &created{Properties: map[string]string{}}
	}
	for id, value := range properties {
		msg.Made.Properties[id] = value
	}
	if !s.fill(w, msg, in) {
		return
	}
	if in.IsRead != nil {
		msg.Read = *in.IsRead
	}
	u.Mailbox.touch(msg, s.now())
	s.changed()
	s.item(w, r, messageObject(r, msg), "microsoft.graph.message", fmt.Sprintf("users('%s')/messages", url.PathEscape(u.ID)))
}

// deleteMessage is DELETE.
func (s *Simulator) deleteMessage(w *answer, r *http.Request, _ *caller, u *user) {
	if msg := s.inPath(w, r, u); msg != nil {
		// assumed: message-delete
		u.Mailbox.remove(msg)
		s.changed()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Simulator) addAttachment(w *answer, r *http.Request, _ *caller, u *user) {
	msg := s.inPath(w, r, u)
	if msg == nil {
		return
	}
	var in newAttachment
	if !s.decode(w, r, &in) || !s.mayAttach(w, msg) || !s.attach(w, msg, in) {
		return
	}
	msg.rebuild()
	u.Mailbox.touch(msg, s.now())
	s.changed()
	n := len(msg.Made.Files)
	f := msg.Made.Files[n-1]
	w.graphJSON(http.StatusCreated, object{"@odata.context": graphMeta + "attachments/$entity", "@odata.type": "#microsoft.graph.fileAttachment",
		"id": fmt.Sprintf("%s-A%d", idOf(r, msg), n), "name": f.Name, "contentType": f.Type, "size": len(f.Data), "isInline": f.Inline, "contentId": orNil(f.ContentID),
		"lastModifiedDateTime": stamp(msg.Modified)})
}

// mayAttach says whether a message takes attachments: here, one that was made
// through Graph.
func (s *Simulator) mayAttach(w *answer, msg *message) bool {
	// assumed: attach-to-sent
	if msg.Made == nil {
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidRequest", "The simulated Microsoft Graph adds attachments to messages only that were made through it.")
	}
	return msg.Made != nil
}
