// Package repo is the snapshot repository: encrypted, deduplicated,
// content-addressed blobs in packs, and commits that refer to them. It knows
// bytes, not mail.
//
// # Format 1
//
// Objects and their keys, the same on every Storage:
//
//	format.json                    identifier and version
//	moved.json                     only where the repository was moved away: where it went
//	t/<tenant>/d/<2 hex>/<pack>    packs of content
//	t/<tenant>/m/<2 hex>/<pack>    packs of metadata, so that listings and rebuilds never read content
//	t/<tenant>/c/<source>/<seq>    commits: the restore points
//	t/<tenant>/g/<seq>             deletion log: commits that expired; packs condemned, deleted and written anew
//	….<epoch>                      one of the last two, sealed anew in an epoch of the keys; it takes its place
//
// Everything is written once, exclusively and durably, and never changed. A
// commit is the only commit point: what it refers to is durable before it is
// created, and packs that no commit refers to are harmless.
//
// A commit expires by a tombstone in the deletion log, and is not read from then
// on. A pack that it brought may still be needed by later ones; the log names it
// when the commit's object is deleted, and also the packs that a collection
// wrote anew. A damaged pack that a repair took apart is released there at once,
// and deleted when it has waited as long as others. So the kept commits and the
// log together name everything that is needed.
//
// Content is split by Writer.PutContent: runs of 40 full lines of base64 and
// more are stored decoded, with the shorter line that ends them; long ones (48
// KiB and more, pictures and other data that is not text from 4 KiB on) as shared
// pieces, which all sources of a tenant share; everything else in order as the
// skeleton, which belongs to its source. The recipe in Content joins them again,
// byte for byte. An ordinary message is one small piece; small pieces are sealed
// in groups of about 128 KiB.
//
// # Keys
//
// A tenant has a key per epoch, a source one per epoch, both 32 bytes from the
// KeyStore. Each blob is sealed by AES-256-GCM under a key of its own, derived
// by HKDF-SHA-256 from the source's (or tenant's) key with the pack's random
// identifier as salt, so a key never seals twice. Shared pieces are sealed
// under a key derived from their content and the tenant's secret, which stands
// only in the recipes that refer to them. The footers of packs, and the lists of
// packs in commits, are sealed under the tenant's key, so that shared pieces can
// be found when the key of the source that brought them is gone. Identifiers are
// HMACs under a secret of the tenant; nothing can be confirmed or shared over
// tenants.
//
// The secrets for identifiers and for the keys of shared pieces come from the
// first key and stay over all epochs, so that content is stored once. From the
// second epoch on a shared piece is sealed under the tenant's key as well, so that
// these secrets, and keys in older recipes, open nothing by themselves. Rekey moves
// everything into the newest epoch; then the older keys open nothing that is
// stored, and are destroyed but for those secrets.
package repo
