package handlers_test

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"holdfast/backup"
	"holdfast/handlers"
)

// postFile sends a form with a file.
func (b *browser) postFile(path string, fields map[string]string, name string, data []byte) (*http.Response, *goquery.Document) {
	b.p.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for k, v := range fields {
		if err := form.WriteField(k, v); err != nil {
			b.p.t.Fatal(err)
		}
	}
	if data != nil {
		part, err := form.CreateFormFile(name, "../../etc/passwd.png")
		if err == nil {
			_, err = part.Write(data)
		}
		if err != nil {
			b.p.t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		b.p.t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(b.p.t.Context(), http.MethodPost, "http://127.0.0.1"+path, &body)
	req.Header.Set("Content-Type", form.FormDataContentType())
	for k, v := range b.cookies {
		req.AddCookie(&http.Cookie{Name: k, Value: v})
	}
	rec := httptest.NewRecorder()
	b.p.handler.ServeHTTP(rec, req)
	res := rec.Result()
	doc, err := goquery.NewDocumentFromReader(res.Body)
	if err != nil {
		b.p.t.Fatal(err)
	}
	return res, doc
}

func picture(width, height int) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	m.Set(1, 1, color.RGBA{R: 200, A: 255})
	return m
}

func TestBranding(t *testing.T) {
	p := newPortal(t)
	b := p.as(danaMail)
	const path = "/partner/settings/branding"
	_, doc := b.postFile(path, map[string]string{"name": "Northwind Vault", "color": "#ffcc00"}, "", nil)
	says(t, doc, "contrast of 1.4 : 1")
	if doc.Find("#name").AttrOr("value", "") != "Northwind Vault" || doc.Find("#color").AttrOr("value", "") != "#ffcc00" {
		t.Error("what was typed is lost")
	}
	var tooWide, good, photo bytes.Buffer
	if png.Encode(&tooWide, picture(2000, 4)) != nil || png.Encode(&good, picture(40, 20)) != nil || jpeg.Encode(&photo, picture(40, 20), nil) != nil {
		t.Fatal("pictures")
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"a page":         {[]byte("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"), "no PNG or JPEG"},
		"too wide":       {tooWide.Bytes(), "2000 by 4 pixels"},
		"damaged":        {good.Bytes()[:60], "damaged"},
		"too large":      {append(bytes.Clone(good.Bytes()), make([]byte, 600<<10)...), "larger than 500 KB"},
		"nothing at all": {[]byte{0}, "no PNG or JPEG"},
	} {
		res, doc := b.postFile(path, map[string]string{"name": "x"}, "logo", c.data)
		if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(doc.Text(), c.says) {
			t.Errorf("%s = %d: %s", name, res.StatusCode, text(doc.Find("main")))
		}
	}
	if res, _ := b.postFile(path, nil, "logo", make([]byte, 2<<20)); res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("2 MiB = %d, want 413", res.StatusCode)
	}

	const evil = "PNG<script>alert(1)</script>"
	for _, file := range [][]byte{append(bytes.Clone(photo.Bytes()), evil...), append(bytes.Clone(good.Bytes()), evil...)} {
		res, _ := b.postFile(path, map[string]string{"name": "Northwind <b>Vault</b>", "color": "#1A3FA0"}, "logo", file)
		if res.StatusCode != http.StatusSeeOther {
			t.Fatalf("saved = %d", res.StatusCode)
		}
		_, doc = p.browser().get("/sign-in")
		if got := text(doc.Find(".brand")); got != "Northwind <b>Vault</b>" || doc.Find(".brand b").Length() != 0 {
			t.Errorf("the sign-in page is of %q", got)
		}
		res, _ = p.browser().get(doc.Find("img.logo").AttrOr("src", ""))
		if res.Header.Get("Content-Type") != "image/png" || res.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("logo headers: %v", res.Header)
		}
		kept, err := p.store.Branding(t.Context())
		if err != nil || bytes.Contains(kept.Logo, []byte("script")) {
			t.Errorf("more than pixels is kept: %v", err)
		}
		if m, err := png.Decode(bytes.NewReader(kept.Logo)); err != nil || m.Bounds().Dx() != 40 {
			t.Errorf("the logo is no picture any more: %v", err)
		}
	}
	css := doc.Find("link[href$='brand.css']").AttrOr("href", "")
	_, style := p.browser().get(css)
	if !strings.Contains(style.Text(), "--accent: light-dark(#1a3fa0, #") {
		t.Errorf("%s says %q", css, style.Text())
	}
	if res, _ := p.browser().get("/branding/1/other"); res.StatusCode != http.StatusNotFound {
		t.Errorf("another file = %d", res.StatusCode)
	}
	b.postFile(path, map[string]string{"remove_logo": "yes"}, "", nil)
	if _, doc := p.browser().get("/sign-in"); doc.Find("img.logo").Length() != 0 || text(doc.Find(".brand")) != "Holdfast" {
		t.Error("the logo and the name did not go")
	}
	_, doc = b.get("/partner/settings/storage")
	says(t, doc, "Contoso Dental")
	_, doc = b.get("/partner/activity")
	says(t, doc, "Changed the branding")
}

// TestStorageShowsTheCopy goes through how the copy of the repository stands.
func TestStorageShowsTheCopy(t *testing.T) {
	const place = "s3://copy/ at https://s3.example.org"
	p := newPortal(t, func(s *handlers.Server) { s.ReplicaPlace = place })
	ctx := t.Context()
	b := p.as(danaMail)
	shows := func(want string, polls bool) {
		t.Helper()
		_, doc := b.get("/partner/settings/storage")
		says(t, doc, want)
		says(t, doc, place)
		if got := doc.Find("#replica[hx-trigger]").Length() > 0; got != polls {
			t.Errorf("the page asks again: %v, want %v", got, polls)
		}
	}
	shows("Waiting", false)
	if err := p.store.StartReplica(ctx, place, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := p.store.BeatReplica(ctx, backup.Replica{Place: place, Objects: 1200, There: 400, Copied: 300}); err != nil {
		t.Fatal(err)
	}
	shows("400 of 1,200 objects are there", true)
	if err := p.store.FinishReplica(ctx, backup.Replica{Place: place, Objects: 1200, There: 1200, Copied: 1100, Bytes: 5 << 20}); err != nil {
		t.Fatal(err)
	}
	shows("Whole", false)
	shows("1,100 objects", false)
	if err := p.store.FinishReplica(ctx, backup.Replica{Place: place, Objects: 1200, There: 1200, Damaged: 2}); err != nil {
		t.Fatal(err)
	}
	shows("2 packs were damaged", false)
	if err := p.store.FinishReplica(ctx, backup.Replica{Place: place, Problem: backup.Problem{Kind: backup.ProblemRepository, Text: "It did not work.", At: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	shows("It did not work.", false)
}
