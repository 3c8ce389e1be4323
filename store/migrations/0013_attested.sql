-- +goose Up
ALTER TABLE authorizations ADD COLUMN attested BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE authorizations DROP COLUMN attested;
