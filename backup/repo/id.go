package repo

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
)

// PieceID names a piece of content within its tenant: an HMAC-SHA-256 of its
// kind, its source unless it is shared, and the SHA-256 of its bytes.
type PieceID [32]byte

// MetaID names a metadata blob of a source, made like a PieceID.
type MetaID [32]byte

// PackID is the random identifier of a pack.
type PackID [16]byte

// String returns the identifier in hexadecimal.
func (id PieceID) String() string { return hex.EncodeToString(id[:]) }

// String returns the identifier in hexadecimal.
func (id MetaID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says that the identifier names nothing.
func (id MetaID) IsZero() bool { return id == MetaID{} }

// String returns the identifier in hexadecimal.
func (id PackID) String() string { return hex.EncodeToString(id[:]) }

// MarshalBinary encodes the identifier as its bytes.
func (id PieceID) MarshalBinary() ([]byte, error) { return id[:], nil }

// UnmarshalBinary reverses MarshalBinary.
func (id *PieceID) UnmarshalBinary(b []byte) error { return fill(id[:], b) }

// MarshalBinary encodes the identifier as its bytes.
func (id MetaID) MarshalBinary() ([]byte, error) { return id[:], nil }

// UnmarshalBinary reverses MarshalBinary.
func (id *MetaID) UnmarshalBinary(b []byte) error { return fill(id[:], b) }

// MarshalBinary encodes the identifier as its bytes.
func (id PackID) MarshalBinary() ([]byte, error) { return id[:], nil }

// UnmarshalBinary reverses MarshalBinary.
func (id *PackID) UnmarshalBinary(b []byte) error { return fill(id[:], b) }

func fill(dst, src []byte) error {
	if len(src) != len(dst) {
		return fmt.Errorf("identifier of %d bytes, want %d", len(src), len(dst))
	}
	copy(dst, src)
	return nil
}

func newPackID() PackID {
	var id PackID
	rand.Read(id[:])
	return id
}

// PackKind is what a pack holds.
type PackKind byte

// The kinds, named like the folders of their packs.
const (
	PackData PackKind = 'd'
	PackMeta PackKind = 'm'
)

func packKey(tenant string, kind PackKind, id PackID) string {
	name := id.String()
	return "t/" + tenant + "/" + string(rune(kind)) + "/" + name[:2] + "/" + name
}

func commitPrefix(tenant, source string) string { return "t/" + tenant + "/c/" + source + "/" }

func commitKey(tenant, source string, seq int64) string {
	return fmt.Sprintf("%s%012d", commitPrefix(tenant, source), seq)
}

// Location says where a piece or a metadata blob is.
type Location struct {
	Pack   PackID
	Kind   PackKind
	Epoch  uint32 // of the keys it is sealed under
	Blob   uint32 // number of its blob in the pack
	Type   byte   // of its blob
	Offset int64  // of the blob's frame in the pack
	Length uint32 // of the sealed blob, without its frame
	Start  uint32 // of the piece in the opened blob
	Size   uint32 // of the piece
}

// ErrDamaged says that an object is not what was written. Errors that wrap it
// name the object.
var ErrDamaged = errors.New("damaged")

// ErrNoKey says that a key does not exist: what names it is damaged, or the key
// was destroyed.
var ErrNoKey = errors.New("there is no such key")

func damaged(object, how string) error { return fmt.Errorf("%s: %s: %w", object, how, ErrDamaged) }
