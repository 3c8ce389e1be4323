package handlers_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"
)

// visitor is a person with a browser: it keeps cookies, follows redirects over
// all servers, and fills in the forms that a page has.
type visitor struct {
	t      testing.TB
	client *http.Client
	at     *url.URL
	status int
	header http.Header
	body   string
	doc    *goquery.Document
}

func newVisitor(t testing.TB) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, client: &http.Client{Jar: jar, Timeout: 5 * time.Minute}}
}

// get opens an address, absolute or on the server where the visitor is.
func (v *visitor) get(address string) *visitor {
	v.t.Helper()
	return v.do(http.MethodGet, address, nil)
}

func (v *visitor) do(method, address string, form url.Values) *visitor {
	v.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		v.t.Fatal(err)
	}
	if v.at != nil {
		u = v.at.ResolveReference(u)
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(v.t.Context(), method, u.String(), body)
	if err != nil {
		v.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := v.client.Do(req)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, address, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, address, err)
	}
	v.at, v.status, v.header, v.body = res.Request.URL, res.StatusCode, res.Header, string(b)
	if v.doc, err = goquery.NewDocumentFromReader(strings.NewReader(v.body)); err != nil {
		v.t.Fatal(err)
	}
	return v
}

// press submits the form that has a button with the given words.
func (v *visitor) press(button string, fill ...string) *visitor {
	v.t.Helper()
	b := v.doc.Find("button").FilterFunction(func(_ int, s *goquery.Selection) bool {
		return strings.HasPrefix(words(s), button) && s.AttrOr("disabled", "-") == "-"
	}).First()
	if b.Length() == 0 {
		v.t.Fatalf("%s (%d) has no button %q: %s", v.at, v.status, button, v.text())
	}
	form := url.Values{}
	f := b.Closest("form")
	f.Find("input, select, textarea").Each(func(_ int, s *goquery.Selection) {
		kind := s.AttrOr("type", "text")
		_, checked := s.Attr("checked")
		_, disabled := s.Attr("disabled")
		if (kind == "checkbox" || kind == "radio") && !checked || disabled || kind == "submit" || s.AttrOr("name", "") == "" {
			return
		}
		form.Add(s.AttrOr("name", ""), s.AttrOr("value", ""))
	})
	if name := b.AttrOr("name", ""); name != "" {
		form.Set(name, b.AttrOr("value", ""))
	}
	for i := 0; i+1 < len(fill); i += 2 {
		if i == 0 || fill[i] != fill[i-2] {
			form.Del(fill[i])
		}
		form.Add(fill[i], fill[i+1])
	}
	action := f.AttrOr("action", "")
	if strings.EqualFold(f.AttrOr("method", "get"), "get") {
		return v.get(action + "?" + form.Encode())
	}
	return v.do(http.MethodPost, action, form)
}

// follow opens the link with the given words.
func (v *visitor) follow(link string) *visitor {
	v.t.Helper()
	a := v.doc.Find("a").FilterFunction(func(_ int, s *goquery.Selection) bool { return strings.HasPrefix(words(s), link) }).First()
	if a.Length() == 0 {
		v.t.Fatalf("%s has no link %q: %s", v.at, link, v.text())
	}
	return v.get(a.AttrOr("href", ""))
}

// text is what the main part of the page says.
func (v *visitor) text() string {
	if main := v.doc.Find("main"); main.Length() > 0 {
		return words(main)
	}
	return words(v.doc.Selection)
}

func words(s *goquery.Selection) string { return strings.Join(strings.Fields(s.Text()), " ") }

// says fails the test unless the page has the words.
func (v *visitor) says(want string) *visitor {
	v.t.Helper()
	if !strings.Contains(words(v.doc.Selection), want) {
		v.t.Fatalf("%s (%d) does not say %q: %s", v.at, v.status, want, v.text())
	}
	return v
}

// until opens an address again and again, as a page does that shows progress,
// until ready says so.
func (v *visitor) until(address string, ready func() bool) *visitor {
	v.t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.NewTimer(5 * time.Minute)
	defer timeout.Stop()
	for {
		if v.get(address); ready() {
			return v
		}
		select {
		case <-ticker.C:
		case <-timeout.C:
			v.t.Fatalf("%s is not ready: %s", v.at, v.text())
		}
	}
}
