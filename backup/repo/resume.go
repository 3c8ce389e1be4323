package repo

import (
	"context"
	"fmt"
)

// A source without commits has no pieces, so nothing that is new has to be looked
// up in its first backup. When that was interrupted, and another process goes on
// with it, the writer looks pieces up again, until so many were in vain that it
// pays to read which pieces the source has.

// Lister is an Index that tells what packs hold, which takes less time than to
// look up each piece.
type Lister interface {
	Index
	// EachPiece gives f the identifiers in packs of a tenant, in no order.
	EachPiece(ctx context.Context, tenant string, packs []PackID, f func(PieceID)) error
}

// learnAfter is how many pieces a writer looks up in vain before it asks for all
// of its source. To look up as many takes as long as to read some ten thousand.
const learnAfter = 500

// missed counts a piece of the source that the index does not have.
func (w *Writer) missed(ctx context.Context) {
	w.mu.Lock()
	w.misses++
	due := w.misses == learnAfter && w.own == nil
	w.mu.Unlock()
	if !due {
		return
	}
	own, err := w.r.piecesOfUnfinished(ctx, w.tenant, w.source)
	if err != nil || own == nil {
		return // pieces are looked up as before, and that tells its own error
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.known {
		own.add(id) // others may be at it meanwhile
	}
	w.own = own
}

// piecesOfUnfinished returns the pieces of a source whose commits are all
// checkpoints, so that most of what comes is new, and nil for others. It may lack
// some: they are stored once more.
func (r *Repository) piecesOfUnfinished(ctx context.Context, tenant, source string) (*pieceSet, error) {
	index, ok := r.index.(Lister)
	if !ok {
		return nil, nil //nolint:nilnil // said above
	}
	seqs, err := r.Kept(ctx, tenant, source, 0)
	if err != nil {
		return nil, err
	}
	packs, err := r.OtherPacks(ctx, tenant, source)
	if err != nil {
		return nil, err
	}
	for i := len(seqs) - 1; i >= 0; i-- { // from the newest: a finished source is soon told
		c, err := r.Commit(ctx, tenant, source, seqs[i])
		if err != nil {
			return nil, err
		}
		if !c.Partial {
			return nil, nil //nolint:nilnil // said above
		}
		packs = append(packs, c.Packs...)
	}
	ids := make([]PackID, len(packs))
	for i, p := range packs {
		ids[i] = p.ID
	}
	own := &pieceSet{}
	if err := index.EachPiece(ctx, tenant, ids, own.add); err != nil {
		return nil, fmt.Errorf("list pieces: %w", err)
	}
	return own, nil
}
