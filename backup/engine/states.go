package engine

import (
	"cmp"
	"slices"
	"strings"
)

// compare says what a new state of a known item asks for; see the package's
// documentation.
func compare(old Item, s ItemState) (fetch, changed bool) {
	explained := old.FolderID != s.FolderID || !sameState(old.ItemState, s)
	if old.Version == s.Version {
		fetch = s.Version == "" && !sameHeader(old.ItemState, s)
		return fetch, fetch || explained
	}
	return s.Draft || old.Draft || !sameHeader(old.ItemState, s) || !explained, true
}

// sameState compares what changes without the content.
func sameState(a, b ItemState) bool {
	return a.Read == b.Read && a.Draft == b.Draft && a.Flagged == b.Flagged && a.Importance == b.Importance && slices.Equal(a.Categories, b.Categories)
}

// sameHeader compares what a record has.
func sameHeader(a, b ItemState) bool {
	return a.Subject == b.Subject && a.From == b.From && a.To == b.To && a.HasAttachments == b.HasAttachments && a.InternetMessageID == b.InternetMessageID &&
		millis(a.Received) == millis(b.Received) && millis(a.Sent) == millis(b.Sent) && (a.Size == b.Size || a.Size == 0 || b.Size == 0)
}

// withHeader returns s with the header of an item of the same version. A Source
// that lists only the flags of what it named before leaves that out.
func withHeader(s, header ItemState) ItemState {
	s.Subject, s.From, s.To, s.HasAttachments, s.InternetMessageID = header.Subject, header.From, header.To, header.HasAttachments, header.InternetMessageID
	s.Received, s.Sent, s.Size, s.Importance = header.Received, header.Sent, header.Size, cmp.Or(s.Importance, header.Importance)
	return s
}

// withState returns the item with the state that changes without the content.
func withState(item Item, s ItemState) Item {
	item.FolderID, item.Version = s.FolderID, s.Version
	item.Read, item.Draft, item.Flagged, item.Importance, item.Categories = s.Read, s.Draft, s.Flagged, s.Importance, s.Categories
	return item
}

// cleanState replaces what a text column can't hold. The properties stay as
// they are.
func cleanState(s ItemState) ItemState {
	for _, text := range []*string{&s.Subject, &s.From, &s.To, &s.Importance, &s.InternetMessageID} {
		*text = cleanText(*text)
	}
	s.Categories = slices.Clone(s.Categories)
	for i := range s.Categories {
		s.Categories[i] = cleanText(s.Categories[i])
	}
	if len(s.Categories) == 0 {
		s.Categories = nil
	}
	return s
}

func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// bitset is a set of numbers.
type bitset struct{ words []uint64 }

func (b *bitset) set(n int64) {
	for int64(len(b.words)) <= n/64 {
		b.words = append(b.words, 0)
	}
	b.words[n/64] |= 1 << (n % 64)
}

func (b *bitset) has(n int64) bool {
	return n/64 < int64(len(b.words)) && b.words[n/64]&(1<<(n%64)) != 0
}
