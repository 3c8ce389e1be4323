package repo

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
)

// ErrCommitExists says that another writer made the commit with this number
// first; the source has to be read anew.
var ErrCommitExists = errors.New("the commit exists")

// Commit is a restore point of a source.
type Commit struct {
	Seq     int64     // 1, 2, 3 … per source
	At      time.Time // when it was made, to the millisecond
	Root    MetaID    // what the caller finds everything from
	Partial bool      // a checkpoint of unfinished work
	Info    []byte    // the caller's own
	Packs   []Pack    // new with this commit; filled by Writer.Commit
	// Since is when the caller began to look up what the commit refers to, if
	// that was before the writer was made. It is not stored.
	Since time.Time
}

// Committed is what a commit added.
type Committed struct {
	Commit
	Objects []Object // what its packs hold
	Bytes   int64    // of its packs
}

// commitRecord is a commit as it is stored.
type commitRecord struct {
	Seq     int64  `cbor:"1,keyasint"`
	At      int64  `cbor:"2,keyasint"` // Unix milliseconds
	Root    MetaID `cbor:"3,keyasint"`
	Partial bool   `cbor:"4,keyasint"`
	Info    []byte `cbor:"5,keyasint"` // sealed under the source's key
	Packs   []Pack `cbor:"6,keyasint"`
}

// A commit is magic ‖ key epoch ‖ salt ‖ the record, compressed and sealed
// under the tenant's key: what other sources rely on, the packs with their
// shared pieces, can be read without the source's key.
const (
	commitMagic  = "HFCMIT01"
	commitHeader = 8 + 4 + 16
)

// Commit makes everything that was put durable and creates the commit. It
// returns ErrCommitExists if the source has a commit c.Seq already. The writer
// has ended in any case.
func (w *Writer) Commit(ctx context.Context, c Commit) (Committed, error) {
	w.life.Lock()
	defer w.life.Unlock()
	defer w.end()
	if c.Seq < 1 {
		return Committed{}, fmt.Errorf("commits count from 1, this is %d", c.Seq)
	}
	if err := w.usable(); err != nil {
		return Committed{}, err
	}
	if err := w.flush(ctx); err != nil {
		return Committed{}, err
	}
	checked := time.Now().Round(0)
	if err := errors.Join(w.fresh(ctx, c.Since), notMoved(ctx, w.r.storage), w.takes(ctx, c.Seq)); err != nil {
		return Committed{}, err
	}
	c.Packs, c.At = w.done, time.UnixMilli(c.At.UnixMilli()).UTC()
	data, err := w.sealCommit(c, false)
	if err != nil {
		return Committed{}, err
	}
	key := commitKey(w.tenant, w.source, c.Seq)
	if err := w.r.putNumbered(ctx, w.tenant, key, data); errors.Is(err, ErrExist) {
		return Committed{}, fmt.Errorf("%s: %w", key, ErrCommitExists)
	} else if err != nil {
		return Committed{}, fmt.Errorf("create commit: %w", err)
	}
	if time.Since(checked) > maxWriter/2 { // the machine slept in between
		if err := w.fresh(ctx, c.Since); err != nil {
			return Committed{}, errors.Join(err, w.r.storage.Delete(ctx, key))
		}
	}
	done := Committed{Commit: c, Objects: append(w.data.objects, w.meta.objects...)}
	for _, p := range c.Packs {
		done.Bytes += p.Length
	}
	return done, nil
}

// takes refuses the number of a snapshot that expired: nobody would ever see
// what is committed under it.
func (w *Writer) takes(ctx context.Context, seq int64) error {
	gone, err := w.r.Expired(ctx, w.tenant, w.source)
	if errors.Is(err, ErrDamaged) {
		return nil // backups go on
	}
	if err == nil && gone.Has(seq) {
		err = fmt.Errorf("%s expired: %w", commitKey(w.tenant, w.source, seq), ErrCommitExists)
	}
	return err
}

// recordKey and infoKey are the keys of one commit: they seal once each.
func recordKey(tenantKey, salt []byte) cipher.AEAD { return newGCM(derive(tenantKey, salt, "commit")) }

