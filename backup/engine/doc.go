// Package engine backs mailboxes up, reads them back and checks them: it moves
// items between a Source, which is a provider, and the repository, and keeps
// the catalog, which is a cache of the repository.
//
// # What a commit holds
//
// A commit of a mailbox points to a root; the root lists folder nodes, a node
// lists pages, and a page holds at most 512 entries in order of their keys. An
// entry is an item in a folder: its state (read, flagged, categories …) and the
// id of its record, which holds what does not change: the header fields, the
// provider's properties and the recipe of the content. All are content-addressed,
// so a commit shares with the one before it whatever did not change.
//
// A key is the number of an item in its mailbox, given at first sight. Pages
// hold ranges of keys: new mail fills the last page of a folder and leaves the
// others as they are.
//
// # When content is read
//
// Content is read once per item, and again only if it may have changed. Version
// (Graph's changeKey) changes with every change, so an item whose version
// changed is compared with what is stored:
//
//   - it is a draft, or was one: read again;
//   - subject, addresses, dates, message id, attachments or the provider's size
//     differ: read again;
//   - it moved, came back, or read, flag, importance or categories differ: the
//     change is explained; the content is not read;
//   - nothing that we see differs: something that we don't see does, so the
//     content is read again and its hash compared.
//
// Content that turns out the same is not stored twice. An item whose content
// did change gets a new record and a new backup.ItemID, so that earlier
// snapshots keep the text that they had.
//
// # What is never done
//
// Nothing is concluded to be deleted before the changes of all folders of the
// run are known. No cursor is kept whose changes are not committed. No item is
// left out silently: one whose content can't be read is kept by name, with the
// reason and the time it was first seen, and read again in every run.
package engine
