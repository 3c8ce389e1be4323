package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"unicode"
)

// Content says how to join pieces to what PutContent was given. It is a value
// to keep in a record of its source: the keys of its shared pieces are in it.
type Content struct {
	Size     int64     `cbor:"1,keyasint"`           // bytes
	SHA256   []byte    `cbor:"2,keyasint"`           // of all of it
	Skeleton []PieceID `cbor:"3,keyasint,omitempty"` // what the parts take bytes from, in order
	Parts    []Part    `cbor:"4,keyasint,omitempty"` // in order; none if the skeleton is all
}

// Part is a stretch of content.
type Part struct {
	Kind   PartKind      `cbor:"1,keyasint"`
	Length int64         `cbor:"2,keyasint"`           // bytes of the skeleton, or decoded bytes of the shared pieces
	Width  int           `cbor:"3,keyasint,omitempty"` // characters of a base64 line
	CRLF   bool          `cbor:"4,keyasint,omitempty"` // how the lines end
	Shared []SharedPiece `cbor:"5,keyasint,omitempty"`
}

// PartKind says how a part becomes content.
type PartKind int

// The kinds.
const (
	PartLiteral PartKind = 0 // bytes of the skeleton as they are
	PartEncoded PartKind = 1 // bytes of the skeleton in lines of base64
	PartShared  PartKind = 2 // shared pieces in lines of base64
)

// SharedPiece is a piece that other content of the tenant may refer to as well.
type SharedPiece struct {
	ID  PieceID `cbor:"1,keyasint"`
	Key []byte  `cbor:"2,keyasint"` // opens it
}

// ErrTooLarge says that content is larger than MaxContent.
var ErrTooLarge = errors.New("larger than a repository keeps")

// contentBuilder makes a Content from what the splitter finds.
type contentBuilder struct {
	ctx      context.Context
	w        *Writer
	splitter *splitter
	content  Content
	skeleton *[]byte // not yet a piece
	run      *[]byte // decoded bytes of the run under way, not yet anywhere
	shared   []SharedPiece
	length   int64 // decoded bytes of the run
	width    int
	crlf     bool
	big      bool // the run became shared pieces
}

// PutContent stores what r gives and returns how to read it again. It may be
// called from several goroutines; each holds at most about 24 MiB, for ordinary
// mail a fraction of one. It returns ErrTooLarge beyond MaxContent, and the
// errors of r and of the storage.
func (w *Writer) PutContent(ctx context.Context, r io.Reader) (Content, error) {
	in := takeBuffer(readSize)
	b := &contentBuilder{ctx: ctx, w: w, skeleton: takeBuffer(readSize), run: takeBuffer(readSize)}
	b.splitter = takeSplitter(b)
	defer func() {
		b.splitter.release()
		giveBuffer(in)
		giveBuffer(b.skeleton)
		giveBuffer(b.run)
	}()
	sum := sha256.New()
	if err := b.readAll(r, (*in)[:readSize], sum); err != nil {
		return Content{}, err
	}
	if err := b.splitter.close(); err != nil {
		return Content{}, err
	}
	b.content.SHA256 = sum.Sum(nil)
	if err := b.flushRest(); err != nil {
		return Content{}, err
	}
	if len(b.content.Parts) == 1 && b.content.Parts[0].Kind == PartLiteral {
		b.content.Parts = nil
	}
	return b.content, nil
}

const readSize = 64 << 10

// readAll gives r to the splitter and to sum.
func (b *contentBuilder) readAll(r io.Reader, buf []byte, sum hash.Hash) error {
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if b.content.Size += int64(n); b.content.Size > MaxContent {
				return ErrTooLarge
			}
			sum.Write(buf[:n])
			if _, err := b.splitter.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
	}
}

func (b *contentBuilder) literal(p []byte) error {
	if n := len(b.content.Parts); n > 0 && b.content.Parts[n-1].Kind == PartLiteral {
		b.content.Parts[n-1].Length += int64(len(p))
	} else {
		b.content.Parts = append(b.content.Parts, Part{Kind: PartLiteral, Length: int64(len(p))})
	}
	b.skeleton = growBuffer(b.skeleton, p)
	return b.flushSkeleton()
}

func (b *contentBuilder) base64(decoded []byte, width int, crlf bool) error {
	b.width, b.crlf = width, crlf
	b.length += int64(len(decoded))
	b.run = growBuffer(b.run, decoded)
	if b.length >= sharedLeast {
		b.big = true
	}
	whole := maxPiece - maxPiece%(width/4*3) // pieces end with a line
	for b.big && len(*b.run) >= whole {
		if err := b.putShared((*b.run)[:whole]); err != nil {
			return err
		}
		*b.run = append((*b.run)[:0], (*b.run)[whole:]...)
	}
	return nil
}

