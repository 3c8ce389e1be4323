// Package store keeps Holdfast's rows: people, organizations, connections,
// mailboxes, runs, jobs and the catalog. One SQL text serves SQLite and
// PostgreSQL. Every query on an organization's rows names the organization;
// somebody else's row is backup.ErrNotFound.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	sqlite "modernc.org/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// dialect is the engine behind a store.
type dialect string

const (
	dialectSQLite   dialect = "sqlite"
	dialectPostgres dialect = "postgres"
)

// Config says where the rows are.
type Config struct {
	// URL is the path of a SQLite file, or postgres://… .
	URL string
	// RootKey wraps the keyset that seals secrets; 32 bytes.
	RootKey []byte
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	dialect dialect
	db      *sql.DB   // one connection on SQLite; everything that writes
	read    *readPool // pages; the same pool as db on PostgreSQL
	pool    *pgxpool.Pool
	driver  riverdriver.Driver[*sql.Tx]
	queue   *river.Client[*sql.Tx] // inserts only
	indexes mailboxIndexes
	sealer
}

// Open opens the database of cfg, making or migrating its tables. The error of
// a damaged or newer database is one sentence that says what to do.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{dialect: dialectSQLite}
	open := s.openSQLite
	if strings.HasPrefix(cfg.URL, "postgres://") || strings.HasPrefix(cfg.URL, "postgresql://") {
		s.dialect, open = dialectPostgres, s.openPostgres
	} else if scheme, _, ok := strings.Cut(cfg.URL, "://"); ok {
		return nil, fmt.Errorf("-database begins with %s://, which Holdfast does not know: name a SQLite file or a postgres:// address", scheme)
	}
	if err := open(ctx, cfg.URL); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx, cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// prepare migrates and loads the keyset.
func (s *Store) prepare(ctx context.Context, cfg Config) error {
	err := s.migrate(ctx, cfg.RootKey)
	if err != nil {
		return s.openError(cfg.URL, err)
	}
	if s.queue, err = river.NewClient(s.driver, &river.Config{Logger: discardLog}); err != nil {
		return fmt.Errorf("open the job queue: %w", err)
	}
	return s.loadKeyset(ctx, cfg.RootKey)
}

// sqlitePragmas are set on every pooled connection; busy_timeout comes first,
// since the others may already meet a lock. What is written waits in the log
// until that has 4000 pages (16 MB): who then writes next takes it to the database
// and waits for the disk, which at SQLite's own 1000 is a tenth of a rebuild.
const sqlitePragmas = "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=cache_size(-32000)&_pragma=wal_autocheckpoint(4000)&_txlock=immediate"

func (s *Store) openSQLite(_ context.Context, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the database's folder: %w", err)
	}
	// Made by us first, so that no umask leaves it readable for others.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	f.Close()
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + sqlitePragmas
	if s.db, err = sql.Open("sqlite", dsn); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	s.db.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn+"&_query_only=1")
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	read.SetMaxOpenConns(8)
	read.SetMaxIdleConns(8) // a new one would have to parse its statements anew
	s.read = &readPool{DB: read, keep: true}
	s.driver = riversqlite.New(s.db)
	return nil
}

func (s *Store) openPostgres(ctx context.Context, dsn string) error {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return errNoPostgres
	}
	cfg.AfterConnect = leaveTransactions
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return errNoPostgres
	}
	s.pool = pool
	s.db = stdlib.OpenDBFromPool(pool)
	s.read = &readPool{DB: s.db}
	s.driver = riverdatabasesql.NewWithPgxListener(s.db, pool)
	if err := s.db.PingContext(ctx); err != nil {
		s.Close()
		return fmt.Errorf("the PostgreSQL database cannot be reached: %w", err)
	}
	return nil
}

var errNoPostgres = errors.New("-database is not a PostgreSQL address that can be used; it looks like postgres://user:password@host/name")

// leaveTransactions has the server end a transaction in which nothing was done for
// half a minute, unless its administrator chose a time: a machine that stalls, or
// lost its power, in the middle of one would keep others waiting for as long as it
// is away. Ours take no time between two statements.
func leaveTransactions(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', '30s', false) WHERE current_setting('idle_in_transaction_session_timeout') = '0'`)
	return err
}

// SQLite's result codes for a file that is no database or is damaged
// (https://www.sqlite.org/rescode.html).
const (
	sqliteCorrupt = 11
	sqliteNotADB  = 26
	sqliteUnique  = 2067
	sqlitePrimary = 1555
	sqliteForeign = 787
)

// openError turns what an operator can act on into one sentence.
func (s *Store) openError(where string, err error) error {
	if s.dialect == dialectPostgres {
		where = "the PostgreSQL database"
	}
	if errors.Is(err, errNewer) {
		return fmt.Errorf("%s was written by a newer version of Holdfast: start that version, or restore a backup of the database made before the update (%w)", where, err)
	}
	if errors.Is(err, errForeign) {
		return fmt.Errorf("%s is the database of another program: name another file with -database", where)
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok && (e.Code()&0xff == sqliteCorrupt || e.Code()&0xff == sqliteNotADB) {
		return fmt.Errorf("%s is damaged or not a database of Holdfast: move it away, put a backup copy of it in its place and start again (%w)", where, err)
	}
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code()&0xff == sqliteFull {
		return fmt.Errorf("the disk of %s is full: free some space and start again; Holdfast goes on where it stopped (%w)", where, err)
	}
	return fmt.Errorf("open %s: %w", where, err)
}

// Close closes the database.
func (s *Store) Close() error {
	var errs []error
	if s.read != nil && s.read.DB != s.db {
		errs = append(errs, s.read.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.pool != nil {
		s.pool.Close()
	}
	return errors.Join(errs...)
}

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.read.PingContext(ctx) }

// inTx runs f in one transaction. f must not use the pool: on SQLite it has
// only the connection that the transaction holds.
func (s *Store) inTx(ctx context.Context, f func(tx *sql.Tx) error) error {
	return inTxOf(ctx, s.db, f)
}

// durably is inTx whose change outlives a power failure once it returns, with
// all changes before it. SQLite takes the others to the disk a little later, so
// that the last of them may be lost, but never one without those after it: soon
// enough for what the repository or the provider tells again.
func (s *Store) durably(ctx context.Context, f func(tx *sql.Tx) error) error {
	if s.dialect == dialectPostgres {
		return s.inTx(ctx, f)
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, `PRAGMA synchronous = FULL`); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		// If this fails, the changes to come wait for the disk as well.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `PRAGMA synchronous = NORMAL`)
	}()
	return inTxOf(ctx, conn, f)
}

// inTxOf runs f in a transaction of a pool or a connection.
func inTxOf(ctx context.Context, db interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}, f func(tx *sql.Tx) error,
) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// forUpdate locks a row that is read to be changed. SQLite's immediate
// transactions already serialise.
func (s *Store) forUpdate() string {
	if s.dialect == dialectPostgres {
		return " FOR UPDATE"
	}
	return ""
}
