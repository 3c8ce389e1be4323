package simulator

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// deltaCursor is what a $skiptoken or $deltatoken stands for. Options are
// given once; the links carry them on (graph-backup.md, 2.2).
type deltaCursor struct {
	Folder string
	Since  int64  // changes up to here were given before; 0 lists everything
	Until  int64  // changes up to here are given in this round
	After  int64  // number of the last message, or index of the next folder, of the page before
	Last   string // immutable id of the last message of the page before
	Left   int    // of $top, which caps the whole round; -1 without
	Given  bool   // something of the round was given
	Epoch  int64
	Select string
	Filter string
	Types  string // changeType
	IDType string
}

// mostFiltered is how many messages a delta with $filter gives
// (graph-backup.md 2.2).
const mostFiltered = 5000

// newRound reads the options of the first request of a delta.
func (s *Simulator) newRound(w *answer, r *http.Request, c *caller, m *mailbox, folder string) (cur deltaCursor, ok bool) {
	q := r.URL.Query()
	takes := []string{"$select", "$deltatoken", "$skiptoken"} // an empty token begins anew
	if folder != "" {
		takes = append(takes, "$top", "$filter", "$orderby")
	}
	if !s.takesOptions(w, r, takes...) {
		return cur, false
	}
	cur = deltaCursor{Folder: folder, Until: m.Seq, Left: -1, Epoch: m.Epoch, Select: q.Get("$select"), Filter: q.Get("$filter"), Types: q.Get("changeType"), IDType: prefer(r, "IdType")}
	if n, err := strconv.Atoi(q.Get("$top")); err == nil {
		cur.Left = n
	} else if cur.Filter != "" {
		cur.Left = mostFiltered
	}
	_, err := messageFilter(cur.Filter, true)
	order, types := q.Get("$orderby"), []string{"", "created", "updated", "deleted"}
	switch {
	case err != nil || order != "" && !strings.EqualFold(order, "receivedDateTime desc"):
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidUrlQueryFilter", "The query filter or order is not supported for change tracking.")
		return cur, false
	case !slices.Contains(types, cur.Types):
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidUrlQuery", "The changeType is not supported.")
		return cur, false
	case folder != "" && s.fault(r, c, "delta_untracked") != nil:
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidRequest", "Change tracking is not supported against '"+folder+"'.")
		return cur, false
	}
	return cur, true
}

// deltaRound reads the cursor of a request, or begins a round.
func (s *Simulator) deltaRound(w *answer, r *http.Request, c *caller, m *mailbox, folder string) (cur deltaCursor, ok bool) {
	q := r.URL.Query()
	if folder != "" && s.fault(r, c, "delta_quota") != nil {
		s.graphError(w, http.StatusForbidden, "ErrorQuotaExceeded", "The mailbox has exceeded its quota; the state of synchronization can't be stored.")
		return cur, false
	}
	token := firstOf(q.Get("$deltatoken"), q.Get("$skiptoken"))
	if token == "" {
		return s.newRound(w, r, c, m, folder)
	}
	switch {
	case s.fault(r, c, "delta_unsupported") != nil:
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidParameter", "Parameter 'DeltaToken' not supported for this request.")
		return cur, false
	case s.fault(r, c, "delta_resync") != nil:
		w.header.Set("Location", selfURL(r, url.Values{"$deltatoken": {""}}))
		s.graphError(w, http.StatusGone, "resyncRequired", "Resync required. Replace any local items with the server's version.")
		return cur, false
	case s.fault(r, c, "delta_expired_40x") != nil:
		s.graphError(w, http.StatusNotFound, "syncStateNotFound", "The sync state generation is not found.")
		return cur, false
	case decodeCursor(token, &cur) != nil || cur.Folder != folder || cur.Epoch != m.Epoch || s.fault(r, c, "delta_expired") != nil:
		// Exchange's answer to a token it no longer knows; some stores say 410.
		s.graphError(w, http.StatusGone, "SyncStateNotFound", "The sync state generation is not found.")
		return cur, false
	case cur.IDType != prefer(r, "IdType"):
		// assumed: delta-id-type
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidRequest", "The type of ids differs from that of the token.")
		return cur, false
	}
	if q.Get("$deltatoken") != "" {
		cur.Until, cur.After, cur.Left, cur.Given, cur.Last = m.Seq, 0, -1, false, ""
		if s.fault(r, c, "delta_since_always") != nil {
			cur.Since = 0
		}
	}
	return cur, true
}

func (s *Simulator) messageDelta(w *answer, r *http.Request, c *caller, u *user) {
	m := u.Mailbox
	f := m.folder(r.PathValue("folder"))
	if f == nil {
		s.graphError(w, http.StatusNotFound, "ErrorSyncFolderNotFound", "The specified folder could not be found in the store.")
		return
	}
	cur, ok := s.deltaRound(w, r, c, m, f.ID)
	if !ok {
		return
	}
	size := pageSize(w, r, 10)
	if cur.After == 0 && s.fault(r, c, "delta_empty_page") != nil {
		size = 0
	}
	show := func(msg *message) (object, bool) {
		o, ok := s.picked(w, cur.Select, "microsoft.graph.message", s.fullMessage(r, c, u, msg, cur.Select))
		if ok {
			o["@odata.type"] = "#microsoft.graph.message"
		}
		return o, ok
	}
	var value []object
	if last := m.message(cur.Last); last != nil && last.Folder == f.ID && s.fault(r, c, "delta_overlap") != nil {
		if o, ok := show(last); ok {
			value = append(value, o)
		}
	}
	page, more, ok := m.deltaPage(&cur, size, show)
	if !ok {
		return
	}
	if value = append(value, page...); s.fault(r, c, "delta_replay") != nil {
		value = append(value, value...)
	}
	s.deltaAnswer(w, r, c, "Collection(message)", value, cur, more)
}

