package m365

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// fakeMailbox is a mailbox whose Graph is one function, for answers that no
// simulated Microsoft gives by itself. The token is at hand.
func fakeMailbox(t *testing.T, answer func(n int, r *http.Request) (*http.Response, error)) (*Mailbox, *server) {
	t.Helper()
	s := &server{answer: answer}
	c, err := New(Config{ClientID: "x", Secret: []byte("y"), Transport: s})
	if err != nil {
		t.Fatal(err)
	}
	der, key, notAfter, err := newCertificate("test", time.Now(), day)
	if err != nil {
		t.Fatal(err)
	}
	app := c.App("t", backup.SubApplication{AppID: "a", Certificate: der, PrivateKey: key, NotAfter: notAfter})
	app.source.held[graphResource] = heldToken{backup.Secret("token"), time.Now().Add(time.Hour)}
	return app.Mailbox("u"), s
}

// brokenBody ends in the middle.
func brokenBody(text string) *http.Response {
	res := respond(200, "")
	res.Body = io.NopCloser(io.MultiReader(strings.NewReader(text), failing{}))
	return res
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestContentTakesUpABrokenTransfer(t *testing.T) {
	message := strings.Repeat("Subject: hello\r\n", 5000)
	for _, test := range []struct {
		name string
		cuts []int // where each try breaks
		kind backup.ProblemKind
	}{
		{"whole", nil, ""},
		{"once", []int{30000}, ""},
		{"at the beginning", []int{0, 1}, ""},
		{"earlier the second time", []int{50000, 20000, 60000}, ""},
		{"always", []int{10, 20, 30, 40, 50}, backup.ProblemUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, s := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) {
				if n < len(test.cuts) {
					return brokenBody(message[:test.cuts[n]]), nil
				}
				return respond(200, message), nil
			})
			body, err := m.Content(t.Context(), "id")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(body)
			body.Close()
			if backup.KindOf(err) != test.kind {
				t.Errorf("%s: %v, want kind %q", test.name, err, test.kind)
			}
			if err == nil && string(got) != message {
				t.Errorf("%s: %d bytes, want the %d of the message", test.name, len(got), len(message))
			}
			if !strings.HasPrefix(message, string(got)) {
				t.Errorf("%s: wrong bytes were delivered", test.name)
			}
			if n := s.open.Load(); n != 0 {
				t.Errorf("%s: %d bodies left open", test.name, n)
			}
		})
	}
}

func TestContentThatDiffersIsAProblemAndNotAMixture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) {
			if n == 0 {
				return brokenBody("boundary=1 hello"), nil
			}
			return respond(200, "boundary=2 hello world"), nil
		})
		body, err := m.Content(t.Context(), "id")
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		got, err := io.ReadAll(body)
		if backup.KindOf(err) != backup.ProblemItems || string(got) != "boundary=1 hello" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestContentRefusals(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		gone   bool
		kind   backup.ProblemKind
	}{
		{404, `{"error":{"code":"ErrorItemNotFound","message":"x"}}`, true, backup.ProblemUnknown},
		{500, `{"error":{"code":"ErrorCorruptData","message":"x"}}`, false, backup.ProblemItems},
		{404, `{"error":{"code":"MailboxNotEnabledForRESTAPI","message":"x"}}`, false, backup.ProblemMailboxInactive},
		{403, `{"error":{"code":"ErrorAccessDenied","message":"x"}}`, false, backup.ProblemPermission},
	} {
		m, _ := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) { return respond(test.status, test.body), nil })
		_, err := m.Content(t.Context(), "id")
		if errors.Is(err, engine.ErrItemGone) != test.gone || backup.KindOf(err) != test.kind {
			t.Errorf("%s: %v", test.body, err)
		}
	}
}

func TestTokenIsRenewedOnceAfter401(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issued := 0
		m, _ := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/token"):
				issued++
				return respond(200, fmt.Sprintf(`{"access_token":"new-%d","expires_in":3600}`, issued)), nil
			case r.Header.Get("Authorization") != "Bearer new-1":
				return respond(401, `{"error":{"code":"InvalidAuthenticationToken","message":"expired"}}`), nil
			}
			return respond(200, "hello"), nil
		})
		body, err := m.Content(t.Context(), "id")
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		if issued != 1 {
			t.Errorf("%d tokens were issued, want 1", issued)
		}
		m, _ = fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/token") {
				return respond(200, `{"access_token":"new","expires_in":3600}`), nil
			}
			return respond(401, `{"error":{"code":"InvalidAuthenticationToken","message":"no"}}`), nil
		})
		if _, err := m.Content(t.Context(), "id"); backup.KindOf(err) != backup.ProblemPermission {
			t.Errorf("always 401: %v", err)
		}
	})
}

