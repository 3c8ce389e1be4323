package store

import (
	"context"
	"database/sql"
	"strings"
)

// inserter adds rows, many with one statement.
type inserter struct {
	ctx     context.Context
	dialect dialect
	tx      *sql.Tx
	into    string
	width   int
	args    []any
	stmt    *sql.Stmt // for a full statement
}

// insertRows is how many rows one statement adds.
const insertRows = 100

func (s *Store) inserter(ctx context.Context, tx *sql.Tx, into string, width int) *inserter {
	// A statement that can be cancelled takes a goroutine of the driver's and looks
	// up from its work every thousand steps. These are short.
	ctx = context.WithoutCancel(ctx)
	return &inserter{ctx: ctx, dialect: s.dialect, tx: tx, into: into, width: width}
}

func (in *inserter) add(values ...any) error {
	in.args = append(in.args, values...)
	if len(in.args) < insertRows*in.width {
		return nil
	}
	if in.stmt == nil {
		var err error
		// The transaction closes it.
		if in.stmt, err = in.tx.PrepareContext(in.ctx, in.text(insertRows)); err != nil { //nolint:sqlclosecheck // the transaction's end closes it
			return err
		}
	}
	_, err := in.stmt.ExecContext(in.ctx, in.args...)
	in.args = in.args[:0]
	return err
}

func (in *inserter) text(rows int) string {
	var b strings.Builder
	into := in.into
	if in.dialect == dialectSQLite {
		// Who can't add a row gives up the transaction. Otherwise SQLite would keep,
		// in a file, every page that a statement changes, to take that one back.
		into = strings.Replace(into, "INSERT INTO", "INSERT OR ROLLBACK INTO", 1)
	}
	b.WriteString(into + " VALUES ")
	for i := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		if in.dialect == dialectSQLite {
			// A numbered parameter is a named one to SQLite, which finds it by
			// walking through all of them.
			b.WriteString("(?" + strings.Repeat(", ?", in.width-1) + ")")
			continue
		}
		b.WriteString("(" + placeholders(1+i*in.width, in.width) + ")")
	}
	return b.String()
}

func (in *inserter) flush() error {
	if len(in.args) == 0 {
		return nil
	}
	_, err := in.tx.ExecContext(in.ctx, in.text(len(in.args)/in.width), in.args...)
	in.args = nil
	return err
}
