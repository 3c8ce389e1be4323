-- +goose Up
-- What brings the portal back: one row.
CREATE TABLE recovery (
	id TEXT PRIMARY KEY,
	recipient TEXT NOT NULL DEFAULT '',
	kit_at BIGINT NOT NULL DEFAULT 0,
	copied_at BIGINT NOT NULL DEFAULT 0,
	copied_bytes BIGINT NOT NULL DEFAULT 0,
	problem TEXT NOT NULL DEFAULT ''
);
INSERT INTO recovery (id) VALUES ('main');

-- +goose Down
DROP TABLE recovery;
