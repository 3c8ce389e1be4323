-- +goose Up
-- How many objects a move to new keys left that a lock keeps from being deleted, and
-- when the last of their locks ends.
ALTER TABLE upkeep ADD COLUMN retained BIGINT NOT NULL DEFAULT 0;
ALTER TABLE upkeep ADD COLUMN retained_until BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE upkeep DROP COLUMN retained_until;
ALTER TABLE upkeep DROP COLUMN retained;
