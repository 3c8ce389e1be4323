-- +goose Up
CREATE TABLE api_tokens (
	id TEXT PRIMARY KEY,
	partner_id TEXT NOT NULL REFERENCES partners (id),
	name TEXT NOT NULL,
	token_hash BYTEA NOT NULL UNIQUE,
	scopes TEXT NOT NULL,
	created_by TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL DEFAULT 0,
	last_used_by TEXT NOT NULL DEFAULT ''
);
CREATE INDEX api_tokens_partner ON api_tokens (partner_id, created_at);

-- +goose Down
DROP TABLE api_tokens;
