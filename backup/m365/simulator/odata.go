package simulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// object is a directory object as JSON. "id" is always set.
type object = map[string]any

// collection describes how a kind of objects is listed.
type collection struct {
	context  string   // after $metadata#
	kind     string   // microsoft.graph.user
	defaults []string // what is returned without $select; nil for everything
	page     int      // default page size
	largest  int      // of $top
}

// list answers a collection with $filter, $select, $top, $skiptoken and $count
// (https://learn.microsoft.com/graph/query-parameters). all is in a stable
// order; a skip token names the last object of the page before.
func (s *Simulator) list(w *answer, r *http.Request, c collection, all []object) {
	q := r.URL.Query()
	for name := range q {
		if strings.HasPrefix(name, "$") && !slices.Contains([]string{"$filter", "$select", "$top", "$skiptoken", "$count", "$orderby", "$expand", "$search"}, name) {
			s.badRequest(w, fmt.Sprintf("The query parameter '%s' is not supported.", name))
			return
		}
	}
	if q.Get("$expand") != "" || q.Get("$search") != "" || q.Get("$orderby") != "" {
		s.graphError(w, http.StatusBadRequest, "Request_UnsupportedQuery", "The simulated Microsoft Graph has no $expand, $search and $orderby here.")
		return
	}
	kept, ok := s.filter(w, r, all)
	if !ok {
		return
	}
	size := c.page
	if top := q.Get("$top"); top != "" {
		n, err := strconv.Atoi(top)
		if err != nil || n < 1 || n > c.largest {
			s.badRequest(w, fmt.Sprintf("Invalid page size specified: '%s'. Must be between 1 and %d inclusive.", top, c.largest))
			return
		}
		size = n
	}
	total := len(kept)
	if token := q.Get("$skiptoken"); token != "" {
		last, err := base64.RawURLEncoding.DecodeString(token)
		i := slices.IndexFunc(all, func(o object) bool { return o["id"] == string(last) })
		if err != nil || i < 0 {
			s.graphError(w, http.StatusBadRequest, "Directory_ExpiredPageToken", "The specified page token value has expired and can no longer be included in your request.")
			return
		}
		after := map[any]bool{}
		for _, o := range all[:i+1] {
			after[o["id"]] = true
		}
		kept = slices.DeleteFunc(kept, func(o object) bool { return after[o["id"]] })
	}
	more := len(kept) > size
	if more {
		kept = kept[:size]
	}
	value := make([]object, 0, len(kept))
	for _, o := range kept {
		chosen, ok := s.project(w, q.Get("$select"), c, o)
		if !ok {
			return
		}
		value = append(value, chosen)
	}
	out := object{"@odata.context": graphMeta + c.context + selectContext(q.Get("$select")), "value": value}
	if q.Get("$count") == "true" {
		out["@odata.count"] = total
	}
	if more {
		q.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(kept[size-1]["id"].(string))))
		out["@odata.nextLink"] = selfURL(r, q)
	}
	w.graphJSON(http.StatusOK, out)
}

// one answers a single object with $select.
func (s *Simulator) one(w *answer, r *http.Request, status int, c collection, o object) {
	chosen, ok := s.project(w, r.URL.Query().Get("$select"), c, o)
	if !ok {
		return
	}
	chosen = maps.Clone(chosen)
	chosen["@odata.context"] = graphMeta + c.context + selectContext(r.URL.Query().Get("$select")) + "/$entity"
	w.graphJSON(status, chosen)
}

func selectContext(names string) string {
	if names == "" {
		return ""
	}
	return "(" + names + ")"
}

// project keeps what $select names, or the default properties. A name that the
// type does not have is refused.
func (s *Simulator) project(w *answer, sel string, c collection, o object) (object, bool) {
	names := c.defaults
	if sel != "" && sel != "*" {
		names = strings.Split(sel, ",")
	}
	if names == nil {
		return o, true
	}
	chosen := object{}
	for _, name := range names {
		name = strings.TrimSpace(name)
		key, ok := keyOf(o, name)
		if !ok {
			s.badRequest(w, fmt.Sprintf("Could not find a property named '%s' on type '%s'.", name, c.kind))
			return nil, false
		}
		chosen[key] = o[key]
	}
	return chosen, true
}

// keyOf finds a property whatever its case.
func keyOf(o object, name string) (string, bool) {
	if _, ok := o[name]; ok {
		return name, true
	}
	for key := range o {
		if strings.EqualFold(key, name) {
			return key, true
		}
	}
	return "", false
}

// filter keeps the objects that $filter allows.
func (s *Simulator) filter(w *answer, r *http.Request, all []object) ([]object, bool) {
	text := r.URL.Query().Get("$filter")
	if text == "" {
		return slices.Clone(all), true
	}
	f, err := parseFilter(text)
	if err != nil {
		s.badRequest(w, "Invalid filter clause: "+err.Error())
		return nil, false
	}
	eventual := strings.EqualFold(r.Header.Get("ConsistencyLevel"), "eventual") && r.URL.Query().Get("$count") == "true"
	if f.advanced && !eventual {
		// https://learn.microsoft.com/graph/aad-advanced-queries
		s.graphError(w, http.StatusBadRequest, "Request_UnsupportedQuery", "Operator or function is not supported without the ConsistencyLevel header and $count=true. See https://aka.ms/graph-docs/advanced-queries")
		return nil, false
	}
	var kept []object
	for _, o := range all {
		ok, err := f.match(o)
		if err != nil {
			s.graphError(w, http.StatusBadRequest, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause specified: "+err.Error())
			return nil, false
		}
		if ok {
			kept = append(kept, o)
		}
	}
	return kept, true
}

// cursor is an opaque token of ours: JSON in base64.
func encodeCursor(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic("simulator: cursor: " + err.Error()) // our own structs
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func decodeCursor(token string, v any) error {
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	return nil
}

// prefer reads a preference of the Prefer header, "" if it is not there.
// Several may be in one header.
func prefer(r *http.Request, name string) string {
	for _, line := range r.Header.Values("Prefer") {
		for part := range strings.SplitSeq(line, ",") {
			key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			if strings.EqualFold(strings.TrimSpace(key), name) {
				return strings.Trim(strings.TrimSpace(value), `"`)
			}
		}
	}
	return ""
}

// withQuery is the query of r with some parameters replaced, "" removing them.
func withQuery(r *http.Request, pairs ...string) url.Values {
	q := r.URL.Query()
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Del(pairs[i])
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}
