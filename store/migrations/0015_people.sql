-- +goose Up
ALTER TABLE people ADD COLUMN signed_in_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE day_figures ADD COLUMN failed_runs BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE day_figures DROP COLUMN failed_runs;
ALTER TABLE people DROP COLUMN signed_in_at;
