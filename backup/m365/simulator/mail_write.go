package simulator

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
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
