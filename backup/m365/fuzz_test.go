package m365

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// FuzzAnswers reads any answers of Graph to the questions for folders and their
// changes, with any cursor of an earlier run: an end, or an error, always comes, and
// what is read has an id.
func FuzzAnswers(f *testing.F) {
	const base = "https://graph.microsoft.com/v1.0/users/u/mailFolders"
	f.Add("", []byte(`200{"value":[{"id":"a","displayName":"Inbox","parentFolderId":"r"}],"@odata.deltaLink":"`+base+`/delta?$deltatoken=1"}`))
	f.Add(`{"link":"/v1.0/users/u/mailFolders/delta?$deltatoken=1","root":"r","known":{"a":"inbox"}}`, []byte(`200{"value":[{"id":"a","@removed":{"reason":"deleted"}},{"id":"b"}],"@odata.nextLink":"`+base+`/delta?$skiptoken=2"}`+"\n"+
		`200{"id":"b","displayName":"x"}`+"\n"+`200{"value":[],"@odata.deltaLink":"`+base+`/delta?$deltatoken=2"}`))
	f.Add("/v1.0/users/u/mailFolders/a/messages/delta?$deltatoken=1", []byte(`200{"value":[{"id":"m","changeKey":"1","parentFolderId":"a","receivedDateTime":"2026-11-23T14:30:00Z","from":null,"toRecipients":[{}]},{"id":"n"}],"@odata.deltaLink":"`+base+`/a"}`+"\n"+
		`200{"responses":[{"id":"1","status":200,"body":{"id":"n","changeKey":"2","parentFolderId":"a"}}]}`))
	f.Add("", []byte(`410{"error":{"code":"syncStateNotFound","message":"x"}}`))
	f.Add("", []byte(`429{"error":{"code":"TooManyRequests"}}`+"\n"+"404\n503\n200\n200{"))
	f.Add("{", []byte(`200{"value":[],"@odata.nextLink":"https://evil.example/v1.0"}`))
	der, key, notAfter, err := newCertificate("test", time.Now(), 9000*day)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, cursor string, answers []byte) {
		list := bytes.Split(answers, []byte("\n"))
		synctest.Test(t, func(t *testing.T) {
			s := &server{answer: func(n int, r *http.Request) (*http.Response, error) {
				if r.URL.Host != "graph.microsoft.com" && r.URL.Host != "login.microsoftonline.com" {
					t.Errorf("asked %s", r.URL)
				}
				return fuzzed(list[min(n, len(list)-1)]), nil
			}}
			c, err := New(Config{ClientID: "x", Secret: []byte("y"), Transport: s})
			if err != nil {
				t.Fatal(err)
			}
			app := c.App("t", backup.SubApplication{AppID: "a", Certificate: der, PrivateKey: key, NotAfter: notAfter})
			app.source.held[graphResource] = heldToken{backup.Secret("token"), time.Now().Add(time.Hour)}
			m := app.Mailbox("u")
			if folders, err := m.Folders(t.Context(), cursor); err == nil {
				for _, f := range folders.Folders {
					if f.ID == "" {
						t.Errorf("a folder without an id: %+v", f)
					}
				}
			}
			for page, err := range m.Changes(t.Context(), "a", cursor) {
				if err == nil {
					withIDs(t, page)
				}
			}
			items := letters(0, 5)
			m.Expect(t.Context(), items)
			for _, i := range items {
				if body, err := m.Content(t.Context(), i.ID); err == nil {
					_, _ = io.Copy(io.Discard, body) // an end comes
					_ = body.Close()
				}
			}
		})
	})
}

// FuzzValue reads any part of a batch as a message: what is taken is what the
// part encodes, to the last bit.
func FuzzValue(f *testing.F) {
	for _, body := range []string{`"U3ViamVjdDogaGVsbG8NCg=="`, `"U3Vi\/amVjdDog\u002Bg=="`, `"U3ViamVjdDogbR=="`, `"`, `""`, `"\"`, `null`, `{"a":1}`, "\"U3Vi\r\namVj\""} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		text, ok := valueOf(&answer{status: http.StatusOK, body: bytes.Clone(body)})
		if !ok {
			return
		}
		encoded, err := jsontext.AppendUnquote(nil, body)
		if err != nil && bytes.IndexByte(body, '\\') >= 0 {
			t.Fatalf("%q was taken: %v", body, err)
		}
		if err != nil {
			encoded = body[1 : len(body)-1]
		}
		plain := strings.NewReplacer("\r", "", "\n", "").Replace(string(encoded))
		if again := base64.StdEncoding.EncodeToString(text); again != plain {
			t.Errorf("%q became %q, which is %q", body, text, again)
		}
	})
}

// fuzzed is an answer whose first three digits are its status.
func fuzzed(text []byte) *http.Response {
	status, err := strconv.Atoi(string(text[:min(3, len(text))]))
	if err != nil || status < 200 || status > 599 {
		return respond(200, string(text))
	}
	return respond(status, string(text[3:]))
}

func withIDs(t *testing.T, page engine.Page) {
	t.Helper()
	for _, i := range page.Items {
		if i.ID == "" {
			t.Errorf("an item without an id: %+v", i)
		}
	}
	for _, id := range page.Removed {
		if id == "" {
			t.Error("an item without an id is gone")
		}
	}
}
