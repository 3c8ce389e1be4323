-- +goose Up
ALTER TABLE authorizations ADD COLUMN purpose TEXT NOT NULL DEFAULT 'connect';

-- +goose Down
ALTER TABLE authorizations DROP COLUMN purpose;
