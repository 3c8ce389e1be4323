package simulator

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Permissions of calls that Microsoft's table lists under another path only.
var (
	mailRead  = needs("Mail.Read Mail.ReadWrite", "Mail.Read Mail.ReadWrite")
	mailBasic = needs("Mail.ReadBasic.All Mail.Read Mail.ReadWrite", "Mail.ReadBasic Mail.Read Mail.ReadWrite")
	settings  = needs("MailboxSettings.Read MailboxSettings.ReadWrite", "MailboxSettings.Read MailboxSettings.ReadWrite")
)

// mailRoutes registers the mail endpoints of Graph, reports, mailbox settings
// and the mail control paths.
func (s *Simulator) mailRoutes() {
	s.playsFaults("delta_expired", "delta_unsupported", "delta_quota", "delta_empty_page", "delta_replay")
	s.graph("GET", "/users/{user}/mailFolders", s.inMailbox(s.listFolders), mailBasic)
	s.graph("GET", "/users/{user}/mailFolders/delta", s.inMailbox(s.folderDelta), mailBasic)
	s.graph("GET", "/users/{user}/mailFolders/{folder}", s.inMailbox(s.showFolder), mailBasic)
	s.graph("GET", "/users/{user}/mailFolders/{folder}/childFolders", s.inMailbox(s.listFolders), mailBasic)
	s.graph("GET", "/users/{user}/mailFolders/{folder}/messages", s.inMailbox(s.listMessages), mailBasic)
	s.graph("GET", "/users/{user}/mailFolders/{folder}/messages/delta", s.inMailbox(s.messageDelta), mailBasic)
	s.graph("GET", "/users/{user}/messages", s.inMailbox(s.listMessages), mailBasic)
	s.graph("GET", "/users/{user}/messages/{message}", s.inMailbox(s.showMessage), mailBasic)
	s.graph("GET", "/users/{user}/messages/{message}/$value", s.inMailbox(s.messageContent), mailRead)
	s.graph("GET", "/users/{user}/mailFolders/{folder}/messages/{message}/$value", s.inMailbox(s.messageContent), mailRead)
	s.graph("GET", "/users/{user}/mailboxSettings", s.inMailbox(s.mailboxSettings), settings)
	s.graph("GET", "/users/{user}/mailboxSettings/userPurpose", s.inMailbox(s.userPurpose), settings)
	s.reportRoutes()
	s.mailControlRoutes()
}

// mailHandler answers a request for a mailbox that can be reached.
type mailHandler func(w *answer, r *http.Request, c *caller, u *user)

