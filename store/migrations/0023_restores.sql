-- +goose Up
CREATE TABLE restores (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	mailbox_id TEXT NOT NULL REFERENCES mailboxes (id),
	snapshot BIGINT NOT NULL,
	scope TEXT NOT NULL,
	folder_id TEXT NOT NULL DEFAULT '',
	item_id TEXT NOT NULL DEFAULT '',
	what TEXT NOT NULL DEFAULT '',
	target_id TEXT NOT NULL REFERENCES mailboxes (id),
	place TEXT NOT NULL,
	folder_name TEXT NOT NULL DEFAULT '',
	copies BOOLEAN NOT NULL DEFAULT FALSE,
	state TEXT NOT NULL,
	items_total BIGINT NOT NULL DEFAULT 0,
	items_done BIGINT NOT NULL DEFAULT 0,
	restored BIGINT NOT NULL DEFAULT 0,
	skipped BIGINT NOT NULL DEFAULT 0,
	failed BIGINT NOT NULL DEFAULT 0,
	altered BIGINT NOT NULL DEFAULT 0,
	bytes BIGINT NOT NULL DEFAULT 0,
	problem TEXT NOT NULL DEFAULT '',
	started_by TEXT NOT NULL,
	started_name TEXT NOT NULL DEFAULT '',
	cancel_asked BOOLEAN NOT NULL DEFAULT FALSE,
	tries BIGINT NOT NULL DEFAULT 0,
	created_at BIGINT NOT NULL,
	started_at BIGINT NOT NULL DEFAULT 0,
	beat_at BIGINT NOT NULL DEFAULT 0,
	next_try_at BIGINT NOT NULL DEFAULT 0,
	ended_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX restores_org ON restores (org_id, created_at);
CREATE INDEX restores_open ON restores (target_id) WHERE ended_at = 0;

CREATE TABLE restore_notes (
	restore_id TEXT NOT NULL REFERENCES restores (id),
	org_id TEXT NOT NULL REFERENCES organizations (id),
	item_id TEXT NOT NULL,
	subject TEXT NOT NULL DEFAULT '',
	sender TEXT NOT NULL DEFAULT '',
	folder TEXT NOT NULL DEFAULT '',
	received_at BIGINT NOT NULL DEFAULT 0,
	altered BOOLEAN NOT NULL,
	reason TEXT NOT NULL,
	PRIMARY KEY (restore_id, item_id)
);

CREATE TABLE restore_grants (
	connection_id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	admin_upn TEXT NOT NULL,
	granted_at BIGINT NOT NULL,
	ends_at BIGINT NOT NULL,
	token_expires_at BIGINT NOT NULL DEFAULT 0,
	secrets_sealed BYTEA,
	problem TEXT NOT NULL DEFAULT '',
	FOREIGN KEY (org_id, connection_id) REFERENCES connections (org_id, id)
);

-- +goose Down
DROP TABLE restore_grants;
DROP TABLE restore_notes;
DROP TABLE restores;
