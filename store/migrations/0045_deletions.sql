-- +goose Up
-- Deletions of organizations, which outlive them. What was removed and what is
-- left are JSON that SQL never looks into. One text for SQLite and PostgreSQL.
CREATE TABLE deletions (
	org_id TEXT PRIMARY KEY,
	partner_id TEXT NOT NULL REFERENCES partners (id),
	name TEXT NOT NULL,
	started_by TEXT NOT NULL,
	reason TEXT NOT NULL,
	step TEXT NOT NULL,
	done BIGINT NOT NULL DEFAULT 0,
	mailboxes BIGINT NOT NULL,
	messages BIGINT NOT NULL,
	size_bytes BIGINT NOT NULL,
	exports BIGINT NOT NULL,
	removed TEXT NOT NULL DEFAULT '',
	left_behind TEXT NOT NULL DEFAULT '',
	objects BIGINT NOT NULL DEFAULT 0,
	retained BIGINT NOT NULL DEFAULT 0,
	retained_until BIGINT NOT NULL DEFAULT 0,
	problem TEXT NOT NULL DEFAULT '',
	tries BIGINT NOT NULL DEFAULT 0,
	started_at BIGINT NOT NULL,
	step_at BIGINT NOT NULL,
	next_try_at BIGINT NOT NULL,
	ended_at BIGINT NOT NULL DEFAULT 0,
	settled_at BIGINT NOT NULL DEFAULT 0,
	settled_by TEXT NOT NULL DEFAULT ''
);
CREATE INDEX deletions_due ON deletions (next_try_at) WHERE next_try_at > 0;
CREATE INDEX deletions_partner ON deletions (partner_id, started_at);
-- When the deletion of an organization began, 0 if it was not deleted.
ALTER TABLE organizations ADD COLUMN deleting_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE organizations DROP COLUMN deleting_at;
DROP TABLE deletions;
