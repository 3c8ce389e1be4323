-- +goose Up
-- The backup administrator of a connection by the legacy method, and since when
-- a connection that was sent back to that method waits for one.
ALTER TABLE connections ADD COLUMN admin_id TEXT NOT NULL DEFAULT '';
ALTER TABLE connections ADD COLUMN admin_upn TEXT NOT NULL DEFAULT '';
ALTER TABLE connections ADD COLUMN admin_password_sealed BYTEA;
ALTER TABLE connections ADD COLUMN reverted_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE connections DROP COLUMN reverted_at;
ALTER TABLE connections DROP COLUMN admin_password_sealed;
ALTER TABLE connections DROP COLUMN admin_upn;
ALTER TABLE connections DROP COLUMN admin_id;
