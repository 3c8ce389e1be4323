package engine

import (
	"bytes"
	"sync"

	"holdfast/backup/repo"
)

// proof gathers what a verification of all blobs shows, so that messages need
// not be read again to be proven: it implements repo.Proof.
//
// A message is proven when the record that a snapshot names opened and gave its
// identifier, and every piece that the record lists gave its own. The record was
// made from the bytes that the provider gave, as their pieces and their hash, and
// identifiers are keyed hashes: whoever joins these pieces by this recipe gets
// those bytes, or repo.PutContent and ReadContent disagree. That they don't is
// what restore tests look for, with Engine.Prove: they join and compare.
//
// It holds about 60 bytes for each message.
type proof struct {
	mu      sync.Mutex
	keys    map[repo.PieceID][]byte // of shared pieces, from the recipes
	records map[short]span          // that opened
	needs   []short                 // pieces of the records
	whole   map[short]bool          // pieces whose bytes give their identifiers
	broken  map[repo.PackID]bool    // packs that are damaged
}

// short is the beginning of an identifier. All of them are keyed hashes: that a
// lost one begins like another is as likely as 2^64 to their number.
type short [8]byte

// span is where the pieces of a record are in needs.
type span struct{ from, to int }

func newProof() *proof {
	return &proof{keys: map[repo.PieceID][]byte{}, records: map[short]span{}, whole: map[short]bool{}, broken: map[repo.PackID]bool{}}
}

// recordContent is what a proof needs of an itemRecord.
type recordContent struct {
	Content *repo.Content `cbor:"14,keyasint,omitempty"`
}

// Meta implements repo.Proof. A record that can't be decoded, or whose recipe
// does not give its size, is not proven.
func (p *proof) Meta(_ string, kind byte, id repo.MetaID, data []byte) {
	var rec recordContent
	if kind != kindRecord || decoding.Unmarshal(data, &rec) != nil || rec.Content != nil && !rec.Content.Consistent() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	from := len(p.needs)
	if rec.Content != nil {
		for _, part := range rec.Content.Parts {
			for _, s := range part.Shared {
				if known, ok := p.keys[s.ID]; ok && !bytes.Equal(known, s.Key) {
					return // only one of them opens the piece
				}
				p.keys[s.ID] = s.Key
			}
		}
		rec.Content.Pieces(func(id repo.PieceID) { p.needs = append(p.needs, short(id[:])) })
	}
	p.records[short(id[:])] = span{from, len(p.needs)}
}

// Key implements repo.Proof.
func (p *proof) Key(id repo.PieceID) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[id]
}

// Whole implements repo.Proof.
func (p *proof) Whole(id repo.PieceID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole[short(id[:])] = true
}

// damaged notes packs that are not whole.
func (p *proof) damaged(packs []repo.PackID) {
	for _, id := range packs {
		p.broken[id] = true
	}
}

// item says whether a message is proven by its record.
func (p *proof) item(record repo.MetaID) bool {
	s, ok := p.records[short(record[:])]
	for _, id := range p.needs[s.from:s.to] {
		ok = ok && p.whole[id]
	}
	return ok
}
