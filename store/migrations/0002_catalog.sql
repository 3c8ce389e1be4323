-- +goose Up
-- The catalog: a cache of the repository, made anew by `holdfast rebuild`.
-- Mailboxes, folders and items have numbers here, since their ids are long.
-- A row with from_seq and to_seq holds for the snapshots from_seq <= seq < to_seq;
-- to_seq 9223372036854775807 means until now. One text for SQLite and PostgreSQL.

CREATE TABLE catalog_sources (
	number BIGINT PRIMARY KEY,
	org_id TEXT NOT NULL,
	mailbox_id TEXT NOT NULL,
	seq BIGINT NOT NULL,
	next_number BIGINT NOT NULL,
	partial BOOLEAN NOT NULL,
	folder_cursor TEXT NOT NULL,
	items BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	damaged BIGINT NOT NULL
);
CREATE UNIQUE INDEX catalog_sources_mailbox ON catalog_sources (org_id, mailbox_id);

CREATE TABLE catalog_snapshots (
	source BIGINT NOT NULL,
	seq BIGINT NOT NULL,
	at BIGINT NOT NULL,
	items BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	partial BOOLEAN NOT NULL,
	PRIMARY KEY (source, seq)
);

CREATE TABLE catalog_folders (
	source BIGINT NOT NULL,
	number BIGINT NOT NULL,
	folder_id TEXT NOT NULL,
	cursor TEXT NOT NULL,
	node BYTEA,
	PRIMARY KEY (source, number)
);
CREATE UNIQUE INDEX catalog_folders_id ON catalog_folders (source, folder_id);

CREATE TABLE catalog_folder_states (
	source BIGINT NOT NULL,
	folder BIGINT NOT NULL,
	from_seq BIGINT NOT NULL,
	to_seq BIGINT NOT NULL,
	parent_id TEXT NOT NULL,
	name TEXT NOT NULL,
	well_known TEXT NOT NULL,
	hidden BOOLEAN NOT NULL,
	items BIGINT NOT NULL,
	PRIMARY KEY (source, folder, from_seq)
);
CREATE INDEX catalog_folder_states_seq ON catalog_folder_states (source, to_seq, from_seq);

CREATE TABLE catalog_items (
	source BIGINT NOT NULL,
	number BIGINT NOT NULL,
	id_hash BIGINT NOT NULL,
	provider_id TEXT NOT NULL,
	record BIGINT NOT NULL,
	PRIMARY KEY (source, number)
);
CREATE INDEX catalog_items_hash ON catalog_items (source, id_hash);

CREATE TABLE catalog_records (
	source BIGINT NOT NULL,
	number BIGINT NOT NULL,
	item BIGINT NOT NULL,
	meta BYTEA NOT NULL,
	subject TEXT NOT NULL,
	sender TEXT NOT NULL,
	recipients TEXT NOT NULL,
	message_id TEXT NOT NULL,
	received_at BIGINT NOT NULL,
	sent_at BIGINT NOT NULL,
	size_bytes BIGINT NOT NULL,
	provider_bytes BIGINT NOT NULL,
	attachments BOOLEAN NOT NULL,
	has_content BOOLEAN NOT NULL,
	search TEXT NOT NULL,
	PRIMARY KEY (source, number)
);

CREATE TABLE catalog_entries (
	source BIGINT NOT NULL,
	item BIGINT NOT NULL,
	from_seq BIGINT NOT NULL,
	to_seq BIGINT NOT NULL,
	folder BIGINT NOT NULL,
	record BIGINT NOT NULL,
	received_at BIGINT NOT NULL,
	flags BIGINT NOT NULL,
	importance TEXT NOT NULL,
	categories TEXT NOT NULL,
	version TEXT NOT NULL,
	problem TEXT NOT NULL,
	properties BYTEA,
	PRIMARY KEY (source, item, from_seq)
);
CREATE INDEX catalog_entries_folder ON catalog_entries (source, folder, received_at, item, from_seq, to_seq);
CREATE INDEX catalog_entries_received ON catalog_entries (source, received_at, item, from_seq, to_seq);
CREATE INDEX catalog_entries_problem ON catalog_entries (source, item) WHERE problem <> '' AND to_seq = 9223372036854775807;

CREATE TABLE catalog_packs (
	number BIGINT PRIMARY KEY,
	org_id TEXT NOT NULL,
	pack_id BYTEA NOT NULL,
	kind BIGINT NOT NULL,
	epoch BIGINT NOT NULL
);
CREATE UNIQUE INDEX catalog_packs_id ON catalog_packs (org_id, pack_id);

CREATE TABLE catalog_blobs (
	pack BIGINT NOT NULL,
	blob BIGINT NOT NULL,
	type BIGINT NOT NULL,
	at_byte BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	PRIMARY KEY (pack, blob)
);

CREATE TABLE catalog_pieces (
	prefix BIGINT NOT NULL,
	pack BIGINT NOT NULL,
	blob BIGINT NOT NULL,
	at_byte BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	piece_id BYTEA NOT NULL
);
CREATE INDEX catalog_pieces_prefix ON catalog_pieces (prefix);
CREATE INDEX catalog_pieces_pack ON catalog_pieces (pack);

-- +goose Down
DROP TABLE catalog_pieces;
DROP TABLE catalog_blobs;
DROP TABLE catalog_packs;
DROP TABLE catalog_entries;
DROP TABLE catalog_records;
DROP TABLE catalog_items;
DROP TABLE catalog_folder_states;
DROP TABLE catalog_folders;
DROP TABLE catalog_snapshots;
DROP TABLE catalog_sources;
