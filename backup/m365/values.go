package m365

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"holdfast/backup/engine"
)

// What is read ahead of the message that is worked on: so many batches. An answer
// may have valuesLimit of JSON; if it is more, the messages are read one by one.
const (
	batchesAhead = 2
	valuesLimit  = 4 << 20
)

// smallValue is up to how many bytes messages are worth a batch on average. For
// larger ones its base64, a third more to carry, to encode and to decode, costs
// more than the requests that it saves.
const smallValue = 12 << 10

// What a message is taken to have in bytes as long as none of its kind was read.
const (
	usualText       = 8 << 10
	usualAttachment = 48 << 10
)

var _ engine.Expecter = (*Mailbox)(nil)

// sizes is what the messages of a mailbox had, those with attachments and those
// without: Graph lists no size.
type sizes struct {
	mu      sync.Mutex
	average map[bool]float64 // in bytes, by whether they have attachments
	kinds   map[string]bool  // by id of those expected: whether they have attachments
}

func newSizes() *sizes {
	return &sizes{average: map[bool]float64{false: usualText, true: usualAttachment}, kinds: map[string]bool{}}
}

// expect notes the kind of messages, and returns which kinds are worth a batch.
func (s *sizes) expect(items []engine.ItemState) map[bool]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		s.kinds[i.ID] = i.HasAttachments
	}
	small := make(map[bool]bool, len(s.average))
	for kind, size := range s.average {
		small[kind] = size <= smallValue
	}
	return small
}

// had notes what a message had. The last eight or so of its kind count.
func (s *sizes) had(id string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind, ok := s.kinds[id]; ok {
		delete(s.kinds, id)
		s.average[kind] += (float64(size) - s.average[kind]) / 8
	}
}

// Expect implements engine.Expecter: small messages are read twenty at a time.
func (m *Mailbox) Expect(ctx context.Context, items []engine.ItemState) {
	small := m.sizes.expect(items)
	var ids []string
	for _, i := range items {
		if small[i.HasAttachments] {
			ids = append(ids, i.ID)
		}
	}
	for batch := range slices.Chunk(ids, batchSize) {
		if len(batch) > 1 {
			m.ahead.Expect(ctx, batch)
		}
	}
}

// valuePath is the path of a message as MIME.
func (m *Mailbox) valuePath(id string) string {
	return m.path + "/messages/" + url.PathEscape(id) + "/$value"
}

// values reads messages as MIME with one batch, without those that Graph refuses.
func (m *Mailbox) values(ctx context.Context, ids []string) (map[string][]byte, error) {
	parts := make([]*batchPart, len(ids))
	for i, id := range ids {
		parts[i] = &batchPart{path: m.valuePath(id), prefer: immutable}
	}
	if err := m.app.batchOnce(ctx, m.user, valuesLimit, parts); err != nil {
		return nil, err
	}
	texts := make(map[string][]byte, len(ids))
	for i, p := range parts {
		if text, ok := valueOf(&p.answer); ok {
			texts[ids[i]] = text
		}
	}
	if len(texts) == 0 {
		return nil, errNoValues
	}
	return texts, nil
}

var errNoValues = errors.New("a batch brought no message")

// valueOf is the text of a part of a batch: what is not JSON comes as a string of
// base64 (https://learn.microsoft.com/graph/json-batching).
func valueOf(a *answer) ([]byte, bool) {
	if n := len(a.body); a.status != http.StatusOK || n < 3 || a.body[0] != '"' || a.body[n-1] != '"' {
		return nil, false
	}
	encoded := a.body[1 : len(a.body)-1]
	if bytes.IndexByte(encoded, '\\') >= 0 {
		var err error
		if encoded, err = jsontext.AppendUnquote(nil, a.body); err != nil {
			return nil, false
		}
	}
	text := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Strict().Decode(text, encoded)
	return text[:n], err == nil && n > 0
}
