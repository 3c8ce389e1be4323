package repo

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

func TestPieceSetMissesNothingAndTakesFewForKnown(t *testing.T) {
	id := func(n uint64) PieceID { return sha256.Sum256(binary.LittleEndian.AppendUint64(nil, n)) }
	const n = 100_000
	var s pieceSet
	if s.maybe(id(0)) {
		t.Error("an empty set knows a piece")
	}
	for i := range uint64(n) {
		s.add(id(i))
	}
	wrong := 0
	for i := range uint64(n) {
		if !s.maybe(id(i)) {
			t.Fatalf("piece %d was added and is not known", i)
		}
		if s.maybe(id(n + i)) {
			wrong++
		}
	}
	if wrong > n/200 {
		t.Errorf("%d of %d other pieces are taken for known", wrong, n)
	}
	bytes := 0
	for _, part := range s.parts {
		bytes += 8 * len(part)
	}
	if bytes > 8*n {
		t.Errorf("%d bytes for %d pieces", bytes, n)
	}
}