// collect reads all pages of a folder.
func collect(ctx context.Context, m *Mailbox, cursor string) (items []engine.ItemState, last engine.Page, err error) {
	for page, err := range m.Changes(ctx, "f", cursor) {
		if err != nil {
			return nil, page, err
		}
		items, last = append(items, page.Items...), page
	}
	return items, last, nil
}

func TestChangesReadsPartialAndOddAnswers(t *testing.T) {
	m, _ := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) {
		if prefer := r.Header.Get("Prefer"); !strings.HasSuffix(r.URL.Path, "$batch") && !strings.Contains(prefer, `IdType="ImmutableId"`) {
			t.Errorf("%s without immutable ids: %q", r.URL.Path, prefer)
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "$batch"):
			body, _ := io.ReadAll(r.Body)
			if !bytes.Contains(body, []byte("ImmutableId")) || !bytes.Contains(body, []byte("/users/u/messages/m2?")) {
				t.Errorf("batch %s", body)
			}
			return respond(200, `{"responses":[{"id":"1","status":200,"body":{"id":"m2","changeKey":"k2","parentFolderId":"f","isRead":true}}]}`), nil
		case r.URL.Query().Get("$skiptoken") == "1":
			return respond(200, `{"value":[],"@odata.nextLink":"https://graph.microsoft.com/v1.0/users('u')/mailFolders('f')/messages/delta?$skiptoken=2"}`), nil
		case r.URL.Query().Get("$skiptoken") == "2":
			return respond(200, `{"value":[{"id":"m3","@removed":{"reason":"deleted"}}],"@odata.deltaLink":"https://graph.microsoft.com/v1.0/users('u')/mailFolders('f')/messages/delta?$deltatoken=d"}`), nil
		}
		return respond(200, "\ufeff"+`{"value":[
			{"id":"m1","changeKey":"k1","parentFolderId":"f","subject":"tab`+"\t"+`inside","from":{"emailAddress":{"name":"Ada","address":"ada@x"}},
			 "toRecipients":[{"emailAddress":{"name":"b@x","address":"b@x"}},{"emailAddress":{"address":"c@x"}}],"flag":{"flagStatus":"flagged"},
			 "receivedDateTime":"2026-01-02T03:04:05Z","sentDateTime":"nonsense","importance":"High","categories":null},
			{"@odata.type":"#microsoft.graph.message","id":"m2","isRead":true}],
			"@odata.nextLink":"https://graph.microsoft.com/v1.0/users('u')/mailFolders('f')/messages/delta?$skiptoken=1"}`), nil
	})
	items, last, err := collect(t.Context(), m, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != 2 || len(last.Removed) != 1 || !last.Full || last.Cursor != "/v1.0/users('u')/mailFolders('f')/messages/delta?$deltatoken=d" {
		t.Fatalf("%d items, last page %+v", len(items), last)
	}
	one := items[0]
	if one.From != "Ada <ada@x>" || one.To != "b@x, c@x" || !one.Flagged || one.Importance != "high" || one.Version != "k1" || one.FolderID != "f" ||
		!one.Received.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || !one.Sent.IsZero() || !json.Valid(one.Properties) {
		t.Errorf("first message: %+v", one)
	}
	if !items[1].Read || items[1].Version != "k2" {
		t.Errorf("message of a partial answer: %+v", items[1])
	}
}

