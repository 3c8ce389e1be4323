package simulator

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// mailFaults are the named faults of mail (graph-backup.md 7.4).
var mailFaults = []string{
	"delta_expired",      // 410 SyncStateNotFound
	"delta_expired_40x",  // 404 syncStateNotFound, which Outlook says too
	"delta_resync",       // 410 resyncRequired with the Location of a new round
	"delta_unsupported",  // 400: Parameter 'DeltaToken' not supported
	"delta_untracked",    // 400: change tracking is not supported, at the first request
	"delta_quota",        // 403 ErrorQuotaExceeded: the mailbox is full
	"delta_empty_page",   // a page without items and with a next one
	"delta_replay",       // every item of the page twice
	"delta_overlap",      // the page begins with the last item of the one before
	"delta_bad_link",     // a next or delta link with users//
	"delta_since_always", // the page tells everything anew, as if nothing had been told
	"mail_odd_json",      // control characters, null arrays, unknown types and properties
	"mime_boundaries",    // $value with other boundaries at each reading
}

// takesOptions refuses query options that a call does not take, and values of
// $top that no call takes. Options that Graph takes and the simulator does not
// are refused too, in its name, rather than ignored.
func (s *Simulator) takesOptions(w *answer, r *http.Request, names ...string) bool {
	for name := range r.URL.Query() {
		if strings.HasPrefix(name, "$") && !slices.Contains(names, name) {
			s.graphError(w, http.StatusBadRequest, "ErrorInvalidUrlQuery", "The simulated Microsoft Graph does not take "+name+" here.")
			return false
		}
	}
	if top := r.URL.Query().Get("$top"); top != "" {
		n, err := strconv.Atoi(top)
		if err != nil || n < 1 {
			s.graphError(w, http.StatusBadRequest, "BadRequest", fmt.Sprintf("Invalid value '%s' for $top query option found.", top))
			return false
		}
		if n > 1000 {
			s.graphError(w, http.StatusBadRequest, "BadRequest", "The limit of '1000' for Top query has been exceeded. The value from the incoming request is '"+top+"'.")
			return false
		}
	}
	return true
}

// messageFilter reads the filters of messages that the simulator has:
// receivedDateTime with ge, gt, le or lt, and isRead eq, joined by and. A delta
// takes ge and gt of receivedDateTime only (graph-backup.md 2.2).
func messageFilter(text string, delta bool) (func(*message) bool, error) {
	if text == "" {
		return func(*message) bool { return true }, nil
	}
	if m := anyProperty.FindStringSubmatch(text); m != nil && !delta {
		id, value := strings.ToLower(m[1]), strings.ReplaceAll(m[2], "''", "'")
		return func(msg *message) bool { return msg.Made != nil && msg.Made.Properties[id] == value }, nil
	}
	var tests []func(*message) bool
	for part := range strings.SplitSeq(text, " and ") {
		words := strings.Fields(part)
		if len(words) != 3 {
			return nil, fmt.Errorf("syntax error in %q", part)
		}
		name, op, value := words[0], words[1], words[2]
		switch {
		case name == "isRead" && op == "eq" && !delta && (value == "true" || value == "false"):
			tests = append(tests, func(m *message) bool { return strconv.FormatBool(m.Read) == value })
		case name == "receivedDateTime" && (op == "ge" || op == "gt" || !delta && (op == "le" || op == "lt")):
			at, err := time.Parse(time.RFC3339, value)
			if err != nil {
				return nil, fmt.Errorf("%q is no time", value)
			}
			tests = append(tests, func(m *message) bool {
				d := m.Received.Compare(at)
				return op == "ge" && d >= 0 || op == "gt" && d > 0 || op == "le" && d <= 0 || op == "lt" && d < 0
			})
		default:
			return nil, fmt.Errorf("%q is not supported", part)
		}
	}
	return func(m *message) bool {
		return !slices.ContainsFunc(tests, func(test func(*message) bool) bool { return !test(m) })
	}, nil
}

