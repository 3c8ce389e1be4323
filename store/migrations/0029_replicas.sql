-- +goose Up
-- One row per place that a copy of the repository is kept in: what runs now,
-- and how the last one ended.
CREATE TABLE replicas (
	place TEXT PRIMARY KEY,
	running BOOLEAN NOT NULL DEFAULT FALSE,
	started_at BIGINT NOT NULL DEFAULT 0,
	beat_at BIGINT NOT NULL DEFAULT 0,
	ended_at BIGINT NOT NULL DEFAULT 0,
	ok_at BIGINT NOT NULL DEFAULT 0,
	objects BIGINT NOT NULL DEFAULT 0,
	there BIGINT NOT NULL DEFAULT 0,
	copied BIGINT NOT NULL DEFAULT 0,
	copied_bytes BIGINT NOT NULL DEFAULT 0,
	damaged BIGINT NOT NULL DEFAULT 0,
	problem TEXT NOT NULL DEFAULT ''
);

-- +goose Down
DROP TABLE replicas;
