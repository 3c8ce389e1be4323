package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// A pack is
//
//	header   magic (8) ‖ pack id (16) ‖ key epoch (4) ‖ kind (1) ‖ zeros (3)
//	blobs    each a frame (16) and a sealed blob: its codec (1) ‖ its bytes
//	footer   a frame and a sealed footer: what the blobs hold
//	trailer  length of the footer with its frame (4) ‖ magic (8)
//
// A frame is magic (4) ‖ type (1) ‖ zeros (3) ‖ length of the sealed blob (4) ‖
// number (4), all big-endian, so that a damaged pack can be scanned again: see
// Repository.Rescan. A footer is CBOR without a codec. What opens to a group or
// to metadata begins with a table of its pieces: see group.
const (
	packMagic   = "HFPACK01"
	endMagic    = "HFPKEND1"
	frameMagic  = "HFBL"
	headerSize  = 32
	frameSize   = 16
	trailerSize = 12
	gcmOverhead = 16
	nonceSize   = 12
)

// Types of blobs.
const (
	blobGroup  byte = 1 // pieces of a source, under the source's key
	blobShared byte = 2 // one shared piece, under a key of its own
	blobMeta   byte = 3 // metadata blobs of a source, under the source's key
	blobFooter byte = 4 // under the tenant's key
	blobInner  byte = 5 // one shared piece, under a key of its own and then under the tenant's
)

// holdsShared says that a blob of a type is a shared piece. Keys of shared pieces
// are made from their content and a secret that stays over all epochs. So from
// the second epoch on they are sealed once more: who has that secret, or keys
// from older recipes, opens nothing that was written since.
func holdsShared(kind byte) bool { return kind == blobShared || kind == blobInner }

// footer says what a pack holds.
type footer struct {
	Source string       `cbor:"1,keyasint"`
	Blobs  []footerBlob `cbor:"2,keyasint"`
}

type footerBlob struct {
	Type   byte          `cbor:"1,keyasint"`
	Offset int64         `cbor:"2,keyasint"` // of the frame
	Length uint32        `cbor:"3,keyasint"` // of the sealed blob
	Pieces []footerPiece `cbor:"4,keyasint"`
}

type footerPiece struct {
	ID    PieceID `cbor:"1,keyasint"`
	Start uint32  `cbor:"2,keyasint"`
	Size  uint32  `cbor:"3,keyasint"`
}

// Pack is a pack as a commit lists it.
type Pack struct {
	ID     PackID   `cbor:"1,keyasint"`
	Kind   PackKind `cbor:"2,keyasint"`
	Length int64    `cbor:"3,keyasint"` // bytes of the file
	SHA256 []byte   `cbor:"4,keyasint"` // of the file
}

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 16, MaxNestedLevels: 16}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constant options
	}
	return v
}

// packWriter writes one pack. It is not safe for concurrent use.
type packWriter struct {
	tenant    string
	tenantKey []byte
	id        PackID
	kind      PackKind
	epoch     uint32
	upload    Upload
	sum       hash.Hash
	offset    int64
	footer    footer
	pieces    int
}

// maxPackPieces closes a pack, so that its footer stays below maxFooter.
const maxPackPieces = 50_000

// full says that the pack has to be closed.
func (p *packWriter) full(target int) bool {
	return p.offset >= int64(target) || p.pieces >= maxPackPieces
}

func newPackWriter(ctx context.Context, s Storage, tenant, source string, kind PackKind, epoch uint32, tenantKey []byte) (*packWriter, error) {
	p := &packWriter{tenant: tenant, tenantKey: tenantKey, id: newPackID(), kind: kind, epoch: epoch, sum: sha256.New(), footer: footer{Source: source}}
	var err error
	if p.upload, err = s.Create(ctx, packKey(tenant, kind, p.id)); err != nil {
		return nil, fmt.Errorf("begin pack: %w", err)
	}
	header := append([]byte(packMagic), p.id[:]...)
	header = binary.BigEndian.AppendUint32(header, epoch)
	return p, p.write(append(header, byte(kind), 0, 0, 0))
}

func (p *packWriter) write(b []byte) error {
	p.sum.Write(b)
	p.offset += int64(len(b))
	n, err := p.upload.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("write pack: %w", err)
	}
	return nil
}

func newFrame(kind byte, length int, number uint32) []byte {
	frame := append([]byte(frameMagic), kind, 0, 0, 0)
	frame = binary.BigEndian.AppendUint32(frame, uint32(length)) //nolint:gosec // at most maxSealed
	return binary.BigEndian.AppendUint32(frame, number)
}

// add seals a compressed blob under a key of its source and appends it.
func (p *packWriter) add(kind byte, key, payload []byte, pieces []footerPiece) ([]Location, error) {
	number := uint32(len(p.footer.Blobs)) //nolint:gosec // at most maxPackPieces
	buf := takeBuffer(frameSize + len(payload) + gcmOverhead)
	defer giveBuffer(buf)
	out := append(*buf, newFrame(kind, len(payload)+gcmOverhead, number)...)
	out = newGCM(blobKey(key, p.id, kind, number)).Seal(out, blobNonce(number), payload, blobData(p.tenant, p.id, p.epoch, out))
	return p.append(kind, out, pieces)
}

