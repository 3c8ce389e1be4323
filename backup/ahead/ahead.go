// Package ahead reads contents before they are asked for, many with one question
// to the provider. A Source that costs a round trip for each message uses it.
package ahead

import (
	"context"
	"maps"
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
	ask   Read
	ahead int // batches

	mu      sync.Mutex
	of      map[string]*Batch // by id, those not asked for yet
	last    *Batch
	broken  int // questions in a row that brought nothing
	reading sync.WaitGroup
	closed  bool
}

// Batch is contents that are asked for together.
type Batch struct {
	ctx  context.Context //nolint:containedctx // of the run that expects them
	ids  []string
	next *Batch

	once  sync.Once
	done  chan struct{}     // closed when texts is there
	texts map[string][]byte // by id, without those that were asked for; nil if it broke
}

// New returns a Reader that reads so many batches ahead of the one that is worked on.
func New(ahead int, ask Read) *Reader {
	return &Reader{ask: ask, ahead: ahead, of: map[string]*Batch{}}
}

// Expect says that contents are going to be asked for, after those expected
// before. They are read together, with one question, when their turn comes. It
// returns nil for none, and when nothing is read ahead any more.
func (r *Reader) Expect(ctx context.Context, ids []string) *Batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.broken >= maxBroken || len(ids) == 0 {
		return nil
	}
	b := &Batch{ctx: ctx, ids: ids, done: make(chan struct{})}
	for _, id := range ids {
		r.of[id] = b
	}
	if r.last != nil {
		r.last.next = b
	}
	r.last = b
	return b
}

// Expects says whether a content is expected, and was not asked for.
func (r *Reader) Expects(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[id] != nil
}

// Texts has a batch read without waiting for its turn, and returns what came of
// it, by id. None of it may have been asked for; it still can be.
func (r *Reader) Texts(ctx context.Context, b *Batch) (map[string][]byte, error) {
	if b == nil {
		return nil, nil
	}
	r.mu.Lock()
	r.read(b)
	r.mu.Unlock()
	if err := b.wait(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(b.texts), nil
}

// wait waits until a batch that is read is there.
func (b *Batch) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Content returns an expected content. It says false for one that was not
// expected, or that could not be had with the others.
func (r *Reader) Content(ctx context.Context, id string) ([]byte, bool) {
	b := r.start(id)
	if b == nil || b.wait(ctx) != nil {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text, ok := b.texts[id]
	delete(b.texts, id)
	return text, ok
}

// start gives the batch that an expected content is in, and sees to it that it is
// read.
func (r *Reader) start(id string) *Batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.of[id]
	if b != nil {
		delete(r.of, id)
		r.read(b)
	}
	return b
}

// read sees to it that a batch and the next ones are read, unless that is of no
// use. It is called with mu held.
func (r *Reader) read(b *Batch) {
	for n := 0; n <= r.ahead && b != nil; n++ {
		now := b
		if r.closed || r.broken >= maxBroken {
			now.once.Do(func() { close(now.done) })
		} else {
			now.once.Do(func() { r.reading.Go(func() { r.fill(now) }) })
		}
		b = b.next
	}
}

// fill reads a batch.
func (r *Reader) fill(b *Batch) {
	defer close(b.done)
	texts, err := r.ask(b.ctx, b.ids)
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
