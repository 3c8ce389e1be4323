-- +goose Up
-- How long the snapshots of an organization are kept; without a row, for ever.
-- While held_at is not 0, nothing expires. One text for SQLite and PostgreSQL.

CREATE TABLE retention (
	org_id TEXT PRIMARY KEY REFERENCES organizations (id),
	mode TEXT NOT NULL DEFAULT 'all',
	days BIGINT NOT NULL DEFAULT 0,
	daily BIGINT NOT NULL DEFAULT 0,
	weekly BIGINT NOT NULL DEFAULT 0,
	monthly BIGINT NOT NULL DEFAULT 0,
	yearly BIGINT NOT NULL DEFAULT 0,
	held_at BIGINT NOT NULL DEFAULT 0,
	held_by TEXT NOT NULL DEFAULT '',
	held_reason TEXT NOT NULL DEFAULT ''
);

-- +goose Down
DROP TABLE retention;
