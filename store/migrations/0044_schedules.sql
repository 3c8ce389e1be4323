-- +goose Up
-- When automatic backups run; without a row, at any time, as often as the
-- installation is set to. While paused_at is not 0, none does. An organization's
-- automatic backups run from opens_at on, and no more from closes_at on, when
-- the next window is written there. One text for SQLite and PostgreSQL.
CREATE TABLE schedules (
	org_id TEXT PRIMARY KEY REFERENCES organizations (id),
	zone TEXT NOT NULL DEFAULT '',
	windows TEXT NOT NULL DEFAULT '',
	every_ms BIGINT NOT NULL DEFAULT 0,
	bytes_per_second BIGINT NOT NULL DEFAULT 0,
	paused_at BIGINT NOT NULL DEFAULT 0,
	paused_by TEXT NOT NULL DEFAULT '',
	paused_reason TEXT NOT NULL DEFAULT ''
);
ALTER TABLE organizations ADD COLUMN opens_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE organizations ADD COLUMN closes_at BIGINT NOT NULL DEFAULT 253370764800000;
CREATE INDEX organizations_closes ON organizations (closes_at);
-- When a person asked for the run that is due or under way, 0 if nobody did.
ALTER TABLE mailboxes ADD COLUMN asked_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX mailboxes_asked ON mailboxes (asked_at) WHERE asked_at > 0;

-- +goose Down
DROP INDEX mailboxes_asked;
ALTER TABLE mailboxes DROP COLUMN asked_at;
DROP INDEX organizations_closes;
ALTER TABLE organizations DROP COLUMN closes_at;
ALTER TABLE organizations DROP COLUMN opens_at;
DROP TABLE schedules;
