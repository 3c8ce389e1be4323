-- +goose Up
ALTER TABLE organizations ADD COLUMN forbid_acting BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE organizations ADD COLUMN acting_asked BIGINT NOT NULL DEFAULT 0;
CREATE TABLE acting_requests (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	person_id TEXT NOT NULL REFERENCES people (id),
	reason TEXT NOT NULL,
	asked_at BIGINT NOT NULL,
	answer TEXT NOT NULL DEFAULT '',
	answered_at BIGINT NOT NULL DEFAULT 0,
	answered_by TEXT NOT NULL DEFAULT '',
	until_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX acting_requests_org ON acting_requests (org_id, asked_at);

-- +goose Down
DROP TABLE acting_requests;
ALTER TABLE organizations DROP COLUMN acting_asked;
ALTER TABLE organizations DROP COLUMN forbid_acting;
