package repo

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// The deletion log of a tenant says which snapshots are no longer kept, which
// packs are condemned and released for deletion, and which packs the log itself
// names because no snapshot does any more. Entries are numbered and created
// exclusively: who lost an entry to another has decided on an older state, and
// does nothing.

// logPack names a pack in the deletion log.
type logPack struct {
	ID   PackID   `cbor:"1,keyasint"`
	Kind PackKind `cbor:"2,keyasint"`
}

func (p logPack) key(tenant string) string { return packKey(tenant, p.Kind, p.ID) }

// adopted is a pack that the log names, and the source that it belongs to.
type adopted struct {
	Pack   Pack   `cbor:"1,keyasint"`
	Source string `cbor:"2,keyasint"`
}

// expired are snapshots of a source that are no longer kept.
type expired struct {
	Source string `cbor:"1,keyasint"`
	Spans  []Span `cbor:"2,keyasint"`
	Erased bool   `cbor:"3,keyasint,omitempty"` // the key of the source is destroyed
}

// logRecord is an entry of the deletion log: magic ‖ key epoch ‖ salt ‖ the
// record, sealed under the tenant's key and bound to its place. An entry of the
// first epoch has another magic, and names no epoch.
type logRecord struct {
	At        int64     `cbor:"1,keyasint"`           // Unix milliseconds
	Condemned []logPack `cbor:"2,keyasint,omitempty"` // found without anything that is needed for the first time
	Spared    []logPack `cbor:"3,keyasint,omitempty"` // condemned before, and needed since
	Deleted   []logPack `cbor:"4,keyasint,omitempty"` // released for deletion
	Expired   []expired `cbor:"5,keyasint,omitempty"` // snapshots that are no longer kept
	Adopted   []adopted `cbor:"6,keyasint,omitempty"` // packs that the log names from now on
	Marked    bool      `cbor:"7,keyasint,omitempty"` // what only expired snapshots needed is condemned
	Moved     bool      `cbor:"8,keyasint,omitempty"` // all that may be needed of the condemned is in the adopted
}

func (rec logRecord) empty() bool {
	return len(rec.Condemned)+len(rec.Spared)+len(rec.Deleted)+len(rec.Expired)+len(rec.Adopted) == 0 && !rec.Marked
}

const (
	logMagic   = "HFGLOG01"
	logMagic2  = "HFGLOG02"
	logHeader  = 8 + 16
	logHeader2 = 8 + 4 + 16
	maxLog     = 4 << 20
	maxLogPack = 20_000 // packs of each list in one entry
)

func logPrefix(tenant string) string { return "t/" + tenant + "/g/" }

func logKey(tenant string, seq int64) string { return fmt.Sprintf("%s%012d", logPrefix(tenant), seq) }

// logData binds an entry to its place.
func logData(tenant string, seq int64) []byte {
	b := append([]byte{formatVersion}, length(tenant)...)
	b = append(b, tenant...)
	return binary.BigEndian.AppendUint64(b, uint64(seq)) //nolint:gosec // numbers count from 1
}

// logEpoch is the epoch of the key that an entry is sealed under, and the length
// of its header; 0 and 0 if it does not begin like one.
func logEpoch(data []byte) (epoch uint32, header int) {
	switch {
	case len(data) >= logHeader+gcmOverhead && string(data[:8]) == logMagic:
		return 0, logHeader
	case len(data) >= logHeader2+gcmOverhead && string(data[:8]) == logMagic2:
		return binary.BigEndian.Uint32(data[8:]), logHeader2
	}
	return 0, 0
}

func sealLog(tenantKey []byte, epoch uint32, tenant string, seq int64, rec logRecord) ([]byte, error) {
	plain, err := encMode.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode deletion log: %w", err)
	}
	if len(plain) > maxLog-logHeader2-gcmOverhead {
		return nil, fmt.Errorf("entry of the deletion log of %d bytes: %w", len(plain), ErrTooLarge)
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	data := append([]byte(logMagic), salt...)
	if epoch > 0 {
		data = append(binary.BigEndian.AppendUint32([]byte(logMagic2), epoch), salt...)
	}
	return newGCM(derive(tenantKey, salt, "deletion log")).Seal(data, blobNonce(0), plain, logData(tenant, seq)), nil
}

func openLog(tenantKey []byte, tenant string, seq int64, data []byte) (logRecord, error) {
	var rec logRecord
	key := logKey(tenant, seq)
	_, header := logEpoch(data)
	if header == 0 {
		return rec, damaged(key, "it does not begin like an entry of the deletion log")
	}
	plain, err := newGCM(derive(tenantKey, data[header-16:header], "deletion log")).Open(nil, blobNonce(0), data[header:], logData(tenant, seq))
	if err != nil {
		return rec, damaged(key, "it does not open under the tenant's key")
	}
	if err := decMode.Unmarshal(plain, &rec); err != nil {
		return rec, damaged(key, "it can't be decoded")
	}
	for _, e := range rec.Expired {
		for _, s := range e.Spans {
			if s.From < 1 || s.To < s.From || s.To > forever {
				return rec, damaged(key, "it names impossible snapshots")
			}
		}
	}
	return rec, nil
}

