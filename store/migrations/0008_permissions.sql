-- +goose Up
-- What was read of the permissions in the tenant, and when it is read again.
CREATE TABLE permission_checks (
	connection_id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	applications TEXT NOT NULL DEFAULT '',
	delegated TEXT NOT NULL DEFAULT '',
	asked_at BIGINT NOT NULL DEFAULT 0,
	checked_at BIGINT NOT NULL DEFAULT 0,
	next_check_at BIGINT NOT NULL DEFAULT 0,
	told TEXT NOT NULL DEFAULT '',
	FOREIGN KEY (org_id, connection_id) REFERENCES connections (org_id, id)
);
CREATE INDEX permission_checks_due ON permission_checks (next_check_at);

-- Certificates that change by themselves, and applications that are made anew.
ALTER TABLE sub_applications ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sub_applications ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE sub_applications ADD COLUMN old_key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE sub_applications ADD COLUMN next_certificate BYTEA;
ALTER TABLE sub_applications ADD COLUMN next_key_sealed BYTEA;
ALTER TABLE sub_applications ADD COLUMN next_not_after BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sub_applications ADD COLUMN next_key_id TEXT NOT NULL DEFAULT '';
ALTER TABLE sub_applications ADD COLUMN roll_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sub_applications ADD COLUMN roll_error TEXT NOT NULL DEFAULT '';
CREATE INDEX sub_applications_end ON sub_applications (not_after);

-- +goose Down
DROP INDEX sub_applications_end;
ALTER TABLE sub_applications DROP COLUMN roll_error;
ALTER TABLE sub_applications DROP COLUMN roll_at;
ALTER TABLE sub_applications DROP COLUMN next_key_id;
ALTER TABLE sub_applications DROP COLUMN next_not_after;
ALTER TABLE sub_applications DROP COLUMN next_key_sealed;
ALTER TABLE sub_applications DROP COLUMN next_certificate;
ALTER TABLE sub_applications DROP COLUMN old_key_id;
ALTER TABLE sub_applications DROP COLUMN key_id;
ALTER TABLE sub_applications DROP COLUMN generation;
DROP TABLE permission_checks;
