package jobs

import (
	"context"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"holdfast/backup"
	"holdfast/backup/engine"
)

// bandwidths hold how fast all runs of an organization in this process may read
// content together.
type bandwidths struct {
	mu sync.Mutex
	of map[backup.OrgID]*rate.Limiter
}

// piece is how much is read before the limit is asked, and the least that may
// come at once.
const piece = 64 << 10

// limiter is what the runs of an organization share. It limits nothing until
// setBandwidth says so.
func (b *bandwidths) limiter(org backup.OrgID) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.of[org]
	if !ok {
		if b.of == nil {
			b.of = map[backup.OrgID]*rate.Limiter{}
		}
		l = rate.NewLimiter(rate.Inf, piece)
		b.of[org] = l
	}
	return l
}

// setBandwidth brings the limit of an organization's runs up to date. Each of the
// living workers has an equal share of it, so that together they keep it.
func (r *Runner) setBandwidth(ctx context.Context, org backup.OrgID) {
	plan, err := r.Store.Schedule(ctx, org)
	workers := 1
	if err == nil && plan.BytesPerSecond > 0 {
		workers, err = r.Store.Workers(ctx, time.Now())
	}
	if err != nil {
		if ctx.Err() == nil {
			r.Log.Warn("bandwidth limit not read", "organization", org, "error", err)
		}
		return // what held before holds
	}
	l, limit := r.bandwidths.limiter(org), rate.Inf
	if plan.BytesPerSecond > 0 {
		limit = rate.Limit(plan.BytesPerSecond) / rate.Limit(max(workers, 1))
	}
	if l.Limit() != limit {
		l.SetBurst(max(piece, int(min(plan.BytesPerSecond/10, 1<<30))))
		l.SetLimit(limit)
	}
}

// limited is source, reading content no faster than its organization may.
func (r *Runner) limited(source engine.Source, org backup.OrgID) engine.Source {
	return limitedSource{source, r.bandwidths.limiter(org)}
}

type limitedSource struct {
	engine.Source
	limit *rate.Limiter
}

// ExpectAll implements engine.Beginner, if the source does.
func (s limitedSource) ExpectAll() {
	if b, ok := s.Source.(engine.Beginner); ok {
		b.ExpectAll()
	}
}

// Expect implements engine.Expecter, if the source does: what is read ahead is at
// most a little, and the next waits until that was paid for.
func (s limitedSource) Expect(ctx context.Context, items []engine.ItemState) {
	if e, ok := s.Source.(engine.Expecter); ok {
		e.Expect(ctx, items)
	}
}

// Content implements engine.Source.
func (s limitedSource) Content(ctx context.Context, id string) (io.ReadCloser, error) {
	content, err := s.Source.Content(ctx, id)
	if err != nil {
		return nil, err
	}
	return &limitedContent{content, ctx, s.limit}, nil
}

type limitedContent struct {
	io.ReadCloser
	ctx   context.Context //nolint:containedctx // of the one reading that the content is opened for
	limit *rate.Limiter
}

// Read implements io.Reader. What was read is paid for before more is.
func (c *limitedContent) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p[:min(len(p), piece)])
	if n > 0 {
		if wait := c.limit.WaitN(c.ctx, n); wait != nil {
			return n, wait
		}
	}
	return n, err
}
