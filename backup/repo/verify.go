package repo

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// VerifyLevel says how deep Verify looks.
type VerifyLevel int

// The levels, each with those before it.
const (
	VerifyLengths   VerifyLevel = iota - 1 // every pack that a commit names is there with its length
	VerifyStructure                        // every pack that a commit names is there with its length and a footer
	VerifyPacks                            // the SHA-256 of every pack
	VerifyBlobs                            // every blob of a source opens and its pieces have the identifiers that its footer names
)

// VerifyReport is what Verify found for one source.
type VerifyReport struct {
	Commits int
	Packs   int
	Pieces  int
	Damaged []string // what is damaged, by name and how
	Broken  []PackID // the packs among it
}

// Proof follows a verification of blobs. Its methods are called from several
// goroutines, for all metadata before any content.
type Proof interface {
	// Meta gets a metadata blob of a source whose bytes give its identifier; data
	// is the callee's for the call only.
	Meta(source string, kind byte, id MetaID, data []byte)
	// Key returns the key of a shared piece, nil if no recipe has it. Without it
	// the piece is not opened: only the sum of its pack proves it.
	Key(id PieceID) []byte
	// Whole gets a piece of content whose bytes give its identifier.
	Whole(id PieceID)
}

// Verify checks the commits of a source and the packs that they name. Damage
// is in the report; the error is for what kept the check itself from going on.
// Shared pieces open with the recipes that refer to them only: their
// identifiers are checked by ReadContent, here just their frames.
func (r *Repository) Verify(ctx context.Context, tenant, source string, level VerifyLevel) (VerifyReport, error) {
	reports, err := r.VerifyAll(ctx, tenant, []string{source}, level, nil)
	return reports[0], err
}

// VerifyAll is Verify of several sources of a tenant, with a report for each. It
// reads every pack once, as many at a time as there are processors. With a proof
// shared pieces are opened too; nil for none.
func (r *Repository) VerifyAll(ctx context.Context, tenant string, sources []string, level VerifyLevel, proof Proof) ([]VerifyReport, error) {
	v := &verification{Repository: r, tenant: tenant, proof: proof}
	reports := make([]VerifyReport, len(sources))
	log, err := r.currentLog(ctx, tenant)
	if err != nil && !errors.Is(err, ErrDamaged) { // VerifyLog reports damage
		return reports, err
	}
	var packs []*packCheck
	for i, source := range sources {
		list, err := v.packs(ctx, log, source, level, &reports[i])
		for n := range list {
			list[n].report = &reports[i]
			packs = append(packs, &list[n])
		}
		if err != nil {
			return reports, err
		}
	}
	err = errors.Join(v.each(ctx, packs, PackMeta), v.each(ctx, packs, PackData))
	for _, p := range packs {
		p.add()
	}
	return reports, errors.Join(err, ctx.Err())
}

// verification is a verification under way.
type verification struct {
	*Repository
	tenant string
	proof  Proof      // nil for none
	told   sync.Mutex // held while the watcher is told
}

// packCheck is a pack to look at, and how it was found.
type packCheck struct {
	Pack
	source string
	level  VerifyLevel
	report *VerifyReport
	looked bool
	pieces int
	damage error
}

// add puts what was found into the report.
func (p *packCheck) add() {
	if !p.looked {
		return
	}
	p.report.Packs++
	p.report.Pieces += p.pieces
	if p.damage != nil {
		p.report.Damaged = append(p.report.Damaged, p.damage.Error())
		p.report.Broken = append(p.report.Broken, p.ID)
	}
}

// isDamage tells damage from what keeps a check from going on.
func isDamage(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotExist) || errors.Is(err, syscall.EIO)
}

// packs reads the commits of a source and lists the packs to look at.
func (v *verification) packs(ctx context.Context, log deletions, source string, level VerifyLevel, report *VerifyReport) ([]packCheck, error) {
	var list []packCheck
	take := func(packs []Pack, level VerifyLevel) {
		for _, p := range packs {
			if !log.drops(p) {
				list = append(list, packCheck{Pack: p, source: source, level: level})
			}
		}
	}
	gone := log.of(source)
	next := int64(1)
	for c, err := range v.Commits(ctx, v.tenant, source, 0) {
		report.Commits++
		if err != nil {
			if next = gone.firstKept(next) + 1; !isDamage(err) {
				return list, err
			}
			report.Damaged = append(report.Damaged, err.Error())
			continue
		}
		for next = gone.firstKept(next); next < c.Seq; next = gone.firstKept(next + 1) {
			report.Damaged = append(report.Damaged, fmt.Sprintf("%s: it is missing", commitKey(v.tenant, source, next)))
		}
		next = c.Seq + 1
		take(c.Packs, level)
	}
	others := log.packs(func(a adopted) bool { return a.Source == source })
	if gone.Erased {
		// Its key is gone: of the packs that others share, only the bytes can be checked.
		take(others, min(level, VerifyPacks))
		return list, nil
	}
	take(others, level)
	for c, err := range v.expiredCommits(ctx, v.tenant, gone) {
		switch {
		case err == nil:
			take(c.Packs, level)
		case !isDamage(err):
			return list, err
		case !errors.Is(err, ErrNotExist):
			report.Damaged = append(report.Damaged, err.Error())
		}
	}
	return list, nil
}

// each looks at the packs of a kind, several at a time.
func (v *verification) each(ctx context.Context, packs []*packCheck, kind PackKind) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range packs {
		if p.Kind != kind {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return v.look(ctx, p) })
	}
	return g.Wait()
}

// look looks at a pack. It returns the error that keeps the check from going on.
func (v *verification) look(ctx context.Context, p *packCheck) error {
	n, err := v.watched(ctx, p)
	if errors.Is(err, ErrNotExist) {
		if log, now := v.currentLog(ctx, v.tenant); now == nil && log.drops(p.Pack) {
			return nil // it was collected meanwhile
		}
	}
	p.looked, p.pieces = true, n
	if err != nil && isDamage(err) {
		p.damage, err = err, nil
	}
	return err
}
