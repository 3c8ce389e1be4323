-- +goose Up
CREATE TABLE imap_servers (
	connection_id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL,
	host TEXT NOT NULL,
	port BIGINT NOT NULL,
	security TEXT NOT NULL,
	certificates TEXT NOT NULL,
	sign_in TEXT NOT NULL,
	master_user TEXT NOT NULL,
	token_url TEXT NOT NULL,
	client_id TEXT NOT NULL,
	scope TEXT NOT NULL,
	secrets_sealed BYTEA,
	FOREIGN KEY (org_id, connection_id) REFERENCES connections (org_id, id)
);

CREATE TABLE imap_accounts (
	mailbox_id TEXT PRIMARY KEY,
	org_id TEXT NOT NULL,
	connection_id TEXT NOT NULL,
	user_name TEXT NOT NULL,
	secret_sealed BYTEA,
	tested_at BIGINT NOT NULL DEFAULT 0,
	folders BIGINT NOT NULL DEFAULT 0,
	messages BIGINT NOT NULL DEFAULT 0,
	problem TEXT NOT NULL DEFAULT '',
	FOREIGN KEY (org_id, mailbox_id) REFERENCES mailboxes (org_id, id),
	FOREIGN KEY (org_id, connection_id) REFERENCES connections (org_id, id)
);
CREATE INDEX imap_accounts_connection ON imap_accounts (org_id, connection_id);

-- +goose Down
DROP TABLE imap_accounts;
DROP TABLE imap_servers;
