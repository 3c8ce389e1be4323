package m365

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast/backup/engine"
)

// letterbox is a Graph that has messages by id and answers batches of them.
type letterbox struct {
	mu      sync.Mutex
	batches [][]string // ids of each
	alone   []string   // ids of those asked for by themselves
	part    func(id string) string
	rest    string // of a message that is asked for by itself
}

// text is a message's.
func letterText(id string) string { return "Subject: " + id + "\r\n\r\nHello\r\n" }

// asBase64 is the answer to a part of a batch that has the message.
func asBase64(text string) string {
	return `"status":200,"headers":{"Content-Type":"text/plain"},"body":"` + base64.StdEncoding.EncodeToString([]byte(text)) + `"`
}

func (l *letterbox) answer(_ int, r *http.Request) (*http.Response, error) {
	idOf := func(path string) string {
		_, rest, _ := strings.Cut(path, "/messages/")
		return strings.TrimSuffix(rest, "/$value")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.HasSuffix(r.URL.Path, "/$batch") {
		id := idOf(r.URL.Path)
		l.alone = append(l.alone, id)
		return respond(200, letterText(id)+l.rest), nil
	}
	var in struct {
		Requests []struct {
			ID, URL string
			Headers map[string]string
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	var ids, parts []string
	for _, q := range in.Requests {
		if q.Headers["Prefer"] != immutable {
			return respond(400, `{"error":{"code":"ErrorInvalidIdMalformed"}}`), nil
		}
		ids = append(ids, idOf(q.URL))
		parts = append(parts, `{"id":"`+q.ID+`",`+l.part(idOf(q.URL))+`}`)
	}
	l.batches = append(l.batches, ids)
	slices.Reverse(parts) // any order
	return respond(200, `{"responses":[`+strings.Join(parts, ",")+`]}`), nil
}

// letters are items without attachments, as a page lists them.
func letters(from, n int) (items []engine.ItemState) {
	for i := range n {
		items = append(items, engine.ItemState{ID: fmt.Sprint("m", from+i)})
	}
	return items
}

// readLetters reads the contents of items, which have to be what they should be.
func readLetters(t *testing.T, m *Mailbox, items []engine.ItemState) {
	t.Helper()
	for _, i := range items {
		body, err := m.Content(t.Context(), i.ID)
		if err != nil {
			t.Fatalf("%s: %v", i.ID, err)
		}
		got, err := io.ReadAll(body)
		if err != nil || !strings.HasPrefix(string(got), "Subject: "+i.ID+"\r\n") {
			t.Errorf("%s: %q, %v", i.ID, got[:min(len(got), 80)], err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestValuesThatABatchDoesNotBringAreReadAlone(t *testing.T) {
	for _, test := range []struct{ name, part string }{
		{"refused", `"status":404,"body":{"error":{"code":"ErrorItemNotFound"}}`},
		{"throttled", `"status":429,"headers":{"Retry-After":"9"},"body":{"error":{"code":"TooManyRequests"}}`},
		{"no base64", `"status":200,"body":"Subject: m3\r\n"`},
		{"cut base64", `"status":200,"body":"U3ViamVjdDogb"`},
		{"trailing bits", `"status":200,"body":"U3ViamVjdDogbR=="`},
		{"JSON", `"status":200,"body":{"subject":"m3"}`},
		{"null", `"status":200,"body":null`},
		{"empty", `"status":200,"body":""`},
		{"nothing", `"status":200`},
		{"one quote", `"status":200,"body":"\""`},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &letterbox{part: func(id string) string {
				if id == "m3" {
					return test.part
				}
				return asBase64(letterText(id))
			}}
			m, _ := fakeMailbox(t, l.answer)
			items := letters(0, 20)
			m.Expect(t.Context(), items)
			readLetters(t, m, items)
			if len(l.batches) != 1 || !slices.Equal(l.alone, []string{"m3"}) {
				t.Errorf("%d batches, alone %v; want one batch and m3 alone", len(l.batches), l.alone)
			}
		})
	}
}

func TestValuesInEscapedBase64(t *testing.T) {
	l := &letterbox{part: func(id string) string {
		return strings.NewReplacer("+", `\u002B`, "/", `\/`).Replace(asBase64(letterText(id) + "\xfb\xff\xbf~~~???"))
	}}
	m, _ := fakeMailbox(t, l.answer)
	items := letters(0, 20)
	m.Expect(t.Context(), items)
	readLetters(t, m, items)
	if len(l.alone) > 0 {
		t.Errorf("%v were read alone", l.alone)
	}
}

// TestOnlySmallMessagesAreReadInBatches has messages that turn out larger than
// those of most mailboxes, and ones with attachments that turn out small.
func TestOnlySmallMessagesAreReadInBatches(t *testing.T) {
	large := strings.Repeat("x", 24<<10)
	l := &letterbox{rest: large, part: func(id string) string { return asBase64(letterText(id) + large) }}
	m, _ := fakeMailbox(t, l.answer)
	for page := range 3 {
		items := letters(100*page, 40)
		m.Expect(t.Context(), items)
		readLetters(t, m, items)
	}
	if len(l.batches) != 2 || len(l.batches[0]) != batchSize || len(l.alone) != 80 {
		t.Errorf("%d batches, %d messages alone; want those of the first page in two batches, and the others alone", len(l.batches), len(l.alone))
	}
	l.batches, l.alone, l.rest, large = nil, nil, "", ""
	for page := range 4 {
		items := letters(1000+100*page, 40)
		for i := range items {
			items[i].HasAttachments = true
		}
		m.Expect(t.Context(), items)
		readLetters(t, m, items)
	}
	if len(l.batches) != 6 || len(l.alone) != 40 {
		t.Errorf("%d batches, %d messages with attachments alone; want those of the first page alone: then they are known to be small", len(l.batches), len(l.alone))
	}
}

// TestBatchesThatBreakAreGivenUp has answers that are too large: the messages
// come all the same, and nothing more is read for nothing.
func TestBatchesThatBreakAreGivenUp(t *testing.T) {
	large := strings.Repeat("x", valuesLimit/batchSize)
	l := &letterbox{part: func(id string) string { return asBase64(letterText(id) + large) }}
	m, _ := fakeMailbox(t, l.answer)
	items := letters(0, 200)
	m.Expect(t.Context(), items)
	readLetters(t, m, items)
	if len(l.alone) != len(items) {
		t.Errorf("%d messages were read alone, want all %d", len(l.alone), len(items))
	}
	if n := len(l.batches); n < 3 || n > 3+batchesAhead {
		t.Errorf("%d batches were asked for, want 3 and those under way", n)
	}
}
