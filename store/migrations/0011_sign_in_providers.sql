-- +goose Up
-- OpenID Connect issuers that people sign in with: of the partner (org_id ''),
-- or of one organization for its own people.
CREATE TABLE sign_in_providers (
	id TEXT PRIMARY KEY,
	partner_id TEXT NOT NULL REFERENCES partners (id),
	org_id TEXT NOT NULL DEFAULT '',
	name TEXT NOT NULL,
	issuer TEXT NOT NULL,
	tenants TEXT NOT NULL DEFAULT '',
	client_id TEXT NOT NULL,
	secret_sealed BYTEA,
	created_at BIGINT NOT NULL
);
CREATE INDEX sign_in_providers_place ON sign_in_providers (partner_id, org_id);

-- Who a person is at an issuer. Never matched by e-mail address.
CREATE TABLE identities (
	provider_id TEXT NOT NULL REFERENCES sign_in_providers (id),
	issuer TEXT NOT NULL,
	subject TEXT NOT NULL,
	person_id TEXT NOT NULL REFERENCES people (id),
	shown TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (provider_id, issuer, subject)
);
CREATE UNIQUE INDEX identities_person ON identities (person_id, provider_id);

-- What a session was signed in with: password, passkey or oidc.
ALTER TABLE web_sessions ADD COLUMN via TEXT NOT NULL DEFAULT 'password';

-- +goose Down
ALTER TABLE web_sessions DROP COLUMN via;
DROP TABLE identities;
DROP TABLE sign_in_providers;
