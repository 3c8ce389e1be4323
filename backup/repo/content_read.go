package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ReadContent writes content of a source to out and checks size and hash; an
// error that wraps ErrDamaged names what is wrong. Bytes may have been written
// before it is found.
func (r *Repository) ReadContent(ctx context.Context, tenant, source string, c Content, out io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	err := r.readContent(ctx, tenant, source, c, byWhole, out)
	if errors.Is(err, ErrDamaged) {
		if named := r.readContent(ctx, tenant, source, c, byPiece, io.Discard); errors.Is(named, ErrDamaged) {
			return named
		}
	}
	return err
}

// compared says what is compared with its hash when content is read.
type compared int

const (
	byPiece compared = iota // each piece, so that an error names the one that is wrong
	byWhole                 // the content, which is all that its reader needs
)

// comparing is how content is read: what is compared, and where the index said that
// its pieces are.
type comparing struct {
	compared
	said map[PieceID]Location
}

// locatedMost is how many pieces of content are looked up at once; hardly any has more.
const locatedMost = 256

func (r *Repository) readContent(ctx context.Context, tenant, source string, c Content, what compared, out io.Writer) error {
	var ids []PieceID
	c.Pieces(func(id PieceID) { ids = append(ids, id) })
	said, err := r.index.Locate(ctx, tenant, ids[:min(len(ids), locatedMost)])
	if err != nil {
		return fmt.Errorf("look pieces up: %w", err)
	}
	by := comparing{what, said}
	sum := sha256.New()
	counted := &counter{out: io.MultiWriter(out, sum)}
	skeleton := &pieceReader{ctx: ctx, r: r, tenant: tenant, source: source, by: by, ids: c.Skeleton}
	parts := c.Parts
	if len(parts) == 0 && c.Size > 0 {
		parts = []Part{{Kind: PartLiteral, Length: c.Size}}
	}
	for _, p := range parts {
		if err := r.readPart(ctx, tenant, p, by, skeleton, counted); err != nil {
			return err
		}
		if counted.n > c.Size {
			return damaged("content", "it is longer than when it was stored")
		}
	}
	if counted.n != c.Size || [sha256.Size]byte(sum.Sum(nil)) != [sha256.Size]byte(c.SHA256) {
		return damaged("content", "it is not what was stored")
	}
	return nil
}

type counter struct {
	out io.Writer
	n   int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	c.n += int64(n)
	return n, err
}

func (r *Repository) readPart(ctx context.Context, tenant string, p Part, by comparing, skeleton *pieceReader, out io.Writer) error {
	if p.Kind != PartShared {
		return copyPart(p, skeleton, out)
	}
	left := p.Length
	for _, s := range p.Shared {
		data, err := r.readShared(ctx, tenant, s, by)
		if err != nil {
			return err
		}
		if left -= int64(len(data)); left < 0 {
			return damaged("content", "its shared pieces are too long")
		}
		if err := writeLines(out, data, p); err != nil {
			return err
		}
	}
	if left != 0 {
		return damaged("content", "its shared pieces are too short")
	}
	return nil
}

// copyPart takes a part from the skeleton.
func copyPart(p Part, skeleton *pieceReader, out io.Writer) error {
	step := int64(256 << 10)
	if p.Kind == PartEncoded {
		step -= step % int64(p.Width/4*3) // whole lines
	}
	held := takeBuffer(int(min(step, p.Length)))
	defer giveBuffer(held)
	buf := (*held)[:min(step, p.Length)]
	for left := p.Length; left > 0; {
		n := min(int64(len(buf)), left)
		if _, err := io.ReadFull(skeleton, buf[:n]); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return damaged("content", "its skeleton is too short")
			}
			return err
		}
		left -= n
		var err error
		if p.Kind == PartEncoded {
			err = writeLines(out, buf[:n], p)
		} else {
			_, err = out.Write(buf[:n])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeLines(out io.Writer, decoded []byte, p Part) error {
	step := 64 << 10
	step -= step % (p.Width / 4 * 3)
	lines := takeBuffer(2 * min(step, len(decoded)))
	defer giveBuffer(lines)
	for len(decoded) > 0 {
		n := min(step, len(decoded))
		*lines = encodeLines((*lines)[:0], decoded[:n], p.Width, p.CRLF)
		if _, err := out.Write(*lines); err != nil {
			return err
		}
		decoded = decoded[n:]
	}
	return nil
}

// pieceReader reads pieces of a source one after the other.
type pieceReader struct {
	ctx            context.Context
	r              *Repository
	tenant, source string
	by             comparing
	ids            []PieceID
	data           []byte
}

// Read implements io.Reader.
func (p *pieceReader) Read(b []byte) (int, error) {
	for len(p.data) == 0 {
		if len(p.ids) == 0 {
			return 0, io.EOF
		}
		var err error
		if p.data, err = p.r.readPiece(p.ctx, p.tenant, p.source, p.ids[0], p.by); err != nil {
			return 0, fmt.Errorf("piece %s: %w", p.ids[0], err)
		}
		p.ids = p.ids[1:]
	}
	n := copy(b, p.data)
	p.data = p.data[n:]
	return n, nil
}