func TestChangesErrors(t *testing.T) {
	for _, test := range []struct {
		name, cursor string
		status       int
		body         string
		want         error
	}{
		{"expired", "/v1.0/x?$deltatoken=1", 410, `{"error":{"code":"SyncStateNotFound"}}`, engine.ErrCursorExpired},
		{"expired, other case and status", "/v1.0/x?$deltatoken=1", 404, `{"error":{"code":"syncStateNotFound"}}`, engine.ErrCursorExpired},
		{"expired without a code", "/v1.0/x?$deltatoken=1", 410, `{}`, engine.ErrCursorExpired},
		{"no tracking any more", "/v1.0/x?$deltatoken=1", 400, `{"error":{"code":"ErrorInvalidRequest","message":"Parameter 'DeltaToken' not supported for this request"}}`, engine.ErrCursorExpired},
		{"folder gone", "", 404, `{"error":{"code":"ErrorItemNotFound"}}`, engine.ErrItemGone},
		{"folder gone meanwhile", "/v1.0/x?$deltatoken=1", 404, `{"error":{"code":"ErrorSyncFolderNotFound"}}`, engine.ErrItemGone},
	} {
		m, _ := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) { return respond(test.status, test.body), nil })
		if _, _, err := collect(t.Context(), m, test.cursor); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestChangesListsAFolderWithoutTracking(t *testing.T) {
	m, _ := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/delta") {
			return respond(403, `{"error":{"code":"ErrorQuotaExceeded"}}`), nil
		}
		return respond(200, `{"value":[{"id":"m1","changeKey":"k1","parentFolderId":"f"}]}`), nil
	})
	items, last, err := collect(t.Context(), m, "")
	if err != nil || len(items) != 1 || last.Cursor != "" || !last.Full {
		t.Errorf("%d items, %+v, %v; want the list and no cursor", len(items), last, err)
	}
}

func TestLinksElsewhereAreNotFollowed(t *testing.T) {
	m, s := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) {
		if r.URL.Host != "graph.microsoft.com" {
			t.Errorf("token sent to %s", r.URL)
		}
		return respond(200, `{"value":[],"@odata.nextLink":"https://evil.example/v1.0/x"}`), nil
	})
	_, _, err := collect(t.Context(), m, "")
	if p := backup.AsProblem(err); p.Temporary || len(s.times) != 1 {
		t.Errorf("%d requests, %v", len(s.times), err)
	}
}

func TestBatchAsksThrottledPartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var refused atomic.Bool
		m, _ := fakeMailbox(t, func(n int, r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			var in struct {
				Requests []struct{ ID, URL string }
			}
			if err := json.Unmarshal(body, &in); err != nil {
				t.Error(err)
			}
			var parts []string
			for i := len(in.Requests) - 1; i >= 0; i-- { // any order
				q := in.Requests[i]
				if strings.HasSuffix(q.URL, "/p3") && refused.CompareAndSwap(false, true) {
					parts = append(parts, `{"id":"`+q.ID+`","status":429,"headers":{"Retry-After":"7"},"body":{"error":{"code":"TooManyRequests"}}}`)
					continue
				}
				parts = append(parts, `{"id":"`+q.ID+`","status":200,"body":{"for":"`+q.URL+`"}}`)
			}
			return respond(200, `{"responses":[`+strings.Join(parts, ",")+`]}`), nil
		})
		var parts []*batchPart
		for i := range 45 {
			parts = append(parts, &batchPart{path: fmt.Sprintf("/p%d", i)})
		}
		if err := m.app.batch(t.Context(), "", parts); err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			if p.status != 200 || !bytes.Contains(p.body, []byte(`"`+p.path+`"`)) {
				t.Errorf("part %s: %d %s", p.path, p.status, p.body)
			}
		}
		if got := time.Since(start); got != 7*time.Second {
			t.Errorf("took %s, want the 7s asked for", got)
		}
	})
}

func TestLicenceOfPlans(t *testing.T) {
	const (
		plan2   = "efb87545-963c-4e0d-99df-69c6916d9eb0"
		unknown = "11111111-2222-3333-4444-555555555555"
	)
	for _, test := range []struct {
		name  string
		plans []assignedPlan
		want  backup.LicenceState
	}{
		{"none", nil, backup.LicenceNone},
		{"plan 2", []assignedPlan{{"exchange", "Enabled", plan2}}, backup.LicenceValid},
		{"other case", []assignedPlan{{"Exchange", "enabled", strings.ToUpper(plan2)}}, backup.LicenceValid},
		{"foundation only", []assignedPlan{{"exchange", "Enabled", planFoundation}}, backup.LicenceNone},
		{"archive only", []assignedPlan{{"exchange", "Enabled", planArchiveAddOn}}, backup.LicenceNone},
		{"grace", []assignedPlan{{"exchange", "Warning", plan2}}, backup.LicenceGrace},
		{"suspended", []assignedPlan{{"exchange", "Suspended", plan2}}, backup.LicenceNone},
		{"deleted beside enabled", []assignedPlan{{"exchange", "Deleted", plan2}, {"exchange", "Enabled", unknown}}, backup.LicenceValid},
		{"another service", []assignedPlan{{"SharePoint", "Enabled", plan2}}, backup.LicenceNone},
	} {
		if got := (account{Plans: test.plans}).licence(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
