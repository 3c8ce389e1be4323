package repo

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
)

// group gathers small pieces of a source that are sealed as one blob:
//
//	table    number of pieces ‖ their sizes, all as uvarint
//	pieces   one after the other
//
// The table repeats what the footer says, so that the pieces of a pack that
// lost its footer can be told apart.
type group struct {
	data   []byte
	pieces []footerPiece // their Start without the table
}

func (g *group) add(id PieceID, parts ...[]byte) {
	start := len(g.data)
	for _, p := range parts {
		g.data = append(g.data, p...)
	}
	g.pieces = append(g.pieces, footerPiece{ID: id, Start: uint32(start), Size: uint32(len(g.data) - start)}) //nolint:gosec // below maxOpened
}

func (g *group) full() bool { return len(g.data) >= groupTarget || len(g.pieces) >= groupPieces }

// take returns what was gathered and begins anew.
func (g *group) take() group {
	taken := *g
	*g = group{}
	return taken
}

// blob appends the group to dst and moves the pieces behind the table.
func (g *group) blob(dst []byte) []byte {
	start := len(dst)
	dst = binary.AppendUvarint(dst, uint64(len(g.pieces)))
	for _, p := range g.pieces {
		dst = binary.AppendUvarint(dst, uint64(p.Size))
	}
	for i := range g.pieces {
		g.pieces[i].Start += uint32(len(dst) - start) //nolint:gosec // below maxOpened
	}
	return append(dst, g.data...)
}

var errTable = errors.New("the table of its pieces is wrong")

// groupTable reads where the pieces of an opened blob are; their identifiers
// stay zero.
func groupTable(blob []byte) ([]footerPiece, error) {
	count, used := binary.Uvarint(blob)
	if used <= 0 || count > groupPieces {
		return nil, errTable
	}
	pieces := make([]footerPiece, count)
	sum := uint64(0)
	for i := range pieces {
		size, n := binary.Uvarint(blob[used:])
		if n <= 0 || size > maxOpened {
			return nil, errTable
		}
		used += n
		pieces[i].Size = uint32(size)
		sum += size
	}
	if sum != uint64(len(blob[used:])) {
		return nil, errTable
	}
	start := uint32(used) //nolint:gosec // below len(blob)
	for i := range pieces {
		pieces[i].Start = start
		start += pieces[i].Size
	}
	return pieces, nil
}

// buffers holds byte slices for the time of one blob.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// takeBuffer returns an empty slice with room for n bytes.
func takeBuffer(n int) *[]byte {
	b, _ := buffers.Get().(*[]byte)
	*b = slices.Grow((*b)[:0], n)
	return b
}

func giveBuffer(b *[]byte) { buffers.Put(b) }