// deltaAnswer answers a page with the link to go on.
func (s *Simulator) deltaAnswer(w *answer, r *http.Request, c *caller, context string, value []object, cur deltaCursor, more bool) {
	out := object{"@odata.context": graphMeta + context + selectContext(cur.Select), "value": append([]object{}, value...)}
	name, key := "@odata.nextLink", "$skiptoken"
	if !more {
		cur.Since, cur.Until, cur.After, cur.Last = cur.Until, 0, 0, ""
		name, key = "@odata.deltaLink", "$deltatoken"
	}
	link := selfURL(r, url.Values{key: {encodeCursor(cur)}})
	if s.fault(r, c, "delta_bad_link") != nil {
		link = strings.Replace(link, "/users/", "/users//", 1)
	}
	out[name] = link
	w.graphJSON(http.StatusOK, out)
}

// changedIn says whether a round tells of a message.
func (cur *deltaCursor) changedIn(msg *message) bool {
	seq := msg.Seq
	if cur.Select == "" || named("isRead", strings.Split(cur.Select, ",")...) {
		seq = max(seq, msg.ReadSeq)
	}
	if cur.Since == 0 {
		return true // a first round gives what there is
	}
	if seq <= cur.Since || seq > cur.Until {
		return false
	}
	created := msg.BornSeq > cur.Since
	return cur.Types == "" || cur.Types == "created" && created || cur.Types == "updated" && !created
}

// deltaPage collects a page: first what was removed, with the first page, then
// changed messages by number.
func (m *mailbox) deltaPage(cur *deltaCursor, size int, show func(*message) (object, bool)) (value []object, more, ok bool) {
	if !cur.Given && cur.Since > 0 && (cur.Types == "" || cur.Types == "deleted") {
		for _, gone := range m.Removals {
			if gone.Folder == cur.Folder && gone.Message != "" && gone.Seq > cur.Since && gone.Seq <= cur.Until {
				id := gone.RestID
				if strings.EqualFold(cur.IDType, "ImmutableId") {
					id = gone.Message
				}
				value = append(value, object{"@odata.type": "#microsoft.graph.message", "id": id, "@removed": object{"reason": "deleted"}})
			}
		}
	}
	cur.Given = true
	match, err := messageFilter(cur.Filter, true)
	if err != nil {
		return value, false, true // was checked when the round began
	}
	for _, msg := range m.Messages {
		if msg.Folder != cur.Folder || msg.Number <= cur.After || !cur.changedIn(msg) || !match(msg) {
			continue
		}
		if cur.Left == 0 {
			return value, false, true
		}
		if size <= 0 {
			return value, true, true
		}
		o, ok := show(msg)
		if !ok {
			return nil, false, false
		}
		value = append(value, o)
		cur.After, cur.Last, size = msg.Number, msg.ID, size-1
		if cur.Left > 0 {
			cur.Left--
		}
	}
	return value, false, true
}

func (s *Simulator) folderDelta(w *answer, r *http.Request, c *caller, u *user) {
	m := u.Mailbox
	cur, ok := s.deltaRound(w, r, c, m, "")
	if !ok {
		return
	}
	value := []object{}
	if !cur.Given && cur.Since > 0 {
		for _, gone := range m.Removals {
			if gone.Message == "" && gone.Seq > cur.Since && gone.Seq <= cur.Until {
				value = append(value, object{"@odata.type": "#microsoft.graph.mailFolder", "id": gone.Folder, "@removed": object{"reason": "deleted"}})
			}
		}
	}
	cur.Given = true
	size, more := pageSize(w, r, 10), false
	for _, f := range m.Folders {
		// assumed: folder-delta-hidden
		// assumed: folder-delta-counts
		if f.Hidden || f.Seq <= cur.Since || f.Number <= cur.After || f.WellKnown == "searchfolders" || f.Parent == "" && f.WellKnown != "msgfolderroot" {
			continue
		}
		if size == 0 {
			more = true
			break
		}
		o, ok := s.picked(w, cur.Select, "microsoft.graph.mailFolder", folderObject(m, f))
		if !ok {
			return
		}
		value = append(value, o)
		cur.After = f.Number
		size--
	}
	s.deltaAnswer(w, r, c, fmt.Sprintf("users('%s')/mailFolders/$delta", url.PathEscape(u.ID)), value, cur, more)
}

// forgetRemovals keeps the list of removals short: what no living token can
// ask for is dropped by expiring the tokens.
func (m *mailbox) forgetRemovals() {
	const most = 100_000
	if len(m.Removals) > most {
		m.Removals = slices.Clone(m.Removals[len(m.Removals)/2:])
		m.Epoch++
	}
}
