-- +goose Up
-- What can be done about a damaged message without a copy of the storage: ''
-- nobody asked yet, 'wanted' the next run reads it again, 'differs' and 'gone'
-- the provider has another text now, or has it no more.
ALTER TABLE damages ADD COLUMN fate TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE damages DROP COLUMN fate;
