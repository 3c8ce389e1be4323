// Package ahead reads contents before they are asked for, many with one question
// to the provider. A Source that costs a round trip for each message uses it.
package ahead

import (
	"bytes"
	"context"
	"sync"
)

// maxBroken is after how many questions in a row that brought nothing the
// contents are asked for one by one.
const maxBroken = 3

// Read asks a provider for contents and returns them by id. Those that it leaves
// out are asked for one by one, which also finds out why; with an error it has
// none. ctx ends with the run that expects them.
type Read func(ctx context.Context, ids []string) (map[string][]byte, error)

// Reader has what was read and not asked for yet. It is safe for concurrent use.
type Reader struct {
	read  Read
	depth int

	mu      sync.Mutex
	of      map[string]*batch // by id, those not asked for yet
	last    *batch
	broken  int // questions in a row that brought nothing
	reading sync.WaitGroup
	closed  bool
}

// batch is contents that are asked for together.
type batch struct {
	ctx  context.Context //nolint:containedctx // of the run that expects them
	ids  []string
	next *batch

	once  sync.Once
	done  chan struct{}     // closed when texts is there
	texts map[string][]byte // by id, without those that were asked for; nil if it broke
}

// New returns a Reader that reads depth batches ahead of the one that is worked on.
func New(depth int, read Read) *Reader {
	return &Reader{read: read, depth: depth, of: map[string]*batch{}}
}

// Expect says that contents are going to be asked for, after those expected
// before. They are read together, with one question, when their turn comes.
func (r *Reader) Expect(ctx context.Context, ids []string) {
	if len(ids) < 2 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.broken >= maxBroken {
		return
	}
	b := &batch{ctx: ctx, ids: ids, done: make(chan struct{})}
	for _, id := range ids {
		r.of[id] = b
	}
	if r.last != nil {
		r.last.next = b
	}
	r.last = b
}

// Content returns an expected content. It says false for one that was not
// expected, or that could not be had with the others.
func (r *Reader) Content(ctx context.Context, id string) (*bytes.Reader, bool) {
	b := r.start(id)
	if b == nil {
		return nil, false
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text, ok := b.texts[id]
	delete(b.texts, id)
	return bytes.NewReader(text), ok
}

// start gives the batch that an expected content is in, and sees to it that it
// and the next ones are read.
func (r *Reader) start(id string) *batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.of[id]
	if b == nil || r.closed {
		return nil
	}
	delete(r.of, id)
	if r.broken >= maxBroken {
		return nil
	}
	now := b
	for range r.depth + 1 {
		if now == nil {
			break
		}
		one := now
		one.once.Do(func() { r.reading.Go(func() { r.fill(one) }) })
		now = now.next
	}
	return b
}

// fill reads a batch.
func (r *Reader) fill(b *batch) {
	defer close(b.done)
	texts, err := r.read(b.ctx, b.ids)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		b.texts, r.broken = texts, 0
	case b.ctx.Err() == nil:
		r.broken++
	}
}

// Close lets nothing more be read ahead, and waits for what is under way.
func (r *Reader) Close() {
	r.mu.Lock()
	r.closed, r.of, r.last = true, nil, nil
	r.mu.Unlock()
	r.reading.Wait()
}
