package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/rivermigrate"
)

// sealsMigration is the migration that seals the ends of activity logs. It is
// done here, since it needs the keyset: the column and the seals are one
// transaction, so that a crash leaves both or neither.
const (
	sealsMigration = 39
	sealsFile      = "0039_activity_seals.sql"
)

// addSeals does the migration of sealsFile and seals the logs that there are.
func (s *Store) addSeals(ctx context.Context, tx *sql.Tx) error {
	text, err := fs.ReadFile(migrations, "migrations/"+sealsFile)
	if err != nil {
		return fmt.Errorf("read the migration: %w", err)
	}
	up, _, _ := strings.Cut(string(text), "-- +goose Down")
	if _, err := tx.ExecContext(ctx, up); err != nil {
		return fmt.Errorf("add the column of seals: %w", err)
	}
	return s.sealActivity(ctx, tx)
}

// errNewer says that the schema is of a later version of Holdfast.
var errNewer = errors.New("newer schema")

// migrate brings the schema up to date.
func (s *Store) migrate(ctx context.Context, rootKey []byte) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	name := goose.DialectSQLite3
	if s.dialect == dialectPostgres {
		name = goose.DialectPostgres
	}
	provider, err := goose.NewProvider(name, s.db, folder, goose.WithLogger(goose.NopLogger()),
		goose.WithExcludeNames([]string{sealsFile}), goose.WithGoMigrations(goose.NewGoMigration(sealsMigration, &goose.GoFunc{RunTx: s.addSeals}, nil)))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	have, want, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if have > want {
		return fmt.Errorf("schema %d, this program knows %d: %w", have, want, errNewer)
	}
	if have == 0 {
		err = s.mustBeEmpty(ctx)
	} else if have < sealsMigration {
		err = s.loadKeyset(ctx, rootKey)
	}
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	jobs, err := rivermigrate.New(s.driver, &rivermigrate.Config{Logger: discardLog})
	if err != nil {
		return fmt.Errorf("prepare the job queue: %w", err)
	}
	if _, err := jobs.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate the job queue: %w", err)
	}
	return nil
}

// errForeign says that the database has tables, and none of them ours.
var errForeign = errors.New("tables of another program")

// mustBeEmpty keeps Holdfast out of another program's SQLite file.
func (s *Store) mustBeEmpty(ctx context.Context) error {
	if s.dialect != dialectSQLite {
		return nil
	}
	n, err := one(ctx, s.db, scanValue[int], `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'goose_%' AND name NOT LIKE 'sqlite_%'`)
	if err == nil && n > 0 {
		return errForeign
	}
	return err
}
