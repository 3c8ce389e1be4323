-- +goose Up
CREATE TABLE branding (
	partner_id TEXT PRIMARY KEY REFERENCES partners (id),
	name TEXT NOT NULL DEFAULT '',
	color TEXT NOT NULL DEFAULT '',
	logo BYTEA,
	version BIGINT NOT NULL
);

-- +goose Down
DROP TABLE branding;
