-- +goose Up
-- Which new accounts of an organization are backed up without anybody choosing
-- them, and since when: an account is new if it was seen first after that. Those that
-- were seen before left_out_at are left out on purpose. One text for SQLite and
-- PostgreSQL.
CREATE TABLE protections (
	org_id TEXT PRIMARY KEY REFERENCES organizations (id),
	rule TEXT NOT NULL,
	since BIGINT NOT NULL,
	left_out_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX mailboxes_new ON mailboxes (org_id, created_at) WHERE selected = FALSE;

-- +goose Down
DROP INDEX mailboxes_new;
DROP TABLE protections;
