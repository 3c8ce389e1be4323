package simulator

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// handler answers a request. It runs with the simulator's mutex held and
// writes into a buffered answer. c is who calls, nil on hosts without tokens.
type handler func(w *answer, r *http.Request, c *caller)

// router finds the route of a path. Unlike http.ServeMux it knows OData's
// spellings: users('a@b'), delta(), applications(appId='…').
type router struct {
	routes  []route
	onError func(error)
}

type route struct {
	method     string
	template   string // as registered
	segments   []string
	names      []string // of parameters, "" for a literal
	handler    handler
	permission permit
}

// handle registers a handler. Segments in braces are parameters, read with
// r.PathValue.
func (rt *router) handle(method, template string, h handler) *route {
	segments := splitPath(template)
	names := make([]string, len(segments))
	for i, seg := range segments {
		if strings.HasPrefix(seg, "{") && strings.HasSuffix(seg, "}") {
			names[i] = seg[1 : len(seg)-1]
		}
	}
	rt.routes = append(rt.routes, route{method: method, template: template, segments: segments, names: names, handler: h})
	return &rt.routes[len(rt.routes)-1]
}

// find returns the best route for the segments, with literals before
// parameters from left to right, and the methods that the path has.
func (rt *router) find(method string, segments []string) (best *route, methods []string) {
	for i := range rt.routes {
		r := &rt.routes[i]
		if !r.matches(segments) {
			continue
		}
		if r.method != method {
			methods = append(methods, r.method)
			continue
		}
		if best == nil || r.before(best) {
			best = r
		}
	}
	return best, methods
}

func (r *route) matches(segments []string) bool {
	if len(segments) != len(r.segments) {
		return false
	}
	for i, name := range r.names {
		if name == "" && !strings.EqualFold(segments[i], r.segments[i]) || name != "" && segments[i] == "" {
			return false
		}
	}
	return true
}

func (r *route) before(other *route) bool {
	for i := range r.names {
		if (r.names[i] == "") != (other.names[i] == "") {
			return r.names[i] == ""
		}
	}
	return false
}

// bind makes the parameters readable with r.PathValue.
func (r *route) bind(req *http.Request, segments []string) {
	for i, name := range r.names {
		if name != "" {
			req.SetPathValue(name, segments[i])
		}
	}
}

// key is method and template with nameless parameters, as the permission
// table is indexed.
func (r *route) key() string { return routeKey(r.method, r.template) }

var parameter = regexp.MustCompile(`\{[^}]*\}`)

func routeKey(method, template string) string {
	segments := splitPath(template)
	for i, seg := range segments {
		segments[i] = parameter.ReplaceAllString(seg, "{}")
	}
	return method + " /" + strings.Join(segments, "/")
}

// call matches name('key'), name(key='value') and name().
var call = regexp.MustCompile(`^([A-Za-z.]+)\((?:([A-Za-z]+)=)?(?:'((?:[^']|'')*)')?\)$`)

// boundNames are the functions and actions that may be written with the
// namespace in front.
var boundNames = []string{"delta", "addPassword", "removePassword", "addKey", "removeKey", "restore", "getByIds", "move", "copy", "send", "translateExchangeIds"}

// splitPath cuts an escaped path into its segments, unescaped and in one
// spelling: users('a') is users/a, delta() is delta, and
// applications(appId='a') is applications(appId)/a.
func splitPath(path string) []string {
	var segments []string
	for raw := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		seg, err := url.PathUnescape(raw)
		if err != nil {
			seg = raw
		}
		m := call.FindStringSubmatch(seg)
		switch {
		case m == nil:
			segments = append(segments, bareName(seg))
		case m[2] != "":
			segments = append(segments, m[1]+"("+m[2]+")", strings.ReplaceAll(m[3], "''", "'"))
		case strings.HasSuffix(seg, "()"):
			segments = append(segments, bareName(m[1]))
		default:
			segments = append(segments, m[1], strings.ReplaceAll(m[3], "''", "'"))
		}
	}
	return segments
}

func bareName(seg string) string {
	name, ok := strings.CutPrefix(seg, "microsoft.graph.")
	if ok && slices.Contains(boundNames, name) {
		return name
	}
	return seg
}

// graph registers a Graph call, for v1.0 and beta. Which permissions allow it
// is read from Microsoft's table by the template, in which the names of
// parameters do not matter. For a call that the table does not list, needs
// says it.
func (s *Simulator) graph(method, template string, h handler, needs ...permit) {
	r := s.routes[HostGraph].handle(method, template, h)
	if len(needs) > 0 {
		r.permission = needs[0]
		return
	}
	p, ok := s.permits[r.key()]
	if !ok {
		s.routes[HostGraph].onError(fmt.Errorf("no permission known for %s %s", method, template))
	}
	r.permission = p
}

// exchangeREST registers a call of the Exchange admin REST interface. The
// token is validated for Exchange's audience before.
func (s *Simulator) exchangeREST(method, template string, h handler) {
	s.routes[HostExchange].handle(method, template, h)
}

// open registers a call on a host that needs no token.
func (s *Simulator) open(host, method, template string, h handler) {
	s.routes[host].handle(method, template, h)
}

// control registers a control path; template follows /_simulator.
func (s *Simulator) control(method, template string, h handler) {
	s.routes[hostControl].handle(method, template, h)
}
