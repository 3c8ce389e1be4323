package repo

import "encoding/binary"

// pieceSet knows many pieces in four bytes each: it says of every piece in it that
// it may be there, and of others in a few of a thousand cases.
type pieceSet struct {
	parts [][]uint64 // each twice as large as the one before
	room  int        // pieces that the last part still takes
}

const (
	firstPart = 4096 // pieces of the first part
	pieceBits = 32   // of a part for each piece
)

// add puts a piece into the set.
func (s *pieceSet) add(id PieceID) {
	if s.room == 0 {
		s.room = firstPart << len(s.parts)
		s.parts = append(s.parts, make([]uint64, s.room*pieceBits/64))
	}
	s.room--
	part := s.parts[len(s.parts)-1]
	for bit := range bitsOf(id, part) {
		part[bit/64] |= 1 << (bit % 64)
	}
}

// maybe says whether a piece may be in the set.
func (s *pieceSet) maybe(id PieceID) bool {
	for _, part := range s.parts {
		if in(id, part) {
			return true
		}
	}
	return false
}

func in(id PieceID, part []uint64) bool {
	for bit := range bitsOf(id, part) {
		if part[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

// bitsOf yields the four bits of a part that stand for a piece. Identifiers are
// HMACs, so their bytes are as good as random.
func bitsOf(id PieceID, part []uint64) func(func(uint64) bool) {
	return func(yield func(uint64) bool) {
		size := uint64(len(part)) * 64
		for i := 0; i < len(id); i += 8 {
			if !yield(binary.LittleEndian.Uint64(id[i:]) % size) {
				return
			}
		}
	}
}
