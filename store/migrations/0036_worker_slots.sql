-- +goose Up
-- How many mailboxes a worker backs up at the same time.
ALTER TABLE workers ADD COLUMN slots INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE workers DROP COLUMN slots;
