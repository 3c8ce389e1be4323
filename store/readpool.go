package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
)

// readPool is the pool that pages read from. Its statements stay parsed, by
// their text: on SQLite parsing a statement takes longer than most of them run.
type readPool struct {
	*sql.DB
	keep       bool // PostgreSQL's driver keeps them by itself
	statements sync.Map
	kept       atomic.Int32
}

// statementsMost is how many statements stay parsed. There are fewer texts; it
// is a limit for whoever writes one that varies.
const statementsMost = 1000

// prepared returns a statement that stays parsed, or nil if it has to run as
// text. It closes with the pool.
func (p *readPool) prepared(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt, ok := p.statements.Load(query); ok {
		return stmt.(*sql.Stmt), nil
	}
	if p.kept.Load() >= statementsMost {
		return nil, nil //nolint:nilnil // said above
	}
	stmt, err := p.PrepareContext(ctx, query) //nolint:sqlclosecheck // kept
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	if kept, there := p.statements.LoadOrStore(query, stmt); there {
		stmt.Close() //nolint:gosec,sqlclosecheck // another goroutine was first; nothing was done with it
		return kept.(*sql.Stmt), nil
	}
	p.kept.Add(1)
	return stmt, nil
}

// QueryContext is sql.DB's with a statement that stays parsed.
func (p *readPool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if p.keep {
		stmt, err := p.prepared(ctx, query) //nolint:sqlclosecheck // kept
		if err != nil {
			return nil, err
		}
		if stmt != nil {
			return stmt.QueryContext(ctx, args...)
		}
	}
	return p.DB.QueryContext(ctx, query, args...)
}

// QueryRowContext is sql.DB's with a statement that stays parsed.
func (p *readPool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if p.keep {
		if stmt, err := p.prepared(ctx, query); err == nil && stmt != nil { //nolint:sqlclosecheck // kept
			return stmt.QueryRowContext(ctx, args...)
		}
	}
	return p.DB.QueryRowContext(ctx, query, args...) // which tells the error as well
}
