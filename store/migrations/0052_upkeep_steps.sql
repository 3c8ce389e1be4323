-- +goose Up
-- How far work came that goes on there after an interruption.
ALTER TABLE upkeep ADD COLUMN step TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE upkeep DROP COLUMN step;
