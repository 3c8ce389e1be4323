package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"holdfast/backup"
)

// CheckKit reads a kit to its end and returns what is in it.
func CheckKit(r io.Reader) (Kit, error) {
	k, err := openKit(r)
	if err != nil {
		return Kit{}, err
	}
	err = k.each(func(string, []string, []any) error { return nil })
	return k.Kit, err
}

// kitReader reads a kit.
type kitReader struct {
	Kit
	header kitHeader
	keyset *keyset.Handle
	in     *cbor.Decoder
	sum    hash.Hash // of what was read
}

// next reads a record.
func (k *kitReader) next(into any) error {
	var raw cbor.RawMessage
	if err := k.in.Decode(&raw); err != nil {
		return err
	}
	if r, ok := into.(*kitRecord); ok {
		if err := kitDecoding.Unmarshal(raw, r); err != nil || r.End {
			return err // the end is not part of the sum
		}
	} else if err := kitDecoding.Unmarshal(raw, into); err != nil {
		return err
	}
	_, err := k.sum.Write(raw)
	return err
}

var errKit = errors.New("this is not a recovery kit of Holdfast, or it is damaged")

var kitDecoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{IntDec: cbor.IntDecConvertSignedOrFail, MaxNestedLevels: 8, MaxMapPairs: 64}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return mode
}()

func openKit(r io.Reader) (*kitReader, error) {
	k := &kitReader{in: kitDecoding.NewDecoder(r), sum: sha256.New()}
	if err := k.next(&k.header); err != nil || k.header.Magic != kitMagic {
		return nil, errors.Join(errKit, err)
	}
	if k.header.Version != kitVersion {
		return nil, fmt.Errorf("the recovery kit has version %d, and this program reads %d: use the program that made it, or a newer one", k.header.Version, kitVersion)
	}
	wrap, err := subtle.NewAESGCM(k.header.Key)
	if err != nil {
		return nil, errors.Join(errKit, err)
	}
	if k.keyset, err = keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(k.header.Keyset)), wrap, kitKeysetAD); err != nil {
		return nil, errors.Join(errKit, err)
	}
	k.MadeAt = moment(k.header.MadeAt)
	return k, nil
}

// each gives every row of the kit to f, and checks that none is missing.
func (k *kitReader) each(f func(table string, columns []string, row []any) error) error {
	var table kitRecord
	for {
		var r kitRecord
		if err := k.next(&r); err != nil {
			return errors.Join(errKit, err)
		}
		switch {
		case r.End:
			if r.Rows != k.Rows {
				return fmt.Errorf("%w: it has %d rows instead of %d", errKit, k.Rows, r.Rows)
			}
			if len(r.Sum) > 0 && !bytes.Equal(r.Sum, k.sum.Sum(nil)) {
				return fmt.Errorf("%w: its bytes are not those that were written", errKit)
			}
			return nil
		case r.Table != "":
			table = r
		case table.Table == "" || len(r.Row) != len(table.Columns):
			return errKit
		default:
			k.count(table.Table, 1)
			if err := f(table.Table, table.Columns, r.Row); err != nil {
				return fmt.Errorf("table %s: %w", table.Table, err)
			}
		}
	}
}

// ReadKit fills a store that nobody has used yet with what a kit holds. The
// kit's keyset replaces the store's, wrapped under rootKey. The catalog has to
// be rebuilt afterwards.
func (s *Store) ReadKit(ctx context.Context, rootKey []byte, r io.Reader) (Kit, error) {
	k, err := openKit(r)
	if err != nil {
		return Kit{}, err
	}
	wrapped, err := wrapKeyset(k.keyset, rootKey, keysetAD)
	if err != nil {
		return Kit{}, fmt.Errorf("wrap the keyset: %w", err)
	}
	opened, err := aead.New(k.keyset)
	if err != nil {
		return Kit{}, errors.Join(errKit, err)
	}
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		if err := s.kitFits(ctx, tx, k.header.Schema); err != nil {
			return err
		}
		if err := execOne(ctx, tx, `UPDATE keyset SET wrapped = $1 WHERE id = 'main'`, wrapped); err != nil {
			return fmt.Errorf("replace the keyset: %w", err)
		}
		if err := s.readKitRows(ctx, tx, k); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE mailboxes SET running = FALSE`)
		return err
	})
	if err != nil {
		return Kit{}, err
	}
	s.keyset, s.aead = k.keyset, opened
	return k.Kit, nil
}

// kitFits refuses a store that holds something, or is older than the kit.
func (s *Store) kitFits(ctx context.Context, tx *sql.Tx, schema int64) error {
	for _, table := range []string{"partners", "repository_keys"} {
		n, err := one(ctx, tx, scanValue[int64], `SELECT count(*) FROM `+quoted(table))
		if err != nil {
			return fmt.Errorf("look for rows: %w", err)
		}
		if n > 0 {
			return fmt.Errorf("this database is in use already: import the recovery kit into a new one (-data or -database): %w", backup.ErrConflict)
		}
	}
	have, err := schemaVersion(ctx, tx)
	if err != nil {
		return err
	}
	if schema > have {
		return errors.New("the recovery kit was made by a newer version of Holdfast: import it with that version, or a newer one")
	}
	return nil
}

func (s *Store) readKitRows(ctx context.Context, tx *sql.Tx, k *kitReader) error {
	tables, err := s.kitTables(ctx, tx)
	if err != nil {
		return err
	}
	if s.dialect == dialectSQLite {
		if _, err := tx.ExecContext(ctx, `PRAGMA defer_foreign_keys = ON`); err != nil {
			return fmt.Errorf("defer foreign keys: %w", err)
		}
	}
	booleans, err := s.booleans(ctx, tx)
	if err != nil {
		return err
	}
	return k.each(func(table string, columns []string, row []any) error {
		if !slices.Contains(tables, table) {
			return fmt.Errorf("this version has no such table: %w", errKit)
		}
		for i, c := range columns { // SQLite wrote them as numbers
			if n, ok := row[i].(int64); ok && booleans[table+"."+c] {
				row[i] = n != 0
			}
		}
		names := make([]string, len(columns))
		for i, c := range columns {
			names[i] = quoted(c)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO `+quoted(table)+` (`+strings.Join(names, ", ")+`) VALUES (`+placeholders(1, len(row))+`)`, row...) //nolint:gosec // the table is one of ours, and quoted escapes the columns
		return err
	})
}

// booleans are the columns that take no numbers for yes and no, like
// "mailboxes.running".
func (s *Store) booleans(ctx context.Context, q querier) (map[string]bool, error) {
	if s.dialect == dialectSQLite {
		return nil, nil //nolint:nilnil // it takes them everywhere
	}
	list, err := collect(ctx, q, scanValue[string], `SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema() AND data_type = 'boolean'`)
	if err != nil {
		return nil, fmt.Errorf("list columns: %w", err)
	}
	names := make(map[string]bool, len(list))
	for _, name := range list {
		names[name] = true
	}
	return names, nil
}