// addShared seals a compressed shared piece under its own key and appends it.
func (p *packWriter) addShared(key, payload []byte, piece footerPiece) ([]Location, error) {
	buf := takeBuffer(nonceSize + len(payload) + gcmOverhead)
	defer giveBuffer(buf)
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	return p.addSealed(newGCM(key).Seal(append(*buf, nonce...), nonce, payload, sharedData(p.tenant, piece.ID)), piece)
}

// addSealed appends a shared piece that is sealed under its own key, with its
// nonce before it.
func (p *packWriter) addSealed(sealed []byte, piece footerPiece) ([]Location, error) {
	number := uint32(len(p.footer.Blobs)) //nolint:gosec // at most maxPackPieces
	buf := takeBuffer(frameSize + len(sealed) + gcmOverhead)
	defer giveBuffer(buf)
	if p.epoch == 0 {
		out := append(append(*buf, newFrame(blobShared, len(sealed), number)...), sealed...)
		return p.append(blobShared, out, []footerPiece{piece})
	}
	out := append(*buf, newFrame(blobInner, len(sealed)+gcmOverhead, number)...)
	out = newGCM(blobKey(p.tenantKey, p.id, blobInner, number)).Seal(out, blobNonce(number), sealed, blobData(p.tenant, p.id, p.epoch, out))
	return p.append(blobInner, out, []footerPiece{piece})
}

// append writes a sealed blob with its frame.
func (p *packWriter) append(kind byte, framed []byte, pieces []footerPiece) ([]Location, error) {
	sealed := len(framed) - frameSize
	if sealed > maxSealed || p.offset+int64(len(framed)) > maxPack-maxFooter {
		return nil, fmt.Errorf("blob of %d bytes is too large", sealed)
	}
	blob := footerBlob{Type: kind, Offset: p.offset, Length: uint32(sealed), Pieces: pieces} //nolint:gosec // below maxSealed
	if err := p.write(framed); err != nil {
		return nil, err
	}
	locations := blob.locations(p.id, p.kind, p.epoch, uint32(len(p.footer.Blobs))) //nolint:gosec // at most maxPackPieces
	p.footer.Blobs = append(p.footer.Blobs, blob)
	p.pieces += len(pieces)
	return locations, nil
}

// locations returns where the pieces of a blob are, in their order.
func (b footerBlob) locations(pack PackID, kind PackKind, epoch, number uint32) []Location {
	list := make([]Location, len(b.Pieces))
	for i, piece := range b.Pieces {
		list[i] = Location{Pack: pack, Kind: kind, Epoch: epoch, Blob: number, Type: b.Type, Offset: b.Offset, Length: b.Length, Start: piece.Start, Size: piece.Size}
	}
	return list
}

// close writes the footer under the tenant's key and makes the pack durable.
func (p *packWriter) close(ctx context.Context) (Pack, error) {
	plain, err := encMode.Marshal(p.footer)
	if err != nil {
		return Pack{}, fmt.Errorf("encode footer: %w", err)
	}
	if len(plain) > maxFooter-frameSize-gcmOverhead {
		return Pack{}, fmt.Errorf("footer of %d bytes is too large", len(plain))
	}
	number := uint32(len(p.footer.Blobs)) //nolint:gosec // at most maxPackPieces
	frame := newFrame(blobFooter, len(plain)+gcmOverhead, number)
	sealed := newGCM(blobKey(p.tenantKey, p.id, blobFooter, number)).Seal(nil, blobNonce(number), plain, blobData(p.tenant, p.id, p.epoch, frame))
	end := binary.BigEndian.AppendUint32(nil, uint32(frameSize+len(sealed))) //nolint:gosec // at most maxFooter
	for _, b := range [][]byte{frame, sealed, append(end, endMagic...)} {
		if err := p.write(b); err != nil {
			return Pack{}, err
		}
	}
	if err := p.upload.Commit(ctx); err != nil {
		return Pack{}, fmt.Errorf("make pack %s durable: %w", p.id, err)
	}
	return Pack{ID: p.id, Kind: p.kind, Length: p.offset, SHA256: p.sum.Sum(nil)}, nil
}

// section reads bytes of one pack; fewer if the pack ends before.
type section func(ctx context.Context, offset, length, limit int64) ([]byte, error)

// stored is the section of a pack in the storage.
func (r *Repository) stored(key string) section {
	return func(ctx context.Context, offset, length, limit int64) ([]byte, error) {
		return get(ctx, r.storage, key, offset, length, limit)
	}
}