func infoKey(sourceKey, salt []byte) cipher.AEAD {
	return newGCM(derive(sourceKey, salt, "commit info"))
}

// sealCommit seals a commit, whose Info may be sealed already.
func (w *Writer) sealCommit(c Commit, sealedInfo bool) ([]byte, error) {
	header := binary.BigEndian.AppendUint32([]byte(commitMagic), w.epoch)
	salt := make([]byte, 16)
	rand.Read(salt)
	header = append(header, salt...)
	bound := commitData(w.tenant, w.source, c.Seq, header)
	info := c.Info
	if !sealedInfo {
		info = infoKey(w.sourceKey, salt).Seal(nil, blobNonce(0), w.r.compress(nil, c.Info), bound)
	}
	plain, err := encMode.Marshal(commitRecord{c.Seq, c.At.UnixMilli(), c.Root, c.Partial, info, c.Packs})
	if err != nil {
		return nil, fmt.Errorf("encode commit: %w", err)
	}
	data := recordKey(w.tenantKey, salt).Seal(header, blobNonce(0), w.r.compress(nil, plain), bound)
	if len(data) > maxCommit {
		return nil, fmt.Errorf("commit of %d bytes: %w", len(data), ErrTooLarge)
	}
	return data, nil
}

// commitData binds a commit to its place.
func commitData(tenant, source string, seq int64, header []byte) []byte {
	b := append([]byte{formatVersion}, length(tenant)...)
	b = append(b, tenant...)
	b = append(b, length(source)...)
	b = append(b, source...)
	b = binary.BigEndian.AppendUint64(b, uint64(seq)) //nolint:gosec // numbers count from 1
	return append(b, header[:commitHeader]...)
}

// Commit reads a commit of a source, or returns ErrNotExist.
func (r *Repository) Commit(ctx context.Context, tenant, source string, seq int64) (Commit, error) {
	if err := errors.Join(validName(tenant), validName(source)); err != nil {
		return Commit{}, err
	}
	data, key, err := r.getNumbered(ctx, tenant, commitKey(tenant, source, seq), maxCommit)
	if err != nil {
		return Commit{}, err
	}
	return r.wholeCommit(ctx, tenant, source, numbered{seq: seq, key: key}, data)
}

// wholeCommit opens a commit that was read.
func (r *Repository) wholeCommit(ctx context.Context, tenant, source string, n numbered, data []byte) (Commit, error) {
	c, header, err := r.openCommit(ctx, tenant, source, n, data)
	if err != nil {
		return Commit{}, err
	}
	return r.openInfo(ctx, tenant, source, n, c, header)
}

// openInfo opens the Info of a commit.
func (r *Repository) openInfo(ctx context.Context, tenant, source string, n numbered, c Commit, header []byte) (Commit, error) {
	sourceKey, err := r.keys.source(ctx, tenant, source, binary.BigEndian.Uint32(header[8:]))
	if err != nil {
		return Commit{}, err
	}
	if c.Info, err = infoKey(sourceKey, header[12:]).Open(nil, blobNonce(0), c.Info, commitData(tenant, source, n.seq, header)); err != nil {
		return Commit{}, damaged(n.key, "it does not open under the source's key")
	}
	if c.Info, err = r.expand(c.Info); err != nil {
		return Commit{}, damaged(n.key, "it can't be decompressed")
	}
	return c, nil
}

// sealedCommit reads a commit with the tenant's key only: its Info stays sealed.
// It returns the commit's header too.
func (r *Repository) sealedCommit(ctx context.Context, tenant, source string, seq int64) (Commit, []byte, error) {
	data, key, err := r.getNumbered(ctx, tenant, commitKey(tenant, source, seq), maxCommit)
	if err != nil {
		return Commit{}, nil, err
	}
	return r.openCommit(ctx, tenant, source, numbered{seq: seq, key: key}, data)
}