func (b *contentBuilder) putShared(data []byte) error {
	piece, err := b.w.putShared(b.ctx, data)
	if err != nil {
		return err
	}
	b.shared = append(b.shared, piece)
	return nil
}

func (b *contentBuilder) endRun() error {
	part := Part{Kind: PartEncoded, Length: b.length, Width: b.width, CRLF: b.crlf}
	if b.big || isPicture(*b.run) {
		if len(*b.run) > 0 {
			if err := b.putShared(*b.run); err != nil {
				return err
			}
		}
		part.Kind, part.Shared = PartShared, b.shared
	} else {
		b.skeleton = growBuffer(b.skeleton, *b.run)
	}
	b.content.Parts = append(b.content.Parts, part)
	*b.run = (*b.run)[:0]
	b.shared, b.length, b.big = nil, 0, false
	// Two more parts must fit: one more run that is under way, and what follows.
	b.splitter.raw = len(b.content.Parts) > maxParts-4
	return b.flushSkeleton()
}

// isPicture says that a short run is shared as well: it is not text, so it may be
// the logo of a sender, which stands in each of their messages.
func isPicture(run []byte) bool {
	return len(run) >= pictureLeast && bytes.ContainsFunc(run[:64], func(r rune) bool { return r < ' ' && !unicode.IsSpace(r) && r != '\x1b' })
}

// flushSkeleton makes pieces of the skeleton as long as it has enough for one.
func (b *contentBuilder) flushSkeleton() error {
	for len(*b.skeleton) >= maxPiece {
		if err := b.putSkeleton(maxPiece, sha256.Sum256((*b.skeleton)[:maxPiece])); err != nil {
			return err
		}
	}
	return nil
}

// flushRest makes the last piece of the skeleton. If that is all of the content,
// as with most messages, its hash is known already.
func (b *contentBuilder) flushRest() error {
	n := len(*b.skeleton)
	switch {
	case n == 0:
		return nil
	case len(b.content.Parts) == 1 && b.content.Parts[0].Kind == PartLiteral && int64(n) == b.content.Size:
		return b.putSkeleton(n, [sha256.Size]byte(b.content.SHA256))
	}
	return b.putSkeleton(n, sha256.Sum256(*b.skeleton))
}

// putSkeleton makes a piece of the first n bytes of the skeleton.
func (b *contentBuilder) putSkeleton(n int, hash [sha256.Size]byte) error {
	id, err := b.w.putSource(b.ctx, (*b.skeleton)[:n], hash)
	if err != nil {
		return err
	}
	b.content.Skeleton = append(b.content.Skeleton, id)
	*b.skeleton = append((*b.skeleton)[:0], (*b.skeleton)[n:]...)
	return nil
}

// Pieces calls f with the identifier of every piece that the content is made of.
func (c Content) Pieces(f func(PieceID)) {
	for _, id := range c.Skeleton {
		f(id)
	}
	for _, p := range c.Parts {
		for _, s := range p.Shared {
			f(s.ID)
		}
	}
}

// check says whether a decoded Content can be what PutContent made.
func (c Content) check() error {
	if c.Size < 0 || c.Size > MaxContent || len(c.SHA256) != sha256.Size || len(c.Parts) > maxParts || len(c.Skeleton) > MaxContent/maxPiece+1 {
		return damaged("content", "its recipe is impossible")
	}
	for _, p := range c.Parts {
		if p.Length < 0 || p.Length > MaxContent || p.Kind < PartLiteral || p.Kind > PartShared || p.Kind != PartLiteral && !lineWidth(p.Width) {
			return damaged("content", "its recipe is impossible")
		}
	}
	return nil
}

// Consistent says whether the recipe can give content of its size.
func (c Content) Consistent() bool {
	if c.check() != nil {
		return false
	}
	if len(c.Parts) == 0 {
		return c.Size == 0 || len(c.Skeleton) > 0
	}
	size := int64(0)
	for _, p := range c.Parts {
		size += p.written()
	}
	return size == c.Size
}

// written is how many bytes of content a part gives.
func (p Part) written() int64 {
	if p.Kind == PartLiteral {
		return p.Length
	}
	per, end := int64(p.Width/4*3), int64(1)
	if p.CRLF {
		end = 2
	}
	size := p.Length / per * (int64(p.Width) + end)
	if rest := p.Length % per; rest > 0 {
		size += (rest+2)/3*4 + end
	}
	return size
}