// readFooter reads and checks header, trailer and footer of a pack.
func (r *Repository) readFooter(ctx context.Context, tenant string, kind PackKind, id PackID) (footer, uint32, error) {
	key := packKey(tenant, kind, id)
	size, err := r.storage.Stat(ctx, key)
	if err != nil {
		return footer{}, 0, err
	}
	return r.footerIn(ctx, tenant, kind, id, size, r.stored(key))
}

// footerIn is readFooter for a pack of size bytes that in reads.
func (r *Repository) footerIn(ctx context.Context, tenant string, kind PackKind, id PackID, size int64, in section) (footer, uint32, error) {
	key := packKey(tenant, kind, id)
	if size < headerSize+frameSize+trailerSize || size > maxPack {
		return footer{}, 0, damaged(key, "its length is not that of a pack")
	}
	header, err := in(ctx, 0, headerSize, headerSize)
	if err != nil {
		return footer{}, 0, err
	}
	if len(header) != headerSize || string(header[:8]) != packMagic || !bytes.Equal(header[8:24], id[:]) || PackKind(header[28]) != kind {
		return footer{}, 0, damaged(key, "its header is not that of this pack")
	}
	epoch := binary.BigEndian.Uint32(header[24:])
	trailer, err := in(ctx, size-trailerSize, trailerSize, trailerSize)
	if err != nil {
		return footer{}, 0, err
	}
	if len(trailer) != trailerSize || string(trailer[4:]) != endMagic {
		return footer{}, 0, damaged(key, "its end is missing")
	}
	n := int64(binary.BigEndian.Uint32(trailer))
	if n < frameSize+gcmOverhead || n > maxFooter || n > size-headerSize-trailerSize {
		return footer{}, 0, damaged(key, "its footer has an impossible length")
	}
	data, err := in(ctx, size-trailerSize-n, n, maxFooter)
	if err != nil {
		return footer{}, 0, err
	}
	f, err := r.openFooter(ctx, tenant, id, epoch, data)
	if err != nil {
		return footer{}, 0, fmt.Errorf("%s: %w", key, err)
	}
	return f, epoch, nil
}

// openFooter opens a footer with its frame.
func (r *Repository) openFooter(ctx context.Context, tenant string, id PackID, epoch uint32, data []byte) (footer, error) {
	frame, err := parseFrame(data)
	if err != nil || frame.kind != blobFooter || int(frame.length) != len(data)-frameSize {
		return footer{}, damaged("footer", "its frame is wrong")
	}
	key, err := r.keys.tenant(ctx, tenant, epoch)
	if err != nil {
		return footer{}, err
	}
	plain, err := newGCM(blobKey(key, id, blobFooter, frame.number)).Open(nil, blobNonce(frame.number), data[frameSize:], blobData(tenant, id, epoch, data[:frameSize]))
	if err != nil {
		return footer{}, damaged("footer", "it does not open under the tenant's key")
	}
	return decodeFooter(plain)
}

func decodeFooter(plain []byte) (footer, error) {
	var f footer
	if err := decMode.Unmarshal(plain, &f); err != nil {
		return footer{}, damaged("footer", "it can't be decoded")
	}
	for _, b := range f.Blobs {
		if b.Length > maxSealed || b.Offset < headerSize {
			return footer{}, damaged("footer", "it names an impossible blob")
		}
		for _, p := range b.Pieces {
			if uint64(p.Start)+uint64(p.Size) > maxOpened {
				return footer{}, damaged("footer", "it names an impossible piece")
			}
		}
	}
	return f, nil
}

type frame struct {
	kind   byte
	length uint32
	number uint32
}

var errFrame = errors.New("not a frame")

func parseFrame(b []byte) (frame, error) {
	if len(b) < frameSize || string(b[:4]) != frameMagic || b[5] != 0 || b[6] != 0 || b[7] != 0 {
		return frame{}, errFrame
	}
	return frame{kind: b[4], length: binary.BigEndian.Uint32(b[8:]), number: binary.BigEndian.Uint32(b[12:])}, nil
}

// readBlob reads the sealed blob at a location with its frame.
func (r *Repository) readBlob(ctx context.Context, tenant string, at Location) (frameBytes, sealed []byte, err error) {
	key := packKey(tenant, at.Kind, at.Pack)
	return blobIn(ctx, key, at, r.stored(key))
}

// blobIn is readBlob for a pack that in reads.
func blobIn(ctx context.Context, key string, at Location, in section) (frameBytes, sealed []byte, err error) {
	if at.Length > maxSealed {
		return nil, nil, damaged(key, "a blob is longer than blobs may be")
	}
	n := int64(frameSize) + int64(at.Length)
	data, err := in(ctx, at.Offset, n, maxSealed+frameSize)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	if int64(len(data)) != n {
		return nil, nil, damaged(key, "it ends within a blob")
	}
	f, err := parseFrame(data)
	if err != nil || f.kind != at.Type || f.length != at.Length || f.number != at.Blob {
		return nil, nil, damaged(key, fmt.Sprintf("the frame of blob %d is wrong", at.Blob))
	}
	return data[:frameSize], data[frameSize:], nil
}