// openCommit is sealedCommit for bytes that were read.
func (r *Repository) openCommit(ctx context.Context, tenant, source string, n numbered, data []byte) (Commit, []byte, error) {
	seq, key := n.seq, n.key
	if len(data) < commitHeader+gcmOverhead || string(data[:8]) != commitMagic {
		return Commit{}, nil, damaged(key, "it does not begin like a commit")
	}
	header := data[:commitHeader]
	tenantKey, err := r.keys.tenant(ctx, tenant, binary.BigEndian.Uint32(header[8:]))
	if err != nil {
		return Commit{}, nil, err
	}
	plain, err := recordKey(tenantKey, header[12:]).Open(nil, blobNonce(0), data[commitHeader:], commitData(tenant, source, seq, header))
	if err != nil {
		return Commit{}, nil, damaged(key, "it does not open under the tenant's key")
	}
	c, err := r.decodeCommit(plain)
	if err != nil || c.Seq != seq {
		return Commit{}, nil, damaged(key, "it can't be decoded")
	}
	return c, header, nil
}

// decodeCommit leaves the commit's Info sealed.
func (r *Repository) decodeCommit(payload []byte) (Commit, error) {
	plain, err := r.expand(payload)
	if err != nil {
		return Commit{}, err
	}
	var c commitRecord
	if err := decMode.Unmarshal(plain, &c); err != nil {
		return Commit{}, err
	}
	for _, p := range c.Packs {
		if p.Kind != PackData && p.Kind != PackMeta || p.Length < 0 || len(p.SHA256) != sha256.Size {
			return Commit{}, errors.New("it names an impossible pack")
		}
	}
	return Commit{Seq: c.Seq, At: time.UnixMilli(c.At).UTC(), Root: c.Root, Partial: c.Partial, Info: c.Info, Packs: c.Packs}, nil
}

// Commits yields the commits of a source that are kept and newer than after, in
// order. One that can't be read is yielded as an error that names it, and the
// next ones follow. If the deletion log is damaged, all that are there are kept.
func (r *Repository) Commits(ctx context.Context, tenant, source string, after int64) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		gone, err := r.Expired(ctx, tenant, source)
		if err != nil && !errors.Is(err, ErrDamaged) {
			yield(Commit{}, err)
			return
		}
		list, err := r.listNumbered(ctx, commitPrefix(tenant, source))
		if err != nil {
			yield(Commit{}, fmt.Errorf("list commits: %w", err))
			return
		}
		for _, n := range list {
			if n.seq <= after || gone.Has(n.seq) {
				continue
			}
			var c Commit
			data, err := get(ctx, r.storage, n.key, 0, -1, maxCommit)
			if err == nil {
				c, err = r.wholeCommit(ctx, tenant, source, n, data)
			}
			if err != nil {
				err = fmt.Errorf("commit %d of %s: %w", n.seq, source, err)
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// Tenants lists the tenants that have objects. It goes through all of them.
func (r *Repository) Tenants(ctx context.Context) ([]string, error) { return r.names(ctx, "t/") }

// Sources lists the sources of a tenant that have commits.
func (r *Repository) Sources(ctx context.Context, tenant string) ([]string, error) {
	return r.names(ctx, "t/"+tenant+"/c/")
}

// names lists the first segments below prefix.
func (r *Repository) names(ctx context.Context, prefix string) ([]string, error) {
	var list []string
	for e, err := range r.storage.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		name, _, ok := strings.Cut(strings.TrimPrefix(e.Key, prefix), "/")
		if ok && (len(list) == 0 || list[len(list)-1] != name) {
			list = append(list, name)
		}
	}
	return list, nil
}

// Objects reads what the packs of a commit hold from their footers, so that a
// catalog can be made without reading content. Packs that may be deleted are
// left out, and those that were written anew as a whole.
func (r *Repository) Objects(ctx context.Context, tenant string, packs []Pack) ([]Object, error) {
	log, err := r.currentLog(ctx, tenant)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	var list []Object
	for _, p := range packs {
		if name := (logPack{p.ID, p.Kind}); log.released[name] || log.moved[name] {
			continue
		}
		f, epoch, err := r.readFooter(ctx, tenant, p.Kind, p.ID)
		if err != nil {
			return nil, fmt.Errorf("footer of pack %s: %w", p.ID, err)
		}
		for number, b := range f.Blobs {
			for i, at := range b.locations(p.ID, p.Kind, epoch, uint32(number)) {
				list = append(list, Object{ID: b.Pieces[i].ID, Location: at})
			}
		}
	}
	return list, nil
}
