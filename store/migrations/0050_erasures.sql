-- +goose Up
-- The data of a mailbox that is erased, and the certificate of it, which stays
-- when the mailbox is gone. One text for SQLite and PostgreSQL.
CREATE TABLE erasures (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL,
	mailbox_id TEXT NOT NULL,
	address TEXT NOT NULL,
	name TEXT NOT NULL,
	reason TEXT NOT NULL,
	requested_by TEXT NOT NULL,
	asked_by TEXT NOT NULL,
	asked_at BIGINT NOT NULL,
	begun_at BIGINT NOT NULL DEFAULT 0,
	ended_at BIGINT NOT NULL DEFAULT 0,
	state TEXT NOT NULL,
	problem TEXT NOT NULL DEFAULT '',
	found TEXT NOT NULL DEFAULT '',
	certificate TEXT NOT NULL DEFAULT '',
	certificate_sealed BYTEA
);
CREATE INDEX erasures_organization ON erasures (org_id, asked_at);
CREATE UNIQUE INDEX erasures_open ON erasures (org_id, mailbox_id) WHERE ended_at = 0;

-- +goose Down
DROP TABLE erasures;