// deletions is what a deletion log says.
type deletions struct {
	seq       int64                 // of the newest entry
	condemned map[logPack]time.Time // since when
	released  map[logPack]bool      // for deletion
	apart     map[logPack]time.Time // released by a Salvage, which took them apart, and when: they wait for their deletion
	adopted   map[logPack]adopted
	expired   map[string]*expiry // by source
	unmarked  bool               // snapshots expired after the last mark
	moved     map[logPack]bool   // condemned, and all that may be needed of them is in adopted packs
}

// expiry is what is no longer kept of a source.
type expiry struct {
	erased bool
	spans  []Span      // all of them, in order and joined
	waits  []timedSpan // as they were written
}

type timedSpan struct {
	Span
	at time.Time
}

func newDeletions() deletions {
	return deletions{condemned: map[logPack]time.Time{}, released: map[logPack]bool{}, apart: map[logPack]time.Time{}, adopted: map[logPack]adopted{}, moved: map[logPack]bool{}, expired: map[string]*expiry{}}
}

// clone returns a copy that can be changed.
func (d deletions) clone() deletions {
	d.condemned, d.released, d.apart, d.moved = maps.Clone(d.condemned), maps.Clone(d.released), maps.Clone(d.apart), maps.Clone(d.moved)
	d.adopted, d.expired = maps.Clone(d.adopted), maps.Clone(d.expired)
	for source, e := range d.expired {
		d.expired[source] = &expiry{erased: e.erased, spans: slices.Clone(e.spans), waits: slices.Clone(e.waits)}
	}
	return d
}

func (d *deletions) apply(seq int64, rec logRecord) {
	d.seq = seq
	for _, p := range rec.Condemned {
		d.condemned[p] = time.UnixMilli(rec.At)
		if rec.Moved {
			d.moved[p] = true
		}
	}
	for _, p := range rec.Spared {
		delete(d.condemned, p)
		delete(d.moved, p)
	}
	for _, p := range rec.Deleted {
		if _, waited := d.condemned[p]; !waited && !d.released[p] {
			d.apart[p] = time.UnixMilli(rec.At)
		}
		delete(d.condemned, p)
		delete(d.moved, p)
		delete(d.adopted, p)
		d.released[p] = true
	}
	for _, a := range rec.Adopted {
		d.adopted[logPack{a.Pack.ID, a.Pack.Kind}] = a
	}
	for _, e := range rec.Expired {
		old := d.expired[e.Source]
		if old == nil {
			old = &expiry{}
			d.expired[e.Source] = old
		}
		old.erased = old.erased || e.Erased
		old.spans = joinSpans(append(old.spans, e.Spans...))
		for _, s := range e.Spans {
			old.waits = append(old.waits, timedSpan{s, time.UnixMilli(rec.At)})
		}
	}
	d.unmarked = !rec.Marked && (d.unmarked || len(rec.Expired) > 0)
}

// of returns what expired of a source.
func (d deletions) of(source string) Expired {
	e := d.expired[source]
	if e == nil {
		return Expired{Source: source}
	}
	return Expired{Source: source, Spans: e.spans, Erased: e.erased}
}

// drops says that a pack is, or will be, deleted, and what is needed of it is
// elsewhere, or will be spared.
func (d deletions) drops(p Pack) bool {
	name := logPack{p.ID, p.Kind}
	_, condemned := d.condemned[name]
	return condemned || d.released[name]
}

// over says whether a snapshot expired so long ago that nobody reads it any more.
func (d deletions) over(source string, seq int64, now time.Time) bool {
	e := d.expired[source]
	return e != nil && slices.ContainsFunc(e.waits, func(s timedSpan) bool { return s.From <= seq && seq <= s.To && now.Sub(s.at) >= Grace })
}

// readLog reads the whole deletion log. It is damaged if it ends before the entry
// that the ledger knows.
func (r *Repository) readLog(ctx context.Context, tenant string) (deletions, error) {
	known := int64(0)
	if r.ledger != nil {
		var err error
		if known, err = r.ledger.LogSeen(ctx, tenant); err != nil {
			return newDeletions(), err
		}
	}
	d, err := r.listedLog(ctx, tenant)
	for err == nil && d.seq < known { // the listing may be old
		if err = r.readEntry(ctx, tenant, d.seq+1, &d); errors.Is(err, ErrNotExist) {
			err = damaged(logKey(tenant, d.seq+1), "it is missing, and the database knows it")
		}
	}
	if err == nil && r.ledger != nil && d.seq > known {
		err = r.ledger.SawLog(ctx, tenant, d.seq)
	}
	return d, err
}

