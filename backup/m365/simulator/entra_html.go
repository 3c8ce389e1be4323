package simulator

import (
	"fmt"
	"html"
	"net/http"
	"strings"
)

// page is one of the simulated sign-in pages. Every one says that it is
// simulated, and has no script and nothing from elsewhere.
type page struct {
	title string
	body  strings.Builder
}

func newPage(title string) *page { return &page{title: title} }

// text appends a paragraph.
func (p *page) text(format string, args ...any) *page {
	fmt.Fprintf(&p.body, "<p>%s</p>\n", html.EscapeString(fmt.Sprintf(format, args...)))
	return p
}

// who appends the account that is signed in.
func (p *page) who(u *user) *page {
	fmt.Fprintf(&p.body, "<p class=\"who\">%s</p>\n", html.EscapeString(u.UPN))
	return p
}

// alert appends what went wrong.
func (p *page) alert(text string) *page {
	if text != "" {
		fmt.Fprintf(&p.body, "<p class=\"alert\" role=\"alert\">%s</p>\n", html.EscapeString(text))
	}
	return p
}

// form opens a form that posts to action, with hidden fields as name, value.
func (p *page) form(action string, hidden ...string) *page {
	fmt.Fprintf(&p.body, "<form method=\"post\" action=\"%s\">\n", html.EscapeString(action))
	for i := 0; i+1 < len(hidden); i += 2 {
		fmt.Fprintf(&p.body, "<input type=\"hidden\" name=\"%s\" value=\"%s\">\n", html.EscapeString(hidden[i]), html.EscapeString(hidden[i+1]))
	}
	return p
}

// input appends a labelled field; attributes are as in HTML, without what came
// from a request.
func (p *page) input(name, label, value, attributes string) *page {
	fmt.Fprintf(&p.body, "<label for=\"%[1]s\">%[2]s</label>\n<input id=\"%[1]s\" name=\"%[1]s\" value=\"%[3]s\" %[4]s>\n",
		html.EscapeString(name), html.EscapeString(label), html.EscapeString(value), attributes)
	return p
}

// check appends a checkbox.
func (p *page) check(name, label string) *page {
	fmt.Fprintf(&p.body, "<label class=\"check\"><input type=\"checkbox\" name=\"%s\" value=\"true\"> %s</label>\n", html.EscapeString(name), html.EscapeString(label))
	return p
}

// buttons appends buttons given as name, value, label; the first is the main
// one. They are named so that what was pressed is known.
func (p *page) buttons(buttons ...string) *page {
	p.body.WriteString("<div class=\"buttons\">\n")
	for i := 0; i+2 < len(buttons); i += 3 {
		class := ""
		if i == 0 {
			class = " class=\"main\""
		}
		fmt.Fprintf(&p.body, "<button%s name=\"%s\" value=\"%s\">%s</button>\n", class, html.EscapeString(buttons[i]), html.EscapeString(buttons[i+1]), html.EscapeString(buttons[i+2]))
	}
	p.body.WriteString("</div>\n")
	return p
}

// choice appends a wide button with a second line.
func (p *page) choice(name, value, label, note string) *page {
	fmt.Fprintf(&p.body, "<button class=\"choice\" name=\"%s\" value=\"%s\"><span>%s</span><small>%s</small></button>\n",
		html.EscapeString(name), html.EscapeString(value), html.EscapeString(label), html.EscapeString(note))
	return p
}

// end closes a form.
func (p *page) end() *page {
	p.body.WriteString("</form>\n")
	return p
}

// raw appends HTML made in this package.
func (p *page) raw(h string) *page {
	p.body.WriteString(h)
	return p
}

// pageStyle is all the look there is.
const pageStyle = `
:root{color-scheme:light dark;--ink:#1f2328;--soft:#57606a;--line:#d0d7de;--card:#fff;--back:#eef1f4;--main:#1f5fa8;--alert:#a40e26;--band:#4b2e83}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#a3adb8;--line:#3a434d;--card:#171c22;--back:#0d1117;--main:#2a6fc0;--alert:#ff9492;--band:#4b2e83}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:flex;flex-direction:column;align-items:center;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
header{width:100%;background:var(--band);color:#fff;text-align:center;padding:.5rem 1rem;font-weight:600}
main{width:min(28rem,calc(100% - 2rem));margin:2.5rem 0 1.5rem;padding:1.75rem;background:var(--card);border:1px solid var(--line);border-radius:10px}
h1{font-size:1.35rem;line-height:1.3;margin:0 0 .75rem}
h2{font-size:1rem;margin:1.25rem 0 .25rem}
p{margin:.5rem 0}
.who{color:var(--soft);overflow-wrap:anywhere}
.alert{color:var(--alert)}
label{display:block;margin:.9rem 0 .25rem;font-weight:600}
label.check{font-weight:400}
input:not([type=checkbox]):not([type=hidden]),textarea{width:100%;font:inherit;color:inherit;background:transparent;border:1px solid var(--soft);border-radius:6px;padding:.55rem .65rem}
.buttons{display:flex;flex-direction:row-reverse;gap:.75rem;margin-top:1.4rem}
button{font:inherit;color:inherit;background:transparent;border:1px solid var(--soft);border-radius:6px;padding:.5rem 1.1rem;cursor:pointer}
button.main{background:var(--main);border-color:var(--main);color:#fff}
button.choice{display:block;width:100%;text-align:left;margin:.5rem 0;padding:.6rem .8rem;overflow-wrap:anywhere}
button.choice span,button.choice small{display:block}
small,dd,summary,footer{color:var(--soft)}
:focus-visible{outline:3px solid var(--main);outline-offset:2px}
ul{padding-left:1.2rem}
dt{font-weight:600;margin-top:.6rem}dd{margin:0}
details{margin-top:1.25rem;border-top:1px solid var(--line);padding-top:.75rem}
code{overflow-wrap:anywhere}
footer{width:min(28rem,calc(100% - 2rem));font-size:.85rem;margin-bottom:2rem}
`

// show answers with the page.
func (w *answer) show(status int, p *page) {
	w.header.Set("Content-Type", "text/html; charset=utf-8")
	w.header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	w.header.Set("X-Frame-Options", "DENY")
	w.header.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	title := html.EscapeString(p.title)
	fmt.Fprintf(w, `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s (simulated Microsoft)</title>
<style>%s</style>
</head>
<body>
<header>Simulated Microsoft</header>
<main>
<h1>%s</h1>
%s</main>
<footer>This is a simulated Microsoft sign-in for trying out and testing Holdfast. Nothing you enter reaches Microsoft. Do not enter a real password.</footer>
</body>
</html>
`, title, pageStyle, title, p.body.String())
}

// errorPage is shown instead of a redirect when the request itself can't be
// trusted (auth.md 1.2), and for what the person has to read.
func (s *Simulator) errorPage(w *answer, problem *aadProblem) {
	text, _, _, _ := s.description(w, problem)
	w.show(http.StatusBadRequest, newPage("Sorry, but we’re having trouble signing you in").alert(text))
}
