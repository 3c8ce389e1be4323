-- +goose Up
-- One text for SQLite and PostgreSQL. Times are Unix milliseconds, 0 for none;
-- problems and lists are JSON that SQL never looks into; sealed columns are
-- encrypted under the keyset.

CREATE TABLE keyset (
	id TEXT PRIMARY KEY,
	wrapped BYTEA NOT NULL
);

CREATE TABLE partners (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL,
	created_at BIGINT NOT NULL
);

CREATE TABLE organizations (
	id TEXT PRIMARY KEY,
	partner_id TEXT NOT NULL REFERENCES partners (id),
	name TEXT NOT NULL,
	name_folded TEXT NOT NULL,
	manual_role BOOLEAN NOT NULL DEFAULT FALSE,
	suspended_at BIGINT NOT NULL DEFAULT 0,
	created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX organizations_name ON organizations (partner_id, name_folded);

CREATE TABLE people (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL,
	email TEXT NOT NULL,
	email_folded TEXT NOT NULL UNIQUE,
	password_hash TEXT NOT NULL DEFAULT '',
	created_at BIGINT NOT NULL
);

CREATE TABLE memberships (
	person_id TEXT NOT NULL REFERENCES people (id),
	partner_id TEXT REFERENCES partners (id),
	org_id TEXT REFERENCES organizations (id),
	role TEXT NOT NULL,
	CHECK ((partner_id IS NULL) <> (org_id IS NULL))
);
CREATE UNIQUE INDEX memberships_partner ON memberships (person_id, partner_id) WHERE partner_id IS NOT NULL;
CREATE UNIQUE INDEX memberships_org ON memberships (person_id, org_id) WHERE org_id IS NOT NULL;
CREATE INDEX memberships_by_org ON memberships (org_id);

CREATE TABLE set_up_links (
	token_hash BYTEA PRIMARY KEY,
	purpose TEXT NOT NULL,
	person_id TEXT NOT NULL DEFAULT '',
	expires_at BIGINT NOT NULL
);

CREATE TABLE actings (
	id TEXT PRIMARY KEY,
	person_id TEXT NOT NULL REFERENCES people (id),
	org_id TEXT NOT NULL REFERENCES organizations (id),
	reason TEXT NOT NULL,
	started_at BIGINT NOT NULL,
	ends_at BIGINT NOT NULL,
	ended_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE web_sessions (
	id TEXT PRIMARY KEY,
	secret_hash BYTEA NOT NULL UNIQUE,
	person_id TEXT NOT NULL DEFAULT '',
	acting_id TEXT NOT NULL DEFAULT '',
	created_at BIGINT NOT NULL,
	seen_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	address TEXT NOT NULL,
	agent TEXT NOT NULL,
	data BYTEA
);
CREATE INDEX web_sessions_person ON web_sessions (person_id);
CREATE INDEX web_sessions_expiry ON web_sessions (expires_at);

CREATE TABLE sign_in_failures (
	key TEXT NOT NULL,
	at BIGINT NOT NULL
);
CREATE INDEX sign_in_failures_key ON sign_in_failures (key, at);

CREATE TABLE connections (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	provider TEXT NOT NULL,
	method TEXT NOT NULL,
	tenant_id TEXT NOT NULL,
	tenant_name TEXT NOT NULL,
	tenant_domain TEXT NOT NULL,
	workloads TEXT NOT NULL,
	problem TEXT NOT NULL DEFAULT '',
	created_at BIGINT NOT NULL,
	ready_at BIGINT NOT NULL DEFAULT 0,
	listed_at BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX connections_tenant ON connections (provider, tenant_id);
CREATE UNIQUE INDEX connections_org ON connections (org_id, id);

CREATE TABLE sub_applications (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	connection_id TEXT NOT NULL,
	workload TEXT NOT NULL,
	display_name TEXT NOT NULL,
	state TEXT NOT NULL,
	object_id TEXT NOT NULL DEFAULT '',
	app_id TEXT NOT NULL DEFAULT '',
	principal_id TEXT NOT NULL DEFAULT '',
	certificate BYTEA,
	private_key_sealed BYTEA,
	not_after BIGINT NOT NULL DEFAULT 0,
	problem TEXT NOT NULL DEFAULT '',
	updated_at BIGINT NOT NULL,
	FOREIGN KEY (org_id, connection_id) REFERENCES connections (org_id, id)
);
CREATE UNIQUE INDEX sub_applications_workload ON sub_applications (connection_id, workload);

CREATE TABLE authorizations (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	connection_id TEXT NOT NULL DEFAULT '',
	started_by TEXT NOT NULL,
	moved_by TEXT NOT NULL DEFAULT '',
	provider TEXT NOT NULL,
	method TEXT NOT NULL,
	flow TEXT NOT NULL,
	workloads TEXT NOT NULL,
	step TEXT NOT NULL,
	failed_from TEXT NOT NULL DEFAULT '',
	problem TEXT NOT NULL DEFAULT '',
	version BIGINT NOT NULL,
	sign_in_state TEXT NOT NULL DEFAULT '',
	sign_in_purpose TEXT NOT NULL DEFAULT '',
	sign_in_session TEXT NOT NULL DEFAULT '',
	sign_in_at BIGINT NOT NULL DEFAULT 0,
	tenant_id TEXT NOT NULL DEFAULT '',
	tenant_name TEXT NOT NULL DEFAULT '',
	tenant_domain TEXT NOT NULL DEFAULT '',
	admin_id TEXT NOT NULL DEFAULT '',
	admin_upn TEXT NOT NULL DEFAULT '',
	role_admin_upn TEXT NOT NULL DEFAULT '',
	device_session TEXT NOT NULL DEFAULT '',
	device_uri TEXT NOT NULL DEFAULT '',
	device_interval_ms BIGINT NOT NULL DEFAULT 0,
	device_expires_at BIGINT NOT NULL DEFAULT 0,
	device_polled_at BIGINT NOT NULL DEFAULT 0,
	device_authorized_at BIGINT NOT NULL DEFAULT 0,
	setup_token_expires_at BIGINT NOT NULL DEFAULT 0,
	role_token_expires_at BIGINT NOT NULL DEFAULT 0,
	secrets_sealed BYTEA,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX authorizations_active ON authorizations (org_id, provider) WHERE step NOT IN ('done', 'abandoned');
CREATE INDEX authorizations_state ON authorizations (sign_in_state);
CREATE INDEX authorizations_step ON authorizations (step);

CREATE TABLE custom_roles (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	connection_id TEXT NOT NULL UNIQUE,
	state TEXT NOT NULL,
	problem TEXT NOT NULL DEFAULT '',
	admin_upn TEXT NOT NULL DEFAULT '',
	tries BIGINT NOT NULL DEFAULT 0,
	token_expires_at BIGINT NOT NULL DEFAULT 0,
	secrets_sealed BYTEA,
	pending_since BIGINT NOT NULL DEFAULT 0,
	next_try_at BIGINT NOT NULL DEFAULT 0,
	checked_at BIGINT NOT NULL DEFAULT 0,
	connected_at BIGINT NOT NULL DEFAULT 0,
	FOREIGN KEY (org_id, connection_id) REFERENCES connections (org_id, id)
);
CREATE INDEX custom_roles_due ON custom_roles (next_try_at) WHERE next_try_at > 0;

CREATE TABLE mailboxes (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	connection_id TEXT NOT NULL,
	provider_id TEXT NOT NULL,
	address TEXT NOT NULL,
	name TEXT NOT NULL,
	name_folded TEXT NOT NULL,
	search TEXT NOT NULL,
	kind TEXT NOT NULL,
	licence TEXT NOT NULL,
	enabled BOOLEAN NOT NULL,
	selected BOOLEAN NOT NULL DEFAULT FALSE,
	deactivated TEXT NOT NULL DEFAULT '',
	deactivated_by TEXT NOT NULL DEFAULT '',
	status TEXT NOT NULL,
	status_since BIGINT NOT NULL,
	problem TEXT NOT NULL DEFAULT '',
	failures BIGINT NOT NULL DEFAULT 0,
	running BOOLEAN NOT NULL DEFAULT FALSE,
	last_run_at BIGINT NOT NULL DEFAULT 0,
	next_run_at BIGINT NOT NULL DEFAULT 0,
	items BIGINT NOT NULL DEFAULT 0,
	size_bytes BIGINT NOT NULL DEFAULT 0,
	damaged_items BIGINT NOT NULL DEFAULT 0,
	created_at BIGINT NOT NULL,
	FOREIGN KEY (org_id, connection_id) REFERENCES connections (org_id, id)
);
CREATE UNIQUE INDEX mailboxes_org ON mailboxes (org_id, id);
CREATE UNIQUE INDEX mailboxes_provider ON mailboxes (connection_id, provider_id);
CREATE INDEX mailboxes_name ON mailboxes (org_id, selected, name_folded, id, search);
CREATE INDEX mailboxes_status ON mailboxes (org_id, selected, status, name_folded, id);
CREATE INDEX mailboxes_last ON mailboxes (org_id, selected, last_run_at, id);
CREATE INDEX mailboxes_items ON mailboxes (org_id, selected, items, id);
CREATE INDEX mailboxes_size ON mailboxes (org_id, selected, size_bytes, id);
CREATE INDEX mailboxes_due ON mailboxes (next_run_at) WHERE next_run_at > 0;
CREATE INDEX mailboxes_next ON mailboxes (org_id, next_run_at, id) WHERE next_run_at > 0;

CREATE TABLE runs (
	id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL REFERENCES organizations (id),
	mailbox_id TEXT NOT NULL,
	state TEXT NOT NULL,
	trigger_kind TEXT NOT NULL,
	started_at BIGINT NOT NULL,
	beat_at BIGINT NOT NULL,
	ended_at BIGINT NOT NULL DEFAULT 0,
	snapshot BIGINT NOT NULL DEFAULT 0,
	folders_done BIGINT NOT NULL DEFAULT 0,
	folders_total BIGINT NOT NULL DEFAULT 0,
	items_done BIGINT NOT NULL DEFAULT 0,
	items_total BIGINT NOT NULL DEFAULT 0,
	new_items BIGINT NOT NULL DEFAULT 0,
	moved_items BIGINT NOT NULL DEFAULT 0,
	changed_items BIGINT NOT NULL DEFAULT 0,
	removed_items BIGINT NOT NULL DEFAULT 0,
	failed_items BIGINT NOT NULL DEFAULT 0,
	read_bytes BIGINT NOT NULL DEFAULT 0,
	stored_bytes BIGINT NOT NULL DEFAULT 0,
	problem TEXT NOT NULL DEFAULT '',
	FOREIGN KEY (org_id, mailbox_id) REFERENCES mailboxes (org_id, id)
);
CREATE UNIQUE INDEX runs_running ON runs (mailbox_id) WHERE state = 'running';
CREATE INDEX runs_open ON runs (state, beat_at) WHERE state = 'running';
CREATE INDEX runs_org ON runs (org_id, started_at, id);
CREATE INDEX runs_mailbox ON runs (mailbox_id, started_at, id);

CREATE TABLE day_figures (
	org_id TEXT NOT NULL REFERENCES organizations (id),
	day BIGINT NOT NULL,
	new_items BIGINT NOT NULL,
	read_bytes BIGINT NOT NULL,
	PRIMARY KEY (org_id, day)
);

CREATE TABLE activity_heads (
	chain TEXT PRIMARY KEY,
	seq BIGINT NOT NULL,
	hash BYTEA NOT NULL
);

CREATE TABLE activity (
	id TEXT PRIMARY KEY,
	chain TEXT NOT NULL,
	seq BIGINT NOT NULL,
	partner_id TEXT NOT NULL,
	org_id TEXT NOT NULL,
	at BIGINT NOT NULL,
	person_id TEXT NOT NULL,
	person TEXT NOT NULL,
	for_person TEXT NOT NULL,
	address TEXT NOT NULL,
	kind TEXT NOT NULL,
	subject TEXT NOT NULL,
	detail TEXT NOT NULL,
	hash BYTEA NOT NULL
);
CREATE UNIQUE INDEX activity_chain ON activity (chain, seq);

CREATE TABLE repository_keys (
	org_id TEXT NOT NULL,
	source TEXT NOT NULL,
	epoch BIGINT NOT NULL,
	key_sealed BYTEA NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (org_id, source, epoch)
);

CREATE TABLE workers (
	id TEXT PRIMARY KEY,
	alive_until BIGINT NOT NULL
);

-- +goose Down
DROP TABLE workers;
DROP TABLE repository_keys;
DROP TABLE activity;
DROP TABLE activity_heads;
DROP TABLE day_figures;
DROP TABLE runs;
DROP TABLE mailboxes;
DROP TABLE custom_roles;
DROP TABLE authorizations;
DROP TABLE sub_applications;
DROP TABLE connections;
DROP TABLE sign_in_failures;
DROP TABLE web_sessions;
DROP TABLE actings;
DROP TABLE set_up_links;
DROP TABLE memberships;
DROP TABLE people;
DROP TABLE organizations;
DROP TABLE partners;
DROP TABLE keyset;