// inMailbox finds the mailbox of a path, or answers as Exchange does when
// there is none (graph-backup.md, 1.3).
func (s *Simulator) inMailbox(then mailHandler) handler {
	return func(w *answer, r *http.Request, c *caller) {
		name := r.PathValue("user")
		u := c.Tenant.userOf(name)
		switch {
		case u == nil:
			s.graphError(w, http.StatusNotFound, "ErrorInvalidUser", "The requested user '"+name+"' is invalid.")
		case u.Mailbox == nil || !u.served():
			s.graphError(w, http.StatusNotFound, "MailboxNotEnabledForRESTAPI", "The mailbox is either inactive, soft-deleted, or is hosted on-premise.")
		case c.User != nil && c.User != u:
			// assumed: delegated-other-mailbox
			s.graphError(w, http.StatusForbidden, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
		default:
			then(w, r, c, u)
		}
	}
}

// served says whether Exchange serves the mailbox: with a plan that is enabled
// or in its grace time, or for a kind that needs none.
func (u *user) served() bool {
	status := u.mailboxPlanStatus()
	return u.Kind != "user" || status == "Enabled" || status == "Warning"
}

// folderObject is a folder as Graph shows it.
func folderObject(m *mailbox, f *mailFolder) object {
	total, unread := m.counts(f.ID)
	o := object{
		"id": f.ID, "displayName": f.Name, "parentFolderId": orNil(f.Parent), "childFolderCount": len(m.children(f.ID)),
		"totalItemCount": total, "unreadItemCount": unread, "isHidden": f.Hidden, "sizeInBytes": nil,
	}
	if f.Search {
		o["@odata.type"] = "#microsoft.graph.mailSearchFolder"
		o["isSupported"], o["includeNestedFolders"], o["filterQuery"], o["sourceFolderIds"] = true, true, "isRead eq false", []string{}
	}
	return o
}

// picked keeps what $select names of an item of Exchange, with its id and
// annotations. Unlike the directory, Exchange ignores nothing: an unknown name
// is refused.
func (s *Simulator) picked(w *answer, sel, kind string, o object) (object, bool) {
	if sel == "" {
		return o, true
	}
	chosen := object{"id": o["id"]}
	for key, v := range o {
		if strings.HasPrefix(key, "@") {
			chosen[key] = v
		}
	}
	for name := range strings.SplitSeq(sel, ",") {
		key, ok := keyOf(o, strings.TrimSpace(name))
		if !ok {
			s.graphError(w, http.StatusBadRequest, "RequestBroker--ParseUri", fmt.Sprintf("Could not find a property named '%s' on type '%s'.", name, kind))
			return nil, false
		}
		chosen[key] = o[key]
	}
	return chosen, true
}

// pageSize is what Prefer, or $top, or the default says.
func pageSize(w *answer, r *http.Request, usual int) int {
	if n, err := strconv.Atoi(prefer(r, "odata.maxpagesize")); err == nil && n >= 1 && n <= 1000 {
		w.header.Set("Preference-Applied", "odata.maxpagesize="+strconv.Itoa(n))
		return n
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("$top")); err == nil && n >= 1 && n <= 1000 {
		return n
	}
	return usual
}

func (s *Simulator) listFolders(w *answer, r *http.Request, _ *caller, u *user) {
	m := u.Mailbox
	parent := m.folder("msgfolderroot")
	if name := r.PathValue("folder"); name != "" {
		if parent = m.folder(name); parent == nil {
			s.noFolder(w)
			return
		}
	}
	hidden := strings.EqualFold(r.URL.Query().Get("includeHiddenFolders"), "true")
	var all []object
	for _, f := range m.children(parent.ID) {
		if !f.Hidden || hidden {
			all = append(all, folderObject(m, f))
		}
	}
	s.mailPage(w, r, all, "microsoft.graph.mailFolder", fmt.Sprintf("users('%s')/mailFolders", url.PathEscape(u.ID)), 10)
}

// mailPage answers one page of items of Exchange.
func (s *Simulator) mailPage(w *answer, r *http.Request, all []object, kind, where string, usual int) {
	q := r.URL.Query()
	skip, err := strconv.Atoi(q.Get("$skip"))
	if q.Get("$skip") != "" && (err != nil || skip < 0) {
		s.graphError(w, http.StatusBadRequest, "BadRequest", "Invalid $skip.")
		return
	}
	size := pageSize(w, r, usual)
	end := min(skip+size, len(all))
	value := []object{}
	for _, o := range all[min(skip, len(all)):end] {
		chosen, ok := s.picked(w, q.Get("$select"), kind, o)
		if !ok {
			return
		}
		value = append(value, chosen)
	}
	out := object{"@odata.context": graphMeta + where + selectContext(q.Get("$select")), "value": value}
	if strings.EqualFold(q.Get("$count"), "true") {
		out["@odata.count"] = len(all)
	}
	if end < len(all) {
		q.Set("$skip", strconv.Itoa(end))
		out["@odata.nextLink"] = selfURL(r, q)
	}
	w.graphJSON(http.StatusOK, out)
}

func (s *Simulator) noFolder(w *answer) {
	s.graphError(w, http.StatusNotFound, "ErrorItemNotFound", "The specified folder could not be found in the store.")
}

func (s *Simulator) noItem(w *answer) {
	s.graphError(w, http.StatusNotFound, "ErrorItemNotFound", "The specified object was not found in the store.")
}

func (s *Simulator) showFolder(w *answer, r *http.Request, _ *caller, u *user) {
	f := u.Mailbox.folder(r.PathValue("folder"))
	if f == nil {
		s.noFolder(w)
		return
	}
	s.item(w, r, folderObject(u.Mailbox, f), "microsoft.graph.mailFolder", fmt.Sprintf("users('%s')/mailFolders", url.PathEscape(u.ID)))
}

func (s *Simulator) item(w *answer, r *http.Request, o object, kind, where string) {
	sel := r.URL.Query().Get("$select")
	chosen, ok := s.picked(w, sel, kind, o)
	if !ok {
		return
	}
	chosen["@odata.context"] = graphMeta + where + selectContext(sel) + "/$entity"
	w.graphJSON(http.StatusOK, chosen)
}

// idOf is the id of a message that the request asked for: the immutable one
// only with Prefer: IdType="ImmutableId".
func idOf(r *http.Request, msg *message) string {
	if strings.EqualFold(prefer(r, "IdType"), "ImmutableId") {
		return msg.ID
	}
	return msg.RestID
}

func recipient(a address) object {
	return object{"emailAddress": object{"name": a.Name, "address": a.Address}}
}

// messageObject is a message as Graph shows it. basic leaves out what
// Mail.ReadBasic does not give.
func messageObject(r *http.Request, msg *message, basic bool) object {
	to := []object{}
	for _, a := range msg.To {
		to = append(to, recipient(a))
	}
	category := msg.Category
	if category == nil {
		category = []string{}
	}
	o := object{
		"@odata.etag": `W/"` + msg.ChangeKey + `"`, "id": idOf(r, msg), "changeKey": msg.ChangeKey, "parentFolderId": msg.Folder,
		"createdDateTime": stamp(msg.Created), "lastModifiedDateTime": stamp(msg.Modified), "receivedDateTime": stamp(msg.Received), "sentDateTime": stamp(msg.Sent),
		"subject": msg.Subject, "from": nil, "sender": nil, "toRecipients": to, "ccRecipients": []object{}, "bccRecipients": []object{}, "replyTo": []object{},
		"internetMessageId": msg.MessageID, "hasAttachments": msg.Attached, "importance": msg.Weight, "isRead": msg.Read, "isDraft": msg.Draft,
		"categories": category, "flag": object{"flagStatus": msg.Flag}, "conversationId": "AAQk" + msg.ID[6:38], "inferenceClassification": "focused",
		"webLink": "https://outlook.office365.com/owa/?ItemID=" + url.QueryEscape(msg.RestID) + "&viewmodel=ReadMessageItem",
	}
	if msg.From != (address{}) {
		o["from"], o["sender"] = recipient(msg.From), recipient(msg.From)
	}
	if !basic {
		o["bodyPreview"] = ""
	}
	return o
}

// basic says whether the caller may see basic properties only.
func basicOnly(c *caller) bool {
	if c.User != nil {
		return !c.hasScope("Mail.Read", "Mail.ReadWrite")
	}
	return c.has("Mail.ReadBasic.All") && !c.has("Mail.Read", "Mail.ReadWrite")
}

func (s *Simulator) listMessages(w *answer, r *http.Request, c *caller, u *user) {
	m := u.Mailbox
	folder := ""
	if name := r.PathValue("folder"); name != "" {
		f := m.folder(name)
		if f == nil {
			s.noFolder(w)
			return
		}
		folder = f.ID
	}
	var list []*message
	for _, msg := range m.Messages {
		if folder == "" || msg.Folder == folder {
			list = append(list, msg)
		}
	}
	slices.SortStableFunc(list, func(a, b *message) int { return b.Received.Compare(a.Received) })
	all := make([]object, len(list))
	for i, msg := range list {
		all[i] = messageObject(r, msg, basicOnly(c))
	}
	s.mailPage(w, r, all, "microsoft.graph.message", fmt.Sprintf("users('%s')/messages", url.PathEscape(u.ID)), 10)
}

func (s *Simulator) showMessage(w *answer, r *http.Request, c *caller, u *user) {
	msg := u.Mailbox.message(r.PathValue("message"))
	if msg == nil {
		s.noItem(w)
		return
	}
	s.item(w, r, messageObject(r, msg, basicOnly(c)), "microsoft.graph.message", fmt.Sprintf("users('%s')/messages", url.PathEscape(u.ID)))
}

// messageContent gives the MIME text, byte for byte.
func (s *Simulator) messageContent(w *answer, r *http.Request, _ *caller, u *user) {
	msg := u.Mailbox.message(r.PathValue("message"))
	if msg == nil {
		s.noItem(w)
		return
	}
	src, mail := msg.Body, s.options.Mail
	w.streamBody("text/plain", src.Size, func() (io.ReadCloser, error) { return src.open(mail) })
}

func (s *Simulator) mailboxSettings(w *answer, r *http.Request, _ *caller, u *user) {
	o := object{"id": u.ID, "userPurpose": u.Kind, "timeZone": "UTC", "archiveFolder": u.Mailbox.folder("archive").ID,
		"dateFormat": "yyyy-MM-dd", "timeFormat": "HH:mm", "delegateMeetingMessageDeliveryOptions": "sendToDelegateOnly"}
	sel := r.URL.Query().Get("$select")
	chosen, ok := s.picked(w, sel, "microsoft.graph.mailboxSettings", o)
	if !ok {
		return
	}
	delete(chosen, "id")
	chosen["@odata.context"] = graphMeta + fmt.Sprintf("users('%s')/mailboxSettings", url.PathEscape(u.ID)) + selectContext(sel)
	w.graphJSON(http.StatusOK, chosen)
}

func (s *Simulator) userPurpose(w *answer, _ *http.Request, _ *caller, u *user) {
	w.graphJSON(http.StatusOK, object{"@odata.context": graphMeta + fmt.Sprintf("users('%s')/mailboxSettings/userPurpose", url.PathEscape(u.ID)), "value": u.Kind})
}
