// Package imap reads and writes mailboxes on IMAP servers. Mailbox is the
// engine.Source of one, Target its engine.Target.
//
// # What is asked of a server
//
// IMAP4rev1 (RFC 3501) is enough. What it offers beyond is used: LIST-STATUS
// (RFC 5819) for all folders in one round trip, CONDSTORE (RFC 7162) so that only
// changed messages are listed, ESEARCH (RFC 4731) for what is gone, COMPRESS
// (RFC 4978), SPECIAL-USE (RFC 6154), NAMESPACE (RFC 2342). IMAP4rev2 is not:
// what Exchange Online announces under that name is faulty, and rev1 does all
// that a backup needs.
//
// New messages of up to 1 MiB are asked for by one command for many, and the next
// are on their way while the last are stored. The first time, when all are new,
// they are not asked for their headers before: a server opens each once. An answer that is not exactly what
// was asked for counts for nothing: each of its messages is asked for alone.
//
// Folders are opened by EXAMINE and read by BODY.PEEK, so nothing is marked as
// read. Nothing is sent, the password least of all, before TLS is up and the
// server's certificate is checked.
//
// # Identity
//
// A message is the UID in a folder while the folder's UIDVALIDITY stays; that is
// its id here. A folder's id is made when it is first seen. It stays when the
// folder is renamed, if the server keeps its UIDVALIDITY and no other folder has
// the same; else the new name is a new folder, whose messages the repository
// recognizes by their content and does not store again. A message that moves to
// another folder is a new one there, and its content is recognized as well.
//
// Servers that offer OBJECTID (RFC 8474) could tell such a message by its EMAILID.
// It is not asked for: go-imap v2.0.0-beta.8, the newest there is, ends a
// connection on a FETCH item that it does not know.
package imap
