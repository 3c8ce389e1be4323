package imap

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	goimap "github.com/emersion/go-imap/v2"

	"holdfast/backup/engine"
)

// FuzzCursor reads any text as the cursor of a folder, of all folders, and as the
// id of a message: what can be read is written the same again.
func FuzzCursor(f *testing.F) {
	f.Add(newCursor(status{validity: 1, next: 12, messages: 3, modseq: 9}, []goimap.UID{1, 2, 3, 9, 11}).text())
	f.Add(`{"f":[{"i":"A","p":"INBOX","v":7},{"i":"B","p":"Old","v":8}],"x":["shared/"]}`)
	f.Add("A/7/12")
	f.Fuzz(func(t *testing.T, text string) {
		if c, uids, err := parseCursor(text); err == nil {
			if !slices.IsSorted(uids) || len(slices.Compact(slices.Clone(uids))) != len(uids) {
				t.Errorf("UIDs out of order: %v", uids)
			}
			again, err := parseUIDs(formatUIDs(uids))
			if err != nil || !slices.Equal(again, uids) {
				t.Errorf("%q came back as %v, %v", c.UIDs, again, err)
			}
		}
		var folders folderCursor
		if json.Unmarshal([]byte(text), &folders) == nil {
			list := []*folder{{path: "INBOX", status: status{validity: 7}}, {path: "New", status: status{validity: 8}}}
			ids := map[string]bool{}
			for _, k := range identify(list, folders.Folders) {
				ids[k.ID] = true
			}
			if len(ids) != len(list) && !twice(folders.Folders) {
				t.Errorf("two folders have one id: %v", ids)
			}
		}
		if folderID, validity, uid, err := parseItemID(text); err == nil {
			if f, v, u, err := parseItemID(itemID(folderID, validity, uid)); err != nil || f != folderID || v != validity || u != uid {
				t.Errorf("%q came back as %s %d %d, %v", text, f, v, u, err)
			}
		}
	})
}

// twice says that a cursor has one id or path twice, which none of ours has.
func twice(list []knownFolder) bool {
	seen := map[string]bool{}
	for _, k := range list {
		if seen["i"+k.ID] || seen["p"+k.Path] {
			return true
		}
		seen["i"+k.ID], seen["p"+k.Path] = true, true
	}
	return false
}

// FuzzHeader reads any header and any line of a server.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("From: =?utf-8?q?B=C3=B6b?= <bob@example.org>\r\nTo: a@b, \"c, d\" <e@f>\r\nSubject: =?iso-8859-1?q?Gr=FC=DFe?=\r\nDate: Fri, 6 Nov 2026 10:00:00 +0100\r\nContent-Type: multipart/mixed; boundary=x\r\nX-Priority: 1\r\n\r\n"))
	f.Add([]byte("* NO [ALERT] Request is throttled. Suggested Backoff Time: 299961 milliseconds"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s engine.ItemState
		fill(&s, bytes.Clone(raw))
		if y := s.Sent.Year(); !s.Sent.IsZero() && (y < 1 || y > 9999) {
			t.Errorf("sent in the year %d", y)
		}
		_ = messageID(headerOf(raw))
		_ = parseAnswer(string(raw), "*")
		var once, again bytes.Buffer
		_, _ = (&crlfWriter{w: &once}).Write(raw)
		if _, _ = (&crlfWriter{w: &again}).Write(once.Bytes()); !bytes.Equal(once.Bytes(), again.Bytes()) || !bytes.Equal(CRLF(once.Bytes()), once.Bytes()) {
			t.Errorf("%q has other line ends when they are made again", raw)
		}
	})
}
