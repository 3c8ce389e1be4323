package simulator

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Permissions of calls that Microsoft's table lists under another path only.
var (
	mailRead = needs("Mail.Read Mail.ReadWrite", "Mail.Read Mail.ReadWrite")
	settings = needs("MailboxSettings.Read MailboxSettings.ReadWrite", "MailboxSettings.Read MailboxSettings.ReadWrite")
)

// mailRoutes registers the mail endpoints of Graph, reports, mailbox settings
// and the mail control paths.
func (s *Simulator) mailRoutes() {
	s.playsFaults(mailFaults...)
	s.graph("GET", "/users/{user}/mailFolders", s.inMailbox(s.listFolders))
	s.graph("GET", "/users/{user}/mailFolders/delta", s.inMailbox(s.folderDelta))
	s.graph("GET", "/users/{user}/mailFolders/{folder}", s.inMailbox(s.showFolder))
	s.graph("GET", "/users/{user}/mailFolders/{folder}/childFolders", s.inMailbox(s.listFolders))
	s.graph("GET", "/users/{user}/mailFolders/{folder}/messages", s.inMailbox(s.listMessages))
	s.graph("GET", "/users/{user}/mailFolders/{folder}/messages/delta", s.inMailbox(s.messageDelta))
	s.graph("GET", "/users/{user}/mailFolders/{folder}/messages/{message}", s.inMailbox(s.showMessage))
	s.graph("GET", "/users/{user}/messages", s.inMailbox(s.listMessages))
	s.graph("GET", "/users/{user}/messages/{message}", s.inMailbox(s.showMessage))
	s.graph("GET", "/users/{user}/messages/{message}/$value", s.inMailbox(s.messageContent), mailRead)
	s.graph("GET", "/users/{user}/mailFolders/{folder}/messages/{message}/$value", s.inMailbox(s.messageContent), mailRead)
	s.graph("GET", "/users/{user}/mailboxSettings", s.inMailbox(s.mailboxSettings))
	s.graph("GET", "/users/{user}/mailboxSettings/userPurpose", s.inMailbox(s.userPurpose), settings)
	s.writeRoutes()
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
		if u != nil && u.Mailbox == nil && u.mailboxPlanStatus() == "Enabled" {
			u.Mailbox = newMailbox(u.ID) // a new licence comes with one
			s.changed()
		}
		switch {
		case u == nil:
			s.graphError(w, http.StatusNotFound, "ErrorInvalidUser", "The requested user '"+name+"' is invalid.")
		case u.Mailbox == nil || !u.served():
			s.graphError(w, http.StatusNotFound, "MailboxNotEnabledForRESTAPI", "The mailbox is either inactive, soft-deleted, or is hosted on-premise.")
		case c.User != nil && c.User != u:
			// assumed: delegated-other-mailbox
			s.graphError(w, http.StatusForbidden, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
		case s.overBudget(w, c, u):
		default:
			then(w, r, c, u)
			s.oddJSON(w, r, c)
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
		"totalItemCount": total, "unreadItemCount": unread, "isHidden": f.Hidden,
	}
	if f.Search {
		o["@odata.type"] = "#microsoft.graph.mailSearchFolder"
		o["isSupported"], o["includeNestedFolders"], o["filterQuery"], o["sourceFolderIds"] = true, true, "isRead eq false", []string{m.folder("msgfolderroot").ID}
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
		if strings.HasPrefix(key, "@") || key == "singleValueExtendedProperties" { // expanded
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
	if n, err := strconv.Atoi(prefer(r, "odata.maxpagesize")); err == nil && n >= 1 {
		n = min(n, 1000)
		w.header.Set("Preference-Applied", "odata.maxpagesize="+strconv.Itoa(n))
		return n
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("$top")); err == nil {
		return n
	}
	return usual
}

func (s *Simulator) listFolders(w *answer, r *http.Request, _ *caller, u *user) {
	if !s.takesOptions(w, r, "$select", "$top", "$skip", "$count") {
		return
	}
	m := u.Mailbox
	parent := m.folder("msgfolderroot")
	if name := r.PathValue("folder"); name != "" {
		if parent = m.folder(name); parent == nil {
			s.noFolder(w)
			return
		}
	}
	hidden := strings.EqualFold(r.URL.Query().Get("includeHiddenFolders"), "true")
	list := slices.DeleteFunc(m.children(parent.ID), func(f *mailFolder) bool { return f.Hidden && !hidden })
	s.mailPage(w, r, len(list), func(i int) object { return folderObject(m, list[i]) }, "microsoft.graph.mailFolder", fmt.Sprintf("users('%s')/mailFolders", url.PathEscape(u.ID)), 10)
}

// mailPage answers one page of total items of Exchange; show makes one.
func (s *Simulator) mailPage(w *answer, r *http.Request, total int, show func(int) object, kind, where string, usual int) {
	q := r.URL.Query()
	skip, err := strconv.Atoi(q.Get("$skip"))
	if q.Get("$skip") != "" && (err != nil || skip < 0) {
		s.graphError(w, http.StatusBadRequest, "BadRequest", "Invalid $skip.")
		return
	}
	size := pageSize(w, r, usual)
	end := min(skip+size, total)
	value := []object{}
	for i := min(skip, total); i < end; i++ {
		chosen, ok := s.picked(w, q.Get("$select"), kind, show(i))
		if !ok {
			return
		}
		value = append(value, chosen)
	}
	out := object{"@odata.context": graphMeta + where + selectContext(q.Get("$select")), "value": value}
	if strings.EqualFold(q.Get("$count"), "true") {
		out["@odata.count"] = total
	}
	if end < total {
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
	if !s.takesOptions(w, r, "$select") {
		return
	}
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

func (s *Simulator) mailboxSettings(w *answer, r *http.Request, _ *caller, u *user) {
	o := object{"id": u.ID, "userPurpose": u.Kind, "timeZone": "UTC", "archiveFolder": nil,
		"dateFormat": "yyyy-MM-dd", "timeFormat": "HH:mm", "delegateMeetingMessageDeliveryOptions": "sendToDelegateOnly"}
	if f := u.Mailbox.folder("archive"); f != nil {
		o["archiveFolder"] = f.ID
	}
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