// anyProperty is a filter on an extended property
// (https://learn.microsoft.com/graph/api/singlevaluelegacyextendedproperty-get).
var anyProperty = regexp.MustCompile(`^singleValueExtendedProperties/Any\(ep: ep/id eq '((?:[^']|'')*)' and ep/value eq '((?:[^']|'')*)'\)$`)

// expandProperty is the one $expand that lists of messages take here.
var expandProperty = regexp.MustCompile(`^singleValueExtendedProperties\(\$filter=id eq '((?:[^']|'')*)'\)$`)

// expanded reads $expand: the id of an extended property, "" for none.
func (s *Simulator) expanded(w *answer, r *http.Request) (string, bool) {
	text := r.URL.Query().Get("$expand")
	if text == "" {
		return "", true
	}
	m := expandProperty.FindStringSubmatch(text)
	if m == nil || !propertyID.MatchString(m[1]) {
		s.graphError(w, http.StatusBadRequest, "ErrorInvalidUrlQuery", "The simulated Microsoft Graph does not take this $expand.")
		return "", false
	}
	return m[1], true
}

// expand adds an extended property to a message that has it.
func (m *message) expand(o object, id string) {
	if m.Made == nil || id == "" {
		return
	}
	if value, ok := m.Made.Properties[strings.ToLower(id)]; ok {
		o["singleValueExtendedProperties"] = []object{{"id": id, "value": value}}
	}
}

// mailBudget counts the requests of an application for a mailbox in ten minutes.
type mailBudget struct {
	began time.Time
	count int
}

// overBudget counts a request and answers 429 when there were too many in ten
// minutes (graph-backup.md 6.1; TenantSettings.MailLimit).
func (s *Simulator) overBudget(w *answer, c *caller, u *user) bool {
	limit := c.Tenant.Settings.MailLimit
	if limit <= 0 {
		return false
	}
	if s.budgets == nil {
		s.budgets = map[string]*mailBudget{}
	}
	key := c.AppID + "/" + u.ID
	b := s.budgets[key]
	if b == nil || s.now().Sub(b.began) >= 10*time.Minute {
		b = &mailBudget{began: s.now()}
		s.budgets[key] = b
	}
	if b.count++; b.count <= limit {
		return false
	}
	left := 10*time.Minute - s.now().Sub(b.began)
	w.header.Set("Retry-After", strconv.Itoa(int(left/time.Second)+1))
	// assumed: mail-limit-text
	s.graphError(w, http.StatusTooManyRequests, "ApplicationThrottled", "Application is over its MailboxRequests limit.")
	return true
}

// oddJSON plays the fault of JSON as some mailboxes have it: a control
// character in a text, null for an empty list, and what no version of the
// documentation names.
func (s *Simulator) oddJSON(w *answer, r *http.Request, c *caller) {
	if !strings.HasPrefix(w.header.Get("Content-Type"), "application/json") || w.status != http.StatusOK || s.fault(r, c, "mail_odd_json") == nil {
		return
	}
	body := w.body.Bytes()
	body = bytes.ReplaceAll(body, []byte(`"subject":"`), []byte("\"subject\":\"\t\x0b"))
	body = bytes.ReplaceAll(body, []byte(`"categories":[]`), []byte(`"categories":null`))
	body = bytes.ReplaceAll(body, []byte(`"toRecipients":[]`), []byte(`"toRecipients":null`))
	body = bytes.ReplaceAll(body, []byte(`"importance":"normal"`), []byte(`"importance":"unheardOf"`))
	body = bytes.ReplaceAll(body, []byte(`"#microsoft.graph.message"`), []byte(`"#microsoft.graph.eventMessageOfTomorrow","notInAnyDocument":{"x":[1,null]}`))
	body = regexp.MustCompile(`"lastModifiedDateTime":"[^"]*"`).ReplaceAll(body, []byte(`"lastModifiedDateTime":null`))
	w.body.Reset()
	w.body.Write(body)
}
