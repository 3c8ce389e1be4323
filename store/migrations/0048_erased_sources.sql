-- +goose Up
-- Mailboxes whose keys were destroyed, so that none is made for them again, with
-- the fingerprints of the keys, as JSON. One text for SQLite and PostgreSQL.
CREATE TABLE erased_sources (
	org_id TEXT NOT NULL,
	source TEXT NOT NULL,
	erased_at BIGINT NOT NULL,
	destroyed TEXT NOT NULL,
	PRIMARY KEY (org_id, source)
);

-- +goose Down
DROP TABLE erased_sources;
