// Package s3 keeps a repository in a bucket of Amazon S3 or of a server that
// speaks like it.
//
// # What is asked of the server
//
// An object is created by one PUT with If-None-Match: *, which is the commit:
// of many writers one wins, and a crash before the server answered leaves
// nothing visible. Uploads in parts are never used, so none can be abandoned.
// A server that ignores If-None-Match is refused by Open, which tries it on
// the object ".probe". Every PUT carries the SHA-256 of its bytes, which the
// server checks.
//
// Answers can be lost. A PUT that is sent again and refused because the object
// exists looks whether that object is its own, by a mark in its metadata.
//
// # Object lock
//
// With Config.Lock, packs, commits and format.json are created with a time
// until which the server lets nobody delete them, and Extend prolongs it. The
// bucket then has versions: Delete names the version, so that it frees space
// instead of hiding the object, and returns repo.ErrRetained while the lock
// lasts. The deletion log and leases are not locked: leases have to be deleted
// within minutes, and without its deletion log a repository loses nothing but
// the time that condemned packs have waited.
package s3
