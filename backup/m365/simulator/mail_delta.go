package simulator

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// deltaCursor is what a $skiptoken or $deltatoken stands for. Options are
// given once; the links carry them on (graph-backup.md, 2.2).
type deltaCursor struct {
	Folder string
	Since  int64 // changes up to here were given before; 0 lists everything
	Until  int64 // changes up to here are given in this round
	After  int64 // number of the last message of the page before
	Left   int   // of $top, which caps the whole round; -1 without
	Given  bool  // something of the round was given
	Epoch  int64
	Select string
	IDType string
}

// deltaRound reads the cursor of a request, or begins a round.
func (s *Simulator) deltaRound(w *answer, r *http.Request, c *caller, m *mailbox, folder string) (cur deltaCursor, ok bool) {
	q := r.URL.Query()
	token := firstOf(q.Get("$deltatoken"), q.Get("$skiptoken"))
	if token == "" {
		left := -1
		if top := q.Get("$top"); top != "" {
			n, err := strconv.Atoi(top)
			if err != nil || n < 1 {
				s.graphError(w, http.StatusBadRequest, "BadRequest", "Invalid $top.")
				return cur, false
			}
			left = n
		}
		return deltaCursor{Folder: folder, Until: m.Seq, Left: left, Epoch: m.Epoch, Select: q.Get("$select"), IDType: prefer(r, "IdType")}, true
	}
	switch {
	case s.fault(r, c, "delta_unsupported") != nil:
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidParameter", "Parameter 'DeltaToken' not supported for this request.")
		return cur, false
	case s.fault(r, c, "delta_quota") != nil:
		s.graphError(w, http.StatusForbidden, "ErrorQuotaExceeded", "The process failed to get the correct properties.")
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
		cur.Until, cur.After, cur.Left, cur.Given = m.Seq, 0, -1, false
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
	value, more, ok := s.deltaPage(w, r, c, m, &cur, size)
	if !ok {
		return
	}
	if s.fault(r, c, "delta_replay") != nil {
		value = append(value, value...)
	}
	out := object{"@odata.context": graphMeta + "Collection(message)", "value": value}
	if more {
		out["@odata.nextLink"] = selfURL(r, url.Values{"$skiptoken": {encodeCursor(cur)}})
	} else {
		next := cur
		next.Since, next.Until, next.After = cur.Until, 0, 0
		out["@odata.deltaLink"] = selfURL(r, url.Values{"$deltatoken": {encodeCursor(next)}})
	}
	w.graphJSON(http.StatusOK, out)
}

// deltaPage collects a page: first what was removed, with the first page, then
// changed messages by number.
func (s *Simulator) deltaPage(w *answer, r *http.Request, c *caller, m *mailbox, cur *deltaCursor, size int) (value []object, more, ok bool) {
	value = []object{}
	if !cur.Given && cur.Since > 0 {
		for _, gone := range m.Removals {
			if gone.Folder == cur.Folder && gone.Message != "" && gone.Seq > cur.Since && gone.Seq <= cur.Until {
				id := gone.RestID
				if cur.IDType != "" {
					id = gone.Message
				}
				value = append(value, object{"@odata.type": "#microsoft.graph.message", "id": id, "@removed": object{"reason": "deleted"}})
			}
		}
	}
	cur.Given = true
	for _, msg := range m.Messages {
		if msg.Folder != cur.Folder || msg.Number <= cur.After || msg.Seq <= cur.Since || msg.Seq > cur.Until && cur.Since > 0 {
			continue
		}
		if cur.Left == 0 {
			return value, false, true
		}
		if size <= 0 {
			return value, true, true
		}
		o, ok := s.picked(w, cur.Select, "microsoft.graph.message", messageObject(r, msg, basicOnly(c)))
		if !ok {
			return nil, false, false
		}
		o["@odata.type"] = "#microsoft.graph.message"
		value = append(value, o)
		cur.After, size = msg.Number, size-1
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
				value = append(value, object{"id": gone.Folder, "@removed": object{"reason": "deleted"}})
			}
		}
	}
	cur.Given = true
	size, more := pageSize(w, r, 10), false
	for i, f := range m.Folders {
		// assumed: folder-delta-hidden
		if f.Hidden || f.Seq <= cur.Since || int64(i) < cur.After || f.WellKnown == "searchfolders" || f.Parent == "" && f.WellKnown != "msgfolderroot" {
			continue
		}
		if size == 0 {
			more, cur.After = true, int64(i)
			break
		}
		o, ok := s.picked(w, cur.Select, "microsoft.graph.mailFolder", folderObject(m, f))
		if !ok {
			return
		}
		value = append(value, o)
		size--
	}
	out := object{"@odata.context": graphMeta + fmt.Sprintf("users('%s')/mailFolders/$delta", url.PathEscape(u.ID)), "value": value}
	if more {
		out["@odata.nextLink"] = selfURL(r, url.Values{"$skiptoken": {encodeCursor(cur)}})
	} else {
		next := cur
		next.Since, next.Until, next.After = cur.Until, 0, 0
		out["@odata.deltaLink"] = selfURL(r, url.Values{"$deltatoken": {encodeCursor(next)}})
	}
	w.graphJSON(http.StatusOK, out)
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
