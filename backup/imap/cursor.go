package imap

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	goimap "github.com/emersion/go-imap/v2"
)

// status is how a folder stands.
type status struct {
	validity, next, messages uint32
	modseq                   uint64 // 0 if the server does not count changes there
}

func statusOf(d *goimap.StatusData) status {
	s := status{validity: d.UIDValidity, next: uint32(d.UIDNext), modseq: d.HighestModSeq}
	if d.NumMessages != nil {
		s.messages = *d.NumMessages
	}
	return s
}

// maxUIDs bounds what a cursor keeps of the UIDs of a folder. A folder with more
// holes than that is listed in full when something is gone from it.
const maxUIDs = 64 << 10

// cursor is how a folder stood when its changes were read.
type cursor struct {
	Validity uint32 `json:"v"`
	Next     uint32 `json:"n"`
	ModSeq   uint64 `json:"m,omitempty"`
	Messages uint32 `json:"c"`
	UIDs     string `json:"u,omitempty"` // those of its messages, like 1:5,9; kept where ModSeq is
}

func parseCursor(text string) (c cursor, uids []goimap.UID, err error) {
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, nil, err
	}
	uids, err = parseUIDs(c.UIDs)
	return c, uids, err
}

func (c cursor) text() string {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers and a string
	}
	return string(data)
}

// same says that nothing happened in the folder since, which only a server that
// counts changes can say.
func (c cursor) same(s status) bool {
	return c.ModSeq != 0 && c.ModSeq == s.modseq && c.Validity == s.validity && c.Next == s.next && c.Messages == s.messages
}

// complete says that the cursor knows the folder's messages.
func (c cursor) complete() bool { return c.ModSeq != 0 && (c.UIDs != "" || c.Messages == 0) }

// newCursor is for a folder whose messages are uids, sorted.
func newCursor(s status, uids []goimap.UID) cursor {
	c := cursor{Validity: s.validity, Next: s.next, ModSeq: s.modseq, Messages: uint32(len(uids))} //nolint:gosec // as many as 32-bit UIDs
	if n := len(uids); n > 0 {
		c.Next = max(c.Next, uint32(uids[n-1])+1)
	}
	if s.modseq != 0 {
		if c.UIDs = formatUIDs(uids); len(c.UIDs) > maxUIDs {
			c.UIDs = ""
		}
	}
	return c
}

// formatUIDs writes sorted UIDs as ranges.
func formatUIDs(uids []goimap.UID) string {
	var b strings.Builder
	for i := 0; i < len(uids); {
		j := i
		for j+1 < len(uids) && uids[j+1] == uids[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(uids[i]), 10))
		if j > i {
			b.WriteString(":" + strconv.FormatUint(uint64(uids[j]), 10))
		}
		i = j + 1
	}
	return b.String()
}

// maxInFolder bounds how many messages a folder may have.
const maxInFolder = 20_000_000

func parseUIDs(text string) ([]goimap.UID, error) {
	if text == "" {
		return nil, nil
	}
	var out []goimap.UID
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 32)
		to, err2 := strconv.ParseUint(last, 10, 32)
		if err1 != nil || err2 != nil || from == 0 || to < from || len(out) > 0 && goimap.UID(from) <= out[len(out)-1] || to-from+uint64(len(out)) > maxInFolder {
			return nil, fmt.Errorf("%q is not a list of UIDs", shorten(part))
		}
		for uid := from; uid <= to; uid++ {
			out = append(out, goimap.UID(uid))
		}
	}
	return out, nil
}

// without returns the sorted UIDs of a that b has not.
func without(a, b []goimap.UID) []goimap.UID {
	var out []goimap.UID
	for _, uid := range a {
		if _, ok := slices.BinarySearch(b, uid); !ok {
			out = append(out, uid)
		}
	}
	return out
}

// itemID names a message: its folder, the folder's UIDVALIDITY and its UID.
func itemID(folderID string, validity uint32, uid goimap.UID) string {
	return fmt.Sprintf("%s/%d/%d", folderID, validity, uid)
}

func parseItemID(id string) (folderID string, validity uint32, uid goimap.UID, err error) {
	parts := strings.Split(id, "/")
	if len(parts) != 3 {
		return "", 0, 0, fmt.Errorf("%q is not the id of a message", id)
	}
	v, err1 := strconv.ParseUint(parts[1], 10, 32)
	u, err2 := strconv.ParseUint(parts[2], 10, 32)
	if err1 != nil || err2 != nil {
		return "", 0, 0, fmt.Errorf("%q is not the id of a message", id)
	}
	return parts[0], uint32(v), goimap.UID(u), nil
}
