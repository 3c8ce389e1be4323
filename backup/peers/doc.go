// Package peers measures Holdfast against programs that do a part of its work,
// on the same mail, in the same run and in turn: restic and borg keep files,
// mbsync copies accounts of an IMAP server. It has benchmarks only: make bench-peers.
package peers
