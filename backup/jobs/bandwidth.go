package jobs

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"holdfast/backup"
)

// bandwidths hold how fast all runs of an organization in this process may read
// content together.
type bandwidths struct {
	mu sync.Mutex
	of map[backup.OrgID]*rate.Limiter
}

// piece is how much is paid for at a time, and the least that may come at once.
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

// pace holds up the runs of an organization that read content faster than it may.
// What was read is paid for before more is.
func (r *Runner) pace(org backup.OrgID) func(context.Context, int) error {
	l := r.bandwidths.limiter(org)
	return func(ctx context.Context, bytes int) error {
		for ; bytes > 0; bytes -= piece {
			if err := l.WaitN(ctx, min(bytes, piece)); err != nil {
				return err
			}
		}
		return nil
	}
}
