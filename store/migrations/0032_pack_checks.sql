-- +goose Up
-- When each pack of the repository was last looked at, and how deep.
CREATE TABLE pack_checks (
	org_id TEXT NOT NULL REFERENCES organizations (id),
	pack_id TEXT NOT NULL,
	mailbox_id TEXT NOT NULL,
	bytes BIGINT NOT NULL,
	seen_at BIGINT NOT NULL,
	hashed_at BIGINT NOT NULL DEFAULT 0,
	opened_at BIGINT NOT NULL DEFAULT 0,
	PRIMARY KEY (org_id, pack_id)
);

-- +goose Down
DROP TABLE pack_checks;
