-- +goose Up
-- Count the changes of an organization's mailboxes: every one, and those of
-- what a search looks in. Whoever keeps figures of many mailboxes in memory
-- sees by them whether they still hold.
ALTER TABLE organizations ADD COLUMN mailboxes_version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE organizations ADD COLUMN names_version BIGINT NOT NULL DEFAULT 0;
CREATE INDEX runs_running_org ON runs (org_id, started_at, id) WHERE state = 'running';
CREATE INDEX custom_roles_org ON custom_roles (org_id);

-- +goose Down
DROP INDEX custom_roles_org;
DROP INDEX runs_running_org;
ALTER TABLE organizations DROP COLUMN names_version;
ALTER TABLE organizations DROP COLUMN mailboxes_version;
