package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	sqlite "modernc.org/sqlite"

	"holdfast/backup"
)

// querier is what a pool and a transaction have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// execOne runs a statement that must change one row; none is ErrNotFound.
func execOne(ctx context.Context, q querier, query string, args ...any) error {
	res, err := q.ExecContext(ctx, query, args...)
	if sqlState(err) == stateNoText {
		return backup.ErrNotFound
	}
	if err != nil {
		return conflict(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("count changed rows: %w", err)
	}
	if n == 0 {
		return backup.ErrNotFound
	}
	return nil
}

// collect reads all rows of a query through scan.
func collect[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// one reads the single row of a query; none is ErrNotFound.
func one[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	v, err := scan(q.QueryRowContext(ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) || sqlState(err) == stateNoText {
		return v, backup.ErrNotFound
	}
	return v, err
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// offset is where a page of a list begins. Pages count from 1; there are no
// more than a million.
func offset(page, size int) int { return (min(max(page, 1), 1_000_000) - 1) * size }

// scanValue scans a single column.
func scanValue[T any](row scanner) (T, error) {
	var v T
	err := row.Scan(&v)
	return v, err
}

// conflict turns a broken rule of uniqueness into ErrConflict and a missing
// parent into ErrNotFound, told by the engines' codes.
func conflict(err error) error {
	switch constraintOf(err) {
	case constraintUnique:
		return fmt.Errorf("%w: %w", backup.ErrConflict, err)
	case constraintForeign:
		return fmt.Errorf("%w: %w", backup.ErrNotFound, err)
	}
	return err
}

type constraint int

const (
	constraintNone constraint = iota
	constraintUnique
	constraintForeign
)

// constraintOf tells which constraint err broke.
func constraintOf(err error) constraint {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() {
		case sqliteUnique, sqlitePrimary:
			return constraintUnique
		case sqliteForeign:
			return constraintForeign
		}
	}
	switch sqlState(err) {
	case stateUnique:
		return constraintUnique
	case stateForeign:
		return constraintForeign
	}
	return constraintNone
}

// PostgreSQL's codes (https://www.postgresql.org/docs/15/errcodes-appendix.html).
const (
	stateUnique  = "23505"
	stateForeign = "23503"
	stateNoText  = "22021" // an argument with NUL or invalid UTF-8, which no row can have
)

// sqlState is PostgreSQL's code of an error, "" if it has none.
func sqlState(err error) string {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return e.SQLState()
	}
	return ""
}

// millis is the form of a time in the database: Unix milliseconds, 0 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// moment is the time that millis stands for.
func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
