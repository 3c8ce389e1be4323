-- +goose Up
-- A snapshot that expired is not shown any more while what only it has is
-- removed from the catalog, a part at a time. One text for SQLite and PostgreSQL.

ALTER TABLE catalog_snapshots ADD COLUMN expired BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE catalog_snapshots DROP COLUMN expired;
