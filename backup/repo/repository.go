package repo

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// formatVersion is the version of the repository's format that this package
// writes and reads.
const formatVersion = 1

// Limits, enforced on writing and on reading.
const (
	MaxContent   = 256 << 20 // bytes of one PutContent
	MaxMeta      = 4 << 20   // bytes of one PutMeta
	maxPiece     = 4 << 20
	maxSealed    = 8 << 20
	maxOpened    = 16 << 20
	maxPack      = 64 << 20
	maxFooter    = 4 << 20
	maxCommit    = 4 << 20
	maxParts     = 4096
	sharedLeast  = 48 << 10 // decoded runs from here on are shared pieces,
	pictureLeast = 4 << 10  // and from here on those that are not text
	groupPiece   = 48 << 10 // pieces below are grouped
	groupTarget  = 128 << 10
	groupPieces  = 4096 // most pieces of a group
	targetPack   = 16 << 20
	maxNameBytes = 128
)

// Index finds pieces and metadata blobs of committed packs. A PieceID and a
// MetaID never have the same bytes, so one table serves both.
type Index interface {
	// Locate returns where the given identifiers of a tenant are; those that no
	// commit holds are left out.
	Locate(ctx context.Context, tenant string, ids []PieceID) (map[PieceID]Location, error)
}

// Ledger is an Index that also knows how far the deletion log of a tenant goes:
// nothing in the storage tells that the end of it is gone.
type Ledger interface {
	Index
	// LogSeen returns the number of the newest entry that SawLog was told of, 0 for
	// none.
	LogSeen(ctx context.Context, tenant string) (int64, error)
	// SawLog is told of an entry that is there. Older ones than it knows do not count.
	SawLog(ctx context.Context, tenant string, seq int64) error
}

// Options are for tests. The zero value is right.
type Options struct {
	TargetPack int // bytes at which a pack is closed, 0 for 16 MiB
}

// Repository is an open repository. It is safe for concurrent use.
type Repository struct {
	storage Storage
	index   Index
	keys    keyring
	options Options
	id      string
	encoder *zstd.Encoder
	decoder *zstd.Decoder
	cache   blobCache
	logs    logCache
	ledger  Ledger // nil for none
	watch   *Watch // nil for none
}

// Open opens the repository in storage, making it on first use. A repository
// that needs a newer program, or was moved elsewhere, is refused with a sentence
// that says so.
func Open(ctx context.Context, storage Storage, keys KeyStore, index Index, options Options) (*Repository, error) {
	f, err := openFormat(ctx, storage)
	if err != nil {
		return nil, err
	}
	if err := notMoved(ctx, storage); err != nil {
		return nil, err
	}
	return newRepository(storage, keys, index, options, f.ID)
}

func newRepository(storage Storage, keys KeyStore, index Index, options Options, id string) (*Repository, error) {
	if options.TargetPack <= 0 {
		options.TargetPack = targetPack
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(false)) // every blob has a tag and every piece a hash
	if err != nil {
		return nil, fmt.Errorf("make compressor: %w", err)
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxOpened))
	if err != nil {
		return nil, fmt.Errorf("make decompressor: %w", err)
	}
	ledger, _ := index.(Ledger)
	return &Repository{storage: storage, index: index, keys: newKeyring(keys), options: options,
		id: id, encoder: encoder, decoder: decoder, ledger: ledger}, nil
}

// ID returns the repository's random identifier.
func (r *Repository) ID() string { return r.id }

// Codecs of a blob: the first byte of what is sealed.
const (
	codecPlain = 0
	codecZstd  = 1
)

// compress appends data to dst, with its codec before it.
func (r *Repository) compress(dst, data []byte) []byte {
	start := len(dst)
	dst = r.encoder.EncodeAll(data, append(dst, codecZstd))
	if len(dst)-start <= len(data) {
		return dst
	}
	return append(append(dst[:start], codecPlain), data...)
}

// expand reverses compress.
func (r *Repository) expand(data []byte) ([]byte, error) { return r.expandTo(nil, data) }

// expandTo is expand with dst for what it makes, if that has room.
func (r *Repository) expandTo(dst, data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	switch data[0] {
	case codecPlain:
		return data[1:], nil
	case codecZstd:
		return r.decoder.DecodeAll(data[1:], dst[:0])
	}
	return nil, fmt.Errorf("unknown codec %d", data[0])
}

// validName says whether a tenant or source can be part of a key.
func validName(name string) error {
	if len(name) > maxNameBytes || !ValidKey(name) || strings.Contains(name, "/") {
		return fmt.Errorf("%q can't be the name of a tenant or source", name)
	}
	return nil
}

// blobCache keeps the blobs that were opened last, since neighbours of a
// message are often wanted next.
type blobCache struct {
	mu    sync.Mutex
	order []blobName
	blobs map[blobName][]byte
	size  int
}

type blobName struct {
	tenant, source string
	pack           PackID
	number         uint32
}

const maxCached = 16 << 20

func (c *blobCache) get(name blobName) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.blobs[name]
	return b, ok
}

func (c *blobCache) put(name blobName, data []byte) {
	if len(data) > maxCached/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blobs == nil {
		c.blobs = map[blobName][]byte{}
	}
	if _, ok := c.blobs[name]; ok {
		return
	}
	c.blobs[name] = data
	c.order = append(c.order, name)
	c.size += len(data)
	for c.size > maxCached {
		c.size -= len(c.blobs[c.order[0]])
		delete(c.blobs, c.order[0])
		c.order = c.order[1:]
	}
}

// forget drops the blobs that were opened for a source, or, with "", for all of
// a tenant.
func (c *blobCache) forget(tenant, source string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order = slices.DeleteFunc(c.order, func(name blobName) bool {
		if name.tenant != tenant || source != "" && name.source != source {
			return false
		}
		c.size -= len(c.blobs[name])
		delete(c.blobs, name)
		return true
	})
}
