package repo

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Packs that no commit names are left by runs that were killed. They are
// collected in two steps: a collection condemns them in the deletion log of the
// tenant, and a later one, Grace after that, deletes those that still no
// commit names. A writer commits nothing that is older than maxWriter or that
// the log has released for deletion; so what may be deleted can never be
// needed again, and a collector may sleep, die or run twice at any point.
//
// The right to delete is the number of the log's next entry, which the storage
// gives to one collector only. It is a fencing token that never ends: an entry
// names what may be deleted, and that stays so however late it is done. A lease
// would add a clock and nothing else.
const (
	// Grace is how long a pack stays condemned before it is deleted.
	Grace = 48 * time.Hour
	// maxWriter is the age at which a writer gives up.
	maxWriter = Grace / 2
)

var (
	// ErrCollecting says that another collection of the tenant was faster. It
	// did nothing that the other one will not do.
	ErrCollecting = errors.New("another collection is under way")
	// ErrStale says that a writer took so long that its packs may be collected:
	// what it would commit has to be written again.
	ErrStale = errors.New("the writer is too old to commit")
)

// Collection is what a collection found and did.
type Collection struct {
	Packs     int   // of the tenant
	Bytes     int64 // of them
	Condemned int   // named by no commit; deleted by a collection Grace later
	Deleted   int
	Freed     int64 // bytes of the deleted
	Retained  int   // that an object lock still keeps; deleted by a later collection
}

// logPack names a pack in the deletion log.
type logPack struct {
	ID   PackID   `cbor:"1,keyasint"`
	Kind PackKind `cbor:"2,keyasint"`
}

func (p logPack) key(tenant string) string { return packKey(tenant, p.Kind, p.ID) }

// logRecord is an entry of the deletion log: magic ‖ salt ‖ the record, sealed
// under the tenant's first key and bound to its place.
type logRecord struct {
	At        int64     `cbor:"1,keyasint"`           // Unix milliseconds
	Condemned []logPack `cbor:"2,keyasint,omitempty"` // found without a commit for the first time
	Spared    []logPack `cbor:"3,keyasint,omitempty"` // condemned before, and named by a commit since
	Deleted   []logPack `cbor:"4,keyasint,omitempty"` // released for deletion
}

const (
	logMagic   = "HFGLOG01"
	logHeader  = 8 + 16
	maxLog     = 4 << 20
	maxLogPack = 50_000 // packs in one entry
)

func logPrefix(tenant string) string { return "t/" + tenant + "/g/" }

func logKey(tenant string, seq int64) string { return fmt.Sprintf("%s%012d", logPrefix(tenant), seq) }

// logData binds an entry to its place.
func logData(tenant string, seq int64) []byte {
	b := append([]byte{formatVersion}, length(tenant)...)
	b = append(b, tenant...)
	return binary.BigEndian.AppendUint64(b, uint64(seq)) //nolint:gosec // numbers count from 1
}

func sealLog(tenantKey []byte, tenant string, seq int64, rec logRecord) ([]byte, error) {
	plain, err := encMode.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode deletion log: %w", err)
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	data := append([]byte(logMagic), salt...)
	return newGCM(derive(tenantKey, salt, "deletion log")).Seal(data, blobNonce(0), plain, logData(tenant, seq)), nil
}

func openLog(tenantKey []byte, tenant string, seq int64, data []byte) (logRecord, error) {
	var rec logRecord
	key := logKey(tenant, seq)
	if len(data) < logHeader+gcmOverhead || string(data[:8]) != logMagic {
		return rec, damaged(key, "it does not begin like an entry of the deletion log")
	}
	plain, err := newGCM(derive(tenantKey, data[8:logHeader], "deletion log")).Open(nil, blobNonce(0), data[logHeader:], logData(tenant, seq))
	if err != nil {
		return rec, damaged(key, "it does not open under the tenant's key")
	}
	if err := decMode.Unmarshal(plain, &rec); err != nil {
		return rec, damaged(key, "it can't be decoded")
	}
	return rec, nil
}

// deletions is what a deletion log says.
type deletions struct {
	seq       int64                 // of the newest entry
	condemned map[logPack]time.Time // since when
	released  map[logPack]bool      // for deletion
}

func (r *Repository) readLog(ctx context.Context, tenant string) (deletions, error) {
	d := deletions{condemned: map[logPack]time.Time{}, released: map[logPack]bool{}}
	key, err := r.keys.tenant(ctx, tenant, 0)
	if err != nil {
		return d, err
	}
	for e, err := range r.storage.List(ctx, logPrefix(tenant)) {
		if err != nil {
			return d, fmt.Errorf("list the deletion log: %w", err)
		}
		seq, err := strconv.ParseInt(strings.TrimPrefix(e.Key, logPrefix(tenant)), 10, 64)
		if err != nil {
			continue
		}
		if seq != d.seq+1 {
			return d, damaged(logKey(tenant, d.seq+1), "it is missing")
		}
		data, err := get(ctx, r.storage, e.Key, 0, -1, maxLog)
		if err != nil {
			return d, fmt.Errorf("read the deletion log: %w", err)
		}
		rec, err := openLog(key, tenant, seq, data)
		if err != nil {
			return d, err
		}
		d.apply(seq, rec)
	}
	return d, nil
}

func (d *deletions) apply(seq int64, rec logRecord) {
	d.seq = seq
	for _, p := range rec.Condemned {
		d.condemned[p] = time.UnixMilli(rec.At)
	}
	for _, p := range rec.Spared {
		delete(d.condemned, p)
	}
	for _, p := range rec.Deleted {
		d.released[p] = true
	}
}

