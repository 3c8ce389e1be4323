package repo

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// Unhurried returns the repository for checks: it reads from the storage what
// an earlier reader left in memory, and no more bytes a second than limit
// allows; nil for as many as there are.
func (r *Repository) Unhurried(limit *rate.Limiter) *Repository {
	storage := r.storage
	if limit != nil {
		storage = paced{storage, limit}
	}
	return &Repository{storage: storage, index: r.index, keys: newKeyring(r.keys.store), options: r.options,
		id: r.id, encoder: r.encoder, decoder: r.decoder, ledger: r.ledger}
}

// WithIndex returns the repository with another index, and with nothing in
// memory that an earlier reader left.
func (r *Repository) WithIndex(index Index) *Repository {
	return &Repository{storage: r.storage, index: index, keys: newKeyring(r.keys.store), options: r.options,
		id: r.id, encoder: r.encoder, decoder: r.decoder, ledger: r.ledger}
}

// paced is a Storage that is read no faster than its limit.
type paced struct {
	Storage
	limit *rate.Limiter
}

// Open implements Storage.
func (p paced) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	in, err := p.Storage.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return &pacedReader{ctx, in, p.limit}, nil
}

type pacedReader struct {
	ctx context.Context
	io.ReadCloser
	limit *rate.Limiter
}

// Read implements io.Reader. It waits for what it has read, since only then it
// knows how much that is.
func (r *pacedReader) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b[:min(len(b), r.limit.Burst())])
	if wait := r.limit.WaitN(r.ctx, n); wait != nil {
		return n, wait
	}
	return n, err
}
