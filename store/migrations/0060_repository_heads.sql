-- +goose Up
-- How far the repository is known to go: the newest snapshot of a mailbox, and with
-- source '' the newest entry of the organization's deletion log. Unlike the catalog
-- it stays when that is made anew, and stands in recovery kits: nothing in the
-- repository tells that the last of them is gone. One text for SQLite and PostgreSQL.
CREATE TABLE repository_heads (
	org_id TEXT NOT NULL,
	source TEXT NOT NULL,
	seq BIGINT NOT NULL,
	PRIMARY KEY (org_id, source)
);

-- +goose Down
DROP TABLE repository_heads;
