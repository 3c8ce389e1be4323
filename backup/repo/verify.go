package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
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
}

// Verify checks the commits of a source and the packs that they name. Damage
// is in the report; the error is for what kept the check itself from going on.
// Shared pieces open with the recipes that refer to them only: their
// identifiers are checked by ReadContent, here just their frames.
func (r *Repository) Verify(ctx context.Context, tenant, source string, level VerifyLevel) (VerifyReport, error) {
	var report VerifyReport
	note := func(err error) error {
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotExist) || errors.Is(err, syscall.EIO) {
			report.Damaged = append(report.Damaged, err.Error())
			return nil
		}
		return err
	}
	log, err := r.currentLog(ctx, tenant)
	if err != nil && !errors.Is(err, ErrDamaged) { // VerifyLog reports damage
		return report, err
	}
	gone := log.of(source)
	next := int64(1)
	for c, err := range r.Commits(ctx, tenant, source, 0) {
		report.Commits++
		if err != nil {
			next = gone.firstKept(next) + 1
			if err := note(err); err != nil {
				return report, err
			}
			continue
		}
		for next = gone.firstKept(next); next < c.Seq; next = gone.firstKept(next + 1) {
			report.Damaged = append(report.Damaged, fmt.Sprintf("%s: it is missing", commitKey(tenant, source, next)))
		}
		next = c.Seq + 1
		if err := r.verifyPacks(ctx, tenant, source, c.Packs, level, &report, note); err != nil {
			return report, err
		}
	}
	others := log.packs(func(a adopted) bool { return a.Source == source })
	if gone.Erased {
		// Its key is gone: of the packs that others share, only the bytes can be checked.
		return report, r.verifyPacks(ctx, tenant, source, others, min(level, VerifyPacks), &report, note)
	}
	for c, err := range r.expiredCommits(ctx, tenant, gone) {
		if err := note(err); err != nil && !errors.Is(err, ErrNotExist) {
			return report, err
		}
		others = append(others, c.Packs...)
	}
	if err := r.verifyPacks(ctx, tenant, source, others, level, &report, note); err != nil {
		return report, err
	}
	return report, ctx.Err()
}

// verifyPacks checks the packs of a source that are not condemned.
func (r *Repository) verifyPacks(ctx context.Context, tenant, source string, packs []Pack, level VerifyLevel, report *VerifyReport, note func(error) error) error {
	for _, p := range packs {
		log, err := r.currentLog(ctx, tenant)
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if log.drops(p) {
			continue
		}
		n, err := r.verifyPack(ctx, tenant, source, p, level)
		if errors.Is(err, ErrNotExist) {
			if log, now := r.currentLog(ctx, tenant); now == nil && log.drops(p) {
				continue // it was collected meanwhile
			}
		}
		report.Packs++
		report.Pieces += n
		if err := note(err); err != nil {
			return err
		}
	}
	return nil
}

// checkPack checks one pack and returns how many pieces it holds.
func (r *Repository) checkPack(ctx context.Context, tenant, source string, p Pack, level VerifyLevel) (int, error) {
	key := packKey(tenant, p.Kind, p.ID)
	size, err := r.storage.Stat(ctx, key)
	if err != nil {
		return 0, err
	}
	if size != p.Length {
		return 0, damaged(key, fmt.Sprintf("it has %d bytes instead of %d", size, p.Length))
	}
	if level < VerifyStructure {
		return 0, nil
	}
	if level >= VerifyPacks {
		if err := r.verifySum(ctx, key, p.SHA256); err != nil {
			return 0, err
		}
	}
	f, epoch, err := r.readFooter(ctx, tenant, p.Kind, p.ID)
	if err != nil {
		return 0, err
	}
	if f.Source != source {
		return 0, damaged(key, "it belongs to another source")
	}
	n := 0
	for number, b := range f.Blobs {
		n += len(b.Pieces)
		if level < VerifyBlobs {
			continue
		}
		at := b.locations(p.ID, p.Kind, epoch, uint32(number)) //nolint:gosec // bounded by the footer's length
		if err := r.verifyBlob(ctx, tenant, source, b, at); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (r *Repository) verifySum(ctx context.Context, key string, want []byte) error {
	in, err := r.storage.Open(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return damaged(key, "its bytes are not those that were written")
	}
	return nil
}

// verifyBlob opens a blob of the source and recomputes the identifiers of its
// pieces. Of a shared piece it can only check the frame.
func (r *Repository) verifyBlob(ctx context.Context, tenant, source string, b footerBlob, at []Location) error {
	if len(at) == 0 {
		return damaged("footer", "it names a blob without pieces")
	}
	if b.Type == blobShared {
		_, _, err := r.readBlob(ctx, tenant, at[0])
		return err
	}
	data, err := r.openBlob(ctx, tenant, source, at[0])
	if err != nil {
		return err
	}
	pieces, err := r.identify(ctx, tenant, source, b.Type, data)
	if err != nil || !slices.Equal(pieces, b.Pieces) {
		return damaged(packKey(tenant, at[0].Kind, at[0].Pack), fmt.Sprintf("blob %d holds other pieces than its footer says", at[0].Blob))
	}
	return nil
}

// identify returns the pieces of an opened blob of a source, with the
// identifiers that their bytes give.
func (r *Repository) identify(ctx context.Context, tenant, source string, blobType byte, data []byte) ([]footerPiece, error) {
	s, err := r.keys.secrets(ctx, tenant)
	if err != nil {
		return nil, err
	}
	pieces, err := groupTable(data)
	if err != nil {
		return nil, err
	}
	for i, p := range pieces {
		piece := data[p.Start : p.Start+p.Size]
		if blobType == blobMeta {
			if len(piece) == 0 {
				return nil, errTable
			}
			hash := sha256.Sum256(piece[1:])
			pieces[i].ID = PieceID(s.metaID(source, piece[0], hash[:]))
		} else {
			hash := sha256.Sum256(piece)
			pieces[i].ID = s.sourceID(source, hash[:])
		}
	}
	return pieces, nil
}
