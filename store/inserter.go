package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// inserter adds rows, many with one statement.
type inserter struct {
	ctx     context.Context
	dialect dialect
	tx      *sql.Tx
	into    string
	row     string
	width   int // how many values of its own a row has
	fixed   []any
	args    []any
	stmt    *sql.Stmt // for a full statement
}

// insertRows is how many rows one statement adds.
const insertRows = 100

// inserter adds rows to into, which names the table and its columns. In the
// values of a row, ? is one that add is given and ?1, ?2 … are fixed, the same in
// all rows: to bind a value takes about as long as to store it.
func (s *Store) inserter(ctx context.Context, tx *sql.Tx, into, row string, fixed ...any) *inserter {
	// A statement that can be cancelled takes a goroutine of the driver's and looks
	// up from its work every thousand steps. These are short.
	ctx = context.WithoutCancel(ctx)
	in := &inserter{ctx: ctx, dialect: s.dialect, tx: tx, into: into, row: row, width: strings.Count(row, "?") - len(fixed), fixed: fixed}
	in.begin()
	return in
}

// begin begins the values of a statement.
func (in *inserter) begin() { in.args = append(in.args[:0], in.fixed...) }

// rows is how many rows wait.
func (in *inserter) rows() int { return (len(in.args) - len(in.fixed)) / in.width }

func (in *inserter) add(values ...any) error {
	in.args = append(in.args, values...)
	if in.rows() < insertRows {
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
	in.begin()
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
	next := len(in.fixed) + 1
	for i := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(")
		if in.dialect == dialectSQLite {
			// A numbered parameter is a named one to SQLite, which finds it by
			// walking through all of them.
			b.WriteString(in.row)
		} else {
			next = in.numbered(&b, next)
		}
		b.WriteString(")")
	}
	return b.String()
}

// numbered writes the values of a row with numbers in the place of each ?, from
// next on, and returns the number after them.
func (in *inserter) numbered(b *strings.Builder, next int) int {
	for i, part := range strings.Split(in.row, "?") {
		switch {
		case i == 0:
		case part != "" && '1' <= part[0] && part[0] <= '9':
			b.WriteString("$")
		default:
			fmt.Fprintf(b, "$%d", next)
			next++
		}
		b.WriteString(part)
	}
	return next
}

func (in *inserter) flush() error {
	if in.rows() == 0 {
		return nil
	}
	_, err := in.tx.ExecContext(in.ctx, in.text(in.rows()), in.args...)
	in.begin()
	return err
}

// given is a text for coalesce(?, ”): nothing is bound faster than an empty one.
func given(text string) any {
	if text == "" {
		return nil
	}
	return text
}
