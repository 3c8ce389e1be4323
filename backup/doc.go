// Package backup holds the words, rules and errors of Holdfast. It imports the
// standard library only: no SQL, no HTTP, no provider.
//
// # Words
//
// One word per thing, used in code, SQL, URLs and pages alike.
//
//   - Partner: who runs Holdfast for others, usually a managed service provider.
//   - Organization: a client of the partner. Never called a tenant.
//   - Tenant: a Microsoft 365 tenant. An organization has one or none.
//   - Person: somebody who signs in. A membership says where and as what.
//   - Acting: a partner's person working in an organization's portal, with a
//     reason, for at most 60 minutes, on record.
//   - Confirmation: a fresh proof that the person of a session is who they are,
//     asked for before how people get in is changed.
//   - Connection: an organization's tie to one provider (microsoft365, google, imap).
//   - IMAP server: what an imap connection leads to; its accounts are what an
//     admin entered, each a mailbox.
//   - Master user: a user of an IMAP server that opens every account.
//   - Method: how a connection is authorized: service principal or backup administrator.
//   - Authorization: the wizard under way that makes or repairs a connection.
//   - Workload: a kind of data that is backed up, with the permissions it needs.
//   - Sub-application: an application in the customer's tenant that holds only
//     its workload's permissions and its own certificate.
//   - Custom role: the Exchange role group that gives the Exchange
//     sub-application its few cmdlets.
//   - Mailbox: an account that can be backed up. Its status says how it does.
//   - Run: one attempt to back up a mailbox.
//   - Snapshot: what a run kept; a mailbox as it was at one time.
//   - Schedule: when an organization's automatic backups run, how often and how
//     fast. They run in its windows, if it has any, and not while they are paused.
//   - Retention: how long snapshots are kept: an organization's rule, or a
//     mailbox's own, which holds instead.
//   - Legal hold: while it is set, nothing of an organization, or of a mailbox,
//     expires or is erased.
//   - Expire: what happens to a snapshot that is no longer kept. Its tombstone
//     stands in the repository's deletion log.
//   - Erasure: everything of a mailbox is made unreadable for good, by destroying
//     its keys; its certificate says so, and stays.
//   - Collection: it frees the space of what no kept snapshot needs.
//   - Item: one message in a snapshot.
//   - Restore: messages of a snapshot that are put back into a mailbox.
//   - Restore permission: Microsoft's leave to write into mailboxes; an
//     administrator gives it for restores, and it is given back after them.
//   - Upkeep: work on an organization's repository: restore tests, checks
//     and collections.
//   - Damage: something in the repository that is not what was written.
//   - Rekey: everything of an organization is moved to new keys, and the old ones
//     are destroyed, after they leaked. Rotation only begins new ones.
//   - Copy: the repository once more, in another place; repair takes from it
//     what is damaged.
//   - Catalog: what is where in the repository, in the database; rebuild makes
//     it anew.
//   - Export: messages as a file for a person, made in the background and kept
//     encrypted until it expires.
//   - Deletion: of an organization, with all that there is of it. It outlives it.
//   - Remnant: what is left of Holdfast in a tenant, or of an organization in a copy
//     of the repository, for a person to remove.
//   - Activity: what was done, by whom, for whom; append-only.
//   - Problem: an error that a person can read and act on.
package backup
