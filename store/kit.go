package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// A kit is a sequence of CBOR records: a header, then for each table its name
// and columns and after them its rows, and an end that counts the rows
// and has a sum of all before it. Sealed
// columns stay as they are: the keyset that opens them is in the header, wrapped
// under a key of the kit's own, which is there too. Who holds a kit holds all
// keys, so it is never stored or sent but encrypted.
const (
	kitMagic   = "holdfast recovery kit"
	kitVersion = 1
)

// kitKeysetAD binds the keyset of a kit to its purpose.
var kitKeysetAD = []byte("holdfast recovery kit keyset")

type kitHeader struct {
	Magic   string `cbor:"1,keyasint"`
	Version int    `cbor:"2,keyasint"`
	Schema  int64  `cbor:"3,keyasint"` // of the tables: the newest migration
	MadeAt  int64  `cbor:"4,keyasint"` // Unix milliseconds
	Key     []byte `cbor:"5,keyasint"` // wraps the keyset
	Keyset  []byte `cbor:"6,keyasint"`
}

// kitRecord is one of: a table that begins, a row of it, the end.
type kitRecord struct {
	Table   string   `cbor:"1,keyasint,omitempty"`
	Columns []string `cbor:"2,keyasint,omitempty"`
	Row     []any    `cbor:"3,keyasint,omitempty"`
	End     bool     `cbor:"4,keyasint,omitempty"`
	Rows    int64    `cbor:"5,keyasint,omitempty"` // of all tables
	Sum     []byte   `cbor:"6,keyasint,omitempty"` // SHA-256 of all before the end; older kits have none
}

// Kit is what a recovery kit says about itself.
type Kit struct {
	MadeAt        time.Time
	Organizations int64
	Mailboxes     int64
	Keys          int64 // of the repository
	Rows          int64 // of all tables
}

// kitLeavesOut says which tables are not in a kit: what a rebuild makes anew,
// what only matters to running processes, and the history of runs.
func kitLeavesOut(table string) bool {
	for _, prefix := range []string{"catalog_", "river_", "goose_", "sqlite_"} {
		if strings.HasPrefix(table, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"keyset", "recovery", "web_sessions", "sign_in_failures", "workers", "runs", "upkeep", "pack_checks"}, table)
}

// WriteKit writes what has to survive the loss of the database: all keys of the
// repository, and the portal's own rows without the catalog. The caller
// encrypts it.
func (s *Store) WriteKit(ctx context.Context, w io.Writer) (Kit, error) {
	header := kitHeader{Magic: kitMagic, Version: kitVersion, MadeAt: millis(time.Now()), Key: make([]byte, 32)}
	rand.Read(header.Key)
	var err error
	if header.Keyset, err = wrapKeyset(s.keyset, header.Key, kitKeysetAD); err != nil {
		return Kit{}, fmt.Errorf("wrap the keyset: %w", err)
	}
	kit := Kit{MadeAt: moment(header.MadeAt)}
	if err := keepHeads(ctx, s.db, ""); err != nil {
		return Kit{}, err
	}
	tx, err := s.db.BeginTx(ctx, s.stable())
	if err != nil {
		return Kit{}, fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // it only reads
	if header.Schema, err = schemaVersion(ctx, tx); err != nil {
		return Kit{}, err
	}
	sum := sha256.New()
	out := cbor.NewEncoder(io.MultiWriter(w, sum))
	if err := out.Encode(header); err != nil {
		return Kit{}, fmt.Errorf("write kit: %w", err)
	}
	tables, err := s.kitTables(ctx, tx)
	if err != nil {
		return Kit{}, err
	}
	for _, table := range tables {
		n, err := writeKitTable(ctx, tx, table, out)
		if err != nil {
			return Kit{}, fmt.Errorf("table %s: %w", table, err)
		}
		kit.count(table, n)
	}
	if err := out.Encode(kitRecord{End: true, Rows: kit.Rows, Sum: sum.Sum(nil)}); err != nil {
		return Kit{}, fmt.Errorf("write kit: %w", err)
	}
	return kit, nil
}

// stable is how a transaction reads all tables as of one moment.
func (s *Store) stable() *sql.TxOptions {
	if s.dialect == dialectPostgres {
		return &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	}
	return nil // SQLite's transactions always do
}

func (k *Kit) count(table string, n int64) {
	k.Rows += n
	switch table {
	case "organizations":
		k.Organizations += n
	case "mailboxes":
		k.Mailboxes += n
	case "repository_keys":
		k.Keys += n
	}
}

func schemaVersion(ctx context.Context, q querier) (int64, error) {
	v, err := one(ctx, q, scanValue[int64], `SELECT max(version_id) FROM goose_db_version`)
	if err != nil {
		return 0, fmt.Errorf("read the version of the database: %w", err)
	}
	return v, nil
}

// kitTables lists the tables of a kit in the order in which they were made, in
// which tables only refer to earlier ones.
func (s *Store) kitTables(ctx context.Context, q querier) ([]string, error) {
	query := `SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid`
	if s.dialect == dialectPostgres {
		query = `SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY oid`
	}
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list tables: %w", err)
		}
		if !kitLeavesOut(name) {
			list = append(list, name)
		}
	}
	return list, rows.Err()
}

func writeKitTable(ctx context.Context, q querier, table string, out *cbor.Encoder) (int64, error) {
	rows, err := q.QueryContext(ctx, `SELECT * FROM `+quoted(table))
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	if err := out.Encode(kitRecord{Table: table, Columns: columns}); err != nil {
		return 0, err
	}
	values := make([]any, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	n := int64(0)
	for ; rows.Next(); n++ {
		if err := rows.Scan(into...); err != nil {
			return n, err
		}
		if err := out.Encode(kitRecord{Row: values}); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}

// quoted makes a name from the database itself, or one that was compared with
// those, part of a statement.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// wrapKeyset encrypts a keyset under a 32-byte key.
func wrapKeyset(h *keyset.Handle, key, ad []byte) ([]byte, error) {
	root, err := subtle.NewAESGCM(key)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), root, ad); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
