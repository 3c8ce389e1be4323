-- +goose Up
-- When the person of a session last proved who they are. Sessions from before
-- are asked again.
ALTER TABLE web_sessions ADD COLUMN confirmed_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE web_sessions DROP COLUMN confirmed_at;
