-- +goose Up
-- A person's second factors. factors counts them, so that it is known with the
-- person whether there is one.
ALTER TABLE people ADD COLUMN factors BIGINT NOT NULL DEFAULT 0;
ALTER TABLE people ADD COLUMN totp_sealed BYTEA;
ALTER TABLE people ADD COLUMN totp_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE people ADD COLUMN totp_at BIGINT NOT NULL DEFAULT 0;

CREATE TABLE recovery_codes (
	person_id TEXT NOT NULL REFERENCES people (id),
	code_hash BYTEA NOT NULL,
	PRIMARY KEY (person_id, code_hash)
);

CREATE TABLE passkeys (
	id TEXT PRIMARY KEY,
	person_id TEXT NOT NULL REFERENCES people (id),
	name TEXT NOT NULL,
	credential_id BYTEA NOT NULL UNIQUE,
	credential BYTEA NOT NULL,
	created_at BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX passkeys_person ON passkeys (person_id);

-- A half session has a password behind it, but not the second factor yet; one
-- without a person is a visitor's on the way to a passkey.
ALTER TABLE web_sessions ADD COLUMN half BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE organizations ADD COLUMN require_factor BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE organizations DROP COLUMN require_factor;
ALTER TABLE web_sessions DROP COLUMN half;
DROP TABLE passkeys;
DROP TABLE recovery_codes;
ALTER TABLE people DROP COLUMN totp_at;
ALTER TABLE people DROP COLUMN totp_step;
ALTER TABLE people DROP COLUMN totp_sealed;
ALTER TABLE people DROP COLUMN factors;