// VerifyLog returns an error that wraps ErrDamaged and names the entry if the
// deletion log of a tenant is damaged. Without its folder, the log begins anew,
// and so does the time that condemned packs wait.
func (r *Repository) VerifyLog(ctx context.Context, tenant string) error {
	_, err := r.readLog(ctx, tenant)
	return err
}

// Collect condemns the packs of a tenant that no commit names, and deletes
// those that were condemned Grace ago. While any commit can't be read it
// changes nothing, since nobody knows what that one names.
func (r *Repository) Collect(ctx context.Context, tenant string) (Collection, error) {
	var c Collection
	if err := validName(tenant); err != nil {
		return c, err
	}
	// Waits count until what is known was read: a collector that sleeps after
	// that knows nothing of what was committed meanwhile.
	began := time.Now().Round(0)
	log, err := r.readLog(ctx, tenant)
	if err != nil {
		return c, err
	}
	// Packs before commits: one that is committed in between is then named.
	packs, err := r.listPacks(ctx, tenant)
	if err != nil {
		return c, err
	}
	named, err := r.namedPacks(ctx, tenant)
	if err != nil {
		return c, err
	}
	rec := logRecord{At: time.Now().UnixMilli()} // later than what it condemns was seen
	for p, size := range packs {
		c.Packs++
		c.Bytes += size
		since, condemned := log.condemned[p]
		switch {
		case named[p] && condemned:
			rec.Spared = append(rec.Spared, p)
		case named[p]:
		case !condemned && len(rec.Condemned) < maxLogPack:
			rec.Condemned = append(rec.Condemned, p)
			c.Condemned++
		case condemned && began.Sub(since) >= Grace && len(rec.Deleted) < maxLogPack:
			rec.Deleted = append(rec.Deleted, p)
		default:
			c.Condemned++ // and waits
		}
	}
	if len(rec.Condemned)+len(rec.Spared)+len(rec.Deleted) == 0 {
		return c, nil
	}
	if err := r.appendLog(ctx, tenant, log.seq+1, rec); err != nil {
		return c, err
	}
	for _, p := range rec.Deleted {
		err := r.storage.Delete(ctx, p.key(tenant))
		if errors.Is(err, ErrRetained) {
			c.Retained++
			continue
		}
		if err != nil && !errors.Is(err, ErrNotExist) {
			return c, fmt.Errorf("delete pack %s: %w", p.ID, err)
		}
		c.Deleted++
		c.Freed += packs[p]
	}
	return c, nil
}

// appendLog writes the next entry, which only one collector can.
func (r *Repository) appendLog(ctx context.Context, tenant string, seq int64, rec logRecord) error {
	key, err := r.keys.tenant(ctx, tenant, 0)
	if err != nil {
		return err
	}
	data, err := sealLog(key, tenant, seq, rec)
	if err != nil {
		return err
	}
	if err := put(ctx, r.storage, logKey(tenant, seq), data); errors.Is(err, ErrExist) {
		return ErrCollecting
	} else if err != nil {
		return fmt.Errorf("append to the deletion log: %w", err)
	}
	return nil
}

// listPacks returns the packs of a tenant with their bytes.
func (r *Repository) listPacks(ctx context.Context, tenant string) (map[logPack]int64, error) {
	packs := map[logPack]int64{}
	for _, kind := range []PackKind{PackData, PackMeta} {
		for e, err := range r.storage.List(ctx, fmt.Sprintf("t/%s/%c/", tenant, kind)) {
			if err != nil {
				return nil, fmt.Errorf("list packs: %w", err)
			}
			p := logPack{Kind: kind}
			name, err := hex.DecodeString(e.Key[strings.LastIndexByte(e.Key, '/')+1:])
			if err != nil || len(name) != len(p.ID) {
				continue // not ours
			}
			copy(p.ID[:], name)
			if p.key(tenant) == e.Key {
				packs[p] = e.Size
			}
		}
	}
	return packs, nil
}

// namedPacks returns the packs that the commits of a tenant name. A commit that
// is missing between others, or can't be read, is an error.
func (r *Repository) namedPacks(ctx context.Context, tenant string) (map[logPack]bool, error) {
	sources, err := r.Sources(ctx, tenant)
	if err != nil {
		return nil, err
	}
	named := map[logPack]bool{}
	for _, source := range sources {
		next := int64(1)
		for c, err := range r.Commits(ctx, tenant, source, 0) {
			if err != nil {
				return nil, err
			}
			if c.Seq != next {
				return nil, damaged(commitKey(tenant, source, next), "it is missing")
			}
			next++
			for _, p := range c.Packs {
				named[logPack{p.ID, p.Kind}] = true
			}
		}
	}
	return named, ctx.Err()
}

// fresh returns ErrStale if the writer's packs may be collected.
func (w *Writer) fresh(ctx context.Context) error {
	if time.Since(w.began) > maxWriter {
		return fmt.Errorf("begun %s: %w", w.began.Format(time.DateTime), ErrStale)
	}
	log, err := w.r.readLog(ctx, w.tenant)
	// Collections stop at a damaged log; backups need not, since Grace is twice
	// the age of any writer.
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	for _, p := range w.done {
		if log.released[logPack{p.ID, p.Kind}] {
			return fmt.Errorf("pack %s was collected: %w", p.ID, ErrStale)
		}
	}
	return nil
}
