-- +goose Up
-- One row per organization and kind of work on its repository: what runs now,
-- and how the last one ended.
CREATE TABLE upkeep (
	org_id TEXT NOT NULL REFERENCES organizations (id),
	kind TEXT NOT NULL,
	state TEXT NOT NULL,
	asked_at BIGINT NOT NULL DEFAULT 0,
	started_at BIGINT NOT NULL DEFAULT 0,
	beat_at BIGINT NOT NULL DEFAULT 0,
	ended_at BIGINT NOT NULL DEFAULT 0,
	ok_at BIGINT NOT NULL DEFAULT 0,
	next_at BIGINT NOT NULL DEFAULT 0,
	done BIGINT NOT NULL DEFAULT 0,
	total BIGINT NOT NULL DEFAULT 0,
	mailbox_id TEXT NOT NULL DEFAULT '',
	counted BIGINT NOT NULL DEFAULT 0,
	counted_bytes BIGINT NOT NULL DEFAULT 0,
	damaged BIGINT NOT NULL DEFAULT 0,
	problem TEXT NOT NULL DEFAULT '',
	PRIMARY KEY (org_id, kind)
);
CREATE INDEX upkeep_due ON upkeep (next_at) WHERE next_at > 0;

-- What is damaged: an object of the repository, or the content of a message,
-- which is named by its mailbox and the number of its record in the catalog.
CREATE TABLE damages (
	org_id TEXT NOT NULL REFERENCES organizations (id),
	object TEXT NOT NULL,
	mailbox_id TEXT NOT NULL DEFAULT '',
	record BIGINT NOT NULL DEFAULT 0,
	how TEXT NOT NULL,
	found_at BIGINT NOT NULL,
	seen_at BIGINT NOT NULL,
	mended_at BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (org_id, object)
);
CREATE INDEX damages_open ON damages (org_id, mailbox_id, record) WHERE mended_at = 0;

-- +goose Down
DROP TABLE damages;
DROP TABLE upkeep;
