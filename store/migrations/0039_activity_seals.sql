-- +goose Up
ALTER TABLE activity_heads ADD COLUMN sealed BYTEA;

-- +goose Down
ALTER TABLE activity_heads DROP COLUMN sealed;
