package preview

import (
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	nethtml "golang.org/x/net/html"
)

// Policy is the Content-Security-Policy under which Document is served: no
// script, no request, an origin of its own.
const Policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'; sandbox"

// Document returns the body as one HTML document that holds all it needs.
// Serve it under Policy, in a sandboxed frame.
func (m *Message) Document() string {
	bodies := make([]string, len(m.pieces))
	remote := 0
	onlyText := true
	for i, p := range m.pieces {
		if !p.html {
			bodies[i] = `<pre>` + html.EscapeString(p.text) + `</pre>`
			continue
		}
		onlyText = false
		body, n := m.sanitise(p.text)
		bodies[i], remote = `<div class="html">`+body+`</div>`, remote+n
	}
	if len(bodies) == 0 {
		bodies = []string{`<p class="soft">This message has no text.</p>`}
	}
	if remote > 0 {
		m.note("This message refers to pictures or files on the internet. They are not loaded, so that nobody learns that it was opened.")
	}
	scheme := "light" // what strangers write assumes white paper
	if onlyText {
		scheme = "light dark"
	}
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="und"><head><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Message</title><style>:root{color-scheme:`)
	b.WriteString(scheme)
	b.WriteString(`}body{margin:16px;font:15px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}pre{white-space:pre-wrap;font:inherit;margin:0}` +
		`img{max-width:100%;height:auto}table{max-width:100%}.soft{opacity:.7}[data-link]{text-decoration:underline;text-decoration-style:dotted}` +
		`hr.part{border:0;border-top:1px solid #8884;margin:16px 0}</style></head><body>`)
	b.WriteString(strings.Join(bodies, `<hr class="part">`))
	b.WriteString(`</body></html>`)
	return b.String()
}

// sanitise returns HTML with nothing left that runs, submits or is fetched,
// and how many references to the outside it left out. Pictures of the message
// itself become data: addresses, once for each picture.
func (m *Message) sanitise(source string) (body string, remote int) {
	prepared, remote := m.prepare(source)
	clean := mailPolicy.Sanitize(prepared)
	shown := int64(0)
	clean = inlineImage.ReplaceAllStringFunc(clean, func(attr string) string {
		i, err := strconv.Atoi(inlineImage.FindStringSubmatch(attr)[1])
		if err != nil || i >= len(m.images) || shown+int64(len(m.images[i].data)) > maxImages {
			return ""
		}
		img := m.images[i]
		shown += int64(len(img.data))
		return fmt.Sprintf(`src="data:%s;base64,%s"`, img.mediaType, base64.StdEncoding.EncodeToString(img.data))
	})
	return clean, remote
}

// inlineImage is how prepare writes a reference to one of the message's own
// pictures. Quotes in text are escaped by the sanitiser, so that only an
// attribute can look like this.
var inlineImage = regexp.MustCompile(`src="cid:(\d{1,4})"`)

// prepare rewrites the references of the HTML: pictures of the message get
// their number, the address of a link becomes its tooltip, and everything else
// that would be fetched is dropped and counted. What it returns still has to
// be sanitised.
func (m *Message) prepare(source string) (prepared string, remote int) {
	var b strings.Builder
	tokens := nethtml.NewTokenizer(strings.NewReader(source))
	tokens.SetMaxBuf(maxText * 2)
	for {
		kind := tokens.Next()
		if kind == nethtml.ErrorToken {
			if err := tokens.Err(); !errors.Is(err, io.EOF) {
				m.note("A part of this message is not well formed, so it may be shown incompletely. The download has all of it.")
			}
			return b.String(), remote
		}
		token := tokens.Token()
		if kind == nethtml.StartTagToken || kind == nethtml.SelfClosingTagToken {
			remote += m.prepareAttributes(&token)
		}
		b.WriteString(token.String())
	}
}

func (m *Message) prepareAttributes(token *nethtml.Token) (remote int) {
	kept := token.Attr[:0]
	for _, a := range token.Attr {
		value := strings.TrimSpace(a.Val)
		switch a.Key {
		case "src", "background", "poster", "srcset", "data":
			if id, ok := m.imageOf(value); ok && a.Key == "src" && token.Data == "img" {
				a.Val = id
				kept = append(kept, a)
			} else if isRemote(value) {
				remote++
			}
		case "href":
			if token.Data == "a" && value != "" && !strings.HasPrefix(value, "#") {
				kept = append(kept, nethtml.Attribute{Key: "title", Val: oneLine(value, 500)}, nethtml.Attribute{Key: "data-link", Val: "1"})
			} else if token.Data != "a" && isRemote(value) {
				remote++
			}
		case "title":
			if token.Data != "a" { // a link's tooltip tells where it leads, and nothing else
				kept = append(kept, a)
			}
		default:
			if a.Key == "style" && strings.Contains(strings.ToLower(value), "url(") {
				remote++
			}
			kept = append(kept, a)
		}
	}
	token.Attr = kept
	return remote
}

func isRemote(address string) bool {
	lower := strings.ToLower(address)
	return strings.HasPrefix(lower, "http:") || strings.HasPrefix(lower, "https:") || strings.HasPrefix(lower, "//")
}

// imageOf returns "cid:N" for a reference to picture N of the message.
func (m *Message) imageOf(address string) (string, bool) {
	if len(address) < 4 || !strings.EqualFold(address[:4], "cid:") {
		return "", false
	}
	id := address[4:]
	if decoded, err := url.PathUnescape(id); err == nil {
		id = decoded
	}
	for i, img := range m.images {
		if img.id == id {
			return "cid:" + strconv.Itoa(i), true
		}
	}
	return "", false
}

// mailPolicy allows what mail is written with, and nothing that acts.
var mailPolicy = newMailPolicy()

func newMailPolicy() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("a", "abbr", "address", "article", "aside", "b", "bdi", "bdo", "big", "blockquote", "br", "caption", "center", "cite", "code",
		"col", "colgroup", "dd", "del", "details", "dfn", "div", "dl", "dt", "em", "figcaption", "figure", "font", "footer", "h1", "h2", "h3", "h4", "h5", "h6",
		"header", "hr", "i", "img", "ins", "kbd", "li", "main", "mark", "nav", "ol", "p", "pre", "q", "rp", "rt", "ruby", "s", "samp", "section", "small", "span",
		"strike", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "time", "tr", "tt", "u", "ul", "var", "wbr")
	p.AllowNoAttrs().OnElements("a", "font", "img", "span")
	p.SkipElementsContent("title", "textarea", "select", "option", "template", "svg", "math", "audio", "video", "canvas", "applet")

	number := regexp.MustCompile(`^[0-9]{1,4}(?:\.[0-9]{1,3})?%?$`)
	word := regexp.MustCompile(`^[a-zA-Z-]{1,20}$`)
	colour := regexp.MustCompile(`^(?:#?[0-9a-fA-F]{3,8}|[a-zA-Z]{1,30})$`)
	p.AllowAttrs("width", "height", "border", "cellpadding", "cellspacing", "colspan", "rowspan", "span", "start", "value", "size", "hspace", "vspace").Matching(number).Globally()
	p.AllowAttrs("align", "valign", "dir", "nowrap", "type").Matching(word).Globally()
	p.AllowAttrs("bgcolor", "color").Matching(colour).Globally()
	p.AllowAttrs("face").Matching(regexp.MustCompile(`^[\w ,'-]{1,200}$`)).OnElements("font")
	p.AllowAttrs("alt", "title").Globally()
	p.AllowAttrs("data-link").Matching(regexp.MustCompile(`^1$`)).OnElements("a")
	p.AllowAttrs("lang").Matching(regexp.MustCompile(`^[a-zA-Z0-9-]{1,35}$`)).Globally()
	p.AllowAttrs("src").Matching(regexp.MustCompile(`^cid:\d{1,4}$`)).OnElements("img")
	p.AllowURLSchemes("cid")
	p.RequireParseableURLs(true)
	p.AllowStyles("color", "background-color", "font", "font-family", "font-size", "font-style", "font-weight", "font-variant", "line-height", "letter-spacing",
		"text-align", "text-decoration", "text-indent", "text-transform", "vertical-align", "white-space", "direction", "list-style-type",
		"width", "max-width", "min-width", "height", "max-height", "min-height", "display", "float", "clear",
		"margin", "margin-top", "margin-right", "margin-bottom", "margin-left", "padding", "padding-top", "padding-right", "padding-bottom", "padding-left",
		"border", "border-top", "border-right", "border-bottom", "border-left", "border-color", "border-style", "border-width", "border-radius",
		"border-collapse", "border-spacing", "table-layout").MatchingHandler(harmlessStyle).Globally()
	return p
}

// harmlessStyle accepts values that can't fetch, run or escape anything.
func harmlessStyle(value string) bool { return len(value) <= 200 && plainStyle.MatchString(value) }

var plainStyle = regexp.MustCompile(`^(?:[\w\s#%.,!'"+-]|rgba?\([\d\s.,%/]+\))*$`)
