-- +goose Up
CREATE TABLE exports (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	mailbox_id TEXT NOT NULL,
	folder_id TEXT NOT NULL,
	name TEXT NOT NULL,
	at BIGINT NOT NULL,
	format TEXT NOT NULL,
	state TEXT NOT NULL,
	problem TEXT NOT NULL DEFAULT '',
	encryption TEXT NOT NULL DEFAULT '',
	recipient TEXT NOT NULL DEFAULT '',
	secrets_sealed BYTEA,
	asked_by TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	beat_at BIGINT NOT NULL DEFAULT 0,
	ended_at BIGINT NOT NULL DEFAULT 0,
	expires_at BIGINT NOT NULL DEFAULT 0,
	attempt BIGINT NOT NULL DEFAULT 0,
	items_done BIGINT NOT NULL DEFAULT 0,
	items_total BIGINT NOT NULL DEFAULT 0,
	missing_items BIGINT NOT NULL DEFAULT 0,
	read_bytes BIGINT NOT NULL DEFAULT 0,
	size_bytes BIGINT NOT NULL DEFAULT 0,
	downloaded_at BIGINT NOT NULL DEFAULT 0,
	downloaded_by TEXT NOT NULL DEFAULT ''
);
CREATE INDEX exports_organization ON exports (org_id, created_at);
CREATE INDEX exports_expiry ON exports (expires_at) WHERE expires_at > 0;
CREATE INDEX exports_open ON exports (state, beat_at) WHERE state IN ('waiting', 'running');

-- +goose Down
DROP TABLE exports;
