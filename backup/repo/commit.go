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
	"strconv"
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
	if err := errors.Join(w.fresh(ctx), notMoved(ctx, w.r.storage)); err != nil {
		return Committed{}, err
	}
	c.Packs, c.At = w.done, time.UnixMilli(c.At.UnixMilli()).UTC()
	data, err := w.sealCommit(c)
	if err != nil {
		return Committed{}, err
	}
	key := commitKey(w.tenant, w.source, c.Seq)
	if err := put(ctx, w.r.storage, key, data); errors.Is(err, ErrExist) {
		return Committed{}, fmt.Errorf("%s: %w", key, ErrCommitExists)
	} else if err != nil {
		return Committed{}, fmt.Errorf("create commit: %w", err)
	}
	done := Committed{Commit: c, Objects: append(w.data.objects, w.meta.objects...)}
	for _, p := range c.Packs {
		done.Bytes += p.Length
	}
	return done, nil
}

// commitKeys are the keys of one commit: they seal once each.
func commitKeys(tenantKey, sourceKey, salt []byte) (record, info cipher.AEAD) {
	return newGCM(derive(tenantKey, salt, "commit")), newGCM(derive(sourceKey, salt, "commit info"))
}

func (w *Writer) sealCommit(c Commit) ([]byte, error) {
	header := binary.BigEndian.AppendUint32([]byte(commitMagic), w.epoch)
	salt := make([]byte, 16)
	rand.Read(salt)
	header = append(header, salt...)
	bound := commitData(w.tenant, w.source, c.Seq, header)
	forRecord, forInfo := commitKeys(w.tenantKey, w.sourceKey, salt)
	info := forInfo.Seal(nil, blobNonce(0), w.r.compress(nil, c.Info), bound)
	plain, err := encMode.Marshal(commitRecord{c.Seq, c.At.UnixMilli(), c.Root, c.Partial, info, c.Packs})
	if err != nil {
		return nil, fmt.Errorf("encode commit: %w", err)
	}
	data := forRecord.Seal(header, blobNonce(0), w.r.compress(nil, plain), bound)
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
	key := commitKey(tenant, source, seq)
	data, err := get(ctx, r.storage, key, 0, -1, maxCommit)
	if err != nil {
		return Commit{}, err
	}
	if len(data) < commitHeader+gcmOverhead || string(data[:8]) != commitMagic {
		return Commit{}, damaged(key, "it does not begin like a commit")
	}
	epoch := binary.BigEndian.Uint32(data[8:])
	tenantKey, err := r.keys.tenant(ctx, tenant, epoch)
	if err != nil {
		return Commit{}, err
	}
	sourceKey, err := r.keys.source(ctx, tenant, source, epoch)
	if err != nil {
		return Commit{}, err
	}
	bound := commitData(tenant, source, seq, data)
	forRecord, forInfo := commitKeys(tenantKey, sourceKey, data[12:commitHeader])
	plain, err := forRecord.Open(nil, blobNonce(0), data[commitHeader:], bound)
	if err != nil {
		return Commit{}, damaged(key, "it does not open under the tenant's key")
	}
	c, err := r.decodeCommit(plain)
	if err != nil || c.Seq != seq {
		return Commit{}, damaged(key, "it can't be decoded")
	}
	if c.Info, err = forInfo.Open(nil, blobNonce(0), c.Info, bound); err != nil {
		return Commit{}, damaged(key, "it does not open under the source's key")
	}
	if c.Info, err = r.expand(c.Info); err != nil {
		return Commit{}, damaged(key, "it can't be decompressed")
	}
	return c, nil
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

// Commits yields the commits of a source that are newer than after, in order.
// One that can't be read is yielded as an error that names it, and the next
// ones follow.
func (r *Repository) Commits(ctx context.Context, tenant, source string, after int64) iter.Seq2[Commit, error] {
	return func(yield func(Commit, error) bool) {
		for e, err := range r.storage.List(ctx, commitPrefix(tenant, source)) {
			if err != nil {
				yield(Commit{}, fmt.Errorf("list commits: %w", err))
				return
			}
			seq, err := strconv.ParseInt(strings.TrimPrefix(e.Key, commitPrefix(tenant, source)), 10, 64)
			if err != nil || seq <= after {
				continue
			}
			c, err := r.Commit(ctx, tenant, source, seq)
			if err != nil {
				err = fmt.Errorf("commit %d of %s: %w", seq, source, err)
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
// catalog can be made without reading content.
func (r *Repository) Objects(ctx context.Context, tenant string, packs []Pack) ([]Object, error) {
	var list []Object
	for _, p := range packs {
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