// listedLog reads the entries of the deletion log that are listed.
func (r *Repository) listedLog(ctx context.Context, tenant string) (deletions, error) {
	d := newDeletions()
	list, err := r.listNumbered(ctx, logPrefix(tenant))
	if err != nil {
		return d, fmt.Errorf("list the deletion log: %w", err)
	}
	for _, n := range list {
		// One may be sealed anew while it is listed.
		for d.seq+1 < n.seq {
			if err := r.readEntry(ctx, tenant, d.seq+1, &d); errors.Is(err, ErrNotExist) {
				return d, damaged(logKey(tenant, d.seq+1), "it is missing")
			} else if err != nil {
				return d, err
			}
		}
		data, err := get(ctx, r.storage, n.key, 0, -1, maxLog)
		if errors.Is(err, ErrNotExist) {
			data, _, err = r.getNumbered(ctx, tenant, logKey(tenant, n.seq), maxLog)
		}
		if err != nil {
			return d, fmt.Errorf("read the deletion log: %w", err)
		}
		if err := r.applyEntry(ctx, tenant, n.seq, data, &d); err != nil {
			return d, err
		}
	}
	return d, nil
}

func (r *Repository) readEntry(ctx context.Context, tenant string, seq int64, d *deletions) error {
	data, _, err := r.getNumbered(ctx, tenant, logKey(tenant, seq), maxLog)
	if err != nil {
		return fmt.Errorf("read the deletion log: %w", err)
	}
	return r.applyEntry(ctx, tenant, seq, data, d)
}

func (r *Repository) applyEntry(ctx context.Context, tenant string, seq int64, data []byte, d *deletions) error {
	rec, err := r.openEntry(ctx, tenant, seq, data)
	if err != nil {
		return err
	}
	d.apply(seq, rec)
	return nil
}

// openEntry opens an entry under the key that it names.
func (r *Repository) openEntry(ctx context.Context, tenant string, seq int64, data []byte) (logRecord, error) {
	epoch, _ := logEpoch(data)
	key, err := r.keys.tenant(ctx, tenant, epoch)
	if err != nil {
		return logRecord{}, err
	}
	return openLog(key, tenant, seq, data)
}

// logCache keeps what the logs said, since entries never change.
type logCache struct {
	mu   sync.Mutex
	logs map[string]deletions // by tenant; never changed once they are in it
}

// currentLog is readLog for those who come often: it reads only what was added
// since the last time.
func (r *Repository) currentLog(ctx context.Context, tenant string) (deletions, error) {
	r.logs.mu.Lock()
	d, ok := r.logs.logs[tenant]
	r.logs.mu.Unlock()
	if !ok {
		var err error
		if d, err = r.readLog(ctx, tenant); err != nil {
			return d, err
		}
		r.keepLog(tenant, d)
		return d, nil
	}
	for changed := false; ; changed = true {
		next := d
		if !changed {
			if more, err := r.hasNumbered(ctx, tenant, logKey(tenant, d.seq+1)); err == nil && !more {
				return d, nil
			}
			next = d.clone()
		}
		err := r.readEntry(ctx, tenant, next.seq+1, &next)
		if errors.Is(err, ErrNotExist) {
			r.keepLog(tenant, d)
			return d, nil
		}
		if err != nil {
			return d, err
		}
		d = next
	}
}

func (r *Repository) keepLog(tenant string, d deletions) {
	r.logs.mu.Lock()
	defer r.logs.mu.Unlock()
	if r.logs.logs == nil {
		r.logs.logs = map[string]deletions{}
	}
	if r.logs.logs[tenant].seq <= d.seq {
		r.logs.logs[tenant] = d
	}
}

// appendLog writes the next entry. Who comes second gets ErrCollecting.
func (r *Repository) appendLog(ctx context.Context, tenant string, seq int64, rec logRecord) error {
	rec.At = time.Now().UnixMilli()
	epoch, err := r.newestEpoch(ctx, tenant)
	if err != nil {
		return err
	}
	data, err := r.sealEntry(ctx, tenant, epoch, seq, rec)
	if err != nil {
		return err
	}
	if err := r.putNumbered(ctx, tenant, logKey(tenant, seq), data); errors.Is(err, ErrExist) {
		return ErrCollecting
	} else if err != nil {
		return fmt.Errorf("append to the deletion log: %w", err)
	}
	if r.ledger != nil {
		return r.ledger.SawLog(context.WithoutCancel(ctx), tenant, seq)
	}
	return nil
}

// sealEntry seals an entry under the tenant's key of an epoch.
func (r *Repository) sealEntry(ctx context.Context, tenant string, epoch uint32, seq int64, rec logRecord) ([]byte, error) {
	key, err := r.keys.tenant(ctx, tenant, epoch)
	if err != nil {
		return nil, err
	}
	return sealLog(key, epoch, tenant, seq, rec)
}

// VerifyLog returns an error that wraps ErrDamaged and names the entry if the
// deletion log of a tenant is damaged. Without its folder, the log begins anew,
// and so does the time that condemned packs wait.
func (r *Repository) VerifyLog(ctx context.Context, tenant string) error {
	_, err := r.readLog(ctx, tenant)
	return err
}
