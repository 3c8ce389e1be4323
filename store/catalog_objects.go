package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"holdfast/backup"
	"holdfast/backup/repo"
)

var _ repo.Lister = (*Store)(nil)

// piecePrefix is what pieces are looked up by: the beginning of their ids,
// which are too long for an index.
func piecePrefix(id repo.PieceID) int64 {
	return int64(binary.BigEndian.Uint64(id[:8])) //nolint:gosec // any 64 bits do
}

// locateFew is how many pieces less than a chunk of them are looked up at once: as
// many as a message has.
const locateFew = 8

// Locate implements repo.Index.
func (s *Store) Locate(ctx context.Context, tenant string, ids []repo.PieceID) (map[repo.PieceID]repo.Location, error) {
	wanted := make(map[repo.PieceID]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	found := make(map[repo.PieceID]repo.Location, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), catalogChunk)
		if n < catalogChunk {
			n = min(n, locateFew) // few statements are kept ready, and one for full chunks
		}
		args := []any{tenant}
		for _, id := range ids[:n] {
			args = append(args, piecePrefix(id))
		}
		if err := eachObject(ctx, s.read, locateSQL(n), args, func(o repo.Object) {
			if wanted[o.ID] {
				found[o.ID] = o.Location
			}
		}); err != nil {
			return nil, fmt.Errorf("locate pieces: %w", err)
		}
		ids = ids[n:]
	}
	return found, nil
}

// locateSQL is the statement that looks for n pieces. Of a piece that is in several
// packs the newest comes last, which is the one that counts: what a repair or a move
// to new keys wrote anew.
func locateSQL(n int) string {
	return `
		SELECT x.piece_id, p.pack_id, p.kind, p.epoch, x.blob, b.type, b.at_byte, b.bytes, x.at_byte, x.bytes
		FROM catalog_pieces x
		JOIN catalog_packs p ON p.number = x.pack
		JOIN catalog_blobs b ON b.pack = x.pack AND b.blob = x.blob
		WHERE p.org_id = $1 AND x.prefix IN (` + placeholders(2, n) + `) ORDER BY x.prefix, x.pack`
}

// EachPiece implements repo.Lister.
func (s *Store) EachPiece(ctx context.Context, tenant string, packs []repo.PackID, f func(repo.PieceID)) error {
	for part := range slices.Chunk(packs, catalogChunk) {
		args := []any{tenant}
		for _, id := range part {
			args = append(args, id[:])
		}
		if err := s.eachPiece(ctx, piecesSQL(len(part)), args, f); err != nil {
			return fmt.Errorf("list pieces of packs: %w", err)
		}
	}
	return nil
}

func (s *Store) eachPiece(ctx context.Context, query string, args []any, f func(repo.PieceID)) error {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var data sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&data); err != nil {
			return err
		}
		var id repo.PieceID
		copy(id[:], data)
		f(id)
	}
	return rows.Err()
}

// piecesSQL is the statement that lists the pieces of n packs.
func piecesSQL(n int) string {
	return `SELECT x.piece_id FROM catalog_packs p JOIN catalog_pieces x ON x.pack = p.number WHERE p.org_id = $1 AND p.pack_id IN (` + placeholders(2, n) + `)`
}

// eachObject gives the rows of a query to f.
func eachObject(ctx context.Context, q querier, query string, args []any, f func(repo.Object)) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		o, err := scanObject(rows)
		if err != nil {
			return err
		}
		f(o)
	}
	return rows.Err()
}

func scanObject(row scanner) (repo.Object, error) {
	var o repo.Object
	var id, pack []byte
	err := row.Scan(&id, &pack, &o.Kind, &o.Epoch, &o.Blob, &o.Type, &o.Offset, &o.Length, &o.Start, &o.Size)
	copy(o.ID[:], id)
	copy(o.Pack[:], pack)
	return o, err
}

// AddObjects implements engine.Catalog.
func (s *Store) AddObjects(ctx context.Context, org backup.OrgID, objects []repo.Object) error {
	if len(objects) == 0 {
		return nil
	}
	err := s.inTx(ctx, func(tx *sql.Tx) error { return s.addObjects(ctx, tx, org, objects) })
	if err != nil {
		return fmt.Errorf("add objects of %s: %w", org, err)
	}
	return nil
}

// addObjects adds objects of packs that are not known yet.
func (s *Store) addObjects(ctx context.Context, tx *sql.Tx, org backup.OrgID, objects []repo.Object) error {
	numbers := map[repo.PackID]int64{} // 0 for a pack that was known
	blobs := map[blobKey]bool{}
	intoBlobs := s.inserter(ctx, tx, `INSERT INTO catalog_blobs (pack, blob, type, at_byte, bytes)`, `?, ?, ?, ?, ?`)
	intoPieces := s.inserter(ctx, tx, `INSERT INTO catalog_pieces (prefix, pack, blob, at_byte, bytes, piece_id)`, `?, ?, ?, ?, ?, ?`)
	var pack int64
	var last blobKey // the pieces of a blob stand together, and the blobs of a pack
	for i := range objects {
		o := &objects[i]
		if i == 0 || o.Pack != objects[i-1].Pack {
			var err error
			if pack, err = s.packNumber(ctx, tx, org, o.Location, numbers); err != nil {
				return fmt.Errorf("add pack %s: %w", o.Pack, err)
			}
		}
		if pack == 0 {
			continue
		}
		if at := (blobKey{pack, o.Blob}); at != last {
			if last = at; !blobs[at] {
				blobs[at] = true
				if err := intoBlobs.add(pack, int64(o.Blob), int64(o.Type), o.Offset, int64(o.Length)); err != nil {
					return fmt.Errorf("add blobs: %w", err)
				}
			}
		}
		if err := intoPieces.add(piecePrefix(o.ID), pack, int64(o.Blob), int64(o.Start), int64(o.Size), o.ID[:]); err != nil {
			return fmt.Errorf("add pieces: %w", err)
		}
	}
	if err := intoBlobs.flush(); err != nil {
		return fmt.Errorf("add blobs: %w", err)
	}
	if err := intoPieces.flush(); err != nil {
		return fmt.Errorf("add pieces: %w", err)
	}
	return nil
}

type blobKey struct {
	pack int64
	blob uint32
}

// packNumber returns the number of a pack of objects, adding it if it is not in
// numbers.
func (s *Store) packNumber(ctx context.Context, tx *sql.Tx, org backup.OrgID, at repo.Location, numbers map[repo.PackID]int64) (number int64, err error) {
	number, ok := numbers[at.Pack]
	if !ok {
		number, err = s.addPack(ctx, tx, org, at)
		numbers[at.Pack] = number
	}
	return number, err
}

// addPack adds a pack and returns its number, 0 if it was known.
func (s *Store) addPack(ctx context.Context, tx *sql.Tx, org backup.OrgID, at repo.Location) (int64, error) {
	if s.dialect == dialectPostgres {
		// Two transactions at a time must add neither the same pack nor the same number.
		if _, err := tx.ExecContext(ctx, `LOCK TABLE catalog_packs IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return 0, err
		}
	}
	number, err := one(ctx, tx, scanValue[int64], `
		INSERT INTO catalog_packs (number, org_id, pack_id, kind, epoch)
		SELECT coalesce(max(number), 0) + 1, $1, $2, $3, $4 FROM catalog_packs WHERE TRUE
		ON CONFLICT (org_id, pack_id) DO NOTHING RETURNING number`,
		org, at.Pack[:], int64(at.Kind), int64(at.Epoch))
	if errors.Is(err, backup.ErrNotFound) {
		return 0, nil
	}
	return number, err
}
