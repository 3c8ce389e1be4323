-- +goose Up
CREATE TABLE mail_settings (
	partner_id TEXT PRIMARY KEY REFERENCES partners (id),
	host TEXT NOT NULL,
	port BIGINT NOT NULL,
	tls TEXT NOT NULL,
	username TEXT NOT NULL,
	password_sealed BYTEA,
	from_address TEXT NOT NULL,
	from_name TEXT NOT NULL
);

CREATE TABLE notifications (
	id TEXT PRIMARY KEY,
	partner_id TEXT NOT NULL REFERENCES partners (id),
	org_id TEXT NOT NULL REFERENCES organizations (id),
	kind TEXT NOT NULL,
	event_key TEXT NOT NULL,
	subject TEXT NOT NULL,
	body TEXT NOT NULL,
	path TEXT NOT NULL,
	since BIGINT NOT NULL,
	at BIGINT NOT NULL,
	settled_at BIGINT NOT NULL DEFAULT 0,
	tries BIGINT NOT NULL DEFAULT 0,
	next_try_at BIGINT NOT NULL,
	problem TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX notifications_open ON notifications (org_id, kind, event_key) WHERE settled_at = 0;
CREATE INDEX notifications_due ON notifications (next_try_at) WHERE next_try_at > 0;
CREATE INDEX notifications_partner ON notifications (partner_id, at);

CREATE TABLE notification_recipients (
	notification_id TEXT NOT NULL REFERENCES notifications (id),
	email_folded TEXT NOT NULL,
	sent_at BIGINT NOT NULL,
	PRIMARY KEY (notification_id, email_folded)
);

-- A row says that somebody does not want a kind: an organization, or, with
-- org_id '', the partner.
CREATE TABLE notification_switches (
	partner_id TEXT NOT NULL REFERENCES partners (id),
	org_id TEXT NOT NULL,
	kind TEXT NOT NULL,
	PRIMARY KEY (partner_id, org_id, kind)
);

-- +goose Down
DROP TABLE notification_switches;
DROP TABLE notification_recipients;
DROP TABLE notifications;
DROP TABLE mail_settings;
