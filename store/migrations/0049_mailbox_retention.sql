-- +goose Up
-- What a mailbox has of its own: a rule that holds instead of its organization's
-- (mode '' for none), and a legal hold, while held_at is not 0. One text for
-- SQLite and PostgreSQL.
CREATE TABLE mailbox_retention (
	mailbox_id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL,
	mode TEXT NOT NULL DEFAULT '',
	days BIGINT NOT NULL DEFAULT 0,
	daily BIGINT NOT NULL DEFAULT 0,
	weekly BIGINT NOT NULL DEFAULT 0,
	monthly BIGINT NOT NULL DEFAULT 0,
	yearly BIGINT NOT NULL DEFAULT 0,
	held_at BIGINT NOT NULL DEFAULT 0,
	held_by TEXT NOT NULL DEFAULT '',
	held_reason TEXT NOT NULL DEFAULT '',
	FOREIGN KEY (org_id, mailbox_id) REFERENCES mailboxes (org_id, id)
);
CREATE INDEX mailbox_retention_organization ON mailbox_retention (org_id);

-- +goose Down
DROP TABLE mailbox_retention;
