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
	buffer *[]byte // where data is, to give it back; nil if it is not ours
	data   []byte
	pieces []footerPiece // their Start without the table
}

func (g *group) add(id PieceID, parts ...[]byte) {
	if g.buffer == nil {
		g.buffer = takeBuffer(groupTarget + groupPiece)
		g.data = *g.buffer
	}
	start := len(g.data)
	for _, p := range parts {
		g.data = append(g.data, p...)
	}
	g.pieces = append(g.pieces, footerPiece{ID: id, Start: uint32(start), Size: uint32(len(g.data) - start)}) //nolint:gosec // below maxOpened
}

// release gives the memory of a group back.
func (g *group) release() {
	if g.buffer != nil {
		*g.buffer = g.data
		giveBuffer(g.buffer)
	}
	*g = group{}
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

// buffers holds byte slices for the time of one blob, by their room, so that a
// message does not keep what an attachment needed.
var buffers [len(bufferSizes)]sync.Pool

var bufferSizes = [...]int{64 << 10, 256 << 10, 1 << 20, maxPiece + 64<<10}

// takeBuffer returns an empty slice with room for n bytes.
func takeBuffer(n int) *[]byte {
	for i, size := range bufferSizes {
		if n > size {
			continue
		}
		if b, ok := buffers[i].Get().(*[]byte); ok {
			return b
		}
		n = size
		break
	}
	b := make([]byte, 0, n)
	return &b
}

// growBuffer appends to a buffer, taking a larger one if it has to.
func growBuffer(b *[]byte, data []byte) *[]byte {
	if n := len(*b) + len(data); n > cap(*b) {
		larger := takeBuffer(n)
		*larger = append(*larger, *b...)
		giveBuffer(b)
		b = larger
	}
	*b = append(*b, data...)
	return b
}

func giveBuffer(b *[]byte) {
	*b = (*b)[:0]
	for i, size := range slices.Backward(bufferSizes[:]) {
		if cap(*b) >= size {
			buffers[i].Put(b)
			return
		}
	}
}
